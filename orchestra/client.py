"""A client of Orchestra's API: reads are tried again, a start is sent once.

Facts: Orchestra docs, API, "Start a pipeline run", "List pipeline runs", "List task runs", "Get a pipeline".
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import anyio
from pydantic import ValidationError

from connectors.http.answers import Reply
from orchestra.answers import judge_start
from orchestra.definitions import parse_definition
from orchestra.models import Answer, Pipeline, PipelineRun, Start, Started, TaskRun
from orchestra.transport import Transport
from orchestra.workspace import Workspace
from runner.clock import Clock
from runner.errors import DeliveryError, NotDelivered, RequestRefused
from runner.job import Limits
from runner.limits import SourceLimits
from sensors.room import Room

AnswerT = TypeVar("AnswerT", bound=Answer)


class OrchestraClient:
    """One workspace; ``async with`` opens and closes it.

    Args:
        limits: What everybody who asks this workspace shares: concurrency, rate, and one pause.
        more: Keys of Transport: time-outs, retries.

    Attributes:
        transport: What requests go through.
    """

    def __init__(self, workspace: Workspace, clock: Clock, limits: SourceLimits, **more: Any) -> None:
        self.workspace = workspace
        self.clock = clock
        self.transport = Transport(workspace, clock, limits, **more)

    async def __aenter__(self) -> OrchestraClient:
        await self.transport.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.transport.__aexit__(*error)

    # Starting.

    async def start(self, pipeline: str, start: Start) -> Started:
        """Start a run of a pipeline, by alias or id; it is sent at most once.

        Raises:
            NotDelivered: Nothing was started.
            DeliveryRefused: Nothing was started, and another attempt cannot help.
            OutcomeUnknown: It may have been started.
        """
        path = f"pipelines/{_quoted(pipeline)}/start"
        reply = await self.transport.once(path, start.body(), f"a start of {pipeline!r}")
        outcome = judge_start(reply, pipeline, self.workspace, now=self.clock.now())
        if isinstance(outcome, DeliveryError):
            if isinstance(outcome, NotDelivered) and reply.status in (429, 503):
                self.transport.slow_down(outcome.retry_after)
            raise outcome
        return outcome

    def check_pause(self) -> None:
        """See that nobody was asked to slow down.

        Raises:
            NotDelivered: That time is not over.
        """
        self.transport.check_pause()

    # Pipelines.

    async def pipeline(self, pipeline: str) -> Pipeline | None:
        """Return a pipeline by alias or id; None where there is none."""
        reply = await self.transport.read("pipeline", _selector(pipeline), missing=True)
        return None if reply is None else _model(Pipeline, reply.data, reply)

    async def definition(
        self, pipeline: str, *, branch: str | None = None, commit: str | None = None
    ) -> dict[str, Any] | None:
        """Return the definition of a pipeline; None where there is none, or no mapping.

        It may come as YAML, as JSON, as a text of either, or inside an object, under ``yaml``, ``data`` or ``content``.
        """
        params = {**_selector(pipeline), **_given(branch=branch, commit=commit)}
        reply = await self.transport.read("pipeline/data", params, missing=True)
        if reply is None:
            return None
        return await anyio.to_thread.run_sync(parse_definition, reply.data, reply.text)

    # Runs.

    def runs(
        self,
        *,
        time_from: datetime,
        time_to: datetime,
        pipelines: Sequence[str] = (),
        runs: Sequence[str] = (),
        statuses: Sequence[str] = (),
    ) -> AsyncGenerator[list[PipelineRun], None]:
        """Return pages of runs; a longer time is asked for in windows that Orchestra takes. Leave it with ``aclosing``.

        Args:
            pipelines: Ids; all by default. So with ids of runs, and statuses.
        """
        asked = _given(pipeline_ids=",".join(pipelines), pipeline_run_ids=",".join(runs), status=",".join(statuses))
        return _models(PipelineRun, self.transport.windows("pipeline_runs", asked, time_from, time_to))

    def task_runs(
        self, *, time_from: datetime, time_to: datetime, pipelines: Sequence[str] = (), statuses: Sequence[str] = ()
    ) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of task runs of many pipeline runs; it cannot be asked for those of some runs."""
        asked = _given(pipeline_ids=",".join(pipelines), status=",".join(statuses))
        return _models(TaskRun, self.transport.windows("task_runs", asked, time_from, time_to))

    def task_runs_of(self, run: str) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of the task runs of one pipeline run."""
        return _models(TaskRun, self.transport.pages(f"pipeline_runs/{_quoted(run)}/task_runs", {}))

    async def run_status(self, run: str) -> PipelineRun | None:
        """Return what is known of a run of any age: its status, its pipeline; None where there is none."""
        reply = await self.transport.read(f"pipeline_runs/{_quoted(run)}/status", {}, missing=True)
        return None if reply is None else _model(PipelineRun, reply.data, reply)


@contextlib.asynccontextmanager
async def open_client(
    workspace: Workspace, clock: Clock, limits: Limits | None = None, **more: Any
) -> AsyncIterator[OrchestraClient]:
    """Open a client of its own for a command.

    Args:
        limits: At most so many requests at once and so many a second; 8 at once by default.
        more: Keys of Transport: time-outs, retries.
    """
    shared = SourceLimits.of(limits or Limits(), clock)
    shared.each = True
    async with OrchestraClient(workspace, clock, shared, **more) as client:
        yield client


async def connected(room: Room, workspace: Workspace, **more: Any) -> OrchestraClient:
    """Return the client of a workspace, which everybody in the room shares, with its limits and its pause.

    Args:
        more: Keys of OrchestraClient; those of the first who asks count.
    """

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[OrchestraClient]:
        limits = room.limits(workspace.system)
        # The client asks for each request: a look holds no slot that its own requests would wait for.
        limits.each = True
        async with OrchestraClient(workspace, room.clock, limits, **more) as client:
            yield client

    return await room.connection(("client", *workspace.system), connect)


def _selector(pipeline: str) -> dict[str, str]:
    return {"pipeline_id" if is_id(pipeline) else "alias": pipeline}


def is_id(pipeline: str) -> bool:
    """Tell whether this is the id of a pipeline; else it is an alias."""
    try:
        UUID(pipeline)
    except ValueError:
        return False
    return True


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _given(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _model(kind: type[AnswerT], data: Any, reply: Reply) -> AnswerT:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "it"
        raise RequestRefused(
            f"Orchestra: {reply.where}: the answer is not what its reference says: {where}: {wrong['msg']}."
        ) from None


async def _models(
    kind: type[AnswerT], pages: AsyncGenerator[tuple[Reply, list[Any]], None]
) -> AsyncGenerator[list[AnswerT], None]:
    async with contextlib.aclosing(pages):
        async for reply, results in pages:
            yield [_model(kind, one, reply) for one in results]
