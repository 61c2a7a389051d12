"""How requests are authenticated; what expires is renewed once, however many requests notice it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio

from runner.clock import Clock
from runner.errors import CredentialsRejected, RequestRefused, UsageError
from runner.secrets import hide

if TYPE_CHECKING:
    from connectors.http.client import Http

# A token is renewed that long before it expires, so that none expires on its way.
_EARLY = 30.0
Form = Mapping[str, str] | Callable[[], Mapping[str, str]] | Callable[[], Awaitable[Mapping[str, str]]]


class Auth(Protocol):
    """Authenticates requests."""

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        """Add what authenticates a request."""
        ...

    async def renew(self, http: Http, headers: Mapping[str, str]) -> bool:
        """Get new credentials in place of those that a request with these headers was refused with.

        Returns:
            Whether there are new ones, so that the request is worth another attempt.
        """
        ...


class NoAuth:
    """Adds nothing."""

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        return

    async def renew(self, http: Http, headers: Mapping[str, str]) -> bool:
        return False


class Bearer(NoAuth):
    """A token that was given (RFC 6750)."""

    def __init__(self, token: str, *, scheme: str = "Bearer") -> None:
        hide(token)
        self._value = f"{scheme} {token}".strip()

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        headers["Authorization"] = self._value


class Basic(NoAuth):
    """User and password (RFC 7617)."""

    def __init__(self, user: str, password: str) -> None:
        hide(password)
        self._value = basic(user, password)
        hide(self._value)

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        headers["Authorization"] = self._value


class ApiKey(NoAuth):
    """A key in a header, in the query or in a cookie."""

    def __init__(self, name: str, value: str, place: Literal["header", "query", "cookie"] = "header") -> None:
        hide(value)
        self._name, self._value, self._place = name, value, place

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        if self._place == "header":
            headers[self._name] = self._value
        elif self._place == "cookie":
            headers["Cookie"] = f"{self._name}={self._value}"
        else:
            params.append((self._name, self._value))


class OAuth2:
    """Tokens of a token endpoint (RFC 6749): client credentials, refresh token or JWT bearer, as the form says.

    Args:
        url: The token endpoint.
        form: The parameters of the grant; called for each token where they must be made anew.
        basic: Client id and secret, where they go into the header and not into the form.
        took: Told of the endpoint's answer: some carry the address of the API.
        json: Whether the endpoint takes JSON instead of a form.
        names: What the answer calls the token and its lifetime in seconds.
        lifetime: Of a token whose answer names none.
    """

    def __init__(
        self,
        url: str,
        form: Form,
        *,
        basic: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        took: Callable[[Mapping[str, Any]], None] = lambda _: None,
        json: bool = False,
        names: tuple[str, str] = ("access_token", "expires_in"),
        lifetime: timedelta | None = None,
    ) -> None:
        self._url = url
        self._form = form
        self._basic = basic
        self._headers = dict(headers or {})
        self._took = took
        self._json = json
        self._token_key, self._expires_key = names
        self._lifetime = lifetime.total_seconds() if lifetime else None
        self._turn = anyio.Lock()
        self._value: str | None = None
        self._expires = float("inf")
        if not callable(form):
            for name, value in form.items():
                if "secret" in name or "token" in name or "assertion" in name:
                    hide(value)
        if basic:
            hide(basic[1])

    async def apply(self, http: Http, headers: MutableMapping[str, str], params: list[tuple[str, str]]) -> None:
        if self._value is None or http.clock.monotonic() >= self._expires:
            await self._fetch(http, self._value)
        assert self._value is not None
        headers["Authorization"] = self._value

    async def renew(self, http: Http, headers: Mapping[str, str]) -> bool:
        await self._fetch(http, headers.get("Authorization"))
        return True

    async def _fetch(self, http: Http, refused: str | None) -> None:
        """Get a token, unless somebody else got one since."""
        async with self._turn:
            if self._value is not None and self._value != refused:
                return
            form = self._form() if callable(self._form) else self._form
            given = form if isinstance(form, Mapping) else await form
            headers = dict(self._headers)
            if self._basic:
                headers["Authorization"] = basic(*self._basic)
            try:
                reply = await http.exchange(self._url, given, headers=headers, json=self._json)
            except RequestRefused as error:
                # RFC 6749, 5.2: wrong credentials and grants are answered with 400.
                raise CredentialsRejected(error.message) from error
            data = reply.data if isinstance(reply.data, Mapping) else {}
            token = data.get(self._token_key)
            if not isinstance(token, str) or not token:
                raise CredentialsRejected(f"{reply.where} gave no {self._token_key}.")
            hide(token)
            self._took(data)
            self._value = f"Bearer {token}"
            seconds = data.get(self._expires_key, self._lifetime)
            known = isinstance(seconds, int | float | str) and str(seconds).replace(".", "", 1).isdigit()
            lifetime = float(seconds) if known and seconds is not None else float("inf")
            self._expires = http.clock.monotonic() + max(lifetime - _EARLY, lifetime / 2)


def basic(user: str, password: str) -> str:
    """Return the header's value for user and password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def jwt_assertion(
    key: str,
    claims: Mapping[str, Any],
    *,
    clock: Clock,
    lifetime: timedelta = timedelta(minutes=3),
    headers: Mapping[str, Any] | None = None,
) -> str:
    """Return a signed assertion for the JWT bearer grant (RFC 7523), RS256.

    Args:
        key: The private key, PEM.
        claims: iss, sub, aud, scope …; iat, exp and jti are added.

    Raises:
        UsageError: The key is none, or the package that signs is not installed.
    """
    try:
        import jwt
    except ImportError as error:
        raise UsageError(
            "To sign in with a private key needs the package 'pyjwt'.",
            guidance="Install it: pip install 'pyjwt[crypto]', or the extra of the source.",
        ) from error
    hide(key)
    now = int(clock.now().timestamp())
    body = {"iat": now, "exp": now + int(lifetime.total_seconds()), "jti": uuid.uuid4().hex, **claims}
    try:
        return jwt.encode(body, key.replace("\\n", "\n"), algorithm="RS256", headers=dict(headers or {}) or None)
    except (ValueError, TypeError, jwt.exceptions.PyJWTError) as error:
        raise UsageError("The private key cannot be read.", guidance="It has to be an RSA key in PEM form.") from error
