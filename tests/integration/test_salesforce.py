"""Salesforce into DuckDB, from a double of it: values, changes, deletes, jobs, and all that goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import anyio
import duckdb
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.salesforce import SalesforceSource
from connectors.salesforce.sheets import read_sheet
from connectors.testing.double import answer
from connectors.testing.salesforce import Salesforce, Sundial
from runner.errors import SourceDown
from runner.job import Limits, Retry
from runner.limits import SourceLimits
from runner.requests import Requests
from runner.source import Scan, following
from runner.testing.clock import ManualClock
from runner.testing.conformance import conformance
from tests.conftest import Cli, Project

_START = datetime(2024, 3, 1, 12, tzinfo=UTC)
_JOB = """
name: crm
source:
  type: salesforce
  instance_url: ${SF_URL}
  client_id: 3MVG9.app
  client_secret: s3cret
  batch_size: 200
  OPTIONS
destination: {type: duckdb, dataset: raw, table: "{table}"}
limits: {LIMITS}
retry: {max_wait: 20ms, attempts: 8}
tables:
  TABLES
"""


@pytest.fixture
def clock() -> Sundial:
    return Sundial(_START)


@pytest.fixture
def org(clock: Sundial, project: Project) -> Iterator[Salesforce]:
    with Salesforce(now=clock) as double:
        double.jobs.polls = 0
        project.environ["SF_URL"] = double.url
        yield double


Run = Callable[..., Any]


@pytest.fixture
def run(project: Project, cli: Cli) -> Run:
    """Run a job over some objects and return its answer."""

    def once(
        *objects: str, options: str = "", limits: str = "connections: 4", expect: int = 0, command: str = "backfill"
    ) -> Any:
        tables = "\n  ".join(one if ":" in one else f"{one}:" for one in objects)
        text = _JOB.replace("OPTIONS", options.replace("\n", "\n  ")).replace("LIMITS", limits)
        project.job(text.replace("TABLES", tables))
        answered = cli(command, "job.yml")
        assert answered.code == expect, answered.out + answered.err
        return answered

    return once  # fmt: skip


def _fill(double: Salesforce, count: int, *, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [
        double.org.insert(
            "Account",
            Name=chance.choice(["Acme", 'the "best",', "two\nlines", "ÄÖÜ €", "x" * 200]) + f" {number}",
            AnnualRevenue=chance.choice([None, Decimal(number), Decimal(12_345_678_901)]),
            Rating__c=chance.choice([None, Decimal("12.5"), Decimal("0.25")]),
            NumberOfEmployees=chance.choice([None, number]),
            Description=chance.choice([None, "long " * 50, "'quoted' \\ text"]),
            BillingLatitude=chance.choice([None, 0.00012, 52.520008]),
            Tags__c=chance.choice([None, "a;b"]),
            at=_START - timedelta(hours=1) + timedelta(seconds=number),
        )
        for number in range(count)
    ]


def _accounts(double: Salesforce, *, deleted: bool = False) -> list[tuple[Any, ...]]:
    kind = double.org.objects["account"]
    names = (
        "Id",
        "Name",
        "AnnualRevenue",
        "Rating__c",
        "NumberOfEmployees",
        "Description",
        "Tags__c",
        "SystemModstamp",
        "OwnerId",
    )
    return [tuple(row[name] for name in names) for row in double.org.rows(kind, deleted=deleted)]  # fmt: skip


def _arrived(project: Project, where: str = "true") -> list[tuple[Any, ...]]:
    rows = project.query(
        "select id, name, annual_revenue, rating_c, number_of_employees, description, tags_c, system_modstamp, owner_id "
        f"from raw.account where {where} order by id"
    )
    return [(*row[:7], row[7].astimezone(UTC), row[8]) for row in rows]


def _queries(double: Salesforce, start: int = 0) -> list[str]:
    seen = double.seen[start:]
    return [parse_qs(one.query)["q"][0] for one in seen if "q=" in one.query] + [
        json.loads(one.body)["query"] for one in seen if one.method == "POST" and one.path.endswith("/jobs/query")
    ]


@pytest.mark.parametrize("options", ["bulk: never", "bulk: always", "bulk: always\nbulk_rows: 100"])
def test_every_value_arrives(org: Salesforce, project: Project, run: Run, options: str) -> None:
    _fill(org, 550)
    run("Account", options=options)
    assert _arrived(project) == _accounts(org)
    assert not org.jobs.all, "a job was left behind"
    assert bool(org.count("/jobs/query/[^/]*/results")) == ("always" in options)


@pytest.mark.parametrize("bulk", ["never", "always"])
def test_types_of_all_kinds(org: Salesforce, project: Project, run: Run, bulk: str) -> None:
    order = org.org.insert(
        "Order",
        OrderNumber="1",
        EffectiveDate=date(2024, 2, 29),
        Status="Draft",
        TotalAmount=Decimal("1234567890123456.78"),
    )
    org.org.insert(
        "Shipment__c",
        Name="S",
        Order__c=order,
        PickupAt__c=datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
        Window__c=time(9, 30),
        Pieces__c=Decimal(12_000_000),
        Weight__c=Decimal("12000000.125"),
        Delivered__c=True,
    )
    org.org.insert("Shipment__c", Name="empty")
    org.org.insert("Opportunity", Name="O", StageName="x", CloseDate=date(1999, 12, 31), ExpectedRevenue=0.1 + 0.2)
    task = org.org.insert("Task", WhatId=order, Subject="Call")
    run("Order", "Shipment__c", "Opportunity", "Task", options=f"bulk: {bulk}")
    assert project.query(
        "select order_c, pickup_at_c at time zone 'UTC', window_c, pieces_c, weight_c, delivered_c from raw.shipment__c order by name desc"
    ) == [
        (None, None, None, None, None, False),
        (order, datetime(2024, 2, 29, 23, 59, 59), time(9, 30), Decimal(12_000_000), Decimal("12000000.125"), True),
    ]
    assert project.query("select close_date, expected_revenue from raw.opportunity") == [
        (date(1999, 12, 31), 0.1 + 0.2)
    ]
    assert project.query("select id, what_id, who_id from raw.task") == [(task, order, None)]
    types = dict(
        project.query(
            "select column_name, data_type from information_schema.columns where table_name in ('shipment__c', 'opportunity')"
        )
    )
    assert {types[one] for one in ("weight_c", "amount")} == {"DECIMAL(12,3)", "DECIMAL(18,2)"}
    assert (types["expected_revenue"], types["window_c"], types["pickup_at_c"]) == (
        "DOUBLE",
        "TIME",
        "TIMESTAMP WITH TIME ZONE",
    )


def test_a_double_loses_no_digit_that_the_api_sends(org: Salesforce, project: Project, run: Run) -> None:
    org.org.insert(
        "Order", OrderNumber="1", EffectiveDate=date(2024, 2, 29), Status="Draft", TotalAmount=Decimal("12.345")
    )
    refused = run("Order", expect=1)
    assert "TotalAmount is currency(18,2), and 12.345 is not" in refused.out + refused.err
    run("Order", options="numbers: double")
    assert project.query('select total_amount from raw."order"') == [(12.345,)]


def test_what_changes_is_read_and_nothing_else(org: Salesforce, project: Project, run: Run, clock: Sundial) -> None:
    ids = _fill(org, 300)
    run("Account")
    clock.move(hours=2)
    org.sessions.expire()
    org.org.update(ids[7], Name="changed", AnnualRevenue=None)
    org.org.delete(ids[8])
    new = org.org.insert("Account", Name="new")
    start = len(org.seen)
    run("Account")
    assert _arrived(project, "not is_deleted") == _accounts(org)
    assert {one[0] for one in project.query("select id from raw.account where is_deleted")} == {ids[8]}
    assert new in {row[0] for row in _arrived(project)}
    asked = [one for one in _queries(org, start) if "ORDER BY Id" in one]
    # The mark is that of the newest record, ten minutes less.
    assert asked, "nothing was asked"
    assert all("WHERE SystemModstamp >= 2024-03-01T10:54:59.000Z" in one for one in asked), asked
    run("Account")
    assert _arrived(project, "not is_deleted") == _accounts(org)


def test_deleted_for_good_with_on_delete_hard(org: Salesforce, project: Project, run: Run, clock: Sundial) -> None:
    ids = _fill(org, 30)
    run("Account: {on_delete: hard}")
    clock.move(hours=1)
    org.org.delete(ids[0])
    org.org.purge(org.org.insert("Account", Name="gone at once"))
    run("Account: {on_delete: hard}")
    assert _arrived(project) == _accounts(org)
    assert len(_arrived(project)) == 29


@pytest.mark.parametrize(
    "entry",
    ["{mode: append, cursor: CreatedDate}", "{mode: snapshot}", "{mode: full}", "{mode: full, on_delete: hard}"],
)
def test_what_is_known_of_an_object_gives_way_to_other_modes(
    org: Salesforce, project: Project, run: Run, entry: str
) -> None:
    ids = _fill(org, 20)
    org.org.delete(ids[4])
    run(f"Account: {entry}")
    hard = "hard" in entry
    assert {row[0] for row in _arrived(project)} == {one for one in ids if not hard or one != ids[4]}


def test_without_the_field_that_marks_them_the_recycle_bin_is_not_read(
    org: Salesforce, project: Project, run: Run
) -> None:
    ids = _fill(org, 20)
    org.org.delete(ids[4])
    run("Account: {columns: {IsDeleted: drop}}")
    assert _arrived(project) == _accounts(org)
    assert not org.count("/queryAll")


def test_destinations_that_cannot_delete_are_not_asked_to(org: Salesforce, project: Project, cli: Cli) -> None:
    _fill(org, 20)
    text = _JOB.replace("OPTIONS", "bulk: auto").replace("LIMITS", "connections: 2").replace("TABLES", "Account:")
    project.job(
        text.replace('{type: duckdb, dataset: raw, table: "{table}"}', "{type: filesystem, url: out, dataset: raw}")
    )
    answered = cli("backfill", "job.yml")
    assert answered.code == 0, answered.out + answered.err
    asked = cli(
        "backfill",
        str(project.job(project.folder.joinpath("job.yml").read_text() + "    deletes: {column: IsDeleted}\n")),
    )
    assert asked.code != 0
    assert "cannot delete rows" in asked.out + asked.err


def test_what_was_purged_is_found_by_comparing(org: Salesforce, project: Project, run: Run, clock: Sundial) -> None:
    ids = _fill(org, 30)
    run("Account: {deletes: compare, on_delete: hard}")
    clock.move(hours=1)
    org.org.purge(ids[9])
    org.org.update(ids[3], Name="changed")
    run("Account: {deletes: compare, on_delete: hard}")
    assert _arrived(project) == _accounts(org)
    assert len(_arrived(project)) == 29


def test_a_line_that_changes_brings_its_header_again(
    org: Salesforce, project: Project, run: Run, cli: Cli, clock: Sundial
) -> None:
    orders = [
        org.org.insert(
            "Order",
            OrderNumber=str(n),
            EffectiveDate=_START.date(),
            Status="Draft",
            TotalAmount=Decimal(n),
            at=_START - timedelta(days=9),
        )
        for n in range(3)
    ]
    lines = [
        org.org.insert(
            "OrderItem", OrderId=one, OrderItemNumber="1", Quantity=1, UnitPrice=1, at=_START - timedelta(days=9)
        )
        for one in orders
    ]
    run("Order", "OrderItem")
    clock.move(hours=1)
    org.org.update(lines[1], Quantity=5)
    # What a roll-up shows changed without the header's own time.
    org.org.records["Order"][orders[1]]["TotalAmount"] = Decimal(99)
    run("Order", "OrderItem")
    amounts = 'select total_amount from raw."order" order by id'
    assert project.query(amounts) == [(Decimal(0),), (Decimal(99),), (Decimal(2),)]
    # Of a range of the cursor it is no part: what is replaced is the range alone.
    start = len(org.seen)
    assert cli("backfill", "job.yml", "--since", "2024-03-01", "--until", "2024-03-02").code == 0
    assert not [one for one in _queries(org, start) if "IN (SELECT" in one]
    assert project.query(amounts) == [(Decimal(0),), (Decimal(99),), (Decimal(2),)]


def test_large_objects_are_split_by_ids_and_read_by_jobs(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 1300)
    run("Account", options="bulk_from: 1000\nbulk_rows: 150", limits="connections: 4, chunk_rows: 300")
    assert _arrived(project) == _accounts(org)
    made = [json.loads(one.body)["query"] for one in org.seen if one.method == "POST" and "jobs" in one.path]
    assert len(made) == 5
    assert all("ORDER BY" not in one for one in made)
    assert sum("Id > " in one for one in made) == 4
    assert not org.jobs.all


def test_small_changes_of_a_large_object_need_no_job(
    org: Salesforce, project: Project, run: Run, clock: Sundial
) -> None:
    ids = _fill(org, 1200)
    run("Account", options="bulk_from: 1000")
    assert org.count("results")
    before = org.count("results")
    clock.move(hours=1)
    org.org.update(ids[3], Name="changed")
    run("Account", options="bulk_from: 1000")
    assert org.count("results") == before
    assert _arrived(project) == _accounts(org)


def test_an_object_that_jobs_do_not_read_is_queried(org: Salesforce, project: Project, run: Run) -> None:
    account = org.org.insert("Account", Name="a")
    made = org.org.insert("Attachment", ParentId=account, Name="n", Body=b"\x00\xffbytes")
    run("Attachment", options="bulk_from: 1")
    assert project.query("select id, parent_id from raw.attachment") == [(made, account)]
    assert not org.count("results")
    refused = run("Attachment", options="bulk: always", expect=1)
    assert "not supported by the Bulk API" in refused.out + refused.err
    run("Attachment: {as: with_body}", options="binary: [Attachment.Body]")
    assert project.query("select body from raw.with_body") == [(b"\x00\xffbytes",)]


async def test_what_base64_fields_lead_to_is_held_for_a_few_records_at_once() -> None:
    with Salesforce(now=Sundial(_START)) as org:
        for number in range(21):
            org.org.insert("Attachment", Name=str(number), Body=bytes([number]) * 1000)
        options = {"instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret"}
        source = SalesforceSource({**options, "binary": ["Attachment.Body"]})
        async with source.session(0) as session:
            (table,) = await session.discover(["Attachment"])
            scan = Scan(table, table.columns)
            (chunk,) = await session.chunks(scan, 10_000, 1 << 40)
            pages = [page async for page in session.pages(scan, chunk)]
            assert [len(page.rows) for page in pages] == [8, 8, 5]
            assert [row["Body"][0] for page in pages for row in page.rows] == list(range(21))
            ids, _ = await _walk(session, scan, following(scan, chunk, 1, pages[0].rest or {}))
            assert ids == sorted(org.org.records["Attachment"])[8:]
            assert pages[-1].rest is None


def test_a_query_too_long_for_an_address_becomes_a_job(org: Salesforce, project: Project, run: Run) -> None:
    ids = _fill(org, 5)
    names = ", ".join(f"'{'n' * 200} {number}'" for number in range(80))
    where = f"Name IN ({names}) OR Id = '{ids[2]}'"
    run(f'Account: {{where: "{where}", mode: full}}')
    assert [row[0] for row in _arrived(project)] == [ids[2]]
    assert org.count("results") == 1
    refused = run(f'Account: {{where: "{where}", mode: full}}', options="bulk: never", expect=1)
    assert "too long for an address" in refused.out + refused.err


def test_fields_without_permission_are_absent_and_doctor_says_so(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 3)
    org.org.hide("Account", "AnnualRevenue", "OwnerId")
    org.org.hide("Contact")
    said = run("Account", command="doctor").out
    assert "salesforce.Account: OwnerId, AnnualRevenue cannot be seen" in " ".join(said.split())
    assert "BillingAddress (address: its parts are read)" in " ".join(said.split())
    run("Account")
    columns = {
        one[0]
        for one in project.query("select column_name from information_schema.columns where table_name = 'account'")
    }
    assert {"billing_city", "id"} <= columns
    assert not {"annual_revenue", "owner_id", "billing_address", "site__c"} & columns
    missing = run("Account", "Contact", expect=1)
    assert "Contact is not at the source" in missing.out + missing.err


def test_a_field_that_goes_in_the_middle_is_said_in_words(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 3)
    org.fail(
        "body",
        "q=SELECT%20Id%2C",
        status=400,
        times=9,
        body=[
            {
                "errorCode": "INVALID_FIELD",
                "message": "\nSELECT Id\n^\nERROR at Row:1:Column:1\nNo such column 'Phone' on entity 'Account'.",
            }
        ],
    )
    refused = run("Account", expect=1)
    assert "No such column 'Phone'" in refused.out + refused.err
    org.faults.clear()
    wrong = run('Account: {where: "Nope = 1"}', expect=1)
    assert "No such column 'Nope'" in wrong.out + wrong.err


def test_patterns_name_what_is_read(org: Salesforce, project: Project, run: Run) -> None:
    org.org.insert("Account", Name="a")
    run("salesforce.Acc*", "Order*")
    assert {one[0] for one in project.query("select table_name from information_schema.tables where table_schema = 'raw' and table_name not like '\\_%' escape '\\'")} == {
        "account", "order", "order_item",
    }  # fmt: skip
    assert org.count("describe") == org.count("(Account|Order|OrderItem)/describe")


# What goes wrong on the way; each leaves all rows there, once.

_FAULTS: list[tuple[str, str, Callable[[Salesforce], object]]] = [
    ("a storm of 429", "never", lambda org: org.fail("status", "/query", status=429, times=5, after=1, headers={"Retry-After": "0"})),
    ("the server is busy", "never", lambda org: org.fail("status", "/query", status=503, times=3, body=[{"errorCode": "SERVER_UNAVAILABLE", "message": "busy"}])),
    ("too many calls at once", "never", lambda org: org.fail("status", "/queryAll", status=403, times=3, body=[{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "ConcurrentRequests (Concurrent API Requests) Limit exceeded."}])),
    ("a reset before the answer", "never", lambda org: org.fail("reset", "/queryAll", times=2, after=1)),
    ("a reset in mid-body", "never", lambda org: org.fail("cut", "/queryAll", times=2, after=2)),
    ("a truncated gzip", "never", lambda org: org.fail("truncated_gzip", "/queryAll", times=2, after=2)),
    ("an error in a 200", "never", lambda org: org.fail("body", "/queryAll/", times=2, body=[{"errorCode": "UNKNOWN_EXCEPTION", "message": "An unexpected error occurred."}])),
    ("a page of HTML in a 200", "never", lambda org: org.fail("body", "/queryAll/", times=2, body="<html>maintenance</html>")),
    ("no records in a 200", "never", lambda org: org.fail("body", "/queryAll/", times=2, body={"done": False})),
    ("cursors that are closed", "never", lambda org: org.fail("body", "/queryAll/", status=400, times=3, body=[{"errorCode": "INVALID_QUERY_LOCATOR", "message": "invalid query locator"}])),
    ("a reset in mid-results", "always", lambda org: org.fail("cut", "/results", times=2, after=1)),
    ("truncated results", "always", lambda org: org.fail("truncated_gzip", "/results", times=2, after=1)),
    ("results cut at a record", "always", lambda org: org.fail("body", "/results", times=1, after=1, headers={"Sforce-Locator": "null", "Sforce-NumberOfRecords": "100"}, body='"Id"\n"0015g0000000001AAA"\n')),
    ("a job is not made at once", "always", lambda org: org.fail("reset", "/jobs/query$", method="POST", times=2)),
    ("a job fails", "always", lambda org: org.jobs.fails.append("InternalServerError : Retried more than fifteen times")),
]  # fmt: skip


@pytest.mark.parametrize(("bulk", "fault"), [one[1:] for one in _FAULTS], ids=[one[0] for one in _FAULTS])
def test_survives(
    org: Salesforce, project: Project, run: Run, bulk: str, fault: Callable[[Salesforce], object]
) -> None:
    _fill(org, 850)
    fault(org)
    said = run("Account", options=f"bulk: {bulk}\nbulk_rows: 200")
    assert _arrived(project) == _accounts(org)
    assert "planned anew" not in said.out + said.err


@pytest.mark.parametrize("bulk", ["never", "always"])
def test_a_session_that_expires_in_mid_run_is_renewed_once(
    org: Salesforce, project: Project, run: Run, bulk: str
) -> None:
    _fill(org, 850)
    place = "/queryAll/" if bulk == "never" else "/results"
    expired = [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}]
    org.fail("status", place, status=401, body=expired, after=1)
    run("Account", options=f"bulk: {bulk}\nbulk_rows: 200")
    assert _arrived(project) == _accounts(org)
    assert org.count("oauth2/token") == 2


class Shifting(Salesforce):
    """Records change and move while their pages are read."""

    still = False

    def _batch(self, name: str, start: int, version: str) -> Any:
        page = super()._batch(name, start, version)
        if start and not self.still:
            ids = sorted(self.org.records["Account"])
            self.org.update(ids[start // 2], Name="changed while it was read")
            self.org.insert("Account", Name="came while it was read")
            self.org.delete(ids[start // 3 + 60])
        return page


def test_pages_that_change_while_they_are_read(project: Project, run: Run, clock: Sundial) -> None:
    with Shifting(now=clock) as org:
        project.environ["SF_URL"] = org.url
        _fill(org, 850)
        run("Account")
        org.still = True
        run("Account")
        assert _arrived(project, "not is_deleted") == _accounts(org)
        assert len({row[0] for row in _arrived(project)}) == len(_arrived(project))


class Doubling(Salesforce):
    """A page begins before the last one ended."""

    def _batch(self, name: str, start: int, version: str) -> Any:
        return super()._batch(name, 350 if start == 400 else start, version)


def test_rows_that_come_twice_arrive_once(project: Project, run: Run, clock: Sundial) -> None:
    with Doubling(now=clock) as org:
        project.environ["SF_URL"] = org.url
        _fill(org, 850)
        run("Account")
        assert _arrived(project) == _accounts(org)


class Shuffling(Salesforce):
    """A page has its records in another order than was asked for."""

    def _batch(self, name: str, start: int, version: str) -> Any:
        page = super()._batch(name, start, version)
        body = json.loads(page.body)  # type: ignore[arg-type]
        body["records"].reverse()
        return answer(body)


def test_pages_in_another_order_lose_nothing(project: Project, run: Run, clock: Sundial) -> None:
    with Shuffling(now=clock) as org:
        project.environ["SF_URL"] = org.url
        _fill(org, 850)
        gone = [{"errorCode": "INVALID_QUERY_LOCATOR", "message": "invalid query locator"}]
        org.fail("body", "/queryAll/", status=400, times=2, after=1, body=gone)
        run("Account")
        assert _arrived(project) == _accounts(org)


def test_one_object_that_cannot_be_described_is_a_line_in_the_report(
    org: Salesforce, project: Project, run: Run
) -> None:
    _fill(org, 3)
    denied = [{"errorCode": "INSUFFICIENT_ACCESS", "message": "insufficient access rights on cross-reference id"}]
    org.fail("body", "Contact/describe", status=403, body=denied)
    said = run("Account", "Contact", expect=1)
    assert "This user may not read salesforce.Contact" in said.out + said.err
    assert _arrived(project) == _accounts(org)


def test_what_arrived_can_be_verified_later(org: Salesforce, project: Project, run: Run, cli: Cli) -> None:
    ids = _fill(org, 40)
    org.org.delete(ids[3], at=_START - timedelta(days=2))
    run("Account")
    assert cli("verify", "job.yml").code == 0
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("update raw.account set name = 'damaged' where id = ?", [ids[7]])
    damaged = cli("verify", "job.yml", "--show-values")
    assert damaged.code == 1
    assert ids[7] in damaged.out


def test_a_job_that_is_gone_begins_the_table_anew(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 450)
    gone = [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
    org.fail("body", "/results", status=404, body=gone, after=1)
    said = run("Account", options="bulk: always\nbulk_rows: 200")
    assert _arrived(project) == _accounts(org)
    assert org.count("/jobs/query", method="POST") == 2
    assert "planned anew" in said.out + said.err


def test_calls_that_are_spent_park_the_table(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 850)
    org.most_calls = 7
    parked = run("Account", expect=3)
    assert "TotalRequests" in parked.out + parked.err or "Parked" in parked.out + parked.err
    org.most_calls = 100_000


def test_the_quota_of_the_job_leaves_calls_to_others(org: Salesforce, project: Project, run: Run) -> None:
    _fill(org, 850)
    org.most_calls = 40
    parked = run("Account", limits="connections: 2, quota: 10%", expect=3)
    assert "quota" in parked.out + parked.err
    assert org.calls < 12


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("client_secret: s3cret", 0),
        ("client_secret: wrong", 2),
        ("client_secret: s3cret\nrefresh_token: 5Aep861.refresh", 0),
        ("client_secret: s3cret\nrefresh_token: old", 2),
        ('username: runner@example.com\nprivate_key: "${SF_KEY}"\naudience: https://login.salesforce.com', 0),
        ('username: stranger@example.com\nprivate_key: "${SF_KEY}"\naudience: https://login.salesforce.com', 2),
        ("username: runner@example.com\nprivate_key: nonsense", 2),
        ("domain: acme.my", 2),
        ("api_version: 62", 2),
        ("batch_size: 100", 2),
    ],
)  # fmt: skip
def test_signs_in(org: Salesforce, project: Project, cli: Cli, options: str, status: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    coding = serialization.Encoding.PEM
    private = key.private_bytes(coding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    public = key.public_key().public_bytes(coding, serialization.PublicFormat.SubjectPublicKeyInfo)
    org.sessions.app.certificate = public.decode()
    # As many systems keep it: in one line.
    project.environ["SF_KEY"] = private.replace("\n", "\\n")
    text = _JOB.replace("  client_secret: s3cret\n", "").replace("OPTIONS", options.replace("\n", "\n  "))
    if "domain" in options or "api_version" in options or "batch" in options:
        text = text.replace("  batch_size: 200\n", "  client_secret: s3cret\n")
    project.job(text.replace("LIMITS", "connections: 2").replace("TABLES", "Account:"))
    answered = cli("backfill", "job.yml")
    assert answered.code == status, answered.out + answered.err
    for secret in ("s3cret", "BEGIN PRIVATE", "5Aep861"):
        assert secret not in answered.out + answered.err


def test_the_api_is_where_the_login_server_says(org: Salesforce, project: Project, run: Run) -> None:
    with Salesforce(now=org.now) as instance:
        instance.sessions = org.sessions
        org.elsewhere = instance.url
        _fill(instance, 250)
        run("Account")
        assert _arrived(project) == _accounts(instance)
        assert {one.path for one in org.seen} == {"/services/oauth2/token"}
        assert not instance.count("oauth2")


def test_a_session_without_the_scope_of_the_api_is_refused(org: Salesforce, project: Project, run: Run) -> None:
    org.sessions.app.scope = "id"
    refused = run("Account", expect=2)
    assert "scope `api`" in " ".join((refused.out + refused.err).split())


@pytest.mark.parametrize("bulk", ["never", "always"])
@pytest.mark.parametrize("name", ["Account", "Shipment"])
async def test_keeps_what_every_source_keeps(bulk: str, name: str) -> None:
    with Salesforce(now=Sundial(_START)) as org:
        org.jobs.polls = 0
        org.jobs.page = 100
        _fill(org, 230)
        for number in range(230):
            org.org.insert("Shipment__c", Name=f"S{number}", at=_START - timedelta(seconds=number % 7))
        options = {"instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret", "batch_size": 200}
        found = await conformance(lambda: SalesforceSource({**options, "bulk": bulk}), f"salesforce.{name}", small=60)
        assert found.rows == 230
        assert found.chunks > 3
        assert found.mark is not None


@pytest.mark.parametrize("bulk", ["never", "always"])
async def test_wherever_a_page_ends_reading_goes_on_behind_it(bulk: str) -> None:
    with Salesforce(now=Sundial(_START)) as org:
        org.jobs.polls = 0
        for number in range(480):
            # So wide that a set of a job's results comes in several pieces.
            org.org.insert("Account", Name=f"A{number}", Description=f'"{number}",\n' * 700)
        source = SalesforceSource(
            {
                "instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret",
                "bulk": bulk, "bulk_rows": 300, "batch_size": 200,
            }
        )  # fmt: skip
        async with source.session(0) as session:
            (table,) = await session.discover(["Account"])
            scan = Scan(table, table.columns)
            (chunk,) = await session.chunks(scan, 10_000, 1 << 40)
            seen, rests = await _walk(session, scan, chunk)
            assert seen == sorted(org.org.records["Account"])
            assert len(rests) > (1 if bulk == "never" else 2)
            for count, rest in rests:
                again, _ = await _walk(session, scan, following(scan, chunk, 1, json.loads(json.dumps(rest))))
                assert again == seen[count:]


async def _walk(session: Any, scan: Scan, chunk: Any) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Read pages and return ids, and after how many of them each page says to go on where."""
    ids: list[str] = []
    rests = []
    async for page in session.pages(scan, chunk):
        ids += page.batch.column("Id").to_pylist() if page.batch is not None else [row["Id"] for row in page.rows]
        if page.rest is not None:
            rests.append((len(ids), page.rest))
    return ids, rests


async def test_whoever_stops_waiting_for_a_job_leaves_none_behind() -> None:
    clock = ManualClock()
    with Salesforce() as org:
        org.org.insert("Account", Name="a")
        org.jobs.polls = 1000
        source = SalesforceSource(
            {"instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret", "bulk": "always"}
        )
        source.govern(Requests(SourceLimits.of(Limits(), clock), clock, retry=Retry()))
        async with source.session(0) as session:
            (table,) = await session.discover(["Account"])
            scan = Scan(table, table.columns)
            (chunk,) = await session.chunks(scan, 10_000, 1 << 40)
            async with anyio.create_task_group() as group:
                group.start_soon(_walk, session, scan, chunk)
                with anyio.fail_after(20):
                    while not clock.sleepers:
                        await anyio.wait_all_tasks_blocked()
                        await asyncio.sleep(0)
                group.cancel_scope.cancel()
        assert org.count("/jobs/query", method="POST") == 1
        assert not org.jobs.all


async def test_a_job_is_asked_for_less_and_less_often() -> None:
    clock = ManualClock(auto=True)
    with Salesforce() as org:
        org.org.insert("Account", Name="a")
        org.jobs.polls = 12
        source = SalesforceSource(
            {"instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret", "bulk": "always"}
        )
        source.govern(Requests(SourceLimits.of(Limits(), clock), clock, retry=Retry()))
        async with source.session(0) as session:
            job = await session.jobs.create("SELECT Id FROM Account", "query")
            await session.jobs.finish(job)
        waits = clock.slept
        assert waits[:3] == [1.0, 1.5, 2.25]
        assert waits == sorted(waits)
        assert max(waits) == 30.0
        assert org.count(f"/jobs/query/{job}") == 13


@pytest.mark.parametrize("seed", range(5))
async def test_sheets_are_cut_between_records_wherever_their_bytes_are(seed: int) -> None:
    chance = random.Random(seed)
    values = ["", 'a "b" c', "one\ntwo", ",", '"', "\r\n", "plain", "ä€😀", '""', "\n"]
    rows = [(str(number), chance.choice(values), chance.choice(values)) for number in range(200)]
    lines = ['"Id","a","b"', *(",".join('"' + one.replace('"', '""') + '"' for one in row) for row in rows)]
    body = ("\n".join(lines) + "\n").encode()

    async def parts(data: bytes) -> Any:
        place = 0
        while place < len(data):
            size = chance.randrange(1, 60)
            yield data[place : place + size]
            place += size

    found = [row async for batch in read_sheet(parts(body), block=100) for row in batch.to_pylist()]
    assert [(one["Id"], one["a"] or "", one["b"] or "") for one in found] == rows
    assert len([one async for one in read_sheet(parts(body), block=100)]) > 20
    with pytest.raises(SourceDown):
        _ = [one async for one in read_sheet(parts(body[: body.rindex(b'"')]), block=100)]
