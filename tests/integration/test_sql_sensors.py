"""Sensors that ask a database, on PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from runner.clock import SystemClock
from runner.errors import (
    CredentialsRejected,
    RequestRefused,
    RunnerError,
    StatementTooLong,
    TableMissing,
    Unreachable,
    UsageError,
)
from runner.job import SourceSpec
from runner.testing.clock import ManualClock
from sensors.room import Room
from sensors.sensor import Sensor, Setting
from sensors.testing import Bench, Kept
from sensors.types.freshness import FreshnessSensor
from sensors.types.sql import SqlSensor
from tests.conftest import Cli, Database, Project

_EXAMPLES = Path(__file__).parents[2] / "orchestra"


class Place:
    """A room, and sensors on benches in it."""

    def __init__(self, dsn: str, room: Room, kept: Kept) -> None:
        self.dsn = dsn
        self.room = room
        self.kept = kept

    def bench(
        self,
        *,
        kind: type[Sensor[Any]] = SqlSensor,
        start: Any = "now",
        source: Any = None,
        name: str = "s",
        **keys: Any,
    ) -> Bench:
        spec = SourceSpec.model_validate({"type": "postgres", "dsn": self.dsn, **(source or {})})
        return Bench(kind(Setting(name, keys, source_name="shop", source=spec, start=start), self.room), self.kept)


@contextlib.asynccontextmanager
async def held(room: Room) -> AsyncIterator[Room]:
    """Hold a room open in a task of its own: a fixture ends in another one than it began in."""
    opened, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with room:
            opened.set()
            await done.wait()

    task = asyncio.create_task(hold())
    await opened.wait()
    try:
        yield room
    finally:
        done.set()
        await task


@pytest.fixture
async def place(database: Database) -> AsyncIterator[Place]:
    kept = Kept()
    async with held(Room(SystemClock(), kept)) as room:
        yield Place(database.dsn, room, kept)


async def do(database: Database, *statements: str) -> None:
    await anyio.to_thread.run_sync(lambda: database.execute(*statements))


def keys(events: Any) -> list[str]:
    return [event.key for event in events]


_ORDERS = "create table orders (id int primary key, at timestamptz, amount numeric(10, 2), note text)"
_ROWS = "insert into orders select i, '2024-01-01 12:00:00+00', i + 0.5, 'n' from generate_series({}, {}) i"


async def test_every_row_fires_once_and_its_values_stay_exact(place: Place, database: Database) -> None:
    await do(
        database,
        "create table things (id int8, at timestamptz, local timestamp, day date, amount numeric, doc jsonb, raw bytea,"
        " ref uuid, tags text[], share float8, gap interval)",
        """insert into things values (9007199254740993, '2024-03-31 02:30:00.000001+02', '2024-01-01', '2024-01-01',
        12345678901234567890.10, '{"a": 1.50}', '\\x00ff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a,NULL}', 'NaN',
        '1 day 00:00:00.5')""",
    )
    bench = place.bench(table="public.things", column="id", key=["id"], start="beginning")
    (event,) = await bench.poll()
    assert event.key == "9007199254740993"
    assert event.values == {
        "id": 9007199254740993,
        "at": "2024-03-31T00:30:00.000001+00:00",
        "local": "2024-01-01T00:00:00",
        "day": "2024-01-01",
        "amount": "12345678901234567890.10",
        "doc": '{"a": 1.50}',
        "raw": "00ff",
        "ref": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "tags": ["a", None],
        "share": "nan",
        "gap": "P1DT0.5S",
    }
    assert await bench.poll() == []


@pytest.mark.parametrize("start", ["now", "beginning", 3])
async def test_it_starts_where_it_is_told(place: Place, database: Database, start: Any) -> None:
    await do(database, _ORDERS, _ROWS.format(1, 5))
    bench = place.bench(query="select * from orders; -- all", column="id", key=["id"], start=start)
    assert keys(await bench.poll()) == {"now": [], "beginning": ["1", "2", "3", "4", "5"], 3: ["4", "5"]}[start]
    await do(database, _ROWS.format(6, 7))
    assert keys(await bench.poll()) == ["6", "7"]
    assert await bench.poll() == []


async def test_an_empty_table_starts_with_its_first_row(place: Place, database: Database) -> None:
    await do(database, _ORDERS)
    bench = place.bench(table="orders", column="at", key=["id"])
    assert await bench.poll() == []
    await do(database, _ROWS.format(1, 1))
    assert keys(await bench.poll()) == ["1"]


@pytest.mark.parametrize("key", [["id"], []])
@pytest.mark.parametrize("start", ["now", "beginning"])
async def test_equal_cursors_across_pages_lose_no_row(
    place: Place, database: Database, key: list[str], start: str
) -> None:
    await do(database, _ORDERS, _ROWS.format(1, 25))
    bench = place.bench(table="orders", column="at", key=key, page=10, start=start)
    first = [event.values["id"] for event in await bench.poll()]
    assert sorted(first) == ([] if start == "now" else list(range(1, 26)))
    # Of the same moment again: committed after the others were read.
    await do(database, _ROWS.format(26, 37))
    assert sorted(event.values["id"] for event in await bench.poll()) == list(range(26, 38))
    assert await bench.poll() == []
    assert len(place.kept.texts) == 37
    await do(database, "insert into orders values (99, '2024-01-01 12:00:01+00')")
    assert [event.values["id"] for event in await bench.poll()] == [99]
    assert await bench.poll() == []
    assert len(place.kept.texts) == 1, "what cannot be read again is forgotten"


@pytest.mark.parametrize("page", [2, 100])
async def test_rows_committed_late_are_found_inside_the_lag(place: Place, database: Database, page: int) -> None:
    await do(database, _ORDERS)
    minutes = "insert into orders values ({0}, timestamptz '2024-01-01 12:00:00+00' + {1} * interval '1 minute')"
    await do(database, *(minutes.format(i, i) for i in range(1, 11)))
    bench = place.bench(table="orders", column="at", key=["id"], lag="5m", start="beginning", page=page)
    assert keys(await bench.poll()) == [str(i) for i in range(1, 11)]
    # Inside the lag, at its very end, and outside of it.
    await do(database, minutes.format(20, 7.5), minutes.format(21, 5), minutes.format(22, 4.99))
    assert keys(await bench.poll()) == ["21", "20"]
    await do(database, minutes.format(30, 30), "delete from orders where id = 20")
    assert keys(await bench.poll()) == ["30"]
    assert await bench.poll() == []
    assert len(place.kept.texts) == 1


async def test_a_transaction_that_takes_its_time_is_not_lost(place: Place, database: Database) -> None:
    await do(database, _ORDERS, _ROWS.format(1, 1))
    bench = place.bench(table="orders", column="id", key=["id"], lag=10)
    assert await bench.poll() == []
    slow = await asyncpg.connect(database.dsn)
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("insert into orders values (2)")
        await do(database, "insert into orders values (3)")
        assert keys(await bench.poll()) == ["3"]
        await transaction.commit()
    finally:
        await slow.close()
    assert keys(await bench.poll()) == ["2"]


async def test_deleted_rows_rows_without_a_cursor_and_rows_of_the_future(place: Place, database: Database) -> None:
    await do(database, _ORDERS, _ROWS.format(1, 3), "insert into orders values (4, null), (5, '9999-12-31')")
    bench = place.bench(table="orders", column="at", key=["id"], start="beginning")
    assert sorted(keys(await bench.poll())) == ["1", "2", "3", "5"]
    await do(database, "delete from orders where id < 4", "insert into orders values (6, now())")
    # A row of the year 9999 does not hide those of today, nor do deleted ones bring others back.
    assert keys(await bench.poll()) == ["6"]
    await do(database, "update orders set at = now() where id = 4")
    assert keys(await bench.poll()) == ["4"]


async def test_times_mean_the_same_whatever_zone_wrote_them(place: Place, database: Database) -> None:
    await do(database, _ORDERS, "insert into orders values (1, '2024-01-01 12:00:00+00')")
    bench = place.bench(table="orders", column="at", key=["id"])
    await bench.poll()
    await do(
        database,
        "set timezone to 'Asia/Tokyo'; insert into orders values (2, '2024-01-01 20:59:59')",
        "set timezone to 'America/New_York'; insert into orders values (3, '2024-01-01 07:00:00.000001')",
    )
    (event,) = await bench.poll()
    assert (event.key, event.at) == ("3", datetime(2024, 1, 1, 12, 0, 0, 1, tzinfo=UTC))


async def test_a_batch_is_one_event_for_all_rows_of_a_poll(place: Place, database: Database) -> None:
    await do(database, _ORDERS, _ROWS.format(1, 5))
    bench = place.bench(table="orders", column="at", key=["id"], batch=True, page=3, start="beginning")
    assert [event.values["count"] for event in await bench.poll()] == [3, 2]
    assert await bench.poll() == []
    await do(database, "update orders set note = 'x' where id = 1", "insert into orders values (6, '2024-01-02')")
    (event,) = await bench.poll()
    assert [row["id"] for row in event.values["rows"]] == [6]


async def test_without_a_column_a_result_that_changed_fires(place: Place, database: Database) -> None:
    await do(database, _ORDERS)
    bench = place.bench(query="select id, amount from orders where note = 'stuck'")
    assert await bench.poll() == []
    stuck = "insert into orders values (1, now(), 1.5, 'stuck')"
    await do(database, stuck)
    (event,) = await bench.poll()
    assert event.values == {"rows": [{"id": 1, "amount": "1.50"}], "count": 1, "id": 1, "amount": "1.50"}
    assert await bench.poll() == []
    await do(database, "delete from orders")
    assert await bench.poll() == []
    await do(database, stuck)
    assert len(await bench.poll()) == 1, "the same result again, after another one"


@pytest.mark.parametrize(
    ("given", "wrong", "words"),
    [
        ({"source": {"password": "wrong", "dsn": None}}, CredentialsRejected, "password authentication failed"),
        ({"source": {"port": 1, "dsn": None}}, Unreachable, ":1/"),
        ({"table": "public.oders"}, TableMissing, "oders"),
        ({"column": "updated"}, RequestRefused, "Did you mean 'updated_at'?"),
        ({"key": ["it"]}, RequestRefused, "There is no column 'it'"),
        ({"query": "selec 1", "table": None}, RequestRefused, "syntax error"),
        ({"query": "select 1 as updated_at, 2 as a, 3 as a", "table": None}, RequestRefused, "2 columns named 'a'"),
        ({"lag": 5}, UsageError, "The lag is a number"),
        ({"query": "delete from orders returning *", "table": None}, RequestRefused, "syntax error"),
        ({"query": "select nextval('s') as updated_at", "table": None, "start": "beginning"}, RequestRefused, "read-only"),
        ({"source": {"statement_timeout": "50ms"}, "query": "select now() as updated_at, pg_sleep(9)"
          , "table": None, "start": "beginning"}, StatementTooLong, "timeout"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_in_words(
    place: Place, database: Database, given: dict[str, Any], wrong: type[RunnerError], words: str
) -> None:
    await do(database, "create table orders (id int, updated_at timestamptz)", "create sequence s")
    options: dict[str, Any] = {"table": "orders", "column": "updated_at", **given}
    if "dsn" in (source := options.get("source", {})):
        server = database.server
        own = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "database": database.name}
        options["source"] = {**own, **source}
    bench = place.bench(**{name: value for name, value in options.items() if value is not None})
    with pytest.raises(wrong) as caught:
        await bench.poll()
    said = f"{caught.value.message} {caught.value.advice}"
    assert words in said
    assert database.server.password not in said
    assert bench.cursor is None


async def test_a_poll_that_is_cancelled_leaves_nothing_at_work_at_the_server(place: Place, database: Database) -> None:
    bench = place.bench(query="select now() as at, pg_sleep(60)", column="at", start="beginning")
    mine = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()"
    async with anyio.create_task_group() as group:
        group.start_soon(bench.poll)
        with anyio.fail_after(10):
            while await asyncio.to_thread(database.rows, mine) == [(0,)]:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert await asyncio.to_thread(database.rows, mine) == [(0,)]


async def test_a_connection_that_was_lost_is_made_again(place: Place, database: Database) -> None:
    await do(database, _ORDERS)
    bench = place.bench(table="orders", column="id", key=["id"])
    await bench.poll()
    others = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orchestra-runner'"
    await do(database, others, _ROWS.format(1, 1))
    with contextlib.suppress(RunnerError):
        await bench.poll()
    await bench.poll()
    assert keys(bench.fired) == ["1"]


_COUNTED = """
create function told() returns boolean language plpgsql volatile as
'begin perform pg_notify(''asked'', clock_timestamp()::text); return true; end';
create table orders (id int);
insert into orders values (1);
create view counted as select id from orders where told();
"""


@contextlib.asynccontextmanager
async def patient(clock: ManualClock) -> AsyncIterator[None]:
    """Let the time pass only when everybody who can has asked, however slow this machine is."""

    async def pass_() -> None:
        while True:
            await asyncio.sleep(0.001)
            if clock.sleepers:
                for _ in range(20):
                    await clock.settle()
                await clock.advance(1)

    passing = asyncio.create_task(pass_())
    try:
        yield
    finally:
        passing.cancel()


async def test_two_hundred_sensors_with_one_query_ask_once(database: Database) -> None:
    clock, kept = ManualClock(), Kept()
    async with held(Room(clock, kept)) as room, patient(clock):
        await _ask_together(Place(database.dsn, room, kept), database)


async def _ask_together(place: Place, database: Database) -> None:
    await do(database, _COUNTED)
    benches = [
        place.bench(table="counted", column="id", key=["id"], start="beginning", name=f"s{number}")
        for number in range(200)
    ]
    for bench in benches:
        place.room.enrol(bench.sensor.system, bench.sensor.share)
    asked: list[object] = []
    listener = await asyncpg.connect(database.dsn)
    try:
        await listener.add_listener("asked", lambda *said: asked.append(said))
        # At first they learn the columns, and go on from there in a few groups; from then on they ask together.
        for expected, most in (([["1"]] * 200, 5), ([[]] * 200, 1)):
            asked.clear()
            found = await asyncio.gather(*(bench.poll() for bench in benches))
            await listener.fetchval("select 1")
            assert [keys(events) for events in found] == expected
            assert 1 <= len(asked) <= most
        sessions = await listener.fetchval(
            "select count(*) from pg_stat_activity where application_name = 'orchestra-runner'"
        )
        assert sessions <= 2
    finally:
        await listener.close()


# Freshness.


async def test_freshness_fires_when_the_newest_row_is_another(place: Place, database: Database) -> None:
    await do(database, _ORDERS, "insert into orders values (1, '2024-01-01 12:00:00+02')")
    bench = place.bench(kind=FreshnessSensor, table="public.orders", column="at")
    assert await bench.poll() == []
    await do(database, "insert into orders values (2, '2024-01-01 12:00:00+01'), (3, '2023-01-01')")
    (event,) = await bench.poll()
    assert event.key == "2024-01-01T11:00:00+00:00"
    assert (event.values["max"], event.values["state"]) == (event.key, "fresh")
    await do(database, "delete from orders where id = 2")
    assert await bench.poll() == []
    await do(database, "insert into orders values (4, '2024-01-01 11:00:00+00')")
    assert await bench.poll() == [], "as new as it was before"


@pytest.mark.parametrize(("type_", "zone"), [("timestamptz", "UTC"), ("timestamp", "Asia/Tokyo")])
async def test_a_table_turns_stale_once_and_fresh_again(database: Database, type_: str, zone: str) -> None:
    clock = ManualClock(auto=True)
    kept = Kept()
    await do(
        database,
        f"create table orders (id int, at {type_})",
        f"set timezone to '{zone}'; insert into orders values (1, timestamptz '2023-12-31 23:00:00+00')",
    )
    async with Room(clock, kept) as room:
        place = Place(database.dsn, room, kept)
        bench = place.bench(kind=FreshnessSensor, table="orders", column="at", stale_after="2h", zone=zone)
        assert await bench.poll() == []
        await clock.sleep(3601)
        (event,) = await bench.poll()
        assert (event.values["previous"], event.values["state"], event.values["age_seconds"]) == (
            "fresh",
            "stale",
            7201,
        )
        assert await bench.poll() == []
        await do(
            database, f"set timezone to '{zone}'; insert into orders values (2, timestamptz '2024-01-01 01:00+00')"
        )
        (event,) = await bench.poll()
        assert (event.values["previous"], event.values["state"]) == ("stale", "fresh")
        await do(database, "delete from orders")
        assert [event.values["state"] for event in await bench.poll()] == ["empty"]
        assert await bench.poll() == []


async def test_many_tables_are_asked_in_one_statement_and_one_that_is_wrong_spoils_no_other(
    database: Database,
) -> None:
    clock, kept = ManualClock(), Kept()
    async with held(Room(clock, kept)) as room, patient(clock):
        await _tables_together(Place(database.dsn, room, kept), database)


async def _tables_together(place: Place, database: Database) -> None:
    tables = [f"t{number}" for number in range(60)]
    await do(database, *(f"create table {table} as select 1 as id, now() as at" for table in tables))
    wrong = {"t7": "att", "gone": "at"}
    benches = [
        place.bench(kind=FreshnessSensor, name=table, table=table, column=wrong.get(table, "at"), start="beginning")
        for table in [*tables, "gone"]
    ]
    for bench in benches:
        place.room.enrol(bench.sensor.system, bench.sensor.share)
    found = await asyncio.gather(*(bench.poll() for bench in benches), return_exceptions=True)
    failed = {
        bench.sensor.setting.name: one for bench, one in zip(benches, found, strict=True) if not isinstance(one, list)
    }
    assert failed.keys() == {"t7", "gone"}
    assert isinstance(failed["gone"], TableMissing)
    assert "Did you mean 'at'?" in getattr(failed["t7"], "advice", "")
    assert all(len(bench.fired) == 1 for bench in benches if bench.sensor.setting.name not in failed)
    assert len(database_sessions := await asyncio.to_thread(database.rows, _SESSIONS)) == 1, database_sessions


_SESSIONS = "select pid from pg_stat_activity where application_name = 'orchestra-runner'"


# The example, by the command.


def test_the_example_fires_once_for_what_came_between_two_looks(
    project: Project, cli: Cli, shop_database: Database
) -> None:
    for name in ("connections.yml", "sensors/sql.yml"):
        (project.folder / name).parent.mkdir(exist_ok=True)
        (project.folder / name).write_bytes((_EXAMPLES / name).read_bytes())
    project.environ["SHOP_DSN"] = shop_database.dsn

    def look() -> list[dict[str, Any]]:
        answer = cli("sense", "sensors/sql.yml", "--once", "--soft", "--only", "*_orders", "--only", "orders_alive")
        assert answer.code == 0, answer.out + answer.err
        return [json.loads(line) for line in answer.out.splitlines() if line.startswith("{")]

    first = look()
    assert {event["sensor"] for event in first} == {"large_orders", "orders_alive"}
    shop_database.execute("update shop.orders set updated_at = now(), note = 'late' where id = 7")
    again = look()
    assert [(event["sensor"], event["values"].get("note")) for event in again if event["sensor"] == "new_orders"] == [
        ("new_orders", "late")
    ]
    assert [event["values"]["state"] for event in again if event["sensor"] == "orders_alive"] == ["fresh"]
    assert look() == []
