"""HubSpot as a source, from its double into DuckDB: what arrives, what comes later, and what goes wrong on the way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from connectors.http import Http, Requests
from connectors.hubspot import HubSpotSource
from connectors.testing.hubspot import HubSpotDouble, Property
from runner.job import Limits, Retry
from runner.limits import SourceLimits
from runner.testing.clock import ManualClock
from runner.testing.conformance import conformance
from tests.conftest import Answer, Cli, Project

_START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_LIST, _SEARCH = "/crm/v3/objects/contacts\\?", "/crm/v3/objects/contacts/search"


class Moving(HubSpotDouble):
    """A double whose time a test moves, and whose contents change between two pages."""

    def __init__(self, **more: Any) -> None:
        self.moment = _START
        self.between: Callable[[int], None] = lambda number: None
        self.before_batch: Callable[[], None] = lambda: None
        self.pages = 0
        more = {"burst": 10**6, "searches": 10**6, **more}
        super().__init__(now=lambda: self.moment, **more)

    def go(self, **span: float) -> None:
        self.moment += timedelta(**span)

    async def _list(self, request: web.Request) -> web.Response:
        self.pages += 1
        self.between(self.pages)
        return await super()._list(request)

    async def _batch(self, request: web.Request) -> web.Response:
        self.before_batch()
        return await super()._batch(request)

    async def _search(self, request: web.Request) -> web.Response:
        self.pages += 1
        self.between(self.pages)
        return await super()._search(request)


@pytest.fixture
def hubspot() -> Iterator[Moving]:
    with Moving() as server:
        yield server


class Team:
    """A team that loads HubSpot into DuckDB."""

    def __init__(self, project: Project, cli: Cli, server: HubSpotDouble) -> None:
        self.project, self.cli, self.server = project, cli, server
        project.environ |= {"HUBSPOT_TOKEN": server.token, "HUBSPOT_URL": server.url}

    def job(self, *tables: str, source: str = "", more: str = "", login: str | None = None) -> None:
        login = login or 'access_token: "${HUBSPOT_TOKEN}"'
        lines = "\n".join(f"  {table}" for table in tables)
        self.project.job(
            "name: crm\n"
            f'source: {{type: hubspot, {login}, base_url: "${{HUBSPOT_URL}}", search_rate: 100000{source}}}\n'
            "destination: {type: duckdb, dataset: raw}\nretry: {attempts: 8, max_wait: 10ms}\n"
            f"{more}\ntables:\n{lines}\n"
        )

    def run(self, *arguments: str, code: int = 0) -> Answer:
        answer = self.cli("backfill", "job.yml", *arguments)
        assert answer.code == code, answer.out + answer.err
        return answer

    def rows(self, columns: str = "id, email, archived", table: str = "contacts") -> list[tuple[Any, ...]]:
        return self.project.query(f"select {columns} from raw.{table} order by all")

    def expected(self) -> list[tuple[Any, ...]]:
        records = self.server.store.kinds["contacts"].records.values()
        return sorted((str(one.id), one.properties.get("email"), one.archived is not None) for one in records)


@pytest.fixture
def team(project: Project, cli: Cli, hubspot: Moving) -> Team:
    return Team(project, cli, hubspot)


def fill(hubspot: HubSpotDouble, count: int, kind: str = "contacts", **properties: str) -> list[int]:
    return [
        hubspot.store.add(kind, {"email": f"c{number}@example.com", **properties} if kind == "contacts" else properties)
        for number in range(count)
    ]


@pytest.mark.parametrize("table", ["contacts", "contacts_history", "contacts_to_companies"])
async def test_it_keeps_the_rules_of_the_port(hubspot: Moving, table: str) -> None:
    (firm,) = fill(hubspot, 1, "companies")
    for _ in range(50):
        hubspot.go(minutes=1)
        for one in fill(hubspot, 5):
            hubspot.store.link("contacts", one, "companies", firm)
    hubspot.store.archive("contacts", firm + 7)
    options = {"access_token": hubspot.token, "base_url": hubspot.url, "search_rate": 10**5, "window": 100}
    found = await conformance(lambda: HubSpotSource({**options, "history": ["contacts.email"]}), f"hubspot.{table}")
    assert found.rows == (249 if table == "contacts_to_companies" else 250)


def test_every_type_arrives_by_value(team: Team, hubspot: Moving) -> None:
    kind = hubspot.store.kinds["contacts"]
    kind.declare(Property("score", "number"), Property("signed", "datetime"), Property("meta", "json"))
    kind.declare(Property("place", "object_coordinates"), Property("archived", "string"))
    whole = {
        "firstname": "Zoë\n\t'\"",
        "lastname": "",
        "score": "12345678901234567.123456789",
        "date_of_birth": "2019-10-30",
        "hs_is_unworked": "true",
        "lifecyclestage": "lead;customer",
        "phone": "+31 6 123",
        "signed": "2026-02-03T04:05:06.789Z",
        "meta": '{"a": 1}',
        "archived": "a property of its own",
    }
    epoch = {
        "score": "1.5E7",
        "date_of_birth": "1572393600000",
        "signed": "1572393600123",
        "hs_is_unworked": "false",
        "num_notes": "",
    }
    first, second = hubspot.store.add("contacts", whole), hubspot.store.add("contacts", epoch)
    third = hubspot.store.add("contacts", {"score": "-0.000000000000000001", "date_of_birth": "", "signed": ""})
    team.job("hubspot.contacts:")
    team.run()
    columns = (
        "id, firstname, lastname, score, date_of_birth, hs_is_unworked, lifecyclestage, phone, signed, property_archived, "
        "archived, created_at, lastmodifieddate, num_notes"
    )
    at = _START
    assert team.rows(columns) == [
        (
            str(first),
            "Zoë\n\t'\"",
            "",
            Decimal("12345678901234567.123456789"),
            date(2019, 10, 30),
            True,
            "lead;customer",
            "+31 6 123",
            datetime(2026, 2, 3, 4, 5, 6, 789000, UTC),
            "a property of its own",
            False,
            at,
            at,
            None,
        ),
        (
            str(second),
            None,
            None,
            Decimal(15_000_000),
            date(2019, 10, 30),
            False,
            None,
            None,
            datetime(2019, 10, 30, 0, 0, 0, 123000, UTC),
            None,
            False,
            at,
            at,
            None,
        ),
        (
            str(third),
            None,
            None,
            Decimal("-0.000000000000000001"),
            None,
            None,
            None,
            None,
            None,
            None,
            False,
            at,
            at,
            None,
        ),
    ]
    types = dict(
        team.project.query("select column_name, data_type from duckdb_columns() where table_name = 'contacts'")
    )
    assert types["score"] == "DECIMAL(38,18)"
    assert types["signed"] == types["archived_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["meta"] == "JSON"


def test_a_number_with_more_digits_fails_its_table_and_arrives_as_text(team: Team, hubspot: Moving) -> None:
    hubspot.store.add("contacts", {"num_notes": "0.1234567890123456789"})
    hubspot.store.add("companies", {"name": "Acme"})
    team.job("hubspot.contacts:", "hubspot.companies:")
    answer = team.run(code=1)
    assert "num_notes is number" in answer.out
    assert team.rows("name", "companies") == [("Acme",)]
    team.job("hubspot.contacts: {columns: {num_notes: text}}")
    team.run()
    assert team.rows("num_notes") == [("0.1234567890123456789",)]


def test_after_the_first_run_only_what_changed_is_asked_for(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 250)
    hubspot.store.archive("contacts", ids[3])
    # The mark is far behind the changes of those that are deleted later.
    hubspot.go(hours=1)
    fill(hubspot, 1)
    team.job("hubspot.contacts:")
    assert "251 rows" in team.run().out
    assert team.rows() == team.expected()
    hubspot.go(hours=2)
    hubspot.store.change("contacts", ids[0], email="new@example.com")
    hubspot.store.archive("contacts", ids[1])
    added = fill(hubspot, 3)
    hubspot.seen.clear()
    team.run()
    assert team.rows() == team.expected()
    assert hubspot.count(_LIST + ".*archived=false") == 0, "an incremental run lists what is deleted, and nothing else"
    hubspot.go(hours=2)
    hubspot.store.restore("contacts", ids[1])
    hubspot.store.change("contacts", ids[1], email="back@example.com")
    team.run()
    assert team.rows() == team.expected()
    assert len(team.rows()) == 251 + len(added)


def test_what_the_index_shows_late_is_found_by_the_next_run(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 20)
    team.job("hubspot.contacts:")
    team.run()
    hubspot.go(hours=1)
    hubspot.store.change("contacts", ids[5], email="early@example.com")
    hubspot.go(minutes=2)
    hubspot.search_lag = 60
    hubspot.store.change("contacts", ids[0], email="late@example.com")
    hubspot.go(seconds=61)
    # The index shows this one at once, so that the mark passes the one that it does not show yet.
    hubspot.store.change("contacts", ids[1], email="first@example.com")
    hubspot.search_lag = 0
    late = hubspot.store.kinds["contacts"].records[ids[0]]
    stamp, late.updated = late.updated, hubspot.now() + timedelta(days=1)
    hubspot.search_lag = 0.001
    hubspot.go(seconds=1)
    team.run()
    assert ("c0@example.com",) in team.rows("email"), "the index did not show it"
    late.updated = stamp
    team.run()
    assert team.rows() == team.expected()


def test_windows_are_split_until_none_holds_too_many(project: Project, cli: Cli) -> None:
    with Moving(cap=200) as hubspot:
        team = Team(project, cli, hubspot)
        fill(hubspot, 1)
        team.job("hubspot.contacts:", source=", window: 200")
        team.run()
        for minute in range(40):
            hubspot.go(minutes=7)
            fill(hubspot, 500 if minute == 20 else 20)
        hubspot.seen.clear()
        team.run()
        assert team.rows() == team.expected()
        searches = [json.loads(one.body) for one in hubspot.seen if one.path == _SEARCH]
    windows = {json.dumps(one["filterGroups"][0]["filters"][0]) for one in searches if one["limit"] > 1}
    assert len(windows) > 4, "one moment holds 500, the rest is split"
    assert not any("after" in one for one in searches), "an offset skips what moves"
    moment = [one for one in searches if one["limit"] == 200 and len(one["filterGroups"][0]["filters"]) == 2]
    assert moment, "a moment with more than a page goes on by id"


def test_what_changes_while_pages_are_read_is_not_lost(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 700)
    team.job("hubspot.contacts:")

    def change(page: int) -> None:
        if page in (3, 4, 5):
            hubspot.go(seconds=1)
            hubspot.store.change("contacts", ids[page * 50], email=f"moved{page}@example.com")
            hubspot.store.archive("contacts", ids[page * 90])
            hubspot.store.add("contacts", {"email": f"born{page}@example.com"})

    hubspot.between = change
    team.run()
    assert {one[0] for one in team.rows()} == {one[0] for one in team.expected()}
    hubspot.go(hours=1)
    for one in ids:
        hubspot.store.change("contacts", one, firstname="changed")
    hubspot.pages = 0
    team.run()
    hubspot.between = lambda _: None
    team.run()
    assert team.rows() == team.expected()
    assert team.rows("count(*), count(distinct id)") == [(706, 706)]


def test_a_cursor_that_is_not_known_any_more_begins_the_table_again(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 350)
    team.job("hubspot.contacts:")
    body = {"status": "error", "message": "after is not a cursor", "category": "VALIDATION_ERROR"}
    hubspot.fail("status", _LIST + ".*after=", status=400, body=body, after=1)
    assert "after is not a cursor" in team.run().err
    assert team.rows() == team.expected()


def test_what_is_deleted_for_good_is_found_by_comparing(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 250)
    team.job("hubspot.contacts: {deletes: compare}")
    team.run()
    hubspot.go(hours=1)
    hubspot.store.purge("contacts", ids[3])
    hubspot.store.archive("contacts", ids[4])
    team.run()
    gone = team.project.query("select id from raw.contacts where _deleted_at is not null order by 1")
    assert gone == [(str(one),) for one in ids[3:5]]


def test_duplicate_pages_are_one(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 150)
    team.job("hubspot.contacts:")
    page = {
        "results": [
            {
                "id": str(one),
                "properties": {"email": "old@example.com", "lastmodifieddate": "2025-01-01T00:00:00.000Z"},
                "createdAt": "2025-01-01T00:00:00.000Z",
            }
            for one in ids[40:110]
        ],
        "paging": {"next": {"after": str(ids[0]), "link": ""}},
    }
    hubspot.fail("body", _LIST, body=page)
    answer = team.run()
    assert "rows came more than once" in answer.err
    assert team.rows() == team.expected()


def test_a_search_out_of_order_is_read_anew(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 300)
    team.job("hubspot.contacts:")
    team.run()
    hubspot.go(hours=1)
    for one in ids:
        hubspot.store.change("contacts", one, firstname="x")
    records = [{"id": str(one), "properties": {}} for one in (ids[7], ids[2])]
    page = {"total": 300, "results": records, "paging": {"next": {"after": "2"}}}
    # The first searches are the estimate, the mark and the count.
    hubspot.fail("body", _SEARCH, body=page, after=3)
    assert "not in the order of the ids" in team.run().err
    assert team.project.query("select count(*) from raw.contacts where firstname = 'x'") == [(300,)]


_ERROR = {"status": "error", "message": "internal error", "correlationId": "1", "category": "INTERNAL_ERROR"}
_BUSY = {"status": "error", "message": "limit", "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}


_FAULTS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429, "times": 5, "body": _BUSY, "headers": {"Retry-After": "0"}},
    "502": {"kind": "status", "status": 502, "times": 3, "body": "<html>"},
    "423": {"kind": "status", "status": 423, "body": _ERROR},
    "477": {"kind": "status", "status": 477, "body": _ERROR},
    "reset": {"kind": "reset", "times": 3},
    "cut": {"kind": "cut", "times": 3},
    "truncated": {"kind": "truncated_gzip", "times": 3},
    "error": {"kind": "body", "body": _ERROR, "times": 2},
    "empty": {"kind": "body", "body": {"status": "COMPLETE"}},
    "in part": {"kind": "body", "body": {"results": [], "errors": [{"category": "INTERNAL_ERROR"}]}, "status": 207},
}


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        *((_LIST, fault) for fault in _FAULTS),
        *((_SEARCH, fault) for fault in ("429", "cut", "error")),
        *(("/batch/read", fault) for fault in ("429", "truncated", "in part")),
    ],
)
def test_a_fault_costs_no_row(team: Team, hubspot: Moving, path: str, fault: str) -> None:
    # So many properties that they are read in batches.
    hubspot.store.kinds["contacts"].declare(*(Property(f"{'p' * 90}_{number}") for number in range(80)))
    ids = fill(hubspot, 230)
    team.job("hubspot.contacts:")
    if path == _SEARCH:
        team.run()
    hubspot.go(hours=1)
    for one in ids:
        hubspot.store.change("contacts", one, email=f"again{one}@example.com")
    hubspot.fail(path=path, after=2 if path == _SEARCH else 1, **_FAULTS[fault])
    team.run()
    assert team.rows() == team.expected()
    assert hubspot.faults[0].times == 0, "it did not strike"


def test_properties_that_no_address_holds_are_read_in_batches(team: Team, hubspot: Moving) -> None:
    names = [f"{'q' * 50}_{number}" for number in range(160)]
    hubspot.store.kinds["contacts"].declare(*(Property(name) for name in names))
    ids = fill(hubspot, 170)
    for number, one in enumerate(ids):
        hubspot.store.change("contacts", one, **{names[number % 160]: f"v{number}"})
    team.job("hubspot.contacts:")
    team.run()
    hubspot.go(hours=1)
    hubspot.store.change("contacts", ids[0], **{names[0]: "changed"})
    team.run()
    assert team.rows(f"{names[0]}, {names[9]}")[:3] == [("changed", None), ("v160", None), (None, "v169")]
    assert team.rows(f"count({names[159]}), count(*)") == [(1, 170)]
    assert hubspot.count(status=414) == 0
    assert max(len(one.body) for one in hubspot.seen if one.path == _SEARCH) < 3000


def test_only_the_columns_that_are_wanted_are_asked_for(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 5)
    team.job('hubspot.contacts: {columns: {"*name": drop, phone: drop}}')
    team.run()
    asked = next(one.query for one in hubspot.seen if one.path == "/crm/v3/objects/contacts")
    assert "email" in asked
    assert "name" not in asked
    assert "phone" not in asked


def test_a_token_that_expires_in_mid_run_is_renewed(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 550)
    team.project.environ |= {"ID": hubspot.client_id, "SECRET": hubspot.client_secret, "REFRESH": hubspot.refresh_token}
    team.job("hubspot.contacts:", login='client_id: "${ID}", client_secret: "${SECRET}", refresh_token: "${REFRESH}"')
    hubspot.between = lambda page: hubspot.go(hours=1) if page == 4 else None
    team.run()
    assert team.rows() == team.expected()
    assert hubspot.count(status=401) == 1
    assert hubspot.count("/oauth/v1/token") == 2


@pytest.mark.parametrize(
    "login",
    [
        'access_token: "wrong"',
        'client_id: "client-1", client_secret: "secret-1", refresh_token: "old"',
    ],
)
def test_wrong_credentials_stop_the_run_and_are_not_shown(team: Team, login: str) -> None:
    team.job("hubspot.contacts:", login=login)
    answer = team.run(code=2)
    assert (
        "the credentials are not accepted (401)" in answer.err + answer.out
        or "refresh token" in answer.err + answer.out
    )
    assert "wrong" not in answer.err + answer.out


@pytest.mark.parametrize(
    "login",
    ["history: []", 'access_token: "hidden", client_id: "b"', 'client_id: "b", client_secret: "hidden"'],
)
def test_a_login_is_whole_or_refused(team: Team, login: str) -> None:
    team.job("hubspot.contacts:", login=login)
    answer = team.run("--debug", code=2)
    assert "give access_token, or client_id" in answer.err
    assert "hidden" not in answer.err + answer.out


def test_a_missing_scope_is_named_and_the_rest_arrives(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 3)
    hubspot.gate.scopes = {"crm.objects.contacts.read"}
    team.job("hubspot.contacts:", "hubspot.deals:", "hubspot.cars:", "hubspot.nope_to_contacts:")
    answer = team.run(code=1)
    assert team.rows() == team.expected()
    assert "may not read hubspot.deals" in answer.out
    assert "may not read hubspot.cars" in answer.out, "custom objects cannot be listed"


def test_a_custom_object_by_its_name(team: Team, hubspot: Moving) -> None:
    hubspot.store.define("cars", Property("colour"), Property("doors", "number"))
    hubspot.store.add("cars", {"colour": "red", "doors": "5"})
    team.job("hubspot.cars:", "hubspot.boats:")
    answer = team.run(code=1)
    assert "hubspot.boats is not at the source" in answer.out
    assert team.rows("colour, doors", "cars") == [("red", Decimal(5))]
    hubspot.go(hours=1)
    hubspot.store.add("cars", {"colour": "blue"})
    team.run(code=1)
    assert team.rows("colour", "cars") == [("blue",), ("red",)]


def test_associations_are_a_table(project: Project, cli: Cli) -> None:
    with Moving(association_page=3) as hubspot:
        team = Team(project, cli, hubspot)
        people = fill(hubspot, 120)
        firms = fill(hubspot, 8, "companies", name="Acme")
        for number, person in enumerate(people[:110]):
            hubspot.store.link("contacts", person, "companies", firms[number % 8])
        for firm in firms:
            hubspot.store.link("contacts", people[0], "companies", firm, type_id=7, label="Owner")
        team.job("hubspot.contacts_to_companies:", "hubspot.companies_to_contacts:")
        team.run()
        links = hubspot.store.links["contacts", "companies"]
        expected = sorted(
            (str(near), str(far), category, number, label)
            for near, ends in links.items()
            for far, kinds in ends.items()
            for number, category, label in kinds
        )
        found = team.rows("from_id, to_id, category, type_id, label", "contacts_to_companies")
        assert sorted(found, key=str) == sorted(expected, key=str)
        assert len(found) == 118
        assert len(team.rows("from_id", "companies_to_contacts")) == 118
        hubspot.store.unlink("contacts", people[1], "companies", firms[1])
        team.run()
        assert len(team.rows("from_id", "contacts_to_companies")) == 117


@pytest.mark.parametrize(
    ("word", "kind", "name"), [("Deal", "deals", "dealname"), ("Order", "orders", "hs_order_name")]
)
def test_a_changed_line_reads_its_header_again(team: Team, hubspot: Moving, word: str, kind: str, name: str) -> None:
    headers = [hubspot.store.add(kind, {name: f"h{number}"}) for number in range(3)]
    lines = [hubspot.store.add("line_items", {"quantity": "1"}) for _ in headers]
    for header, line in zip(headers, lines, strict=True):
        hubspot.store.link("line_items", line, kind, header)
    hubspot.store.link("line_items", lines[1], kind, headers[2])
    hubspot.association_page = 1
    hubspot.go(hours=1)
    hubspot.store.add(kind, {name: "later"})
    team.job(f"hubspot.{word}:")
    team.run()
    for header in headers:
        hubspot.store.kinds[kind].records[header].properties[name] = "computed anew"
    hubspot.go(hours=1)
    hubspot.store.change("line_items", lines[1], quantity="2")
    team.run()
    assert team.rows(name, word.lower()) == [("computed anew",), ("computed anew",), ("h0",), ("later",)]
    hubspot.gate.scopes = {f"crm.objects.{kind}.read"}
    team.run()


def test_objects_go_by_the_words_that_people_use(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 3)
    fill(hubspot, 2, "companies", name="Acme")
    team.job("hubspot.Customer:", "hubspot.Company: {as: firms}")
    team.run()
    assert team.rows("count(*)", "customer") == [(3,)]
    assert team.rows("count(*)", "firms") == [(2,)]


def test_a_property_that_is_new_becomes_a_column(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 3)
    team.job("hubspot.contacts:")
    team.run()
    hubspot.go(hours=1)
    hubspot.store.kinds["contacts"].declare(Property("tier"))
    hubspot.store.change("contacts", ids[0], tier="gold")
    team.run()
    assert team.rows("tier") == [("gold",), (None,), (None,)]


def test_former_values_are_a_table(team: Team, hubspot: Moving) -> None:
    ids = fill(hubspot, 60)
    hubspot.go(hours=1)
    hubspot.store.change("contacts", ids[0], email="second@example.com")
    hubspot.store.change("contacts", ids[0], email="third@example.com")
    team.job("hubspot.contacts_history:", source=", history: [contacts.email]")
    team.run()
    later = _START + timedelta(hours=1)
    columns = 'id, property, "timestamp", ordinal, value, source_type'
    mine = f"{columns} from raw.contacts_history where id = '{ids[0]}' order by all --"
    history = [
        (str(ids[0]), "email", _START, 0, "c0@example.com", "INTEGRATION"),
        (str(ids[0]), "email", later, 0, "second@example.com", "INTEGRATION"),
        (str(ids[0]), "email", later, 1, "third@example.com", "INTEGRATION"),
    ]
    assert team.project.query(f"select {mine}") == history
    hubspot.go(hours=1)
    hubspot.store.change("contacts", ids[0], email="fourth@example.com")
    hubspot.seen.clear()
    team.run()
    now = _START + timedelta(hours=2)
    assert team.project.query(f"select {mine}") == [
        *history,
        (str(ids[0]), "email", now, 0, "fourth@example.com", "INTEGRATION"),
    ]
    assert team.rows("count(*)", "contacts_history") == [(63,)]
    assert hubspot.count(_LIST + ".*archived=false") == 0
    assert hubspot.count("batch/read") == 1


def test_a_history_that_is_none_is_said_so(team: Team, hubspot: Moving) -> None:
    team.job("hubspot.contacts_history:", source=", history: [contacts.nope]")
    assert "history: contacts has no property 'nope'" in team.run(code=2).err


def test_a_condition_is_hubspots_own_filter(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 230, lifecyclestage="lead")
    wanted = fill(hubspot, 220, lifecyclestage="customer")
    where = json.dumps([{"propertyName": "lifecyclestage", "operator": "EQ", "value": "customer"}])
    team.job(f"hubspot.contacts: {{where: '{where}'}}")
    assert "HubSpot filters no deleted records" in team.run(code=1).out
    team.job(f"hubspot.contacts: {{mode: full, where: '{where}'}}", source=", archived: false")
    team.run()
    assert team.rows("id") == sorted((str(one),) for one in wanted)
    team.job("hubspot.contacts: {where: 'stage = 1'}", source=", archived: false")
    assert "is not a list of HubSpot's filters" in team.run("--full-refresh", code=1).out


def test_a_range_replaces_what_is_in_it(team: Team, hubspot: Moving) -> None:
    for _ in range(6):
        fill(hubspot, 10)
        hubspot.go(hours=1)
    team.job("hubspot.contacts:")
    team.run()
    for one in hubspot.store.kinds["contacts"].records.values():
        one.properties["firstname"] = "seen again"
    team.run("--since", "2026-01-01T13:00:00Z", "--until", "2026-01-01T15:00:00Z")
    assert team.project.query(
        "select lastmodifieddate, count(*) from raw.contacts where firstname = 'seen again' group by 1 order by 1"
    ) == [(_START + timedelta(hours=hour), 10) for hour in (1, 2)]
    assert len(team.rows()) == 60


def test_a_record_that_leaves_a_range_while_it_is_read_is_not_in_it(team: Team, hubspot: Moving) -> None:
    hubspot.store.kinds["contacts"].declare(*(Property(f"{'p' * 90}_{number}") for number in range(80)))
    ids = fill(hubspot, 10)
    team.job("hubspot.contacts:")
    team.run()
    hubspot.go(hours=9)
    hubspot.before_batch = lambda: hubspot.store.change("contacts", ids[0], email="left@example.com")
    team.run("--since", "2026-01-01T11:00:00Z", "--until", "2026-01-01T15:00:00Z")
    assert [one[0] for one in team.rows("id")] == [str(one) for one in ids[1:]]
    hubspot.before_batch = lambda: None
    team.run()
    assert team.rows() == team.expected()


def test_append_reads_each_record_once(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 30)
    team.job(
        "hubspot.contacts: {mode: append, cursor: createdate, lag: 0s, deletes: ignore}", source=", archived: false"
    )
    assert "30 rows" in team.run().out
    hubspot.go(hours=1)
    fill(hubspot, 5)
    team.run()
    team.run()
    assert team.rows("count(*), count(distinct id)") == [(35, 35)]


def test_our_share_of_the_day_parks_the_rest(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 500)
    hubspot.gate.daily = 1000
    hubspot.gate.used_today, hubspot.gate._day = 495, hubspot.now().date()
    team.job("hubspot.contacts:", more="limits: {quota: 50%}")
    answer = team.run(code=3)
    assert "of 1,000 requests are used" in answer.out + answer.err
    assert hubspot.count() < 12
    hubspot.gate.used_today = 0
    team.run()
    assert team.rows() == team.expected()


def test_where_the_day_is_used_up_the_table_waits_and_goes_on(team: Team, hubspot: Moving) -> None:
    fill(hubspot, 12_000)
    hubspot.between = lambda page: setattr(hubspot.gate, "daily", 110 if page == 110 else hubspot.gate.daily)
    team.job("hubspot.contacts:")
    assert "1 parked" in team.run(code=3).err
    hubspot.gate.daily = 10**6
    hubspot.seen.clear()
    assert "resumes" in team.run().err
    assert team.rows("count(*), count(distinct id)") == [(12_000, 12_000)]
    # A chunk ends at 10,000 rows: the first is on disk, the second is begun again.
    assert hubspot.count(_LIST + ".*archived=false") == 20


@pytest.mark.parametrize("askers", [1, 8])
async def test_a_burst_is_never_used_up(askers: int) -> None:
    clock = ManualClock(auto=True)
    with HubSpotDouble(burst=100, now=clock.now) as server:
        source = HubSpotSource({"access_token": server.token, "base_url": server.url})
        source.govern(Requests(SourceLimits.of(Limits(), clock), clock, retry=Retry(attempts=1)))

        async def ask(http: Http) -> None:
            for _ in range(640 // askers):
                await http.get("/crm/v3/objects/contacts")

        async with source.session(0) as session, anyio.create_task_group() as group:
            for _ in range(askers):
                group.start_soon(ask, session.http)
        assert server.count(status=200) == 640
        assert server.count(status=429) == 0
    if askers == 1:
        # In 10 seconds 100 may pass, so that this takes 60 at least; where several sleep this clock adds up their time.
        assert 55 < clock.monotonic() < 80


async def test_searches_keep_their_own_pace() -> None:
    clock = ManualClock(auto=True)
    with HubSpotDouble(searches=5, burst=10**6, now=clock.now) as server:
        source = HubSpotSource({"access_token": server.token, "base_url": server.url})
        source.govern(Requests(SourceLimits.of(Limits(), clock), clock, retry=Retry(attempts=1)))
        async with source.session(0) as session:
            for _ in range(12):
                await session._searches.count("contacts", [])
        assert server.count(status=429) == 0
    assert 2.0 < clock.monotonic() < 2.5


def test_the_job_to_start_from_runs(team: Team, hubspot: Moving) -> None:
    people, firms = fill(hubspot, 4), fill(hubspot, 2, "companies", name="Acme")
    hubspot.store.link("contacts", people[0], "companies", firms[0])
    hubspot.store.add("deals", {"dealname": "One", "dealstage": "won"})
    job = Path(__file__).parents[2].joinpath("orchestra", "jobs", "hubspot.yml").read_text("utf-8")
    team.project.job(job.replace("  type: hubspot\n", '  type: hubspot\n  base_url: "${HUBSPOT_URL}"\n'))
    team.run()
    assert team.project.query("select email from raw_hubspot.contacts order by 1")[0] == ("c0@example.com",)
    assert team.project.query("select from_id, to_id from raw_hubspot.contacts_to_companies") == [
        (str(people[0]), str(firms[0]))
    ]
    assert team.project.query("select value from raw_hubspot.deals_history") == [("won",)]


async def test_doctor_says_what_can_be_read(hubspot: Moving) -> None:
    hubspot.gate.scopes = {"crm.objects.contacts.read", "crm.objects.deals.read"}
    source = HubSpotSource({"access_token": hubspot.token, "base_url": hubspot.url})
    found = await source.diagnose(["hubspot.contacts", "hubspot.deals", "hubspot.orders"], lambda name: True)
    assert found[0][0] == "ok"
    assert [(one[0], re.findall(r"crm\.objects\.\w+\.read", one[1])) for one in found if one[0] == "warn"] == [
        ("warn", ["crm.objects.orders.read"])
    ]
