"""One coroutine per table, bounded and lazily started; a table's failure is a record, not a crash."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import anyio

from runner.clock import Clock
from runner.errors import Parked
from runner.tasks import task_group

ItemT = TypeVar("ItemT")


class FanOut(Generic[ItemT]):
    """Runs work over items, at most so many at once.

    Args:
        work: Does one item. It keeps its own failures as records (L6); what it lets out stops all.
            Parked gives the slot up until a known time.
        width: How many items are in work at once.
        patience: Parked items are waited for if they are due within this time.
    """

    def __init__(
        self, work: Callable[[ItemT], Awaitable[None]], *, width: int, clock: Clock, patience: timedelta
    ) -> None:
        self._work = work
        self._clock = clock
        self._patience = patience
        self._slots = anyio.CapacityLimiter(width)
        self._parked: list[tuple[datetime, int, ItemT]] = []
        self._draining = False
        self._order = 0
        self._woken = anyio.Event()

    def drain(self) -> None:
        """Start no more items; those at work go on."""
        self._draining = True
        self._woken.set()

    async def run(self, items: Iterable[ItemT]) -> list[ItemT]:
        """Do every item.

        Args:
            items: Taken one by one as slots come free, so a generator never runs ahead.

        Returns:
            The items that were not done: never started because of drain(), or still parked.
        """
        left: list[ItemT] = []
        source = iter(items)
        async with task_group() as group:
            for item in source:
                if not await self._start(group, item):
                    left.append(item)
                    break
            while not self._draining and (self._parked or self._slots.borrowed_tokens):
                await self._next_parked(group)
        left.extend(source)
        left.extend(item for _, _, item in self._parked)
        return left

    async def _start(self, group: anyio.abc.TaskGroup, item: ItemT) -> bool:
        holder = object()
        await self._slots.acquire_on_behalf_of(holder)
        if self._draining:
            self._slots.release_on_behalf_of(holder)
            return False
        group.start_soon(self._one, holder, item)
        return True

    async def _one(self, holder: object, item: ItemT) -> None:
        try:
            await self._work(item)
        except Parked as parked:
            self._order += 1
            heapq.heappush(self._parked, (parked.resume_at, self._order, item))
        finally:
            self._slots.release_on_behalf_of(holder)
            self._woken.set()

    async def _next_parked(self, group: anyio.abc.TaskGroup) -> None:
        """Start the parked item that is due, or wait for one, or for work that may park."""
        wait = None
        if self._parked:
            wait = (self._parked[0][0] - self._clock.now()).total_seconds()
            if wait <= 0:
                due = heapq.heappop(self._parked)
                if not await self._start(group, due[2]):
                    heapq.heappush(self._parked, due)
                return
            if wait > self._patience.total_seconds() and not self._slots.borrowed_tokens:
                self._draining = True
                return
        self._woken = anyio.Event()
        if wait is None or wait > self._patience.total_seconds():
            await self._woken.wait()
            return
        async with task_group() as timer:
            timer.start_soon(self._ring, wait)
            await self._woken.wait()
            timer.cancel_scope.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._woken.set()
