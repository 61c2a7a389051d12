"""Bad input: a clear error, the right exit code, and nothing lost."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from connectors.testing.server import PostgresServer
from tests.conftest import Cli, Database, Project, during_copy

_JOB = """
name: refusals
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: {type: duckdb, dataset: raw}
retry: {attempts: 2, max_wait: 100ms}
tables:
"""


def _job(*lines: str) -> str:
    return _JOB + "".join(f"  {line}\n" for line in lines)


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(_job("public.*:"))
    database.execute("create table good as select i as id from generate_series(1, 100) i")
    return database


def _good_arrived(project: Project) -> bool:
    return project.query("select count(*) from raw.good") == [(100,)]


def test_wrong_host(source: Database, project: Project, cli: Cli) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        project.environ["SOURCE_DSN"] = f"postgresql://u:hunter22@127.0.0.1:{unused.getsockname()[1]}/x"
        answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "127.0.0.1" in answer.err
    assert "refused" in answer.err.lower()
    assert "Traceback" not in answer.err
    assert "hunter22" not in answer.err


def test_no_such_host_name(source: Database, project: Project, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = "postgresql://u:p@no-such-host.invalid/x"
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "no-such-host.invalid" in answer.err


def test_wrong_password(source: Database, project: Project, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = source.server.dsn(source.name, password="hunter22")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "password authentication failed" in answer.err
    assert "hunter22" not in answer.err
    assert not project.warehouse.exists()


def test_a_dsn_that_cannot_be_read_is_not_repeated(source: Database, project: Project, cli: Cli) -> None:
    for dsn in ("postgresql://u:hunter22#sec/ret@h/x", "hunter22secret"):
        project.environ["SOURCE_DSN"] = dsn
        answer = cli("backfill", "job.yml")
        assert answer.code == 2
        assert "The DSN of the source cannot be read" in answer.err
        assert "hunter22" not in answer.err
    project.environ |= {"SOURCE_DSN": source.dsn, "DEST_DSN": "postgresql://loader:p@hunter22:pw@127.0.0.1:5432/x"}
    project.job(
        _job("public.*:").replace("{type: duckdb, dataset: raw}", '{type: postgres, dsn: "${DEST_DSN}", dataset: raw}')
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "hunter22" not in answer.err


def test_a_warehouse_that_another_program_has_open_is_exit_3(source: Database, project: Project) -> None:
    duckdb.connect(str(project.warehouse)).close()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb, sys; c = duckdb.connect({str(project.warehouse)!r}); print(1, flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    job = project.folder / "job.yml"
    job.write_text(re.sub(r"retry: .*", "retry: {deadline: 2s}", job.read_text()))
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=60)
    holder.communicate()
    assert process.returncode == 3, err
    assert "has the DuckDB file open" in err


def test_missing_database(source: Database, project: Project, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = source.server.dsn("nowhere")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "nowhere" in answer.err


def test_a_table_without_a_grant_fails_alone_and_doctor_prints_the_grant(
    source: Database, project: Project, cli: Cli
) -> None:
    source.execute(
        "create table secret (id int)",
        "create role reader_role login password 'pw'",
        "grant select on good to reader_role",
    )
    try:
        project.environ["SOURCE_DSN"] = source.server.dsn(source.name, user="reader_role", password="pw")
        answer = cli("backfill", "job.yml")
        assert answer.code == 1
        assert "may not read public.secret" in answer.out
        assert _good_arrived(project)
        doctor = cli("doctor", "job.yml")
        assert doctor.code == 1
        assert 'grant select on "public"."secret" to "reader_role"' in doctor.out
    finally:
        source.execute("drop owned by reader_role", "drop role reader_role")


def test_a_table_that_is_not_there_fails_alone_with_the_nearest_name(
    source: Database, project: Project, cli: Cli
) -> None:
    project.job(_job("public.good:", "public.goood:"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "public.goood is not at the source. Did you mean 'public.good'?" in answer.out
    assert _good_arrived(project)


def test_nothing_selected(source: Database, project: Project, cli: Cli) -> None:
    project.job(_job("nowhere.*:"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "No table is selected" in answer.err


def test_zero_rows_and_zero_columns(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create table empty (id int)", "create table nothing ()", "insert into nothing default values")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "public.nothing has no columns" in answer.out
    assert project.query("select count(*) from raw.empty") == [(0,)]
    assert _good_arrived(project)


def test_a_name_of_63_bytes_with_spaces_and_quotes(source: Database, project: Project, cli: Cli) -> None:
    name = ('A "very" long näme, with spaces; ' * 3).encode()[:62].decode(errors="ignore").ljust(62, "x")
    quoted = '"' + name.replace('"', '""') + '"'
    source.execute(f'create table {quoted} ("a ""b"" c" int, "Ünïcode" text, "select" int)')
    source.execute(f"insert into {quoted} values (1, 'x', 2)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    target = project.query("select table_name from raw._runner_state where source_table <> 'public.good'")[0][0]
    assert project.query(f'select * from raw."{target}"') == [(1, "x", 2)]


def test_names_that_collide_stop_everything_before_it_starts(source: Database, project: Project, cli: Cli) -> None:
    source.execute('create table "Order Lines" (id int)', "create table order_lines (id int)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "public.Order Lines" in answer.err
    assert "public.order_lines" in answer.err
    assert not project.warehouse.exists()
    project.job(_job("public.*:", "public.order_lines: {as: lines}"))
    assert cli("backfill", "job.yml").code == 0


def test_text_that_is_not_utf8_fails_its_table_only(project: Project, cli: Cli) -> None:
    with PostgresServer(encoding="SQL_ASCII") as server:
        database = Database(server, "postgres")
        project.environ["SOURCE_DSN"] = database.dsn
        project.job(_job("public.*:"))
        database.execute(
            "create table good as select i as id from generate_series(1, 100) i",
            "create table bad (id int, note text)",
            "insert into bad values (1, 'fine'), (2, E'\\xff\\xfe')",
        )
        answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "✗ public.bad: invalid byte sequence for encoding" in answer.out
    assert "columns: {name: drop}" in answer.out
    assert _good_arrived(project)


def test_values_that_no_destination_keeps_fail_their_table_or_follow_the_policy(
    source: Database, project: Project, cli: Cli
) -> None:
    source.execute("create table odd (id int, amount numeric(10, 2), day date)")
    source.execute("insert into odd values (1, 'NaN', '2024-01-01'), (2, 1.5, 'infinity'), (3, 2.5, '0044-03-15 BC')")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "NaN" in answer.out
    assert _good_arrived(project)
    project.job(_job("public.*:", 'public.odd: {special: "null"}'))
    assert cli("backfill", "job.yml", "--tables", "public.odd").code == 0
    assert project.query("select amount from raw.odd where id = 1") == [(None,)]
    project.job(_job("public.*:", "public.odd: {columns: {amount: text, day: text}}"))
    assert cli("backfill", "job.yml", "--tables", "public.odd").code == 0
    assert project.query("select amount, day from raw.odd order by id") == [
        ("NaN", "2024-01-01"),
        ("1.50", "infinity"),
        ("2.50", "0044-03-15 BC"),
    ]


def test_rows_hidden_by_a_policy_are_not_lost_in_silence(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        "create table hidden as select i as id from generate_series(1, 10) i",
        "alter table hidden enable row level security",
        "create policy half on hidden using (id % 2 = 0)",
        "create role policy_reader login password 'pw'",
        "grant select on good, hidden to policy_reader",
    )
    try:
        project.environ["SOURCE_DSN"] = source.server.dsn(source.name, user="policy_reader", password="pw")
        answer = cli("backfill", "job.yml")
        assert answer.code == 1
        assert "row_security" in answer.out
        assert _good_arrived(project)
    finally:
        source.execute("drop owned by policy_reader", "drop role policy_reader")


def test_a_destination_that_cannot_be_written(source: Database, project: Project, cli: Cli) -> None:
    project.job(_job("public.*:").replace("dataset: raw}", "dataset: raw, path: /proc/warehouse.duckdb}"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert "Traceback" not in answer.err


def test_a_file_that_is_no_database(source: Database, project: Project, cli: Cli) -> None:
    project.warehouse.write_text("not a database" * 1000)
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "not a valid DuckDB database" in answer.err
    assert project.warehouse.read_text().startswith("not a database")


def test_a_table_of_somebody_else_is_not_replaced(source: Database, project: Project, cli: Cli) -> None:
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("create schema raw; create table raw.good as select 'precious' as note")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "was not made by this tool" in answer.out
    assert project.query("select * from raw.good") == [("precious",)]
    project.job(_job("public.*: {adopt: true}"))
    assert cli("backfill", "job.yml").code == 0
    assert _good_arrived(project)


def test_a_hashed_column_needs_its_key_before_anything_starts(
    source: Database, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNNER_HASH_KEY", raising=False)
    project.job(_job("public.good: {columns: {id: hash}}"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "RUNNER_HASH_KEY" in answer.err
    assert not project.warehouse.exists()


def test_a_table_dropped_while_it_is_read_fails_alone(source: Database, project: Project, cli: Cli) -> None:
    """The drop waits behind our first chunk and wins before the second."""
    source.execute("create table doomed (id int primary key, pad text)")
    source.execute("insert into doomed select i, repeat('x', 200) from generate_series(1, 20000) i", "analyze doomed")
    project.job(_job("public.*:").replace("retry:", "limits: {chunk_rows: 200, connections: 1, tables: 1}\nretry:"))

    with during_copy(source, "doomed", "drop table doomed"):
        answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "public.doomed" in answer.out
    assert _good_arrived(project)
    assert project.query("select count(*) from duckdb_tables() where table_name = 'doomed'") == [(0,)]


def test_mistakes_in_the_job_file_name_line_and_nearest_key(project: Project, cli: Cli) -> None:
    project.job("name: x\nsource: {type: postgres}\nlimits:\n  conections: 4\ntables:\n  public.*:\n")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "job.yml:4: limits.conections: unknown key. Did you mean 'connections'?" in answer.err


def test_a_wrong_key_of_the_connector_is_named(project: Project, cli: Cli) -> None:
    project.job("name: x\nsource: {type: postgres, hots: localhost}\ntables:\n  public.*:\n")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "source.hots: unknown key" in answer.err


def test_a_way_of_verifying_that_does_not_exist(source: Database, project: Project, cli: Cli) -> None:
    answer = cli("backfill", "job.yml", "--verify", "hahs")
    assert answer.code == 2
    assert "Did you mean 'hash'?" in answer.err


def test_a_full_disk_under_the_spool_or_the_warehouse(source: Database, project: Project) -> None:
    """A limit on file sizes stands in for a full disk: EFBIG where ENOSPC would be."""
    source.execute("create table big as select i, md5(i::text) a, md5((i+1)::text) b from generate_series(1, 200000) i")
    process = project.start("backfill", "job.yml")
    assert process.wait(60) == 0
    process.communicate()
    project.environ["SOURCE_DSN"] = source.dsn
    command = f'ulimit -f 2000; exec "{sys.executable}" -m runner backfill job.yml --full-refresh'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.folder,
        env={**os.environ, **project.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode in (1, 3), done.stderr
    assert "Traceback" not in done.stderr
    after = project.start("backfill", "job.yml", "--full-refresh")
    assert after.wait(60) == 0, after.communicate()[1]
    after.communicate()
    assert project.query("select count(*), count(distinct i) from raw.big") == [(200000, 200000)]


def test_paths_exist(tmp_path: Path, cli: Cli) -> None:
    answer = cli("backfill", tmp_path / "none.yml")
    assert answer.code == 2
    assert "no such file" in answer.err


@pytest.mark.parametrize("command", ["plan", "backfill", "verify"])
def test_an_api_that_does_not_answer_is_told_before_anything_starts(project: Project, cli: Cli, command: str) -> None:
    project.job(
        'name: api\nsource: {type: rest, client: {base_url: "http://127.0.0.1:9/"}, resources: [rows]}\n'
        'retry: {attempts: 1}\ntables: {"*": {}}\n'
    )
    answer = cli(command, "job.yml")
    assert answer.code == 2
    assert "The source: GET 127.0.0.1:9/rows: no connection" in answer.err
    assert "Traceback" not in answer.err
