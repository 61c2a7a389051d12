"""Google's token endpoint: service accounts and refresh tokens.

Facts: developers.google.com/identity/protocols/oauth2/service-account#httprest (the claims, the audience, one hour at
most, the errors) and developers.google.com/identity/protocols/oauth2/web-server#offline (refresh tokens).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from connectors.testing.double import answer
from connectors.testing.sheets.document import extract
from connectors.testing.sheets.refusals import token_error

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
READ_SCOPE = "https://www.googleapis.com/auth/spreadsheets.readonly"
# What Google's own client names as the audience, wherever the endpoint is.
AUDIENCE = "https://oauth2.googleapis.com/token"
_LONGEST = 3600
_SKEW = 300


@dataclass
class Token:
    """An access token."""

    account: str
    scopes: frozenset[str]
    until: float


@dataclass
class Tokens:
    """Accounts, and the tokens that they were given.

    Attributes:
        keys: The public keys of service accounts (PEM), by address and then by the key's id.
        grants: Refresh tokens: the client's id, the account, the scopes that it consented to.
        clients: Secrets of OAuth clients, by their ids.
        lifetime: How many seconds a token lives.
    """

    now: Callable[[], float]
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    grants: dict[str, tuple[str, str, frozenset[str]]] = field(default_factory=dict)
    given: dict[str, Token] = field(default_factory=dict)
    lifetime: int = 3599

    def account(self, email: str = "loader@acme.iam.gserviceaccount.com", key_id: str = "k1") -> dict[str, str]:
        """Make a service account; returns its key file, without the token endpoint's address."""
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        self.keys.setdefault(email, {})[key_id] = public.decode()
        return {
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": key_id,
            "private_key": private.decode(),
            "client_email": email,
            "client_id": "100000000000000000001",
        }

    def consent(self, account: str, client: str, secret: str, *scopes: str) -> str:
        """Let an account consent to a client; returns the refresh token."""
        self.clients[client] = secret
        made = f"1//{secrets.token_urlsafe(24)}"
        self.grants[made] = (client, account, frozenset(scopes or (READ_SCOPE,)))
        return made

    def find(self, token: str) -> Token | None:
        """Return a token that is valid now."""
        found = self.given.get(token)
        return found if found is not None and self.now() < found.until else None

    def revoke(self) -> None:
        """End all access tokens; refresh tokens and keys stay."""
        self.given.clear()

    def grant(self, form: Mapping[str, Any], audience: str) -> web.Response:
        """Answer a request for a token."""
        kind = form.get("grant_type")
        if not kind:
            return token_error(400, "invalid_request", "Missing required parameter: grant_type")
        if kind == JWT_BEARER:
            return self._bearer(form, audience)
        if kind == "refresh_token":
            return self._refresh(form)
        return token_error(400, "unsupported_grant_type", f"Invalid grant_type: {kind}")

    def _bearer(self, form: Mapping[str, Any], audience: str) -> web.Response:
        import jwt

        assertion = form.get("assertion")
        if not assertion:
            return token_error(400, "invalid_request", "Missing required parameter: assertion")
        try:
            header = jwt.get_unverified_header(assertion)
            claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            return token_error(400, "invalid_grant", "Bad Request")
        keys = self.keys.get(str(claims.get("iss")))
        if keys is None:
            return token_error(400, "invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") not in (audience, AUDIENCE):
            return token_error(
                400, "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {AUDIENCE}"
            )
        candidates = (
            [keys[header["kid"]]] if header.get("kid") in keys else [] if header.get("kid") else [*keys.values()]
        )
        if header.get("alg") != "RS256" or not any(_signed(assertion, key) for key in candidates):
            return token_error(400, "invalid_grant", "Invalid JWT Signature.")
        begin, end, now = claims.get("iat"), claims.get("exp"), self.now()
        if (
            not isinstance(begin, int | float)
            or not isinstance(end, int | float)
            or end - begin > _LONGEST
            or begin > now + _SKEW
            or end < now - _SKEW
        ):
            return token_error(
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        scopes = frozenset(str(claims.get("scope") or "").split())
        if not scopes or any(not scope.startswith("https://www.googleapis.com/auth/") for scope in scopes):
            return token_error(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        if claims.get("sub", claims["iss"]) != claims["iss"]:
            return token_error(
                401,
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested.",
            )
        return self._give(claims["iss"], scopes)

    def _refresh(self, form: Mapping[str, Any]) -> web.Response:
        for name in ("client_id", "refresh_token"):
            if not form.get(name):
                return token_error(400, "invalid_request", f"Missing required parameter: {name}")
        client = form["client_id"]
        if client not in self.clients:
            return token_error(401, "invalid_client", "The OAuth client was not found.")
        if form.get("client_secret") != self.clients[client]:
            return token_error(401, "invalid_client", "Unauthorized")
        owner, account, scopes = self.grants.get(form["refresh_token"], ("", "", frozenset()))
        if owner != client:
            return token_error(400, "invalid_grant", "Token has been expired or revoked.")
        asked = frozenset((form.get("scope") or "").split())
        if asked - scopes:
            return token_error(400, "invalid_scope", "Bad Request")
        return self._give(account, asked or scopes)

    def _give(self, account: str, scopes: frozenset[str]) -> web.Response:
        made = f"ya29.{secrets.token_urlsafe(30)}"
        self.given[made] = Token(account, scopes & frozenset(extract()["scopes"]), self.now() + self.lifetime)
        return answer(
            {
                "access_token": made,
                "expires_in": self.lifetime,
                "scope": " ".join(sorted(scopes)),
                "token_type": "Bearer",
            }
        )


def _signed(assertion: str, key: str) -> bool:
    import jwt

    try:
        jwt.decode(
            assertion,
            key,
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidTokenError:
        return False
    return True
