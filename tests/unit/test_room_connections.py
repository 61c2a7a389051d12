"""Connections of the room: in tasks of their own, opened anew when they break, closed in order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest

from runner.errors import SourceDown
from runner.testing.clock import ManualClock
from sensors.room import Room


class Opened:
    """Connections with a task group inside."""

    def __init__(self) -> None:
        self.count = self.closed = 0
        self.fails = False
        self.breaks = anyio.Event()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[int]:
        if self.fails:
            raise SourceDown("it is down")
        self.count += 1
        number, self.breaks = self.count, anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, self.breaks)
            yield number
            await anyio.sleep(0)  # cancelled here, it would not get to the next line
            self.closed += 1
            group.cancel_scope.cancel()

    async def _watch(self, breaks: anyio.Event) -> None:
        await breaks.wait()
        raise SourceDown("it broke")


async def test_one_is_opened_for_all_and_outlives_who_asked_first() -> None:
    opened = Opened()
    async with Room(ManualClock()) as room:
        found: list[int] = []

        async def ask() -> None:
            found.append(await room.connection("key", opened.connect))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
        await ask()
        assert found == [1, 1, 1, 1]
        assert opened.closed == 0
    assert opened.closed == 1


async def test_what_breaks_is_opened_anew_and_takes_nobody_with_it() -> None:
    opened = Opened()
    clock = ManualClock()
    async with Room(clock) as room:
        opened.fails = True
        with pytest.raises(SourceDown, match="it is down"):
            await room.connection("key", opened.connect)
        opened.fails = False
        assert await room.connection("key", opened.connect) == 1
        opened.breaks.set()
        await clock.settle()
        assert await room.connection("key", opened.connect) == 2
    assert (opened.count, opened.closed) == (2, 1)
