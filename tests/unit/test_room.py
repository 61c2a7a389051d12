"""Looks that sensors share, and the limits of the systems they look at."""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import pytest

from runner.errors import Parked, SourceDown, Throttled
from runner.job import Limits
from runner.testing.clock import ManualClock
from sensors.room import Room


class Source:
    """Counts who looks, and gives the pages that the test says."""

    def __init__(self, pages: int = 3, fails_at: int | None = None) -> None:
        self.looks = self.closed = 0
        self.gate = anyio.Event()
        self.gate.set()
        self._pages, self._fails_at = pages, fails_at

    async def read(self) -> AsyncGenerator[int, None]:
        self.looks += 1
        try:
            for page in range(self._pages):
                await self.gate.wait()
                if page == self._fails_at:
                    raise SourceDown("gone")
                yield page
        finally:
            self.closed += 1


async def collect(room: Room, source: Source, into: list[list[int]], key: str = "k", *, most: int = 99) -> None:
    got: list[int] = []
    into.append(got)
    async with contextlib.aclosing(room.pages("system", key, source.read)) as pages:
        async for page in pages:
            got.append(page)
            if len(got) == most:
                return


async def test_who_looks_at_the_same_moment_looks_once():
    clock, source, got = ManualClock(), Source(), []
    async with Room(clock) as room, anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(collect, room, source, got)
        await clock.advance(1)
    assert (source.looks, source.closed) == (1, 1)
    assert got == [[0, 1, 2]] * 50


async def test_who_comes_late_looks_again():
    clock, source, got = ManualClock(), Source(), []
    async with Room(clock) as room, anyio.create_task_group() as group:
        group.start_soon(collect, room, source, got)
        await clock.advance(1)
        group.start_soon(collect, room, source, got)
        await clock.advance(1)
    assert (source.looks, got) == (2, [[0, 1, 2]] * 2)


async def test_who_leaves_early_takes_nothing_from_the_others():
    clock, source, got = ManualClock(), Source(), []
    async with Room(clock) as room, anyio.create_task_group() as group:
        group.start_soon(lambda: collect(room, source, got, most=1))
        group.start_soon(collect, room, source, got)
        await clock.advance(1)
    assert sorted(got) == [[0], [0, 1, 2]]


async def test_the_last_who_leaves_ends_the_look_and_the_next_begins_anew():
    clock, source, got = ManualClock(), Source(), []
    source.gate = anyio.Event()
    async with Room(clock) as room, anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await collect(room, source, got)

        group.start_soon(cancelled)
        await clock.advance(1)
        scope.cancel()
        # In the very round in which the last one leaves.
        group.start_soon(collect, room, source, got)
        source.gate.set()
        await clock.advance(1)
    assert got[-1] == [0, 1, 2]
    assert source.looks == source.closed


async def test_an_error_reaches_everybody():
    clock, source = ManualClock(), Source(fails_at=1)
    failed: list[str] = []

    async def one(room: Room) -> None:
        try:
            await collect(room, source, [])
        except SourceDown as error:
            failed.append(error.message)

    async with Room(clock) as room, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one, room)
        await clock.advance(1)
    assert failed == ["gone"] * 3


async def test_looks_at_one_system_are_bounded_and_do_not_keep_others_out():
    clock, at_work, most = ManualClock(), 0, 0

    async def hang() -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await clock.sleep(100)
        at_work -= 1
        return 1

    async def quick() -> int:
        return 2

    async with Room(clock, polls=6) as room, anyio.create_task_group() as group:
        room.limits("slow", Limits(connections=4))
        for _ in range(20):
            group.start_soon(room.look, "slow", hang)
        await clock.advance(1)
        assert await room.look("other", quick) == 2
        assert most == 4
        group.cancel_scope.cancel()


async def test_a_system_that_asks_for_a_pause_is_left_alone_by_everybody():
    clock, asked = ManualClock(), 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Throttled("slow down", retry_after=60)
        return asked

    async with Room(clock) as room:
        with pytest.raises(Throttled):
            await room.look("system", read)
        with pytest.raises(Parked) as caught:
            await room.look("system", read)
        assert (caught.value.resume_at - clock.now()).total_seconds() == 60
        await clock.advance(60)
        assert await room.look("system", read) == 2
