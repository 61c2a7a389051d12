"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
import math
import random
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

_START = datetime(2024, 1, 1, tzinfo=UTC)
_SETTLE = 100


class ManualClock:
    """Time, sleep and randomness for tests; implements ``runner.clock.Clock``.

    Args:
        seed: The seed of ``random``, so that jitter replays.
        auto: Whether a sleep moves the time forward at once instead of waiting for advance().

    Attributes:
        random: Seeded randomness.
        slept: The length of every sleep, in the order in which they were asked for.
    """

    def __init__(self, seed: int = 0, *, auto: bool = False) -> None:
        self.random = random.Random(seed)  # noqa: S311 - jitter, not cryptography
        self.slept: list[float] = []
        self._auto = auto
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._order = 0

    def now(self) -> datetime:
        """Return the wall-clock time, in UTC: 2024-01-01 and what has passed since."""
        return _START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """How many sleeps are waiting for the time to move."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until advance() has moved the time that far; in auto mode, move it.

        Raises:
            ValueError: The length is negative or not a number: a mistake of the caller.
        """
        if math.isnan(seconds) or seconds < 0:
            raise ValueError(f"cannot sleep for {seconds!r} seconds")
        self.slept.append(seconds)
        if self._auto or seconds == 0:
            self._elapsed += seconds
            await anyio.lowlevel.checkpoint()
            return
        self._order += 1
        sleeper = (self._elapsed + seconds, self._order, anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move the time forward, waking sleepers one by one, each at its own time.

        Others run before the first step, between the steps and after the last one, so a sleep that
        begins or follows within the span is woken in it too.
        """
        end = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, event = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            event.set()
            await self.settle()
        self._elapsed = max(self._elapsed, end)
        await self.settle()

    async def settle(self) -> None:
        """Let everything else run for a hundred rounds of the loop; worker threads are not waited for."""
        for _ in range(_SETTLE):
            await anyio.lowlevel.checkpoint()
