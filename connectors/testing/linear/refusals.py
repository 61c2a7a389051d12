"""Linear's own error envelopes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLError


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer that is an error and nothing else.

    Attributes:
        status: The answer's HTTP status.
        kind: ``extensions.type``, which Linear's own SDK goes by.
        says: ``extensions.statusCode``, where it is not the HTTP status.
    """

    status: int
    message: str
    code: str
    kind: str
    presentable: str | None = None
    says: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the answer's body.

        Source: https://linear.app/developers/graphql#errors and the classes of errors in Linear's SDK.
        """
        return {"errors": [{"message": self.message, "extensions": self.extensions()}]}

    def extensions(self) -> dict[str, Any]:
        """Return what accompanies the message."""
        says = self.says or self.status
        found: dict[str, Any] = {"type": self.kind, "code": self.code, "statusCode": says, "userError": True}
        if self.presentable is not None:
            found["userPresentableMessage"] = self.presentable
        return {**found, "http": {"status": self.status}}


def unauthenticated(message: str = "Authentication required, not authenticated") -> Refusal:
    """Return the answer to a key or token that is missing, wrong or expired."""
    presentable = "You need to authenticate to access this operation."
    return Refusal(401, message, "AUTHENTICATION_ERROR", "authentication error", presentable)


def key_as_bearer() -> Refusal:
    """Return the answer to an API key that came as a bearer token."""
    text = (
        "It looks like you're trying to use an API key as a Bearer token. "
        "Remove the Bearer prefix from the Authorization header."
    )
    return Refusal(400, text, "INPUT_ERROR", "invalid input", text)


def bad_request(message: str, code: str = "BAD_REQUEST", status: int = 400) -> Refusal:
    """Return the answer to a request that is no GraphQL request, or does not fit the schema."""
    return Refusal(status, message, code, "graphql error")


def too_complex(points: float, most: int) -> Refusal:
    """Return the answer to a query that costs too much by itself."""
    presentable = f"The query is too complex. Complexity: {points}. Maximum allowed complexity: {most}."
    return Refusal(400, "Query too complex", "INPUT_ERROR", "invalid input", presentable)


def limited(limit: int, what: str, headers: dict[str, str]) -> Refusal:
    """Return the answer when a bucket is empty.

    Source: https://linear.app/developers/rate-limiting
    """
    text = f"Rate limit exceeded. Only {limit} {what} are allowed per 1 hour."
    return Refusal(400, text, "RATELIMITED", "ratelimited", text, says=429, headers=headers)


def wrong_argument(name: str, rule: str, text: str) -> GraphQLError:
    """Return the error of an argument that fits the schema and is refused nevertheless: it comes with status 200."""
    constraint = {"property": name, "constraints": {rule: text}}
    return GraphQLError(
        "Argument Validation Error",
        extensions={
            "type": "invalid input",
            "code": "INVALID_INPUT",
            "statusCode": 400,
            "userError": True,
            "userPresentableMessage": f"{text}.",
            "validationErrors": [{"target": {}, "children": [], **constraint}],
        },
    )


def missing(kind: str) -> GraphQLError:
    """Return the error of an id that nothing has: it comes with status 200."""
    return GraphQLError(
        f"Entity not found: {kind}",
        extensions={
            "type": "invalid input",
            "code": "INPUT_ERROR",
            "statusCode": 400,
            "userError": True,
            "userPresentableMessage": f"Could not find referenced {kind}.",
        },
    )


def forbidden(message: str) -> GraphQLError:
    """Return the error of a scope that the token has not: it comes with status 200."""
    return GraphQLError(
        message,
        extensions={
            "type": "forbidden",
            "code": "FORBIDDEN",
            "statusCode": 403,
            "userError": True,
            "userPresentableMessage": message,
        },
    )
