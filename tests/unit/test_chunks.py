"""The conditions of a chunk and of a window."""

from itertools import pairwise

import pyarrow as pa
import pytest

from connectors.postgres.chunks import condition, split, window_condition
from runner.source import Column, Scan, Table, Window, make_chunk

TABLE = Table(
    "shop",
    "orders",
    (
        Column("id", pa.int64(), False, "bigint"),
        Column("at", pa.timestamp("us"), True, "timestamp(3) without time zone"),
        Column('od"d', pa.string(), False, "text"),
    ),
    ("id",),
)


def scan(where=None, window=None) -> Scan:
    return Scan(TABLE, TABLE.columns, where, window)


def where(bounds, **more) -> str:
    found = scan(**more)
    return condition(found, make_chunk(found, 0, bounds, storage=None, rows=0, size=0))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, ""),
        ({"ctid": [0, 100]}, "ctid >= '(0,0)'::tid and ctid < '(100,0)'::tid"),
        ({"ctid": [100, None]}, "ctid >= '(100,0)'::tid"),
        ({"key": ["id", None, None]}, ""),
        ({"key": ["id", None, "7"]}, "\"id\" < '7'::bigint"),
        ({"key": ["id", "7", None]}, "\"id\" >= '7'::bigint"),
        ({"key": ["id", "7", "9"]}, "\"id\" >= '7'::bigint and \"id\" < '9'::bigint"),
        ({"key": ['od"d', "it's", None]}, "\"od\"\"d\" >= 'it''s'::text"),
        ({"relation": ["shop", "orders_1"], "ctid": [5, None]}, "ctid >= '(5,0)'::tid"),
    ],
)
def test_condition(bounds, expected):
    assert where(bounds) == expected


def test_all_together():
    window = Window("at", "2024-01-01", nulls=False)
    assert where({"ctid": [1, 2]}, where="id > 5 or true", window=window) == (
        "ctid >= '(1,0)'::tid and ctid < '(2,0)'::tid"
        " and \"at\" > '2024-01-01'::timestamp(3) without time zone and (id > 5 or true)"
    )


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, []),
        (Window("id"), []),
        (Window("id", "1"), ["\"id\" > '1'::bigint"]),
        (Window("id", "1", from_start=True), ["\"id\" >= '1'::bigint"]),
        (Window("id", None, "9"), ["\"id\" <= '9'::bigint"]),
        (Window("id", "1", "9", before_end=True), ["\"id\" > '1'::bigint and \"id\" < '9'::bigint"]),
        (
            Window("at", "x", "y"),
            [
                "(\"at\" > 'x'::timestamp(3) without time zone and \"at\" <= 'y'::timestamp(3) without time zone "
                'or "at" is null)'
            ],
        ),
        (Window("at", "x", nulls=False), ["\"at\" > 'x'::timestamp(3) without time zone"]),
        (Window('od"d', "it's"), ["\"od\"\"d\" > 'it''s'::text"]),
    ],
)
def test_window_condition(window, expected):
    assert window_condition(scan(window=window)) == expected


class Connection:
    """Answers the few questions that split() asks."""

    def __init__(self, *, pages=1000, correlation=None, cuts=None):
        self.pages, self.correlation, self.cuts = pages, correlation, cuts

    async def fetchval(self, query, *values):
        if "pg_relation_size" in query:
            return self.pages
        if "correlation" in query:
            return self.correlation
        if "percentile_disc" in query:
            return self.cuts
        return "16384:16384"


async def chunks(connection, table=TABLE, *, rows=1000, consistent=True, version=16, window=None):
    found = Scan(
        Table(
            table.schema,
            table.name,
            table.columns,
            table.primary_key,
            table.kind,
            rows=rows,
            bytes=rows * 10,
            detail={"oid": 1, "attnums": [1, 2]},
        ),
        table.columns,
        window=window,
    )
    return await split(connection, found, 100, 10**9, consistent=consistent, version=version)


async def test_a_small_table_is_one_chunk():
    (only,) = await chunks(Connection(), rows=100)
    assert (only.bounds, only.storage, only.rows, only.bytes) == ({}, "16384:16384", 100, 1000)


async def test_ctid_ranges_cover_the_table_and_touch():
    found = [chunk.bounds["ctid"] for chunk in await chunks(Connection(pages=1005))]
    assert len(found) == 10
    assert found[0][0] == 0
    assert found[-1][1] is None
    assert all(before[1] == after[0] for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("connection", "more"),
    [
        (Connection(correlation=0.99, cuts=[str(n) for n in range(1, 10)]), {}),
        (Connection(correlation=0.1, cuts=[str(n) for n in range(1, 10)]), {"consistent": False}),
        (Connection(correlation=None, cuts=[str(n) for n in range(1, 10)]), {"version": 13}),
    ],
)
async def test_key_ranges_where_the_key_orders_the_rows_or_ctid_will_not_do(connection, more):
    found = [chunk.bounds["key"] for chunk in await chunks(connection, **more)]
    assert found[0] == ["id", None, "1"]
    assert found[-1] == ["id", "9", None]
    assert len(found) == 10
    assert all(before[2] == after[1] for before, after in pairwise(found))


async def test_too_few_cuts_are_no_use():
    found = await chunks(Connection(correlation=0.99, cuts=["1", "1", "1", None]))
    assert all("ctid" in chunk.bounds for chunk in found)
    (only,) = await chunks(Connection(cuts=[]), consistent=False)
    assert only.bounds == {}


async def test_an_increment_is_one_chunk():
    (only,) = await chunks(Connection(), window=Window("id", "5"))
    assert only.bounds == {}


async def test_a_view_is_one_chunk_without_storage():
    view = Table("shop", "v", TABLE.columns, kind="view")
    (only,) = await chunks(Connection(), view)
    assert only.storage is None


async def test_ids_are_distinct_and_positions_count_up():
    found = await chunks(Connection())
    assert len({chunk.id for chunk in found}) == len(found)
    assert [chunk.index for chunk in found] == list(range(len(found)))
