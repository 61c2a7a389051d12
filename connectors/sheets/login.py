"""Who reads: a service account, or a user who consented once.

Facts: developers.google.com/identity/protocols/oauth2/service-account#httprest (the claims of the assertion, its
audience), developers.google.com/identity/protocols/oauth2/web-server#offline (refresh tokens),
developers.google.com/workspace/sheets/api/scopes.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from connectors.http import OAuth2, jwt_assertion
from connectors.sheets.config import SheetsConfig
from runner.clock import Clock

SCOPE = "https://www.googleapis.com/auth/spreadsheets.readonly"
_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def authentication(config: SheetsConfig, clock: Clock) -> OAuth2:
    """Return what gets tokens: for a service account by a signed assertion, for a user by the refresh token."""
    key = config.service_account
    if key is None:
        form = {
            "grant_type": "refresh_token",
            "client_id": config.client_id or "",
            "client_secret": config.client_secret or "",
            "refresh_token": config.refresh_token or "",
        }
        return OAuth2(config.token_url or _TOKEN_URL, form)
    own = str(key.get("token_uri") or _TOKEN_URL)

    def signed() -> Mapping[str, str]:
        claims = {"iss": key["client_email"], "scope": SCOPE, "aud": own}
        headers = {"kid": key["private_key_id"]} if key.get("private_key_id") else None
        assertion = jwt_assertion(key["private_key"], claims, clock=clock, headers=headers)
        return {"grant_type": _GRANT, "assertion": assertion}

    async def made() -> Mapping[str, str]:
        return await anyio.to_thread.run_sync(signed)

    return OAuth2(config.token_url or own, made)
