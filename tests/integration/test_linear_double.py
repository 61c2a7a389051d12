"""The double of Linear's API: what it answers, what it refuses, and what Linear's own SDK makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLError

from connectors.testing.linear import API_KEY, Linear
from tests.environments import NotInstalled, modules

_SERVERS = Path(__file__).parent.parent / "servers"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def linear(clock: Clock) -> Iterator[Linear]:
    with Linear(clock=clock) as server:
        yield server


def fill(linear: Linear, clock: Clock) -> dict[str, str]:
    """A team of two, seven issues a minute apart, the last of them with labels and comments."""
    add = linear.records.add
    ids = {"team": add("Team", key="ENG", name="Engineering")}
    ids["user"] = add("User", name="Ada", active=True)
    ids["gone"] = add("User", name="Bob", active=False)
    linear.records.set("Team", ids["team"], members=[ids["user"], ids["gone"]])
    ids["state"] = add("WorkflowState", team=ids["team"], name="Todo", type="unstarted")
    status = add("ProjectStatus", name="Started", type="started")
    ids["project"] = add("Project", name="Rocket", status=status, members=[ids["user"]], teams=[ids["team"]])
    add("ProjectMilestone", name="Launch", project=ids["project"])
    add("Cycle", number=1, team=ids["team"])
    labels = [add("IssueLabel", name=name) for name in ("bug", "chore", "debt")]
    for number in range(1, 8):
        clock.go(minutes=1)
        more = {"labelIds": labels, "assignee": ids["user"]} if number == 1 else {}
        ids[f"i{number}"] = add(
            "Issue",
            identifier=f"ENG-{number}",
            number=float(number),
            title=f"issue {number}",
            team=ids["team"],
            state=ids["state"],
            **more,
        )
    for number in range(3):
        clock.go(seconds=1)
        add("Comment", body=f"comment {number}", issue=ids["i1"])
    add("Attachment", url="https://example.com/a", issue=ids["i1"])
    linear.records.archive("Issue", ids["i7"])
    linear.records.trash(ids["i6"])
    return ids


def post(
    url: str, body: bytes, key: str | None = API_KEY, kind: str = "application/json", method: str = "POST"
) -> tuple[int, Any, Any]:
    headers = {"Content-Type": kind, **({"Authorization": key} if key is not None else {})}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            status, text, found = reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            status, text, found = error.code, error.read(), error.headers
    try:
        return status, json.loads(text), found
    except ValueError:
        return status, text.decode(), found


def ask(linear: Linear, query: str, key: str | None = API_KEY, **variables: Any) -> tuple[int, Any, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    return post(f"{linear.url}/graphql", body, key)


def data(linear: Linear, query: str, **variables: Any) -> Any:
    status, body, _ = ask(linear, query, **variables)
    assert (status, body.get("errors")) == (200, None)
    return body["data"]


def token(linear: Linear, **form: str) -> tuple[int, Any, Any]:
    given = {"grant_type": "client_credentials", "client_id": "client", "client_secret": "secret", **form}
    kind = "application/x-www-form-urlencoded"
    return post(f"{linear.url}/oauth/token", urllib.parse.urlencode(given).encode(), None, kind)


WIDE = "{ issues(first: 250) { nodes { comments(first: 250) { nodes { id } } } } }"
REFUSED = {
    "unknown field": ("{ issues { nodes { colour } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown root": ("{ tickets { nodes { id } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown argument": ("{ issues(limit: 5) { nodes { id } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown filter": ('{ issues(filter: {colour: {eq: "red"}}) { nodes { id } } }', 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown comparator": (
        '{ issues(filter: {title: {like: "red"}}) { nodes { id } } }',
        400,
        "GRAPHQL_VALIDATION_FAILED",
    ),
    "unknown order": ("{ issues(orderBy: title) { nodes { id } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "wrong type": ('{ issues(first: "5") { nodes { id } } }', 400, "GRAPHQL_VALIDATION_FAILED"),
    "not a date": ('{ issues(filter: {updatedAt: {gt: "soon"}}) { nodes { id } } }', 400, "GRAPHQL_VALIDATION_FAILED"),
    "no selection": ("{ issues }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "selection of a scalar": ("{ issues { nodes { id { x } } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "missing argument": ("{ issue { id } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown variable": ("{ issues(first: $n) { nodes { id } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown type of a variable": ("query($n: Number) { issues { nodes { id } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "unknown fragment": ("{ issues { nodes { ...All } } }", 400, "GRAPHQL_VALIDATION_FAILED"),
    "no query": ("{", 400, "GRAPHQL_PARSE_FAILED"),
    "not a query": ("select * from issues", 400, "GRAPHQL_PARSE_FAILED"),
    "nothing": ("", 400, "BAD_REQUEST"),
    "two operations": ("query A { viewer { id } } query B { viewer { id } }", 400, "OPERATION_RESOLUTION_FAILURE"),
    "too complex": (WIDE, 400, "INPUT_ERROR"),
    "too many": ("{ issues(first: 251) { nodes { id } } }", 200, "INVALID_INPUT"),
    "too many backwards": ("{ issues(last: 251) { nodes { id } } }", 200, "INVALID_INPUT"),
    "none": ("{ issues(first: 0) { nodes { id } } }", 200, "INVALID_INPUT"),
    "negative": ("{ issues(first: -1) { nodes { id } } }", 200, "INVALID_INPUT"),
    "cursor of another make": ('{ issues(after: "Mg==") { nodes { id } } }', 200, "INVALID_INPUT"),
    "cursor of nothing": (
        '{ issues(after: "00000000-0000-0000-0000-000000000000") { nodes { id } } }',
        200,
        "INPUT_ERROR",
    ),
    "nested too many": ("{ teams(first: 1) { nodes { issues(first: 251) { nodes { id } } } } }", 200, "INVALID_INPUT"),
    "no such issue": ('{ issue(id: "ENG-99") { id } }', 200, "INPUT_ERROR"),
    "no such team": ('{ team(id: "OPS") { id } }', 200, "INPUT_ERROR"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_query_is_refused(linear: Linear, clock: Clock, case: str) -> None:
    fill(linear, clock)
    query, status, code = REFUSED[case]
    found, body, _ = ask(linear, query)
    assert (found, body["errors"][0]["extensions"]["code"]) == (status, code)
    assert body.get("data") is None


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"n": "five"}, "BAD_USER_INPUT"),
        ({"n": None, "f": {"updatedAt": {"gt": "soon"}}}, "BAD_USER_INPUT"),
        ({"f": {"updatedAt": {"after": "2026-01-01"}}}, "BAD_USER_INPUT"),
        ({"o": "title"}, "BAD_USER_INPUT"),
    ],
)
def test_variables_are_refused(linear: Linear, variables: dict[str, Any], code: str) -> None:
    query = (
        "query($n: Int, $f: IssueFilter, $o: PaginationOrderBy) "
        "{ issues(first: $n, filter: $f, orderBy: $o) { nodes { id } } }"
    )
    status, body, _ = ask(linear, query, **variables)
    assert (status, body["errors"][0]["extensions"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"query": 1}', "application/json", 400),
        (b'{"query": "{ viewer { id } }", "variables": []}', "application/json", 200),
        (b'{"query": "{ viewer { id } }", "variables": [1]}', "application/json", 400),
        (b'{"query": "query A { viewer { id } }", "operationName": "B"}', "application/json", 400),
        (b"{ viewer { id } }", "application/graphql", 400),
        (b"query=viewer", "application/x-www-form-urlencoded", 400),
    ],
)
def test_a_body_is_refused(linear: Linear, body: bytes, kind: str, status: int) -> None:
    linear.records.add("User", name="Ada")
    assert post(f"{linear.url}/graphql", body, kind=kind)[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/graphql", 405), ("PUT", "/graphql", 405), ("POST", "/v1", 404)]
)
def test_a_path_or_a_method_is_refused(linear: Linear, method: str, path: str, status: int) -> None:
    assert post(f"{linear.url}{path}", b"{}", method=method)[0] == status


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 401, "AUTHENTICATION_ERROR"),
        ("lin_api_wrong", 401, "AUTHENTICATION_ERROR"),
        ("Bearer nothing", 401, "AUTHENTICATION_ERROR"),
        (f"Bearer {API_KEY}", 400, "INPUT_ERROR"),
    ],
)
def test_a_credential_is_refused(linear: Linear, key: str | None, status: int, code: str) -> None:
    found, body, _ = ask(linear, "{ viewer { id } }", key)
    assert (found, body["errors"][0]["extensions"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": "everything"}, 400, "invalid_scope"),
    ],
)
def test_a_token_is_refused(linear: Linear, form: dict[str, str], status: int, error: str) -> None:
    found, body, _ = token(linear, **form)
    assert (found, body["error"]) == (status, error)


def test_a_token_is_good_until_it_expires(linear: Linear, clock: Clock) -> None:
    linear.records.add("User", name="Ada")
    given = token(linear, scope="read")[1]
    bearer = f"Bearer {given['access_token']}"
    assert ask(linear, "{ viewer { name } }", bearer)[1] == {"data": {"viewer": {"name": "Ada"}}}
    clock.go(seconds=given["expires_in"])
    assert ask(linear, "{ viewer { name } }", bearer)[0] == 401


def test_a_token_needs_its_scope(linear: Linear) -> None:
    status, body, _ = ask(linear, "{ viewer { id } }", f"Bearer {linear.issue_token('comments:create')}")
    assert (status, body["errors"][0]["extensions"]["code"]) == (200, "FORBIDDEN")


def test_requests_run_out_and_come_back_at_a_constant_rate(linear: Linear, clock: Clock) -> None:
    linear.requests.limit = 2
    start = clock.now.timestamp()
    for left in (1, 0):
        status, _, headers = ask(linear, "{ viewer { id } }")
        assert headers["X-RateLimit-Requests-Remaining"] == str(left)
    status, body, headers = ask(linear, "{ viewer { id } }")
    assert (status, body["errors"][0]["extensions"]["code"]) == (400, "RATELIMITED")
    assert body["errors"][0]["extensions"]["statusCode"] == 429
    assert headers["X-RateLimit-Requests-Limit"] == "2"
    assert int(headers["X-RateLimit-Requests-Reset"]) == (start + 3600) * 1000
    clock.go(minutes=30)
    assert [ask(linear, "{ viewer { id } }")[0] for _ in range(2)] == [200, 400]


def test_points_run_out(linear: Linear) -> None:
    linear.complexity.limit = 60
    query = "{ issues(first: 25) { nodes { id } } }"
    _, _, headers = ask(linear, query)
    assert (headers["X-Complexity"], headers["X-RateLimit-Complexity-Remaining"]) == ("29", "31")
    ask(linear, query)
    status, body, headers = ask(linear, query)
    assert (status, body["errors"][0]["extensions"]["code"]) == (400, "RATELIMITED")
    assert headers["X-RateLimit-Requests-Remaining"] == "2497"


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("{ viewer { id name email displayName } }", 2),
        ("{ issues { nodes { id } } }", 56),
        ("{ issues(first: 10) { nodes { id team { id } } } }", 23),
        ("{ issues(first: 10) { nodes { labels(first: 2) { nodes { id } } } pageInfo { hasNextPage } } }", 54),
        ("query($n: Int) { issues(first: $n) { nodes { ...A } } } fragment A on Issue { id title }", 6),
    ],
)
def test_points_are_counted_as_documented(linear: Linear, query: str, points: int) -> None:
    variables = {"n": 4} if "$n" in query else {}
    assert ask(linear, query, **variables)[2]["X-Complexity"] == str(points)


def test_pages_are_walked_newest_first_and_a_change_moves_a_record(linear: Linear, clock: Clock) -> None:
    ids = fill(linear, clock)
    query = (
        "query($after: String, $by: PaginationOrderBy) { issues(first: 2, after: $after, orderBy: $by) "
        "{ nodes { number } pageInfo { hasNextPage endCursor } } }"
    )

    def walk(by: str, change: str) -> list[int]:
        found, after = [], None
        while True:
            page = data(linear, query, by=by, after=after)["issues"]
            found += [int(one["number"]) for one in page["nodes"]]
            if not page["pageInfo"]["hasNextPage"]:
                return found
            if after is None:
                clock.go(minutes=1)
                linear.records.set("Issue", ids[change], title="changed")
            after = page["pageInfo"]["endCursor"]

    assert walk("createdAt", "i1") == [5, 4, 3, 2, 1]
    assert walk("updatedAt", "i2") == [
        1,
        5,
        4,
        3,
    ]  # what changed meanwhile is not on a later page: it came to the front


def test_archived_ones_come_when_they_are_asked_for(linear: Linear, clock: Clock) -> None:
    fill(linear, clock)
    query = "query($a: Boolean) { issues(includeArchived: $a) { nodes { number trashed archivedAt } } }"
    assert len(data(linear, query)["issues"]["nodes"]) == 5
    rows = data(linear, query, a=True)["issues"]["nodes"]
    assert [(int(one["number"]), one["trashed"]) for one in rows][:3] == [(7, None), (6, True), (5, None)]
    assert rows[0]["archivedAt"] == "2026-01-01T00:07:03.000Z"


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"updatedAt": {"gt": "2026-01-01T00:04:00.000Z"}}, [5]),
        ({"updatedAt": {"gte": "2026-01-01T00:04:00.000Z"}}, [5, 4]),
        ({"createdAt": {"lt": "2026-01-01T00:02:00Z"}}, [1]),
        ({"createdAt": {"lte": "2026-01-01T00:02:00Z", "gt": "2026"}}, [2, 1]),
        ({"updatedAt": {"gt": "-PT4M3S"}}, [5, 4]),
        ({"or": [{"number": {"eq": 1}}, {"title": {"startsWith": "issue 3"}}]}, [3, 1]),
        ({"assignee": {"name": {"eq": "Ada"}}}, [1]),
        ({"assignee": {"null": True}, "number": {"in": [1, 2]}}, [2]),
        ({"team": {"key": {"neq": "ENG"}}}, []),
    ],
)
def test_filters(linear: Linear, clock: Clock, asked: dict[str, Any], numbers: list[int]) -> None:
    fill(linear, clock)
    query = "query($f: IssueFilter) { issues(filter: $f) { nodes { number } } }"
    assert [int(one["number"]) for one in data(linear, query, f=asked)["issues"]["nodes"]] == numbers


def test_a_field_that_fails_leaves_the_rest(linear: Linear, clock: Clock) -> None:
    fill(linear, clock)
    linear.answers.broken["Issue", "estimate"] = GraphQLError("not now")
    status, body, _ = ask(linear, "{ issues(first: 1) { nodes { number estimate } } }")
    assert (status, body["data"]) == (200, {"issues": {"nodes": [{"number": 5.0, "estimate": None}]}})
    assert body["errors"][0]["path"] == ["issues", "nodes", 0, "estimate"]


def test_the_schema_changes_under_its_readers(linear: Linear, clock: Clock) -> None:
    ids = fill(linear, clock)
    linear.extend("extend type Issue { severity: Float }")
    linear.records.set("Issue", ids["i5"], severity=2.5)
    query = '{ __type(name: "Issue") { fields { name } } issues(first: 1) { nodes { severity } } }'
    found = data(linear, query)
    assert "severity" in [one["name"] for one in found["__type"]["fields"]]
    assert found["issues"]["nodes"] == [{"severity": 2.5}]
    linear.reduce("Issue", "severity")
    assert ask(linear, query)[0] == 400


def test_linears_own_sdk_reads_it(linear: Linear, clock: Clock) -> None:
    fill(linear, clock)
    linear.requests.limit = 60
    try:
        node, folder = modules(_SERVERS / "linear_client.json")
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    script = (_SERVERS / "linear_client.mjs").read_bytes()
    command = [node, "--input-type=module", "-", linear.url, API_KEY]
    done = subprocess.run(command, input=script, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    limited = found.pop("limited")
    assert (limited["name"], limited["type"], limited["remaining"]) == ("RatelimitedLinearError", "Ratelimited", 0)
    assert limited["resets"] > clock.now.timestamp() * 1000
    issues = [[f"ENG-{n}", f"issue {n}", 0, f"2026-01-01T00:0{n}:00.000Z", None] for n in (5, 4, 3, 2, 1)]
    error = {"remaining": None, "resets": None}
    assert found == {
        "viewer": "Ada",
        "issues": issues,
        "archived": [f"ENG-{n}" for n in (7, 6, 5, 4, 3, 2, 1)],
        "labels": found["labels"],
        "comments": ["comment 2", "comment 1", "comment 0"],
        "team": "ENG",
        "state": "unstarted",
        "assignee": "Ada",
        "since": ["ENG-4", "ENG-3"],
        "backwards": ["ENG-2", "ENG-1"],
        "cycles": [1],
        "teams": ["ENG"],
        "projects": [["Rocket", 1]],
        "users": ["Ada"],
        "states": ["Todo"],
        "milestones": ["Launch"],
        "attachments": ["https://example.com/a"],
        "missing": {
            "name": "InvalidInputLinearError",
            "type": "InvalidInput",
            "status": 200,
            "message": "Could not find referenced Issue.",
            **error,
        },
        "wide": {
            "name": "InvalidInputLinearError",
            "type": "InvalidInput",
            "status": 200,
            "message": "first must not be greater than 250.",
            **error,
        },
        "stranger": {
            "name": "AuthenticationLinearError",
            "type": "AuthenticationError",
            "status": 401,
            "message": "You need to authenticate to access this operation.",
            **error,
        },
        "bearer": {
            "name": "InvalidInputLinearError",
            "type": "InvalidInput",
            "status": 400,
            "message": found["bearer"]["message"],
            **error,
        },
        "raw": "3",
    }
    assert sorted(found["labels"]) == ["bug", "chore", "debt"]
    assert found["bearer"]["message"].startswith("It looks like you're trying to use an API key as a Bearer token.")
