"""The clocks: the machine's, and the one that tests turn by hand."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from runner.clock import Clock, SystemClock
from runner.testing.clock import ManualClock


def test_system_clock_is_in_utc_and_seeded():
    clock: Clock = SystemClock(7)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
    assert clock.random.random() == SystemClock(7).random.random()


async def test_system_clock_sleeps_on_the_loop():
    with anyio.fail_after(5):
        await SystemClock().sleep(0)


async def test_sleep_waits_until_the_time_has_come():
    clock = ManualClock()
    woken = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with anyio.create_task_group() as group:
        for seconds in (3, 1, 2):
            group.start_soon(sleeper, seconds)
        await clock.advance(0.5)
        assert woken == []
        await clock.advance(2)
        assert woken == [(1, 1.0), (2, 2.0)]
        await clock.advance(10)
    assert woken[-1] == (3, 3.0)
    assert clock.monotonic() == 12.5
    assert clock.now() - ManualClock().now() == timedelta(seconds=12.5)
    assert clock.slept == [3, 1, 2]


async def test_sleeps_that_follow_within_the_span_are_woken_too():
    clock = ManualClock()
    times = []

    async def ticker() -> None:
        for _ in range(3):
            await clock.sleep(1)
            times.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(ticker)
        await clock.advance(3)
        assert times == [1, 2, 3]


async def test_auto_moves_the_time_at_once_and_yields():
    clock = ManualClock(auto=True)
    ran = []

    async def other() -> None:
        ran.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await clock.sleep(60)
        assert ran == [60]
    assert clock.now() == datetime(2024, 1, 1, 0, 1, tzinfo=UTC)
    assert clock.slept == [60]


async def test_a_cancelled_sleep_is_forgotten():
    clock = ManualClock()
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, 5)
        await clock.settle()
        assert clock.sleepers == 1
        group.cancel_scope.cancel()
    assert clock.sleepers == 0
    await clock.advance(10)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_a_senseless_sleep_is_refused(seconds):
    with pytest.raises(ValueError, match="cannot sleep"):
        await ManualClock().sleep(seconds)


def test_randomness_replays_from_the_seed():
    assert ManualClock(3).random.random() == ManualClock(3).random.random()
    assert ManualClock(3).random.random() != ManualClock(4).random.random()
