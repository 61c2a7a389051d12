"""Spool to destination: the one loader that feeds a writer with what is ready."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio

from runner.clock import Clock
from runner.errors import DestinationBusy, DestinationDown, DestinationError, RunnerError
from runner.events import Spent, Stream
from runner.load import RENEW_SECONDS, Lease, Outcome, TableWork, Writer
from runner.profile import stage
from runner.secrets import redact

_PACKAGE_WORKS = 64
_PACKAGE_BYTES = 512 * 2**20
_HOLD_SECONDS = 5.0
_LINGER_SECONDS = 0.25


class Loader:
    """Feeds one writer: gathers what is ready into packages while the one before is loading.

    Args:
        writer: What is fed; called in a worker thread, one call at a time.
        patience: How long a busy or absent destination is waited for, in seconds.
        stream: Where it is told what a table cost.
    """

    def __init__(
        self, writer: Writer, lease: Lease, clock: Clock, *, patience: float = 60.0, stream: Stream | None = None
    ) -> None:
        self.writer = writer
        self._stream = stream
        self._lease = lease
        self._clock = clock
        self._patience = patience
        self._turn = anyio.Lock()
        self._interrupted = False
        self._send, self._receive = anyio.create_memory_object_stream[tuple[TableWork, "_Answer"]](math.inf)

    async def load(self, work: TableWork) -> Outcome:
        """Do a table's work; returns when it is durable.

        Raises:
            RunnerError: Of this table, or of the destination as a whole.
        """
        answer = _Answer()
        self._send.send_nowait((work, answer))
        await answer.event.wait()
        if answer.error is not None:
            raise answer.error
        assert answer.outcome is not None
        if answer.outcome.error is not None:
            raise answer.outcome.error
        return answer.outcome

    async def run(self) -> None:
        """Load packages until cancelled; a package under way is always awaited."""
        while True:
            work: tuple[TableWork, _Answer] | None = await self._receive.receive()
            held = self._clock.monotonic()
            while work is not None:
                await self._package(work)
                work = await self._next(held)
            await self.call(self.writer.rest)

    async def _next(self, held: float) -> tuple[TableWork, _Answer] | None:
        """Return work that comes right after a package; None lets others at the destination."""
        if self._clock.monotonic() - held > _HOLD_SECONDS:
            return None
        with anyio.move_on_after(_LINGER_SECONDS):
            return await self._receive.receive()
        return None

    async def _package(self, first: tuple[TableWork, _Answer]) -> None:
        package = [first]
        size = first[0].bytes
        while len(package) < _PACKAGE_WORKS and size < _PACKAGE_BYTES:
            try:
                package.append(self._receive.receive_nowait())
            except anyio.WouldBlock:
                break
            size += package[-1][0].bytes
        with anyio.CancelScope(shield=True):
            await self._load(package)

    async def renew(self) -> None:
        """Keep the leases alive until cancelled."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            # A destination that is down fails the loads themselves; the next renewal may work again.
            with contextlib.suppress(RunnerError):
                await self.call(lambda: self.writer.renew(self._lease))

    def interrupt(self) -> None:
        """End the call under way and wait for nothing any more: a driver's thread cannot be cancelled."""
        self._interrupted = True
        self.writer.interrupt()

    def close(self) -> None:
        """Take no more work."""
        self._send.close()
        self._receive.close()

    async def call(self, blocking: Callable[[], Any], *, patience: float | None = None) -> Any:
        """Call the writer in a worker thread, after the package under way.

        Args:
            patience: Another one than the loader's.

        Raises:
            DestinationError: The destination stayed busy or down for too long.
        """

        async def once() -> Any:
            async with self._turn:
                # A driver's thread cannot be cancelled, only awaited.
                with anyio.CancelScope(shield=True):
                    return await anyio.to_thread.run_sync(blocking)

        return await self._patiently(once, self._patience if patience is None else patience)

    async def _load(self, package: list[tuple[TableWork, _Answer]]) -> None:
        works, parts = _joined(package)
        try:
            with stage("load"):
                outcomes = await self.call(lambda: self.writer.apply(self._lease, works))
        except RunnerError as error:
            for _, answer in package:
                answer.fail(error)
        except Exception as error:  # a driver may raise anything; the tables of this package fail, the others go on
            told = DestinationError(f"An unexpected {type(error).__name__}: {redact(str(error))}")
            for _, answer in package:
                answer.fail(told)
        else:
            self._tell_costs(works, outcomes)
            for group, outcome in zip(parts, outcomes, strict=True):
                if len(group) == 1 or outcome.error is None:
                    for _, answer in group:
                        answer.give(outcome)
                else:
                    # One chunk must not take the others with it.
                    for part in group:
                        await self._load([part])

    def _tell_costs(self, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        for work, outcome in zip(works, outcomes, strict=True):
            if outcome.cost is not None and self._stream is not None:
                cost = outcome.cost
                table = work.target.source_table
                self._stream.emit(Spent(table, cost.statements, cost.staged, cost.credits, cost.billed))

    async def _patiently(self, call: Callable[[], Awaitable[Any]], patience: float) -> Any:
        return await patiently(call, self._clock, lambda: 0.0 if self._interrupted else patience)


def _joined(
    package: Sequence[tuple[TableWork, _Answer]],
) -> tuple[list[TableWork], list[list[tuple[TableWork, _Answer]]]]:
    """Return works of which each loads all chunks of its table that wait, and what each is joined of."""
    works: list[TableWork] = []
    parts: list[list[tuple[TableWork, _Answer]]] = []
    places: dict[str, int] = {}
    for work, answer in package:
        place = places.get(work.target.name)
        if place is not None and work.publication is None and _adds_to(works[place], work):
            works[place] = replace(works[place], chunks=[*works[place].chunks, *work.chunks])
            parts[place].append((work, answer))
            continue
        if work.publication is None:
            places[work.target.name] = len(works)
        works.append(work)
        parts.append([(work, answer)])
    return works, parts


def _adds_to(before: TableWork, work: TableWork) -> bool:
    """Tell whether two works are the same as one: nothing begins anew, and no chunk comes twice."""
    return not work.fresh and {chunk.id for chunk in before.chunks}.isdisjoint(chunk.id for chunk in work.chunks)


async def patiently(call: Callable[[], Awaitable[Any]], clock: Clock, patience: Callable[[], float]) -> Any:
    """Call until the destination is neither busy nor down.

    Args:
        patience: How long that may take, in seconds; asked again each time.

    Raises:
        DestinationError: It stayed busy or down for too long.
    """
    began = clock.monotonic()
    wait = 0.1
    while True:
        try:
            return await call()
        except (DestinationBusy, DestinationDown):
            if clock.monotonic() + wait > began + patience():
                raise
        await clock.sleep(wait)
        wait = min(wait * 2, 5.0)


class _Answer:
    """What became of one work."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.outcome: Outcome | None = None
        self.error: RunnerError | None = None

    def give(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.event.set()

    def fail(self, error: RunnerError) -> None:
        self.error = error
        self.event.set()
