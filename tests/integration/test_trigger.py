"""Many pipelines are started once each, whatever happens to the answers, and followed to their end; on the double."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from rich.console import Console

from orchestra.client import OrchestraClient, open_client
from orchestra.launching.launch import Launch, plan_launches
from orchestra.launching.launcher import Launcher, Manner
from orchestra.launching.launchtable import LaunchLines, LaunchTable, counts
from orchestra.launching.ranges import cut, parse_range
from orchestra.launching.silence import Silence
from orchestra.launching.triggerfile import load_triggers
from orchestra.testing import OrchestraDouble
from runner.errors import CredentialsRejected, Unreachable, UsageError
from runner.tasks import task_group
from runner.testing.clock import ManualClock
from tests.conftest import Cli, Project

KEYED: dict[str, Any] = {
    "version": "v1",
    "name": "Keyed",
    "inputs": {
        "window": {"type": "string", "default": ""},
        "region": {"type": "string", "default": ""},
        "run_key": {"type": "string", "default": ""},
    },
    "pipeline": {"g": {"tasks": {"t": {"parameters": {"command": "load ${{ inputs.window }}"}}}}},
}
KEYED["pipeline"]["g"]["tasks"]["t"]["parameters"]["environment_variables"] = '{"KEY": "${{ inputs.run_key }}"}'
SHOWN = {
    **KEYED,
    "name": "Shown",
    "inputs": {"window": {"type": "string", "default": ""}},
    "pipeline": {"g": {"tasks": {"t": {"parameters": {"command": "load ${{ inputs.window }}"}}}}},
}
HIDDEN = {
    **KEYED,
    "name": "Hidden",
    "inputs": {},
    "pipeline": {"g": {"tasks": {"t": {"parameters": {"command": "x"}}}}},
}
HALF = cut(parse_range("2024-01-01..2024-07-01"), "month")
WINDOWS = [str(part) for part in HALF]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def double(clock: ManualClock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock.now) as server:
        for alias, definition in (("keyed", KEYED), ("shown", SHOWN), ("hidden", HIDDEN)):
            server.workspace.add(alias, definition)
        yield server


class Place:
    """A trigger file, and what it comes to."""

    def __init__(self, double: OrchestraDouble, clock: ManualClock, folder: Path) -> None:
        self.double, self.clock, self.folder = double, clock, folder
        self.changes: list[tuple[str, str]] = []
        self.on: Callable[[Launch], None] = lambda _: None
        self.launcher: Launcher

    def file(self, *entries: str | dict[str, Any]) -> Path:
        listed = [{"workspace": "first", **({"pipeline": one} if isinstance(one, str) else one)} for one in entries]
        workspaces = {"first": {"variable": "FIRST_KEY", "base_url": self.double.base_url}}
        path = self.folder / "trigger.json"
        path.write_text(json.dumps({"workspaces": workspaces, "pipelines": listed}), "utf-8")
        return path

    async def run(
        self, *entries: str | dict[str, Any], parts: Any = (), into: Any = ("window",), **manner: Any
    ) -> list[Launch]:
        trigger = load_triggers(self.file(*entries), {"FIRST_KEY": self.double.key})
        launches = plan_launches(trigger, parts, into=into if parts else ())

        def changed(launch: Launch) -> None:
            self.changes.append((launch.name, launch.detail or launch.status))
            self.on(launch)

        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(open_client(launches[0].workspace, self.clock, timeout=0.3))
            self.launcher = Launcher(
                launches, {launches[0].workspace: client}, self.clock, Manner(**manner), changed=changed
            )
            await self.launcher.run()
            self.problems = await self.launcher.cancel() if manner.get("wait") and self.cancels else []
        return launches

    cancels = False

    @property
    def runs(self) -> list[str]:
        return list(self.double.workspace.runs)


@pytest.fixture
def place(double: OrchestraDouble, clock: ManualClock, tmp_path: Path) -> Place:
    return Place(double, clock, tmp_path)


def statuses(launches: list[Launch]) -> list[str]:
    return [launch.status for launch in launches]


async def test_all_are_started_with_what_the_file_says(place: Place) -> None:
    launches = await place.run(
        {"pipeline": "keyed", "run_inputs": {"region": "eu"}, "environment": "Dev", "branch": "main"},
        {"pipeline": "hidden", "task_ids": ["t"], "continue_downstream": True},
    )
    assert statuses(launches) == ["started", "started"]
    assert {launch.run for launch in launches} == set(place.runs)
    bodies = {body.get("environment"): body for body in place.double.workspace.starts}
    key = bodies["Dev"]["runInputs"].pop("run_key")
    assert len(key) == 32
    assert bodies["Dev"] == {"runInputs": {"region": "eu"}, "environment": "Dev", "branch": "main"}
    assert bodies[None] == {"taskIds": ["t"], "continueDownstreamRun": True}
    record = launches[0].record(place.clock.monotonic())
    assert record["url"] == f"{place.double.url}/pipeline-runs/{launches[0].run}/lineage"
    assert record["run_inputs"] == ["region", "run_key"]
    assert record["attempts"] == 1


async def test_each_part_of_a_range_is_a_start_of_every_pipeline(place: Place) -> None:
    launches = await place.run("keyed", "shown", parts=HALF)
    assert [(launch.pipeline, str(launch.part)) for launch in launches] == [
        (pipeline, window) for window in WINDOWS for pipeline in ("keyed", "shown")
    ]
    sent = [body["runInputs"] for body in place.double.workspace.starts]
    assert sorted(one["window"] for one in sent) == sorted(WINDOWS * 2)
    keys = [one["run_key"] for one in sent if "run_key" in one]
    assert len(set(keys)) == len(keys) == 6


async def test_two_inputs_take_the_ends_of_a_part(place: Place) -> None:
    await place.run({"pipeline": "keyed", "run_inputs": {"region": "eu"}}, parts=HALF[:1], into=("window", "region"))
    (sent,) = place.double.workspace.starts
    assert {name: sent["runInputs"][name] for name in ("window", "region")} == {
        "window": "2024-01-01",
        "region": "2024-02-01",
    }


async def test_the_key_goes_where_it_is_taken(place: Place) -> None:
    await place.run("keyed", "shown", run_key_input="region")
    (keyed,) = [body["runInputs"] for body in place.double.workspace.starts if "runInputs" in body]
    assert [len(value) for value in keyed.values()] == [32]
    with pytest.raises(UsageError, match="--run-key-input reigon: no pipeline takes this input"):
        await place.run("keyed", "shown", run_key_input="reigon")


# Answers that go wrong: each start becomes exactly one run.


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset", "done": True},
        {"kind": "reset", "done": False},
        {"kind": "cut", "done": False},
        {"kind": "silence", "done": True},
        {"kind": "silence", "done": False},
        {"kind": "status", "status": 502, "done": True},
        {"kind": "status", "status": 504, "done": False},
        {"kind": "body", "status": 201, "body": {"message": "Accepted"}, "done": True},
        {"kind": "body", "status": 200, "body": "<html>Welcome</html>", "done": True},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3"}},
        {"kind": "status", "status": 503, "headers": {"Retry-After": "3"}},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "90"}, "times": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("pipeline", ["keyed", "shown"])
async def test_each_start_becomes_one_run(place: Place, pipeline: str, fault: dict[str, Any]) -> None:
    place.double.workspace.task_delay = 3.0
    place.double.fail(path="/start", method="POST", after=1, **fault)
    launches = await place.run(pipeline, parts=HALF[:3])
    assert statuses(launches) == ["started"] * 3
    assert sorted(launch.run or "" for launch in launches) == sorted(place.runs)
    windows = [place.double.workspace.runs[launch.run or ""].inputs["window"] for launch in launches]
    assert windows == WINDOWS[:3]


async def test_what_nobody_can_tell_stays_unknown(place: Place) -> None:
    place.double.fail("reset", "/start", done=True)
    (launch,) = await place.run("hidden")
    assert launch.status == "unknown"
    assert launch.candidates == (launch.workspace.run_url(place.runs[0]),)
    assert "do not show what they were started with" in (launch.error or "")
    assert len(place.runs) == 1
    assert launch.bad
    assert place.clock.slept == [], "to look again would not help"


async def test_runs_that_show_nothing_yet_are_looked_at_again(place: Place) -> None:
    place.double.workspace.task_delay = 1000.0
    place.double.fail("reset", "/start", done=True)
    (launch,) = await place.run("keyed", lookup_for=timedelta(minutes=3))
    assert launch.status == "unknown"
    assert launch.candidates == (launch.workspace.run_url(place.runs[0]),)
    assert sum(place.clock.slept) >= 180


async def test_what_certainly_did_not_begin_is_sent_again(place: Place) -> None:
    pipeline = place.double.workspace.find("hidden")
    assert pipeline is not None
    before = place.double.workspace.start(pipeline, {}).id
    place.double.fail("status", "/start", status=500)
    place.on = lambda launch: (
        (place.double.workspace.start(pipeline, {}, trigger="SCHEDULED") if launch.status == "looking" else None)
        and None
    )
    (launch,) = await place.run("hidden")
    assert launch.status == "started"
    assert launch.attempts == 2
    assert len(place.runs) == 3
    assert launch.run not in (before, None)


async def test_equal_starts_are_told_apart(place: Place) -> None:
    place.double.fail("reset", "/start", after=1, done=True)
    launches = await place.run("shown", "shown", "shown", parts=HALF[:1])
    assert statuses(launches) == ["started"] * 3
    assert sorted(launch.run or "" for launch in launches) == sorted(place.runs)


async def test_a_run_that_goes_on_from_another_is_never_sent_twice(place: Place) -> None:
    place.double.fail("status", "/start", status=502)
    (launch,) = await place.run({"pipeline": "keyed", "retry_from_failed": True})
    assert launch.status == "unknown"
    assert launch.attempts == 1


@pytest.mark.parametrize("status", [429, 500])
async def test_attempts_end(place: Place, status: int) -> None:
    place.double.fail("status", "/start", status=status, times=100)
    (launch,) = await place.run("keyed", retries=2)
    assert launch.status == "not started"
    assert launch.attempts == 3
    assert place.runs == []
    assert launch.bad


async def test_a_longer_pause_than_there_is_time_for(place: Place) -> None:
    place.double.fail("status", "/start", status=429, headers={"Retry-After": "700"})
    (launch,) = await place.run("keyed")
    assert (launch.status, launch.attempts) == ("not started", 1)


async def test_a_refusal_is_final_and_says_no_values(place: Place) -> None:
    said = {"detail": "region 'eu-secret-7' is none; ab, too: " + "x" * 320 + " eu-secret-7"}
    place.double.fail("status", "/start", status=422, body=said)
    (launch,) = await place.run({"pipeline": "keyed", "run_inputs": {"region": "eu-secret-7", "window": "ab"}})
    assert launch.status == "not started"
    assert launch.attempts == 1
    assert "region '***' is none; ***, too" in (launch.error or "")
    assert "eu-se" not in json.dumps(launch.record(0.0)) + repr(launch)


async def test_who_never_hears_of_a_run_again_does_not_claim_that_it_goes_on(place: Place) -> None:
    place.double.fail("reset", "/status|/pipeline_runs", after=9, times=10**6)
    (launch,) = await place.run("keyed", wait=True, timeout=300.0)
    assert launch.unfinished
    assert launch.silent
    assert re.search(r"Orchestra at 127\.0\.0\.1:\d+ has not answered since 20", launch.error or "")
    assert place.launcher.timed_out


async def test_silence_is_told_once_and_its_end_too(place: Place) -> None:
    client = SimpleNamespace(
        workspace=SimpleNamespace(name="here"), clock=place.clock, transport=SimpleNamespace(unanswered=None)
    )
    stream = io.StringIO()
    silence = Silence([cast("OrchestraClient", client)] * 2, place.clock, stream)
    began = place.clock.now()
    async with task_group() as group:
        group.start_soon(silence.watch)
        client.transport.unanswered = began
        while (place.clock.now() - began).total_seconds() < 60:
            await anyio.sleep(0)
        (line,) = stream.getvalue().splitlines()
        assert line.endswith(f"Orchestra at here has not answered since {began:%Y-%m-%dT%H:%M:%SZ}.")
        table = LaunchTable([], place.clock, warnings=lambda: silence.lines().values())
        console = Console(file=io.StringIO(), record=True)
        console.print(table.render())
        assert "has not answered since" in console.export_text()
        client.transport.unanswered = None
        while len(stream.getvalue().splitlines()) < 2:
            await anyio.sleep(0)
        assert stream.getvalue().endswith("Orchestra at here answers again.\n")
        group.cancel_scope.cancel()


# Before the first start.


async def test_nothing_is_started_where_a_pipeline_is_missing(place: Place) -> None:
    with pytest.raises(UsageError) as caught:
        await place.run("keyed", "kayed", "hidden", parts=HALF)
    assert "first/kayed: there is no such pipeline in this workspace. Did you mean 'keyed'?" in caught.value.message
    assert "first/hidden: the pipeline takes no input 'window'" in caught.value.message
    assert "Nothing was started." in caught.value.message
    assert place.runs == []


async def test_nothing_is_started_where_inputs_are_wrong(place: Place) -> None:
    typed = {
        **KEYED,
        "inputs": {
            "tables": {"type": "list", "default": []},
            "full_refresh": {"type": "boolean", "default": False},
            "day": {"type": "string"},
            "rows": {"type": "number", "default": None, "optional": True},
        },
    }
    place.double.workspace.add("typed", typed)
    given = {"full_refresh": "sesame", "rows": True, "tables": ["a"], "tabels": "sesame"}
    with pytest.raises(UsageError) as caught:
        await place.run({"pipeline": "typed", "run_inputs": given}, {"pipeline": "keyed", "run_inputs": {"reegion": 1}})
    assert caught.value.message.splitlines() == [
        "first/typed: the input 'full_refresh' is a text, and its type is boolean. Leave the quotes out.",
        "first/typed: the input 'rows' is a flag, and its type is number.",
        "first/typed: the pipeline takes no input 'tabels'. Did you mean 'tables'?",
        "first/typed: the pipeline needs the input 'day', which has no default. Give it in run_inputs.",
        "first/keyed: the pipeline takes no input 'reegion'. Did you mean 'region'?",
        "Nothing was started.",
    ]
    assert caught.value.exit_code == 2
    assert place.runs == []
    # A run that goes on from an earlier one has its inputs.
    (again,) = await place.run({"pipeline": "typed", "retry_from_failed": True, "run_inputs": {"rows": 5}})
    assert again.attempts == 1


async def test_where_inputs_are_not_known_orchestra_decides(place: Place) -> None:
    place.double.fail("status", "/pipeline", status=403, times=9)
    (launch,) = await place.run({"pipeline": "keyed", "run_inputs": {"reegion": "eu"}})
    assert launch.status == "not started"
    assert launch.attempts == 1


async def test_nothing_is_started_where_a_key_is_wrong(place: Place) -> None:
    place.double.workspaces.clear()
    with pytest.raises(CredentialsRejected, match="first/keyed"):
        await place.run("keyed")


async def test_nothing_is_started_where_orchestra_does_not_answer(place: Place) -> None:
    place.double.fail("status", "/pipeline", status=500, times=1000)
    with pytest.raises(Unreachable, match="Nothing was started"):
        await place.run("keyed")


async def test_a_key_that_may_only_start_starts(place: Place) -> None:
    place.double.fail("status", "/pipeline?", method="GET", status=403, times=1000)
    (launch,) = await place.run("keyed")
    assert launch.status == "started"
    place.double.fail("reset", "/start", done=True)
    (launch,) = await place.run("keyed")
    assert (launch.status, launch.attempts) == ("unknown", 1)
    assert "cannot be seen" in (launch.error or "")


# Following.


async def test_every_end_is_kept_apart(place: Place) -> None:
    place.double.workspace.run_for = 120.0
    ends = dict(zip(WINDOWS, ("SUCCEEDED", "WARNING", "FAILED", "CANCELLED", "SKIPPED"), strict=False))

    def on(launch: Launch) -> None:
        if launch.status == "started" and launch.run:
            place.double.workspace.runs[launch.run].final = ends[str(launch.part)]

    place.on = on
    launches = await place.run("keyed", parts=HALF[:5], wait=True)
    assert statuses(launches) == ["succeeded", "warning", "failed", "cancelled", "skipped"]
    assert [launch.bad for launch in launches] == [False, False, True, True, True]
    first = [status for name, status in place.changes if name.endswith(WINDOWS[0])]
    assert first[:2] == ["starting", "started"]
    assert first[-2:] == ["running", "succeeded"]
    assert counts(launches) == "1 succeeded, 1 warning, 1 skipped, 1 failed, 1 cancelled"


async def test_only_so_many_runs_are_under_way(place: Place) -> None:
    place.double.workspace.run_for = 60.0
    peak = 0

    def on(launch: Launch) -> None:
        nonlocal peak
        now = place.clock.now()
        peak = max(peak, sum(run.status(now) in ("CREATED", "RUNNING") for run in place.double.workspace.runs.values()))

    place.on = on
    launches = await place.run("keyed", parts=HALF, wait=True, max_active=2)
    assert statuses(launches) == ["succeeded"] * 6
    assert peak == 2


async def test_one_after_another_until_one_fails(place: Place) -> None:
    place.double.workspace.run_for = 60.0

    def on(launch: Launch) -> None:
        if launch.status == "started" and launch.number == 3 and launch.run:
            place.double.workspace.runs[launch.run].final = "FAILED"

    place.on = on
    launches = await place.run("keyed", parts=HALF, wait=True, sequential=True)
    assert statuses(launches) == ["succeeded", "succeeded", "failed", *["not started"] * 3]
    assert launches[3].bad
    assert launches[3].error == "The one before it did not end well."
    assert [name.split()[-1] for name, status in place.changes if status == "started"] == WINDOWS[:3]


async def test_time_is_up(place: Place) -> None:
    launches = await place.run("keyed", parts=HALF, wait=True, timeout=90.0, max_active=2)
    assert statuses(launches) == ["running", "running", *["not started"] * 4]
    assert place.launcher.timed_out
    assert all(launch.unfinished for launch in launches)
    assert not any(launch.bad for launch in launches)
    assert len(place.runs) == 2


async def test_a_pause_that_outlasts_the_time(place: Place) -> None:
    place.double.fail("status", "/start", status=429, headers={"Retry-After": "60"})
    (launch,) = await place.run("keyed", wait=True, timeout=30.0)
    assert (launch.status, launch.unfinished, place.launcher.timed_out) == ("not started", True, True)


@pytest.mark.parametrize("cancels", [False, True])
async def test_stopped_runs_go_on_or_are_cancelled(place: Place, cancels: bool) -> None:
    def on(launch: Launch) -> None:
        if launch.status == "running" and launch.number == 2:
            place.launcher.stop()

    place.on, place.cancels = on, cancels
    place.double.workspace.cancel_for = 0.0
    launches = await place.run("keyed", parts=HALF, wait=True, max_active=2)
    assert statuses(launches) == ["running", "running", *["not started"] * 4]
    assert all(launch.unfinished for launch in launches)
    now = place.clock.now()
    ends = {run.status(now) for run in place.double.workspace.runs.values()}
    assert ("CANCELLED" in ends) == cancels
    assert place.problems == []


async def test_what_is_being_sent_is_not_cut_off(place: Place) -> None:
    place.double.latency = 0.1

    def on(launch: Launch) -> None:
        if launch.status == "starting" and launch.number == 1:
            asyncio.get_running_loop().call_later(0.05, place.launcher.stop)

    place.on = on
    launches = await place.run("keyed", "keyed", at_once=1)
    assert statuses(launches) == ["started", "not started"]
    assert place.runs == [launches[0].run]
    assert launches[1].error == "Stopped before it was sent."


async def test_to_stop_twice_cuts_it_off(place: Place) -> None:
    place.double.fail("silence", "/start", done=True)

    def on(launch: Launch) -> None:
        if launch.status == "starting":
            for seconds in (0.05, 0.1):
                asyncio.get_running_loop().call_later(seconds, place.launcher.stop)

    place.on = on
    (launch,) = await place.run("keyed")
    assert (launch.status, launch.error) == ("unknown", "It was interrupted while it was being sent.")


async def test_a_lost_start_that_nobody_looked_for_is_unknown(place: Place) -> None:
    place.double.fail("reset", "/start", done=True)
    place.on = lambda launch: place.launcher.stop() if launch.status == "looking" else None
    (launch,) = await place.run("keyed")
    assert launch.status == "unknown"
    assert launch.bad


async def test_the_live_table_and_the_lines(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    place.double.workspace.run_for = 60.0
    place.double.workspace.final = "FAILED"
    lines = LaunchLines(place.clock)
    place.on = lines
    launches = await place.run({"pipeline": "keyed", "run_inputs": {"region": "eu-secret-7"}}, parts=HALF, wait=True)
    err = capsys.readouterr().err.splitlines()
    assert sum(line.endswith("keyed 2024-03-01..2024-04-01: running") for line in err) == 1
    assert f"first/keyed 2024-03-01..2024-04-01: failed · {launches[2].url}" in "\n".join(err)
    console = Console(width=80, height=9)
    with console.capture() as shown:
        console.print(LaunchTable(launches, place.clock, console).render())
    assert "6 failed" in shown.get()
    assert "… and" in shown.get()
    assert "eu-secret-7" not in shown.get() + "\n".join(err)


# The command.


@pytest.fixture
def real(project: Project) -> Iterator[OrchestraDouble]:
    with OrchestraDouble() as server:
        server.workspace.add("keyed", KEYED)
        server.workspace.start_after = 0.0
        project.environ |= {"ORCHESTRA_BASE_URL": server.base_url, "FIRST_KEY": server.key}
        yield server


def config(project: Project, *entries: dict[str, Any]) -> Path:
    listed = [{"workspace": "first", "pipeline": "keyed", **one} for one in entries or ({},)]
    path = project.folder / "trigger.json"
    path.write_text(json.dumps({"workspaces": {"first": "FIRST_KEY"}, "pipelines": listed}), "utf-8")
    return path


def test_the_command_starts_and_reports(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    path = config(project, {"run_inputs": {"region": "eu-secret-7"}})
    said = cli("orchestra", "trigger", path, "--json", "--set", "region=us-secret-8")
    assert said.code == 0
    found = json.loads(said.out)
    (start,) = found["starts"]
    assert (start["status"], start["workspace"], start["pipeline"]) == ("started", "first", "keyed")
    assert start["run_id"] in real.workspace.runs
    assert found["waited"] is False
    assert real.workspace.starts[0]["runInputs"]["region"] == "us-secret-8"
    assert not any(value in said.out + said.err for value in ("secret-7", "secret-8", real.key))
    said = cli("orchestra", "trigger", path)
    assert "1 started. Started means accepted: nobody waited for the end." in said.out


def test_the_command_follows_a_backfill(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    real.workspace.run_for, real.workspace.final = 0.2, "WARNING"
    range_ = ("--range", "2024-01-01..2024-03-31", "--by", "month", "--input", "window", "--reverse")
    said = cli("orchestra", "trigger", config(project), *range_, "--wait")
    assert said.code == 0, said.err
    assert "3 warning." in said.out
    assert "note: 2024-03-31 itself is not in this range" in said.err
    assert {body["runInputs"]["window"] for body in real.workspace.starts} == {
        "2024-01-01..2024-02-01",
        "2024-02-01..2024-03-01",
        "2024-03-01..2024-03-31",
    }


def test_pipelines_by_name_that_fail(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    project.environ["ORCHESTRA_API_KEY"] = real.key
    real.workspace.run_for, real.workspace.final = 0.0, "SKIPPED"
    said = cli("orchestra", "trigger", "--pipeline", "keyed", "--wait")
    assert said.code == 1
    assert "1 skipped." in said.out
    assert "start them again" in said.err


def test_a_dry_run_sends_nothing_and_shows_no_values(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    path = config(project, {"run_inputs": {"region": "eu-secret-7"}, "branch": "main"})
    asked = ("orchestra", "trigger", path, "--dry-run", "--range", "2024-01-01..2024-02-01", "--by", "week")
    said = cli(*asked, "--json")
    starts = json.loads(said.out)["starts"]
    assert len(starts) == 5
    assert starts[0]["body"] == {
        "branch": "main",
        "runInputs": {"region": "***", "since": "2024-01-01", "until": "2024-01-08"},
    }
    assert "2024-01-01..2024-01-08" in cli(*asked).out
    assert "5 starts; nothing was sent." in cli(*asked).out
    assert real.seen == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Name a trigger file"),
        (("trigger.json", "--pipeline", "x"), "Name a trigger file"),
        (("trigger.json", "--timeout", "2h"), "belong to --wait"),
        (("trigger.json", "--wait", "--timeout", "soon"), "--timeout: 'soon' is not a duration"),
        (("trigger.json", "--range", "2024-01-01..2024-02-01"), "--range needs --by"),
        (("trigger.json", "--by", "day"), "belong to --range"),
        (("trigger.json", "--set", "sesame"), "--set: KEY=VALUE is meant"),
        (("trigger.json", "--set", "a:=sesame"), "--set a: what follows := is not JSON"),
        (("trigger.json", "--set", "a=1", "--set", "a=2"), "set twice"),
        (("trigger.json", "--input", "a,b,c"), "one input is meant, or two"),
        (
            ("trigger.json", "--range", "2024-01-01..2024-02-01", "--by", "day", "--set", "since=x"),
            "--set since: this input holds the part",
        ),
        (("nowhere.json",), "no such file"),
        (("trigger.json", "--only", "x*"), "fits no pipeline"),
        (("trigger.json", "--range", "2024-01-01..2024-02-01", "--by", "month"), "takes no input 'since'"),
    ],
)
def test_what_cannot_start(cli: Cli, project: Project, real: OrchestraDouble, arguments: Any, says: str) -> None:
    config(project)
    said = cli("orchestra", "trigger", *arguments)
    assert said.code == 2
    assert says in said.err
    assert "sesame" not in said.err
    assert "Traceback" not in said.err
    assert real.workspace.starts == []


def test_what_set_gives_is_looked_at_before_the_first_start(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    kinds = {"full_refresh": {"type": "boolean", "default": False}, "tables": {"type": "list", "default": []}}
    real.workspace.add("typed", {**KEYED, "inputs": kinds})
    path = config(project, {"pipeline": "typed"})
    said = cli("orchestra", "trigger", path, "--set", "full_refresh=sesame", "--set", "tables=sesame", "--set", "x=1")
    assert said.code == 2
    assert (
        "the input 'full_refresh', which --set gives, is a text, and its type is boolean. "
        "Write for example --set 'full_refresh:=true'." in said.err
    )
    assert """--set 'tables:=["shop.orders"]'""" in said.err
    assert "takes no input 'x', which --set gives. It takes full_refresh, tables." in said.err
    assert "sesame" not in said.err
    assert real.workspace.starts == []
    assert cli("orchestra", "trigger", path, "--set", "full_refresh:=true", "--set", 'tables:=["a"]').code == 0


def test_a_pipeline_is_no_trigger_file(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    path = project.folder / "orders.yml"
    path.write_text(json.dumps(KEYED), "utf-8")
    said = cli("orchestra", "trigger", path)
    assert said.code == 2
    assert "orders.yml: this is a pipeline, not a trigger file." in said.err
    assert "--pipeline NAME" in said.err
    assert len(said.err.splitlines()) <= 2


def test_started_is_explained_where_something_was(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    real.fail("status", "/start", status=400, body={"detail": "no"}, times=2)
    said = cli("orchestra", "trigger", config(project))
    assert said.code == 1
    assert said.out.rstrip().endswith("1 not started.")
    assert "1 start; nothing was sent." in cli("orchestra", "trigger", config(project), "--dry-run").out


def test_time_is_up_for_the_command(cli: Cli, project: Project, real: OrchestraDouble) -> None:
    said = cli("orchestra", "trigger", config(project), "--wait", "--timeout", "200ms")
    assert said.code == 3
    assert "1 running." in said.out
    (run,) = real.workspace.runs.values()
    assert "Time is up: 1 run goes on in Orchestra." in said.err
    assert f"/pipeline-runs/{run.id}/lineage" in said.err
    assert run.ends is None


def test_an_interrupted_process_cancels_where_it_is_asked_to(project: Project, real: OrchestraDouble) -> None:
    asked = ("--wait", "--cancel-on-interrupt", "--range", "2024-01-01..2024-03-01", "--by", "month")
    process = project.start("orchestra", "trigger", str(config(project)), "--json", *asked, "--input", "window")
    end = time.monotonic() + 30
    while real.count("/pipeline_runs/") < 2 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(30)
    assert process.returncode == 3, err
    assert [start["status"] for start in json.loads(out)["starts"]] == ["running", "running"]
    assert "Stopped: 2 runs are being cancelled." in err
    assert all(run.final == "CANCELLED" for run in real.workspace.runs.values())
