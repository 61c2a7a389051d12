"""All sensors of a file in one process: one coroutine each, and what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from runner.clock import Clock
from runner.crash import crash_point
from runner.errors import DiskFull, LedgerDamaged, RunnerError, UsageError
from runner.events import Stream, Warned
from runner.job import Limits
from runner.secrets import redact
from runner.tasks import first_of, task_group
from sensors.board import Board
from sensors.delivery import ALERTS, Deliveries, Target
from sensors.events import (
    EventMissing,
    FileRefused,
    FileReloaded,
    LoopStalled,
    SensorBegun,
    SensorsStarted,
    SensorsStopped,
)
from sensors.placing import Placed, PlacedAction, PlacedSensor, load_sensors, plugin, stamp
from sensors.room import Room
from sensors.schedule import Expectation
from sensors.sensor import Sensor, Setting
from sensors.stall import watched_loop
from sensors.status import Status
from sensors.store import Fired, SensorState, Store
from sensors.task import Outcome, Task, Wanted
from sensors.watch import Watch, Work

_REPORT = 2.0
_RELOAD = 2.0
_EXPECT = 1.0
_GRACE = 20.0
_PRUNE = timedelta(days=1)
# So many sensors are made, begin or end before others have their turn.
_AT_ONCE = 100


@dataclass(frozen=True)
class Made:
    """A sensor of the file and its actions, made of what the file says and not at work yet."""

    placed: PlacedSensor
    sensor: Sensor[Any]
    targets: Mapping[str, Target]


class Engine:
    """Runs the sensors of a file until it is told to stop.

    Args:
        placed: The file.
        wanted: What to wait for, where the process is a task; it is no service then.
        environment: What ``--env`` said, for jobs that actions run.
    """

    def __init__(
        self,
        placed: Placed,
        store: Store,
        clock: Clock,
        stream: Stream,
        board: Board,
        *,
        wanted: Wanted | None = None,
        environment: str | None = None,
    ) -> None:
        self._placed = placed
        self._store = store
        self._clock = clock
        self._stream = stream
        self._board = board
        self._task = Task(wanted, clock) if wanted is not None else None
        self._environment = environment
        # Of systems that have none of their own.
        self._limits = Limits(connections=placed.limits.connections)
        self._watches: dict[str, Watch] = {}
        self._targets: dict[tuple[str, str], Target] = {}
        self._expectations: dict[str, Expectation] = {}
        self._began: dict[str, datetime] = {}
        self._ended = 0
        self._pruned = clock.now()
        self._stopping, self._delivered = anyio.Event(), anyio.Event()
        self._deliveries = Deliveries(
            store,
            clock,
            stream,
            lambda sensor, action: self._targets.get((sensor, action)),
            abreast=placed.limits.actions,
            alert=self._alert_event,
            resting=lambda: self._placed.resting,
            settled=self._task.settled if self._task is not None else lambda *_: None,
        )
        refused = self._task.refused if self._task is not None else lambda _: None
        self._work = Work(clock, store, board, stream, self._fired, self._alert, refused, wanted is not None)
        self._room: Room
        self._group: TaskGroup
        self._reloading: anyio.CancelScope

    # From outside.

    def stop(self) -> None:
        """End gracefully: polls and actions that are under way may end first."""
        self._stopping.set()

    async def run(self) -> Outcome:
        """Watch until ``stop`` is called, or until what was waited for has come.

        Raises:
            NoEvent: It did not come in time.
            Interrupted: A task was told to stop.
            RunnerError: A sensor that a task waits for could not look.
        """
        async with (
            watched_loop(self._stalled),
            Room(
                self._clock, self._store, polls=self._placed.limits.polls, environment=self._environment
            ) as self._room,
        ):
            known = await self._begin()
            try:
                async with task_group() as self._group:
                    await self._serve(known)
                    self._group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._report()
        self._stream.emit(SensorsStopped(self._placed.name, await self._waiting()))
        return self._task.outcome if self._task is not None else Outcome()

    async def _serve(self, known: int) -> None:
        self._reloading = anyio.CancelScope()
        self._stream.emit(SensorsStarted(self._placed.name, len(self._watches), known, await self._waiting()))
        if self._task is not None:
            self._task.begin(self._watches)
            await self._go_on(self._task)
        for watch in self._watches.values():
            self._group.start_soon(self._run, watch)
        for service in (self._deliver, self._reports, self._expects):
            self._group.start_soon(service)
        if self._task is None:
            self._group.start_soon(self._reload)
            await self._stopping.wait()
        else:
            await self._task.wait(self._stopping)
        crash_point("stopping")
        self._reloading.cancel()
        watches = list(self._watches.values())
        for watch in watches:
            watch.stop()
        await first_of(partial(_all_ended, watches), partial(self._clock.sleep, _GRACE))
        self._deliveries.drain()
        await first_of(self._delivered.wait, partial(self._clock.sleep, _GRACE))
        if self._task is not None and self._task.outcome.well:
            await self._store.hand_over(self._task.outcome.fired)

    async def _waiting(self) -> int:
        counts = await self._store.counts(self._placed.resting)
        return counts.get("pending", 0) + counts.get("sending", 0)

    async def _go_on(self, task: Task) -> None:
        """Count what an attempt before this one found, and could not tell of."""
        for sensor, fired, states in await self._store.awaited():
            task.fired(sensor, [fired])
            task.outcome.states.update(states if sensor in self._watches else ())
        far = self._clock.now() + timedelta(days=3650)
        for outgoing, delivery in await self._store.waiting(far, 1000):
            task.fired(outgoing.sensor, [Fired(outgoing.run_key, dict(delivery.values), [outgoing.action])])

    # Sensors and their actions.

    async def _begin(self) -> int:
        """Make every sensor; return how many go on where they were."""
        now = self._clock.now()
        states = await self._store.sensors()
        await self._forget_old()
        last_events, before = await self._store.last_events(), await self._store.statuses()
        new = {
            one.name: one.digest
            for one in self._placed.sensors
            if one.name not in states or states[one.name].digest != one.digest
        }
        if new:
            await self._store.begin(new, now)
        for number, placed in enumerate(self._placed.sensors):
            if placed.name in new:
                crash_point("sensor-begun", placed.name)
                reason = "what it looks at is another thing than before" if placed.name in states else "it is new"
                self._stream.emit(SensorBegun(placed.name, reason))
                states[placed.name] = SensorState(placed.digest, None, now)
            made = self._make(placed)
            self._add(made, states[placed.name], last_events.get(placed.name), before.get(placed.name))
            if number % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        for action, _ in self._placed.alerts:
            self._targets[ALERTS, action.name] = self._target(action)
        return len(self._placed.sensors) - len(new)

    async def _forget_old(self) -> None:
        names = {one.name for one in self._placed.sensors} | self._placed.resting
        await self._store.forget([*names, ALERTS], self._clock.now() - self._placed.limits.keep)

    def _make(self, placed: PlacedSensor) -> Made:
        return Made(placed, self._sensor(placed), {action.name: self._target(action) for action in placed.actions})

    def _add(self, made: Made, state: SensorState, last_event: float | None, before: Status | None) -> Watch:
        """Give a sensor its place, and make what watches it."""
        placed, sensor = made.placed, made.sensor
        status = Status(
            name=placed.name,
            kind=placed.entry.type,
            every=placed.entry.every.total_seconds(),
            watches=redact(sensor.describe()),
            last_event=last_event,
        )
        if before is not None:
            for name in ("last_success", "last_key", "missed", "failures", "error", "alive_by"):
                # A failure that was alerted is over when it polls again, not when its process or file is another one.
                setattr(status, name, getattr(before, name))
        self._began[placed.name] = state.started
        self._board.statuses[placed.name] = status
        self._room.limits(sensor.system, placed.limits)
        self._room.enrol(sensor.system, sensor.share)
        status.does = "; ".join(redact(target.action.describe()) for target in made.targets.values())
        self._targets.update({(placed.name, name): target for name, target in made.targets.items()})
        if placed.entry.expect is not None:
            self._expectations[placed.name] = placed.entry.expect.expectation()
        else:
            self._expectations.pop(placed.name, None)
        watch = Watch(placed, sensor, status, self._work, state.cursor, wanted=self._task is not None)
        self._watches[placed.name] = watch
        return watch

    def _sensor(self, placed: PlacedSensor) -> Sensor[Any]:
        made: Sensor[Any] = plugin("runner.sensors", placed.entry.type)(
            Setting(
                name=placed.name,
                options=placed.options,
                source_name=placed.source_name,
                source=placed.source,
                start=placed.entry.cursor,
                limits=placed.limits or self._limits,
                folder=self._placed.path.resolve().parent,
            ),
            self._room,
        )
        return made

    def _target(self, action: PlacedAction) -> Target:
        folder = self._placed.path.resolve().parent
        made = plugin("runner.actions", action.entry.type)(action.options, self._room, folder)
        return Target(made, action.entry)

    async def _run(self, watch: Watch) -> None:
        await watch.run(once=self._task is not None and self._task.once)
        self._ended += 1
        if self._task is not None:
            self._task.ended(self._ended)

    def _fired(self, sensor: str, fired: Sequence[Fired]) -> None:
        self._deliveries.wake()
        if self._task is not None:
            self._task.fired(sensor, fired)

    # What runs beside them.

    async def _deliver(self) -> None:
        await self._deliveries.run()
        self._delivered.set()

    async def _reports(self) -> None:
        while True:
            await self._clock.sleep(_REPORT)
            try:
                await self._report()
                if self._clock.now() - self._pruned > _PRUNE:
                    self._pruned = self._clock.now()
                    await self._forget_old()
            except (DiskFull, LedgerDamaged) as error:
                self._stream.emit(Warned("", redact(error.message)))

    async def _report(self) -> None:
        names, self._work.touched = self._work.touched, set()
        statuses = self._board.statuses
        await self._store.report([statuses[name] for name in names if name in statuses])
        crash_point("status-reported")
        self._board.outbox = Counter(await self._store.counts())

    async def _expects(self) -> None:
        while True:
            now = self._clock.now()
            # A file that is read again changes them meanwhile.
            for name, expectation in list(self._expectations.items()):
                status = self._board.statuses.get(name)
                if status is None or name not in self._expectations:
                    continue
                if status.expected is None or now.timestamp() >= status.expected:
                    await self._expect(name, expectation, status, now)
            await self._clock.sleep(_EXPECT)

    async def _expect(self, name: str, expectation: Expectation, status: Status, now: datetime) -> None:
        last = None if status.last_event is None else datetime.fromtimestamp(status.last_event, UTC)
        began = self._began[name]
        missed = expectation.missed(now, last, began)
        following = expectation.next(now, last, began)
        status.expected = None if following is None else following.timestamp()
        if missed is None or missed.timestamp() == status.missed:
            return
        status.missed = missed.timestamp()
        self._work.touched.add(name)
        since = "none ever" if last is None else f"the last one at {last:%Y-%m-%d %H:%M:%S} UTC"
        message = f"no event had come by {missed:%Y-%m-%d %H:%M:%S} UTC ({since})."
        self._stream.emit(EventMissing(name, message))
        await self._alert("expect", name, missed.isoformat(), message)

    async def _alert(self, kind: str, sensor: str, what: str, message: str) -> None:
        alert = self._alert_event(kind, sensor, what, message)
        if alert is None:
            return
        try:
            await self._store.polled(ALERTS, None, {}, [alert], self._clock.now())
        except DiskFull as error:
            # The log and the page are left.
            self._stream.emit(Warned(sensor, redact(f"an alert could not be written: {error.message}")))
        self._deliveries.wake()

    def _alert_event(self, kind: str, sensor: str, what: str, message: str) -> Fired | None:
        """Return what tells of something, if anybody wants to be told; ``what`` makes it one alert."""
        names = [action.name for action, kinds in self._placed.alerts if kind in kinds]
        if not names:
            return None
        values = {
            "alert": kind,
            "sensor": sensor,
            "file": self._placed.name,
            "message": message,
            "text": f"{self._placed.name}: {sensor}: {message}",
            "at": self._clock.now().isoformat(),
        }
        return Fired(f"{self._placed.name}:{kind}:{sensor}:{what}", values, names)

    def _stalled(self, seconds: float, frames: list[str]) -> None:
        self._board.stalled(seconds, frames)
        self._stream.emit(LoopStalled(round(seconds, 3), "".join(frames)))

    # A file that changes.

    async def _reload(self) -> None:
        path = self._placed.path
        seen = self._placed.stamp
        with self._reloading:
            while True:
                await self._clock.sleep(_RELOAD)
                now = await anyio.to_thread.run_sync(stamp, path)
                if now == seen:
                    continue
                try:
                    load = partial(load_sensors, path, only=self._placed.only)
                    await self._change(await anyio.to_thread.run_sync(load))
                    seen, self._board.refused = now, None
                except (DiskFull, LedgerDamaged) as error:
                    # It is tried again: sensors that were stopped for it are not left out.
                    self._refuse(error.message)
                except RunnerError as error:
                    seen = now
                    self._refuse(f"{error.message} {error.advice}".strip())

    def _refuse(self, words: str) -> None:
        self._board.refused = redact(words)
        self._stream.emit(FileRefused(self._board.refused))

    async def _change(self, placed: Placed) -> None:
        """Go on by another file: what it does not change is not touched."""
        if placed.name != self._placed.name:
            raise UsageError(
                f"its name is {placed.name!r} now: what its sensors have seen is kept under {self._placed.name!r}.",
                guidance="Start it anew, or give it its name back.",
            )
        before = {name: watch.placed for name, watch in self._watches.items()}
        after = {one.name: one for one in placed.sensors}
        changed = [one for name, one in after.items() if name in before and before[name].whole != one.whole]
        added = [one for name, one in after.items() if name not in before]
        removed = [name for name in before if name not in after]
        # What cannot be made is refused before anything is stopped.
        made = [self._make(one) for one in [*changed, *added]]
        self._placed = placed
        for action, _ in placed.alerts:
            self._targets[ALERTS, action.name] = self._target(action)
        stopped = {name: self._watches[name] for name in [*removed, *(one.name for one in changed)]}
        for watch in stopped.values():
            watch.stop()
        for watch in stopped.values():
            await watch.wait_ended()
        for one in changed:
            crash_point("reload-begun", one.name)
        await self._start(made, stopped)
        for name in removed:
            self._drop(name)
            self._forget(name, ())
        if changed or added or removed:
            self._stream.emit(FileReloaded(str(placed.path), len(added), len(changed), len(removed)))

    async def _start(self, made: Sequence[Made], stopped: Mapping[str, Watch]) -> None:
        """Start sensors in the place of those that were stopped; nothing is awaited between the two."""
        placed = [one.placed for one in made]
        now, states = self._clock.now(), await self._store.sensors()
        new = {
            one.name: one.digest for one in placed if one.name not in states or states[one.name].digest != one.digest
        }
        if new:
            await self._store.begin(new, now)
        for each in made:
            one = each.placed
            crash_point("reload-noted", one.name)
            old = stopped.get(one.name)
            if old is not None:
                self._drop(one.name)
            state = states[one.name] if one.name not in new else SensorState(one.digest, None, now)
            watch = self._add(each, state, old.status.last_event if old else None, old.status if old else None)
            self._forget(one.name, [action.name for action in one.actions])
            self._group.start_soon(self._run, watch)

    def _drop(self, name: str) -> None:
        watch = self._watches.pop(name)
        self._room.dismiss(watch.sensor.system, watch.sensor.share)
        self._expectations.pop(name, None)
        self._board.statuses.pop(name, None)

    def _forget(self, name: str, kept: Collection[str]) -> None:
        """Drop the actions of a sensor that the file has no more."""
        for key in [key for key in self._targets if key[0] == name and key[1] not in kept]:
            del self._targets[key]


async def _all_ended(watches: Sequence[Watch]) -> None:
    for watch in watches:
        await watch.wait_ended()
