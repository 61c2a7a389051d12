"""The source sap against the double of SAP Gateway: deltas of ODP, faults, what doctor says."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from connectors.odata import SapSource
from connectors.testing.odp import EntitySet, Gateway, Property, Service
from runner.testing.conformance import conformance
from tests.conftest import Answer, Cli, Project

_START = datetime(2024, 1, 1, tzinfo=UTC)
_DOCUMENT = (
    Property("Id", "Edm.String", {"MaxLength": "10", "sap:label": "Document"}),
    Property("Amount", "Edm.Decimal", {"Precision": "15", "Scale": "2"}),
    Property("LastChangeDateTime", "Edm.DateTimeOffset", {"Precision": "7"}),
)
_ITEM = (
    Property("SalesOrder", "Edm.String"),
    Property("SalesOrderItem", "Edm.String"),
    Property("LastChangeDateTime", "Edm.DateTimeOffset"),
)


def document(number: int, amount: str | None = None, seconds: int | None = None) -> dict[str, Any]:
    changed = _START + timedelta(seconds=number if seconds is None else seconds)
    return {"Id": f"{number:06d}", "Amount": amount or f"{number}.25", "LastChangeDateTime": changed}


class System:
    """A gateway with one set that ODP extracts, one that it does not, and sales orders."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        sets = gateway.services["ZDATA_SRV"].sets
        self.extracted = sets["EntityOfZDOC"]
        self.plain = sets["A_Document"]

    def source(self, **keys: Any) -> dict[str, Any]:
        own = {"user": "EXTRACT", "password": "secret", "sap_client": "100", "language": "EN", "page_size": 40}
        return {"type": "sap", "url": self.gateway.service_url("ZDATA_SRV"), **own, **keys}


@pytest.fixture
def clock() -> list[datetime]:
    return [_START]


@pytest.fixture
def system(clock: list[datetime]) -> Iterator[System]:
    extracted = EntitySet("EntityOfZDOC", _DOCUMENT, ("Id",), tracked=True, page=50, before_images=True)
    plain = EntitySet("A_Document", _DOCUMENT, ("Id",), page=50)
    items = EntitySet("A_SalesOrderItem", _ITEM, ("SalesOrder", "SalesOrderItem"))
    pairs = {"SalesOrder": "SalesOrder"}
    orders = EntitySet(
        "A_SalesOrder",
        (Property("SalesOrder", "Edm.String"), Property("LastChangeDateTime", "Edm.DateTimeOffset")),
        ("SalesOrder",),
        children={"to_Item": ("A_SalesOrderItem", pairs)},
    )
    for one in (extracted, plain):
        one.put(*(document(number) for number in range(1, 201)))
    for number in range(1, 31):
        orders.put({"SalesOrder": str(number), "LastChangeDateTime": _START + timedelta(seconds=number)})
        items.put({"SalesOrder": str(number), "SalesOrderItem": "10", "LastChangeDateTime": _START})
    services = [Service("ZDATA_SRV", [extracted, plain, orders, items]), Service("CLOSED", [], refused_to=["EXTRACT"])]
    with Gateway(services, now=lambda: clock[0]) as gateway:
        yield System(gateway)


def job(source: dict[str, Any], tables: dict[str, Any]) -> str:
    return json.dumps(
        {
            "name": "sap",
            "source": source,
            "destination": {"type": "duckdb", "dataset": "raw", "table": "{table}"},
            "retry": {"attempts": 5, "max_wait": "20ms"},
            "tables": tables,
        }
    )


def backfill(cli: Cli, *arguments: str) -> Answer:
    said = cli("backfill", "job.yml", *arguments)
    assert said.code == 0, said.err + said.out
    return said


_ROWS = "select id, amount, last_change_date_time from raw.{} order by id"


def values(found: EntitySet) -> list[tuple[Any, ...]]:
    rows = sorted(found.rows.values(), key=lambda row: str(row["Id"]))
    return [(row["Id"], Decimal(row["Amount"]), row["LastChangeDateTime"]) for row in rows]


# Deltas of ODP.


def test_the_initial_load_then_deltas_until_nothing_is_missing(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)
    names = [row[0] for row in project.query("describe raw.entity_of_zdoc")]
    assert names == ["id", "amount", "last_change_date_time", "is_deleted"]
    # Several changes of one key, a deletion, one that comes back: what counts is the last.
    system.extracted.put(document(300), document(5, "1.00"), document(5, "2.00"), document(6, "3.00"))
    system.extracted.delete("000006")
    system.extracted.delete("000007")
    system.extracted.put(document(7, "4.00"))
    before = len(system.gateway.seen)
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)
    asked = [one.query for one in system.gateway.seen[before:] if "EntityOfZDOC" in one.path]
    assert sum("deltatoken" in one for one in asked) == 1
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)


def test_a_delta_that_was_not_published_is_read_again(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    backfill(cli)
    system.extracted.put(*(document(number, "7.00") for number in range(1, 101)))
    # The delta is asked for, and its second page never comes.
    system.gateway.fail("status", r"skiptoken", status=500, times=20)
    assert cli("backfill", "job.yml").code == 1
    system.gateway.faults.clear()
    system.extracted.put(document(150, "8.00"))
    backfill(cli, "--failed")
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)


def test_a_token_that_is_gone_is_said_and_a_full_refresh_begins_anew(
    cli: Cli, project: Project, system: System
) -> None:
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    backfill(cli)
    system.extracted.terminate()
    system.extracted.delete("000009")
    said = cli("backfill", "job.yml")
    assert said.code == 1
    assert "--full-refresh" in said.out + said.err
    backfill(cli, "--full-refresh")
    system.extracted.put(document(10, "1.50"))
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)


def test_pages_of_an_initial_load_that_are_gone_begin_it_anew(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    body = {"error": {"code": "/IWBEP/CM_MGW_RT/108", "message": {"lang": "en", "value": "skip token"}}}
    system.gateway.fail("body", r"skiptoken", status=400, after=2, body=body)
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)
    assert system.gateway.count("EntityOfZDOC") > 6


def test_a_service_that_does_not_track_is_not_taken_for_one(cli: Cli, project: Project, system: System) -> None:
    system.extracted.without_tracking = True
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    said = cli("backfill", "job.yml")
    assert said.code == 1
    assert "delta: off" in said.out + said.err
    project.job(job(system.source(delta="off"), {"EntityOfZDOC": {"mode": "full"}}))
    system.gateway.seen.clear()
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)
    assert not any("track" in one.headers.get("prefer", "") for one in system.gateway.seen)


def test_mode_full_does_not_end_somebodys_tracking(cli: Cli, project: Project, system: System) -> None:
    token = system.extracted.subscribe(_START)
    project.job(job(system.source(), {"EntityOfZDOC": {"mode": "full", "deletes": "ignore"}}))
    backfill(cli)
    assert system.extracted.changes(token, _START)[0] == []


def test_an_initial_load_is_not_read_twice_to_verify_it(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"EntityOfZDOC": {}}))
    said = cli("backfill", "job.yml", "--verify", "source")
    assert said.code == 1
    assert "--verify hash" in said.out + said.err
    backfill(cli, "--verify", "hash")
    system.extracted.put(document(3, "9.99"))
    backfill(cli, "--verify", "source")
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)
    assert "equal to the source" in cli("verify", "job.yml").out
    # To look at the source again did not begin anything there.
    system.extracted.put(document(4, "9.99"))
    backfill(cli)
    assert project.query(_ROWS.format("entity_of_zdoc")) == values(system.extracted)


# What SAP wants of each request.


def test_client_language_and_format_are_in_every_request(cli: Cli, project: Project, system: System) -> None:
    system.gateway.host = "inside.example:44300"
    project.job(job(system.source(paging="server"), {"A_Document": {"mode": "full"}, "EntityOfZDOC": {}}))
    backfill(cli)
    assert project.query("select count(*) from raw.a_document") == [(200,)]
    for one in system.gateway.seen:
        assert "sap-client=100" in one.query
        assert "sap-language=EN" in one.query
        assert "+" not in one.query
        assert one.method == "GET"
        if "metadata" not in one.path and "count" not in one.path:
            assert "format=json" in one.query


def test_what_changed_since_is_asked_for_in_the_words_of_version_2(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"A_Document": {"lag": "10s"}}))
    backfill(cli)
    system.plain.put(document(3, "9.99", seconds=500), document(400, seconds=200))
    backfill(cli)
    assert project.query(_ROWS.format("a_document")) == values(system.plain)
    last = [one.query for one in system.gateway.seen if "filter" in one.query][-1]
    assert "datetimeoffset%272024-01-01T00%3A03%3A10Z%27" in last


@pytest.mark.parametrize("paging", ["auto", "server"])
def test_an_object_goes_by_its_own_name_or_the_word_for_it(
    cli: Cli, project: Project, system: System, paging: str
) -> None:
    project.job(job(system.source(children=True, paging=paging), {"SalesOrder": {"lag": "1s"}}))
    backfill(cli)
    rows = project.query("select sales_order, to_item from raw.sales_order order by cast(sales_order as int)")
    assert len(rows) == 30
    assert json.loads(rows[4][1])[0]["SalesOrderItem"] == "10"
    items = system.gateway.services["ZDATA_SRV"].sets["A_SalesOrderItem"]
    late = _START + timedelta(hours=1)
    items.put({"SalesOrder": "5", "SalesOrderItem": "20", "LastChangeDateTime": late})
    backfill(cli)
    rows = project.query("select to_item from raw.sales_order where sales_order = '5'")
    assert [line["SalesOrderItem"] for line in json.loads(rows[0][0])] == ["10", "20"]
    project.job(job(system.source(), {"sap.OrderItem": {"mode": "full"}}))
    backfill(cli)
    assert project.query("select count(*) from raw.order_item") == [(31,)]


def test_shipments_go_by_the_day_of_their_change_and_some_have_none(cli: Cli, project: Project, system: System) -> None:
    dated = {"Precision": "0", "sap:display-format": "Date"}
    properties = (Property("DeliveryDocument"), Property("LastChangeDate", "Edm.DateTime", dated))
    made = EntitySet("A_OutbDeliveryHeader", properties, ("DeliveryDocument",))
    for number in range(1, 21):
        day = datetime(2024, 1, number) if number % 4 else None
        made.put({"DeliveryDocument": f"{number:010d}", "LastChangeDate": day})
    system.gateway.services["ZDATA_SRV"].sets[made.name] = made
    project.job(job(system.source(), {"sap.Shipment": {}}))
    backfill(cli)
    query = "select delivery_document, last_change_date from raw.shipment order by 1"
    wanted = sorted((row["DeliveryDocument"], row["LastChangeDate"]) for row in made.rows.values())
    assert project.query(query) == [(key, day.date() if day else None) for key, day in wanted]
    made.put({"DeliveryDocument": "0000000004", "LastChangeDate": datetime(2024, 2, 1)})
    made.put({"DeliveryDocument": "0000000099", "LastChangeDate": None})
    backfill(cli)
    assert dict(project.query(query))["0000000004"] == datetime(2024, 2, 1).date()
    assert "0000000099" in dict(project.query(query))
    last = [one.query for one in system.gateway.seen if "filter" in one.query and "desc" not in one.query][-1]
    # A day behind the mark, as the pattern says.
    assert "datetime%272024-01-18T00%3A00%3A00%27" in last


@pytest.mark.parametrize("table", ["A_Document", "EntityOfZDOC", "A_SalesOrder"])
def test_it_keeps_the_contract(system: System, table: str) -> None:
    options = {name: value for name, value in system.source(children=True).items() if name != "type"}
    asyncio.run(conformance(lambda: SapSource(options), f"sap.{table}"))


@pytest.mark.parametrize("chunk_rows", [50, 100_000])
def test_a_service_that_neither_sorts_nor_counts_is_read_by_its_links(
    cli: Cli, project: Project, system: System, chunk_rows: int
) -> None:
    refused = {"error": {"code": "/IWBEP/CM_MGW_RT/097", "message": {"lang": "en", "value": "not implemented"}}}
    for path in ("orderby", "count$|count\\?"):
        system.gateway.fail("body", path, status=501, body=refused, times=1000)
    whole = json.loads(job(system.source(), {"A_Document": {"mode": "full"}}))
    project.job(json.dumps({**whole, "limits": {"chunk_rows": chunk_rows}}))
    said = cli("backfill", "job.yml")
    assert said.code == 0, said.err + said.out
    assert "about 200 rows" in said.err
    assert project.query(_ROWS.format("a_document")) == values(system.plain)


# Faults.


@pytest.mark.parametrize("table", ["A_Document", "EntityOfZDOC"])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("status", {"status": 429, "headers": {"Retry-After": "0"}, "times": 3}),
        ("status", {"status": 503, "times": 3}),
        ("reset", {"times": 2}),
        ("cut", {"times": 2}),
        ("truncated_gzip", {"times": 2}),
        ("body", {"body": {"error": {"code": "SY/530", "message": {"lang": "en", "value": "busy"}}}, "times": 2}),
        ("body", {"body": {"d": {}}, "times": 2}),
    ],
)
def test_it_gets_over_a_fault(
    cli: Cli, project: Project, system: System, table: str, kind: Any, more: dict[str, Any]
) -> None:
    project.job(job(system.source(), {table: {"mode": "full", "deletes": "ignore"}}))
    fault = system.gateway.fail(kind, rf"{table}\?", after=1, **more)
    backfill(cli)
    assert fault.times == 0
    name = {"A_Document": "a_document", "EntityOfZDOC": "entity_of_zdoc"}[table]
    assert project.query(_ROWS.format(name)) == values(system.plain)


def test_a_token_that_ends_in_mid_run_is_renewed(
    cli: Cli, project: Project, system: System, clock: list[datetime]
) -> None:
    source = system.source(token_url=f"{system.gateway.url}/sap/bc/sec/oauth2/token", client_id="app")
    source |= {"client_secret": "hush", "user": None, "password": None}
    project.job(job(source, {"A_Document": {"mode": "full"}}))
    asked = itertools.count()

    def now() -> datetime:
        # It ends there before it ends here.
        return _START + timedelta(hours=2) if next(asked) > 6 else _START

    system.gateway.now = now
    backfill(cli)
    assert project.query(_ROWS.format("a_document")) == values(system.plain)
    assert system.gateway.count("oauth2/token") == 2
    assert system.gateway.count(status=401) >= 1


@pytest.mark.parametrize("paging", ["auto", "server"])
def test_pages_that_show_rows_twice_and_in_another_order(
    cli: Cli, project: Project, system: System, paging: str
) -> None:
    """Rows come before those that were read while it is read: links that count show rows twice, keys do not care."""
    project.job(job(system.source(paging=paging), {"A_Document": {"lag": "1h"}}))
    first = dict(system.plain.rows)
    pages = itertools.count()

    class Growing(dict[tuple[Any, ...], dict[str, Any]]):
        def values(self) -> Any:
            number = next(pages)
            if number in (2, 3):
                # Three rows that sort before all others, and so shift what counted pages show.
                for extra in range(3):
                    row = {**document(0, "0.01"), "Id": f"!{number}{extra}"}
                    held = dict(self)
                    self.clear()
                    self[(row["Id"],)] = row
                    self.update(held)
            return super().values()

    system.plain.rows = Growing(first)
    backfill(cli)
    found = {row[0]: row[1] for row in project.query(_ROWS.format("a_document"))}
    assert {key: found.get(key) for (key,) in first} == {key: Decimal(row["Amount"]) for (key,), row in first.items()}
    assert project.query("select count(*) = count(distinct id) from raw.a_document") == [(True,)]


def test_rows_that_go_while_it_is_read_take_no_others_with_them(cli: Cli, project: Project, system: System) -> None:
    project.job(job(system.source(), {"A_Document": {"mode": "full"}}))
    pages = itertools.count()

    class Shrinking(dict[tuple[Any, ...], dict[str, Any]]):
        def values(self) -> Any:
            if next(pages) == 3:
                for number in range(1, 21):
                    self.pop((f"{number:06d}",))
            return super().values()

    system.plain.rows = Shrinking(system.plain.rows)
    backfill(cli)
    kept = {row[0] for row in project.query("select id from raw.a_document")}
    assert {f"{number:06d}" for number in range(21, 201)} <= kept


# What doctor says.


def test_doctor_names_the_authorisation_that_is_missing(cli: Cli, project: Project, system: System) -> None:
    project.job(job({**system.source(), "url": system.gateway.service_url("CLOSED")}, {"*": {}}))
    said = cli("doctor", "job.yml")
    assert "S_SERVICE" in said.out + said.err
    project.job(job({**system.source(), "url": system.gateway.service_url("NOWHERE")}, {"*": {}}))
    assert "/IWFND/MAINT_SERVICE" in cli("doctor", "job.yml").out
    project.job(job(system.source(), {"A_Document": {}}))
    assert re.search(r"1 of 1 entity sets can be read", cli("doctor", "job.yml").out)
    project.job(job(system.source(sap_client="200"), {"A_Document": {}}))
    assert "401" in cli("doctor", "job.yml").out
    assert "secret" not in said.out + said.err
