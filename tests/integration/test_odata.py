"""The sources odata and sap: against SAP's own server in both versions, and against the double of SAP Gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from connectors.odata import ODataSource
from connectors.testing.double import Double, answer
from connectors.testing.odp import Tracking
from runner.source import Scan
from runner.testing.conformance import conformance
from tests.conftest import Answer, Cli, Project
from tests.servers.sap import Cap, cap_process, cap_server

__all__ = ["cap_process", "cap_server"]


def job(source: dict[str, Any], tables: str, **more: Any) -> str:
    return json.dumps(
        {
            "name": "cap",
            "source": source,
            "destination": {"type": "duckdb", "dataset": "raw", "table": "{table}"},
            "retry": {"attempts": 4, "max_wait": "50ms"},
            "tables": json.loads(tables),
            **more,
        }
    )


def of_cap(cap: Cap, version: int, **keys: Any) -> dict[str, Any]:
    return {
        "type": "odata",
        "url": cap.v4 if version == 4 else cap.v2,
        "user": cap.user,
        "password": cap.password,
        **keys,
    }


def options(cap: Cap, version: int) -> dict[str, Any]:
    return {name: value for name, value in of_cap(cap, version).items() if name != "type"}


def backfill(cli: Cli, *arguments: str) -> Answer:
    said = cli("backfill", "job.yml", *arguments)
    assert said.code == 0, said.err + said.out
    return said


def moment(seconds: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("version", [2, 4])
def test_every_type_arrives_as_it_is(cli: Cli, project: Project, cap_server: Cap, version: int) -> None:
    project.job(job(of_cap(cap_server, version), '{"Zoo": {"mode": "full"}}'))
    backfill(cli)
    rows = project.query("select * from raw.zoo order by id")
    names = [row[0] for row in project.query("describe raw.zoo")]
    found = [dict(zip(names, row, strict=True)) for row in rows]
    assert "picture" not in names
    first = found[0]
    assert (first["flag"], first["byte"], first["short"], first["int"]) == (True, 255, -32768, 2147483647)
    assert first["long"] == 9223372036854775807
    assert first["exact"] == Decimal("1234.0123456789")
    assert first["money"] == Decimal("0.10")
    assert (first["whole"], first["floating"]) == ("123456789012345", "1.5")
    assert first["float"] == 0.1
    assert (first["day"], first["clock"]) == (date(2024, 2, 29), time(23, 59, 59))
    assert first["moment"] == datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert first["stamp"] == datetime(2024, 2, 29, 23, 59, 59, 123000, tzinfo=UTC)
    assert first["guid"] == "00000000-0000-4000-8000-000000000001"
    assert first["word"] == "it's + 50 % & 'more'"
    assert first["story"] == 'a\0b \U0001f600 \u00e9 e\u0301 \u2028 \\ " \t\r\n end'
    assert first["bytes"] == bytes.fromhex("00ff10fbff")
    assert (found[1]["word"], found[1]["story"], found[1]["bytes"]) == ("", "", b"")
    assert (found[1]["day"], found[3]["day"]) == (date(1, 1, 1), date(9999, 12, 31))
    assert [value for name, value in found[2].items() if name not in ("id", "word")] == [None] * (len(names) - 2)
    assert found[3]["stamp"] == datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    assert (found[3]["float"], len(found[3]["story"]), found[3]["exact"]) == (5e-324, 100_000, Decimal("-1E-10"))


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("paging", ["auto", "server", "skip"])
def test_all_pages_of_a_long_table(cli: Cli, project: Project, cap_server: Cap, version: int, paging: str) -> None:
    source = of_cap(cap_server, version, paging=paging, page_size=70)
    project.job(job(source, '{"Movements": {"mode": "full"}, "Parts": {}}'))
    backfill(cli)
    rows = project.query("select id, text, amount, booked, modified_at from raw.movements order by id")
    assert len(rows) == 1234
    assert rows[0] == (1, "Movement 1", Decimal("0.125"), date(2024, 1, 1), moment(0))
    assert rows[-1] == (1234, "Movement 1234", Decimal("154.250"), date(2024, 2, 21), moment(411))
    # A key of two texts: of every case, and with characters that mean something in an address.
    assert project.query("select plant, count(distinct material), sum(stock) from raw.parts group by 1 order by 1") == [
        (plant, 60, 1830) for plant in ("1000", "20+0", "a/b", "z z")
    ]


@pytest.mark.parametrize("version", [2, 4])
def test_what_changed_since_the_last_run(cli: Cli, project: Project, cap_server: Cap, version: int) -> None:
    source = of_cap(cap_server, version)
    project.job(job(source, '{"Movements": {"lag": "1s"}}'))
    backfill(cli)
    assert project.query("select count(*) from raw.movements") == [(1234,)]
    cap_server.seen()
    assert cap_server.send("PATCH", "shop/Movements(7)", {"text": "changed"})[0] == 200
    assert cap_server.send("POST", "shop/Movements", {"ID": 5000, "text": "new", "amount": "1.5"})[0] == 201
    backfill(cli)
    rows = project.query("select id, text, amount from raw.movements where id in (7, 8, 5000) order by id")
    assert rows == [
        (7, "changed", Decimal("0.875")),
        (8, "Movement 8", Decimal("1.000")),
        (5000, "new", Decimal("1.500")),
    ]
    asked = [line for line in cap_server.seen() if "modifiedAt" in line and "filter" in line and "desc" not in line]
    assert asked
    assert all("+" not in line for line in asked)


@pytest.mark.parametrize("version", [2, 4])
def test_what_is_gone_is_found_by_its_key(cli: Cli, project: Project, cap_server: Cap, version: int) -> None:
    project.job(job(of_cap(cap_server, version), '{"Customers": {"deletes": "compare", "on_delete": "hard"}}'))
    backfill(cli)
    assert cap_server.send("DELETE", "shop/Customers(3)")[0] == 204
    backfill(cli)
    assert project.query("select count(*), count(*) filter (id = 3) from raw.customers") == [(24, 0)]


@pytest.mark.parametrize("version", [2, 4])
def test_a_changed_line_reads_its_header_again(cli: Cli, project: Project, cap_server: Cap, version: int) -> None:
    source = of_cap(cap_server, version, expand={"Orders": ["items"]})
    project.job(job(source, '{"Orders": {"lag": "1s"}}'))
    backfill(cli)
    order = "00000000-0000-4000-8000-000000000007"
    key = f"order_ID={order},line=2"
    before = project.query(f"select modified_at, items from raw.orders where id = '{order}'")
    assert [line["quantity"] for line in json.loads(before[0][1])] == [8, 9, 10]
    assert "__metadata" not in before[0][1]
    assert cap_server.send("PATCH", f"shop/Items({key})", {"quantity": 99})[0] == 200
    backfill(cli)
    after = project.query(f"select modified_at, items from raw.orders where id = '{order}'")
    assert [line["quantity"] for line in json.loads(after[0][1])] == [8, 99, 10]
    assert after[0][0] == before[0][0]
    assert project.query("select count(*) from raw.orders") == [(120,)]


@pytest.mark.parametrize("version", [2, 4])
def test_it_keeps_the_contract(cap_server: Cap, version: int) -> None:
    for table, cursor in (("Movements", "modifiedAt"), ("Orders", "modifiedAt"), ("Customers", "ID")):
        asyncio.run(conformance(lambda: ODataSource(options(cap_server, version)), f"odata.{table}", cursor=cursor))


def test_collections_and_complex_types_are_json(cli: Cli, project: Project, cap_server: Cap) -> None:
    project.job(job({**of_cap(cap_server, 4), "url": f"{cap_server.url}/lists"}, '{"Lists": {}}'))
    backfill(cli)
    rows = project.query("select id, tags, boxes from raw.lists order by id")
    assert [(row[0], json.loads(row[1]), json.loads(row[2])) for row in rows] == [
        (1, ["a", "it's"], [{"width": 1, "height": "0.100"}]),
        (2, [], []),
    ]


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("name", ["Movements", "Parts"])
def test_large_sets_are_read_in_ranges_of_the_key(cap_server: Cap, version: int, name: str) -> None:
    async def run() -> tuple[list[dict[str, Any]], int]:
        async with ODataSource(options(cap_server, version)).session(1) as session:
            table = (await session.discover([name]))[0]
            scan = Scan(table, table.columns)
            chunks = await session.chunks(scan, 50, 1 << 40)
            rows = 0
            for chunk in chunks:
                async with session.read(scan, chunk) as reading:
                    rows += sum([batch.num_rows async for batch in reading])
                assert reading.rest is None
            return [chunk.bounds for chunk in chunks], rows

    bounds, rows = asyncio.run(run())
    assert rows == {"Movements": 1234, "Parts": 240}[name]
    assert len(bounds) == {"Movements": 25, "Parts": 5}[name]
    assert bounds[1]["upto"] == bounds[2]["after"]


# Delta links of OData 4, which that server does not have.


def _things(tracking: Tracking) -> list[tuple[Any, ...]]:
    return [(row["ID"], row["name"], Decimal(str(row["size"]))) for _, row in sorted(tracking.rows.items())]


@pytest.mark.parametrize("style", ["4.01", "4.0", "key"])
def test_delta_links_of_version_4(cli: Cli, project: Project, style: str) -> None:
    query = "select id, name, size from raw.things order by id"
    with Tracking() as tracking:
        tracking.style = style
        tracking.put(*({"ID": number, "name": f"n{number}", "size": number / 4} for number in range(1, 36)))
        source = {"type": "odata", "url": f"{tracking.url}/s"}
        project.job(job(source, '{"Things": {}}'))
        backfill(cli)
        assert project.query(query) == _things(tracking)
        tracking.delete(4)
        tracking.put({"ID": 5, "name": "changed", "size": 0.5}, {"ID": 99, "name": "new", "size": 1})
        backfill(cli)
        assert project.query(query) == _things(tracking)
        assert tracking.count(r"deltatoken=35") == 1
        backfill(cli)
        assert project.query(query) == _things(tracking)
        # What is gone is said, and a full refresh begins anew.
        tracking.expired.add(38)
        said = cli("backfill", "job.yml")
        assert said.code == 1
        assert "--full-refresh" in said.out + said.err
        backfill(cli, "--full-refresh")
        assert project.query(query) == _things(tracking)


def test_parts_of_entities_are_not_merged(cli: Cli, project: Project) -> None:
    with Tracking() as tracking:
        tracking.parts = True
        tracking.put({"ID": 1, "name": "a", "size": 1})
        project.job(job({"type": "odata", "url": f"{tracking.url}/s"}, '{"Things": {}}'))
        backfill(cli)
        tracking.put({"ID": 1, "name": "b", "size": 2})
        said = cli("backfill", "job.yml")
        assert said.code == 1
        assert "came without size" in said.out + said.err


class Nested(Double):
    """Orders whose lines come in parts: so many in the order, the others where its link leads."""

    def routes(self) -> Iterator[web.RouteDef]:
        yield web.get("/s/$metadata", self._metadata)
        yield web.get("/s/Orders", self._orders)
        yield web.get("/s/Orders(1)/lines", self._lines)
        yield web.get("/s/Orders/$count", self._count)

    async def _metadata(self, request: web.Request) -> web.Response:
        line = '<EntityType Name="Line"><Key><PropertyRef Name="n"/></Key><Property Name="n" Type="Edm.Int32"/></EntityType>'
        return web.Response(
            text='<x:Edmx Version="4.0" xmlns:x="e"><x:DataServices><Schema Namespace="N"><EntityType Name="Order"><Key>'
            '<PropertyRef Name="ID"/></Key><Property Name="ID" Type="Edm.Int32"/><NavigationProperty Name="lines" '
            f'Type="Collection(N.Line)"/></EntityType>{line}<EntityContainer Name="C"><EntitySet Name="Orders" '
            'EntityType="N.Order"/></EntityContainer></Schema></x:DataServices></x:Edmx>'
        )

    async def _count(self, request: web.Request) -> web.Response:
        return web.Response(text="1")

    async def _orders(self, request: web.Request) -> web.Response:
        if "gt 1" in request.query.get("$filter", ""):
            return answer({"value": []})
        lines = [{"n": number} for number in range(3)]
        return answer({"value": [{"ID": 1, "lines": lines, "lines@odata.nextLink": "Orders(1)/lines?$skiptoken=3"}]})

    async def _lines(self, request: web.Request) -> web.Response:
        start = int(request.query["$skiptoken"])
        body: dict[str, Any] = {"value": [{"n": number} for number in range(start, start + 3)]}
        if start < 6:
            body["@odata.nextLink"] = f"lines?$skiptoken={start + 3}"
        return answer(body)


def test_lines_that_come_in_parts_are_read_to_the_end(cli: Cli, project: Project) -> None:
    with Nested() as nested:
        source = {"type": "odata", "url": f"{nested.url}/s", "expand": {"Orders": ["lines"]}}
        project.job(job(source, '{"Orders": {"mode": "full"}}'))
        backfill(cli)
    lines = json.loads(project.query("select lines from raw.orders")[0][0])
    assert [line["n"] for line in lines] == list(range(9))


def test_a_tracked_set_may_be_appended(cli: Cli, project: Project) -> None:
    with Tracking() as tracking:
        tracking.put(*({"ID": number, "name": f"n{number}", "size": number / 4} for number in range(1, 36)))
        source = {"type": "odata", "url": f"{tracking.url}/s"}
        project.job(job(source, '{"Things": {"mode": "append", "deletes": "ignore"}}'))
        for _ in range(2):
            backfill(cli)
            assert project.query("select count(*), count(distinct id) from raw.things") == [(35, 35)]


class Shifting(Double):
    """A set that is read by count; a row goes away behind the reader while its keys are read."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = list(range(1, 41))
        self.armed = False

    def routes(self) -> Iterator[web.RouteDef]:
        yield web.get("/s/$metadata", self._metadata)
        yield web.get("/s/T", self._set)
        yield web.get("/s/T/$count", self._count)

    async def _metadata(self, request: web.Request) -> web.Response:
        return answer(
            '<x:Edmx Version="4.0" xmlns:x="e"><x:DataServices><Schema Namespace="N"><EntityType Name="E"><Key>'
            '<PropertyRef Name="ID"/></Key><Property Name="ID" Type="Edm.Int32" Nullable="false"/>'
            '<Property Name="at" Type="Edm.DateTimeOffset" Nullable="false"/></EntityType><EntityContainer Name="C">'
            '<EntitySet Name="T" EntityType="N.E"/></EntityContainer></Schema></x:DataServices></x:Edmx>'
        )

    async def _count(self, request: web.Request) -> web.Response:
        return answer(str(len(self.ids)))

    async def _set(self, request: web.Request) -> web.Response:
        query = request.query
        ids = sorted(self.ids)
        newest = "at ge" in query.get("$filter", "") or "desc" in query.get("$orderby", "")
        start = int(query.get("$skip", "0"))
        shown = (ids[-1:] if newest else ids)[start : start + int(query.get("$top", "1000"))]
        if self.armed and query.get("$select") == "ID" and start == 0:
            self.armed = False
            self.ids.remove(3)
        return answer({"value": [{"ID": one, "at": f"2024-01-01T00:00:{one:02d}Z"} for one in shown]})


def test_a_key_that_moves_while_keys_are_read_is_not_taken_for_gone(cli: Cli, project: Project) -> None:
    with Shifting() as server:
        source = {"type": "odata", "url": f"{server.url}/s", "paging": "skip", "page_size": 10}
        entry = '{"T": {"mode": "incremental", "cursor": "at", "deletes": "compare", "on_delete": "hard"}}'
        project.job(job(source, entry))
        backfill(cli)
        server.armed = True
        backfill(cli)
        assert set(server.ids) <= {row[0] for row in project.query("select id from raw.t")}
        backfill(cli)
        assert {row[0] for row in project.query("select id from raw.t")} == set(server.ids)
