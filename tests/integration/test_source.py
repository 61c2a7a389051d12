"""The PostgreSQL source by itself: splitting, snapshots, what changed under an older one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from connectors.postgres.source import PostgresSource
from runner.errors import TableChanged
from runner.source import Chunk, Scan, Session, Table, Window
from tests.conftest import Database


def _with_session(database: Database, work: Callable[[PostgresSource, Session], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        source = PostgresSource({"dsn": database.dsn, **options})
        async with source.session(1) as session:
            return await work(source, session)

    return asyncio.run(run())


async def _table(session: Session, name: str) -> Scan:
    tables = await session.discover([name])
    assert len(tables) == 1
    return Scan(tables[0], tables[0].columns)


async def _read(session: Session, scan: Scan, chunk: Chunk) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    async with session.read(scan, chunk) as reading:
        async for batch in reading:
            rows += [tuple(row.values()) for row in batch.to_pylist()]
    assert reading.source_rows == len(rows)
    return rows


@pytest.mark.parametrize(
    ("create", "kind"),
    [
        (
            "create table t (id bigint primary key, v text); insert into t select i, 'v' from generate_series(1, 9999) i",
            "key",
        ),
        (
            "create table t (id uuid primary key); insert into t select gen_random_uuid() from generate_series(1, 9999)",
            "ctid",
        ),
        ("create table t as select i as id from generate_series(1, 9999) i", "ctid"),
        (
            "create table t (id text primary key); insert into t select to_char(i, 'FM00000') from generate_series(1, 9999) i",
            "key",
        ),
    ],
)
def test_chunks_cover_the_table_and_do_not_overlap(database: Database, create: str, kind: str) -> None:
    database.execute(create, "analyze t")

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunks = await session.chunks(scan, 1000, 2**30)
        assert len(chunks) >= 8
        assert all(kind in chunk.bounds for chunk in chunks)
        assert len({chunk.id for chunk in chunks}) == len(chunks)
        rows = [row[0] for chunk in chunks for row in await _read(session, scan, chunk)]
        assert len(rows) == len(set(rows)) == 9999

    _with_session(database, work)


def test_all_chunks_read_one_snapshot(database: Database) -> None:
    database.execute("create table t as select i as id, 0 as v from generate_series(1, 5000) i", "analyze t")

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunks = await session.chunks(scan, 1000, 2**30)
        before = await _read(session, scan, chunks[0])
        await asyncio.to_thread(database.execute, "update t set v = 1", "insert into t values (0, 1)")
        rest = [row for chunk in chunks[1:] for row in await _read(session, scan, chunk)]
        assert {row[1] for row in before + rest} == {0}
        assert len(before + rest) == 5000

    _with_session(database, work)


def test_a_partitioned_table_is_split_by_leaf(shop_database: Database) -> None:
    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "shop.page_views")
        chunks = await session.chunks(scan, 500, 2**30)
        assert {chunk.bounds["relation"][1] for chunk in chunks} == {f"page_views_{month:02}" for month in range(1, 13)}
        total = sum([len(await _read(session, scan, chunk)) for chunk in chunks])
        assert total == expected

    expected = shop_database.rows("select count(*) from shop.page_views")[0][0]
    _with_session(shop_database, work)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("select 1", True),
        ("update t set v = 1 where id = 2500", False),
        ("delete from t where id = 2500", False),
        ("delete from t where id = 2500; insert into t values (2500, 0)", False),
        ("vacuum t", True),
        ("vacuum full t", False),
        ("truncate t", False),
        ("begin; savepoint a; update t set v = 1 where id = 2500; release a; commit", False),
        ("begin; update t set v = 1 where id = 2500; rollback", True),
    ],
)
def test_a_chunk_of_an_older_picture_is_recognised(database: Database, change: str, same: bool) -> None:
    database.execute(
        "create table t (id int primary key, v int)",
        "insert into t select i, 0 from generate_series(1, 5000) i",
        "vacuum analyze t",
    )

    async def work(source: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunks = await session.chunks(scan, 1000, 2**30)
        chunk = next(one for one in chunks if (one.bounds["key"][1] or "0") <= "2500" < (one.bounds["key"][2] or "9"))
        rows = len(await _read(session, scan, chunk))
        for statement in [change] if "begin" in change else change.split(";"):
            await asyncio.to_thread(database.execute, statement)
        async with source.session(2) as later:
            assert await later.unchanged(scan, chunk, rows, session.position.token) is same
            other = chunks[-1]
            if "full" not in change and "truncate" not in change:
                count = len(await _read(later, scan, other))
                assert await later.unchanged(scan, other, count, session.position.token) is True

    _with_session(database, work)


def test_a_row_written_by_a_transaction_open_at_the_old_snapshot_counts_as_new(database: Database) -> None:
    import psycopg2

    database.execute("create table t (id int primary key)", "insert into t values (1), (2)", "vacuum analyze t")
    writer = psycopg2.connect(database.dsn)
    writer.cursor().execute("savepoint s; insert into t values (3); release s; delete from t where id = 1")

    async def work(source: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunk = (await session.chunks(scan, 1000, 2**30))[0]
        rows = len(await _read(session, scan, chunk))
        assert rows == 2
        await asyncio.to_thread(writer.commit)
        async with source.session(2) as later:
            # Two rows then and two rows now, but not the same ones.
            assert await later.unchanged(scan, chunk, rows, session.position.token) is False

    try:
        _with_session(database, work)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "change", ["truncate t", "alter table t alter column id type bigint", "cluster t using t_pkey"]
)
def test_what_is_not_mvcc_safe_is_noticed(database: Database, change: str) -> None:
    database.execute("create table t (id int primary key)", "insert into t select generate_series(1, 100)", "analyze t")

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunk = (await session.chunks(scan, 1000, 2**30))[0]
        await asyncio.to_thread(database.execute, change)
        with pytest.raises(TableChanged):
            await _read(session, scan, chunk)

    _with_session(database, work)


def test_kinds_come_on_request(shop_database: Database) -> None:
    async def names(_: PostgresSource, session: Session) -> list[Table]:
        return await session.discover(["shop.*"])

    plain = {table.name for table in _with_session(shop_database, names)}
    assert "big_orders" not in plain
    assert "page_views" in plain
    asked = _with_session(shop_database, names, include=["views", "materialized_views"])
    assert {"big_orders", "daily_totals"} <= {table.name for table in asked}


def test_old_style_inheritance_comes_once(database: Database) -> None:
    database.execute(
        "create table parent (id int)", "create table child () inherits (parent)",
        "insert into parent values (1)", "insert into child values (2)", "analyze",
    )  # fmt: skip

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.parent")
        chunk = (await session.chunks(scan, 1000, 2**30))[0]
        assert await _read(session, scan, chunk) == [(1,)]

    _with_session(database, work)


def test_the_session_is_read_only_and_bears_our_name(database: Database) -> None:
    async def work(_: PostgresSource, session: Any) -> None:
        async with session.begin() as connection:
            assert await connection.fetchval("show transaction_read_only") == "on"
            assert await connection.fetchval("show application_name") == "orchestra-runner"
            assert await connection.fetchval("show timezone") == "UTC"
            assert await connection.fetchval("show statement_timeout") == "1h"

    _with_session(database, work)


def test_the_window_reads_what_it_says(database: Database) -> None:
    database.execute(
        "create table t (id int, at timestamptz)",
        "insert into t select i, timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => i) from generate_series(0, 9) i",
        "insert into t values (99, null)",
    )

    async def work(_: PostgresSource, session: Session) -> None:
        plain = await _table(session, "public.t")

        async def ids(window: Window) -> list[int]:
            scan = Scan(plain.table, plain.columns, None, window)
            return sorted(row[0] for row in await _read(session, scan, (await session.chunks(scan, 1000, 2**30))[0]))

        four = "2024-01-01 04:00:00+00"
        assert await ids(Window("at", four, nulls=False)) == [5, 6, 7, 8, 9]
        assert await ids(Window("at", four, from_start=True)) == [4, 5, 6, 7, 8, 9, 99]
        assert await ids(Window("at", None, four, nulls=False)) == [0, 1, 2, 3, 4]
        assert await ids(Window("at", four, "2024-01-01 06:00:00+00", True, True, nulls=False)) == [4, 5]

    _with_session(database, work)


def test_cancelling_a_read_leaves_no_connection_behind(database: Database) -> None:
    database.execute("create table t as select i, repeat('x', 1000) from generate_series(1, 50000) i", "analyze t")

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        chunk = (await session.chunks(scan, 10**9, 2**40))[0]
        with pytest.raises(RuntimeError, match="enough"):
            async with session.read(scan, chunk) as reading:
                async for _ in reading:
                    raise RuntimeError("enough")

    _with_session(database, work)
    left = "select count(*) from pg_stat_activity where application_name = 'orchestra-runner'"
    for _ in range(100):
        if database.rows(left) == [(0,)]:
            return
        time.sleep(0.02)
    pytest.fail("a connection stayed open")


def test_a_foreign_partition_has_no_row_versions_to_go_by(database: Database) -> None:
    server = database.server
    database.execute(
        "create extension postgres_fdw",
        f"create server self foreign data wrapper postgres_fdw options (host '127.0.0.1', port '{server.port}', "
        f"dbname '{database.name}')",
        f"create user mapping for postgres server self options (user 'postgres', password '{server.password}')",
        "create schema far",
        "create table far.p2 as select i as id, 'old' as v from generate_series(101, 200) i",
        "create table p (id int, v text) partition by range (id)",
        "create table p1 partition of p for values from (1) to (101)",
        "insert into p select i, 'old' from generate_series(1, 100) i",
        "create foreign table p2 partition of p for values from (101) to (201) server self "
        "options (schema_name 'far', table_name 'p2')",
        "vacuum analyze p1",
    )

    async def work(source: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.p")
        chunks = await session.chunks(scan, 10, 2**30)
        assert [chunk.bounds for chunk in chunks] == [{}], "a foreign partition is read through its parent"
        rows = await _read(session, scan, chunks[0])
        assert len(rows) == 200
        await asyncio.to_thread(database.execute, "update far.p2 set v = 'new'")
        async with source.session(2) as later:
            assert await later.unchanged(scan, chunks[0], len(rows), session.position.token) is False

    _with_session(database, work)


@pytest.mark.parametrize(
    "change",
    [
        "truncate t; insert into t select generate_series(1, 100)",
        "alter table t alter column id type bigint",
        "create table n as table t; drop table t; alter table n rename to t",
        "create table p (id int) partition by range (id); drop table t; alter table p rename to t; "
        "create table t1 partition of t for values from (0) to (1000); insert into t select generate_series(1, 100)",
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["same session", "later session"])
def test_what_changed_between_the_snapshot_and_the_plan_is_noticed(
    database: Database, change: str, again: bool
) -> None:
    database.execute("create table t (id int primary key)", "insert into t select generate_series(1, 100)", "analyze t")

    async def work(source: PostgresSource, session: Session) -> None:
        for statement in change.split(";"):
            await asyncio.to_thread(database.execute, statement)
        # The catalog says what there is now, the snapshot shows what was before.
        scan = await _table(session, "public.t")
        chunk = (await session.chunks(scan, 1000, 2**30))[0]
        with pytest.raises(TableChanged):
            await _read(session, scan, chunk)
        if again:
            async with source.session(2) as later:
                chunk = (await later.chunks(scan, 1000, 2**30))[0]
                assert len(await _read(later, scan, chunk)) == 100

    _with_session(database, work)


@pytest.mark.parametrize(
    "change", ["alter table t detach partition t1", "alter table t attach partition o for values from (1000) to (2000)"]
)
def test_partitions_that_come_and_go_after_the_snapshot_are_noticed(database: Database, change: str) -> None:
    database.execute(
        "create table t (id int) partition by range (id)",
        "create table t1 partition of t for values from (0) to (1000)",
        "insert into t select generate_series(1, 100)",
        "create table o as select 1000 as id",
    )

    async def work(_: PostgresSource, session: Session) -> None:
        await asyncio.to_thread(database.execute, change)
        scan = await _table(session, "public.t")
        chunk = (await session.chunks(scan, 1000, 2**30))[0]
        with pytest.raises(TableChanged):
            await _read(session, scan, chunk)

    _with_session(database, work)


def test_a_partition_that_is_being_detached_does_not_stop_the_others(database: Database) -> None:
    """An interrupted DETACH CONCURRENTLY stays pending until somebody finishes it."""
    import psycopg2

    database.execute(
        "create table t (id int) partition by range (id)",
        "create table t1 partition of t for values from (0) to (1000)",
        "create table t2 partition of t for values from (1000) to (2000)",
        "insert into t values (1), (1001)",
    )
    reader = psycopg2.connect(database.dsn)
    reader.cursor().execute("set transaction isolation level repeatable read; select * from t")
    detaching = psycopg2.connect(database.dsn, options="-c statement_timeout=500")
    detaching.autocommit = True
    with pytest.raises(psycopg2.errors.QueryCanceled):
        detaching.cursor().execute("alter table t detach partition t2 concurrently")
    reader.close()
    detaching.close()

    async def work(_: PostgresSource, session: Session) -> None:
        scan = await _table(session, "public.t")
        rows = [row for chunk in await session.chunks(scan, 1000, 2**30) for row in await _read(session, scan, chunk)]
        assert rows == [(1,)]

    _with_session(database, work)
