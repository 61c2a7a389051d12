"""What the sensors of one process share: the clock, connections, limits, looks under way, and their memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.streams.memory import MemoryObjectSendStream

from runner.clock import Clock
from runner.errors import SensorError, Throttled
from runner.job import Limits
from runner.limits import SourceLimits
from runner.tasks import is_contained

FoundT = TypeVar("FoundT")

# Those who are due at the same moment join one look: it begins that many seconds later.
_GATHER = 0.02
_PAUSE = 5.0
_PARK = timedelta(seconds=5)
_CLOSING = 10.0


class Memory(Protocol):
    """What sensors remember beside their cursors, by sensor and key."""

    async def recall(
        self, sensor: str, first: str = "", last: str | None = None, limit: int | None = None
    ) -> dict[str, str]:
        """Return the keys from first to last, both included, in the order of their UTF-8 bytes, with their texts.

        Args:
            limit: How many, at most.
        """
        ...


class Forgetful:
    """A memory for sensors that are tried out: it never holds anything."""

    async def recall(
        self, sensor: str, first: str = "", last: str | None = None, limit: int | None = None
    ) -> dict[str, str]:
        """Return nothing."""
        return {}


class Room:
    """The room; ``async with`` opens it, and closes every connection in the end.

    Args:
        polls: How many looks are in flight at once, of all systems.
        environment: The environment that was asked for (--env), for jobs that actions run.

    Attributes:
        clock: Time, sleep and randomness.
        memory: What sensors remember.
    """

    def __init__(
        self, clock: Clock, memory: Memory | None = None, *, polls: int = 200, environment: str | None = None
    ) -> None:
        self.clock = clock
        self.environment = environment
        self.memory: Memory = memory or Forgetful()
        self._polls = anyio.CapacityLimiter(polls)
        self._systems: dict[Hashable, _System] = {}
        self._sensors: Counter[tuple[Hashable, Hashable]] = Counter()
        self._connections: dict[Hashable, _Held] = {}
        self._turns: dict[Hashable, anyio.Lock] = {}
        self._looks: dict[Hashable, _Look[Any]] = {}
        self._group: TaskGroup

    async def __aenter__(self) -> Room:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._close()
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    # Connections.

    async def connection(self, key: Hashable, connect: Callable[[], AbstractAsyncContextManager[FoundT]]) -> FoundT:
        """Return the connection of that key, opened when it is needed first and closed with the room.

        It serves many looks at once and mends itself: a session, a pool, a client that connects again. It lives in a
        task of its own, so that it may have task groups inside; one that breaks is opened anew for who asks next.

        Raises:
            RunnerError: It cannot be opened; the next one who asks tries again.
        """
        held = self._connections.get(key)
        if held is None:
            async with self._turns.setdefault(key, anyio.Lock()):
                held = self._connections.get(key)
                if held is None:
                    held = self._connections[key] = await self._group.start(self._hold, key, connect)
        found: FoundT = held.value
        return found

    async def _hold(
        self,
        key: Hashable,
        connect: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        task_status: TaskStatus[_Held],
    ) -> None:
        held: _Held | None = None
        try:
            async with connect() as value:
                held = _Held(value)
                task_status.started(held)
                await held.leave.wait()
        except Exception:
            if held is None:
                raise
            # Who uses it is told by what it asks; the others need not end with it.
        finally:
            if held is not None:
                held.gone.set()
                if self._connections.get(key) is held:
                    del self._connections[key]

    async def _close(self) -> None:
        """Close every connection, all at once and in order: what is cancelled could not say good-bye."""
        held = list(self._connections.values())
        for one in held:
            one.leave.set()
        with anyio.move_on_after(_CLOSING):
            for one in held:
                await one.gone.wait()

    # Limits.

    def limits(self, system: Hashable, limits: Limits | None = None) -> SourceLimits:
        """Return the limits that everything which looks at a system shares; the first who asks sets them."""
        return self._system(system, limits).limits

    def enrol(self, system: Hashable, share: Hashable) -> None:
        """Tell that one more sensor looks at this part of a system, so that all of them look together."""
        self._sensors[system, share] += 1

    def dismiss(self, system: Hashable, share: Hashable) -> None:
        """Tell that one sensor fewer does."""
        self._sensors[system, share] -= 1

    def together(self, system: Hashable, share: Hashable) -> bool:
        """Tell whether several sensors look at this part of a system."""
        return self._sensors[system, share] > 1

    def _system(self, system: Hashable, limits: Limits | None = None) -> _System:
        if system not in self._systems:
            self._systems[system] = _System(limits or Limits(), self.clock)
        return self._systems[system]

    # Looks.

    async def look(self, system: Hashable, read: Callable[[], Awaitable[FoundT]]) -> FoundT:
        """Look at a system once, under its limits."""
        async with self._turn(self._system(system)):
            return await read()

    async def pages(
        self, system: Hashable, key: Hashable, read: Callable[[], AsyncGenerator[FoundT, None]]
    ) -> AsyncGenerator[FoundT, None]:
        """Look at a system page by page, together with everybody who asks for the same at the same moment.

        A page is given to all before the next is read, so that memory is bounded by one page. Close it
        (``contextlib.aclosing``) when you leave it in the middle: the last who leaves ends the look.

        Args:
            key: What is looked at: who asks with an equal key is given the same pages, so nobody may change them.
            read: What looks. It is called once, under the system's limits; to be cancelled must be safe for it.

        Raises:
            RunnerError: As ``read`` raised it, for everybody.
        """
        whole = (system, key)
        look: _Look[FoundT] | None = self._looks.get(whole)
        if look is None or look.begun:
            look = self._looks[whole] = _Look(read)
            self._group.start_soon(self._run, whole, look)
        async with contextlib.aclosing(look.join()) as found:
            async for page in found:
                yield page

    @contextlib.asynccontextmanager
    async def _turn(self, system: _System) -> AsyncIterator[None]:
        """Hold the system's slot and then the process's: who queues behind a slow system holds nothing."""
        holder = object()
        try:
            await _take(system.turn, holder)
            try:
                async with system.limits.request():
                    await _take(self._polls, holder)
                    try:
                        yield
                    finally:
                        self._polls.release_on_behalf_of(holder)
            finally:
                system.turn.release_on_behalf_of(holder)
        except Throttled as error:
            system.limits.pause.request(_PAUSE if error.retry_after is None else error.retry_after)
            system.limits.concurrency.refused()
            raise
        system.limits.concurrency.succeeded()

    async def _run(self, whole: tuple[Hashable, Hashable], look: _Look[Any]) -> None:
        system = self._system(whole[0])
        try:
            with look.scope:
                await self.clock.sleep(_GATHER)
                async with self._turn(system):
                    await look.run(system.limits)
        except BaseException as error:  # whatever it is, it is told to those who wait for it
            if not is_contained(error):
                raise
            look.fail(SensorError(f"The look broke off: {error!r}.") if not isinstance(error, Exception) else error)
        finally:
            look.close()
            if self._looks.get(whole) is look:
                del self._looks[whole]


class _Held:
    """A connection that is open.

    Attributes:
        leave: Set when it is to be closed; ``gone`` when it is.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self.leave = anyio.Event()
        self.gone = anyio.Event()


class _System:
    """What is known of one system."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        # Who has to wait for longer is told when to come again: a poll that waited would run into its deadline.
        self.limits = SourceLimits.of(limits.model_copy(update={"park": _PARK}), clock)
        self.turn = anyio.CapacityLimiter(limits.connections)


class _Look(Generic[FoundT]):
    """One look and those who joined it.

    Attributes:
        begun: Whether its first page has been read: who comes now comes too late.
        scope: Ends it.
    """

    def __init__(self, read: Callable[[], AsyncGenerator[FoundT, None]]) -> None:
        self.begun = False
        self.scope = anyio.CancelScope()
        self._read = read
        self._streams: set[MemoryObjectSendStream[FoundT]] = set()
        self._error: Exception | None = None

    async def join(self) -> AsyncGenerator[FoundT, None]:
        """Return its pages.

        Raises:
            Exception: As it was raised while reading.
        """
        send, receive = anyio.create_memory_object_stream[FoundT](0)
        self._streams.add(send)
        try:
            async for page in receive:
                yield page
        finally:
            receive.close()
            self._leave(send)
        if self._error is not None:
            raise self._error

    async def run(self, limits: SourceLimits) -> None:
        """Read page by page and give each to everybody."""
        async with contextlib.aclosing(self._read()) as pages:
            async for page in pages:
                self.begun = True
                for stream in tuple(self._streams):
                    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await stream.send(page)
                await limits.pause.wait()

    def fail(self, error: Exception) -> None:
        """Tell everybody what went wrong."""
        self.begun = True
        self._error = error

    def close(self) -> None:
        """Tell everybody that there is no more."""
        self.begun = True
        for stream in tuple(self._streams):
            stream.close()

    def _leave(self, stream: MemoryObjectSendStream[FoundT]) -> None:
        self._streams.discard(stream)
        stream.close()
        if not self._streams:
            # Who asks from now on begins a look of their own.
            self.begun = True
            self.scope.cancel()


async def _take(limiter: anyio.CapacityLimiter, holder: object) -> None:
    """Take a token; where one is free, without a round of the loop."""
    try:
        limiter.acquire_on_behalf_of_nowait(holder)
    except anyio.WouldBlock:
        await limiter.acquire_on_behalf_of(holder)
