"""Sensors that ask Snowflake, by its own driver, on fakesnow's server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from runner.clock import SystemClock
from runner.errors import RequestRefused, RunnerError, TableMissing
from runner.job import SourceSpec
from sensors.room import Room
from sensors.sensor import Sensor, Setting
from sensors.testing import Bench, Kept
from sensors.types.freshness import FreshnessSensor
from sensors.types.sql import SqlSensor

if TYPE_CHECKING:
    from tests.servers import FakeSnowflake

pytest_plugins = ("tests.servers",)
pytestmark = [
    # The driver's own, of its next version.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:snowflake"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

_ORDERS = "create table raw.orders (id int, made timestamp_tz, amount number(12, 2), note text)"
_ROWS = """
insert into raw.orders
select seq8() + {0}, '2024-01-01 12:00:00 +0000'::timestamp_tz, 1.5, null from table(generator(rowcount => {1}))
"""


def bench_of(
    room: Room, server: FakeSnowflake, database: str, kind: type[Sensor[Any]] = SqlSensor, **keys: Any
) -> Bench:
    assert isinstance(room.memory, Kept)
    spec = SourceSpec.model_validate({"type": "snowflake", "schema": "raw", **server.options(database)})
    return Bench(kind(Setting("s", keys, source=spec, start="beginning"), room), room.memory)


async def test_rows_of_equal_cursors_and_freshness(snowflake_server: FakeSnowflake) -> None:
    server, database = snowflake_server, snowflake_server.make_database()

    async def do(*statements: str) -> None:
        await asyncio.to_thread(server.rows, database, *statements)

    await do("create schema raw", _ORDERS, _ROWS.format(0, 7))
    async with Room(SystemClock(), Kept()) as room:
        bench = bench_of(room, server, database, table="raw.orders", column="made", key=["id"], lag="1m", page=3)
        assert sorted(event.values["id"] for event in await bench.poll()) == list(range(7))
        await do(_ROWS.format(7, 2))
        events = await bench.poll()
        assert sorted(event.key for event in events) == ["7", "8"]
        assert events[0].values["made"] == "2024-01-01T12:00:00+00:00"
        assert events[0].values["amount"] == "1.50"
        assert await bench.poll() == []
        fresh = bench_of(room, server, database, FreshnessSensor, table="orders", column="made")
        assert [event.key for event in await fresh.poll()] == ["2024-01-01T12:00:00+00:00"]


@pytest.mark.parametrize(
    ("given", "wrong", "words"),
    [
        ({"table": "raw.oders"}, TableMissing, "ODERS"),
        ({"column": "idd"}, RequestRefused, "Did you mean 'ID'?"),
    ],
)
async def test_what_is_wrong_is_said_in_words(
    snowflake_server: FakeSnowflake, given: dict[str, Any], wrong: type[RunnerError], words: str
) -> None:
    server, database = snowflake_server, snowflake_server.make_database()
    await asyncio.to_thread(server.rows, database, "create schema raw", _ORDERS)
    async with Room(SystemClock(), Kept()) as room:
        with pytest.raises(wrong) as caught:
            await bench_of(room, server, database, **{"table": "raw.orders", "column": "id", **given}).poll()
        assert words in f"{caught.value.message} {caught.value.advice}"
