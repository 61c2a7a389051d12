"""One coroutine per item, bounded and lazily started."""

from datetime import timedelta

import anyio
import pytest

from runner.errors import Parked, SourceDown
from runner.fanout import FanOut
from runner.testing.clock import ManualClock

PATIENCE = timedelta(minutes=15)


def parked(clock: ManualClock, seconds: float) -> Parked:
    return Parked(clock.now() + timedelta(seconds=seconds))


async def test_every_item_is_done_once_and_no_more_at_once_than_the_width():
    done, active, most = [], 0, 0

    async def work(item: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        active -= 1
        done.append(item)

    left = await FanOut(work, width=3, clock=ManualClock(), patience=PATIENCE).run(range(100))
    assert left == []
    assert sorted(done) == list(range(100))
    assert most == 3


async def test_nothing_to_do():
    assert await FanOut(anyio.sleep, width=3, clock=ManualClock(), patience=PATIENCE).run([]) == []


async def test_a_generator_of_fifty_thousand_items_never_runs_ahead():
    width, waiting, taken, ended, ahead = 8, 0, 0, 0, 0
    gate = anyio.Event()

    def items():
        nonlocal taken, ahead
        for number in range(50_000):
            taken += 1
            ahead = max(ahead, taken - ended)
            yield number

    async def work(item: int) -> None:
        nonlocal waiting, ended, gate
        waiting += 1
        if waiting == width:  # all of a width's items are in work: let them end
            waiting = 0
            gate.set()
            gate = anyio.Event()
        else:
            await gate.wait()
        ended += 1

    left = await FanOut(work, width=width, clock=ManualClock(), patience=PATIENCE).run(items())
    assert (left, ended) == ([], 50_000)
    # One more than the width: the item that waits for the next slot.
    assert width <= ahead <= width + 1


async def test_a_slow_item_does_not_hold_up_the_others():
    clock, done = ManualClock(), []

    async def work(item: str) -> None:
        if item == "slow":
            await clock.sleep(100)
        done.append(item)

    fan = FanOut(work, width=2, clock=clock, patience=PATIENCE)
    async with anyio.create_task_group() as group:
        group.start_soon(fan.run, ["slow", "a", "b", "c"])
        await clock.settle()
        assert done == ["a", "b", "c"]
        await clock.advance(100)
    assert done[-1] == "slow"


async def test_a_parked_item_gives_its_slot_up_and_comes_back_when_due():
    clock, log = ManualClock(), []

    async def work(item: str) -> None:
        log.append((item, clock.monotonic()))
        if item == "p" and clock.monotonic() < 60:
            raise parked(clock, 60)

    fan, left = FanOut(work, width=1, clock=clock, patience=PATIENCE), []

    async def run() -> None:
        left.extend(await fan.run(["p", "a", "b"]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(59)
        assert log == [("p", 0), ("a", 0), ("b", 0)]
        await clock.advance(1)
    assert log[-1] == ("p", 60)
    assert left == []


async def test_parked_items_come_back_in_the_order_they_are_due():
    clock, again = ManualClock(auto=True), []

    async def work(item: int) -> None:
        if item in again_from:
            again_from.remove(item)
            raise parked(clock, item)
        again.append(item)

    again_from = {30, 10, 20}
    assert await FanOut(work, width=1, clock=clock, patience=PATIENCE).run([30, 10, 20]) == []
    assert again == [10, 20, 30]
    assert clock.monotonic() == 30


async def test_an_item_parked_for_too_long_is_returned():
    clock = ManualClock()

    async def work(item: str) -> None:
        if item == "p":
            raise parked(clock, 901)

    assert await FanOut(work, width=2, clock=clock, patience=PATIENCE).run(["p", "a"]) == ["p"]
    assert clock.slept == []


async def test_an_item_may_become_worth_waiting_for_while_others_work():
    clock, tried = ManualClock(), []

    async def work(item: str) -> None:
        if item == "slow":
            await clock.sleep(600)
        else:
            tried.append(clock.monotonic())
            if len(tried) == 1:
                raise parked(clock, 1200)

    fan, left = FanOut(work, width=2, clock=clock, patience=PATIENCE), []

    async def run() -> None:
        left.extend(await fan.run(["p", "slow"]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(600)
        await clock.advance(600)
    assert tried == [0, 1200]
    assert left == []


async def test_drain_starts_nothing_more():
    clock, done = ManualClock(), []

    async def work(item: int) -> None:
        await clock.sleep(10)
        done.append(item)

    fan, left = FanOut(work, width=2, clock=clock, patience=PATIENCE), []

    async def run() -> None:
        left.extend(await fan.run(range(6)))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(5)
        fan.drain()
        await clock.advance(5)
    assert sorted(done) == [0, 1]
    assert sorted(left) == [2, 3, 4, 5]


async def test_drain_does_not_wait_for_parked_items():
    clock = ManualClock()

    async def work(item: str) -> None:
        raise parked(clock, 60)

    fan, left = FanOut(work, width=2, clock=clock, patience=PATIENCE), []

    async def run() -> None:
        left.extend(await fan.run(["a", "b"]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.settle()
        fan.drain()
    assert sorted(left) == ["a", "b"]


async def test_drain_while_a_due_item_waits_for_a_slot_does_not_lose_it():
    clock, done = ManualClock(), []

    async def work(item: str) -> None:
        if item == "p":
            raise parked(clock, 10)
        await clock.sleep(100)
        done.append(item)

    fan, left = FanOut(work, width=1, clock=clock, patience=PATIENCE), []

    async def run() -> None:
        left.extend(await fan.run(["p", "slow"]))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await clock.advance(50)
        fan.drain()
        await clock.advance(50)
    assert done == ["slow"]
    assert left == ["p"]


async def test_drain_before_the_start():
    fan = FanOut(anyio.sleep, width=2, clock=ManualClock(), patience=PATIENCE)
    fan.drain()
    assert await fan.run([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("error", [SourceDown("gone"), ValueError("a defect")])
async def test_what_work_lets_out_stops_all_and_arrives_as_itself(error):
    clock, taken, cancelled = ManualClock(), [], []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    async def work(item: int) -> None:
        if item == 1:
            raise error
        try:
            await clock.sleep(1000)
        except anyio.get_cancelled_exc_class():
            cancelled.append(item)
            raise

    with pytest.raises(type(error)) as raised:
        await FanOut(work, width=3, clock=clock, patience=PATIENCE).run(items())
    assert raised.value is error
    assert 0 in cancelled
    assert len(taken) <= 5
