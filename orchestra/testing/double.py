"""The server: who is let in, and in which order a request is looked at.

Facts: Orchestra docs, API. Stricter than Orchestra in one thing, so that a misspelt request is seen: a query parameter
that nothing reads is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from orchestra.testing import pipelineroutes, refusals, runroutes, webhook, workspaceroutes
from orchestra.testing.refusals import Refusal
from orchestra.testing.request import PREFIX, Asked, Handler, Readings
from orchestra.testing.state import Workspace
from orchestra.testing.store import Store

__all__ = ["PREFIX", "OrchestraDouble"]


def _now() -> datetime:
    return datetime.now(UTC)


class OrchestraDouble(Double, Readings):
    """Orchestra on the loopback, with one workspace to begin with.

    Args:
        now: The time, for stamps and for what becomes of runs.
        key: API keys and their workspaces are in ``workspaces``; this is the key of the first.
        store: Where the first workspace is kept; in memory only by default.

    Attributes:
        workspace: The first workspace.
        logins: Access tokens of people who have logged in, and the workspaces that each covers.
        events: Every event of the webhook that was taken, in order.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _now,
        key: str = "key-of-the-first-workspace",
        latency: float = 0.0,
        port: int = 0,
        store: Store | None = None,
    ) -> None:
        super().__init__(latency=latency, port=port)
        self.now = now
        self.key = key
        self.workspace = Workspace(now, store=store)
        self.workspaces = {key: self.workspace}
        self.logins: dict[str, list[Workspace]] = {}
        self.events: list[dict[str, Any]] = []

    @property
    def base_url(self) -> str:
        """The address that paths of the API follow."""
        return f"{self.url}{PREFIX}"

    def routes(self) -> Iterable[web.RouteDef]:
        for method, path, handler in (*pipelineroutes.ROUTES, *runroutes.ROUTES, *workspaceroutes.ROUTES):
            yield web.route(method, f"{PREFIX}{path}", self._open(handler))
        for path in ("pipeline/data", "pipelines/data"):
            yield web.get(f"{PREFIX}/{path}", self._open(self._data))
        yield web.post(f"{PREFIX}/pipelines/schema", pipelineroutes.checked)
        yield web.get("/public/v1/accounts", self._accounts)
        yield web.post("/", self._open(self._event))

    def unknown(self, request: web.Request, status: int) -> web.Response:
        return Refusal(status, "Method Not Allowed" if status == 405 else "Not Found").response()

    async def serve(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        """Answer a request that was let in."""
        return await handler(asked)

    def _open(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return a handler behind the key."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                workspace, login = self._let_in(request)
                return await self.serve(handler, Asked(request, workspace, self, self.now(), login))
            except Refusal as refusal:
                return refusal.response()

        return handle

    def _covered(self, request: web.Request) -> tuple[list[Workspace], bool]:
        """Return the workspaces that a key or a login covers, and whether it is a login."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token in self.workspaces:
            return [self.workspaces[token]], False
        if scheme.lower() == "bearer" and token in self.logins:
            return self.logins[token], True
        raise Refusal(401, "Invalid or missing API key")

    def _let_in(self, request: web.Request) -> tuple[Workspace, bool]:
        covered, login = self._covered(request)
        account = request.headers.get("X-Orchestra-Account-Id")
        if account is None and len(covered) > 1:
            raise Refusal(400, "This token covers several accounts: name one in X-Orchestra-Account-Id")
        found = next((one for one in covered if account in (None, one.account)), None)
        if found is None:
            raise Refusal(403, "This login does not cover that account" if login else _ANOTHER)
        return found, login

    async def _data(self, asked: Asked) -> web.StreamResponse:
        if asked.request.path.removeprefix(f"{PREFIX}/") not in self.data_paths:
            raise Refusal(404, "Not Found")
        return await pipelineroutes.data(asked)

    async def _accounts(self, request: web.Request) -> web.Response:
        try:
            refusals.query_of(request, ())
            covered, _ = self._covered(request)
        except Refusal as refusal:
            return refusal.response()
        return answer([{"id": one.account, "name": one.name} for one in covered])

    async def _event(self, asked: Asked) -> web.StreamResponse:
        response, said = await webhook.event(asked)
        if response.status < 300:
            self.events.append(said)
        return response


_ANOTHER = "This API key belongs to another account"
