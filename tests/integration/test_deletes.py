"""Deleted rows, rows committed late, keys and cursors that changed, and the fingerprint that is carried through it all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
import pyarrow as pa
import pytest

from runner.rowhash import DUCKDB, POSTGRES, Digest, Field, by_prefix, total
from runner.writers.duckdb import DuckDBWriter
from runner.writers.postgres import PostgresWriter
from tests.conftest import Answer, Cli, Database, Project

_ORDERS = """
create table orders (id int primary key, note text, gone boolean, gone_at timestamptz, updated_at timestamptz not null);
create index on orders (updated_at);
insert into orders select i, 'n' || i, i % 50 = 0, case when i % 50 = 0 then now() end,
    timestamptz '2024-01-01 00:00:00+00' + make_interval(mins => i) from generate_series(1, 300) i;
analyze orders;
"""
_FIELDS = [
    Field("id", pa.int32()),
    Field("note", pa.string()),
    Field("gone", pa.bool_()),
    Field("gone_at", pa.timestamp("us", "UTC")),
    Field("updated_at", pa.timestamp("us", "UTC")),
]


@dataclass
class Case:
    """A source and a destination."""

    kind: str
    source: Database
    project: Project
    cli: Cli

    def job(self, *tables: str) -> None:
        where = "{type: duckdb, dataset: raw}"
        if self.kind == "postgres":
            where = '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'
        lines = "\n".join(f"  {table}" for table in tables)
        self.project.job(f"""
name: gone
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {where}
limits: {{chunk_rows: 60}}
tables:
{lines}
""")

    def orders(self, more: str = "") -> None:
        self.job(f"public.orders: {{mode: incremental, cursor: updated_at{more}}}")

    def run(self, *more: str, code: int = 0) -> Answer:
        answer = self.cli("backfill", "job.yml", "--verify", "hash", *more)
        assert answer.code == code, answer.out + answer.err
        return answer

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.project.query(sql) if self.kind == "duckdb" else self.source.rows(sql)

    def ids(self, where: str = "true", table: str = "orders") -> list[int]:
        return [row[0] for row in self.rows(f"select id from raw.{table} where {where} order by id")]

    def source_ids(self, where: str = "true", table: str = "orders") -> list[int]:
        return [row[0] for row in self.source.rows(f"select id from {table} where {where} order by id")]

    def fresh_hash(self) -> str:
        """Return the fingerprint of what is published now, rows marked as deleted left out."""
        marked = self.rows(
            "select 1 from information_schema.columns where table_schema = 'raw' and table_name = 'orders' "
            "and column_name = '_deleted_at'"
        )
        dialect = DUCKDB if self.kind == "duckdb" else POSTGRES
        sql = dialect.sql(Digest(), _FIELDS, "raw.orders", "_deleted_at is null" if marked else "")
        return str(total(by_prefix(self.rows(sql)).values()))

    def kept_hash(self) -> str:
        return str(
            self.rows("select hash from raw._runner_state where table_name = 'orders' order by seq desc limit 1")[0][0]
        )


@pytest.fixture(params=["duckdb", "postgres"])
def case(request: pytest.FixtureRequest, project: Project, database: Database, cli: Cli) -> Case:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(_ORDERS)
    return Case(str(request.param), database, project, cli)


@contextlib.contextmanager
def writing(source: Database, *statements: str) -> Iterator[None]:
    """Hold a transaction open that has written; it commits at the end."""
    with contextlib.closing(psycopg2.connect(source.dsn)) as connection:
        for statement in statements:
            connection.cursor().execute(statement)
        yield
        connection.commit()


# deletes: compare


def test_rows_that_are_gone_are_deleted(case: Case) -> None:
    case.orders(", deletes: compare, on_delete: hard")
    case.run()
    case.source.execute(
        "delete from orders where id in (1, 60, 61, 150, 300)",
        "insert into orders values (301, 'new', null, null, '2025-01-01')",
        "update orders set note = 'changed', updated_at = '2025-01-01' where id = 7",
    )
    answer = case.run()
    assert "5 rows are gone at the source and deleted" in answer.err
    assert case.ids() == case.source_ids()
    assert case.rows("select note from raw.orders where id = 7") == [("changed",)]
    assert case.kept_hash() == case.fresh_hash()


def test_rows_that_are_gone_are_marked_and_come_back(case: Case) -> None:
    case.orders(", deletes: compare")
    case.run()
    case.source.execute(
        "create table aside as select * from orders where id in (5, 250)", "delete from orders where id in (5, 250)"
    )
    assert "2 rows are gone at the source and marked" in case.run().err
    assert case.ids("_deleted_at is not null") == [5, 250]
    marked = case.rows("select id, _deleted_at::text from raw.orders where _deleted_at is not null")
    assert "gone at the source" not in case.run().err
    assert case.rows("select id, _deleted_at::text from raw.orders where _deleted_at is not null") == marked
    case.source.execute("insert into orders select id, 'back', gone, gone_at, '2025-01-01' from aside where id = 5")
    case.run()
    assert case.ids("_deleted_at is not null") == [250]
    assert case.rows("select note, count(*) over () from raw.orders where id = 5") == [("back", 1)]
    assert case.ids() == list(range(1, 301))
    assert case.kept_hash() == case.fresh_hash()


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_a_row_that_comes_back_with_its_old_cursor_is_unmarked_or_told_and_repaired(case: Case, how: str) -> None:
    case.orders(f", deletes: compare, on_delete: {how}")
    case.run()
    case.source.execute("create table aside as select * from orders where id = 5", "delete from orders where id = 5")
    case.run()
    case.source.execute("insert into orders select * from aside")
    answer = case.run()
    if how == "hard":
        assert "1 rows of the source have cursors behind the mark and are not at the destination" in answer.err
        assert case.cli("verify", "job.yml", "--repair", "--yes").code == 0
    assert case.ids("true" if how == "hard" else "_deleted_at is null") == case.source_ids()


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_too_many_deletes_are_refused_and_nothing_is_published(case: Case, how: str) -> None:
    case.orders(f", deletes: compare, on_delete: {how}")
    case.run()
    case.source.execute(
        "delete from orders where id <= 31", "update orders set note = 'x', updated_at = '2025-01-01' where id = 99"
    )
    answer = case.run(code=1)
    assert "31 of 300 rows are gone at the source, more than max_delete allows (10%)" in answer.out
    assert case.ids() == list(range(1, 301))
    assert case.rows("select note from raw.orders where id = 99") == [("n99",)]
    assert case.rows("select count(*) from raw._runner_state") == [(1,)]
    case.run("--yes")
    assert case.ids("true" if how == "hard" else "_deleted_at is null") == case.source_ids()
    assert case.rows("select note from raw.orders where id = 99") == [("x",)]
    assert case.kept_hash() == case.fresh_hash()


def test_max_delete_is_a_share_of_the_rows_and_may_be_set(case: Case) -> None:
    case.orders(", deletes: compare, on_delete: hard, max_delete: 50%")
    case.run()
    case.source.execute("delete from orders where id <= 150")
    case.run()
    assert case.ids() == case.source_ids()
    case.source.execute("truncate orders")
    assert "150 of 150 rows" in case.run(code=1).out
    assert len(case.ids()) == 150


def test_keys_of_several_columns_over_several_chunks(case: Case) -> None:
    """Quotes, commas, empty texts and Unicode; cut by ctid, for the key does not order the rows."""
    case.source.execute(
        'create table lines ("Order No" text, "Line" int, note text, n int not null, primary key ("Order No", "Line"))',
        "insert into lines select case i % 4 when 0 then '' when 1 then 'a,\"b''' when 2 then 'Zürich 🚲' else 'x' || i end, i, "
        "'n', i from generate_series(1, 300) i order by md5(i::text)",
        "analyze lines",
    )
    case.job("public.lines: {mode: incremental, cursor: n, deletes: compare, on_delete: hard}")
    case.run()
    case.source.execute(
        'delete from lines where "Line" in (4, 5, 6, 7)', "insert into lines values ('', 5, 'other', 1000)"
    )
    case.run()
    there = case.rows("select order_no, line, note from raw.lines order by line, order_no")
    assert there == case.source.rows('select "Order No", "Line", note from lines order by 2, 1')


def test_a_key_lost_on_the_way_deletes_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    writer_class = DuckDBWriter if case.kind == "duckdb" else PostgresWriter
    copy = writer_class.copy

    def losing(writer: Any, cursor: Any, stage: str, target: Any, chunks: Any, *, named: bool) -> None:
        copy(writer, cursor, stage, target, chunks, named=named)
        if "keys" in target.name:
            cursor.execute(f"delete from {stage} where id = 17")

    case.orders(", deletes: compare, on_delete: hard")
    case.run()
    monkeypatch.setattr(writer_class, "copy", losing)  # the real writer, and a row that goes astray
    case.cli("backfill", "job.yml", "--verify", "hash")
    assert 17 in case.ids()


def test_a_range_that_is_read_again_keeps_marked_rows(case: Case) -> None:
    case.orders(", deletes: compare")
    case.run()
    case.source.execute("delete from orders where id = 30")
    case.run()
    case.run("--since", "2024-01-01T00:15", "--until", "2024-01-01T00:45")
    assert case.ids("_deleted_at is not null") == [30]


# deletes: {column: …}


@pytest.mark.parametrize("column", ["gone", "gone_at"])
@pytest.mark.parametrize("how", ["hard", "soft"])
def test_rows_that_the_source_marks(case: Case, column: str, how: str) -> None:
    case.orders(f", deletes: {{column: {column}}}, on_delete: {how}")
    case.run()
    present = "gone is not true"
    # The first run reads the table as a whole, rows marked long ago among them.
    assert case.ids() == case.source_ids(present if how == "hard" else "true")
    assert len(case.ids()) == (294 if how == "hard" else 300)
    case.source.execute(
        "update orders set gone = true, gone_at = now(), updated_at = '2025-01-01' where id in (3, 200)",
        "update orders set gone = null, gone_at = null, updated_at = '2025-01-01' where id = 50",
        "insert into orders values (301, 'never seen', true, now(), '2025-01-02'), (302, 'new', false, null, '2025-01-02')",
    )
    case.run()
    assert case.ids() == case.source_ids(present if how == "hard" else "true")
    assert case.ids("gone is true") == ([] if how == "hard" else case.source_ids("gone"))
    assert case.kept_hash() == case.fresh_hash()


@pytest.mark.parametrize("kind", ["int not null default 0", "text not null default 'N'"])
def test_a_flag_that_is_no_boolean_does_not_delete_everything(case: Case, kind: str) -> None:
    case.source.execute(f"alter table orders add column flag {kind}")
    case.orders(", deletes: {column: flag}, on_delete: hard")
    answer = case.cli("backfill", "job.yml")
    assert answer.code == 2 or len(case.ids()) == 300


# late: scan


@pytest.mark.parametrize("cursor", ["stamp", "number"])
def test_rows_committed_late_with_an_old_cursor_are_found(case: Case, cursor: str) -> None:
    """The application sets the cursor: neither the mark nor the start of a transaction says anything."""
    case.source.execute(
        "create table events (id int primary key, stamp timestamp not null, number bigint not null, note text)",
        "insert into events select i, timestamp '2024-01-01' + make_interval(hours => i), i, 'n' from generate_series(1, 100) i",
    )
    case.job(f"public.events: {{mode: incremental, cursor: {cursor}, late: scan}}")
    old = "'2020-01-01', -5"
    with writing(
        case.source, f"insert into events values (1001, {old}, 'late')", "update events set note = 'late' where id = 3"
    ):
        case.source.execute(f"insert into events values (1002, {old}, 'before')")
        case.run()
        assert case.ids("id > 1000", "events") == [1002]
    case.source.execute("vacuum freeze events")
    case.source.execute(
        f"insert into events values (1003, {old}, 'later')", "update events set note = 'same cursor' where id = 4"
    )
    case.run()
    assert case.ids("id > 1000", "events") == [1001, 1002, 1003]
    assert case.rows("select note from raw.events where id in (3, 4) order by id") == [("late",), ("same cursor",)]
    case.source.execute("vacuum freeze events")
    events = [json.loads(line) for line in case.run("--json").out.splitlines()]
    # What the last picture showed is not read again, frozen or not; only the rows at the mark are.
    assert next(one["rows"] for one in events if one["action"] == "table_published") == 1
    assert case.rows("select count(*), count(distinct id) from raw.events") == [(103, 103)]


def test_rows_that_a_savepoint_wrote_late_are_found(case: Case) -> None:
    case.source.execute(
        "create table events (id int primary key, n int not null)",
        "insert into events select i, i from generate_series(1, 9) i",
    )
    case.job("public.events: {mode: incremental, cursor: n, late: scan}")
    with writing(
        case.source, "select txid_current()", "savepoint a", "insert into events values (1001, 5)", "release a"
    ):
        case.source.execute("insert into events values (10, 10)")
        case.run()
    case.run()
    assert case.ids("id > 1000", "events") == [1001]


def test_a_view_has_no_row_versions_and_the_plan_says_so(case: Case) -> None:
    case.source.execute("create view seen as select * from orders")
    case.job("public.seen: {mode: incremental, cursor: updated_at, key: [id], late: scan}")
    answer = case.cli("backfill", "job.yml")
    assert answer.code == 2
    assert "public.seen: late: scan needs row versions, and a view has none." in answer.err


# What changes between runs.


def test_another_primary_key_reads_the_table_as_a_whole(case: Case) -> None:
    case.orders()
    case.run()
    case.source.execute(
        "alter table orders drop constraint orders_pkey, add column region text not null default 'x'",
        "alter table orders add primary key (region, id)",
        "insert into orders values (1, 'twin', null, null, '2020-01-01', 'y')",
        "delete from orders where id = 2",
    )
    answer = case.run()
    assert "public.orders: the key changed from (id) to (region,id): the table is read as a whole" in answer.err
    assert case.ids() == case.source_ids()
    assert "the key changed" not in case.run().err


def test_a_cursor_of_another_type_reads_the_table_as_a_whole(case: Case) -> None:
    case.orders()
    case.run()
    case.source.execute(
        "alter table orders alter column updated_at type bigint using extract(epoch from updated_at)::bigint",
        "delete from orders where id = 2",
    )
    answer = case.run()
    assert "the cursor updated_at is bigint now, and the mark 2024-01-01 05:00:00+00 is none of it" in answer.err
    assert case.ids() == case.source_ids()
    case.source.execute("insert into orders values (301, 'new', null, null, 2000000000)")
    case.run()
    assert case.ids("updated_at = 2000000000") == [301]


def test_a_table_that_is_not_there_any_more_is_reported_and_stays(case: Case) -> None:
    case.source.execute("create table other as table orders")
    case.job("public.*: {mode: full}")
    assert "is not at the source now" not in case.run().err
    case.source.execute("drop table other")
    assert "public.other" in case.run("--json").out
    answer = case.run()
    assert "public.other: " in answer.err
    assert "it was loaded before and is not at the source now: dropped, renamed or excluded" in answer.err
    assert "public.other" not in case.run("--tables", "public.orders").err
    assert len(case.ids(table="other")) == 300


# The fingerprint.


@pytest.mark.parametrize(
    "deletes",
    [
        "deletes: compare, on_delete: hard",
        "deletes: compare",
        "deletes: {column: gone}, on_delete: hard",
        "deletes: {column: gone_at}",
    ],
)
def test_the_fingerprint_on_record_is_that_of_what_is_published(case: Case, deletes: str) -> None:
    case.orders(f", max_delete: 90%, {deletes}")

    def check(*more: str) -> None:
        case.run(*more)
        assert case.kept_hash() == case.fresh_hash(), more

    check()
    case.source.execute(
        "insert into orders select i, null, false, null, timestamptz '2025-01-01' + make_interval(mins => i) from generate_series(301, 350) i",
        "update orders set note = '', updated_at = '2025-01-01 10:00' where id % 7 = 0",
        "update orders set gone = true, gone_at = '2025-01-01', updated_at = '2025-01-01 11:00' where id % 31 = 0",
        "delete from orders where id % 29 = 0",
    )
    check()
    case.source.execute(
        "update orders set note = 'in the range' where id between 20 and 40", "delete from orders where id = 25"
    )
    check("--since", "2024-01-01T00:15", "--until", "2024-01-01T00:35")
    case.source.execute(
        "insert into orders select i, 'back', null, null, '2025-02-01' from generate_series(29, 58, 29) i"
    )
    check()
    # A run that verifies less knows no fingerprint; the next one makes it anew.
    case.source.execute(
        "delete from orders where id = 100", "update orders set note = 'c', updated_at = '2025-02-02' where id = 101"
    )
    assert case.cli("backfill", "job.yml", "--verify", "counts").code == 0
    assert case.rows("select hash from raw._runner_state order by seq desc limit 1") == [(None,)]
    check()
    check("--full-refresh")


@pytest.mark.parametrize("cursor", [", cursor: updated_at", ""])
def test_what_is_appended_is_added_to_the_fingerprint(case: Case, cursor: str) -> None:
    case.job(f"public.orders: {{mode: append{cursor}}}")
    case.run()
    case.source.execute("insert into orders values (301, 'new', null, null, '2025-01-01')")
    case.run()
    assert len(case.ids()) == (301 if cursor else 601)
    assert case.kept_hash() == case.fresh_hash()
