"""What one run may ask of one source."""

import asyncio
import contextlib
from datetime import timedelta
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import Parked, RetryBudgetSpent
from runner.limits import AdaptiveLimit, Budget, Pause, RetryBudget, SourceLimits
from runner.testing.clock import ManualClock

WINDOW = 5.0


class TestAdaptiveLimit:
    async def test_slots_are_bounded(self):
        limit = AdaptiveLimit(2, ManualClock())
        clock, most = ManualClock(auto=True), 0

        async def work() -> None:
            nonlocal most
            async with limit.slot():
                most = max(most, limit.used)
                await clock.sleep(1)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(work)
        assert most == 2
        assert limit.used == 0

    async def test_a_slot_comes_back_after_a_failure(self):
        limit = AdaptiveLimit(1, ManualClock())
        with pytest.raises(RuntimeError):
            async with limit.slot():
                raise RuntimeError
        assert limit.used == 0

    async def test_ten_refusals_at_once_count_as_one(self):
        clock, told = ManualClock(), []
        limit = AdaptiveLimit(10, clock, changed=told.append)
        for _ in range(10):
            limit.refused()
        assert limit.limit == 7
        await clock.advance(WINDOW - 0.1)
        limit.refused()
        assert limit.limit == 7
        await clock.advance(0.1)
        limit.refused()
        assert limit.limit == 4
        assert told == [7, 4]

    async def test_never_below_one(self):
        clock = ManualClock()
        limit = AdaptiveLimit(3, clock)
        for _ in range(5):
            limit.refused()
            await clock.advance(WINDOW)
        assert limit.limit == 1

    async def test_grows_by_one_after_as_many_successes_as_it_is_wide(self):
        limit = AdaptiveLimit(10, ManualClock(), start=4)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(4):
                await held.enter_async_context(limit.slot())
            for _ in range(3):
                limit.succeeded()
            assert limit.limit == 4
            limit.succeeded()
            assert limit.limit == 5

    async def test_an_idle_limit_does_not_grow(self):
        limit = AdaptiveLimit(10, ManualClock(), start=4)
        async with limit.slot():
            for _ in range(100):
                limit.succeeded()
        assert limit.limit == 4

    async def test_never_above_the_ceiling(self):
        limit = AdaptiveLimit(2, ManualClock())
        async with limit.slot(), limit.slot():
            for _ in range(100):
                limit.succeeded()
        assert limit.limit == 2

    async def test_a_refusal_forgets_the_successes_before_it(self):
        limit = AdaptiveLimit(4, ManualClock(), start=3)
        async with limit.slot(), limit.slot():
            limit.succeeded()
            limit.succeeded()
            limit.refused()
            assert limit.limit == 2
            limit.succeeded()
            assert limit.limit == 2

    @settings(max_examples=200, deadline=None)
    @given(
        ceiling=st.integers(1, 50),
        steps=st.lists(
            st.one_of(
                st.just(("refused", 0)),
                st.tuples(st.just("succeeded"), st.integers(0, 50)),
                st.tuples(st.just("wait"), st.floats(0, 8)),
            ),
            max_size=80,
        ),
    )
    async def test_always_within_bounds(self, ceiling, steps):
        clock = ManualClock(auto=True)
        limit = AdaptiveLimit(ceiling, clock)
        decreases = []
        for step, amount in steps:
            before = limit.limit
            if step == "refused":
                limit.refused()
                if limit.limit < before:
                    decreases.append(clock.monotonic())
                assert limit.limit <= before
            elif step == "wait":
                await clock.sleep(amount)
            else:
                async with contextlib.AsyncExitStack() as held:
                    for _ in range(min(amount, before)):
                        await held.enter_async_context(limit.slot())
                    used = limit.used
                    limit.succeeded()
                assert before <= limit.limit <= before + 1
                if used * 2 < before:
                    assert limit.limit == before
            assert 1 <= limit.limit <= ceiling
        assert all(later - earlier >= WINDOW for earlier, later in pairwise(decreases))


class TestPause:
    async def test_all_wait_together(self):
        clock = ManualClock()
        pause, done = Pause(clock, timedelta(minutes=15)), []

        async def work(number: int) -> None:
            await pause.wait()
            done.append((number, clock.monotonic()))

        pause.request(10)
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(work, number)
            await clock.advance(9.9)
            assert done == []
            await clock.advance(0.1)
        assert done == [(0, 10), (1, 10), (2, 10)]

    async def test_nothing_to_wait_for(self):
        clock = ManualClock()
        await Pause(clock, timedelta(minutes=15)).wait()
        assert clock.slept == []

    async def test_a_longer_request_extends_a_shorter_does_not(self):
        clock, told = ManualClock(auto=True), []
        pause = Pause(clock, timedelta(minutes=15), told.append)
        pause.request(10)
        pause.request(5)
        pause.request(30)
        await pause.wait()
        assert clock.monotonic() == 30
        assert told == [10]

    async def test_those_who_wait_notice_an_extension(self):
        clock, done = ManualClock(), []
        pause = Pause(clock, timedelta(minutes=15))

        async def work() -> None:
            await pause.wait()
            done.append(clock.monotonic())

        pause.request(10)
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await clock.advance(5)
            pause.request(20)
            await clock.advance(10)
            assert done == []
            await clock.advance(10)
        assert done == [25]

    async def test_a_pause_past_the_cap_parks(self):
        clock = ManualClock()
        pause = Pause(clock, timedelta(minutes=15))
        pause.request(900)
        assert pause.resume_at() is None
        pause.request(901)
        with pytest.raises(Parked) as parked:
            await pause.wait()
        assert parked.value.resume_at == clock.now() + timedelta(seconds=901)
        assert clock.slept == []
        await clock.advance(10)
        assert pause.resume_at() is None

    async def test_a_new_pause_is_told_again(self):
        clock, told = ManualClock(auto=True), []
        pause = Pause(clock, timedelta(minutes=15), told.append)
        pause.request(10)
        await pause.wait()
        pause.request(7)
        assert told == [10, 7]


class TestRetryBudget:
    def test_a_hundred_retries_without_a_success(self):
        budget = RetryBudget()
        for _ in range(100):
            budget.spend()
        with pytest.raises(RetryBudgetSpent):
            budget.spend()

    def test_successes_fill_it_again_but_not_past_the_brim(self):
        budget = RetryBudget()
        full = budget.left
        budget.earn()
        assert budget.left == full
        for _ in range(100):
            budget.spend()
        for _ in range(5):
            budget.earn()
        budget.spend()
        with pytest.raises(RetryBudgetSpent):
            budget.spend()


class TestSourceLimits:
    def make(self, clock, **more):
        return SourceLimits(clock, **{"connections": 2, "rate": None, "park": timedelta(minutes=15), **more})

    async def test_no_more_requests_than_connections(self):
        clock, most = ManualClock(auto=True), 0
        limits = self.make(clock)

        async def work() -> None:
            nonlocal most
            async with limits.request():
                most = max(most, limits.concurrency.used)
                await clock.sleep(1)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(work)
        assert most == 2
        assert limits.concurrency.used == 0

    async def test_a_pause_that_begins_while_waiting_for_a_slot_is_kept(self):
        clock, began = ManualClock(), []
        limits = self.make(clock, connections=1)

        async def work() -> None:
            async with limits.request():
                began.append(clock.monotonic())

        async with anyio.create_task_group() as group:
            async with limits.request():
                group.start_soon(work)
                await clock.settle()
                limits.pause.request(30)
            await clock.advance(29)
            assert began == []
            await clock.advance(1)
        assert began == [30]

    async def test_a_parked_request_gives_its_slot_back(self):
        limits = self.make(ManualClock())
        limits.pause.request(3600)
        with pytest.raises(Parked):
            async with limits.request():
                pass
        assert limits.concurrency.used == 0

    @pytest.mark.parametrize(("rate", "capacity", "period"), [(50.0, 50, 1), (0.5, 1, 2), (1.0, 1, 1), (1.5, 1.5, 1)])
    async def test_the_rate(self, rate, capacity, period):
        limiter = self.make(ManualClock(), rate=rate)._rate
        assert (limiter.max_rate, limiter.time_period) == (capacity, period)
        assert limiter.max_rate / limiter.time_period == rate

    async def test_requests_pass_the_rate(self):
        limits = self.make(ManualClock(), rate=5.0)
        async with limits.request():
            pass
        assert not limits._rate.has_capacity(5)


class TestBudget:
    async def waiting(self, group, budget, amount, got, name):
        async def work() -> None:
            await budget.reserve(amount)
            got.append(name)

        group.start_soon(work)
        await anyio.wait_all_tasks_blocked()

    async def test_reserve_and_release(self):
        budget = Budget(100)
        assert await budget.reserve(60) == 60
        assert await budget.reserve(40) == 40
        budget.release(60)
        assert (budget.used, budget.peak) == (40, 100)

    async def test_more_than_everything_takes_everything(self):
        budget = Budget(100)
        assert await budget.reserve(1000) == 100
        budget.release(100)
        assert budget.used == 0

    async def test_first_come_first_served(self):
        budget, got = Budget(100), []
        await budget.reserve(50)
        async with anyio.create_task_group() as group:
            await self.waiting(group, budget, 80, got, "large")
            await self.waiting(group, budget, 10, got, "small")
            assert got == []
            budget.release(50)
            await anyio.wait_all_tasks_blocked()
        assert got == ["large", "small"]
        assert budget.used == 90

    async def test_one_release_may_serve_several(self):
        budget, got = Budget(100), []
        await budget.reserve(100)
        async with anyio.create_task_group() as group:
            for name in "abc":
                await self.waiting(group, budget, 40, got, name)
            budget.release(100)
            await anyio.wait_all_tasks_blocked()
            assert got == ["a", "b"]
            budget.release(40)
        assert got == ["a", "b", "c"]
        assert budget.peak == 100

    async def test_grow_does_not_wait(self):
        budget = Budget(100)
        await budget.reserve(60)
        assert budget.grow(40)
        assert not budget.grow(1)
        assert (budget.used, budget.peak) == (100, 100)

    async def test_a_cancelled_waiter_lets_the_next_one_through(self):
        budget, got = Budget(100), []
        await budget.reserve(50)
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as impatient:
                await self.waiting(impatient, budget, 80, got, "large")
                await self.waiting(group, budget, 50, got, "small")
                assert got == []
                impatient.cancel_scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert got == ["small"]
        assert budget.used == 100
        budget.release(100)
        assert await budget.reserve(100) == 100

    async def test_a_waiter_that_is_cancelled_as_it_is_served_gives_back(self):
        budget = Budget(100)
        await budget.reserve(100)
        waiter = asyncio.create_task(budget.reserve(70))
        await anyio.wait_all_tasks_blocked()
        budget.release(100)  # serves the waiter, which has not run yet
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert budget.used == 0

    @settings(max_examples=100, deadline=None)
    @given(
        total=st.integers(1, 100),
        amounts=st.lists(st.tuples(st.integers(1, 120), st.integers(0, 3), st.booleans()), max_size=20),
    )
    async def test_whatever_happens_it_returns_to_zero(self, total, amounts):
        budget = Budget(total)

        async def work(amount: int, rounds: int) -> None:
            taken = await budget.reserve(amount)
            try:
                assert budget.used <= total
                for _ in range(rounds):
                    await anyio.lowlevel.checkpoint()
            finally:
                budget.release(taken)

        async with anyio.create_task_group() as group:
            for amount, rounds, cancelled in amounts:
                if cancelled:
                    scope = anyio.CancelScope()

                    async def shortly(scope=scope, amount=amount, rounds=rounds) -> None:
                        with scope:
                            await work(amount, rounds)

                    group.start_soon(shortly)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
                else:
                    group.start_soon(work, amount, rounds)
        assert budget.used == 0
        assert budget.peak <= total
        assert await budget.reserve(total) == total
