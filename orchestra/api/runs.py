"""Runs of pipelines and what they did: started, listed, waited for, cancelled; task runs and operations.

Facts: Orchestra docs, API, "Start a pipeline run", "List pipeline runs", "Get pipeline run status", "Cancel a pipeline
run" (``force``), "List task runs", "List task runs for a pipeline run" (at most 50 a page), "List operations". That one
run may be read without /status is newer than most of that reference.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from orchestra.api.answers import judge_start, words
from orchestra.api.endpoints import AnswerT, Endpoints, given, model, models, quoted
from orchestra.api.models import PipelineRun, Start, Started, TaskRun
from orchestra.api.records import Operation
from orchestra.api.transport import LONGEST_WINDOW
from orchestra.api.waiting import wait_for
from runner.errors import RequestRefused

# Of one run fewer come on a page than elsewhere.
_PAGE_OF_RUN = 50
_CANCELLED = ("CANCELLING", "CANCELLED")


class Runs(Endpoints):
    """The runs of a workspace."""

    # Whether one run can be read without /status; not known before one was.
    _whole: bool | None = None

    # Starting and ending.

    async def start(self, pipeline: str, start: Start) -> Started:
        """Start a run of a pipeline, by alias or id; it is sent at most once.

        Raises:
            NotDelivered: Nothing was started.
            DeliveryRefused: Nothing was started, and another attempt cannot help.
            OutcomeUnknown: It may have been started; ``orchestra.api.lookup`` finds out.
        """
        path = f"pipelines/{quoted(pipeline)}/start"
        reply = await self.transport.once(path, start.body(), f"a start of {pipeline!r}")
        return self.settled(judge_start(reply, pipeline, self.workspace, now=self.clock.now()), reply)

    def check_pause(self) -> None:
        """See that nobody was asked to slow down.

        Raises:
            NotDelivered: That time is not over.
        """
        self.transport.check_pause()

    async def cancel(self, run: str, *, force: bool = False) -> None:
        """Cancel a run; one that is being cancelled already is left to it.

        Args:
            force: Whether it is ended without waiting for its tasks; Orchestra refuses that before it was tried
                without.

        Raises:
            RequestRefused: There is no such run, or it is over, or it is too early to force it.
        """
        reply = await self.transport.repeat(
            "POST",
            f"pipeline_runs/{quoted(run)}/cancel",
            json={"force": True} if force else None,
            missing=True,
            accept=lambda reply: reply.status in (400, 409),
        )
        if reply is None:
            raise _gone(run)
        if reply.status >= 400:
            found = await self.run(run)
            # The first of two attempts may have done it.
            if found is None or found.run_status not in _CANCELLED or (force and not found.over):
                raise RequestRefused(f"Orchestra did not cancel the run {run} ({reply.status}): {words(reply)}")

    # Runs.

    async def run(self, run: str) -> PipelineRun | None:
        """Return a run of any age; None where there is none."""
        if self._whole is not False:
            reply = await self.transport.read(f"pipeline_runs/{quoted(run)}", {}, missing=True)
            if reply is not None:
                self._whole = True
                return model(PipelineRun, reply.data, reply)
            if self._whole:
                return None
        found = await self.run_status(run)
        if found is not None:
            self._whole = False
        return found

    async def run_status(self, run: str) -> PipelineRun | None:
        """Return what is known of a run of any age, at least its status and its pipeline; None where there is none."""
        reply = await self.transport.read(f"pipeline_runs/{quoted(run)}/status", {}, missing=True)
        return None if reply is None else model(PipelineRun, reply.data, reply)

    async def wait(
        self, run: str, *, deadline: float | None = None, seen: Callable[[PipelineRun], None] = lambda _: None
    ) -> PipelineRun:
        """Wait until a run is over, however it ended, and return it.

        Args:
            deadline: Seconds; as long as the run lasts by default.
            seen: Told what each look saw.

        Raises:
            PollTimedOut: It is not over by then.
            RequestRefused: There is no such run.
            RunnerError: It cannot be looked at.
        """
        return await wait_for(self.run, run, self.transport, deadline=deadline, seen=seen)

    def runs(
        self,
        *,
        time_from: datetime,
        time_to: datetime,
        pipelines: Sequence[str] = (),
        runs: Sequence[str] = (),
        statuses: Sequence[str] = (),
        environments: Sequence[str] = (),
    ) -> AsyncGenerator[list[PipelineRun], None]:
        """Return pages of runs; a longer time is asked for in windows that Orchestra takes. Leave it with ``aclosing``.

        Args:
            pipelines: Ids; all by default. So with ids of runs and of environments, and statuses.
        """
        asked = given(pipeline_ids=pipelines, pipeline_run_ids=runs, status=statuses, environments=environments)
        return models(PipelineRun, self.transport.windows("pipeline_runs", asked, time_from, time_to))

    # What they did.

    def task_runs(
        self,
        *,
        time_from: datetime,
        time_to: datetime,
        pipelines: Sequence[str] = (),
        statuses: Sequence[str] = (),
        integrations: Sequence[str] = (),
        task_runs: Sequence[str] = (),
        superseded: bool = False,
    ) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of task runs of many pipeline runs; it cannot be asked for those of some runs.

        Args:
            superseded: Whether earlier attempts come too.
        """
        asked = given(
            pipeline_ids=pipelines,
            status=statuses,
            integration=integrations,
            task_run_ids=task_runs,
            include_superseded="true" if superseded else None,
        )
        pages = models(TaskRun, self.transport.windows("task_runs", asked, time_from, time_to))
        return self._kept(pages, time_from)

    def task_runs_of(self, run: str) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of the task runs of one pipeline run."""
        path = f"pipeline_runs/{quoted(run)}/task_runs"
        return models(TaskRun, self.transport.pages(path, {}, size=_PAGE_OF_RUN))

    def operations(
        self,
        *,
        time_from: datetime,
        time_to: datetime,
        operation_types: Sequence[str] = (),
        status: str | None = None,
        integration: str | None = None,
        external_id: str | None = None,
        task_run: str | None = None,
    ) -> AsyncGenerator[list[Operation], None]:
        """Return pages of operations, as ``runs``."""
        asked = given(
            operation_type=operation_types,
            status=status,
            integration=integration,
            external_id=external_id,
            task_run_id=task_run,
        )
        pages = models(Operation, self.transport.windows("operations", asked, time_from, time_to))
        return self._kept(pages, time_from)

    async def _kept(
        self, pages: AsyncGenerator[list[AnswerT], None], time_from: datetime
    ) -> AsyncGenerator[list[AnswerT], None]:
        async with contextlib.aclosing(pages):
            try:
                async for page in pages:
                    yield page
            except RequestRefused as error:
                if time_from >= self.clock.now() - LONGEST_WINDOW:
                    raise
                guidance = f"Orchestra may keep these for {LONGEST_WINDOW.days} days only: ask for a later time."
                raise RequestRefused(error.message, guidance=guidance) from error


def _gone(run: str) -> RequestRefused:
    return RequestRefused(
        f"There is no run {run} in this workspace.", guidance="Check its id, and that the API key is of its workspace."
    )
