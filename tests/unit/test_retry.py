"""What is tried again, how often, and how long we wait in between."""

from datetime import timedelta

import pytest

from runner.errors import (
    Parked,
    PermissionMissing,
    RetryBudgetSpent,
    RunnerError,
    SourceDown,
    TableChanged,
    Throttled,
)
from runner.job import Retry
from runner.limits import SourceLimits
from runner.retry import retrying
from runner.testing.clock import ManualClock


class Work:
    """Fails with each error in turn, then returns."""

    def __init__(self, *errors: BaseException, limits: SourceLimits | None = None) -> None:
        self.errors = list(errors)
        self.limits = limits
        self.tried = 0

    async def __call__(self) -> str:
        self.tried += 1
        if self.limits is not None:
            async with self.limits.request():
                return self.answer()
        return self.answer()

    def answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class Case:
    def __init__(self, *, policy: Retry | None = None, park: timedelta = timedelta(minutes=15)) -> None:
        self.clock = ManualClock(auto=True)
        self.limits = SourceLimits(self.clock, connections=10, rate=None, park=park)
        self.policy = policy or Retry()
        self.noticed: list[tuple[int, float, RunnerError]] = []

    async def run(self, work: Work, **more) -> str:
        return await retrying(
            work,
            policy=self.policy,
            clock=self.clock,
            limits=self.limits,
            noticed=lambda *told: self.noticed.append(told),
            **more,
        )


async def test_success_at_once():
    case, work = Case(), Work()
    assert await case.run(work) == "done"
    assert (work.tried, case.noticed, case.clock.slept) == (1, [], [])


@pytest.mark.parametrize("error", [PermissionMissing("no"), TableChanged("x"), ValueError("odd"), KeyError("k")])
async def test_permanent_and_unknown_errors_are_tried_once(error):
    case, work = Case(), Work(error)
    with pytest.raises(type(error)) as raised:
        await case.run(work)
    assert raised.value is error
    assert (work.tried, case.noticed) == (1, [])


async def test_retriable_errors_are_tried_again():
    first, second = SourceDown("one"), SourceDown("two")
    case, work = Case(), Work(first, second)
    assert await case.run(work) == "done"
    assert work.tried == 3
    assert [(attempt, error) for attempt, _, error in case.noticed] == [(1, first), (2, second)]
    assert [wait for _, wait, _ in case.noticed] == case.clock.slept


async def test_no_more_often_than_the_policy_says():
    errors = [SourceDown(str(number)) for number in range(10)]
    case, work = Case(policy=Retry(attempts=4)), Work(*errors)
    with pytest.raises(SourceDown) as raised:
        await case.run(work)
    assert raised.value is errors[3]
    assert work.tried == 4
    assert len(case.noticed) == 3


async def test_waits_double_with_full_jitter_up_to_the_longest():
    policy = Retry(attempts=12, max_wait=timedelta(seconds=4))
    case = Case(policy=policy)
    with pytest.raises(SourceDown):
        await case.run(Work(*[SourceDown() for _ in range(12)]))
    ceilings = [0.5, 1, 2, 4, 4, 4, 4, 4, 4, 4, 4]
    assert len(case.clock.slept) == len(ceilings)
    assert all(0 <= wait <= ceiling for wait, ceiling in zip(case.clock.slept, ceilings, strict=True))
    assert len(set(case.clock.slept)) == len(ceilings)


async def test_jitter_replays_from_the_seed():
    waits = []
    for _ in range(2):
        case = Case()
        await case.run(Work(SourceDown(), SourceDown()))
        waits.append(case.clock.slept)
    assert waits[0] == waits[1]


async def test_the_deadline_ends_it():
    case = Case(policy=Retry(attempts=100, deadline=timedelta(seconds=10)))

    async def slow() -> None:
        await case.clock.sleep(4)
        raise SourceDown

    with pytest.raises(SourceDown):
        await retrying(
            slow,
            policy=case.policy,
            clock=case.clock,
            limits=case.limits,
            noticed=lambda *told: case.noticed.append(told),
        )
    assert 1 <= len(case.noticed) <= 2
    assert case.clock.monotonic() >= 10


async def test_the_caller_may_decide_what_is_worth_it():
    case, work = Case(), Work(SourceDown("no"))
    with pytest.raises(SourceDown):
        await case.run(work, may_retry=lambda error: False)
    assert work.tried == 1
    case, work = Case(), Work(TableChanged("yes"))
    assert await case.run(work, may_retry=lambda error: isinstance(error, TableChanged)) == "done"


async def test_a_throttled_source_is_paused_for_all():
    case = Case()
    work = Work(Throttled("slow down", retry_after=30), limits=case.limits)
    assert await case.run(work) == "done"
    assert case.clock.monotonic() >= 30
    assert case.limits.concurrency.limit == 7


async def test_throttled_without_a_time_shrinks_the_limit_only():
    case = Case()
    assert await case.run(Work(Throttled(), limits=case.limits)) == "done"
    assert case.clock.monotonic() <= 0.5
    assert case.limits.concurrency.limit == 7


async def test_other_errors_do_not_shrink_the_limit():
    case = Case()
    await case.run(Work(SourceDown(), limits=case.limits))
    assert case.limits.concurrency.limit == 10


async def test_a_pause_too_long_to_wait_for_parks():
    case = Case(park=timedelta(minutes=1))
    work = Work(Throttled(retry_after=600), limits=case.limits)
    with pytest.raises(Parked) as parked:
        await case.run(work)
    assert (parked.value.resume_at - ManualClock().now()).total_seconds() == pytest.approx(600)
    assert case.clock.monotonic() < 60


async def test_the_budget_ends_it_for_all():
    case = Case(policy=Retry(attempts=100))
    with pytest.raises(SourceDown):
        await case.run(Work(*[SourceDown() for _ in range(100)]))
    work = Work(*[SourceDown() for _ in range(100)])
    with pytest.raises(RetryBudgetSpent):
        await case.run(work)
    assert work.tried == 2


async def test_a_success_earns_a_little_back():
    case = Case()
    for _ in range(2):
        case.limits.budget.spend()
    before = case.limits.budget.left
    await case.run(Work())
    assert case.limits.budget.left == before + 1
