"""Sensors that ask a DuckDB file, which another process may hold, and the sources of a dbt project in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest

from runner.clock import SystemClock
from runner.errors import (
    DatabaseMissing,
    RequestRefused,
    RunnerError,
    SourceBusy,
    SourceRefused,
    StatementTooLong,
    TableMissing,
    UsageError,
)
from runner.job import SourceSpec
from runner.testing.clock import ManualClock
from sensors.room import Room
from sensors.sensor import Sensor, Setting
from sensors.testing import Bench, Kept
from sensors.types.dbt import DbtSensor
from sensors.types.freshness import FreshnessSensor
from sensors.types.sql import SqlSensor

_ORDERS = "create table orders (id bigint, made timestamptz, day date, amount decimal(38, 4))"
_ROWS = "insert into orders select i, '2024-01-01 12:00:00+02', '2024-01-01', i + 0.5 from range({}, {}) r(i)"
_HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1]) as connection:
    print("held", flush=True)
    sys.stdin.read()
"""
_ENDLESS = "select sum(a.range * b.range) as id from range(10000000) a, range(10000000) b"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def do(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def bench_of(
    room: Room, path: Path, kind: type[Sensor[Any]] = SqlSensor, start: Any = "now", more: Any = None, **keys: Any
) -> Bench:
    assert isinstance(room.memory, Kept)
    spec = SourceSpec.model_validate({"type": "duckdb", "path": str(path), **(more or {})})
    return Bench(kind(Setting("s", keys, source=spec, start=start), room), room.memory)


@pytest.mark.parametrize(("column", "lag"), [("id", 3), ("made", "1m"), ("day", None), ("amount", 2)])
async def test_rows_fire_once_over_pages_whatever_orders_them(path: Path, column: str, lag: Any) -> None:
    do(path, _ORDERS, _ROWS.format(0, 12))
    keys = {"lag": lag} if lag else {}
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, path, table="orders", column=column, key=["id"], page=5, start="beginning", **keys)
        assert sorted(event.values["id"] for event in await bench.poll()) == list(range(12))
        # The file is free between polls.
        do(path, _ROWS.format(12, 14))
        events = await bench.poll()
        assert sorted(event.key for event in events) == ["12", "13"]
        assert {event.values["made"] for event in events} == {"2024-01-01T10:00:00+00:00"}
        assert {event.values["amount"] for event in events} == {"12.5000", "13.5000"}
        assert await bench.poll() == []


async def test_a_file_that_another_process_writes_is_busy_and_asked_again(path: Path) -> None:
    do(path, _ORDERS)
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, path, table="orders", column="id")
        await bench.poll()
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            await asyncio.to_thread(holder.stdout.readline)
            with pytest.raises(SourceBusy, match=r"Another program .*warehouse\.duckdb") as caught:
                await bench.poll()
            assert caught.value.retriable
            await asyncio.to_thread(holder.communicate)
        with duckdb.connect(str(path)) as connection:
            with pytest.raises(SourceBusy):
                await bench.poll()
            connection.execute(_ROWS.format(7, 8))
        assert [event.values["id"] for event in await bench.poll()] == [7]


async def test_a_query_that_is_cancelled_lets_the_file_go(path: Path) -> None:
    do(path, _ORDERS)
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, path, query=_ENDLESS, column="id", start="beginning")
        with anyio.move_on_after(0.3) as scope:
            await bench.poll()
        assert scope.cancelled_caught
        do(path, _ROWS.format(0, 1))
        slow = bench_of(room, path, query=_ENDLESS, column="id", start="beginning", more={"statement_timeout": "200ms"})
        with pytest.raises(StatementTooLong, match=r"within 0\.2 s"):
            await slow.poll()
        do(path, _ROWS.format(1, 2))


@pytest.mark.parametrize(
    ("given", "wrong", "words"),
    [
        ({"table": "oders"}, TableMissing, "orders"),
        ({"column": "idd"}, RequestRefused, "Did you mean 'id'?"),
        ({"query": "selec", "table": None}, RequestRefused, "syntax error"),
        ({"query": "delete from orders returning *", "table": None}, RequestRefused, "syntax error"),
        ({"more": {"path": "gone.duckdb"}}, DatabaseMissing, "gone.duckdb"),
        ({"more": {"path": __file__}}, SourceRefused, "is not a DuckDB database"),
        ({"lag": "5m"}, UsageError, "The lag is a duration, and id is of type BIGINT"),
    ],
)
async def test_what_is_wrong_is_said_in_words(
    path: Path, given: dict[str, Any], wrong: type[RunnerError], words: str
) -> None:
    do(path, _ORDERS)
    options = {"table": "orders", "column": "id", **given}
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, path, **{name: value for name, value in options.items() if value is not None})
        with pytest.raises(wrong) as caught:
            await bench.poll()
        assert words in f"{caught.value.message} {caught.value.advice}"


async def test_freshness_of_a_file(path: Path) -> None:
    do(path, _ORDERS, _ROWS.format(0, 1))
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, path, FreshnessSensor, table="main.orders", column="made", start="beginning")
        assert [event.key for event in await bench.poll()] == ["2024-01-01T10:00:00+00:00"]
        number = bench_of(room, path, FreshnessSensor, table="orders", column="amount", start=0.25)
        assert [event.values["max"] for event in await number.poll()] == ["0.5000"]
        days = bench_of(room, path, FreshnessSensor, table="orders", column="id", stale_after="1h")
        with pytest.raises(RequestRefused, match="is no date or time"):
            await days.poll()


# dbt.


def manifest(project: Path, **sources: dict[str, Any]) -> None:
    nodes = {
        f"source.shop.raw.{name}": {
            "source_name": "raw",
            "name": name,
            "relation_name": f'"warehouse"."main"."{name}"',
            "loaded_at_field": "made",
            "freshness": {
                "warn_after": {"count": 1, "period": "hour"},
                "error_after": {"count": 1, "period": "day"},
                "filter": None,
            },
            "config": {"enabled": True},
            **node,
        }
        for name, node in sources.items()
    }
    (project / "target").mkdir(exist_ok=True)
    (project / "target" / "manifest.json").write_text(json.dumps({"metadata": {}, "sources": nodes}))


async def test_dbt_sources_turn_with_their_age(path: Path, tmp_path: Path) -> None:
    clock = ManualClock(auto=True)
    do(
        path,
        "create table orders as select timestamptz '2023-12-31 23:59:00+00' as made, 1 as shop",
        "insert into orders values ('2024-01-02 00:00:00+00', 2)",
        "create table people as select timestamp '2024-01-01 00:00:00' as updated",
        "create table without (id int)",
    )
    manifest(
        tmp_path,
        orders={"freshness": {"warn_after": {"count": 1, "period": "hour"}, "filter": "shop = 1 -- ours"}},
        people={"loaded_at_field": "cast(updated as timestamp)"},
        gone={},
        without={"freshness": None},
        metadata={"loaded_at_field": None},
    )
    async with Room(clock, Kept()) as room:
        bench = bench_of(room, path, DbtSensor, project=str(tmp_path))
        (event,) = await bench.poll()
        assert (event.values["source"], event.values["status"]) == ("raw.gone", "runtime error")
        assert "gone" in event.values["message"]
        assert await bench.poll() == []
        assert bench.notes[-1] == "2 pass, 1 runtime error"
        await clock.sleep(3600)
        assert [(one.values["source"], one.values["status"]) for one in await bench.poll()] == [("raw.orders", "warn")]
        await clock.sleep(86400)
        (event,) = await bench.poll()
        assert (event.values["source"], event.values["previous"], event.values["status"]) == (
            "raw.people",
            "pass",
            "error",
        )
        do(path, "insert into people values ('2024-01-02 01:00:00')")
        (event,) = await bench.poll()
        assert (event.values["status"], event.values["loaded_at"]) == ("pass", "2024-01-02T01:00:00+00:00")
        assert event.at == datetime.fromisoformat("2024-01-02T01:00:00+00:00")


async def test_dbt_tells_of_new_data_where_it_is_asked_to(path: Path, tmp_path: Path) -> None:
    do(path, "create table orders as select timestamptz '2024-01-01' as made", "create table items as from orders")
    manifest(tmp_path, orders={}, items={"loaded_at_field": None, "loaded_at_query": "select max(made) from items;"})
    async with Room(ManualClock(auto=True), Kept()) as room:
        bench = bench_of(room, path, DbtSensor, project=str(tmp_path), on="loaded", select="source:raw.*s")
        assert await bench.poll() == []
        do(path, "insert into items values ('2024-01-01 00:00:01')")
        assert [event.values["source"] for event in await bench.poll()] == ["raw.items"]
        assert await bench.poll() == []
        manifest(tmp_path, orders={"name": "purchases"})
        with pytest.raises(UsageError, match=r"matches raw\.items") as caught:
            await bench_of(room, path, DbtSensor, project=str(tmp_path), select="raw.items").poll()
        assert "There are: raw.purchases." in caught.value.advice


@pytest.mark.parametrize(("text", "words"), [(None, "There is no"), ("{}", "is no manifest"), ("[", "is no manifest")])
async def test_a_manifest_that_is_missing_is_asked_for(
    path: Path, tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "manifest.json").write_text(text)
    async with Room(SystemClock(), Kept()) as room:
        with pytest.raises(UsageError, match=words) as caught:
            await bench_of(room, path, DbtSensor, project=str(tmp_path)).poll()
        assert "dbt parse" in caught.value.advice
