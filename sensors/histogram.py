"""How values are spread, in fixed buckets: cheap enough for every poll of thousands of sensors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Seconds: from what a loop that is well never passes to what nobody overlooks.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Histogram:
    """Counts by bucket since it was made.

    Attributes:
        counts: One for each of ``BOUNDS``, of the values up to it and above the one before; the last counts the rest.
        total: The sum of all values.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, value: float) -> int:
        """Count a value; return its bucket."""
        bucket = bisect_left(BOUNDS, value)
        self.counts[bucket] += 1
        self.total += value
        return bucket


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the value that a share of all stays below, as far as buckets tell; None where nothing was counted."""
    whole = sum(counts)
    if not whole:
        return None
    wanted, before = share * whole, 0
    for bucket, count in enumerate(counts[:-1]):
        if count and before + count >= wanted:
            low = BOUNDS[bucket - 1] if bucket else 0.0
            return low + (BOUNDS[bucket] - low) * (wanted - before) / count
        before += count
    return BOUNDS[-1]
