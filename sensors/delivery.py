"""From the outbox to what is done: each event to each of its actions, with what every action promises.

A row of the outbox says ``sending`` before anything is sent, and ``delivered`` once it was done. Whoever finds a row in
``sending`` does not know: for an action that promises exactly once it is looked up by its run key before anything is
sent again, and where nobody can tell it is held (``unknown``); the others are sent again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from runner.clock import Clock
from runner.crash import crash_point
from runner.errors import (
    DeliveryRefused,
    DiskFull,
    LedgerDamaged,
    NotDelivered,
    OutcomeUnknown,
    RunnerError,
    UsageError,
)
from runner.events import Stream, Warned
from runner.secrets import redact
from runner.tasks import first_of, is_contained
from sensors.action import Action, Delivery, Sent
from sensors.events import Delivered, DeliveryFailed, DeliveryHeld, DeliveryRetried
from sensors.sensorfile import ActionEntry
from sensors.status import Outgoing
from sensors.store import LONGEST_WAIT, Fired, Store

ResultT = TypeVar("ResultT")

# What tells about sensors is delivered like what they found: it belongs to this one.
ALERTS = "@alerts"
_LOOK_AGAIN = 2.0
_PAGE = 1000
_FIRST_WAIT = 1.0
_FIND_WAIT = 15.0


@dataclass(frozen=True)
class Target:
    """An action and how often it is tried."""

    action: Action[Any]
    entry: ActionEntry


class Deliveries:
    """Delivers what is in the outbox.

    Args:
        target: Returns the action of a sensor by its name, or None when the file has none.
        abreast: How many actions are in flight at once; those of one sensor take a quarter of that, alerts none.
        alert: Returns what tells of something held or failed, if anybody is told: kind, sensor, what, message.
        resting: Names of sensors that are left alone: the file has them, and nobody runs them now.
        settled: Told of every event that needs nothing more: sensor, run key, its new state, what came of it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        stream: Stream,
        target: Callable[[str, str], Target | None],
        *,
        abreast: int,
        alert: Callable[[str, str, str, str], Fired | None] = lambda *_: None,
        resting: Callable[[], Collection[str]] = tuple,
        settled: Callable[[str, str, str, Mapping[str, Any]], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._stream = stream
        self._target = target
        self._abreast = anyio.CapacityLimiter(abreast)
        self._share = max(1, abreast // 4)
        self._shares: dict[str, anyio.CapacityLimiter] = {}
        self._alert = alert
        self._resting = resting
        self._settled = settled
        self._wake = anyio.Event()
        self._under_way: set[int] = set()
        self._draining = False
        self._more = False

    def wake(self) -> None:
        """Look at the outbox now."""
        self._wake.set()

    def drain(self) -> None:
        """Begin nothing more; ``run`` ends when what is under way has ended."""
        self._draining = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until ``drain`` is called."""
        async with anyio.create_task_group() as group:
            while not self._draining:
                self._wake = anyio.Event()
                try:
                    await self._begin(group)
                except LedgerDamaged as error:
                    self._stream.emit(Warned("", redact(error.message)))
                # Another process may have put something back: runner sensors FILE --resend.
                await first_of(self._wake.wait, lambda: self._clock.sleep(_LOOK_AGAIN))

    async def _begin(self, group: TaskGroup) -> None:
        # What ends while the rows are read may stand among them as it was before: it is not begun again.
        busy = set(self._under_way)
        rows = await self._store.waiting(self._clock.now(), _PAGE, self._resting())
        self._more = len(rows) == _PAGE
        for outgoing, delivery in rows:
            if outgoing.id not in busy:
                self._under_way.add(outgoing.id)
                group.start_soon(self._one, outgoing, delivery)

    async def _one(self, outgoing: Outgoing, delivery: Delivery) -> None:
        try:
            async with self._turn(outgoing.sensor):
                if not self._draining:
                    await self._deliver(outgoing, delivery)
        except (DiskFull, LedgerDamaged) as error:
            # What could not be written is read again as it was, and looked up or sent again.
            message = redact(error.message)
            self._stream.emit(DeliveryRetried(outgoing.sensor, outgoing.action, outgoing.run_key, _LOOK_AGAIN, message))
        finally:
            self._under_way.discard(outgoing.id)
            if self._more and len(self._under_way) < _PAGE // 2:
                self._wake.set()

    @contextlib.asynccontextmanager
    async def _turn(self, sensor: str) -> AsyncIterator[None]:
        """Wait for a turn: actions of one sensor that hang leave room for the others', and for alerts about them."""
        share = self._shares.setdefault(sensor, anyio.CapacityLimiter(self._share))
        async with share:
            if sensor == ALERTS:
                yield
                return
            async with self._abreast:
                yield

    async def _deliver(self, outgoing: Outgoing, delivery: Delivery) -> None:
        target = self._target(outgoing.sensor, outgoing.action)
        if target is None:
            await self._fail(outgoing, "The file has no such sensor or action any more.")
            return
        if outgoing.action != target.entry.type:
            # Two actions of one event may go to one target, which must not take the second for the first.
            delivery = replace(delivery, run_key=f"{delivery.run_key}#{outgoing.action}")
        began = self._clock.monotonic()
        exactly = target.action.promise == "exactly once"
        try:
            sent = await self._sent(outgoing, delivery, target)
        except _Undecided as error:
            await self._again(
                outgoing, "sending", _FIND_WAIT if error.retry_after is None else error.retry_after, error
            )
        except NotDelivered as error:
            await self._retry(outgoing, delivery, target, error)
        except _Untellable as error:
            await self._hold(outgoing, _words(error))
        except OutcomeUnknown as error:
            if exactly:
                # Who looks for it counts from here: what was sent long ago may have begun something just now.
                ended = self._clock.now().timestamp()
                await self._again(outgoing, "sending", _LOOK_AGAIN, error, tried_at=ended)
            else:
                await self._retry(outgoing, delivery, target, NotDelivered(error.message))
        except (DeliveryRefused, UsageError) as error:
            await self._fail(outgoing, _words(error))
        else:
            crash_point("sent", outgoing.sensor)
            now = self._clock.now().timestamp()
            await self._store.change(
                outgoing.id, state="delivered", done_at=now, reference=sent.reference, error=None, next_at=None
            )
            crash_point("delivery-recorded", outgoing.sensor)
            seconds = self._clock.monotonic() - began
            self._stream.emit(
                Delivered(outgoing.sensor, outgoing.action, outgoing.run_key, sent.reference, round(seconds, 3))
            )
            self._settled(outgoing.sensor, outgoing.run_key, "delivered", sent.outputs)

    async def _sent(self, outgoing: Outgoing, delivery: Delivery, target: Target) -> Sent:
        if outgoing.state == "sending" and target.action.promise == "exactly once":
            found = await self._found(delivery, target)
            if found is not None:
                return found
            delivery = replace(delivery, sent_at=None)
        if outgoing.state == "sending" and outgoing.error is None:
            # It was broken off before there was an answer, which is no attempt that failed.
            delivery = replace(delivery, attempt=outgoing.attempts)
        if delivery.attempt > target.entry.attempts:
            raise DeliveryRefused(_tried(target.entry.attempts))
        now = self._clock.now()
        first = delivery.sent_at or now
        # Should this process die, nobody knows when it left.
        delivery = replace(delivery, sent_at=first, tried_at=now + target.action.longest)
        await self._store.change(
            outgoing.id,
            state="sending",
            attempts=delivery.attempt,
            sent_at=first.timestamp(),
            tried_at=(now + target.action.longest).timestamp(),
            next_at=None,
            error=None,
        )
        crash_point("send-recorded", outgoing.sensor)
        return await _guarded(target.action.send(delivery))

    async def _found(self, delivery: Delivery, target: Target) -> Sent | None:
        """Look up what became of a delivery that may have been sent."""
        crash_point("lookup-begun", delivery.sensor)
        try:
            return await _guarded(target.action.find(delivery))
        except NotDelivered as error:
            raise _Undecided(error.message, retry_after=error.retry_after) from error
        except OutcomeUnknown as error:
            if target.entry.on_unknown == "resend":
                return None
            raise _Untellable(error.message, guidance=error.advice) from error
        except (DeliveryRefused, UsageError) as error:
            # That it cannot be looked up does not say that it was not done.
            raise _Untellable(error.message, guidance=error.advice) from error
        finally:
            crash_point("lookup-ended", delivery.sensor)

    async def _retry(self, outgoing: Outgoing, delivery: Delivery, target: Target, error: NotDelivered) -> None:
        """Send it again later, unless it was tried often enough."""
        if error.patient:
            wait = error.retry_after or _FIND_WAIT
            await self._again(outgoing, "pending", wait, error, sent_at=None, attempts=delivery.attempt - 1)
            return
        if delivery.attempt >= target.entry.attempts:
            await self._fail(outgoing, f"{error.message} {_tried(delivery.attempt)}")
            return
        longest = target.entry.max_wait.total_seconds()
        wait = min(longest, _FIRST_WAIT * 2 ** min(delivery.attempt - 1, 16)) * self._clock.random.uniform(0.5, 1)
        # Who looks for it later counts from when it may have been sent.
        await self._again(outgoing, "pending", max(wait, error.retry_after or 0.0), error, sent_at=None)

    async def _again(self, outgoing: Outgoing, state: str, wait: float, error: RunnerError, **more: Any) -> None:
        message, wait = redact(error.message), min(wait, LONGEST_WAIT)
        next_at = self._clock.now().timestamp() + wait
        await self._store.change(outgoing.id, state=state, next_at=next_at, error=message, **more)
        crash_point("retry-recorded", outgoing.sensor)
        self._stream.emit(DeliveryRetried(outgoing.sensor, outgoing.action, outgoing.run_key, round(wait, 1), message))

    async def _hold(self, outgoing: Outgoing, message: str) -> None:
        await self._give_up("unknown", outgoing, message)
        self._stream.emit(DeliveryHeld(outgoing.sensor, outgoing.action, outgoing.run_key, message))
        self._settled(outgoing.sensor, outgoing.run_key, "unknown", {})

    async def _fail(self, outgoing: Outgoing, message: str) -> None:
        await self._give_up("failed", outgoing, message)
        self._stream.emit(DeliveryFailed(outgoing.sensor, outgoing.action, outgoing.run_key, message))
        self._settled(outgoing.sensor, outgoing.run_key, "failed", {})

    async def _give_up(self, state: str, outgoing: Outgoing, message: str) -> None:
        """Write that a person has to look, in one transaction with what tells them."""
        alert, now = None, self._clock.now()
        # An alert that cannot be delivered is in the log and on the page: one about it would come back for ever.
        if outgoing.sensor != ALERTS:
            what = f"{outgoing.run_key}:{outgoing.action}@{now:%Y%m%dT%H%M%S.%f}"
            alert = self._alert(state, outgoing.sensor, what, f"{outgoing.action}: {outgoing.run_key}: {message}")
        also = None if alert is None else (ALERTS, alert)
        await self._store.change(outgoing.id, also=also, now=now, state=state, error=message, next_at=None)
        crash_point("hold-recorded", outgoing.sensor)
        self.wake()


class _Undecided(NotDelivered):
    """It may have been sent, and nobody can tell yet."""


class _Untellable(OutcomeUnknown):
    """It may have been sent, and nobody will ever be able to tell."""


async def _guarded(work: Awaitable[ResultT]) -> ResultT:
    """Await an action's work; what it did not foresee leaves the outcome unknown."""
    try:
        return await work
    except (NotDelivered, DeliveryRefused, OutcomeUnknown, UsageError):
        raise
    except BaseException as error:
        if not is_contained(error):
            raise
        raise OutcomeUnknown(f"An unexpected {type(error).__name__}: {redact(str(error))}") from error


def _tried(attempts: int) -> str:
    return "It was tried once." if attempts == 1 else f"It was tried {attempts} times."


def _words(error: RunnerError) -> str:
    return redact(f"{error.message} {error.advice}".strip())
