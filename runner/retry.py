"""What is tried again, how often, and how long we wait in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from runner.clock import Clock
from runner.errors import RunnerError, Throttled
from runner.job import Retry
from runner.limits import SourceLimits

ResultT = TypeVar("ResultT")
_FIRST_WAIT = 0.5


async def retrying(
    work: Callable[[], Awaitable[ResultT]],
    *,
    policy: Retry,
    clock: Clock,
    limits: SourceLimits,
    noticed: Callable[[int, float, RunnerError], None],
    may_retry: Callable[[RunnerError], bool] = lambda error: error.retriable,
) -> ResultT:
    """Run work, and again while its errors say that this can help.

    Unknown errors are permanent. A throttled source is paused for all, not only for this caller.

    Args:
        work: What is tried; must be safe to do twice.
        policy: Attempts, longest wait, deadline.
        noticed: Told of each retry: attempt, seconds until it, error.
        may_retry: Whether an error is worth another attempt.

    Raises:
        RunnerError: The last error, marked as tried, or RetryBudgetSpent.
        Parked: The source asked for a pause that is too long to wait for.
    """
    began = clock.monotonic()
    longest = policy.max_wait.total_seconds()

    def wait(state: RetryCallState) -> float:
        # Full jitter (Brooker, "Exponential Backoff And Jitter", 2015).
        ceiling = min(longest, _FIRST_WAIT * 2 ** (state.attempt_number - 1))
        return clock.random.uniform(0, ceiling)

    def stop(state: RetryCallState) -> bool:
        late = clock.monotonic() - began >= policy.deadline.total_seconds()
        return late or state.attempt_number >= policy.attempts

    def before_sleep(state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert isinstance(error, RunnerError)
        limits.budget.spend()
        if isinstance(error, Throttled):
            limits.concurrency.refused()
            if error.retry_after is not None:
                limits.pause.request(error.retry_after)
        noticed(state.attempt_number, state.upcoming_sleep, error)

    def worthwhile(error: BaseException) -> bool:
        return isinstance(error, RunnerError) and not error.tried and may_retry(error)

    # Most work succeeds at once, and is not asked to pay for what could be done about a failure.
    try:
        result = await work()
    except RunnerError as error:
        failed: RunnerError | None = error
    else:
        limits.budget.earn()
        limits.concurrency.succeeded()
        return result

    async def attempt() -> ResultT:
        # tenacity awaits only what it can see is a coroutine function; a lambda is not.
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return await work()

    retry = AsyncRetrying(
        sleep=clock.sleep,
        wait=wait,
        stop=stop,
        retry=retry_if_exception(worthwhile),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        result = await retry(attempt)
    except RunnerError as error:
        error.tried = error.tried or worthwhile(error)
        raise
    limits.budget.earn()
    limits.concurrency.succeeded()
    return result
