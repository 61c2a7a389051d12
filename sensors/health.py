"""Who watches over the sensors: a small server with the live page, /healthz and /metrics; read only, without secrets.

It is bound to this machine alone unless it is told otherwise, and answers only to names of its own: a page of another
site, whose name was made to lead here, reads nothing (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import anyio
from aiohttp import web

from runner.clock import Clock
from runner.errors import UsageError
from sensors import metrics
from sensors.board import Board
from sensors.view import Held, Query, View

PORT = 8788
_MOST_NAMED = 50
_DEADLINE = 20.0
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
# RFC 3986, 3.2.2: an IPv6 address stands in brackets.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?")
AnswerT = TypeVar("AnswerT")


@contextlib.asynccontextmanager
async def serve(
    board: Board,
    clock: Clock,
    host: str = "127.0.0.1",
    port: int = PORT,
    *,
    store: Path | None = None,
    names: Collection[str] = (),
) -> AsyncIterator[str]:
    """Serve while the block lasts; give its address.

    Args:
        board: What is shown.
        host: Where it listens: this machine alone by default.
        port: 0 takes one that is free.
        store: The file of the sensors' state, for deliveries that wait for a person.
        names: Names under which others reach it, beside addresses, ``localhost``, ``host`` and names without a dot.

    Raises:
        UsageError: It cannot listen there.
    """
    page = await anyio.to_thread.run_sync(resources.files("sensors").joinpath("page.html").read_text, "utf-8")
    watch = _Watch(board, clock, store, page)
    application = web.Application(middlewares=[_guard({host, *names})])
    application.router.add_get("/", watch.page)
    application.router.add_get("/healthz", watch.healthz)
    application.router.add_get("/metrics", watch.metrics)
    application.router.add_get("/api/sensors", watch.sensors)
    application.router.add_get("/api/board", watch.board)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=30, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UsageError(
                f"The live page cannot listen on {host}, port {port}: {error.strerror or error}.",
                guidance="Choose another port, or stop who has it.",
            ) from error
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{bound}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def is_ours(header: str, names: Collection[str]) -> bool:
    """Tell whether a Host header names this server.

    An address cannot be made to lead elsewhere, nor can a name without a dot, which no one outside can own.
    """
    parts = _HOST.fullmatch(header.lower())
    if parts is None:
        return False
    # Its port is left alone: a tunnel may change it.
    host = parts[1].strip("[]").rstrip(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".localhost") or host in {one.lower() for one in names}
    return True


def _guard(names: Collection[str]) -> Callable[..., Any]:
    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        if not is_ours(request.headers.get("Host", ""), names):
            return web.Response(
                status=421,
                text="This server does not go by that name: use its address, or allow the name where it is started.\n",
                headers=_HEADERS,
            )
        try:
            with anyio.fail_after(_DEADLINE):
                response: web.StreamResponse = await handler(request)
        except TimeoutError:
            response = web.Response(status=503, text=f"It took longer than {_DEADLINE:.0f} s to make this.\n")
        response.headers.update(_HEADERS)
        return response

    return guard


class _Watch:
    """What is answered."""

    def __init__(self, board: Board, clock: Clock, store: Path | None, page: str) -> None:
        self._board = board
        self._clock = clock
        self._page = page
        # A page that is open for days notices by it that there is a newer one.
        self._edition = sha256(page.encode()).hexdigest()[:12]
        self._held = Held(store, clock)
        self._view: tuple[float, View] | None = None
        # The text of ten thousand sensors is megabytes: a thread makes it, one at a time, so that monitors do not
        # take the machine from the sensors.
        self._threads = anyio.CapacityLimiter(1)

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def healthz(self, request: web.Request) -> web.Response:
        now = self._clock.now()
        dead = self._board.dead(now)
        newest = max((one.last_success or 0.0 for one in self._board.statuses.values()), default=0.0)
        body = {
            "status": "dead" if dead else "alive",
            "file": self._board.name,
            "refused": self._board.refused,
            "sensors": len(self._board.statuses),
            "failing": sum(one.failures > 0 for one in self._board.statuses.values()),
            "last_success": newest or None,
            "dead": len(dead),
            "names": [one.name for one in dead[:_MOST_NAMED]],
        }
        return _json(body, 503 if dead else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
        statuses, now = list(self._board.statuses.values()), self._clock.now()
        outbox = {**self._board.outbox, **await self._held.counts()}

        def text() -> bytes:
            return metrics.render(self._board, statuses, outbox, now, openmetrics=openmetrics).encode()

        kind = metrics.OPENMETRICS if openmetrics else metrics.PROMETHEUS
        return await self._answer(request, text, {"Content-Type": kind})

    async def sensors(self, request: web.Request) -> web.Response:
        try:
            query = Query.parse(request.query)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        view = await self._look()
        return await self._answer(request, lambda: _dump(view.sensors(query)), {"Content-Type": "application/json"})

    async def board(self, request: web.Request) -> web.Response:
        view = await self._look()
        held, counts = await self._held.look()
        outbox = {**self._board.outbox, **counts}
        lists = view.lists(self._board)

        def text() -> bytes:
            return _dump({"edition": self._edition, **view.board(lists), "outbox": outbox, "held": held})

        return await self._answer(request, text, {"Content-Type": "application/json"})

    async def _look(self) -> View:
        """Return everything, worst first; who asks within a second is given the same."""
        at = self._clock.monotonic()
        if self._view is None or at - self._view[0] >= 1.0:
            look = functools.partial(
                View, self._board, list(self._board.statuses.values()), self._board.minutes(), self._clock.now()
            )
            self._view = (at, await self._thread(look))
        return self._view[1]

    async def _answer(
        self, request: web.Request, make: Callable[[], bytes], headers: Mapping[str, str]
    ) -> web.Response:
        packed = "gzip" in request.headers.get("Accept-Encoding", "")

        def whole() -> bytes:
            return gzip.compress(make(), 1) if packed else make()

        more = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=await self._thread(whole), headers={**headers, **more, "Vary": "Accept-Encoding"})

    async def _thread(self, work: Callable[[], AnswerT]) -> AnswerT:
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


def _dump(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=_dump(body), status=status, content_type="application/json")
