"""A server on the loopback that speaks a vendor's protocol, with state, limits and faults: what all doubles share."""

from __future__ import annotations

import abc
import asyncio
import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

Kind = Literal["status", "reset", "cut", "truncated_gzip", "body", "silence", "slow"]


@dataclass
class Fault:
    """Something that goes wrong with requests.

    Attributes:
        kind: status: that answer, without doing anything; reset: the connection dies before an answer; cut: it dies in
            the middle of the answer's body; truncated_gzip: the body is compressed and its end is missing; body: the
            answer has this body instead of its own, with this status; silence: no answer comes; slow: it comes late.
        path: Which requests, as a regular expression over path and query.
        method: Only this method; all by default.
        times: How many requests more.
        after: How many matching requests pass before.
        seconds: How late a slow answer is; what is asked for is done at once.
        done: Whether what the request asks for is done all the same, and only its answer goes wrong.
    """

    kind: Kind
    path: str = ""
    method: str | None = None
    times: int = 1
    after: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = ""
    seconds: float = 0.0
    done: bool = False

    def strikes(self, method: str, path: str) -> bool:
        """Tell whether this request goes wrong, and count it."""
        if self.times <= 0 or (self.method or method) != method or not re.search(self.path, path):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Seen:
    """A request that was answered; status 0 stands for none."""

    method: str
    path: str
    query: str
    status: int
    headers: dict[str, str] = field(repr=False, default_factory=dict)
    body: bytes = field(repr=False, default=b"")


class Double(abc.ABC):
    """A server in a thread of its own; ``with`` starts and stops it.

    Args:
        latency: Seconds before each answer.
        port: A free one by default.

    Attributes:
        url: Where it listens.
        seen: Every request, in order.
        faults: What goes wrong; the first that strikes counts.
    """

    def __init__(self, *, latency: float = 0.0, port: int = 0) -> None:
        self.latency = latency
        self.seen: MutableSequence[Seen] = []
        self.faults: list[Fault] = []
        self.url = ""
        self._port = port
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failed: Exception | None = None
        self._stop: asyncio.Event

    @abc.abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """Return what it answers."""

    def fail(self, kind: Kind, path: str = "", **more: Any) -> Fault:
        """Let matching requests go wrong, as Fault says."""
        fault = Fault(kind, path, **more)
        self.faults.append(fault)
        return fault

    def count(self, path: str = "", *, method: str | None = None, status: int | None = None) -> int:
        """Return how many requests matched."""
        return sum(
            bool(re.search(path, f"{one.path}?{one.query}"))
            and method in (None, one.method)
            and status in (None, one.status)
            for one in self.seen
        )

    def __enter__(self) -> Any:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the server did not start")
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(10)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except Exception as error:
            # Whoever waits for the start is told; after it nobody is.
            if self._ready.is_set():
                raise
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(middlewares=[self._answer], client_max_size=2**27)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, max_line_size=2**17)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.latency:
            await asyncio.sleep(self.latency)
        body = await request.read()
        path = request.rel_url.raw_path
        query = request.rel_url.raw_query_string
        fault = next((one for one in self.faults if one.strikes(request.method, f"{path}?{query}")), None)
        response: web.StreamResponse
        status = 0
        try:
            if fault is not None and fault.done:
                await handler(request)
            if fault is not None and fault.kind == "silence":
                await _gone(request)
            if fault is not None and fault.kind in ("reset", "silence"):
                _reset(request)
                raise asyncio.CancelledError
            if fault is not None and fault.kind in ("status", "body"):
                response = answer(fault.body, status=fault.status, headers=fault.headers)
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    response = self.unknown(request, error.status)
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            status = response.status
        finally:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.seen.append(Seen(request.method, path, query, status, headers, body))
        if fault is not None and fault.kind in ("cut", "truncated_gzip") and isinstance(response, web.Response):
            return await _spoil(request, response, fault.kind)
        return response

    def unknown(self, request: web.Request, status: int) -> web.Response:
        """Return the vendor's answer to a path (404) or a method (405) that it does not have."""
        return answer({"error": request.path}, status=status)


def answer(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer: text as it is, anything else as JSON."""
    own = dict(headers or {})
    if isinstance(body, bytes):
        return web.Response(body=body, status=status, headers=own)
    if isinstance(body, str):
        return web.Response(text=body, status=status, headers=own)
    own.setdefault("Content-Type", "application/json; charset=utf-8")
    return web.Response(body=json.dumps(body, ensure_ascii=False).encode(), status=status, headers=own)


async def _spoil(request: web.Request, whole: web.Response, kind: Kind) -> web.StreamResponse:
    """Send half of an answer: then the connection dies, or the compressed body ends as if it were whole."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    headers = {name: value for name, value in whole.headers.items() if name.lower() != "content-length"}
    if kind == "truncated_gzip":
        packed = gzip.compress(body)
        half = packed[: max(1, len(packed) // 2)]
        return web.Response(body=half, status=whole.status, headers={**headers, "Content-Encoding": "gzip"})
    response = web.StreamResponse(status=whole.status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0.02)  # what was written has to leave before the connection dies
    _reset(request)
    return response


async def _gone(request: web.Request) -> None:
    """Wait until whoever asked has gone."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


def _reset(request: web.Request) -> None:
    """Let the connection die as a lost one does: with RST."""
    transport = request.transport
    if transport is None:
        return
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
