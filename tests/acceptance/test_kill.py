"""Real processes, killed with SIGKILL and stopped by signals: the same command ends what was begun."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import Database, Project

_JOB = """
name: killed
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: DESTINATION
limits: {chunk_rows: 4000, connections: 2, tables: 3}
tables:
  public.wide: {mode: full}
  public.events: {mode: append, cursor: at}
  public.accounts: {mode: incremental, cursor: updated_at}
  public.loose: {mode: append}
"""
_FILL = """
create table wide (id int primary key, a text, b text, c text);
insert into wide select i, md5(i::text), md5((i + 1)::text), md5((i + 2)::text) from generate_series(1, 60000) i;
create table events (id int, at timestamptz not null, note text);
insert into events select i, timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i), 'e' || i
from generate_series(1, 50000) i;
create index on events (at);
create table accounts (id int primary key, balance numeric(12, 2), updated_at timestamptz not null);
insert into accounts select i, i, timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i)
from generate_series(1, 40000) i;
create index on accounts (updated_at);
create table loose as select i as n, md5(i::text) as m from generate_series(1, 30000) i;
analyze;
"""
_TABLES = {
    "wide": "select id, a, b, c from {} order by 1",
    "events": 'select id, "at", note from {} order by 1',
    "accounts": "select id, balance, updated_at from {} order by 1",
    "loose": "select n, m from {} order by 1",
}


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(_FILL)
    return database


def _until_chunks(project: Project, process: object, count: int) -> None:
    """Wait until so many chunks are on record, or the process ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:  # type: ignore[attr-defined]
        for ledger in project.folder.glob(".runner/runs/*/ledger.sqlite"):
            try:
                with sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True) as connection:
                    done = connection.execute("select count(*) from chunks where state <> 'planned'").fetchone()[0]
                connection.close()
            except sqlite3.Error:
                continue
            if done >= count:
                return
        time.sleep(0.005)


def _values(project: Project, source: Database, destination: str, table: str) -> list[tuple[object, ...]]:
    query = _TABLES[table].format(f"raw.{table}")
    return source.rows(query) if destination == "postgres" else project.query(query)


@pytest.mark.parametrize("destination", ["duckdb", "postgres"])
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_nothing_is_lost_and_nothing_is_twice(
    project: Project, source: Database, destination: str, seed: int
) -> None:
    spec = {
        "duckdb": "{type: duckdb, dataset: raw}",
        "postgres": '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}',
    }
    project.job(_JOB.replace("DESTINATION", spec[destination]))
    chance = random.Random(seed)
    kills = 0
    for _ in range(12):
        process = project.start("backfill", "job.yml")
        _until_chunks(project, process, chance.randrange(1, 30) + 4 * kills)
        time.sleep(chance.random() * 0.15)
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break  # it ended first
        kills += 1
        # The source changes between the attempts; one run still shows one picture of it.
        source.execute(
            f"update wide set a = 'changed {kills}' where id % 1000 = {kills}",
            f"delete from wide where id = {20000 + kills}",
            f"insert into wide values ({70000 + kills}, 'new', 'new', 'new')",
        )
    else:
        process = project.start("backfill", "job.yml")
        _, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
    assert kills >= 1
    assert len(list(project.folder.glob(".runner/runs/*"))) == 1
    for table, query in _TABLES.items():
        if table == "wide":
            continue  # it changed meanwhile, and may have been published before: see below
        assert _values(project, source, destination, table) == source.rows(query.format(f"public.{table}")), table
    process = project.start("backfill", "job.yml", "--tables", "public.wide")
    process.communicate(timeout=60)
    assert _values(project, source, destination, "wide") == source.rows(_TABLES["wide"].format("public.wide"))


def test_what_was_loaded_is_not_read_again(project: Project, source: Database) -> None:
    """L5 within what one epoch after the other can prove: unchanged chunks are not copied again."""
    project.job(_JOB.replace("DESTINATION", "{type: duckdb, dataset: raw}"))
    process = project.start("backfill", "job.yml", "--tables", "public.wide")
    _until_chunks(project, process, 6)
    # It is at work as long as it is there, and does not come to its end while we ask.
    process.send_signal(signal.SIGSTOP)
    assert "running" in project.start("runs").communicate(timeout=20)[0]
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "killed" in project.start("runs").communicate(timeout=20)[0]
    last = project.start("backfill", "job.yml", "--tables", "public.wide")
    _, err = last.communicate(timeout=60)
    assert last.returncode == 0, err
    assert "resumes" in err
    lines = next(project.folder.glob(".runner/runs/*/events.jsonl")).read_text().splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    spooled = [event["chunk"] for event in events if event["action"] == "chunk_spooled"]
    assert len(spooled) < 2 * len(set(spooled)) - 3, "resumed, yet nearly everything was read twice"


def test_a_signal_drains_leaves_exit_3_and_the_same_command_goes_on(project: Project, source: Database) -> None:
    project.job(_JOB.replace("DESTINATION", "{type: duckdb, dataset: raw}"))
    process = project.start("backfill", "job.yml")
    _until_chunks(project, process, 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "run the same command again" in out
    assert "Traceback" not in err
    runs = project.start("runs")
    assert "interrupted" in runs.communicate(timeout=20)[0]
    again = project.start("backfill", "job.yml")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert len(list(project.folder.glob(".runner/runs/*"))) == 1
    assert _values(project, source, "duckdb", "wide") == source.rows(_TABLES["wide"].format("public.wide"))


def test_two_signals_stop_at_once(project: Project, source: Database) -> None:
    project.job(_JOB.replace("DESTINATION", "{type: duckdb, dataset: raw}"))
    process = project.start("backfill", "job.yml")
    _until_chunks(project, process, 2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode in (0, 3), err
    assert "Traceback" not in err


def test_a_second_run_of_the_same_job_is_refused_with_the_pid(project: Project, source: Database) -> None:
    project.job(_JOB.replace("DESTINATION", "{type: duckdb, dataset: raw}"))
    with psycopg2.connect(source.dsn) as holder:
        holder.cursor().execute("lock table wide in access exclusive mode")
        first = project.start("backfill", "job.yml")
        _until_chunks(project, first, 1)
        second = project.start("backfill", "job.yml")
        _, err = second.communicate(timeout=20)
        assert second.returncode == 3
        assert f"pid {first.pid}" in err
        holder.rollback()
    holder.close()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err


def test_the_leader_of_the_snapshot_is_killed_while_rows_move(project: Project, source: Database) -> None:
    project.job(_JOB.replace("DESTINATION", "{type: duckdb, dataset: raw}"))
    process = project.start("backfill", "job.yml")
    _until_chunks(project, process, 3)
    source.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orchestra-runner'",
        "update wide set a = 'after' where id % 777 = 0",
    )
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert _values(project, source, "duckdb", "wide") in (
        source.rows(_TABLES["wide"].format("public.wide")),
        [
            (r[0], r[1] if r[1] != "after" else _md5(r[0]), r[2], r[3])
            for r in source.rows(_TABLES["wide"].format("wide"))
        ],
    )


def _md5(number: object) -> str:
    import hashlib

    return hashlib.md5(str(number).encode()).hexdigest()


def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "from connectors.testing.server import PostgresServer\nimport time\n"
        "with PostgresServer() as server:\n    print(server._process.pid, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the server outlived its parent")
