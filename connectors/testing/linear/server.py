"""The server: who may ask, how much, and what becomes of a query."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    execute_sync,
    extend_schema,
    get_variable_values,
    parse,
    validate,
    validate_schema,
)

from connectors.testing.double import Double, answer
from connectors.testing.linear.answers import Answers
from connectors.testing.linear.complexity import Complexity
from connectors.testing.linear.records import Records
from connectors.testing.linear.refusals import (
    Refusal,
    bad_request,
    forbidden,
    key_as_bearer,
    limited,
    too_complex,
    unauthenticated,
)
from connectors.testing.linear.schema import make_schema, published

API_KEY = "lin_api_double"
_HOUR = 3600.0


@dataclass
class Token:
    """An OAuth access token."""

    scopes: frozenset[str]
    expires: float


@dataclass
class Bucket:
    """A limit that refills at a constant rate, as https://linear.app/developers/rate-limiting describes it."""

    limit: int
    used: float = 0.0
    seen: float = 0.0

    def left(self, now: float) -> float:
        """Return what is left now."""
        self.used = max(0.0, self.used - (now - self.seen) * self.limit / _HOUR)
        self.seen = now
        return self.limit - self.used

    def resets(self, now: float) -> int:
        """Return when it will be full, in milliseconds of the epoch."""
        return round((now + (self.limit - self.left(now)) * _HOUR / self.limit) * 1000)


class Linear(Double):
    """Linear's GraphQL API.

    Args:
        clock: What time it is.

    Attributes:
        records: The workspace.
        keys: API keys that are good.
        clients: OAuth clients: id → secret.
        tokens: Access tokens that were given out.
        lifetime: Seconds that a token lives.
        requests: What is left of this hour's requests; complexity: of its points.
        most_points: What a single query may cost.
        asked: Every query that was executed: (query, variables, points).
        between: Called after each executed query.
    """

    def __init__(self, *, clock: Callable[[], datetime] | None = None, latency: float = 0.0, port: int = 0) -> None:
        super().__init__(latency=latency, port=port)
        self.clock = clock or (lambda: datetime.now(UTC))
        self.schema = make_schema(published(), self.clock)
        self.records = Records(self.schema, self.clock)
        self.answers = Answers(self.records, lambda: next(iter(self.records.all("User")), None))
        self.keys = {API_KEY}
        self.clients = {"client": "secret"}
        self.tokens: dict[str, Token] = {}
        self.lifetime = 2_591_999.0
        self.requests = Bucket(2500)
        self.complexity = Bucket(3_000_000)
        self.most_points = 10_000
        self.asked: list[tuple[str, dict[str, Any], float]] = []
        self.between: Callable[[], None] | None = None

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the endpoint of the API and that of tokens."""
        return [web.post("/graphql", self._graphql), web.post("/oauth/token", self._token)]

    def unknown(self, request: web.Request, status: int) -> web.Response:
        """Return what an unknown path or method is answered."""
        return answer("Not Found" if status == 404 else "Method Not Allowed", status=status)

    def extend(self, text: str) -> None:
        """Add to the schema, as its owner may at any time."""
        self.schema = extend_schema(self.schema, parse(text))
        self.records.schema = self.schema

    def reduce(self, kind: str, name: str) -> None:
        """Take a field out of the schema."""
        found = self.schema.type_map[kind]
        assert isinstance(found, GraphQLObjectType), kind
        del found.fields[name]

    def issue_token(self, *scopes: str) -> str:
        """Give out an access token."""
        token = f"lin_oauth_{secrets.token_hex(8)}"
        self.tokens[token] = Token(frozenset(scopes or ("read",)), self._now() + self.lifetime)
        return token

    def expire_tokens(self) -> None:
        """Let every token that was given out be expired."""
        for token in self.tokens.values():
            token.expires = 0.0

    def _now(self) -> float:
        return self.clock().timestamp()

    async def _token(self, request: web.Request) -> web.Response:
        # Source: https://linear.app/developers/oauth-2-0-authentication
        form = await request.post()
        if request.content_type != "application/x-www-form-urlencoded":
            return _refused("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
        if form.get("grant_type") != "client_credentials":
            return _refused("unsupported_grant_type", "Unsupported grant type")
        if self.clients.get(str(form.get("client_id"))) != form.get("client_secret"):
            return _refused("invalid_client", "Invalid client credentials", 401)
        scopes = str(form.get("scope", "read")).replace(",", " ").split()
        if unknown := set(scopes) - {"read", "write", "issues:create", "comments:create", "timeSchedule:write"}:
            return _refused("invalid_scope", f"Invalid scope: {sorted(unknown)[0]}")
        token = self.issue_token(*scopes)
        given = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        return answer({**given, "scope": " ".join(scopes)})

    async def _graphql(self, request: web.Request) -> web.Response:
        try:
            scopes = self._who(request.headers.get("Authorization"))
            headers = self._take(self.requests, 1.0, "requests")
            return self._process(*self._read(request, await request.read()), scopes, headers)
        except Refusal as refusal:
            return answer(refusal.body(), status=refusal.status, headers={**self._left(), **refusal.headers})

    def _who(self, given: str | None) -> frozenset[str]:
        if not given:
            raise unauthenticated()
        if not given.startswith("Bearer "):
            if given not in self.keys:
                raise unauthenticated()
            return frozenset({"read", "write", "admin"})
        bearer = given.removeprefix("Bearer ")
        if bearer.startswith("lin_api_"):
            raise key_as_bearer()
        token = self.tokens.get(bearer)
        if token is None or token.expires <= self._now():
            raise unauthenticated()
        return token.scopes

    def _take(self, bucket: Bucket, points: float, what: str) -> dict[str, str]:
        now = self._now()
        if bucket.left(now) < points:
            raise limited(bucket.limit, what, self._left())
        bucket.used += points
        return self._left()

    def _left(self) -> dict[str, str]:
        now = self._now()
        found = {}
        for name, bucket in (("Requests", self.requests), ("Complexity", self.complexity)):
            found[f"X-RateLimit-{name}-Limit"] = str(bucket.limit)
            found[f"X-RateLimit-{name}-Remaining"] = str(max(0, math.floor(bucket.left(now))))
            found[f"X-RateLimit-{name}-Reset"] = str(bucket.resets(now))
        return found

    def _read(self, request: web.Request, body: bytes) -> tuple[str, dict[str, Any], str | None]:
        if request.content_type != "application/json":
            text = "This operation has been blocked as a potential Cross-Site Request Forgery (CSRF)."
            raise bad_request(text)
        try:
            given = json.loads(body)
        except ValueError as error:
            raise bad_request("Unexpected token in JSON") from error
        if isinstance(given, list):
            raise bad_request("Operation batching disabled.")
        query = given.get("query") if isinstance(given, dict) else None
        if not isinstance(query, str) or not query:
            text = "GraphQL operations must contain a non-empty `query` or a `persistedQuery` extension."
            raise bad_request(text)
        variables = given.get("variables") or {}
        if not isinstance(variables, dict):
            raise bad_request("`variables` in a POST body should be provided as an object.")
        return query, variables, given.get("operationName")

    def _process(
        self,
        query: str,
        variables: dict[str, Any],
        name: str | None,
        scopes: frozenset[str],
        headers: dict[str, str],
    ) -> web.Response:
        document = self._document(query)
        operation = _operation(document, name)
        coerced = get_variable_values(self.schema, operation.variable_definitions or (), variables)
        if isinstance(coerced, list):
            raise bad_request(coerced[0].message, "BAD_USER_INPUT")
        fragments = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
        points = Complexity(self.schema, fragments, variables).of(operation)
        if points > self.most_points:
            raise too_complex(points, self.most_points)
        self._take(self.complexity, math.ceil(points), "complexity points")
        body = self._execute(document, variables, name, scopes)
        self.asked.append((query, variables, points))
        if self.between is not None:
            self.between()
        return answer(body, headers={**self._left(), "X-Complexity": str(math.ceil(points))})

    def _document(self, query: str) -> DocumentNode:
        try:
            document = parse(query)
        except GraphQLSyntaxError as error:
            raise bad_request(error.message, "GRAPHQL_PARSE_FAILED") from error
        validate_schema(self.schema)
        wrong = validate(self.schema, document)
        if wrong:
            raise bad_request(wrong[0].message, "GRAPHQL_VALIDATION_FAILED")
        return document

    def _execute(
        self, document: DocumentNode, variables: dict[str, Any], name: str | None, scopes: frozenset[str]
    ) -> dict[str, Any]:
        if "read" not in scopes:
            wrong = forbidden("Invalid scope: `read` required")
            return {"errors": [wrong.formatted], "data": None}
        found = execute_sync(
            self.schema, document, variable_values=variables, operation_name=name, field_resolver=self.answers
        )
        body: dict[str, Any] = {"data": found.data}
        if found.errors:
            body = {"errors": [_formatted(one) for one in found.errors], **body}
        return body


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    found = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if name is None and len(found) == 1:
        return found[0]
    for one in found:
        if name is not None and one.name is not None and one.name.value == name:
            return one
    text = (
        f'Unknown operation named "{name}".'
        if name
        else "Must provide operation name if query contains multiple operations."
    )
    raise bad_request(text, "OPERATION_RESOLUTION_FAILURE")


def _formatted(error: GraphQLError) -> dict[str, Any]:
    found: dict[str, Any] = dict(error.formatted)
    plain = {"type": "internal error", "code": "INTERNAL_SERVER_ERROR", "statusCode": 500, "userError": False}
    found.setdefault("extensions", plain)
    return found


def _refused(code: str, text: str, status: int = 400) -> web.Response:
    return answer({"error": code, "error_description": text}, status=status)
