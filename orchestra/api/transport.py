"""Requests to Orchestra's API: reads that are tried again, one that is sent once, pages, windows of time, streams.

Facts: Orchestra docs, API, "Pagination" (page, page_size at most 100, the total of items), "List pipeline runs"
(time_from and time_to together, at most 7 days apart).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import anyio
import httpx

from connectors.http.answers import Reply
from orchestra.api.answers import judge_read
from orchestra.api.workspace import Workspace
from runner.clock import Clock
from runner.errors import NotDelivered, OutcomeUnknown, Parked, RequestRefused, RunnerError, SourceDown, Throttled
from runner.job import Retry
from runner.limits import SourceLimits
from runner.requests import Requests

PAGE_SIZE = 100
LONGEST_WINDOW = timedelta(days=7)
_LARGEST = 16 * 2**20
_MISSING = (404, 405)
# Parsing more than that would hold up the loop.
_SMALL = 2**17
_RETRY = Retry(attempts=4, max_wait=timedelta(seconds=5), deadline=timedelta(seconds=60))
_PAUSE = 5.0
# A start that waits longer for its turn is not sent: whoever looks for it later counts from when it was handed over.
_LONGEST_QUEUE = 5.0
_TIMEOUT, _CONNECT = 30.0, 10.0
# From when a start is handed over until nobody waits for its answer any more.
LONGEST_ONCE = timedelta(seconds=_LONGEST_QUEUE + 2 * _TIMEOUT + _CONNECT)
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True)
class Part:
    """How much of an answer's body is wanted.

    Attributes:
        headers: What asks for it.
        skip: Bytes at the beginning of a whole body (200) that are not kept.
        largest: At most so many are kept at once.
        cut: Whether what is longer is left unread; else it is refused.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    skip: int = 0
    largest: int = _LARGEST
    cut: bool = False


WHOLE = Part()


class Transport:
    """Requests to one workspace; ``async with`` opens and closes it.

    Args:
        limits: What everybody who asks this workspace shares: concurrency, rate, and one pause.
        timeout: Seconds until an answer begins, and between its parts; a request as a whole has twice as many.
        connect_timeout: Seconds until there is a connection.
        retry: How reads are tried again.
        patient: Whether a request that is asked to slow down waits, and is tried again then; else whoever asked is told
            at once.
        requests: What tries reads again in place of ``retry``, with the same limits: that of a run.

    Attributes:
        unanswered: When the first request was sent that nothing was answered since; None after any answer.
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Clock,
        limits: SourceLimits,
        *,
        timeout: float = _TIMEOUT,
        connect_timeout: float = _CONNECT,
        retry: Retry = _RETRY,
        patient: bool = False,
        requests: Requests | None = None,
    ) -> None:
        self.workspace = workspace
        self.clock = clock
        self.unanswered: datetime | None = None
        self._limits = limits
        self._requests = requests or Requests(limits, clock, retry=retry)
        self._patient = patient
        self._timeout = httpx.Timeout(timeout, connect=connect_timeout, pool=connect_timeout)
        self._whole = 2 * timeout + connect_timeout
        self._stack = contextlib.AsyncExitStack()
        self._reading: httpx.AsyncClient
        self._starting: httpx.AsyncClient

    async def __aenter__(self) -> Transport:
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

    async def read(self, path: str, params: Mapping[str, str], *, missing: bool = False) -> Reply | None:
        """Get an answer; tried again where that can help.

        Args:
            path: After the base address; with a slash at its beginning after the host.
            missing: Whether a 404 or a 405 is an answer too, None: there is no such thing, or no such path.

        Raises:
            RunnerError: What the answer means, or why there is none.
        """
        return await self.repeat("GET", path, params=params, missing=missing)

    async def repeat(
        self,
        method: str,
        path: str,
        *,
        missing: bool = False,
        accept: Callable[[Reply], bool] = lambda _: False,
        part: Part = WHOLE,
        params: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Reply | None:
        """Send a request that does no harm when it arrives twice; else as ``read``.

        Args:
            accept: Whether an answer is one that the caller reads, whatever its status.
            part: How much of the answer's body is wanted.
        """

        async def once() -> Reply:
            more = {} if json is None else {"json": json}
            try:
                reply = await self._exchange(self._reading, method, path, part, params=dict(params or {}), **more)
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                raise SourceDown(
                    f"Orchestra at {self.workspace.name}: {method} /{path.lstrip('/')}: no answer ({said(error)})."
                ) from error
            except _TooLarge:
                raise RequestRefused(
                    f"Orchestra: {method} /{path}: the answer is larger than {part.largest:,} bytes."
                ) from None
            if (missing and reply.status in _MISSING) or accept(reply):
                return reply
            refused = judge_read(reply, self.workspace, now=self.clock.now())
            if isinstance(refused, Throttled):
                self.slow_down(refused.retry_after)
            if refused is not None:
                raise refused
            return reply

        reply = await self._requests.send(once, may_retry=self._may_retry)
        return None if missing and reply.status in _MISSING else reply

    def _may_retry(self, error: RunnerError) -> bool:
        return error.retriable and (self._patient or not isinstance(error, Throttled))

    async def once(self, path: str, body: Mapping[str, Any], what: str) -> Reply:
        """Post a request that is sent at most once, and return its answer, whatever that says.

        Args:
            what: What it does, for messages: a start of 'shop'.

        Raises:
            NotDelivered: It never left.
            OutcomeUnknown: It may have arrived.
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
            try:
                return await self._exchange(self._starting, "POST", path, json=dict(body))
            except _NEVER_SENT as error:
                raise NotDelivered(f"There is no connection to {self.workspace.name}: {said(error)}.") from error
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                raise OutcomeUnknown(
                    f"The answer to {what} was lost ({said(error)}): it may have been done all the same."
                ) from error
            except _TooLarge as error:
                raise OutcomeUnknown(f"The answer to {what} is larger than any should be.") from error

    def check_pause(self) -> None:
        """See that nobody was asked to slow down.

        Raises:
            NotDelivered: That time is not over.
        """
        left = self._limits.pause.left()
        if left > _LONGEST_QUEUE:
            message = "Orchestra asked us to slow down, and that time is not over."
            raise NotDelivered(message, retry_after=left, patient=True)

    def pause_left(self) -> float:
        """Return the seconds for which everybody was asked to slow down."""
        return self._limits.pause.left()

    def slow_down(self, seconds: float | None) -> None:
        """Let everybody who asks this workspace wait."""
        self._limits.pause.request(_PAUSE if seconds is None else seconds)
        self._limits.concurrency.refused()

    async def windows(
        self, path: str, params: Mapping[str, str], time_from: datetime, time_to: datetime
    ) -> AsyncGenerator[tuple[Reply, list[Any]], None]:
        """Return pages of a time of any length, in windows that Orchestra takes; what lies on a border comes twice."""
        begin = time_from
        while True:
            end = min(time_to, begin + LONGEST_WINDOW)
            asked = {**params, "time_from": begin.isoformat(), "time_to": end.isoformat()}
            async with contextlib.aclosing(self.pages(path, asked)) as pages:
                async for page in pages:
                    yield page
            if end >= time_to:
                return
            begin = end

    async def pages(
        self, path: str, params: Mapping[str, str], *, size: int = PAGE_SIZE
    ) -> AsyncGenerator[tuple[Reply, list[Any]], None]:
        """Return pages until as many came as there are in all, or one is empty; an answer may also be a bare list.

        How long pages are is left to Orchestra: ``size`` is what is asked for.

        Yields:
            The answer, and its results; never without any.
        """
        number, seen = 1, 0
        before: list[Any] = []
        while True:
            reply = await self.read(path, {**params, "page": str(number), "page_size": str(size)})
            assert reply is not None
            data = reply.data
            results = listed(reply)
            if results and results == before:
                raise RequestRefused(f"Orchestra: {reply.where}: page {number} is the one before it once more.")
            before = results
            if results:
                yield reply, results
            seen += len(results)
            total = data.get("total") if isinstance(data, Mapping) else seen
            if not results or (isinstance(total, int) and seen >= total):
                return
            number += 1

    async def _exchange(
        self, session: httpx.AsyncClient, method: str, path: str, part: Part = WHOLE, **more: Any
    ) -> Reply:
        if path.startswith("/"):
            url, headers = f"{self.workspace.host}{path}", dict(part.headers)
        else:
            url, headers = f"{self.workspace.base_url}/{path}", {**self.workspace.account_headers, **part.headers}
        self.unanswered = self.unanswered or self.clock.now()
        with anyio.fail_after(self._whole):
            async with session.stream(method, url, headers=headers, **more) as response:
                self.unanswered = None
                body = bytearray()
                skip = part.skip if response.status_code == 200 else 0
                async for piece in response.aiter_bytes():
                    body += memoryview(piece)[skip:]
                    skip = max(0, skip - len(piece))
                    if len(body) > part.largest:
                        if part.cut:
                            break
                        raise _TooLarge
        reply = Reply(method, url, response.status_code, response.headers, bytes(body))
        if part is WHOLE and len(body) > _SMALL:
            await anyio.to_thread.run_sync(lambda: reply.data)
        return reply


def listed(reply: Reply) -> list[Any]:
    """Return the results in an answer: those of a page, or a bare list.

    Raises:
        RequestRefused: There are none.
    """
    data = reply.data
    results = data.get("results") if isinstance(data, Mapping) else data
    if not isinstance(results, list):
        raise RequestRefused(f"Orchestra: {reply.where}: the answer holds no list of results.")
    return results


class _TooLarge(Exception):
    """An answer that nobody needs as a whole."""


def said(error: BaseException) -> str:
    """Return what went wrong with a connection, in a few words."""
    names: dict[type[BaseException], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.PoolTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        TimeoutError: "no answer in time",
    }
    return names.get(type(error)) or type(error).__name__
