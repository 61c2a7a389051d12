"""Every verb, as a person or an orchestrator would call it."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3

import duckdb
import pytest

from tests.conftest import Cli, Database, Project

_JOB = """
name: shop
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: {type: duckdb, dataset: raw}
defaults: {mode: auto, cursor: [updated_at]}
tables:
  public.*:
"""


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(_JOB)
    database.execute(
        "create table orders (id int primary key, email text, updated_at timestamptz not null)",
        "create index on orders (updated_at)",
        "insert into orders select i, 'c' || i || '@x.org', timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i) "
        "from generate_series(1, 1000) i",
        "create table notes as select i as n from generate_series(1, 50) i",
        "analyze",
    )
    return database


def test_plan_says_what_will_happen_and_changes_nothing(source: Database, project: Project, cli: Cli) -> None:
    first = json.loads(cli("plan", "job.yml", "--json").out)
    assert {(t["source"], t["mode"], t["effect"]) for t in first["tables"]} == {
        ("public.orders", "incremental", "create"),
        ("public.notes", "full", "create"),
    }
    assert first["rows"] == 1050
    assert not project.warehouse.exists()
    assert cli("backfill", "job.yml").code == 0
    second = {t["source"]: t["effect"] for t in json.loads(cli("plan", "job.yml", "--json").out)["tables"]}
    assert second["public.notes"] == "replace"
    assert second["public.orders"].startswith("merge from 2024-01-01 00:16:40")


def test_explain_names_the_origin_of_each_value(source: Database, project: Project, cli: Cli) -> None:
    project.job(_JOB + "  public.orders: {lag: 5m, columns: {email: mask}}\n")
    said = cli("plan", "job.yml", "--explain", "public.orders").out
    assert "lag: 0:05:00  (tables: public.orders)" in said
    assert "cursor: ['updated_at']  (defaults)" in said
    assert "mode in force: incremental  (auto: updated_at is indexed and not null, key (id))" in said
    assert "column email: text → string  (mask)" in said


def test_the_lock_file_shows_drift_and_stops_a_task(source: Database, project: Project, cli: Cli) -> None:
    assert cli("plan", "job.yml", "--lock").code == 0
    lock = (project.folder / "job.lock.yml").read_text()
    assert "public.orders" in lock
    assert "timestamp with time zone not null" in lock
    source.execute("alter table orders add column extra int", "create table fresh (id int)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0
    assert "public.orders: differs from the lock file: column extra is new" in answer.err
    assert "public.fresh: differs from the lock file: new" in answer.err
    task = cli("task", "job.yml", "--table", "public.orders")
    assert task.code == 2
    assert "column extra is new" in task.err
    assert cli("task", "job.yml", "--table", "public.notes").code == 0
    project.job(_JOB + "new_tables: ignore\n")
    source.execute("create table fresher (id int)")
    answer = cli("backfill", "job.yml")
    assert "fresher" not in answer.err
    assert project.query("select count(*) from duckdb_tables() where table_name = 'fresher'") == [(0,)]


def test_init_writes_a_job_that_runs_and_no_secret(source: Database, project: Project, cli: Cli) -> None:
    answer = cli("init", source.dsn, "--out", "new.yml", "--name", "new", "--variable", "SOURCE_DSN")
    assert answer.code == 0, answer.err
    text = (project.folder / "new.yml").read_text()
    assert text.startswith("# yaml-language-server: $schema=job.schema.json")
    assert source.server.password not in text
    assert "public.*" in text
    assert json.loads((project.folder / "job.schema.json").read_text())["title"].endswith("job")
    assert cli("backfill", "new.yml").code == 0
    assert project.query("select count(*) from raw_new.orders") == [(1000,)]
    again = cli("init", source.dsn, "--out", "new.yml")
    assert again.code == 2
    assert "exists" in again.err


def test_doctor_is_content_with_a_good_job(source: Database, project: Project, cli: Cli) -> None:
    answer = cli("doctor", "job.yml", "--json")
    assert answer.code == 0
    assert {row["state"] for row in json.loads(answer.out)} <= {"ok", "warn"}


def test_runs_show_and_report(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    run = json.loads(cli("runs", "--json").out)[0]
    assert (run["state"], run["exit_code"], run["tables"], run["published"]) == ("finished", 0, 2, 2)
    shown = json.loads(cli("show", "latest", "--json").out)
    assert {row["name"]: row["rows"] for row in shown["tables"]} == {"public.orders": 1000, "public.notes": 50}
    assert all(chunk["state"] == "verified" for chunk in shown["chunks"])
    assert "public.orders" in cli("show", run["run"][:13]).out
    path = cli("report").out.strip()
    page = (project.folder / path).read_text()
    assert "public.orders" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert cli("show", "nonsense").code == 2


def test_json_lines_are_one_object_each_and_keep_secrets(source: Database, project: Project, cli: Cli) -> None:
    answer = cli("backfill", "job.yml", "--json")
    events = [json.loads(line) for line in answer.out.splitlines()]
    assert events[-1]["action"] == "run_finished"
    assert events[-1]["rows"] == 1050
    assert {"run_started", "table_started", "chunk_spooled", "table_verified", "table_published"} <= {
        event["action"] for event in events
    }
    everything = (
        answer.out
        + answer.err
        + "".join(
            file.read_text(errors="replace")
            for file in project.folder.rglob("*")
            if file.suffix in (".jsonl", ".html", ".json")
        )
    )
    assert source.server.password not in everything


def test_tables_narrow_a_run_and_failed_runs_only_what_failed(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml", "--tables", "public.no*").code == 0
    assert [name for (name,) in project.query("select table_name from raw._runner_state")] == ["notes"]
    source.execute("create table odd as select 'NaN'::numeric(5, 2) as amount")
    assert cli("backfill", "job.yml").code == 1
    source.execute("update odd set amount = 1")
    answer = cli("backfill", "job.yml", "--failed")
    assert answer.code == 0, answer.err
    assert answer.err.count("table_published") == 1
    assert project.query("select amount from raw.odd")[0][0] == 1


def test_failed_says_so_where_nothing_failed(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    answer = cli("backfill", "job.yml", "--failed")
    assert answer.code == 2
    assert "Nothing failed in the last run" in answer.err


def test_a_filter_changes_no_name(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create schema crm", "create table crm.leads as select 1 as id")
    project.job(_JOB + "  crm.*:\n")
    assert cli("backfill", "job.yml").code == 0
    assert cli("backfill", "job.yml", "--tables", "crm.leads").code == 0
    assert cli("task", "job.yml", "--table", "crm.leads").code == 0
    assert project.query("select distinct table_name from raw._runner_state where source_table = 'crm.leads'") == [
        ("crm__leads",)
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "2024-01-03", "--until", "2024-01-02"], "is empty"),
        (["--since", "yesterday"], "'yesterday' is not a time"),
    ],
)
def test_a_wrong_range_is_refused(
    source: Database, project: Project, cli: Cli, arguments: list[str], words: str
) -> None:
    answer = cli("backfill", "job.yml", "--tables", "public.orders", *arguments)
    assert answer.code == 2
    assert words in answer.err


def test_a_range_leaves_the_definition_alone(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    assert cli("backfill", "job.yml", "--tables", "public.orders", "--since", "2024-01-01").code == 0
    assert "definition changed" not in cli("backfill", "job.yml").err


def test_fail_fast_stops_at_the_first_failure(source: Database, project: Project, cli: Cli) -> None:
    source.execute(
        "create table aaa as select 'NaN'::numeric(5, 2) as amount, repeat('x', 500) from generate_series(1, 99)"
    )
    for number in range(20):
        source.execute(f"create table later_{number:02} as select 1 as one")
    project.job(_JOB.replace("defaults:", "limits: {tables: 1, connections: 1}\ndefaults:"))
    answer = cli("backfill", "job.yml", "--fail-fast")
    assert answer.code == 1
    published = answer.err.count("table_published")
    assert published < 20
    assert "unfinished" in answer.out


# The environment contract.


def _contract(project: Project, source: Database, **more: str) -> None:
    del project.environ["SOURCE_DSN"]
    project.environ |= {
        "SOURCE": "postgres",
        "SOURCE_CREDS": json.dumps({"dsn": source.dsn}),
        "OBJECT": "public.orders",
        "DESTINATION": "duckdb",
        "DEST_CREDS": json.dumps({"path": "warehouse.duckdb"}),
        "DATASET": "raw",
        **more,
    }


@pytest.mark.parametrize("encode", [str, lambda text: base64.b64encode(text.encode()).decode()])
def test_a_task_needs_only_the_environment(source: Database, project: Project, cli: Cli, encode: object) -> None:
    params = json.dumps({"mode": "incremental", "cursor": "updated_at", "key": ["id"]})
    _contract(project, source, PARAMS=encode(params))  # type: ignore[operator]
    answer = cli("task")
    assert answer.code == 0, answer.err
    source.execute("insert into orders values (2000, 'new', '2024-05-01')")
    assert cli("task").code == 0
    assert project.query("select count(*), max(id) from raw.orders") == [(1001, 2000)]
    assert project.query("select count(*) from raw._runner_state") == [(2,)]


def test_a_task_understands_bare_credentials_and_dlts_variables(source: Database, project: Project, cli: Cli) -> None:
    _contract(project, source, SOURCE_CREDS=source.dsn)
    del project.environ["DEST_CREDS"]
    project.environ["DESTINATION__DUCKDB__CREDENTIALS"] = "duckdb:///other.duckdb"
    assert cli("task").code == 0
    with duckdb.connect("other.duckdb", read_only=True) as connection:
        assert connection.execute("select count(*) from raw.orders").fetchall() == [(1000,)]


def test_a_task_understands_linked_connections(source: Database, project: Project, cli: Cli) -> None:
    _contract(project, source)
    del project.environ["DEST_CREDS"], project.environ["SOURCE_CREDS"]
    project.environ |= {
        "POSTGRES__SHOP_PROD__DSN": source.dsn,
        "POSTGRES__SHOP_PROD__COLOR": "blue",
        "DUCKDB__LAKE__PATH": "linked.duckdb",
    }
    answer = cli("task")
    assert answer.code == 0, answer.err
    with duckdb.connect("linked.duckdb", read_only=True) as connection:
        assert connection.execute("select count(*) from raw.orders").fetchall() == [(1000,)]
    project.environ["DUCKDB__OTHER__PATH"] = "other.duckdb"
    answer = cli("task")
    assert answer.code == 2
    assert "LAKE, OTHER" in answer.err
    assert "DEST_CONNECTION" in answer.err
    project.environ["DEST_CONNECTION"] = "other"
    assert cli("task").code == 0


def test_a_task_of_a_job_file_shares_marks_with_the_backfill(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml").code == 0
    source.execute("insert into orders values (2000, 'new', '2024-05-01')")
    project.environ |= {"RUNNER_JOB": "job.yml", "OBJECT": "public.orders"}
    answer = cli("task")
    assert answer.code == 0, answer.err
    assert "2 rows" in answer.out  # the new one, and the one at the mark
    assert project.query("select count(*) from raw.orders") == [(1001,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"OBJECT": ""}, "No table is named"),
        ({"SOURCE": ""}, "SOURCE is not set"),
        ({"PARAMS": "not json"}, "PARAMS is neither JSON nor base64"),
        ({"PARAMS": '{"moed": "full"}'}, "moed: unknown key. Did you mean 'mode'?"),
        ({"DESTINATION": "nowhere"}, "There is no destination of type 'nowhere'"),
        ({"OBJECT": "public.*"}, "'public.*' is a pattern"),
    ],
)
def test_a_wrong_environment_is_exit_2(
    source: Database, project: Project, cli: Cli, change: dict[str, str], words: str
) -> None:
    _contract(project, source, **change)
    answer = cli("task")
    assert answer.code == 2
    assert words in answer.err


def test_a_task_for_a_table_that_is_not_there(source: Database, project: Project, cli: Cli) -> None:
    _contract(project, source, OBJECT="public.order")
    answer = cli("task")
    assert answer.code == 2
    assert "public.order is not at the source" in answer.err


def test_starting_over_ends_the_unfinished_run(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create table odd as select 'NaN'::numeric(5, 2) as amount")
    assert cli("backfill", "job.yml").code == 1
    ledger = next(project.folder.glob(".runner/runs/*/ledger.sqlite"))
    with contextlib.closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("update run set state = 'running'")
    assert cli("backfill", "job.yml", "--full-refresh", "--tables", "public.notes").code == 0
    states = {run["state"] for run in json.loads(cli("runs", "--json").out)}
    assert states == {"abandoned", "finished"}
    assert cli("backfill", "job.yml", "--tables", "public.notes").code == 0
    assert len(json.loads(cli("runs", "--json").out)) == 3


def test_a_profile_sums_up_to_the_time_of_the_run(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create table big as select i as id, md5(i::text) as v from generate_series(1, 30000) i")
    project.job(
        'name: profiled\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\n'
        "destination: {type: duckdb, dataset: raw}\ntables: {public.big: {mode: full}}\n"
    )
    answer = cli("backfill", "job.yml", "--profile", "--verify", "hash", "--json")
    assert answer.code == 0
    events = [json.loads(line) for line in answer.out.splitlines()]
    (stages,) = [event["stages"] for event in events if event["action"] == "time_spent"]
    (seconds,) = [event["seconds"] for event in events if event["action"] == "run_finished"]
    assert sum(stages.values()) == pytest.approx(seconds, abs=0.05)
    assert all(stages[name] > 0 for name in ("plan", "source", "decode", "hash", "write", "load", "verify", "ledger"))
    told = cli("backfill", "job.yml", "--profile").out
    assert "waiting for the source and the wire" in told
    assert "Where the time went" in next(project.folder.glob(".runner/runs/*/report.html")).read_text()
    assert "time_spent" not in cli("backfill", "job.yml", "--json").out
