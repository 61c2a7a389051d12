"""Linear: columns from a description, what queries cost, conditions, and what answers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate
from multidict import CIMultiDict
from pydantic import ValidationError

from connectors.http import Reply
from connectors.linear.config import LinearConfig
from connectors.linear.describe import LINKS, ROOTS, START, Roots, describe, type_query, wanted_types
from connectors.linear.faults import EntityGone, Faults, TooComplex
from connectors.linear.queries import (
    Budget,
    Query,
    condition,
    members_query,
    newest_query,
    pairs_query,
    rows_query,
    times_query,
)
from connectors.testing.linear.complexity import Complexity
from connectors.testing.linear.schema import published
from runner.clock import SystemClock
from runner.errors import (
    CredentialsRejected,
    JobFileError,
    PermissionMissing,
    RequestRefused,
    SourceDown,
    TableChanged,
    Throttled,
)
from runner.source import Scan, Table, Window

SCHEMA = build_schema(published())


def introspect(query: str) -> Any:
    from graphql import graphql_sync

    found = graphql_sync(SCHEMA, query)
    assert found.errors is None
    return found.data


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    roots = Roots.of(introspect(START))
    names = [*ROOTS, *LINKS]
    types = introspect(type_query(wanted_types(names, roots)))
    return {name: found for name in names if (found := describe(name, roots, types)) is not None}


def test_every_table_is_described(tables: dict[str, Table]) -> None:
    assert set(tables) == {*ROOTS, *LINKS}
    for name in ROOTS:
        assert (name, tables[name].primary_key, tables[name].defaults) == (name, ("id",), {"cursor": "updatedAt"})
        assert {"createdAt", "updatedAt"} <= set(tables[name].indexed)
    assert tables["issues_labels"].primary_key == ("issueId", "labelId")
    assert tables["issues_labels"].defaults == {"mode": "full"}


@pytest.mark.parametrize(
    ("table", "column", "kind", "nullable", "json", "native"),
    [
        ("issues", "id", pa.string(), False, False, "ID"),
        ("issues", "title", pa.string(), False, False, "String"),
        ("issues", "description", pa.string(), True, False, "String"),
        ("issues", "priority", pa.float64(), False, False, "Float"),
        ("issues", "customerTicketCount", pa.int64(), False, False, "Int"),
        ("issues", "trashed", pa.bool_(), True, False, "Boolean"),
        ("issues", "updatedAt", pa.timestamp("us", tz="UTC"), False, False, "DateTime"),
        ("issues", "dueDate", pa.date32(), True, False, "TimelessDate"),
        ("issues", "labelIds", pa.string(), False, True, "[String]"),
        ("issues", "reactionData", pa.string(), False, True, "JSONObject"),
        ("issues", "integrationSourceType", pa.string(), True, False, "IntegrationService"),
        ("issues", "teamId", pa.string(), False, False, "Team"),
        ("issues", "assigneeId", pa.string(), True, False, "User"),
        ("comments", "issueId", pa.string(), True, False, "String"),
    ],
)
def test_columns(
    tables: dict[str, Table], table: str, column: str, kind: pa.DataType, nullable: bool, json: bool, native: str
) -> None:
    found = tables[table].column(column)
    assert found is not None
    assert (found.type, found.nullable, found.json, found.native) == (kind, nullable, json, native)


@pytest.mark.parametrize(
    "name", ["labels", "comments", "aiAnalysis", "boardOrder", "botActor", "reactions", "team", "bodyData"]
)
def test_what_is_no_column(tables: dict[str, Table], name: str) -> None:
    """Connections, what is internal, deprecated, without an id of its own, or a list of objects."""
    assert tables["issues"].column(name) is None
    assert tables["comments"].column(name) is None


def test_a_scalar_of_linears_own_is_text(tables: dict[str, Table]) -> None:
    schema = build_schema(published() + "\nscalar Mood\nextend type Issue { mood: Mood moods: [Mood!] }")
    from graphql import graphql_sync

    ask = lambda query: graphql_sync(schema, query).data  # noqa: E731
    roots = Roots.of(ask(START))
    found = describe("issues", roots, ask(type_query(["Issue", "IssueFilter"])))
    assert found is not None
    mood, moods = found.column("mood"), found.column("moods")
    assert mood is not None
    assert moods is not None
    assert (mood.type, mood.native, mood.note is not None) == (pa.string(), "Mood", True)
    assert (moods.json, moods.native) == (True, "[Mood]")


def test_a_server_that_lacks_something_lacks_its_table(tables: dict[str, Table]) -> None:
    roots = Roots.of(introspect(START))
    without = replace(roots, arguments={k: v for k, v in roots.arguments.items() if k != "attachments"})
    types = introspect(type_query(wanted_types(["attachments", "issues"], roots)))
    assert describe("attachments", without, types) is None
    issue = {**types["Issue"], "fields": [one for one in types["Issue"]["fields"] if one["name"] != "labels"]}
    assert describe("issues_labels", roots, {**types, "Issue": issue}) is None


def queries(tables: dict[str, Table]) -> dict[str, Query]:
    found = {name: rows_query(tables[name], tables[name].columns) for name in ROOTS}
    for name, link in LINKS.items():
        found[name] = pairs_query(tables[name], link)
        found[f"{name}: members"] = members_query(tables[name], link)
    found["newest"] = newest_query(tables["users"], "updatedAt")
    return found


def test_queries_fit_the_published_schema_and_cost_what_they_are_said_to(tables: dict[str, Table]) -> None:
    for name, query in {**queries(tables), "times": times_query(tables["issues"])}.items():
        document = parse(query.text)
        assert validate(SCHEMA, document) == [], name
        operation = document.definitions[0]
        assert isinstance(operation, OperationDefinitionNode)
        for size in (1, 7, 250):
            cost = Complexity(SCHEMA, {}, {"first": size}).of(operation)
            more = 1.0 if name.endswith(": members") else 2.1 if name == "times" else 0.0  # what is around the page
            assert cost == pytest.approx(query.points(size) + more), name
        most = Budget().size(query)
        assert Complexity(SCHEMA, {}, {"first": most}).of(operation) <= 10_000, name
        assert most >= 200, name


def test_a_page_is_as_large_as_it_may_be_and_never_larger() -> None:
    assert Budget().size(Query("", 1.1)) == 250
    assert Budget(40).size(Query("", 1.1)) == 40
    wide = Query("", 98.8)
    assert Budget().size(wide) == 99
    assert wide.points(99) <= 10_000 < wide.points(100)
    assert Budget().size(Query("", 50_000.0)) == 1


def test_what_the_server_charges_and_refuses_makes_pages_smaller() -> None:
    query = Query("", 38.8)
    budget = Budget()
    assert budget.size(query) == 249
    budget.charged(query, 249, 9961.0)
    assert budget.size(query) == 249
    budget.charged(query, 249, 9.0)  # what rows there were cost less: that says nothing of a full page
    assert budget.size(query) == 249
    budget.charged(query, 100, 8002.0)
    assert budget.size(query) == 124
    budget.refused(query, 124, 9922.0, 5000.0)
    assert budget.size(query) == 62
    budget.refused(query, 62, None, None)
    assert budget.size(query) == 41


@pytest.mark.parametrize(
    ("window", "where", "bounds", "found"),
    [
        (None, None, {}, None),
        (Window("updatedAt"), None, {}, None),
        (
            Window("updatedAt", "2026-01-01 00:00:00.123456+00", from_start=True),
            None,
            {},
            {"updatedAt": {"gte": "2026-01-01T00:00:00.123Z"}},
        ),
        (
            Window("createdAt", "2026-01-01 00:00:00+00", "2026-02-01 00:00:00+00"),
            None,
            {},
            {"createdAt": {"gt": "2026-01-01T00:00:00.000Z", "lte": "2026-02-01T00:00:00.000Z"}},
        ),
        (
            Window("updatedAt", None, "2026-02-01 02:00:00+02", before_end=True),
            None,
            {},
            {"updatedAt": {"lt": "2026-02-01T00:00:00.000Z"}},
        ),
        (
            Window("completedAt", "2026-01-01 00:00:00+00"),
            None,
            {},
            {"or": [{"completedAt": {"gt": "2026-01-01T00:00:00.000Z"}}, {"completedAt": {"null": True}}]},
        ),
        (None, None, {"from": "A", "to": "B", "after": "x"}, {"createdAt": {"gte": "A", "lt": "B"}}),
        (
            Window("updatedAt", "2026-01-01 00:00:00+00"),
            '{"number": {"eq": 1}}',
            {"to": "B"},
            {
                "and": [
                    {"number": {"eq": 1}},
                    {"updatedAt": {"gt": "2026-01-01T00:00:00.000Z"}},
                    {"createdAt": {"lt": "B"}},
                ]
            },
        ),
    ],
)
def test_conditions(
    tables: dict[str, Table], window: Window | None, where: str | None, bounds: dict[str, Any], found: Any
) -> None:
    issues = tables["issues"]
    assert condition(Scan(issues, issues.columns, where, window), bounds) == found


def test_what_cannot_be_filtered_is_not_read_unfiltered(tables: dict[str, Table]) -> None:
    bare = replace(tables["issues"], detail={**tables["issues"].detail, "filter": None})
    assert condition(Scan(bare, bare.columns), {}) is None
    with pytest.raises(JobFileError, match="cannot filter"):
        condition(Scan(bare, bare.columns, '{"number": {"eq": 1}}'), {})


# Answers.


class Still(SystemClock):
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


NOW_MS = 1_767_225_600_000


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply("POST", "https://api.linear.app/graphql", status, named, text)


def refused(message: str, status: int = 200, path: list[Any] | None = None, **extensions: Any) -> Reply:
    error = {"message": message, "extensions": extensions, **({"path": path} if path else {})}
    return reply({"errors": [error], "data": None}, status)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refused("no", 401, code="AUTHENTICATION_ERROR", type="authentication error"), CredentialsRejected, "no"),
        (refused("no", 200, type="authentication error"), CredentialsRejected, "no"),
        (
            refused("no", path=["issues", "nodes", 3, "estimate"], type="forbidden"),
            PermissionMissing,
            "issues.nodes.estimate",
        ),
        (refused("no", type="feature not accessible"), PermissionMissing, "drop"),
        (refused("Entity not found: Issue", type="invalid input"), EntityGone, "Issue"),
        (refused("Cannot query field 'x'", 400, code="GRAPHQL_VALIDATION_FAILED"), TableChanged, "'x'"),
        (refused("Unknown argument", 400, code="GRAPHQL_VALIDATION_FAILED"), RequestRefused, "Unknown argument"),
        (refused("oops", type="internal error"), SourceDown, "oops"),
        (refused("oops", type="lock timeout"), SourceDown, "oops"),
        (refused("oops", 502), SourceDown, "oops"),
        (refused("bad", type="invalid input", userPresentableMessage="It is bad."), RequestRefused, "It is bad."),
        (reply(b"<html>"), SourceDown, "no JSON"),
        (reply({}), SourceDown, "neither data nor errors"),
        (reply({"data": None}), SourceDown, "neither data nor errors"),
        (
            reply({"data": {"issues": {}}, "errors": [{"message": "half", "path": ["issues"]}]}),
            RequestRefused,
            "half",
        ),
    ],
)
def test_what_an_answer_means(answer: Reply, kind: type[Exception], words: str) -> None:
    error = Faults(Still()).judge(answer)
    assert type(error) is kind
    assert words in f"{error.message} {error.advice}"  # type: ignore[union-attr]


@pytest.mark.parametrize("answer", [reply({"data": {}}), reply({"errors": [], "data": {}}), reply(b"", 503)])
def test_what_is_left_to_the_status(answer: Reply) -> None:
    assert Faults(Still()).judge(answer) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X_RateLimit_Requests_Remaining": "0", "X_RateLimit_Requests_Reset": str(NOW_MS + 90_000)}, 90.0),
        (
            {
                "X_RateLimit_Requests_Remaining": "12",
                "X_RateLimit_Requests_Reset": str(NOW_MS + 90_000),
                "X_RateLimit_Complexity_Remaining": "31",
                "X_RateLimit_Complexity_Reset": str(NOW_MS + 30_500),
            },
            30.5,
        ),
        (
            {
                "X_RateLimit_Requests_Remaining": "12",
                "X_RateLimit_Requests_Reset": str(NOW_MS + 90_000),
                "X_RateLimit_Endpoint_Requests_Remaining": "0",
                "X_RateLimit_Endpoint_Requests_Reset": str(NOW_MS + 12_000),
                "X_RateLimit_Complexity_Remaining": "310000",
                "X_RateLimit_Complexity_Reset": str(NOW_MS + 30_500),
            },
            12.0,
        ),
        ({"Retry_After": "7", "X_RateLimit_Requests_Reset": str(NOW_MS + 90_000)}, 7.0),
        ({"X_RateLimit_Requests_Reset": str(NOW_MS - 1)}, 0.0),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 429])
def test_how_long_a_pause_is(headers: dict[str, str], seconds: float | None, status: int) -> None:
    error = {"message": "Rate limit exceeded", "extensions": {"code": "RATELIMITED", "statusCode": 429}}
    found = Faults(Still()).judge(reply({"errors": [error]}, status, **headers))
    assert isinstance(found, Throttled)
    assert found.retry_after == seconds


def test_the_counters_of_the_hour() -> None:
    counters = {
        "X_RateLimit_Requests_Limit": "2500",
        "X_RateLimit_Requests_Remaining": "2400",
        "X_RateLimit_Requests_Reset": str(NOW_MS + 60_000),
        "X_RateLimit_Complexity_Limit": "3000000",
        "X_RateLimit_Complexity_Remaining": "0",
    }
    found = [(one.used, one.limit, one.resets) for one in Faults(Still()).usage(reply({}, **counters))]
    assert found == [(100, 2500, 60.0), (3_000_000, 3_000_000, None)]


def test_what_a_query_costs_is_read_from_the_refusal() -> None:
    shown = "The query is too complex. Complexity: 12304.999999999998. Maximum allowed complexity: 10000."
    found = Faults(Still()).judge(refused("Query too complex", 400, type="invalid input", userPresentableMessage=shown))
    assert isinstance(found, TooComplex)
    assert (found.points, found.most) == (12304.999999999998, 10000.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give one of"),
        ({"api_key": "a", "access_token": "b"}, "give one of"),
        ({"client_id": "a"}, "belong together"),
        ({"api_key": "a", "client_secret": "b"}, "belong together"),
        ({"api_key": "a", "page_size": 251}, "1 to 250"),
        ({"api_key": "a", "page_size": 0}, "1 to 250"),
        ({"api_key": "a", "workspace": "b"}, "workspace"),
    ],
)
def test_a_source_is_said_in_one_way(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LinearConfig.model_validate(options)


def test_secrets_are_not_shown() -> None:
    shown = repr([LinearConfig(api_key="SECRET1"), LinearConfig(client_id="a", client_secret="SECRET2")])
    assert "SECRET" not in shown
