"""What HubSpot answers where it refuses: status, category and context.

Facts: developers.hubspot.com, "Error handling" (the body: status, message, correlationId, category, errors, context),
"API usage guidelines" (the body of a 429: errorType and policyName), "OAuth tokens" (statuses such as
BAD_REFRESH_TOKEN).
"""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from connectors.testing.double import answer

_SCOPES_PAGE = "https://developers.hubspot.com/scopes"


class Refusal(Exception):
    """A request that is not served.

    Args:
        category: HubSpot's machine-readable name of the error; None where its body has none.
        more: Further keys of the body.
    """

    def __init__(
        self,
        status: int,
        category: str | None,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), **more}
        if category is not None:
            self.body["category"] = category

    def response(self) -> web.Response:
        """Return it as an answer."""
        return answer(self.body, status=self.status, headers=self.headers)


def invalid(message: str, code: str | None = None, **context: list[str]) -> Refusal:
    """Return a 400 VALIDATION_ERROR, with one detail where it has a code."""
    if code is None:
        return Refusal(400, "VALIDATION_ERROR", message)
    detail = {"message": message, "code": code, "context": context}
    return Refusal(400, "VALIDATION_ERROR", message, errors=[detail])


def unknown_kind(name: str) -> Refusal:
    """Return the answer to an object type that the account does not have; its body has no category."""
    return Refusal(400, None, f"Unable to infer object type from: {name}")


def missing_scopes(*scopes: str) -> Refusal:
    """Return the answer to a token that lacks all of these scopes."""
    return Refusal(
        403,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call. "
        f"Read more about required scopes here: {_SCOPES_PAGE}.",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": list(scopes)},
            }
        ],
        links={"scopes": _SCOPES_PAGE},
    )


def over_limit(policy: str, headers: dict[str, str] | None = None) -> Refusal:
    """Return the 429 of a policy: DAILY, TEN_SECONDLY_ROLLING or SECONDLY."""
    return Refusal(
        429,
        None,
        f"You have reached your {policy.lower()} limit.",
        headers=headers,
        errorType="RATE_LIMIT",
        policyName=policy,
    )


def bad_token_request(status: str, message: str) -> Refusal:
    """Return the 400 of the token endpoint, whose body names its reason in ``status``."""
    refusal = Refusal(400, None, message)
    refusal.body["status"] = status
    return refusal
