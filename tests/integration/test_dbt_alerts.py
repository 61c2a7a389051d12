"""``runner orchestra alerts`` against the double of Orchestra: live, afterwards, from files; who is told, exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.testing.double import Double
from orchestra.commands import telling
from orchestra.testing import OrchestraDouble
from orchestra.testing.script import Script
from tests.conftest import Cli, Project

GOLDEN = Path(__file__).parents[1] / "unit" / "golden" / "dbt"
QUALITY, GENERAL = f"/quality/{'q' * 24}", f"/general/{'g' * 24}"
BUILD = """
version: v1
name: Build
pipeline:
  build:
    tasks:
      dbt:
        integration: DBT_CORE
        integration_job: DBT_CORE_EXECUTE
        name: Build
        parameters: {commands: "dbt run; dbt test"}
        depends_on: []
    depends_on: []
"""


class Hook(Double):
    """Takes every message, and answers after some seconds."""

    held = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def routes(self) -> Iterable[web.RouteDef]:
        async def take(_: web.Request) -> web.Response:
            self.asked.set()
            await asyncio.sleep(self.held)
            return web.Response(text="ok")

        return [web.post("/{place}/{secret}", take)]

    def titles(self, path: str) -> list[str]:
        return [
            block["text"]["text"].partition(" ")[2]
            for one in self.seen
            if one.path == path
            for block in json.loads(one.body)["blocks"]
            if block["type"] == "header"
        ]


@pytest.fixture
def double() -> Iterator[OrchestraDouble]:
    with OrchestraDouble() as server:
        yield server


@pytest.fixture
def hook(project: Project, double: OrchestraDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(telling, "_PAUSE", 0.05)
    with Hook() as server:
        project.environ |= {
            "ORCHESTRA_API_KEY": double.key,
            "ORCHESTRA_BASE_URL": double.base_url,
            "ALERTS_SLACK_WEBHOOK": f"{server.url}{GENERAL}",
            "ALERTS_SLACK_WEBHOOK_DATA_QUALITY": f"{server.url}{QUALITY}",
        }
        yield server


def lines(name: str, *, invocation: str = "", over: float = 0.0) -> list[dict[str, Any]]:
    found = (GOLDEN / name).read_text("utf-8").splitlines()
    if invocation:
        own = json.loads(found[0])["info"]["invocation_id"]
        found = [line.replace(own, invocation) for line in found]
    return [{"text": line, "after": over * number / len(found)} for number, line in enumerate(found)]


def start(double: OrchestraDouble, *, after: float = 0.0, **task: Any) -> str:
    double.workspace.start_after = after
    pipeline = double.workspace.add("build", BUILD, script=Script.model_validate({"tasks": {"dbt": task}}))
    return str(double.workspace.start(pipeline, {}, {}).id)


def test_live_over_two_attempts(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    run = start(
        double,
        after=0.2,
        attempts=[{"seconds": 0.6, "status": "FAILED"}, {"seconds": 0.5, "status": "FAILED"}],
        retry_after=0.3,
        log={"dbt run": lines("run.jsonl", over=0.2), "dbt test": lines("test.jsonl", over=0.45)},
    )
    said = cli("orchestra", "alerts", "dbt", "--run", run, "--follow", "--timeout", "30s", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)["alerts"]
    # The second attempt is another invocation in life; here it repeats the first, and nothing is told twice.
    assert len({one["key"] for one in told}) == len(told) == 7
    assert sorted(hook.titles(QUALITY)) == [
        "dbt test could not run: amounts_are_numbers",
        "dbt test failed: unique_orders_id",
        "dbt test warns: not_null_orders_id",
    ]
    assert len(hook.titles(GENERAL)) == 5
    assert all(f"/pipeline-runs/{run}/lineage" in one["url"] for one in told)
    assert hook.url not in said.out + said.err


def test_a_command_that_is_stopped_tells_what_it_knows(project: Project, double: OrchestraDouble, hook: Hook) -> None:
    # As Orchestra ends a task: the message that is under way arrives, and the answer to it is waited for.
    hook.held = 0.5
    run = start(double, attempts=[{"seconds": 60.0}], log={"dbt run": lines("run.jsonl")})
    process = project.start("orchestra", "alerts", "dbt", "--run", run, "--follow", "--json")
    assert hook.asked.wait(60)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    assert hook.titles(GENERAL) == ["dbt model failed: broken"]
    found = json.loads(out)
    assert (len(found["alerts"]), found["problems"]) == (1, [])
    assert "dbt was not over when this was stopped" in err


def test_attempts_of_their_own_are_told_each(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    run = start(
        double,
        attempts=[{"seconds": 0.0, "status": "FAILED"}, {"seconds": 0.0}],
        log={"dbt run": lines("run.jsonl"), "dbt run again": lines("run.jsonl", invocation="another")},
    )
    said = cli("orchestra", "alerts", "dbt", "--run", run, "--dry-run")
    assert said.code == 0
    assert (
        said.out.splitlines()
        == ["error    dbt model failed: broken → shop-data: Runtime Error in model broken (models/broken.sql)"] * 2
    )
    assert "2 alerts, not sent (--dry-run)." in said.err
    assert hook.seen == []


def test_what_the_task_left_is_read_where_its_log_says_nothing(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    kept = {name: (GOLDEN / name).read_text("utf-8") for name in ("run_results.json", "manifest.json")}
    run = start(
        double, attempts=[{"seconds": 0.0}], log={"dbt run": ["12:00  Running with dbt=1.11.16"]}, artifacts=kept
    )
    task_run = double.workspace.runs[run].task_runs(double.now())[0].id
    for arguments in ([task_run], [task_run, "--artifacts"], ["dbt", "--run", run, "--artifacts"]):
        hook.seen.clear()
        said = cli("orchestra", "alerts", *arguments)
        assert said.code == 0, said.err
        assert hook.titles(GENERAL) == ["dbt model failed: broken"]
        assert ("DBT_LOG_FORMAT=json" in said.err) == (arguments == [task_run])


def test_a_task_that_goes_on_ends_the_time(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    run = start(double, attempts=[{"seconds": None}], log={"dbt run": lines("run.jsonl")})
    said = cli("orchestra", "alerts", "dbt", "--run", run, "--follow", "--timeout", "2s")
    assert said.code == 3
    assert "is not over after 2s" in said.err
    assert hook.titles(GENERAL) == ["dbt model failed: broken"]


def test_a_task_that_has_not_begun(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    run = start(double, after=3600, attempts=[{"seconds": 1.0}])
    said = cli("orchestra", "alerts", "dbt", "--run", run)
    assert (said.code, said.out) == (0, "")
    assert "has not run yet" in said.err


@pytest.mark.parametrize("more", [(), ("--follow",), ("--artifacts",)])
def test_a_task_that_the_run_does_not_have(
    cli: Cli, double: OrchestraDouble, hook: Hook, more: tuple[str, ...]
) -> None:
    run = start(double, after=30.0)
    said = cli("orchestra", "alerts", "dbtt", "--run", run, *more)
    assert said.code == 2
    assert f"The run {run} has no task 'dbtt'. Did you mean 'dbt'?" in said.err
    assert "Its tasks: dbt." in said.err
    double.fail("status", "/data", status=404, times=9)
    double.workspace.start_after = 0.0
    ended = start(double, attempts=[{"seconds": 0.0}])
    assert cli("orchestra", "alerts", "dbt", "--run", ended, "--follow", "--timeout", "30s", "--dry-run").code == 0
    said = cli("orchestra", "alerts", "nope", "--run", ended, *more)
    assert said.code == 2, said.err
    assert "Its tasks: dbt." in said.err


def test_a_run_that_is_not_there(cli: Cli, double: OrchestraDouble, hook: Hook) -> None:
    said = cli("orchestra", "alerts", "dbt", "--run", "00000000-0000-4000-8000-000000000000", "--follow")
    assert said.code != 0
    assert "There is no run 00000000-0000-4000-8000-000000000000 in this workspace." in said.err
    assert "Check --run: the id of a pipeline run" in said.err
    said = cli("orchestra", "alerts", "dbt", "--run", "nope")
    assert said.code == 2
    assert "'nope' is no id of a pipeline run." in said.err


def test_an_address_that_is_none_is_refused_before_anything(cli: Cli, project: Project, hook: Hook) -> None:
    project.environ["ALERTS_WEBHOOK"] = "hooks.example/sesame"
    said = cli("orchestra", "alerts", "dbt", "--run", "x", "--follow")
    assert said.code == 2
    assert "ALERTS_WEBHOOK is no address." in said.err
    assert "sesame" not in said.err


def test_from_files(cli: Cli, hook: Hook, project: Project) -> None:
    arguments = ["--results", GOLDEN / "test_results.json", "--manifest", GOLDEN / "manifest.json"]
    assert cli("orchestra", "alerts", *arguments).code == 0
    assert len(hook.titles(QUALITY)) == 3
    assert len(hook.seen) == 2
    hook.fail("status", path="/quality", status=404, body="no_service", times=1)
    said = cli("orchestra", "alerts", *arguments, "--json")
    assert said.code == 1
    (problem,) = json.loads(said.out)["problems"]
    assert problem.startswith("ALERTS_SLACK_WEBHOOK_DATA_QUALITY: 3 alerts were not delivered: 127.0.0.1 said 404")
    assert "q" * 24 not in said.out + said.err
    nothing = project.folder / "results.json"
    nothing.write_text('{"results": []}', "utf-8")
    said = cli("orchestra", "alerts", "--results", nothing)
    assert (said.code, said.out) == (0, "")
    assert "nothing to tell" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either a task run or --results"),
        (["x", "--results", "y"], "either a task run or --results"),
        (["--results", "gone.json"], "gone.json: No such file"),
        (["--results", "x", "--run", "y"], "--run needs a task run"),
        (["x", "--manifest", "y"], "--manifest needs --results"),
        (["x", "--artifacts", "--follow"], "--artifacts"),
        (["x", "--follow", "--timeout", "soon"], "--timeout"),
        (["x", "--follow", "--linger", "long"], "--linger"),
        (["dbt"], "no id of a task run"),
    ],
)
def test_what_makes_no_sense(cli: Cli, hook: Hook, arguments: list[str], says: str) -> None:
    said = cli("orchestra", "alerts", *arguments)
    assert (said.code, says in said.err) == (2, True), said.err
    assert hook.seen == []


def test_without_a_webhook_nothing_starts(cli: Cli, project: Project) -> None:
    said = cli("orchestra", "alerts", "--results", GOLDEN / "run_results.json")
    assert said.code == 2
    assert "ALERTS_SLACK_WEBHOOK" in said.err
    assert cli("orchestra", "alerts", "--results", GOLDEN / "run_results.json", "--dry-run").code == 0
