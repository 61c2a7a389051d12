"""A client of Orchestra's API: reads are tried again, a start is sent once.

Facts: Orchestra docs, API, "Start a pipeline run", "Pagination" (page, page_size at most 100, the total of items),
"List pipeline runs" (time_from and time_to together, at most 7 days apart).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import anyio
import httpx
from pydantic import ValidationError

from connectors.http.answers import Reply
from orchestra.answers import judge_read, judge_start
from orchestra.definitions import parse_definition
from orchestra.models import Answer, Pipeline, PipelineRun, Start, Started, TaskRun
from orchestra.workspace import Workspace
from runner.clock import Clock
from runner.errors import (
    DeliveryError,
    NotDelivered,
    OutcomeUnknown,
    Parked,
    RequestRefused,
    RunnerError,
    SourceDown,
    Throttled,
)
from runner.job import Retry
from runner.limits import SourceLimits
from runner.requests import Requests
from sensors.room import Room

AnswerT = TypeVar("AnswerT", bound=Answer)

PAGE_SIZE = 100
LONGEST_WINDOW = timedelta(days=7)
_LARGEST = 16 * 2**20
# Parsing more than that would hold up the loop.
_SMALL = 2**17
_RETRY = Retry(attempts=4, max_wait=timedelta(seconds=5), deadline=timedelta(seconds=60))
_PAUSE = 5.0
# A start that waits longer for its turn is not sent: whoever looks for it later counts from when it was handed over.
_LONGEST_QUEUE = 5.0
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)


class OrchestraClient:
    """One workspace; ``async with`` opens and closes it.

    Args:
        limits: What everybody who asks this workspace shares: concurrency, rate, and one pause.
        timeout: Seconds until an answer begins, and between its parts; a request as a whole has twice as many.
        connect_timeout: Seconds until there is a connection.
        retry: How reads are tried again. A start never is.
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Clock,
        limits: SourceLimits,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        retry: Retry = _RETRY,
    ) -> None:
        self.workspace = workspace
        self.clock = clock
        self._limits = limits
        self._requests = Requests(limits, clock, retry=retry)
        self._timeout = httpx.Timeout(timeout, connect=connect_timeout, pool=connect_timeout)
        self._whole = 2 * timeout + connect_timeout
        self._stack = contextlib.AsyncExitStack()
        self._reading: httpx.AsyncClient
        self._starting: httpx.AsyncClient

    async def __aenter__(self) -> OrchestraClient:
        context = await anyio.to_thread.run_sync(httpx.create_ssl_context)
        async with contextlib.AsyncExitStack() as stack:
            self._reading = await stack.enter_async_context(self._session(context, 20))
            # A connection that was idle may be closed just when it is used: whether a start arrived could not be told.
            self._starting = await stack.enter_async_context(self._session(context, 0))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    def _session(self, context: ssl.SSLContext, kept: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=context,
            headers=self.workspace.headers,
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept),
            follow_redirects=False,
        )

    # Starting.

    async def start(self, pipeline: str, start: Start) -> Started:
        """Start a run of a pipeline, by alias or id; it is sent at most once.

        Raises:
            NotDelivered: Nothing was started.
            DeliveryRefused: Nothing was started, and another attempt cannot help.
            OutcomeUnknown: It may have been started.
        """
        self.check_pause()
        async with contextlib.AsyncExitStack() as stack:
            with anyio.move_on_after(_LONGEST_QUEUE) as queue:
                try:
                    await stack.enter_async_context(self._limits.single())
                except Parked as error:
                    raise NotDelivered(error.message, retry_after=self._limits.pause.left(), patient=True) from error
            if queue.cancelled_caught:
                raise NotDelivered("Too many requests to Orchestra are under way.", retry_after=_PAUSE, patient=True)
            path = f"pipelines/{quote(pipeline, safe='')}/start"
            try:
                reply = await self._exchange(self._starting, "POST", path, json=start.body())
            except _NEVER_SENT as error:
                raise NotDelivered(f"There is no connection to {self.workspace.name}: {_said(error)}.") from error
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                raise OutcomeUnknown(
                    f"The answer to a start of {pipeline!r} was lost ({_said(error)}): it may have begun all the same."
                ) from error
            except _TooLarge as error:
                raise OutcomeUnknown(f"The answer to a start of {pipeline!r} is larger than any should be.") from error
        outcome = judge_start(reply, pipeline, self.workspace, now=self.clock.now())
        if isinstance(outcome, DeliveryError):
            if isinstance(outcome, NotDelivered) and reply.status in (429, 503):
                self._slow_down(outcome.retry_after)
            raise outcome
        return outcome

    def check_pause(self) -> None:
        """See that nobody was asked to slow down.

        Raises:
            NotDelivered: That time is not over.
        """
        left = self._limits.pause.left()
        if left > _LONGEST_QUEUE:
            message = "Orchestra asked us to slow down, and that time is not over."
            raise NotDelivered(message, retry_after=left, patient=True)

    # Pipelines.

    async def pipeline(self, pipeline: str) -> Pipeline | None:
        """Return a pipeline by alias or id; None where there is none."""
        reply = await self._read("pipeline", _selector(pipeline), missing=True)
        return None if reply is None else _model(Pipeline, reply.data, reply)

    async def definition(
        self, pipeline: str, *, branch: str | None = None, commit: str | None = None
    ) -> dict[str, Any] | None:
        """Return the definition of a pipeline; None where there is none, or no mapping.

        It may come as YAML, as JSON, as a text of either, or inside an object, under ``yaml``, ``data`` or ``content``.
        """
        params = {**_selector(pipeline), **_given(branch=branch, commit=commit)}
        reply = await self._read("pipeline/data", params, missing=True)
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
        return self._windows("pipeline_runs", PipelineRun, asked, time_from, time_to)

    def task_runs(
        self, *, time_from: datetime, time_to: datetime, pipelines: Sequence[str] = (), statuses: Sequence[str] = ()
    ) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of task runs of many pipeline runs; it cannot be asked for those of some runs."""
        asked = _given(pipeline_ids=",".join(pipelines), status=",".join(statuses))
        return self._windows("task_runs", TaskRun, asked, time_from, time_to)

    def task_runs_of(self, run: str) -> AsyncGenerator[list[TaskRun], None]:
        """Return pages of the task runs of one pipeline run."""
        return self._pages(f"pipeline_runs/{quote(run, safe='')}/task_runs", TaskRun, {})

    async def run_status(self, run: str) -> PipelineRun | None:
        """Return what is known of a run of any age: its status, its pipeline; None where there is none."""
        reply = await self._read(f"pipeline_runs/{quote(run, safe='')}/status", {}, missing=True)
        return None if reply is None else _model(PipelineRun, reply.data, reply)

    async def _windows(
        self, path: str, kind: type[AnswerT], asked: dict[str, str], time_from: datetime, time_to: datetime
    ) -> AsyncGenerator[list[AnswerT], None]:
        begin = time_from
        while True:
            end = min(time_to, begin + LONGEST_WINDOW)
            params = {**asked, "time_from": begin.isoformat(), "time_to": end.isoformat()}
            async with contextlib.aclosing(self._pages(path, kind, params)) as pages:
                async for page in pages:
                    yield page
            if end >= time_to:
                return
            begin = end

    async def _pages(
        self, path: str, kind: type[AnswerT], params: Mapping[str, str]
    ) -> AsyncGenerator[list[AnswerT], None]:
        """Return pages until as many came as there are in all, or one is empty; an answer may also be a bare list."""
        number, seen = 1, 0
        while True:
            reply = await self._read(path, {**params, "page": str(number), "page_size": str(PAGE_SIZE)})
            assert reply is not None
            data = reply.data
            results = data.get("results") if isinstance(data, Mapping) else data
            if not isinstance(results, list):
                raise RequestRefused(f"Orchestra: {reply.where}: the answer holds no list of results.")
            if results:
                yield [_model(kind, one, reply) for one in results]
            seen += len(results)
            total = data.get("total") if isinstance(data, Mapping) else seen
            if not results or (isinstance(total, int) and seen >= total):
                return
            number += 1

    # Requests.

    async def _read(self, path: str, params: Mapping[str, str], *, missing: bool = False) -> Reply | None:
        """Get an answer; None for a 404 where that is an answer too."""

        async def once() -> Reply:
            try:
                reply = await self._exchange(self._reading, "GET", path, params=params)
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                raise SourceDown(f"Orchestra: GET /{path}: no answer ({_said(error)}).") from error
            except _TooLarge:
                raise RequestRefused(f"Orchestra: GET /{path}: the answer is larger than {_LARGEST:,} bytes.") from None
            if missing and reply.status == 404:
                return reply
            refused = judge_read(reply, self.workspace, now=self.clock.now())
            if isinstance(refused, Throttled):
                self._slow_down(refused.retry_after)
            if refused is not None:
                raise refused
            return reply

        reply = await self._requests.send(once, may_retry=_may_retry)
        return None if reply.status == 404 else reply

    async def _exchange(self, session: httpx.AsyncClient, method: str, path: str, **more: Any) -> Reply:
        with anyio.fail_after(self._whole):
            async with session.stream(method, f"{self.workspace.base_url}/{path}", **more) as response:
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _LARGEST:
                        raise _TooLarge
        reply = Reply(method, f"{self.workspace.base_url}/{path}", response.status_code, response.headers, bytes(body))
        if len(body) > _SMALL:
            await anyio.to_thread.run_sync(lambda: reply.data)
        return reply

    def _slow_down(self, seconds: float | None) -> None:
        self._limits.pause.request(_PAUSE if seconds is None else seconds)
        self._limits.concurrency.refused()


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


class _TooLarge(Exception):
    """An answer that nobody needs as a whole."""


def _may_retry(error: RunnerError) -> bool:
    # Whoever was asked to slow down gives up its place meanwhile, rather than wait in it.
    return error.retriable and not isinstance(error, Throttled)


def _said(error: BaseException) -> str:
    names: dict[type[BaseException], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.PoolTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        TimeoutError: "no answer in time",
    }
    return names.get(type(error)) or type(error).__name__


def _selector(pipeline: str) -> dict[str, str]:
    return {"pipeline_id" if is_id(pipeline) else "alias": pipeline}


def is_id(pipeline: str) -> bool:
    """Tell whether this is the id of a pipeline; else it is an alias."""
    try:
        UUID(pipeline)
    except ValueError:
        return False
    return True


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
