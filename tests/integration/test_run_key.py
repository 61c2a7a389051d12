"""A run key: what it names is done once, by hand and by a sensor."""

import json

import pytest

from orchestra.testing import OrchestraDouble
from tests.conftest import Cli, Database, Project

_JOB = """
name: shop
source: {type: postgres, dsn: "${SOURCE_DSN}"}
destination: {type: duckdb, dataset: raw}
tables:
  public.*: {mode: append, cursor: id}
"""
_SENSORS = """
name: waiting
sensors:
  - name: clock
    type: cron
    cron: "* * * * *"
    cursor: "2026-01-01T00:00:00+00:00"
    on_event: [ACTION]
"""


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(_JOB)
    database.execute(
        "create table orders (id int primary key)",
        "insert into orders select * from generate_series(1, 100)",
        "create table items (id int primary key)",
        "insert into items select * from generate_series(1, 10)",
    )
    return database


def _actions(out: str) -> list[str]:
    return [json.loads(line)["action"] for line in out.splitlines()]


def test_the_same_key_does_nothing_twice(source: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml", "--run-key", "a").code == 0
    source.execute("insert into orders values (101)")
    again = cli("backfill", "job.yml", "--run-key", "a", "--json")
    assert (again.code, _actions(again.out)[0]) == (0, "already_done")
    assert project.query("select count(*) from raw.orders") == [(100,)]
    # Another key, and none, are runs of their own.
    assert cli("backfill", "job.yml", "--run-key", "b").code == 0
    assert project.query("select count(*) from raw.orders") == [(101,)]
    source.execute("insert into orders values (102)")
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.orders") == [(102,)]
    assert cli("backfill", "job.yml", "--run-key", "b").code == 0


def test_what_failed_is_not_done(source: Database, project: Project, cli: Cli) -> None:
    source.execute("create table broken (id int primary key)", "insert into broken values (1)")
    project.job(_JOB + "  public.broken: {mode: full, where: '1 / (id - 1) > 0'}\n")
    assert cli("backfill", "job.yml", "--run-key", "a").code == 1
    source.execute("delete from broken")
    assert cli("backfill", "job.yml", "--run-key", "a").code == 0
    assert project.query("select count(*) from raw.broken") == [(0,)]
    assert "already" in cli("backfill", "job.yml", "--run-key", "a").err


def test_a_table_has_keys_of_its_own(source: Database, project: Project, cli: Cli) -> None:
    for table in ("public.orders", "public.items"):
        assert cli("task", "job.yml", "--table", table, "--run-key", "a").code == 0
    source.execute("insert into items values (11)")
    assert "already" in cli("task", "job.yml", "--table", "public.items", "--run-key", "a").err
    assert project.query("select count(*) from raw.items") == [(10,)]


@pytest.mark.parametrize(
    ("action", "rows"),
    [
        ("{type: backfill, job: job.yml, tables: [public.orders]}", [(100,)]),
        ('{type: task, job: job.yml, table: "public.orders"}', [(100,)]),
    ],
)
def test_a_sensor_runs_it(source: Database, project: Project, cli: Cli, action: str, rows: list[tuple[int]]) -> None:
    project.job(_SENSORS.replace("ACTION", action), "sensors.yml")
    answer = cli("sense", "sensors.yml", "--once", "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out.splitlines()[-1])
    assert result["outputs"]["rows"] == 100
    assert project.query("select count(*) from raw.orders") == rows
    assert [name for (name,) in project.query("select table_name from raw._runner_state")] == ["orders"]
    runs = json.loads(cli("runs", "--json").out)
    assert result["events"][0]["run_key"] in str(runs)


def test_the_run_of_a_sensor_does_not_end_the_task_that_the_sensor_is(
    source: Database, project: Project, cli: Cli
) -> None:
    pipeline = {"version": "v1", "name": "Wait", "pipeline": {"wait": {"tasks": {"orders": {"parameters": {}}}}}}
    project.job(_SENSORS.replace("ACTION", "{type: backfill, job: job.yml, tables: [public.orders]}"), "sensors.yml")
    with OrchestraDouble() as double:
        run = double.workspace.start(double.workspace.add("wait", pipeline), {})
        project.environ |= {
            "ORCHESTRA_TASK_RUN_ID": run.tasks[0].id,
            "ORCHESTRA_API_KEY": double.key,
            "ORCHESTRA_WEBHOOK_URL": double.url,
        }
        assert cli("sense", "sensors.yml", "--once").code == 0
        assert {event["event_type"] for event in double.events} == {"SET_OUTPUT"}
    assert project.query("select count(*) from raw.orders") == [(100,)]


def test_a_sensor_says_why_it_cannot(source: Database, project: Project, cli: Cli) -> None:
    project.job(_JOB.replace("${SOURCE_DSN}", "postgresql://nobody:wrong@127.0.0.1:1/x"))
    action = "{type: backfill, job: job.yml, attempts: 1}"
    project.job(_SENSORS.replace("ACTION", action), "sensors.yml")
    answer = cli("sense", "sensors.yml", "--once")
    assert answer.code == 1
    assert "firewall" in answer.err
    assert "wrong" not in answer.err
    project.job(_SENSORS.replace("ACTION", "{type: backfill, job: other.yml}"), "sensors.yml")
    answer = cli("sense", "sensors.yml", "--once")
    assert answer.code == 2
    assert "other.yml: no such job file" in answer.err
