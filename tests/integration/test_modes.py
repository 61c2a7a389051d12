"""full, append, incremental, ranges and schema changes: what a second run does."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest

from tests.conftest import Cli, Database, Project

_ORDERS = """
create table orders (id int primary key, note text, updated_at timestamptz not null);
create index on orders (updated_at);
insert into orders select i, 'n' || i, timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => i)
from generate_series(1, 100) i;
"""


def _job(entry: str, destination: str = "{type: duckdb, dataset: raw}") -> str:
    return f"""
name: modes
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {destination}
tables:
  public.orders: {{{entry}}}
"""


@pytest.fixture
def orders(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(_ORDERS)
    return database


def _run(cli: Cli, *more: str) -> None:
    answer = cli("backfill", "job.yml", *more)
    assert answer.code == 0, answer.err


def test_auto_merges_by_the_primary_key_from_the_mark_on(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: auto, cursor: [updated_at]"))
    _run(cli)
    orders.execute(
        "update orders set note = 'changed', updated_at = '2024-02-01' where id = 5",
        "insert into orders values (101, 'new', '2024-02-02')",
        "update orders set note = 'not seen: its cursor did not move' where id = 6",
    )
    _run(cli)
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(101, 101)]
    assert project.query("select note from raw.orders where id in (5, 6, 101) order by id") == [
        ("changed",),
        ("n6",),
        ("new",),
    ]
    marks = project.query("select mark from raw._runner_state order by seq")
    assert marks == [("2024-01-05 04:00:00+00",), ("2024-02-02 00:00:00+00",)]


def test_rows_with_the_cursor_of_the_mark_that_came_late_are_seen(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute("insert into orders select 200, 'tie', max(updated_at) from orders")
    _run(cli)
    assert project.query("select note from raw.orders where id = 200") == [("tie",)]


def test_lag_reads_again_what_came_late(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at, lag: 3h"))
    _run(cli)
    orders.execute("insert into orders select 201, 'late', max(updated_at) - interval '2 hours' from orders")
    orders.execute("insert into orders select 202, 'too late', max(updated_at) - interval '9 hours' from orders")
    _run(cli)
    assert project.query("select id from raw.orders where id > 200") == [(201,)]


def test_a_writer_still_at_work_holds_the_mark_back(orders: Database, project: Project, cli: Cli) -> None:
    """A transaction that began before the snapshot may commit rows stamped with its start."""
    project.job(_job("mode: incremental, cursor: updated_at"))
    with contextlib.closing(psycopg2.connect(orders.dsn)) as slow:
        slow.cursor().execute("insert into orders values (300, 'slow', now())")
        orders.execute("insert into orders values (301, 'quick', clock_timestamp())")
        _run(cli)
        slow.commit()
    assert project.query("select id from raw.orders where id >= 300") == [(301,)]
    _run(cli)
    assert project.query("select id from raw.orders where id >= 300 order by id") == [(300,), (301,)]


def test_append_by_cursor_adds_only_what_is_new(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: append, cursor: updated_at"))
    _run(cli)
    _run(cli)
    orders.execute("insert into orders values (400, 'new', '2024-03-01'), (401, 'new', '2024-03-02')")
    _run(cli)
    _run(cli)
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(102, 102)]


def test_append_to_an_empty_table_misses_and_doubles_nothing(orders: Database, project: Project, cli: Cli) -> None:
    orders.execute("create table saved as table orders", "truncate orders")
    project.job(_job("mode: append, cursor: updated_at"))
    _run(cli)
    assert project.query("select count(*) from raw.orders") == [(0,)]
    orders.execute("insert into orders table saved")
    _run(cli)
    _run(cli)
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(100, 100)]


def test_append_without_a_cursor_adds_everything_again(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: append"))
    _run(cli)
    _run(cli)
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(200, 100)]


def test_full_replaces_the_table(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: full"))
    _run(cli)
    orders.execute("delete from orders where id > 10")
    _run(cli)
    assert project.query("select count(*) from raw.orders") == [(10,)]


def test_full_refresh_starts_an_incremental_table_over(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute("delete from orders where id = 1")
    _run(cli)
    assert project.query("select count(*) from raw.orders where id = 1") == [(1,)]
    _run(cli, "--full-refresh")
    assert project.query("select count(*) from raw.orders where id = 1") == [(0,)]


def test_a_range_is_replaced_and_the_mark_stays(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute(
        "update orders set note = 'repaired' where id between 20 and 60",
        "delete from orders where id = 30",
    )
    _run(cli, "--since", "2024-01-02", "--until", "2024-01-03")
    # Hours 24 to 47 of January: rows 24 up to, and not including, 48.
    assert project.query("select min(id), max(id), count(*) from raw.orders where note = 'repaired'") == [(24, 47, 23)]
    assert project.query("select count(*) from raw.orders where id = 30") == [(0,)]
    assert project.query("select count(distinct mark) from raw._runner_state") == [(1,)]


def test_a_range_needs_a_cursor(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: full"))
    answer = cli("backfill", "job.yml", "--since", "2024-01-02")
    assert answer.code == 2
    assert "public.orders" in answer.err
    assert not project.warehouse.exists()


def test_a_new_column_is_added_and_a_dropped_one_stays(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute("alter table orders add column extra int default 7", "alter table orders drop column note")
    orders.execute("insert into orders values (500, '2024-04-01', 8)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert "column extra added" in answer.err
    assert project.query("select id, note, extra from raw.orders where id in (1, 500) order by id") == [
        (1, "n1", None),
        (500, None, 8),
    ]


def test_a_widened_column_is_widened_in_place(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute("alter table orders alter column id type bigint")
    orders.execute("insert into orders values (5000000000, 'big', '2024-04-01')")
    _run(cli)
    assert project.query("select max(id), count(*) from raw.orders") == [(5000000000, 101)]


def test_an_incompatible_change_fails_that_table_with_the_difference(
    orders: Database, project: Project, cli: Cli
) -> None:
    project.job(_job("mode: incremental, cursor: updated_at"))
    _run(cli)
    orders.execute("alter table orders alter column note type int using 1")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "'note' was VARCHAR and is INTEGER now" in answer.out
    assert project.query("select count(*) from raw.orders where note = 'n5'") == [(1,)]


def test_freeze_refuses_a_new_column(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at") + "schema: freeze\n")
    _run(cli)
    orders.execute("alter table orders add column extra int", "insert into orders values (9000, 'x', '2024-04-01', 1)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "frozen" in answer.out
    assert project.query("select count(*) from raw.orders") == [(100,)]


def test_a_key_that_is_none_is_refused(orders: Database, project: Project, cli: Cli) -> None:
    orders.execute("update orders set note = 'same' where id < 3")
    project.job(_job("mode: incremental, cursor: updated_at, key: [note]"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "(note) is not unique" in answer.out


def test_a_masked_key_is_refused(orders: Database, project: Project, cli: Cli) -> None:
    project.job(_job("mode: incremental, cursor: updated_at, columns: {id: mask}"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "the key column 'id' is masked" in answer.err


def test_a_hashed_key_still_merges(orders: Database, project: Project, cli: Cli) -> None:
    project.environ["RUNNER_HASH_KEY"] = "pepper"
    project.job(_job("mode: incremental, cursor: updated_at, columns: {id: hash}"))
    _run(cli)
    orders.execute("update orders set note = 'changed', updated_at = '2024-02-01' where id = 5")
    _run(cli)
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(100, 100)]


def test_postgres_as_destination_merges_too(orders: Database, project: Project, cli: Cli, server: object) -> None:
    orders.execute("create schema warehouse")
    project.job(
        _job("mode: incremental, cursor: updated_at", '{type: postgres, dsn: "${SOURCE_DSN}", dataset: warehouse}')
    )
    _run(cli)
    orders.execute("update orders set note = 'changed', updated_at = '2024-02-01' where id = 5")
    orders.execute("alter table orders add column extra int")
    _run(cli)
    assert orders.rows("select count(*), count(distinct id) from warehouse.orders") == [(100, 100)]
    assert orders.rows("select note, extra from warehouse.orders where id = 5") == [("changed", None)]
