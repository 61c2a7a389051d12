"""Signing in.

Facts: help.salesforce.com, "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" (assertions live for three
minutes), "OAuth Tokens and Scopes": an answer has no lifetime; a session ends when it was not used for as long as the
organisation says, and the API then answers 401. Its ``instance_url`` is where the API is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from connectors.http import OAuth2, jwt_assertion
from connectors.salesforce.config import SalesforceConfig
from runner.clock import Clock
from runner.secrets import remember

_PATH = "/services/oauth2/token"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def make_login(config: SalesforceConfig, clock: Clock, move: Callable[[str], None]) -> OAuth2:
    """Return what gets tokens.

    Args:
        move: Told where the API is.
    """
    assert config.client_id is not None
    client = {"client_id": config.client_id}
    if config.client_secret:
        remember(config.client_secret)
        client["client_secret"] = config.client_secret
    key, token = config.private_key, config.refresh_token
    form: Mapping[str, str] | Callable[[], Mapping[str, str]]
    if key:
        claims = {"iss": config.client_id, "sub": config.username, "aud": config.login}
        form = lambda: {"grant_type": _JWT_BEARER, "assertion": jwt_assertion(key, claims, clock=clock)}  # noqa: E731
    elif token:
        form = {"grant_type": "refresh_token", "refresh_token": token, **client}
    else:
        form = {"grant_type": "client_credentials", **client}

    def took(answer: Mapping[str, Any]) -> None:
        found = str(answer.get("instance_url") or "")
        # A session is not sent to where nobody encrypts it.
        if found and urlsplit(found).scheme in ("https", urlsplit(config.url).scheme):
            move(found.rstrip("/"))

    return OAuth2(f"{config.url}{_PATH}", form, took=took)
