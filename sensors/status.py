"""How a sensor is doing: what liveness, the live page and the commands are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

State = Literal["waiting", "polling", "paused", "closed", "stopped"]
Standing = Literal["dead", "failing", "overdue", "paused", "stopped", "alive", "closed"]
# Worst first.
STANDINGS: tuple[Standing, ...] = get_args(Standing)


@dataclass(slots=True)
class Status:
    """One sensor, now. Times are seconds since 1970 (UTC), by the wall clock.

    Attributes:
        kind: Its type. ``watches``: what it looks at, in words. ``does``: what its actions do, in words.
        state: waiting for its next poll; polling; paused, because its system asked for it or it backs off; closed,
            outside of its window; stopped.
        last_poll: When its last poll began. ``last_success``: when the last one that succeeded ended.
        last_event: When it fired last. ``last_key``: with which run key.
        next_due: When it polls next.
        alive_by: When it must have polled with success again, at the latest; None where it need not (its window is
            closed). Past it the sensor counts as dead, whatever its process says.
        failures: Failed polls in a row. ``error``: what the last of them said.
        note: Why the last poll fired nothing.
        polls, events, skipped: How many polls, events, and polls that were left out because one took too long; since
            the process began.
        lateness: Seconds that the last poll began after it was due. ``seconds``: how long it took.
        expected: When it has to have fired next (its ``expect``). ``missed``: since when it has missed that.
    """

    name: str
    kind: str
    every: float
    watches: str = ""
    does: str = ""
    state: State = "waiting"
    last_poll: float | None = None
    last_success: float | None = None
    last_event: float | None = None
    last_key: str | None = None
    next_due: float | None = None
    alive_by: float | None = None
    failures: int = 0
    error: str | None = None
    note: str = ""
    polls: int = 0
    events: int = 0
    skipped: int = 0
    lateness: float = 0.0
    seconds: float = 0.0
    expected: float | None = None
    missed: float | None = None

    def alive(self, now: datetime) -> bool:
        """Tell whether its last successful evaluation is recent enough."""
        return self.alive_by is None or now.timestamp() <= self.alive_by

    def standing(self, now: datetime) -> Standing:
        """Return how it is doing in one word: the worst that is true of it."""
        if not self.alive(now):
            return "dead"
        if self.failures:
            return "failing"
        if self.missed is not None:
            return "overdue"
        return "alive" if self.state in ("waiting", "polling") else cast("Standing", self.state)

    def rank(self, now: datetime) -> tuple[int, float, str]:
        """Return its place among others, worst first: the longest dead, who failed most, then by name."""
        standing = self.standing(now)
        worse = {"dead": self.alive_by, "failing": -self.failures, "overdue": self.missed}.get(standing)
        return STANDINGS.index(standing), worse or 0.0, self.name

    @property
    def lag(self) -> float | None:
        """Seconds between the last poll and the last one that succeeded: 0 while all is well; None before any."""
        if self.last_poll is None:
            return None
        if not self.failures:
            return 0.0
        return None if self.last_success is None else max(0.0, self.last_poll - self.last_success)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way to one action, as the outbox keeps it.

    Attributes:
        action: What it goes to, by its name in the file.
        state: pending, sending, delivered, unknown (nobody knows whether it was done; it is held), failed.
        reference: What it is called at its target, once it was done.
    """

    id: int
    sensor: str
    action: str
    run_key: str
    state: Literal["pending", "sending", "delivered", "unknown", "failed"]
    attempts: int
    found_at: float
    next_at: float | None
    done_at: float | None
    reference: str | None
    error: str | None
