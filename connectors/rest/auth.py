"""How requests are authenticated: each resource may have a way of its own."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar

from connectors.http import Auth, Http, NoAuth
from connectors.rest.credentials import make_auth
from connectors.rest.resources import Resource

# The resource that is asked for, by whoever sends the request.
asking: ContextVar[Resource | None] = ContextVar("asking", default=None)


class Credentials:
    """Authenticates each request as its resource says; resources that say the same share a token."""

    def __init__(self) -> None:
        self._known: dict[str, Auth] = {}

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        await self._own().apply(http, headers, params)

    async def renew(self, http: Http, headers: Mapping[str, str]) -> bool:
        return await self._own().renew(http, headers)

    def _own(self) -> Auth:
        resource = asking.get()
        model = resource.auth if resource is not None else None
        if model is None:
            return NoAuth()
        name = model.model_dump_json()
        if name not in self._known:
            self._known[name] = make_auth(model)
        return self._known[name]
