"""When a sensor polls: a grid that does not drift, windows that a cron expression opens, longer steps when idle."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_LARGEST_STEP = 16
_UTC = ZoneInfo("UTC")
_DAY = re.compile(r"\d+")


class Cron:
    """A cron expression in a time zone.

    Five fields as crontab(5) has them, or six as schedules in Orchestra have them: minute, hour, day of month, month,
    day of week (1 is Sunday), year (Amazon EventBridge, "Cron expressions").

    Raises:
        ValueError: It is neither, or no such time zone is known.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self.expression = expression
        try:
            self.zone = ZoneInfo(timezone)
        except (OSError, ValueError, KeyError):
            raise ValueError(f"{timezone!r} is no time zone; write for example Europe/Berlin") from None
        self._plain = _plain(expression)
        try:
            CronSim(self._plain, datetime(2024, 1, 1, tzinfo=self.zone))
        except CronSimError as error:
            raise ValueError(f"{expression!r} is no cron expression: {error}") from None

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in UTC; None where there is none in the next fifty years."""
        return self._find(moment, reverse=False)

    def at_or_before(self, moment: datetime) -> datetime | None:
        """Return the last time up to a moment, in UTC."""
        return self._find(moment + timedelta(microseconds=1), reverse=True)

    def _find(self, moment: datetime, *, reverse: bool) -> datetime | None:
        try:
            found = next(CronSim(self._plain, moment.astimezone(self.zone), reverse=reverse))
        except StopIteration:
            return None
        return found.astimezone(UTC)


def _plain(expression: str) -> str:
    """Return five fields, of five or six."""
    fields = expression.split()
    if len(fields) == 5:
        return expression
    if len(fields) != 6:
        raise ValueError(f"{expression!r} has {len(fields)} fields; a cron expression has five, or six as in Orchestra")
    if fields[5] != "*":
        raise ValueError(f"{expression!r}: a year other than * is not supported")
    fields = ["*" if field == "?" else field for field in fields[:5]]
    # Sunday is 1 there and 0 here; what follows a # or a / is no day.
    parts = re.split(r"([#/]\d+)", fields[4])
    fields[4] = "".join(
        part if part[:1] in ("#", "/") else _DAY.sub(lambda day: str(int(day[0]) - 1), part) for part in parts
    )
    return " ".join(fields)


@dataclass(frozen=True)
class Window:
    """Polls take place from each time of a cron expression until its deadline."""

    cron: Cron
    deadline: timedelta

    def opened(self, now: datetime) -> datetime | None:
        """Return since when it is open, or None."""
        last = self.cron.at_or_before(now)
        return last if last is not None and now < last + self.deadline else None


@dataclass(frozen=True)
class Expectation:
    """When an event must have come.

    Attributes:
        by: By that time of day, in a time zone, on those days of the week (0 is Monday); since midnight, or ``within``
            that long before.
        every: Or: that long after the one before, at the latest.
    """

    by: time | None = None
    zone: ZoneInfo = _UTC
    days: frozenset[int] = frozenset(range(7))
    within: timedelta | None = None
    every: timedelta | None = None

    def next(self, now: datetime, last_event: datetime | None, began: datetime) -> datetime | None:
        """Return the next deadline after now."""
        if self.every is not None:
            due = (last_event or began) + self.every
            return due if due > now else None
        return self._deadline(now, forward=True)

    def missed(self, now: datetime, last_event: datetime | None, began: datetime) -> datetime | None:
        """Return the deadline that has passed without an event, or None."""
        if self.every is not None:
            due = (last_event or began) + self.every
            return due if due <= now else None
        deadline = self._deadline(now, forward=False)
        if deadline is None or deadline < began:
            # What was due before anybody looked is nobody's fault.
            return None
        midnight = datetime.combine(deadline.astimezone(self.zone).date(), time(), self.zone)
        since = deadline - self.within if self.within else midnight
        return deadline if last_event is None or last_event < since else None

    def _deadline(self, now: datetime, *, forward: bool) -> datetime | None:
        assert self.by is not None
        today = now.astimezone(self.zone).date()
        steps = range(8) if forward else range(0, -8, -1)
        for step in steps:
            day: date = today + timedelta(days=step)
            deadline = datetime.combine(day, self.by, self.zone).astimezone(UTC)
            if day.weekday() in self.days and (deadline > now if forward else deadline <= now):
                return deadline
        return None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one sensor polls.

    Polls lie on a grid through 1970 that is moved by a share of ``jitter``, which a hash of ``identity`` sets: it stays
    the same after a restart, sensors of one identity poll together, and others spread evenly.

    Attributes:
        every: Seconds between polls.
        jitter: Seconds over which identities spread.
        window: When polls take place; always by default.
        idle_after: After so many polls without an event the distance begins to grow, by ``idle_factor`` each poll, up
            to ``idle_max`` seconds. None: never.
        share: Where it lies on the grid, between 0 and 1.
    """

    identity: str
    every: float
    jitter: float
    window: Window | None = None
    idle_after: int | None = None
    idle_factor: float = 2.0
    idle_max: float = 300.0
    failing_max: float = 60.0
    share: float = field(init=False)

    def __post_init__(self) -> None:
        share = int.from_bytes(hashlib.blake2b(self.identity.encode(), digest_size=6).digest()) / 2**48
        object.__setattr__(self, "share", share)

    def interval(self, idle: int, failures: int) -> float:
        """Return the seconds between polls after so many without an event, or that failed, in a row."""
        seconds = self.every
        if self.idle_after is not None and idle >= self.idle_after:
            steps = min(idle - self.idle_after + 1, _LARGEST_STEP)
            seconds = max(seconds, min(self.idle_max, seconds * self.idle_factor**steps))
        if failures > 1:
            grown = self.every * 2.0 ** min(failures - 1, _LARGEST_STEP)
            seconds = max(seconds, min(max(self.failing_max, self.every), grown))
        return seconds

    def next(self, after: datetime, interval: float | None = None) -> datetime | None:
        """Return the first time on the grid after a moment, in a window; None where no window opens again."""
        seconds = interval or self.every
        moment = self._grid(after, seconds)
        if self.window is None or self.window.opened(moment) is not None:
            return moment
        opens = self.window.cron.after(after)
        if opens is None:
            return None
        first = self._grid(opens - timedelta(microseconds=1), self.every)
        # A window that is shorter than a step is looked at when it opens.
        return first if self.window.opened(first) == opens else opens

    def _grid(self, after: datetime, seconds: float) -> datetime:
        shift = self.share * min(self.jitter, seconds)
        step = math.floor((after.timestamp() - shift) / seconds) + 1
        moment = datetime.fromtimestamp(step * seconds + shift, UTC)
        # Rounding to microseconds may land on the moment itself.
        return moment if moment > after else datetime.fromtimestamp((step + 1) * seconds + shift, UTC)
