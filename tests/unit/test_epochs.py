"""One consistent picture after the other, each shared by all who read it."""

import contextlib
from datetime import timedelta

import anyio
import pytest

from runner.epochs import Epochs
from runner.errors import SourceDown, Unreachable
from runner.events import EpochBegan, Stream, Warned
from runner.source import Position
from runner.tasks import task_group
from runner.testing.clock import ManualClock

HALF_HOUR = timedelta(minutes=30)


class FakeSession:
    def __init__(self, number: int) -> None:
        self.number = number
        self.position = Position(True, f"token-{number}", "0/1")


class FakeSource:
    """Counts the sessions that are open; refuses as often as it is told to."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.open: list[int] = []
        self.opened: list[int] = []

    @contextlib.asynccontextmanager
    async def session(self, epoch: int):
        await anyio.lowlevel.checkpoint()
        if self.refusals:
            raise self.refusals.pop(0)
        self.open.append(epoch)
        self.opened.append(epoch)
        try:
            yield FakeSession(epoch)
        finally:
            self.open.remove(epoch)


class Case:
    def __init__(self, *refusals: Exception) -> None:
        self.clock = ManualClock()
        self.source = FakeSource(*refusals)
        self.events: list[EpochBegan] = []

    @contextlib.asynccontextmanager
    async def epochs(self):
        stream = Stream(self.clock)
        stream.subscribe(lambda _, event: self.events.append(event))
        async with task_group() as group:
            epochs = Epochs(self.source, group, self.clock, stream, longest=HALF_HOUR)
            yield epochs
            epochs.close()
        assert self.source.open == []


async def test_one_picture_for_all_who_ask():
    case, numbers = Case(), []

    async def read(epochs: Epochs) -> None:
        async with epochs.current() as epoch:
            numbers.append((epoch.number, epoch.session.number))
            await anyio.lowlevel.checkpoint()

    async with case.epochs() as epochs, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(read, epochs)
    assert numbers == [(1, 1)] * 5
    assert case.source.opened == [1]
    assert [(event.epoch, event.consistent, event.lsn, event.reason) for event in case.events] == [
        (1, True, "0/1", "first read")
    ]


async def test_it_stays_open_between_two_readers():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current():
            pass
        await case.clock.settle()
        assert case.source.open == [1]
        async with epochs.current() as epoch:
            assert epoch.number == 1


async def test_a_picture_that_grew_old_is_replaced_and_ends_with_its_last_reader():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current() as first:
            await case.clock.advance(1800)
            async with epochs.current() as same:
                assert same is first
            await case.clock.advance(1)
            async with epochs.current() as second:
                assert second.number == 2
                assert sorted(case.source.open) == [1, 2]
        await case.clock.settle()
        assert case.source.open == [2]
    began = [event for event in case.events if isinstance(event, EpochBegan)]
    assert [event.reason for event in began] == ["first read", "the snapshot grew old"]


async def test_a_picture_that_is_read_for_too_long_is_warned_of_again_and_again():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current():
            await case.clock.advance(1799)
            assert not [event for event in case.events if isinstance(event, Warned)]
            await case.clock.advance(1802)
        warnings = [event.message for event in case.events if isinstance(event, Warned)]
        assert len(warnings) == 2
        assert "30 min 00 s old and still read" in warnings[0]
        epochs.close()
        await case.clock.settle()
        assert case.clock.sleepers == 0


async def test_a_picture_that_grew_old_unread_is_ended():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current():
            pass
        await case.clock.advance(1800)
        assert case.source.open == []
        async with epochs.current() as epoch:
            assert epoch.number == 2
    assert not [event for event in case.events if isinstance(event, Warned)]


async def test_an_ended_picture_is_lent_to_nobody():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current() as first:
            epochs.end(first, "the snapshot was lost")
            epochs.end(first, "said twice")
            async with epochs.current() as second:
                assert second.number == 2
            assert case.source.open == [1, 2]
        await case.clock.settle()
        assert case.source.open == [2]
    assert case.events[1].reason == "the snapshot was lost"


async def test_ending_an_old_picture_does_not_end_the_new_one():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current() as first:
            epochs.end(first, "lost")
            async with epochs.current() as second:
                pass
            epochs.end(first, "lost again")
            async with epochs.current() as third:
                assert third is second


async def test_a_picture_nobody_reads_is_ended_while_tables_are_parked():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current():
            epochs.end_idle("tables were parked")
            assert case.source.open == [1]
        epochs.end_idle("tables were parked")
        await case.clock.settle()
        assert case.source.open == []
        epochs.end_idle("tables were parked")
        async with epochs.current() as epoch:
            assert epoch.number == 2
    assert case.events[1].reason == "tables were parked"


async def test_numbers_go_on_after_an_earlier_process():
    case = Case()
    async with case.epochs() as epochs:
        async with epochs.current() as first:
            assert first.number == 1
        epochs.start_after(7)
        async with epochs.current() as same:
            assert (same is first, same.number) == (True, 8)
        epochs.end(same, "over")
        async with epochs.current() as following:
            assert following.number == 9


async def test_close_ends_what_nobody_reads():
    case = Case()
    async with case.epochs() as epochs:
        epochs.close()
        async with epochs.current():
            pass
        epochs.close()
        await case.clock.settle()
        assert case.source.open == []


@pytest.mark.parametrize("error", [SourceDown("away"), Unreachable("nobody")])
async def test_a_refusal_reaches_the_one_who_asked_as_itself(error):
    case = Case(error)
    async with case.epochs() as epochs:
        with pytest.raises(type(error)) as raised:
            async with epochs.current():
                pass
        assert raised.value is error
        async with epochs.current() as epoch:
            assert epoch.number >= 1
    assert len(case.events) == 1


async def test_a_failing_reader_gives_it_back():
    case = Case()
    async with case.epochs() as epochs:
        with pytest.raises(ValueError, match="mine"):
            async with epochs.current() as epoch:
                raise ValueError("mine")
        assert epoch.users == 0
