"""How requests are authenticated: each resource may have a way of its own."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from datetime import timedelta

from connectors.http import ApiKey, Auth, Basic, Bearer, Http, NoAuth, OAuth2
from connectors.rest.credentials import AuthModel, BearerToken, ClientCredentials, Key, UserPassword
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


def make_auth(model: AuthModel) -> Auth:
    """Return what authenticates as a model says."""
    if isinstance(model, BearerToken):
        return Bearer(model.token)
    if isinstance(model, UserPassword):
        return Basic(model.username, model.password)
    if isinstance(model, Key):
        place = "query" if model.location == "param" else model.location
        return ApiKey(model.name, model.api_key, place)
    assert isinstance(model, ClientCredentials)
    form = {
        "client_id": model.client_id,
        "client_secret": model.client_secret,
        "grant_type": "client_credentials",
        **{name: str(value) for name, value in (model.access_token_request_data or {}).items()},
    }
    return OAuth2(model.access_token_url, form, lifetime=timedelta(seconds=model.default_token_expiration))
