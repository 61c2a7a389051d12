"""Interleavings that once lost, doubled or mixed rows, or stopped a run; each must stay right."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable

import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.load import ChunkLoad, Lease, Publication, TableWork, Target, TargetColumn
from runner.writers.duckdb import DuckDBWriter
from tests.conftest import Cli, Database, Project

_EVENTS = (
    "create table ev (id int primary key, at timestamptz not null)",
    "create index on ev (at)",
    "insert into ev select i, timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => i) "
    "from generate_series(1, 100) i",
)
_MORE_EVENTS = (
    "insert into ev select i, timestamptz '2024-01-01 00:00:00+00' + make_interval(hours => i) "
    "from generate_series(101, 110) i"
)
_BIG = (
    "create table o as select i as id, 'old' as v from generate_series(1, 20000) i",
    "alter table o add primary key (id)",
    "analyze o",
    "create function slow(int) returns bool language sql volatile as "
    "'select case when $1 % 20 = 0 then pg_sleep(0.004) is not null else true end'",
)


def _job(tables: str, destination: str = "{type: duckdb, dataset: raw}", more: str = "") -> str:
    return (
        f'name: edges\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\ndestination: {destination}\n{more}'
        f"tables:\n{tables}"
    )


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    return database


def _eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def _loaded(project: Project) -> int:
    for ledger in project.folder.glob(".runner/runs/*/ledger.sqlite"):
        try:
            with sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True) as connection:
                found = connection.execute("select count(*) from chunks where state = 'loaded'").fetchone()[0]
            connection.close()
        except sqlite3.Error:
            return 0
        return int(found)
    return 0


def test_a_run_that_waited_for_a_lease_reads_the_mark_afterwards(source: Database, project: Project, cli: Cli) -> None:
    source.execute(*_EVENTS)
    project.job(
        _job("  public.ev: {mode: append, cursor: at}\n", '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}')
    )
    assert cli("backfill", "job.yml").code == 0
    source.execute(_MORE_EVENTS)
    with psycopg2.connect(source.dsn) as block:
        block.cursor().execute("lock table raw.ev in share mode")
        task = project.start("task", "job.yml", "--table", "public.ev")
        _eventually(lambda: source.rows("select 1 from raw._runner_leases"))
        waiting = project.start("backfill", "job.yml")
        time.sleep(1.5)
        block.rollback()
    block.close()
    for process in (task, waiting):
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    assert source.rows("select count(*), count(distinct id) from raw.ev") == [(110, 110)]


def test_a_range_past_the_mark_of_an_append_table_is_refused(source: Database, project: Project, cli: Cli) -> None:
    source.execute(*_EVENTS)
    project.job(_job("  public.ev: {mode: append, cursor: at}\n"))
    assert cli("backfill", "job.yml").code == 0
    source.execute(_MORE_EVENTS)
    answer = cli("backfill", "job.yml", "--since", "2024-01-01")
    assert answer.code == 1
    assert "reaches past the mark" in answer.out
    assert cli("backfill", "job.yml", "--since", "2024-01-02", "--until", "2024-01-03").code == 0
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*), count(distinct id) from raw.ev") == [(110, 110)]


def test_a_table_dropped_at_the_destination_is_read_as_a_whole(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        "create table o (id int primary key, note text, at timestamptz not null)",
        "insert into o select i, i::text, timestamptz '2024-01-01' + make_interval(hours => i) from generate_series(1, 100) i",
    )
    project.job(_job("  public.o: {mode: incremental, cursor: at}\n"))
    assert cli("backfill", "job.yml").code == 0
    source.execute("alter table o alter note type int using note::int", "insert into o values (101, 5, '2024-03-01')")
    assert cli("backfill", "job.yml").code == 1
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("drop table raw.o")
    assert cli("backfill", "job.yml", "--failed").code == 0
    assert project.query("select count(*) from raw.o") == [(101,)]


_DIES_AFTER_REPLAN = """
import os, sys
from runner import mover
from runner.cli import main
original = mover.Mover._replan
async def dying(self, item, changed):
    await original(self, item, changed)
    os.kill(os.getpid(), 9)
mover.Mover._replan = dying
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("rows", [20000, 19990])
def test_killed_after_planning_anew_it_is_still_one_picture(
    source: Database, project: Project, cli: Cli, rows: int
) -> None:
    source.execute(*_BIG)
    project.job(
        _job("  public.o: {mode: full, where: 'slow(id)'}\n", more="limits: {chunk_rows: 5000, connections: 1}\n")
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _DIES_AFTER_REPLAN, "backfill", "job.yml"],
        cwd=project.folder,
        env={**os.environ, **project.environ},
        stderr=subprocess.DEVNULL,
    )
    _eventually(lambda: _loaded(project))
    source.execute(f"begin; truncate o; insert into o select i, 'new' from generate_series(1, {rows}) i; commit")
    assert process.wait(60) == -signal.SIGKILL
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select v, count(*) from raw.o group by 1") == [("new", rows)]


def test_a_column_dropped_and_added_again_in_mid_table_is_noticed(source: Database, project: Project, cli: Cli) -> None:
    source.execute(*_BIG)
    project.job(
        _job("  public.o: {mode: full, where: 'slow(id)'}\n", more="limits: {chunk_rows: 5000, connections: 1}\n")
    )
    process = project.start("backfill", "job.yml")
    _eventually(lambda: _loaded(project))
    source.execute("alter table o drop column v; alter table o add column v text")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert project.query("select count(*), count(v) from raw.o") == [(20000, 0)]


def test_a_condition_on_another_table_is_not_taken_for_unchanged(source: Database, project: Project, cli: Cli) -> None:
    source.execute(*_BIG, "create table active as select 'odd' as kind")
    where = "(case when id % 2 = 1 then 'odd' else 'even' end) in (select kind from public.active) and slow(id + 1)"
    project.job(
        _job(f'  public.o: {{mode: full, where: "{where}"}}\n', more="limits: {chunk_rows: 5000, connections: 1}\n")
    )
    process = project.start("backfill", "job.yml")
    _eventually(lambda: _loaded(project))
    process.kill()
    process.communicate()
    source.execute(
        "update active set kind = 'even'",
        "create or replace function slow(int) returns bool language sql as 'select true'",
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select count(*), count(*) filter (where id % 2 = 1) from raw.o") == [(10000, 0)]


def test_a_late_writer_of_local_time_is_waited_for(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        f"alter database {source.name} set timezone = 'America/New_York'",
    )
    source.execute(
        "create table o (id int primary key, at timestamp not null default now())", "insert into o values (1)"
    )
    project.job(_job("  public.o: {mode: incremental, cursor: at}\n"))
    with psycopg2.connect(source.dsn) as late:
        late.cursor().execute("insert into o values (2)")
        time.sleep(0.05)
        source.execute("insert into o values (3)")
        answer = cli("backfill", "job.yml")
        assert answer.code == 0
        assert "rows committed late may be missed" in answer.err
    late.close()
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select id from raw.o order by 1") == [(1,), (2,), (3,)]


def test_a_range_after_a_change_of_cursor_brings_no_foreign_mark(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        "create table o (id int primary key, ver int not null)",
        "insert into o select i, 1 from generate_series(1, 100) i",
    )
    project.job(_job("  public.o: {mode: incremental, cursor: id}\n"))
    assert cli("backfill", "job.yml").code == 0
    source.execute("update o set ver = 2 where id <= 50")
    project.job(_job("  public.o: {mode: incremental, cursor: ver}\n"))
    assert cli("backfill", "job.yml", "--since", "1", "--until", "2").code == 0
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) filter (where ver = 2), count(*) from raw.o") == [(50, 100)]


@pytest.mark.parametrize("destination", ["duckdb", "postgres"])
def test_question_marks_and_percent_signs_are_only_signs(
    source: Database, project: Project, cli: Cli, destination: str
) -> None:
    source.execute('create table q (id int primary key, "ok? 100%" bool)', "insert into q values (1, true)")
    spec = (
        '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'
        if destination == "postgres"
        else "{type: duckdb, dataset: raw}"
    )
    project.job(_job("  public.*: {mode: full}\n", spec))
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    if destination == "postgres":
        source.execute("comment on table raw.q is 'what is this? 100%'")
        assert cli("backfill", "job.yml").code == 0


def test_one_tables_grant_fails_that_table_only(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        "create role loader_role login password 'pw'", f"grant create on database {source.name} to loader_role"
    )
    for name in "abcdef":
        source.execute(f"create table {name} as select 1 as id", f"grant select on {name} to loader_role")
    try:
        project.environ["SOURCE_DSN"] = source.server.dsn(source.name, user="loader_role", password="pw")
        project.job(_job("  public.*: {mode: full}\n", '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'))
        assert cli("backfill", "job.yml").code == 0
        source.execute("alter table raw.c owner to postgres")
        answer = cli("backfill", "job.yml")
        assert answer.code == 1
        assert answer.err.count("table_failed") == 1
        counts = dict(source.rows("select table_name, count(*) from raw._runner_state group by 1"))
        assert counts == {"a": 2, "b": 2, "c": 1, "d": 2, "e": 2, "f": 2}
    finally:
        source.execute("drop owned by loader_role cascade", "drop role loader_role")


def test_failed_tables_give_their_spool_back(source: Database, project: Project) -> None:
    entries = ""
    for name in "abc":
        source.execute(
            f"create table {name} (id int primary key, note text, at timestamptz not null)",
            f"insert into {name} select i, md5(i::text) || md5((i + 7)::text), timestamptz '2024-01-01' + "
            f"make_interval(secs => i) from generate_series(1, 15000) i",
        )
        entries += f"  public.{name}: {{mode: incremental, cursor: at}}\n"
    source.execute("create table d as select 1 as id")
    project.job(_job(entries))
    first = project.start("backfill", "job.yml")
    assert first.wait(60) == 0, first.communicate()[1]
    first.communicate()
    for name in "abc":
        source.execute(f"alter table {name} add extra int", f"update {name} set at = at + interval '1 year'")
    project.job(_job(entries + "  public.d: {mode: full}\n", more="limits: {disk: 2MiB, tables: 1}\nschema: freeze\n"))
    second = project.start("backfill", "job.yml")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "public.d: published" in err


def test_a_late_chunk_of_a_run_without_the_lease_touches_nothing(project: Project) -> None:
    writer = DuckDBWriter(project.warehouse, "raw", 2**28)
    writer.prepare()
    file = project.folder / "x.parquet"
    pq.write_table(pa.table({"id": pa.array([1, 2, 3], pa.int64())}), file)
    target = Target("o", (TargetColumn("id", "id", pa.int64(), True),), source="s", source_table="o")
    holder, late = Lease("j", "holder", "t1", "h1", 1), Lease("j", "late", "t2", "h2", 2)
    assert writer.acquire(holder, ["o"]) == []

    def load(lease: Lease, chunk: str) -> object:
        return writer.apply(lease, [TableWork(target, [ChunkLoad(chunk, 1, (file,), 3, 100)])])[0].error

    assert load(holder, "c1") is None
    assert load(late, "x9") is not None
    assert load(holder, "c2") is None
    publication = Publication("1", "full", True, {"c1": 3, "c2": 3}, "d", verify=False)
    assert writer.apply(holder, [TableWork(target, [], publication)])[0].error is None
    writer.close()
    assert project.query("select count(*) from raw.o") == [(6,)]


def test_some_tables_of_an_unfinished_run_leave_the_others_as_they_are(
    source: Database, project: Project, cli: Cli
) -> None:
    source.execute(*_BIG, "create table small as select 1 as one")
    project.job(
        _job(
            "  public.o: {mode: full, where: 'slow(id)'}\n  public.small: {mode: full}\n",
            more="limits: {chunk_rows: 5000, connections: 1, tables: 1}\n",
        )
    )
    process = project.start("backfill", "job.yml")
    _eventually(lambda: _loaded(project))
    process.kill()
    process.communicate()
    assert cli("backfill", "job.yml", "--tables", "public.small").code == 0
    assert "interrupted" in cli("runs").out
    assert cli("backfill", "job.yml").code == 0
    assert len(list(project.folder.glob(".runner/runs/*"))) == 1
    assert project.query("select count(*), count(distinct id) from raw.o") == [(20000, 20000)]


def test_a_killed_full_refresh_goes_on_with_the_same_command(source: Database, project: Project) -> None:
    source.execute(*_BIG)
    project.job(
        _job("  public.o: {mode: full, where: 'slow(id)'}\n", more="limits: {chunk_rows: 5000, connections: 1}\n")
    )
    process = project.start("backfill", "job.yml", "--full-refresh")
    _eventually(lambda: _loaded(project))
    process.kill()
    process.communicate()
    again = project.start("backfill", "job.yml", "--full-refresh")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "resumes" in err
    assert len(list(project.folder.glob(".runner/runs/*"))) == 1


def test_connections_stay_within_their_limit(source: Database, project: Project) -> None:
    for number in range(12):
        source.execute(
            f"create table t{number} (id int primary key, at timestamptz not null default now())",
            f"insert into t{number} select i from generate_series(1, 200) i",
        )
    project.job(_job("  public.*: {mode: incremental, cursor: at}\n", more="limits: {connections: 2, tables: 12}\n"))
    process = project.start("backfill", "job.yml")
    most = 0
    while process.poll() is None:
        most = max(
            most,
            source.rows(
                "select count(*) from pg_stat_activity where application_name = 'orchestra-runner' "
                f"and datname = '{source.name}'"
            )[0][0],
        )
    process.communicate()
    assert process.returncode == 0
    assert most <= 3, "two, and the one that holds the snapshot"


def test_ctrl_c_ends_the_wait_for_a_lease(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create table c as select 1 as id")
    project.job(_job("  public.c: {mode: full}\n", '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'))
    assert cli("backfill", "job.yml").code == 0
    source.execute(
        "insert into raw._runner_leases values ('c', 'other', 'tok', 'elsewhere', 1, extract(epoch from now()) + 3000)"
    )
    process = project.start("backfill", "job.yml")
    _eventually(lambda: len(list(project.folder.glob(".runner/runs/*"))) == 2)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 3, err
    assert "Traceback" not in err
