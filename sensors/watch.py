"""One sensor at work: it waits for its time, looks, and writes what it found."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel

from runner.clock import Clock
from runner.crash import crash_point
from runner.errors import Parked, PollTimedOut, RunnerError, SensorError
from runner.events import Stream
from runner.naming import fingerprint
from runner.secrets import redact
from runner.tasks import is_contained
from sensors.board import Board
from sensors.condition import Condition
from sensors.events import EventFired, PollFailed, SensorRecovered
from sensors.placing import PlacedSensor
from sensors.schedule import Schedule
from sensors.sensor import Event, Polled, Sensor
from sensors.status import Status
from sensors.store import Fired, Store
from sensors.templates import render

# A sensor that just began does not wait for its first poll as long as for the next ones.
_FIRST = 10.0
_LONGEST_KEY = 300
# Polls that may be missing before a sensor counts as dead.
_MISSED = 2
_NAP = 60.0
_NOTED = 86_400.0


@dataclass
class Work:
    """What all sensors of an engine work with.

    Attributes:
        fired: Told of events that are durable: sensor, run keys with their values.
        alert: Told of what is wrong: kind, sensor, what makes it one alert, message.
        refused: Told of an error that no later poll can help.
        awaited: Whether a task waits for the events.
        touched: The sensors whose status changed since it was written last.
    """

    clock: Clock
    store: Store
    board: Board
    stream: Stream
    fired: Callable[[str, Sequence[Fired]], None]
    alert: Callable[[str, str, str, str], Awaitable[None]]
    refused: Callable[[RunnerError], None]
    awaited: bool = False
    touched: set[str] = field(default_factory=set)


class Watch:
    """Watches one sensor.

    Args:
        placed: What the file says.
        sensor: What looks.
        cursor: Where it goes on.
        wanted: Whether a task waits for it: its first poll is now, whatever its schedule says.

    Attributes:
        ended: Whether it polls no more.
        looked: Whether it has polled with success. ``error``: what the last poll that failed said.
    """

    def __init__(
        self,
        placed: PlacedSensor,
        sensor: Sensor[Any],
        status: Status,
        work: Work,
        cursor: Any,
        *,
        wanted: bool = False,
    ) -> None:
        self.placed = placed
        self.sensor = sensor
        self.status = status
        self._work = work
        self._cursor = cursor
        self._wanted = wanted
        entry = placed.entry
        share = sensor.share
        self._schedule: Schedule = placed.schedule(placed.name if share is None else repr((sensor.system, share)))
        self._condition = Condition(entry.condition) if entry.condition else None
        self._timeout = entry.timeout.total_seconds()
        self._idle = 0
        self.ended = self.looked = False
        self.error: RunnerError | None = None
        self._stopping = False
        self._waiting = False
        self._scope = anyio.CancelScope()
        # Made when somebody waits: thousands of them are megabytes.
        self._told: anyio.Event | None = None
        self._paused_until: datetime | None = None

    def stop(self) -> None:
        """End after the poll that is under way, if there is one."""
        self._stopping = True
        if self._waiting:
            self._scope.cancel()

    async def wait_ended(self) -> None:
        """Wait until it polls no more."""
        while not self.ended:
            self._told = self._told or anyio.Event()
            await self._told.wait()

    async def run(self, *, once: bool = False) -> None:
        """Watch until ``stop`` is called, or no window opens any more.

        Args:
            once: Whether one poll is all.
        """
        try:
            with self._scope:
                due = self._first()
                while due is not None and not self._stopping:
                    self._plan(due)
                    if not await self._wait(due):
                        break
                    more = await self._poll(due)
                    while more and not self._stopping:
                        # A poll that waits for nothing would keep all others from their turn.
                        await anyio.lowlevel.checkpoint()
                        more = await self._poll(self._work.clock.now())
                    if once:
                        break
                    due = await self._next(due)
        finally:
            self.ended = True
            if self._told is not None:
                self._told.set()
            self.status.state = "stopped"
            self.status.next_due = None
            self._work.touched.add(self.status.name)

    # Time.

    def _first(self) -> datetime | None:
        now = self._work.clock.now()
        if self._wanted:
            return now
        due = self._schedule.next(now)
        soon = now + timedelta(seconds=_FIRST)
        if due is None or due <= soon:
            return due
        # Its place on a grid of ten seconds, when a window is open then.
        first = self._schedule.next(now, _FIRST)
        return min(due, first) if first is not None else due

    async def _next(self, due: datetime) -> datetime | None:
        """Return when to poll next: on the grid, after now, and not the time that was just served."""
        now, status = self._work.clock.now(), self.status
        interval = self._schedule.interval(self._idle, status.failures)
        # A clock that was set back must not stop the sensor until it has caught up.
        after = due if now < due <= now + timedelta(seconds=interval) else now
        if self._paused_until is not None:
            after, self._paused_until = max(after, self._paused_until), None
        following = self._schedule.next(after, interval)
        if following is not None:
            left_out = int((now - due).total_seconds() // interval)
            status.skipped += max(0, left_out)
        await self._window_closed(due, following)
        return following

    def _plan(self, due: datetime) -> None:
        status = self.status
        status.next_due = due.timestamp()
        if status.state != "paused":
            window = self._schedule.window
            # No poll follows in the window that is open now, if there is one.
            closed = window is not None and window.opened(due) != window.opened(self._work.clock.now())
            status.state = "closed" if closed else "waiting"
        if (status.failures == 0 or status.alive_by is None) and status.state != "paused":
            interval = self._schedule.interval(self._idle, 0)
            status.alive_by = status.next_due + self._timeout + _MISSED * interval
        # What others read of it is its plan too: that of a sensor that has not polled yet, its window being closed.
        self._work.touched.add(status.name)

    async def _wait(self, due: datetime) -> bool:
        """Wait for a time; tell whether it has come, and not ``stop``."""
        clock = self._work.clock
        self._waiting = True
        # A machine that slept, or whose clock was set, is noticed within a minute.
        while (seconds := (due - clock.now()).total_seconds()) > 0:
            await clock.sleep(min(seconds, _NAP))
        self._waiting = False
        return not self._stopping

    async def _window_closed(self, due: datetime, following: datetime | None) -> None:
        """Tell when the window that was open has closed without an event."""
        window = self._schedule.window
        opened = window.opened(due) if window else None
        if window is None or opened is None:
            return
        if following is not None and window.opened(following) == opened:
            return
        if (self.status.last_event or 0.0) < opened.timestamp():
            closed = opened + window.deadline
            message = f"no event came in the window of {opened:%Y-%m-%d %H:%M} to {closed:%H:%M} UTC."
            await self._work.alert("window", self.status.name, closed.isoformat(), message)

    # Looking.

    async def _poll(self, due: datetime) -> bool:
        """Look once; tell whether to look again at once."""
        work, status = self._work, self.status
        now, began = work.clock.now(), work.clock.monotonic()
        status.state, status.last_poll = "polling", now.timestamp()
        status.lateness = max(0.0, (now - due).total_seconds())
        status.polls += 1
        more = False
        try:
            polled = await self._look()
            fired = await self._write(polled)
        except Parked as error:
            resume = error.resume_at
            self._paused_until = resume if resume.tzinfo else resume.replace(tzinfo=UTC)
            status.state, status.error = "paused", _plain(redact(error.message))
        except RunnerError as error:
            await self._failed(error)
        except BaseException as error:  # a defect of one type harms no other sensor
            if not is_contained(error):
                raise
            await self._failed(SensorError(f"an unexpected {type(error).__name__}: {error}"))
        else:
            await self._succeeded(polled, fired)
            more = polled.more
        status.seconds = work.clock.monotonic() - began
        work.board.polled(status.name, status.lateness, status.seconds)
        work.touched.add(status.name)
        return more

    async def _look(self) -> Polled:
        with anyio.move_on_after(self._timeout):
            # A copy: what a poll changes in it before it fails must not move the cursor.
            return await self.sensor.poll(copy.deepcopy(self._cursor))
        raise PollTimedOut(f"It did not end within {self._timeout:g} s.")

    async def _write(self, polled: Polled) -> list[Fired]:
        """Write what was found; return the events that did not fire before."""
        fired = [one for event in polled.events if (one := self._fired(event)) is not None]
        if not fired and not polled.remember and polled.cursor == self._cursor:
            return []
        work, name, now = self._work, self.status.name, self._work.clock.now()
        known: Mapping[str, float] = {}
        if fired:
            known = await work.store.known(name, [one.run_key for one in fired])
            # Two events of one poll may have one run key too.
            fired = list({one.run_key: one for one in reversed(fired) if one.run_key not in known}.values())[::-1]
            crash_point("events-found", name)
        # What is seen again for months is noted now and then, and not with each poll.
        again = [key for key, seen in known.items() if now.timestamp() - seen > _NOTED]
        await work.store.polled(name, polled.cursor, polled.remember, fired, now, seen=again, awaited=work.awaited)
        if fired:
            crash_point("outbox-committed", name)
        self._cursor = polled.cursor
        return fired

    def _fired(self, event: Event) -> Fired | None:
        """Return what is written of an event; None where the condition does not hold."""
        values: dict[str, Any] = {**event.values}
        if event.at is not None:
            values.setdefault("at", event.at.astimezone(UTC).isoformat())
        if self._condition is not None and not self._condition.holds(values):
            return None
        names: Mapping[str, Any] = {**values, "key": event.key, "sensor": self.status.name}
        template = self.placed.entry.run_key
        key = _plain(f"{self.status.name}:{render(template, names) if template else event.key}")
        if len(key) > _LONGEST_KEY:
            key = f"{key[: _LONGEST_KEY - 17]}~{fingerprint(key)}"
        return Fired(key, values, [action.name for action in self.placed.actions])

    async def _succeeded(self, polled: Polled, fired: Sequence[Fired]) -> None:
        work, status = self._work, self.status
        now = work.clock.now().timestamp()
        failures, status.failures, status.error = status.failures, 0, None
        status.last_success, status.note = now, _plain(polled.note)
        self.looked = True
        status.state = "waiting"
        self._idle = 0 if fired else self._idle + 1
        if failures:
            work.stream.emit(SensorRecovered(status.name, failures))
            if failures >= self.placed.entry.alert_after:
                await work.alert("recovered", status.name, str(now), f"polls again, after {failures} failures.")
        if fired:
            status.last_event, status.last_key = now, fired[-1].run_key
            status.events += len(fired)
            status.missed = None
            for one in fired:
                work.stream.emit(EventFired(status.name, one.run_key, len(one.actions)))
                work.board.fired(status.name, one.run_key)
            work.fired(status.name, fired)

    async def _failed(self, error: RunnerError) -> None:
        work, status = self._work, self.status
        status.failures += 1
        status.state = "waiting"
        # What a retry can help the next poll tries by itself.
        advice = "" if error.retriable else error.advice
        status.error = _plain(redact(f"{error.message} {advice}".strip()))
        self.error = error
        threshold = self.placed.entry.alert_after
        work.board.failed(status.name, status.error)
        if status.failures & (status.failures - 1) == 0 or status.failures == threshold:
            work.stream.emit(PollFailed(status.name, status.failures, status.error))
        if not error.retriable:
            work.refused(error)
        if status.failures == threshold:
            with contextlib.suppress(RunnerError):
                # Where the disk is full the log and the page are left.
                since = str(status.last_success or 0.0)
                await work.alert("failing", status.name, since, f"{threshold} polls in a row failed: {status.error}")


def _plain(text: str) -> str:
    """Return a text without what no file takes: halves of characters, and NUL."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
