"""What thousands of sensors cost, as lines for people and as a section of RESULTS.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.benchmarks import results
from tests.benchmarks.resident import share_of


@dataclass(frozen=True)
class Figures:
    """What one program used in its window.

    Attributes:
        count: How many sensors, or triggers.
        cpu: Seconds of user and system time of all its processes. ``server``: of whoever was looked at.
        waited: Seconds that its threads waited for a core: where it is much, lateness is that of the machine.
        resident: The most MiB that were resident in the window. ``peak``: ever.
        ready: Seconds from its start until every sensor had looked once. ``start``: CPU until then.
        latenesses: Of the polls that were seen in the window, in seconds.
        said: What it printed.
    """

    name: str
    count: int
    seconds: float
    polls: int
    cpu: float
    server: float
    waited: float
    resident: float
    peak: float
    ready: float | None = None
    start: float | None = None
    latenesses: Sequence[float] = field(default=(), repr=False)
    said: str = field(default="", repr=False)

    @property
    def share(self) -> float:
        """Its share of one core."""
        return self.cpu / self.seconds

    @property
    def each(self) -> float:
        """Seconds of CPU of one poll."""
        return self.cpu / self.polls

    def late(self, share: float) -> float:
        """Return how late a share of its polls was, at most."""
        return share_of(self.latenesses, share)

    def cells(self) -> list[str]:
        """Return the cells of its row."""
        late = [f"{self.late(share) * 1000:.1f}" for share in (0.5, 0.99, 1.0)] if self.latenesses else [""] * 3
        start = [f"{self.ready:.1f}" if self.ready else "", f"{self.start:.1f}" if self.start else ""]
        return [
            self.name, f"{self.count:,}", f"{self.polls / self.seconds:.0f}", f"{self.share * 100:.1f} %",
            f"{self.cpu:.1f}", f"{self.each * 1e6:.0f}", f"{self.server:.1f}", f"{self.waited:.1f}", f"{self.resident:.0f}",
            f"{self.peak:.0f}", *late, *start,
        ]  # fmt: skip

    def line(self) -> str:
        """Return all of it on one line."""
        return ", ".join(f"{word} {cell}" for word, cell in zip(_WORDS, self.cells(), strict=True) if cell)


_WORDS = (
    "", "sensors", "polls/s", "of a core", "CPU s", "µs a poll", "server CPU s", "waited for a core s", "resident MiB", "peak MiB", "late p50 ms",
    "p99 ms", "most ms", "all looked s", "CPU s until then",
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """What is to be reached; without ``most`` it is only told."""

    words: str
    value: float
    most: float | None

    @property
    def missed(self) -> bool:
        """Whether it is not."""
        return self.most is not None and not self.value <= self.most

    def line(self) -> str:
        """Return it as the other figures are written."""
        if self.most is None:
            return f"- {self.words} = {self.value:.1f}"
        return f"- {self.words} = {self.value:.3g} (bar <= {self.most:g}): {'**missed**' if self.missed else 'met'}"


def section(found: Sequence[Figures], bars: Sequence[Bar], absent: str, *, every: int, window: float) -> list[str]:
    """Return the section."""
    machine = "; ".join(f"{key}: {value}" for key, value in results.hardware().items())
    lines = [
        f"## {datetime.now(UTC):%Y-%m-%d}, {max(one.count for one in found):,} sensors",
        "",
        f"Each polls every {every} s; a window of {window:.0f} s. {machine}",
        "",
        f"| {' | '.join(_WORDS)} |",
        f"| --- |{' ---: |' * (len(_WORDS) - 1)}",
        *(f"| {' | '.join(one.cells())} |" for one in found),
    ]
    if absent:
        lines.append(f"| Airflow's triggerer | could not run: {absent} |{' |' * (len(_WORDS) - 2)}")
    return [*lines, "", *(bar.line() for bar in bars), ""]
