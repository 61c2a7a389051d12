"""Waiting for the end of a run: often while it is young, seldom later.

Facts: Orchestra docs, API, "Get pipeline run status". A status that is not known stands for unfinished. Right after a
start SUCCEEDED may be shown before it is true; then completedAt is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from orchestra.api.models import PipelineRun
from orchestra.api.transport import Transport
from runner.errors import Parked, PollTimedOut, RequestRefused, RetryBudgetSpent, RunnerError

# Seconds between two looks: a tenth of the run's age, between these, give or take a fifth.
SHORTEST, LONGEST = 1.5, 30.0
_SHARE, _JITTER = 0.1, 0.2
# A run may be started and not be found yet; one that was seen is gone sooner.
_APPEARS, _GONE = 60.0, 10.0
# A deadline leaves time for one look.
_ONE_LOOK = 1.0
# SUCCEEDED without completedAt is believed when it has been said for as long.
_BELIEVED = 10.0
# An API that fails for as long is given up, where there is no deadline.
OUTAGE = 15 * 60.0


async def wait_for(
    look: Callable[[str], Awaitable[PipelineRun | None]],
    run: str,
    transport: Transport,
    *,
    deadline: float | None = None,
    seen: Callable[[PipelineRun], None] = lambda _: None,
) -> PipelineRun:
    """Look at a run until it is over, however it ended, and return it.

    What goes wrong for a moment is waited out, and so is a pause that Orchestra asked for.

    Args:
        look: Returns a run by its id; None where there is none.
        deadline: Seconds; none by default.
        seen: Told what each look saw.

    Raises:
        PollTimedOut: It is not over by then.
        RequestRefused: There is no such run.
        RunnerError: It cannot be looked at.
    """
    clock = transport.clock
    began = last = clock.monotonic()
    missing: float | None = None
    succeeded: float | None = None
    status = ""
    while True:
        found: PipelineRun | None = None
        left = None if deadline is None else max(_ONE_LOOK, began + deadline - clock.monotonic())
        try:
            with anyio.move_on_after(left):
                found = await look(run)
                last = clock.monotonic()
                missing = None if found else last if missing is None else missing
                if missing is not None and last - missing >= (_GONE if status else _APPEARS):
                    raise _gone(run, status)
        except RunnerError as error:
            if not passes(error) or (deadline is None and clock.monotonic() - last >= OUTAGE):
                raise
        now = clock.monotonic()
        if found is not None:
            status = found.run_status
            seen(found)
            if found.over:
                doubtful = found.run_status == "SUCCEEDED" and found.completed_at is None
                succeeded = now if succeeded is None else succeeded
                if not doubtful or now - succeeded >= _BELIEVED:
                    return found
            else:
                succeeded = None
        age = (clock.now() - found.created_at).total_seconds() if found and found.created_at else now - began
        interval = SHORTEST if succeeded is not None else min(LONGEST, max(SHORTEST, _SHARE * age))
        pause = max(interval * clock.random.uniform(1 - _JITTER, 1 + _JITTER), transport.pause_left())
        if deadline is not None:
            left = began + deadline - now
            if left <= 0:
                raise PollTimedOut(
                    f"The run {run} was not over after {deadline:,.0f} seconds: "
                    f"{f'it is {status}' if status else 'it was not seen'}.",
                    guidance=f"It goes on in Orchestra: wait longer, or look at {transport.workspace.run_url(run)}.",
                )
            pause = min(pause, left)
        await clock.sleep(pause)


def passes(error: RunnerError) -> bool:
    """Tell whether what went wrong may be over at the next look."""
    return error.retriable or isinstance(error, Parked | RetryBudgetSpent)


def _gone(run: str, status: str) -> RequestRefused:
    before = f" any more; it was {status}" if status else ""
    return RequestRefused(
        f"There is no run {run} in this workspace{before}.",
        guidance="Check its id, and that the API key is of its workspace.",
    )
