"""What Orchestra sees of a task that it starts: statuses, outputs, exit codes; and what the next container goes on with."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestra.testing import OrchestraDouble
from tests.conftest import Cli, Database, Project

_TABLE = """
create table orders (id int primary key, v text, at timestamptz not null default '2024-01-01 00:00:00+00');
insert into orders select i, md5(i::text) from generate_series(1, 3000) i;
analyze;
"""
_TASK = {"version": "v1", "name": "Shop", "pipeline": {"load": {"tasks": {"orders": {"parameters": {}}}}}}


@pytest.fixture
def orchestra(project: Project) -> Iterator[OrchestraDouble]:
    """Orchestra, with one run of a pipeline; the project's environment is that of its task."""
    with OrchestraDouble() as double:
        double.workspace.add("shop", _TASK)
        project.environ |= {"ORCHESTRA_API_KEY": double.key, "ORCHESTRA_WEBHOOK_URL": double.url}
        _begin(project, double)
        yield double


def _begin(project: Project, double: OrchestraDouble) -> None:
    """Let Orchestra start the task, anew."""
    pipeline = double.workspace.find("shop")
    assert pipeline is not None
    project.environ["ORCHESTRA_TASK_RUN_ID"] = double.workspace.start(pipeline, {}).tasks[0].id
    double.events.clear()


def _contract(project: Project, database: Database, **more: str) -> None:
    project.environ |= {
        "SOURCE": "postgres",
        "OBJECT": "public.orders",
        "SOURCE_CREDS": json.dumps({"dsn": database.dsn}),
        "DESTINATION": "postgres",
        "DEST_CREDS": json.dumps({"dsn": database.dsn}),
        "DATASET": "raw",
        **more,
    }


def _said(double: OrchestraDouble) -> list[Any]:
    """Return what the task told: its statuses, and the names of its outputs."""
    return [event.get("status") or event["output_name"] for event in double.events]


def _outputs(double: OrchestraDouble) -> dict[str, Any]:
    return {event["output_name"]: event["output_value"] for event in double.events if "output_name" in event}


def test_a_task_tells_that_it_is_at_work_what_it_did_and_how_it_ended(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE)
    _contract(project, database, PARAMS='{"mode": "incremental", "cursor": "at"}')
    answer = cli("task")
    assert (answer.code, answer.err.count("warning")) == (0, 0), answer.err
    said = _said(orchestra)
    assert (said[0], said[-1]) == ("RUNNING", "SUCCEEDED")
    assert said[1:-1] == ["run", "state", "tables", "rows", "failed", "table", "mode", "mark"]
    outputs = _outputs(orchestra)
    assert (outputs["table"], outputs["rows"], outputs["state"]) == ("raw.orders", 3000, "done")
    assert outputs["mark"].startswith("2024-01-01")
    assert orchestra.events[-1]["message"] == "raw.orders: 3,000 rows, incremental."


def test_inputs_that_nobody_filled_in_are_a_normal_run_and_others_a_range(
    database: Database, project: Project, cli: Cli
) -> None:
    database.execute(_TABLE)
    empty = {"SINCE": "", "UNTIL": "", "FULL_REFRESH": "false", "TIMEOUT": ""}
    _contract(project, database, PARAMS='{"mode": "incremental", "cursor": "at"}', **empty)
    assert cli("task").code == 0
    database.execute(
        "update orders set v = 'changed' where id <= 10", "update orders set v = 'late', at = '2024-02-01'"
    )
    project.environ |= {"SINCE": "2024-02-01", "UNTIL": "2024-03-01"}
    assert cli("task").code == 0
    assert database.rows("select count(*), count(distinct id) from raw.orders where v = 'late'") == [(3000, 3000)]
    project.environ |= {"SINCE": "", "UNTIL": "", "FULL_REFRESH": "perhaps"}
    answer = cli("task")
    assert (answer.code, "FULL_REFRESH is 'perhaps'" in answer.err) == (2, True)
    project.environ["FULL_REFRESH"] = "True"
    answer = cli("task")
    assert (answer.code, "1 as a whole" in answer.out) == (0, True), answer.out


def test_a_range_for_all_tables_leaves_those_without_a_cursor_alone(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE, "create table countries (id int primary key)")
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(
        'name: shop\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "tables: {public.*: {mode: full}, public.orders: {mode: incremental, cursor: at}}\n"
    )
    assert cli("plan", "job.yml", "--lock").code == 0
    project.environ |= {"RUNNER_JOB": "job.yml", "SINCE": "2024-01-01", "UNTIL": "2024-02-01"}
    for table, says in (
        ("public.countries", "has no cursor: the range leaves it alone"),
        ("public.orders", "3,000 rows"),
    ):
        project.environ["OBJECT"] = table
        answer = cli("task")
        assert (answer.code, says in answer.out) == (0, True), answer
        assert _said(orchestra)[-1] == "SUCCEEDED"
        _begin(project, orchestra)


def test_what_pipelines_hand_over_is_nothing_that_dlt_reads(database: Database, project: Project, cli: Cli) -> None:
    database.execute(_TABLE)
    _contract(project, database, PARAMS='{"mode": "full"}')
    assert cli("task").code == 0
    # dlt is asked to widen its record, and knows a setting of that name.
    database.execute("alter table orders add column more int")
    project.environ["FULL_REFRESH"] = "true"
    answer = cli("task")
    assert (answer.code, "deprecated" in answer.err) == (0, False), answer.err
    assert database.rows("select nspname from pg_namespace where nspname like 'raw%' order by 1") == [("raw",)]
    assert database.rows("select count(*) from raw._dlt_version") == [(2,)]


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"OBJECT": "public.nothing"}, 2, "public.nothing"),
        ({"DESTINATION": "postgers"}, 2, "no destination of type 'postgers'"),
        ({"PARAMS": '{"mode": "incremental", "cursor": "moment"}'}, 2, "moment"),
        ({"FULL_REFRESH": "perhaps"}, 2, "FULL_REFRESH"),
    ],
)
def test_what_could_not_start_is_told_in_the_words_that_are_printed(
    database: Database,
    project: Project,
    cli: Cli,
    orchestra: OrchestraDouble,
    more: dict[str, str],
    code: int,
    says: str,
) -> None:
    database.execute(_TABLE)
    _contract(project, database, **more)
    answer = cli("task")
    assert answer.code == code
    assert _said(orchestra) == ["RUNNING", "FAILED"]
    message = orchestra.events[-1]["message"]
    assert says in message
    assert says in answer.err
    assert len(message) <= 250


def test_a_wrong_password_is_told_without_it(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    _contract(project, database, SOURCE_CREDS=json.dumps({"dsn": "postgresql://u:hunter2@127.0.0.1:1/shop"}))
    answer = cli("task")
    assert answer.code == 2
    assert _said(orchestra)[-1] == "FAILED"
    assert "hunter2" not in json.dumps(orchestra.events) + answer.err + answer.out


def test_who_cannot_be_told_does_not_make_the_task_fail(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE)
    _contract(project, database, ORCHESTRA_API_KEY="of somebody else")
    answer = cli("task")
    assert answer.code == 0
    assert "warning: Orchestra was not told the status SUCCEEDED: Orchestra said 401" in answer.err
    assert "somebody else" not in answer.err


def test_a_change_since_the_lock_file_is_a_warning_in_a_backfill(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE)
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(
        'name: shop\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\n'
        "destination: {type: duckdb, dataset: raw}\ntables: {public.*: {mode: full}}\n"
    )
    assert cli("plan", "job.yml", "--lock").code == 0
    database.execute("alter table orders add column more text")
    assert cli("backfill", "job.yml").code == 0
    assert _said(orchestra)[-1] == "WARNING"
    assert "column more is new" in orchestra.events[-1]["message"]
    assert _outputs(orchestra)["published"] == ["raw.orders"]


def test_a_task_that_is_told_to_end_leaves_what_the_next_container_goes_on_with(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE)
    slow = {"limits": {"chunk_rows": 250, "connections": 1, "rate": "3/s"}, "mode": "full"}
    _contract(project, database, PARAMS=json.dumps(slow))
    process = project.start("task", "--json", "--state-dir", "first")
    deadline = time.monotonic() + 60
    loaded = "select chunk from raw._runner_chunks"
    there = "select 1 from information_schema.tables where table_name = '_runner_chunks'"
    while not (database.rows(there) and len(database.rows(loaded)) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    kept = {row[0] for row in database.rows(loaded)}
    assert 2 <= len(kept) < 12
    assert _said(orchestra)[-1] == "FAILED"
    assert "Not finished" in orchestra.events[-1]["message"]
    assert _outputs(orchestra)["state"] == "unfinished"
    # The disk of a container is gone with it.
    shutil.rmtree(project.folder / "first")
    _begin(project, orchestra)

    project.environ["PARAMS"] = json.dumps({**slow, "limits": {"chunk_rows": 250}})
    answer = cli("task", "--json", "--state-dir", "second")
    assert answer.code == 0, answer.err
    events = [json.loads(line) for line in (answer.out + answer.err).splitlines() if line.startswith("{")]
    read = {event["chunk"] for event in events if event["action"] == "chunk_spooled"}
    assert not read & kept, "a chunk that was loaded is not read again"
    assert len(read | kept) == 12
    assert database.rows("select count(*), count(distinct id), sum(id) from raw.orders") == [(3000, 3000, 4501500)]
    assert _said(orchestra)[-1] == "SUCCEEDED"


def test_a_task_that_is_ended_before_it_has_begun_says_so(project: Project, orchestra: OrchestraDouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        dsn = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        project.environ |= {"SOURCE": "postgres", "SOURCE_CREDS": dsn, "OBJECT": "public.a", "DESTINATION": "duckdb"}
        project.environ["DEST_CREDS"] = '{"path": "w.duckdb"}'
        process = project.start("task")
        with silent.accept()[0]:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    assert _said(orchestra) == ["RUNNING", "FAILED"]
    assert "interrupted" in orchestra.events[-1]["message"]

    # The platform does not answer while the task tells it that it is at work.
    _begin(project, orchestra)
    fault = orchestra.fail("silence", "^/[?]", method="POST")
    process = project.start("task")
    deadline = time.monotonic() + 60
    while fault.times:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    assert _said(orchestra) == ["FAILED"], err


def test_a_task_ends_in_order_before_the_platform_ends_it(
    database: Database, project: Project, cli: Cli, orchestra: OrchestraDouble
) -> None:
    database.execute(_TABLE)
    slow = {"limits": {"chunk_rows": 100, "connections": 1, "rate": "3/s"}, "mode": "full"}
    _contract(project, database, PARAMS=json.dumps(slow), TIMEOUT="2s")
    assert cli("task", "--quiet").code == 3
    assert "Not finished" in orchestra.events[-1]["message"]
    project.environ |= {"PARAMS": '{"mode": "full", "limits": {"chunk_rows": 100}}', "TIMEOUT": "1h"}
    assert cli("task").code == 0
    assert database.rows("select count(*) from raw.orders") == [(3000,)]
    project.environ["TIMEOUT"] = "soon"
    assert "'soon' is not a duration" in cli("task").err
