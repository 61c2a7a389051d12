"""The token endpoint: who gets a session, and for how long it is good.

Facts: help.salesforce.com, "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" (RS256; ``iss`` is the consumer
key, ``sub`` the user, ``aud`` the login server; expired assertions are refused), "OAuth 2.0 Client Credentials Flow"
(only on the organisation's own domain), "OAuth 2.0 Refresh Token Flow", "OAuth 2.0 Authorization Errors".
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.testing.salesforce.refusal import OAuthRefused, Refused

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GRANTS = (JWT_BEARER, "client_credentials", "refresh_token")


@dataclass
class App:
    """A connected app.

    Attributes:
        certificate: The public key that assertions are signed for, as PEM.
        users: Who approved it.
        run_as: The user of the client credentials flow; None where it is not enabled.
        refresh_tokens: Those that are good.
        scope: What its sessions may do.
    """

    client_id: str = "3MVG9.app"
    client_secret: str = field(default="s3cret", repr=False)
    certificate: str | None = field(default=None, repr=False)
    users: set[str] = field(default_factory=lambda: {"runner@example.com"})
    run_as: str | None = "runner@example.com"
    refresh_tokens: set[str] = field(default_factory=lambda: {"5Aep861.refresh"}, repr=False)
    scope: str = "api refresh_token"


@dataclass
class Session:
    """A session: until when it is good, and what it may do."""

    ends: datetime
    scope: str


class Sessions:
    """The sessions of an organisation.

    Attributes:
        lifetime: How long one is good.
        logins: How many tokens are given before the login rate is exceeded; None is any number.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.app = App()
        self.lifetime = timedelta(hours=2)
        self.logins: int | None = None
        self._now = now
        self._open: dict[str, Session] = {}
        self._numbers = itertools.count(1)

    def expire(self) -> None:
        """End every session now."""
        self._open.clear()

    def open(self, scope: str | None = None) -> str:
        """Give a session without asking for credentials."""
        token = f"00D5g000000AbCd!AQ.{next(self._numbers)}"
        self._open[token] = Session(self._now() + self.lifetime, scope or self.app.scope)
        return token

    def check(self, authorization: str) -> None:
        """Check the session of a request.

        Raises:
            Refused: It has none, it has expired, or it is not for the API.
        """
        scheme, _, token = authorization.partition(" ")
        session = self._open.get(token.strip())
        if scheme.lower() not in ("bearer", "oauth") or session is None or session.ends <= self._now():
            raise Refused("INVALID_SESSION_ID", "Session expired or invalid", 401)
        if not {"api", "full"} & set(session.scope.split()):
            raise Refused("INVALID_SESSION_ID", "This session is not valid for use with the REST API", 403)

    def grant(self, form: dict[str, str], authorization: str, url: str) -> dict[str, Any]:
        """Give a token for credentials.

        Args:
            url: Where the organisation is.

        Raises:
            OAuthRefused: They are wrong.
        """
        kind = form.get("grant_type")
        if kind is None:
            raise OAuthRefused("unsupported_grant_type", "grant type not supported")
        if kind not in _GRANTS:
            raise OAuthRefused("unsupported_grant_type", "grant type not supported")
        if self.logins is not None:
            if self.logins <= 0:
                raise OAuthRefused("invalid_grant", "login rate exceeded")
            self.logins -= 1
        if kind == JWT_BEARER:
            self._check_assertion(form.get("assertion"), url)
        elif kind == "client_credentials":
            self._check_client(form, authorization)
            if self.app.run_as is None:
                raise OAuthRefused("invalid_grant", "no client credentials user enabled")
        else:
            self._check_client(form, authorization)
            if "refresh_token" not in form:
                raise OAuthRefused("invalid_request", "refresh_token is required")
            if form["refresh_token"] not in self.app.refresh_tokens:
                raise OAuthRefused("invalid_grant", "expired access/refresh token")
        given: dict[str, Any] = {
            "access_token": self.open(),
            "scope": self.app.scope,
            "instance_url": url,
            "id": f"{url}/id/00D5g000000AbCdEAK/0055g000000000001AAA",
            "token_type": "Bearer",
        }
        if kind != JWT_BEARER:
            given |= {"signature": "c2ln", "issued_at": str(int(self._now().timestamp() * 1000))}
        return given

    def _check_client(self, form: dict[str, str], authorization: str) -> None:
        name, secret = form.get("client_id"), form.get("client_secret")
        if name is None and authorization.lower().startswith("basic "):
            try:
                name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise OAuthRefused("invalid_client", "invalid client credentials") from None
        if name != self.app.client_id:
            raise OAuthRefused("invalid_client_id", "client identifier invalid")
        if secret != self.app.client_secret:
            raise OAuthRefused("invalid_client", "invalid client credentials")

    def _check_assertion(self, assertion: str | None, url: str) -> None:
        import jwt

        if not assertion:
            raise OAuthRefused("invalid_grant", "assertion not provided")
        try:
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise OAuthRefused("invalid_grant", "invalid assertion") from None
        if claims.get("iss") != self.app.client_id:
            raise OAuthRefused("invalid_client_id", "client identifier invalid")
        if self.app.certificate is None:
            raise OAuthRefused("invalid_app_access", "user is not admin approved to access this app")
        try:
            jwt.decode(assertion, self.app.certificate, ["RS256"], options={"verify_exp": False, "verify_aud": False})
        except jwt.PyJWTError:
            raise OAuthRefused("invalid_grant", "invalid assertion") from None
        if claims.get("aud") not in ("https://login.salesforce.com", "https://test.salesforce.com", url):
            raise OAuthRefused("invalid_grant", "audience is invalid")
        if int(claims.get("exp", 0)) <= self._now().timestamp():
            raise OAuthRefused("invalid_grant", "expired authorization code")
        if claims.get("sub") not in self.app.users:
            raise OAuthRefused("invalid_grant", "user hasn't approved this consumer")
