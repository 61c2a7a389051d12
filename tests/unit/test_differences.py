"""What two sets of rows do not have in common, found by their hashes: real DuckDB tables on both sides."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import duckdb
import pyarrow as pa
import pytest

from runner.differences import Difference, RowDifference, Side, compare
from runner.rowhash import DUCKDB, Digest, Field, Fingerprint, Hasher

FIELDS = (
    Field("id", pa.int64()),
    Field("n", pa.int64()),
    Field("note", pa.string()),
    Field("price", pa.decimal128(10, 2)),
    Field("moment", pa.timestamp("us", "UTC")),
)
ROWS = """
select i as id, i * 7 as n, case when i % 10 = 0 then null when i % 10 = 1 then '' else 'note ' || i end as note,
       (i / 100)::decimal(10, 2) as price, timestamptz '2024-01-01 00:00:00+00' + to_seconds(i) as moment
from range(1, {} + 1) t(i)
"""


class Table:
    """A table as a side of a comparison, and how often it was asked."""

    def __init__(self, connection: Any, name: str, fields: Sequence[Field] = FIELDS, key: tuple[str, ...] = ("id",)):
        self.connection, self.name, self.fields, self.key = connection, name, fields, key
        self.asked: list[Digest] = []

    @property
    def side(self) -> Side:
        return Side(self.key, tuple(field.name for field in self.fields), self.ask)

    async def ask(self, ask: Digest) -> list[tuple[Any, ...]]:
        self.asked.append(ask)
        assert len(self.asked) <= 6
        found: list[tuple[Any, ...]] = self.connection.execute(DUCKDB.sql(ask, self.fields, self.name)).fetchall()
        return found


class Stream(Table):
    """The same, streamed: as a source that cannot hash."""

    async def ask(self, ask: Digest) -> list[tuple[Any, ...]]:
        self.asked.append(ask)
        hasher = Hasher(self.fields, ask)
        for batch in self.connection.execute(f"from {self.name}").to_arrow_reader(1000):
            hasher.add(batch)
        return hasher.result()


@pytest.fixture
def db() -> Any:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def fill(db: Any, rows: int, *changes: str) -> tuple[Table, Table]:
    """Make tables a and b of the same rows; the changes are made in b."""
    db.execute(f"create table a as {ROWS.format(rows)}")
    db.execute("create table b as from a")
    for change in changes:
        db.execute(change)
    return Table(db, "a"), Table(db, "b")


async def differ(one: Table, other: Table, **more: Any) -> Difference:
    found = await compare(one.side, other.side, **more)
    assert found is not None
    return found


@pytest.mark.parametrize("rows", [0, 1, 4999, 20_000])
async def test_equal_sets_do_not_differ_and_are_asked_once(db: Any, rows: int) -> None:
    one, other = fill(db, rows)
    db.execute("create table c as from b order by hash(id)")
    assert await compare(one.side, Table(db, "c").side) is None
    assert await compare(Stream(db, "a").side, other.side) is None
    assert len(one.asked) == len(other.asked) == 1


async def test_one_bit_of_one_value_in_a_million_rows(db: Any) -> None:
    one, other = fill(db, 1_000_000, "update b set n = xor(n, 1) where id = 654321")
    found = await differ(one, other)
    assert found.rows == (RowDifference("changed", "id=654321", ("n",)),)
    assert found.counts == {"changed": 1, "missing": 0, "extra": 0}
    assert found.columns == {"n": 1}
    assert found.complete
    assert found.slice is not None
    assert (found.slice.key, len(found.slice.prefixes), found.parts) == (("id",), 1, 16**3)
    # One part of the table was looked into, and its rows were told by hash alone.
    assert [ask.rows for ask in one.asked] == [ask.rows for ask in other.asked] == [False, False, True]
    assert len(await Table(db, "a").ask(one.asked[-1])) < 1000
    assert found.sentence() == "1 changed row (columns n): id=654321: n"


CHANGES = {
    "one bit": ("update b set n = xor(n, 4) where id = 77", "77", "n"),
    "empty text to null": ("update b set note = null where id = 71", "71", "note"),
    "null to empty text": ("update b set note = '' where id = 70", "70", "note"),
    "text cut by one": ("update b set note = left(note, -1) where id = 77", "77", "note"),
    "trailing space": ("update b set note = note || ' ' where id = 77", "77", "note"),
    "rounded": ("update b set price = round(price, 1) where id = 77", "77", "price"),
    "an hour later": ("update b set moment = moment + interval 1 hour where id = 77", "77", "moment"),
    "a microsecond later": ("update b set moment = moment + interval 1 microsecond where id = 77", "77", "moment"),
}


@pytest.mark.parametrize("rows", [200, 20_000])
@pytest.mark.parametrize(("change", "key", "column"), CHANGES.values(), ids=CHANGES)
async def test_a_changed_value_is_named_by_key_and_column(
    db: Any, rows: int, change: str, key: str, column: str
) -> None:
    one, other = fill(db, rows, change)
    found = await differ(one, other)
    assert found.rows == (RowDifference("changed", f"id={key}", (column,)),)
    assert found.source.rows == found.destination.rows == rows


async def test_two_rows_that_swapped_values(db: Any) -> None:
    one, other = fill(
        db, 20_000, "update b set n = (select n from a where a.id = 12000 - b.id) where id in (5000, 7000)"
    )
    found = await differ(one, other)
    assert [(row.key, row.columns) for row in found.rows] == [("id=5000", ("n",)), ("id=7000", ("n",))]


@pytest.mark.parametrize("rows", [200, 20_000])
async def test_a_row_dropped_and_another_doubled(db: Any, rows: int) -> None:
    """As many rows, the same keys but one: counts say nothing."""
    one, other = fill(db, rows, "delete from b where id = 50", "insert into b from b where id = 60")
    found = await differ(one, other)
    assert found.source.rows == found.destination.rows
    assert set(found.rows) == {RowDifference("missing", "id=50"), RowDifference("extra", "id=60")}
    assert found.sentence() == "1 missing, 1 extra rows: id=50 is missing; id=60 should not be there"


async def test_errors_that_cancel_each_other_in_a_sum_of_values(db: Any) -> None:
    one, other = fill(db, 200, "update b set n = n + 5 where id = 3", "update b set n = n - 5 where id = 4")
    assert db.execute("select (select sum(n) from a) = (select sum(n) from b)").fetchone() == (True,)
    assert {row.key for row in (await differ(one, other)).rows} == {"id=3", "id=4"}


async def test_a_changed_key_is_a_missing_and_an_extra_row(db: Any) -> None:
    one, other = fill(db, 20_000, "update b set id = -3 where id = 3")
    assert set((await differ(one, other)).rows) == {RowDifference("missing", "id=3"), RowDifference("extra", "id=-3")}


async def test_one_side_is_empty(db: Any) -> None:
    one, other = fill(db, 3, "delete from b")
    found = await differ(one, other)
    assert (found.source.rows, found.destination) == (3, Fingerprint())
    assert found.counts == {"changed": 0, "missing": 3, "extra": 0}


async def test_a_column_shifted_by_some_rows_names_the_column_and_looks_at_a_part(db: Any) -> None:
    one, other = fill(db, 100_000)
    db.execute("create table c as select * replace (lag(n, 3) over (order by id) as n) from b")
    other = Table(db, "c")
    found = await differ(one, other)
    assert set(found.columns) == {"n"}
    assert not found.complete
    assert found.counts["missing"] == found.counts["extra"] == 0
    assert 10_000 < found.counts["changed"] <= 20_000
    assert found.sentence().startswith(f"at least {found.counts['changed']:,} changed rows (columns n): id=")
    assert found.sentence().endswith(" …")
    assert found.slice is not None
    assert len(found.slice.prefixes) == found.parts == 16**3
    assert len(found.rows) == 20


async def test_every_time_moved_by_a_zone(db: Any) -> None:
    one, other = fill(db, 300, "update b set moment = moment - interval 2 hours")
    found = await differ(one, other)
    assert (found.columns, found.counts["changed"], found.complete) == ({"moment": 300}, 300, True)


async def test_a_side_that_was_repaired_meanwhile_is_not_fetched_as_a_whole(db: Any) -> None:
    one, other = fill(db, 20_000, "update b set n = 0 where id = 7")

    async def ask(digest: Digest) -> list[tuple[Any, ...]]:
        if digest.digits:
            db.execute("update b set n = 49 where id = 7")
        return await other.ask(digest)

    found = await compare(one.side, replace(other.side, ask=ask))
    assert found is None
    assert not any(asked.rows and asked.slice is None for asked in one.asked)


# Keys.


async def test_keys_of_several_columns_with_commas_quotes_and_unicode(db: Any) -> None:
    keys = [("a,b", "c"), ("a", "b,c"), ("it's", '"q"'), ("Zürich 🚲", ""), ("3,abc", "~"), ("line\nbreak", "x")]
    db.execute("create table a (k varchar, l varchar, n bigint)")
    db.executemany("insert into a values (?, ?, 1)", keys)
    db.execute("create table b as from a")
    fields = (Field("k", pa.string()), Field("l", pa.string()), Field("n", pa.int64()))
    one, other = (Table(db, name, fields, ("k", "l")) for name in "ab")
    assert await compare(one.side, other.side) is None
    db.execute("update b set n = 2")
    found = await differ(one, other)
    assert {row.key for row in found.rows} == {f"k={k}, l={text}" for k, text in keys}
    assert {row.kind for row in found.rows} == {"changed"}


async def test_the_sides_may_name_the_key_differently(db: Any) -> None:
    one, _ = fill(db, 20_000)
    db.execute('create table c as select id as "row id", n + (id = 9)::int as m, note, price, moment from a')
    renamed = (Field("row id", pa.int64()), Field("m", pa.int64()), *FIELDS[2:])
    found = await differ(one, Table(db, "c", renamed, ("row id",)))
    assert found.rows == (RowDifference("changed", "id=9", ("n",)),)


async def test_rows_without_a_key_are_paired_by_likeness(db: Any) -> None:
    _, _ = fill(db, 200, "update b set note = 'other' where id = 50", "delete from b where id = 60")
    db.execute("insert into b values (-1, -2, 'stranger', 0, '1999-01-01')")
    found = await differ(Table(db, "a", key=()), Table(db, "b", key=()))
    by_kind = {row.kind: row for row in found.rows}
    assert found.counts == {"changed": 1, "missing": 1, "extra": 1}
    assert by_kind["changed"].columns == ("note",)
    assert by_kind["changed"].key.startswith("row ")


async def test_equal_rows_without_a_key_are_counted(db: Any) -> None:
    fill(db, 3, "insert into b from b where id = 2", "insert into b from b where id = 2")
    found = await differ(Table(db, "a", key=()), Table(db, "b", key=()))
    assert found.counts == {"changed": 0, "missing": 0, "extra": 3}  # two rows, then doubled with the first copy


async def test_pairing_many_rows_without_a_key_leaves_the_loop_free(db: Any) -> None:
    fill(db, 8000, "update b set n = n + 1")
    gaps = [0.0]

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await anyio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await anyio.sleep(0.02)
        found = await differ(Table(db, "a", key=()), Table(db, "b", key=()))
        await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert found.source.rows == 8000
    assert max(gaps) < 1.5


# What is told.


async def test_values_are_told_only_when_asked_for(db: Any) -> None:
    one, other = fill(db, 20_000, "update b set note = 'secret' where id = 33")
    found = await differ(one, other)
    assert found.rows[0].values == ()
    assert "secret" not in repr(found)
    told = await differ(Table(db, "a"), Table(db, "b"), values=True)
    assert told.rows[0].columns == ("note",)
    assert told.rows[0].values == (("note 33", "secret"),)
    assert "secret" in told.sentence()


async def test_a_difference_far_behind_in_a_long_text_names_its_column_with_values_too(db: Any) -> None:
    one, other = fill(db, 10, "update a set note = repeat('x', 500)", "delete from b", "insert into b from a")
    db.execute("update b set note = left(note, 400) || 'y' || right(note, 99) where id = 5")
    assert (await differ(one, other)).rows == (RowDifference("changed", "id=5", ("note",)),)
    assert (await differ(Table(db, "a"), Table(db, "b"), values=True)).rows[0].columns == ("note",)


@pytest.mark.parametrize("values", [False, True])
async def test_a_streamed_side_finds_the_same(db: Any, values: bool) -> None:
    _, other = fill(db, 20_000, "update b set price = 0 where id in (5, 6)", "delete from b where id = 1")
    by_sql = await differ(Table(db, "a"), other, values=values)
    streamed = await differ(Stream(db, "a"), Stream(db, "b"), values=values)
    assert streamed == by_sql
    assert by_sql.counts == {"changed": 2, "missing": 1, "extra": 0}
