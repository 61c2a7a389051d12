"""What the destinations promise: all at once, grants and views kept, leases, dlt goes on."""

from __future__ import annotations

import datetime
import json
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import dlt
import duckdb
import psycopg2
import pyarrow as pa
import pytest

from runner.errors import DiskFull, LeaseLost
from runner.load import Lease, Publication, TableWork, Target, TargetColumn
from runner.writers.duckdb import DuckDBWriter
from runner.writers.postgres import PostgresWriter
from runner.writers.transactional import TransactionalWriter
from tests.conftest import Cli, Database, Project

_POSTGRES = """
name: copy
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: {type: postgres, dsn: "${SOURCE_DSN}", dataset: warehouse}
tables: {public.big: {mode: full}}
"""


@pytest.fixture
def big(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(_POSTGRES)
    database.execute("create table big as select i as id, 'first' as note from generate_series(1, 50000) i")
    return database


def test_readers_see_the_old_table_or_the_new_one(big: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    big.execute(
        "update big set note = 'second'", "insert into big select i, 'second' from generate_series(50001, 60000) i"
    )
    seen: set[tuple[object, ...]] = set()
    stop = threading.Event()

    def read() -> None:
        connection = psycopg2.connect(big.dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("select count(*), min(note), max(note) from warehouse.big")
                seen.add(cursor.fetchone() or ())
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert cli("backfill", "job.yml").code == 0
    finally:
        time.sleep(0.05)
        stop.set()
        reader.join()
    assert seen <= {(50000, "first", "first"), (60000, "second", "second")}
    assert (60000, "second", "second") in seen


def test_a_full_refresh_keeps_grants_owner_and_comment(big: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    big.execute(
        "create role analyst_role",
        "grant select on warehouse.big to analyst_role",
        "grant update (note) on warehouse.big to analyst_role",
        "comment on table warehouse.big is 'It''s ours'",
    )
    try:
        assert cli("backfill", "job.yml").code == 0
        assert big.rows(
            "select has_table_privilege('analyst_role', 'warehouse.big', 'select'), "
            "has_column_privilege('analyst_role', 'warehouse.big', 'note', 'update'), "
            "obj_description('warehouse.big'::regclass)"
        ) == [(True, True, "It's ours")]
    finally:
        big.execute("drop owned by analyst_role", "drop role analyst_role")


def test_a_full_refresh_keeps_views_and_indexes(big: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    big.execute(
        "create view warehouse.few as select * from warehouse.big where id < 10",
        "create index few_index on warehouse.big (id)",
        "delete from big where id = 5",
        "alter table big add column extra int default 3",
    )
    assert cli("backfill", "job.yml").code == 0
    assert big.rows("select count(*) from warehouse.few") == [(8,)]
    assert big.rows("select to_regclass('warehouse.few_index') is not null") == [(True,)]
    assert big.rows("select distinct extra from warehouse.big") == [(3,)]


def test_nothing_but_our_own_tables_is_left_beside_the_data(big: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    names = {name for (name,) in big.rows("select tablename from pg_tables where schemaname = 'warehouse'")}
    assert names == {
        "big", "_dlt_loads", "_dlt_version", "_runner_chunks", "_runner_leases", "_runner_plans", "_runner_runs",
        "_runner_schemas", "_runner_state",
    }  # fmt: skip
    assert big.rows("select count(*) from warehouse._runner_leases") == [(0,)]


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_an_ordinary_dlt_pipeline_goes_on_with_our_tables(
    project: Project, database: Database, cli: Cli, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    project.environ["SOURCE_DSN"] = database.dsn
    where = (
        "{type: duckdb, dataset: raw}" if kind == "duckdb" else '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}'
    )
    project.job(
        f'name: copy\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\ndestination: {where}\n'
        "tables: {public.items: {mode: incremental, cursor: at}}\n"
    )
    database.execute(
        "create table items (id bigint primary key, name text, price numeric(10, 2), at timestamptz not null)",
        "insert into items select i, 'n' || i, i / 3.0, timestamptz '2024-01-01' + make_interval(secs => i) "
        "from generate_series(1, 100) i",
    )
    assert cli("backfill", "job.yml").code == 0
    target = (
        dlt.destinations.duckdb(str(project.warehouse))
        if kind == "duckdb"
        else dlt.destinations.postgres(credentials=database.dsn)
    )
    pipeline = dlt.pipeline("raw", destination=target, dataset_name="raw", pipelines_dir=str(project.folder / "dlt"))
    at = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    rows = pa.table(
        {
            "id": pa.array([5, 500]),
            "name": ["by dlt", "new by dlt"],
            "at": pa.array([at, at], pa.timestamp("us", "UTC")),
        }
    )
    merge = {"disposition": "merge", "strategy": "upsert"}
    pipeline.run(dlt.resource([rows], name="items", primary_key="id", write_disposition=merge))
    query = "select count(*), count(distinct id), count(*) filter (where name like '%by dlt') from raw.items"
    found = project.query(query) if kind == "duckdb" else database.rows(query)
    assert found == [(101, 101, 2)]


def test_a_lease_of_a_living_run_is_respected_and_a_dead_one_taken_over(project: Project) -> None:
    first = DuckDBWriter(project.warehouse, "raw", 2**28)
    first.prepare()
    alive = Lease("job", "run-a", "token-a", "elsewhere", 1)
    assert first.acquire(alive, ["t", "u"]) == []
    other = Lease("job", "run-b", "token-b", "here", 2)
    held = first.acquire(other, ["t"])
    assert [(one.table, one.run, one.host) for one in held] == [("t", "run-a", "elsewhere")]
    assert 0 < held[0].seconds <= 60
    # The same run takes over at once; so does anybody once the holder's process is gone on this host.
    assert first.acquire(Lease("job", "run-a", "token-c", "elsewhere", 3), ["t"]) == []
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = Lease("job", "run-d", "token-d", socket.gethostname(), gone.pid)
    assert first.acquire(dead, ["v"]) == []
    assert first.acquire(Lease("job", "run-e", "token-e", socket.gethostname(), 1), ["v"]) == []


def test_a_run_skips_waits_or_fails_where_a_table_is_leased(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute("create table t as select 1 as id", "create table u as select 1 as id")
    job = (
        'name: busy\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "tables:\n  public.u:\n  public.t: {on_busy: HOW}\n"
    )
    writer = DuckDBWriter(project.warehouse, "raw", 2**28)
    writer.prepare()
    writer.acquire(Lease("other", "run-x", "token-x", "elsewhere", 1), ["t"])
    for how, code in (("skip", 0), ("fail", 1)):
        project.job(job.replace("HOW", how))
        answer = cli("backfill", "job.yml")
        assert answer.code == code, answer.err
        assert "run-x" in answer.out + answer.err
        assert project.query("select count(*) from duckdb_tables() where table_name = 't'") == [(0,)]
        assert project.query("select count(*) from raw.u") == [(1,)]


def test_an_expired_holder_cannot_publish(project: Project, database: Database, cli: Cli) -> None:
    """The token is checked inside the publishing transaction."""
    writer = DuckDBWriter(project.warehouse, "raw", 2**28)
    writer.prepare()
    late = Lease("job", "late", "token-late", "elsewhere", 1)
    writer.acquire(late, ["t"])
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("update raw._runner_leases set expires_at = 0")
    assert writer.acquire(Lease("job", "next", "token-next", "elsewhere", 1), ["t"]) == []
    target = Target("t", (TargetColumn("id", "id", pa.int64(), True),))
    work = TableWork(target, publication=Publication("1.0", "full", True, {}, "d"))
    outcome = writer.apply(late, [work])[0]
    writer.rest()
    assert isinstance(outcome.error, LeaseLost)
    assert project.query("select count(*) from duckdb_tables() where table_name = 't'") == [(0,)]


# Small tables share a transaction.


@pytest.fixture
def several(project: Project, database: Database) -> Database:
    """Six small tables, and a job for either destination."""
    project.environ["SOURCE_DSN"] = database.dsn
    for name in "abcdef":
        database.execute(f"create table {name} as select i as id from generate_series(1, 100) i")
    return database


def _several(project: Project, kind: str) -> None:
    place = "duckdb, dataset: raw" if kind == "duckdb" else 'postgres, dsn: "${SOURCE_DSN}", dataset: raw'
    project.job(
        f'name: several\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\ndestination: {{type: {place}}}\n'
        "tables: {public.*: {mode: full}}\n"
    )


def _transactions(monkeypatch: pytest.MonkeyPatch, writer: type[TransactionalWriter]) -> list[list[str]]:
    """Note the tables of each transaction, and give the loader time to gather them."""
    noted: list[list[str]] = []
    begin = writer._transaction

    def noting(self: Any, cursor: Any, lease: Lease, works: list[TableWork]) -> Any:
        noted.append([work.target.name for work in works])
        return begin(self, cursor, lease, works)

    monkeypatch.setattr(writer, "_transaction", noting)  # the real one, watched
    monkeypatch.setattr("runner.loader._LINGER_SECONDS", 0.5)  # a setting: so that packages fill
    return noted


def test_readers_never_wait_for_another_table_of_the_same_package(
    several: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PostgreSQL a swap locks readers out until the commit: only tables that are new share one."""
    _several(project, "postgres")
    noted = _transactions(monkeypatch, PostgresWriter)
    assert cli("backfill", "job.yml").code == 0
    assert max(map(len, noted)) > 1
    noted.clear()
    assert cli("backfill", "job.yml").code == 0
    assert len(noted) == 6
    assert max(map(len, noted)) == 1


def test_of_tables_that_share_a_transaction_those_that_can_get_through(
    several: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _several(project, "duckdb")
    noted = _transactions(monkeypatch, DuckDBWriter)
    copy = DuckDBWriter.copy

    def full(self: Any, cursor: Any, stage: str, target: Target, chunks: Any, *, named: bool) -> None:
        if target.name == "c":
            raise DiskFull("No space.")
        copy(self, cursor, stage, target, chunks, named=named)

    monkeypatch.setattr(DuckDBWriter, "copy", full)  # no disk can be filled for one table alone
    assert cli("backfill", "job.yml").code == 1
    assert any("c" in group and len(group) > 1 for group in noted)
    published = {row[0] for row in project.query("select table_name from raw._runner_state")}
    assert "c" not in published
    before = [name for group in noted if len(group) == 1 for (name,) in [group] if name != "c"]
    assert set(before) <= published, "what came before the full disk is published"


@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_the_newest_schema_of_dlt_is_ours_whatever_the_clocks_say(
    several: Database, project: Project, cli: Cli, kind: str
) -> None:
    _several(project, kind)
    assert cli("backfill", "job.yml", "--tables", "public.a").code == 0
    ahead = "update raw._dlt_version set inserted_at = inserted_at + interval '1 hour'"
    newest = "select schema from raw._dlt_version order by inserted_at desc limit 1"
    if kind == "duckdb":
        with duckdb.connect(str(project.warehouse)) as connection:
            connection.execute(ahead)
    else:
        several.execute(ahead)
    assert cli("backfill", "job.yml", "--tables", "public.b").code == 0
    ((schema,),) = project.query(newest) if kind == "duckdb" else several.rows(newest)
    assert {"a", "b"} <= set(json.loads(schema)["tables"])


def test_a_dataset_that_lacks_a_record_of_a_later_version_gets_it(
    several: Database, project: Project, cli: Cli
) -> None:
    _several(project, "postgres")
    assert cli("backfill", "job.yml", "--tables", "public.a").code == 0
    several.execute("drop table raw._dlt_version", "drop table raw._runner_schemas", "drop table raw._runner_runs")
    answer = cli("backfill", "job.yml", "--tables", "public.b")
    assert (answer.code, "schema was not updated" in answer.err) == (0, False)
    assert several.rows("select count(*) from raw._dlt_version") == [(1,)]
