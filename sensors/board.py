"""What the engine keeps in memory of running sensors, for whoever looks: the live page, /healthz and /metrics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from runner.clock import Clock
from sensors.histogram import BOUNDS, Histogram, percentile
from sensors.status import STANDINGS, Standing, Status

MINUTES = 60
# What lateness is now: polls of so many minutes.
_LATELY = 5
_MOST_RECENT, _MOST_STALLS, _MOST_FRAMES = 200, 20, 12


class Happening(NamedTuple):
    """Something that happened to a sensor: its event with its run key, or its failure with what the error said."""

    at: float
    sensor: str
    text: str


class Stall(NamedTuple):
    """A time in which the loop stood still, and where."""

    at: float
    seconds: float
    frames: tuple[str, ...]


@dataclass(slots=True)
class Minute:
    """What happened in one minute."""

    polls: int = 0
    events: int = 0
    failures: int = 0
    late: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


@dataclass(frozen=True)
class Summary:
    """Everything in a few numbers.

    Attributes:
        last_success: The newest of any sensor.
        late_half: Half of the polls of the last minutes began at most that many seconds after they were due.
        late_most: 99 of 100 did.
    """

    sensors: int
    standings: dict[Standing, int]
    last_success: float | None
    late_half: float | None
    late_most: float | None


class Board:
    """The engine writes, others read; all of it in one process, and on one loop.

    Everything that is called for every poll takes the same short time, however many sensors there are, and the board
    never grows with time.

    Args:
        name: The sensor file's name.
        path: Where it is, as a person would say it to a command.

    Attributes:
        statuses: Every sensor by its name, changed in place.
        outbox: How many deliveries are in each state: pending, sending, delivered, unknown, failed.
        polls, events, failures: How many there were since the process began.
        lateness: Seconds that polls began after they were due. ``seconds``: how long they took.
        stalls: The last times in which the loop stood still; ``stall_count`` and ``stall_seconds`` of all of them.
        recent: The last events. ``troubles``: the last failures.
        refused: Why the file as it is now is not what runs; None where it is.
    """

    def __init__(self, name: str, clock: Clock, path: str = "") -> None:
        self.name = name
        self.refused: str | None = None
        self.path = path or f"{name}.yml"
        self.started_at = clock.now().timestamp()
        self.statuses: dict[str, Status] = {}
        self.outbox: Counter[str] = Counter()
        self.polls = self.events = self.failures = self.stall_count = 0
        self.stall_seconds = 0.0
        self.lateness, self.seconds = Histogram(), Histogram()
        self.stalls: deque[Stall] = deque(maxlen=_MOST_STALLS)
        self.recent: deque[Happening] = deque(maxlen=_MOST_RECENT)
        self.troubles: deque[Happening] = deque(maxlen=_MOST_RECENT)
        self._clock = clock
        self._minutes: deque[Minute] = deque([Minute()], maxlen=MINUTES + 1)
        self._turn = clock.monotonic() + 60

    # What the engine calls.

    def polled(self, name: str, lateness: float, seconds: float) -> None:
        """Note a poll that ended, well or not."""
        minute = self._minute()
        minute.polls += 1
        self.polls += 1
        minute.late[self.lateness.add(max(lateness, 0.0))] += 1
        self.seconds.add(max(seconds, 0.0))

    def failed(self, name: str, error: str) -> None:
        """Note that a poll, which is noted too, has failed."""
        self._minute().failures += 1
        self.failures += 1
        self.troubles.append(Happening(self._clock.now().timestamp(), name, error))

    def fired(self, name: str, run_key: str) -> None:
        """Note an event that is new, and is written."""
        self._minute().events += 1
        self.events += 1
        self.recent.append(Happening(self._clock.now().timestamp(), name, run_key))

    def stalled(self, seconds: float, frames: Sequence[str] = ()) -> None:
        """Note that the loop stood still; frames say where, innermost last."""
        self.stall_count += 1
        self.stall_seconds += seconds
        self.stalls.append(Stall(self._clock.now().timestamp(), seconds, tuple(frames[-_MOST_FRAMES:])))

    # What others ask.

    def dead(self, now: datetime) -> list[Status]:
        """Return the sensors whose last successful evaluation is too old, the longest dead first."""
        return sorted((one for one in self.statuses.values() if not one.alive(now)), key=lambda one: one.rank(now))

    def failing(self) -> list[Status]:
        """Return the sensors whose last poll failed, those that failed most first."""
        return sorted(
            (one for one in self.statuses.values() if one.failures), key=lambda one: (-one.failures, one.name)
        )

    def summary(self, now: datetime) -> Summary:
        """Return everything in a few numbers."""
        return summarize(list(self.statuses.values()), self.minutes(), now)

    def minutes(self) -> list[Minute]:
        """Return the last minutes, oldest first; the last one is not over."""
        self._minute()
        return list(self._minutes)

    def _minute(self) -> Minute:
        now = self._clock.monotonic()
        if now >= self._turn:
            passed = int((now - self._turn) // 60) + 1
            self._minutes.extend(Minute() for _ in range(min(passed, MINUTES + 1)))
            self._turn += 60 * passed
        return self._minutes[-1]


def summarize(statuses: Sequence[Status], minutes: Sequence[Minute], now: datetime) -> Summary:
    """Return everything in a few numbers, from copies of a board's lists: also in a thread."""
    counts = Counter(one.standing(now) for one in statuses)
    late = [sum(bucket) for bucket in zip(*(one.late for one in minutes[-_LATELY:]), strict=True)]
    return Summary(
        sensors=len(statuses),
        standings={standing: counts[standing] for standing in STANDINGS},
        last_success=max((one.last_success for one in statuses if one.last_success is not None), default=None),
        late_half=percentile(late, 0.5),
        late_most=percentile(late, 0.99),
    )
