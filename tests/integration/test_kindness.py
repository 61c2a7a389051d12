"""What the source notices of us: the locks that are held, the files that queries spill to disk."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import asyncpg

from tests.conftest import Cli, Database, Project

_JOB = (
    'name: kind\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
    "limits: {chunk_rows: 20000, connections: 4}\ntables:\n  public.whole: {mode: full}\n"
    "  public.skewed: {mode: full}\n  public.keyless: {mode: full}\n"
    "  public.grown: {mode: incremental, cursor: at, key: [id], deletes: compare}\n"
)
_ROWS = "from generate_series(1, 120000) i"
_TABLES = (
    f"create table whole as select i as id, md5(i::text) as note {_ROWS}",
    "alter table whole add primary key (id)",
    f"create table skewed as select case when i % 10 = 0 then i::bigint * 1000000 else i end as id, i as n {_ROWS}",
    "alter table skewed add primary key (id)",
    f"create table keyless as select md5(i::text) as note {_ROWS}",
    f"create table grown as select i as id, timestamptz '2024-01-01' + make_interval(secs => i) as at {_ROWS}",
    "alter table grown add primary key (id)",
    "analyze",
)
_LOCKS = (
    "select distinct l.mode from pg_locks l join pg_stat_activity a using (pid) "
    "where a.application_name = 'orchestra-runner' and l.locktype = 'relation' and l.relation >= 16384"
)


_SPILLED = "select temp_files, temp_bytes from pg_stat_database where datname = current_database()"


def _spilled(database: Database) -> list[tuple[int, int]]:
    database.execute("select pg_stat_force_next_flush()")
    return database.rows(_SPILLED)


@contextlib.contextmanager
def _watched(database: Database, seen: set[str]) -> Iterator[None]:
    """Look at the locks that we hold on the user's tables, again and again."""
    done = threading.Event()

    def watch() -> None:
        async def run() -> None:
            connection = await asyncpg.connect(database.dsn)
            while not done.is_set():
                seen.update(row["mode"] for row in await connection.fetch(_LOCKS))
                await asyncio.sleep(0.001)
            await connection.close()

        asyncio.run(run())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def test_reading_holds_no_lock_above_access_share_and_spills_nothing(
    project: Project, database: Database, cli: Cli
) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    # Whatever sorts or hashes one of these tables goes to disk then.
    database.execute(*_TABLES, f"alter database {database.name} set work_mem = '1MB'")
    project.job(_JOB)
    before = _spilled(database)
    seen: set[str] = set()
    with _watched(database, seen):
        for command in ("backfill", "backfill", "verify"):
            answer = cli(command, "job.yml", *(("--verify", "hash") if command == "backfill" else ()))
            assert answer.code == 0, answer.out + answer.err
    assert seen == {"AccessShareLock"}
    assert project.query("select count(*) from raw.skewed") == [(120000,)]
    assert _spilled(database) == before
