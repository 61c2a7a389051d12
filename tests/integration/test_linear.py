"""Linear as a source, on its double: what arrives, what a second run does, and what goes wrong meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from graphql import GraphQLError

from connectors.linear import LinearSource
from connectors.testing.linear import API_KEY, Linear
from runner.testing.conformance import conformance
from tests.conftest import Cli, Project


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **span: float) -> None:
        self.now += timedelta(**span)


class Workspace:
    """A double with a team, and a job that reads it."""

    def __init__(self, linear: Linear, clock: Clock, project: Project, cli: Cli) -> None:
        self.linear, self.clock, self.project, self.cli = linear, clock, project, cli
        self.records = linear.records
        self.user = self.records.add("User", name="Ada", active=True)
        self.gone = self.records.add("User", name="Bob", active=False)
        self.team = self.records.add("Team", key="ENG", name="Engineering", members=[self.user, self.gone])
        self.state = self.records.add("WorkflowState", team=self.team, name="Todo", type="unstarted")
        self.issues: list[str] = []

    def issue(self, **values: Any) -> str:
        """Make one issue more, a minute after the last one."""
        self.clock.go(minutes=1)
        number = len(self.issues) + 1
        given = {"identifier": f"ENG-{number}", "number": float(number), "title": f"issue {number}", **values}
        self.issues.append(self.records.add("Issue", team=self.team, state=self.state, **given))
        return self.issues[-1]

    def job(self, tables: str = "linear.issues:", source: str = "", more: str = "") -> None:
        login = source if "client_id" in source or "token" in source or "api_key" in source else f"api_key: {API_KEY}"
        other = "" if login == source else source
        self.project.job(
            f"""
name: linear
source: {{type: linear, base_url: "{self.linear.url}", {", ".join(filter(None, (login, other)))}}}
destination: {{type: duckdb, dataset: raw}}
{more}
tables:
  {tables}
"""
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        answer = self.cli("backfill", "job.yml", *arguments)
        assert answer.code == code, answer.err + answer.out
        return answer.err + answer.out

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.project.query(sql)

    def numbers(self) -> list[int]:
        return [int(one) for (one,) in self.rows("select number from raw.issues order by number")]

    def asked(self, part: str) -> list[dict[str, Any]]:
        """Return the variables of the queries that have this in their text."""
        return [variables for query, variables, _ in self.linear.asked if part in query]


@pytest.fixture
def space(project: Project, cli: Cli) -> Iterator[Workspace]:
    clock = Clock()
    with Linear(clock=clock) as linear:
        yield Workspace(linear, clock, project, cli)


@pytest.mark.parametrize("table", ["linear.issues", "linear.issues_labels"])
async def test_it_keeps_the_rules_of_the_port(space: Workspace, table: str) -> None:
    labels = [space.records.add("IssueLabel", name=f"label {number}") for number in range(15)]
    for number in range(12):
        space.issue(labelIds=labels[:number])
    options = {"api_key": API_KEY, "base_url": space.linear.url, "page_size": 4}
    await conformance(lambda: LinearSource(options), table)


def test_values_arrive_as_they_are(space: Workspace) -> None:
    space.issue(
        title="ünïcode 🚀 'quoted'",
        description=None,
        priority=2.0,
        estimate=0.5,
        dueDate="2026-05-01",
        assignee=space.user,
        labelIds=["a", "b"],
        reactionData={"👍": [1, {"n": 0.1}]},
        previousIdentifiers=[],
        trashed=None,
        completedAt="2026-01-01T10:11:12.345Z",
    )
    space.records.add("Comment", body="text\nof lines", issueId=space.issues[0], issue=space.issues[0])
    space.job("linear.*:")
    space.run()
    when = datetime(2026, 1, 1, 10, 11, 12, 345000, tzinfo=UTC)
    assert space.rows(
        "select title, description, priority, estimate, due_date::text, assignee_id, creator_id, label_ids::text, "
        "reaction_data::text, previous_identifiers::text, trashed, completed_at at time zone 'UTC', team_id, state_id "
        "from raw.issues"
    ) == [
        (
            "ünïcode 🚀 'quoted'",
            None,
            2.0,
            0.5,
            "2026-05-01",
            space.user,
            None,
            '["a","b"]',
            '{"👍":[1,{"n":0.1}]}',
            "[]",
            None,
            when.replace(tzinfo=None),
            space.team,
            space.state,
        )
    ]
    assert space.rows("select body, issue_id from raw.comments") == [("text\nof lines", space.issues[0])]
    assert space.rows("select name, active from raw.users order by name") == [("Ada", True), ("Bob", False)]
    names = {
        name for (name,) in space.rows("select column_name from information_schema.columns where table_name = 'issues'")
    }
    assert "labels" not in names
    assert "ai_analysis" not in names, "what is marked [Internal] is not public"
    tables = {
        name for (name,) in space.rows("select table_name from information_schema.tables where table_schema = 'raw'")
    }
    assert {"cycles", "projects", "issue_labels", "workflow_states", "project_milestones", "attachments"} <= tables


def test_a_second_run_reads_what_changed(space: Workspace) -> None:
    for _ in range(5):
        space.issue()
    space.job()
    space.run()
    space.clock.go(hours=1)
    space.records.set("Issue", space.issues[1], title="changed")
    space.issue()
    space.linear.asked.clear()
    space.run()
    windows = [one["filter"] for one in space.asked("title")]
    assert windows == [{"updatedAt": {"gte": "2026-01-01T00:05:00.000Z"}}]
    assert space.rows("select number, title from raw.issues where title = 'changed'") == [(2.0, "changed")]
    assert space.numbers() == [1, 2, 3, 4, 5, 6]
    marks = space.rows("select mark from raw._runner_state where source_table = 'linear.issues' order by seq")
    assert marks == [("2026-01-01 00:05:00+00",), ("2026-01-01 01:06:00+00",)]


def test_what_is_archived_or_in_the_bin_stays_and_says_so(space: Workspace) -> None:
    for _ in range(4):
        space.issue()
    space.job()
    space.run()
    space.records.archive("Issue", space.issues[0])
    space.records.trash(space.issues[1])
    space.records.remove("Issue", space.issues[2])
    space.run()
    assert space.rows("select number, archived_at is not null, trashed from raw.issues order by 1") == [
        (1.0, True, None),
        (2.0, True, True),
        (3.0, False, None),
        (4.0, False, None),
    ]
    space.job("linear.issues: {deletes: compare, on_delete: hard, max_delete: 50%}")
    space.run()
    assert space.numbers() == [1, 2, 4]


def test_columns_come_and_go_with_the_schema(space: Workspace) -> None:
    space.issue()
    space.job()
    space.run()
    space.linear.extend("extend type Issue { severity: Float scoredAt: DateTime }")
    space.issue(severity=1.5, scoredAt="2026-01-02T00:00:00Z")
    space.run()
    assert space.rows("select number, severity, scored_at is null from raw.issues order by 1") == [
        (1.0, None, True),
        (2.0, 1.5, False),
    ]
    space.linear.reduce("Issue", "severity")
    space.issue()
    space.run()
    assert space.numbers() == [1, 2, 3]


def test_pairs_are_followed_to_the_last_page_for_every_parent(space: Workspace) -> None:
    labels = [space.records.add("IssueLabel", name=f"label {number}") for number in range(60)]
    for number in range(7):
        space.issue(labelIds=labels[: {2: 60, 4: 30, 6: 10}.get(number, number)], subscribers=[space.gone])
    space.job("linear.*_*:\n  linear.issue_labels: {disabled: true}", "page_size: 3")
    space.run()
    held = "select issue_id, count(*), count(distinct label_id) from raw.issues_labels group by 1"
    wanted = {0: 0, 1: 1, 2: 60, 3: 3, 4: 30, 5: 5, 6: 10}
    assert {issue: (one, other) for issue, one, other in space.rows(held)} == {
        space.issues[number]: (count, count) for number, count in wanted.items() if count
    }
    assert space.rows("select distinct user_id from raw.issues_subscribers") == [(space.gone,)]
    assert space.rows("select user_id from raw.teams_members order by 1") == sorted([(space.user,), (space.gone,)])
    # A pair that is taken away is gone after the next run.
    space.records.set("Issue", space.issues[2], labelIds=labels[5:6])
    space.run()
    assert space.rows(f"select label_id from raw.issues_labels where issue_id = '{space.issues[2]}'") == [(labels[5],)]


@pytest.mark.parametrize("page", [4, 250])
def test_a_large_table_is_read_in_parts_at_once(space: Workspace, page: int) -> None:
    count = 2600 if page == 250 else 120
    for number in range(count):
        space.issue(title=f"issue {number}")
    space.job("linear.issues: {columns: {'*Id': drop}}", f"page_size: {page}")
    space.run()
    assert space.numbers() == list(range(1, count + 1))
    parts = {json.dumps(one["filter"]) for one in space.asked("title") if "filter" in one}
    assert len(parts) == (2 if page == 250 else 0)


@pytest.mark.parametrize("removed", [False, True])
def test_rows_that_change_between_pages_are_not_lost(space: Workspace, removed: bool) -> None:
    for _ in range(40):
        space.issue()
    pages = 0

    def meanwhile() -> None:
        nonlocal pages
        if "title" not in space.linear.asked[-1][0]:
            return
        pages += 1
        space.clock.go(minutes=1)
        if pages == 1:
            space.records.set("Issue", space.issues[1], title="changed while it was not read yet")
            space.records.set("Issue", space.issues[39], title="changed after it was read")
            space.issue()
        elif pages == 2 and removed:
            # The row that the next page begins after is removed for good.
            space.records.remove("Issue", space.issues[30])

    space.linear.between = meanwhile
    space.job(source="page_size: 5")
    space.run()
    assert [number for number in range(1, 41) if number not in space.numbers()] == []
    assert space.rows("select title from raw.issues where number = 2") == [("changed while it was not read yet",)]
    space.linear.between = None
    space.run()
    assert space.numbers() == list(range(1, 42))
    assert space.rows("select title from raw.issues where number = 40") == [("changed after it was read",)]


def test_rows_of_one_instant_that_come_twice_are_there_once(space: Workspace) -> None:
    for _ in range(3):
        space.issue()
    same = [space.issue(createdAt="2026-01-01T12:00:00.000Z") for _ in range(20)]
    for _ in range(3):
        space.issue(createdAt=f"2026-01-02T12:0{len(space.issues) - 23}:00.000Z")
    pages = 0

    def meanwhile() -> None:
        nonlocal pages
        if "title" in space.linear.asked[-1][0]:
            pages += 1
            if pages == 2:
                order = sorted(same, reverse=True)
                space.records.remove("Issue", order[6])  # the last one of the second page

    space.linear.between = meanwhile
    space.job(source="page_size: 5")
    said = space.run()
    assert "came more than once" in said
    assert space.rows("select count(*), count(distinct id) from raw.issues") == [(26, 26)]


_REFUSED = {
    "errors": [{"message": "Rate limit exceeded", "extensions": {"code": "RATELIMITED", "type": "ratelimited"}}]
}
_BROKEN = {"errors": [{"message": "Internal server error", "extensions": {"type": "internal error"}}], "data": None}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("reset", {"times": 3}),
        ("cut", {"times": 2}),
        ("truncated_gzip", {"times": 2}),
        ("status", {"status": 503, "body": "<html>busy</html>", "times": 2}),
        ("status", {"status": 429, "headers": {"Retry-After": "0"}, "times": 8}),
        ("body", {"status": 200, "body": _BROKEN, "times": 2}),
        ("body", {"status": 200, "body": "<html>maintenance</html>", "times": 2}),
        ("body", {"status": 200, "body": {}, "times": 2}),
        (
            "body",
            {"status": 400, "body": _REFUSED, "headers": {"X-RateLimit-Requests-Reset": "1"}, "times": 12},
        ),
    ],
)
def test_what_passes_is_waited_out(space: Workspace, kind: Any, more: dict[str, Any]) -> None:
    for _ in range(30):
        space.issue()
    space.linear.fail(kind, "graphql", after=5, **more)
    space.job(source="page_size: 4", more="retry: {attempts: 20, max_wait: 50ms}")
    space.run()
    assert space.numbers() == list(range(1, 31))


def test_a_pause_until_the_reset_parks_the_table(space: Workspace) -> None:
    for _ in range(30):
        space.issue()
    space.clock.now = datetime.now(UTC)
    space.linear.requests.limit = 6
    space.job(source="page_size: 4")
    assert "Parked until" in space.run(code=3)
    space.linear.requests.limit = 2500
    space.linear.requests.used = 0.0
    space.run()
    assert space.numbers() == list(range(1, 31))


def test_the_share_of_the_quota_is_kept(space: Workspace) -> None:
    for _ in range(30):
        space.issue()
    space.clock.now = datetime.now(UTC)
    space.linear.requests.limit = 20
    space.job(source="page_size: 4", more="limits: {quota: 50%}")
    assert "limits.quota" in space.run(code=3)
    assert len(space.linear.asked) <= 12


def test_a_token_that_expires_is_renewed(space: Workspace) -> None:
    for _ in range(30):
        space.issue()
    count = 0

    def meanwhile() -> None:
        nonlocal count
        count += 1
        if count in (4, 7):
            space.linear.expire_tokens()

    space.linear.between = meanwhile
    space.job(source="page_size: 4, client_id: client, client_secret: secret")
    space.run()
    assert space.numbers() == list(range(1, 31))
    assert space.linear.count("/oauth/token") == 3
    assert space.linear.count("/graphql", status=401) == 2


def test_pages_become_smaller_where_the_server_counts_more(space: Workspace) -> None:
    for _ in range(30):
        space.issue()
    space.linear.most_points = 600
    space.job()
    space.run()
    assert space.numbers() == list(range(1, 31))
    sizes = [one["first"] for one in space.asked("title")]
    assert sizes == [24, 24]
    assert space.linear.count("graphql", status=400) == 1, "the size was not learned"


@pytest.mark.parametrize("where", ['{"assignee": {"name": {"eq": "Ada"}}}', '{"number": {"in": [1, 3, 5]}}'])
def test_where_is_a_filter_of_linears(space: Workspace, where: str) -> None:
    for number in range(6):
        space.issue(assignee=space.user if number % 2 == 0 else None)
    space.job(f"linear.issues: {{where: '{where}'}}")
    space.run()
    assert space.numbers() == [1, 3, 5]
    space.issue(assignee=space.user)
    space.run()
    assert space.numbers() == ([1, 3, 5, 7] if "assignee" in where else [1, 3, 5])


def test_only_the_columns_that_are_wanted_are_asked_for(space: Workspace) -> None:
    space.issue()
    space.job("linear.issues: {mode: full, columns: {description: drop, url: drop, 'sla*': drop}}")
    space.run()
    text = next(query for query, _, _ in space.linear.asked if "title" in query)
    assert "sortOrder" in text
    assert not any(name in text for name in ("slaType", "description", "url"))


def test_a_mode_of_appending_by_the_time_of_making(space: Workspace) -> None:
    for _ in range(3):
        space.issue()
    space.job("linear.issues: {mode: append, cursor: createdAt}")
    space.run()
    space.clock.go(hours=1)
    space.issue()
    space.records.set("Issue", space.issues[0], title="changed, and not made")
    space.run()
    assert space.rows("select number, title from raw.issues order by 1") == [
        (number, f"issue {number}") for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("tables", "source", "words", "code"),
    [
        ("linear.issues:", "api_key: lin_api_wrong", "You need to authenticate", 2),
        ("linear.issues:", "access_token: wrong", "You need to authenticate", 2),
        ("linear.issues:", "client_id: client, client_secret: wrong", "Invalid client credentials", 2),
        ("linear.issues:", "access_token: SCOPE", "Invalid scope", 2),
        ("linear.tickets:", "", "linear.tickets is not at the source", 2),
        ("linear.issues: {where: 'team = 7'}", "", "a filter of Linear's as JSON", 1),
        ("linear.issues: {where: '{\"colour\": 1}'}", "", "colour", 1),
        ("linear.issues: {mode: incremental, cursor: completedAt}", "", "orders by updatedAt and createdAt alone", 1),
    ],
)
def test_what_cannot_be_is_refused_in_words(space: Workspace, tables: str, source: str, words: str, code: int) -> None:
    space.issue()
    space.job(tables, source.replace("SCOPE", space.linear.issue_token("comments:create")))
    assert words in space.run(code=code)


def test_a_field_that_may_not_be_read_is_named(space: Workspace) -> None:
    space.issue()
    extensions = {"type": "feature not accessible", "code": "FEATURE_NOT_ACCESSIBLE"}
    space.linear.answers.broken["Issue", "estimate"] = GraphQLError("not in this plan", extensions=extensions)
    space.job()
    said = space.run(code=1)
    assert "issues.nodes.estimate" in said
    assert "not in this plan" in said
    doctor = space.cli("doctor", "job.yml")
    assert "linear.issues: Linear (issues.nodes.estimate): not in this plan" in doctor.out
    space.job("linear.issues: {columns: {estimate: drop}}")
    space.run()
    assert space.numbers() == [1]


def test_numbers_keep_their_digits(space: Workspace) -> None:
    space.issue(sortOrder=0.1 + 0.2, boardOrder=1e-7, estimate=1e21, prioritySortOrder=-1234567.891)
    space.job()
    space.run()
    found = space.rows("select sort_order, estimate, priority_sort_order from raw.issues")
    assert found == [(0.1 + 0.2, 1e21, -1234567.891)]
    assert Decimal(repr(found[0][0])) == Decimal("0.30000000000000004")
