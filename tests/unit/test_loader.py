"""What waits for one table is loaded together, and everybody who waits is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from runner.errors import DestinationError, LeaseLost
from runner.load import ChunkLoad, Lease, Outcome, Publication, TableWork, Target
from runner.loader import Loader
from runner.testing.clock import ManualClock

LEASE = Lease("job", "run", "token", "host", 1)


class FakeWriter:
    """Keeps what it was given; the first package waits until it may go on."""

    def __init__(self) -> None:
        self.packages: list[list[tuple[str, list[str], bool]]] = []
        self.rested = 0
        self.error: Exception | None = None
        self.refused: set[str] = set()

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        self.packages.append(
            [(work.target.name, [one.id for one in work.chunks], work.publication is not None) for work in works]
        )
        if self.error is not None:
            raise self.error
        return [
            Outcome(error=LeaseLost() if {work.target.name, *(one.id for one in work.chunks)} & self.refused else None)
            for work in works
        ]

    def rest(self) -> None:
        self.rested += 1


def work(table: str, *chunks: str, publishes: bool = False, fresh: bool = False) -> TableWork:
    loads = [ChunkLoad(chunk, 1, (), 1, 10) for chunk in chunks]
    publication = Publication("1.0", "full", True, dict.fromkeys(chunks, 1), "digest") if publishes else None
    return TableWork(Target(table, ()), loads, publication, fresh=fresh)


async def loaded(writer: Any, *works: TableWork) -> list[str]:
    """Give a loader all works at once; return how each ended."""
    loader = Loader(writer, LEASE, ManualClock(), patience=0.0)
    ends = ["" for _ in works]

    async def one(number: int, what: TableWork) -> None:
        try:
            await loader.load(what)
            ends[number] = "loaded"
        except (DestinationError, LeaseLost) as error:
            ends[number] = type(error).__name__

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as waiting:
            for number, what in enumerate(works):
                waiting.start_soon(one, number, what)
            await anyio.lowlevel.checkpoint()
            group.start_soon(loader.run)
        group.cancel_scope.cancel()
    loader.close()
    return ends


async def test_chunks_of_a_table_are_loaded_as_one_work():
    writer = FakeWriter()
    ends = await loaded(
        writer, work("a", "1", fresh=True), work("b", "1", fresh=True), work("a", "2"), work("b", "2"), work("a", "3")
    )
    assert ends == ["loaded"] * 5
    assert writer.packages == [[("a", ["1", "2", "3"], False), ("b", ["1", "2"], False)]]


async def test_a_publication_is_a_work_of_its_own():
    writer = FakeWriter()
    ends = await loaded(writer, work("a", "1"), work("b", "1", publishes=True, fresh=True), work("a", "2"))
    assert ends == ["loaded"] * 3
    assert writer.packages == [[("a", ["1", "2"], False), ("b", ["1"], True)]]


async def test_what_begins_anew_is_not_added_to_what_was_before():
    writer = FakeWriter()
    await loaded(writer, work("a", "1"), work("a", "1", fresh=True), work("a", "2"))
    assert writer.packages == [[("a", ["1"], False), ("a", ["1", "2"], False)]]


async def test_a_chunk_that_comes_again_replaces_what_it_was():
    writer = FakeWriter()
    await loaded(writer, work("a", "1"), work("a", "2"), work("a", "1"), work("a", "3"))
    assert writer.packages == [[("a", ["1", "2"], False), ("a", ["1", "3"], False)]]


async def test_all_who_wait_for_a_work_are_told_its_error():
    writer = FakeWriter()
    writer.refused = {"a"}
    assert await loaded(writer, work("a", "1"), work("b", "1"), work("a", "2")) == ["LeaseLost", "loaded", "LeaseLost"]


async def test_a_chunk_that_cannot_be_loaded_does_not_take_the_others_with_it():
    writer = FakeWriter()
    writer.refused = {"2"}
    ends = await loaded(writer, work("a", "1", fresh=True), work("a", "2"), work("a", "3"))
    assert ends == ["loaded", "LeaseLost", "loaded"]
    assert [chunks for ((_, chunks, _),) in writer.packages] == [["1", "2", "3"], ["1"], ["2"], ["3"]]


@pytest.mark.parametrize("error", [DestinationError("gone"), RuntimeError("a driver's own")])
async def test_all_are_told_when_the_destination_fails(error: Exception):
    writer = FakeWriter()
    writer.error = error
    assert await loaded(writer, work("a", "1"), work("a", "2"), work("b", "1")) == ["DestinationError"] * 3


async def test_the_work_that_was_handed_over_is_not_changed():
    writer, first = FakeWriter(), work("a", "1")
    before = replace(first, chunks=list(first.chunks))
    await loaded(writer, first, work("a", "2"))
    assert first == before
