"""Google's error bodies, as its APIs on HTTP send them.

Facts: cloud.google.com/apis/design/errors (the body, the codes and their statuses, ErrorInfo and BadRequest among the
details), developers.google.com/workspace/sheets/api/limits (the quotas of a minute), and
developers.google.com/identity/protocols/oauth2/service-account#error-codes (the token endpoint).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from connectors.testing.double import answer

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self, code: int, message: str, *details: dict[str, Any], status: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        error: dict[str, Any] = {"code": code, "message": message, "status": status or STATUSES[code]}
        if details:
            error["details"] = list(details)
        self.code, self.headers, self.body = code, headers or {}, {"error": error}

    def response(self) -> web.Response:
        """Return the answer."""
        return answer(self.body, status=self.code, headers=self.headers)


def info(reason: str, **metadata: str) -> dict[str, Any]:
    """Return the detail that names the reason."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "sheets.googleapis.com", **metadata},
    }


def invalid(description: str, field: str = "", message: str = "") -> Refused:
    """Return the refusal of an argument."""
    violation = {"field": field} if field else {}
    detail = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{**violation, "description": description}],
    }
    return Refused(400, message or description, detail)


def unauthenticated() -> Refused:
    """Return the refusal of a token that is unknown, revoked or expired."""
    header = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'}
    return Refused(401, _UNAUTHENTICATED, info("ACCESS_TOKEN_EXPIRED"), headers=header)


def nobody() -> Refused:
    """Return the refusal of a request without any credentials."""
    return Refused(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def scopes_missing(method: str, scopes: list[str]) -> Refused:
    """Return the refusal of a token whose scopes are too few."""
    header = f'Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="{" ".join(scopes)}"'
    detail = info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", method=method)
    message = "Request had insufficient authentication scopes."
    return Refused(403, message, detail, headers={"WWW-Authenticate": header})


def exhausted(limit: int, project: str) -> Refused:
    """Return the refusal of one request too many in this minute; Google sends no Retry-After with it."""
    detail = info(
        "RATE_LIMIT_EXCEEDED",
        quota_metric="sheets.googleapis.com/read_requests",
        quota_limit="ReadRequestsPerMinutePerUser",
        quota_limit_value=str(limit),
        quota_location="global",
        consumer=f"projects/{project}",
    )
    return Refused(
        429,
        "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per user' of service "
        f"'sheets.googleapis.com' for consumer 'project_number:{project}'.",
        detail,
    )


def page(code: int) -> web.Response:
    """Return what stands before all APIs says to a path that none of them has: a page, and no JSON."""
    text = f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {code} (Not Found)!!1</title>\n"
    return web.Response(text=text, status=code, content_type="text/html")


def token_error(code: int, error: str, description: str) -> web.Response:
    """Return an error of the token endpoint: RFC 6749, section 5.2."""
    return answer({"error": error, "error_description": description}, status=code)
