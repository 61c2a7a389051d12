"""How Salesforce says no.

Facts: developer.salesforce.com, REST API Developer Guide, "Status Codes and Error Responses" (a list of objects with
``message`` and ``errorCode``); OAuth errors as in RFC 6749 (help.salesforce.com, "OAuth 2.0 Authorization Errors").
"""

from __future__ import annotations

from aiohttp import web

from connectors.testing.double import answer


class Refused(Exception):
    """A request that Salesforce would not answer with what was asked for."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")

    def response(self, headers: dict[str, str] | None = None) -> web.Response:
        """Return the error as the REST API sends it."""
        return answer([{"message": self.message, "errorCode": self.code}], status=self.status, headers=headers)


class OAuthRefused(Exception):
    """A token that is not given."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        self.error = error
        self.description = description
        self.status = status
        super().__init__(f"{error}: {description}")

    def response(self) -> web.Response:
        """Return the error as the token endpoint sends it."""
        return answer({"error": self.error, "error_description": self.description}, status=self.status)


def malformed(message: str) -> Refused:
    """Return the refusal of a query that is no SOQL."""
    return Refused("MALFORMED_QUERY", message)


def not_found() -> Refused:
    """Return the refusal of a path that leads nowhere."""
    return Refused("NOT_FOUND", "The requested resource does not exist", 404)
