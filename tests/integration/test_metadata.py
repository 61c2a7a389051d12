"""A workspace's metadata as a source, on the double: what arrives, what a second run does, what goes wrong meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs

import pytest

from orchestra.metadata import MetadataSource
from orchestra.metadatawindows import FIRST, SPAN
from orchestra.testing.double import PREFIX, OrchestraDouble
from orchestra.testing.refusals import Refusal
from orchestra.testing.state import Run
from runner.testing.conformance import conformance
from tests.conftest import Cli, Project

_PIPELINE = {
    "version": "v1",
    "name": "Shop",
    "pipeline": {
        "load": {
            "tasks": {
                "pull": {
                    "name": "Pull",
                    "integration": "PYTHON",
                    "integration_job": "PYTHON_EXECUTE_SCRIPT",
                    "parameters": {"command": "python -m pull", "flags": ["ü", 1, None]},
                }
            }
        }
    },
}


class Space:
    """A double with a pipeline and a history, and a job that reads it."""

    def __init__(self, double: OrchestraDouble, project: Project, cli: Cli) -> None:
        self.double, self.project, self.cli = double, project, cli
        self.workspace = double.workspace
        self.pipeline = self.workspace.add("shop", _PIPELINE)
        self.options = {"api_key": double.key, "base_url": double.base_url}

    def run_at(self, created: datetime, *, status: str | None = "SUCCEEDED", lasts: float = 60.0) -> Run:
        """Add a run that was created at some time, without a status one that goes on."""
        run = self.workspace.start(self.pipeline, {})
        run.created = run.listed_at = created
        run.begins = created + timedelta(seconds=1)
        run.ends = None if status is None else created + timedelta(seconds=lasts)
        run.final = status or "SUCCEEDED"
        for task in run.tasks:
            task.shown_at = created + timedelta(seconds=2)
        return run

    def history(self, days: float, count: int) -> list[Run]:
        now = datetime.now(UTC) - timedelta(minutes=10)
        return [self.run_at(now - timedelta(days=days) * number / count) for number in range(count)]

    def job(self, tables: str = "orchestra.pipeline_runs:", source: str = "", more: str = "") -> None:
        given = ", ".join(filter(None, (json.dumps(self.options)[1:-1], source)))
        self.project.job(
            f"""
name: metadata
source: {{type: orchestra, {given}}}
destination: {{type: duckdb, path: warehouse.duckdb, dataset: orchestra_metadata}}
{more}
tables:
  {tables}
"""
        )

    def load(self, *arguments: str, code: int = 0) -> str:
        self.double.seen.clear()
        answer = self.cli("backfill", "job.yml", *arguments)
        assert answer.code == code, answer.err + answer.out
        return answer.err + answer.out

    def statuses(self) -> dict[str, str]:
        return dict(self.project.query("select id, run_status from orchestra_metadata.pipeline_runs"))

    def shown(self) -> dict[str, str]:
        now = self.double.now()
        return {run.id: run.status(now) for run in self.workspace.runs.values()}

    def windows(self, path: str = "pipeline_runs", **wanted: str) -> list[tuple[datetime, datetime]]:
        """Return the windows that rows were asked for in, as often as they were."""
        found = []
        for one in self.double.seen:
            query = {key: values[0] for key, values in parse_qs(one.query).items()}
            if one.path == f"{PREFIX}/{path}" and query["page_size"] == "100" and "status" not in query:
                found.append((datetime.fromisoformat(query["time_from"]), datetime.fromisoformat(query["time_to"])))
        return found


@pytest.fixture
def space(project: Project, cli: Cli) -> Iterator[Space]:
    with OrchestraDouble() as double:
        yield Space(double, project, cli)


@pytest.mark.parametrize("table", ["pipelines", "pipeline_runs", "task_runs"])
async def test_it_keeps_the_rules_of_the_port(space: Space, table: str) -> None:
    space.history(20, 60)
    found = await conformance(lambda: MetadataSource(space.options), f"orchestra.{table}")
    assert (found.rows, found.mark is None) == ((1, True) if table == "pipelines" else (60, False))


def test_all_of_a_history_arrives_as_it_is(space: Space) -> None:
    runs = space.history(60, 120)
    runs[3].body["branch"] = "main"
    space.job("orchestra.pipeline*:\n  orchestra.task_runs:")
    space.load()
    now = space.double.now()
    names = {"id", "pipelineId", "envName", "runStatus", "branch", "createdAt", "completedAt", "triggeredBy"}
    wanted = {
        shown["id"]: {name: value for name, value in shown.items() if name in names}
        for shown in (run.shown(now, space.workspace.account) for run in runs)
    }
    columns = "id, pipeline_id, env_name, run_status, branch, created_at, completed_at, triggered_by::text, other_keys"
    found = space.project.query(f"select {columns} from orchestra_metadata.pipeline_runs")
    assert len(found) == len(wanted) == 120
    for id_, pipeline, env, status, branch, created, completed, triggered, other in found:
        assert {
            "id": id_,
            "pipelineId": pipeline,
            "envName": env,
            "runStatus": status,
            "branch": branch,
            "createdAt": created.astimezone(UTC).isoformat(),
            "completedAt": completed.astimezone(UTC).isoformat(),
            "triggeredBy": json.loads(triggered),
        } == wanted[id_]
        assert other is None
    tasks = space.project.query("select task_id, task_parameters::text from orchestra_metadata.task_runs")
    assert len(tasks) == 120
    assert {(task, json.dumps(json.loads(text), sort_keys=True)) for task, text in tasks} == {
        ("pull", json.dumps(_PIPELINE["pipeline"]["load"]["tasks"]["pull"]["parameters"], sort_keys=True))  # type: ignore[index]
    }
    assert space.project.query(
        "select name, paused, num_tasks, schedule::text, webhook::text from orchestra_metadata.pipelines"
    ) == [("Shop", False, 1, "[]", '{"enabled":false}')]


def test_a_second_run_reads_again_what_may_have_changed(space: Space) -> None:
    now = datetime.now(UTC)
    old = space.run_at(now - timedelta(days=40))
    stuck = space.run_at(now - timedelta(days=35), status=None)
    goes_on = space.run_at(now - timedelta(days=20), status=None)
    recent = space.run_at(now - timedelta(days=3))
    space.job()
    space.load()
    assert space.statuses() == space.shown()
    for run in (old, stuck, goes_on, recent):
        space.workspace.finish(run.id, "FAILED")
    new = space.run_at(datetime.now(UTC) - timedelta(minutes=2))
    space.load()
    # A run that has not finished holds the mark for 30 days; one that had finished is looked at for 7 days more.
    expected = {one.id: "FAILED" for one in (goes_on, recent)} | {old.id: "SUCCEEDED", stuck.id: "RUNNING"}
    assert space.statuses() == {**expected, new.id: "SUCCEEDED"}
    assert min(begin for begin, _ in space.windows()) > goes_on.created - timedelta(days=7, seconds=3)
    # All is over: the next run reads the lag alone.
    space.load()
    assert min(begin for begin, _ in space.windows()) > now - timedelta(days=7, minutes=6)
    space.load("--since", (now - timedelta(days=50)).isoformat())
    assert space.statuses() == space.shown()


def test_windows_leave_no_gap_and_their_borders_no_hole(space: Space) -> None:
    border = FIRST + ((datetime.now(UTC) - timedelta(days=20) - FIRST) // SPAN) * SPAN
    beside = [timedelta(microseconds=value) for value in (-1_000_000, -999_999, -1, 0, 1, 999_999, 1_000_000)]
    runs = [space.run_at(border + span * days + one) for days in (0, 1, 2) for span in [SPAN] for one in beside]
    space.job(source="history: 30d")
    said = space.load()
    assert set(space.statuses()) == {run.id for run in runs}
    assert "came more than once" in said
    windows = sorted(set(space.windows()))
    assert all(end - begin <= timedelta(days=7) for begin, end in windows)
    assert all(later[0] < earlier[1] for earlier, later in pairwise(windows))
    assert windows[0][0] <= datetime.now(UTC) - timedelta(days=30)


def test_runs_that_come_between_two_pages_take_no_other_with_them(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = space.history(2, 250)
    answers = 0
    shown = OrchestraDouble._runs

    async def growing(double: OrchestraDouble, request: Any, workspace: Any) -> Any:
        nonlocal answers
        if request.query.get("page") == "2" and answers < 2:
            answers += 1
            # The newest come first: what was the end of the first page is the beginning of the second now.
            runs.append(space.run_at(datetime.now(UTC) - timedelta(hours=1)))
        return await shown(double, request, workspace)

    monkeypatch.setattr(OrchestraDouble, "_runs", growing)
    with OrchestraDouble() as double:
        double.workspaces = {double.key: space.workspace}
        space.double = double
        space.options["base_url"] = double.base_url
        space.job(source="history: 5d")
        said = space.load()
    assert answers == 2
    assert set(space.statuses()) == {run.id for run in runs}
    assert "came more than once" not in said


def test_a_window_with_many_rows_is_read_in_parts(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = space.history(5, 90)
    monkeypatch.setattr("orchestra.metadata._MOST", 20)
    space.job(source="history: 5d")
    space.load()
    assert set(space.statuses()) == {run.id for run in runs}
    assert len(set(space.windows())) >= 5


def test_orchestra_is_asked_to_slow_down_and_fails_for_a_moment(space: Space) -> None:
    runs = space.history(10, 120)
    space.job(source="history: 12d")
    space.double.fail("status", "pipeline_runs.*page_size=100", status=429, headers={"Retry-After": "0"}, times=2)
    space.double.fail("status", "pipeline_runs.*page_size=100", status=502, after=1)
    space.double.fail("cut", "pipeline_runs.*page_size=100", after=2)
    space.load()
    assert set(space.statuses()) == {run.id for run in runs}


def test_history_ends_in_words_where_orchestra_shows_no_more(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    runs = [space.run_at(now - timedelta(days=days)) for days in range(1, 30)]
    shown = OrchestraDouble._runs

    async def forgetful(double: OrchestraDouble, request: Any, workspace: Any) -> Any:
        if datetime.fromisoformat(request.query["time_from"]) < now - timedelta(days=9.5):
            raise Refusal(
                422, [{"loc": ["query", "time_from"], "msg": "Data is kept for a while", "type": "value_error"}]
            )
        return await shown(double, request, workspace)

    monkeypatch.setattr(OrchestraDouble, "_runs", forgetful)
    with OrchestraDouble() as double:
        double.workspaces = {double.key: space.workspace}
        space.double = double
        space.options["base_url"] = double.base_url
        for source in ("", "since: 2025-01-01T00:00:00Z"):
            space.job(source=source)
            said = space.load("--full-refresh", "--tables", "orchestra.pipeline_runs")
            assert "Data is kept for a while" in said
            assert set(space.statuses()) == {run.id for run in runs[:9]}


@pytest.mark.parametrize(
    ("key", "path", "status", "code", "words"),
    [
        ("wrong", "", 0, 2, "ORCHESTRA_API_KEY"),
        (None, "pipeline_runs", 422, 1, "page_size"),
        (None, "pipeline_runs", 403, 1, "right to read"),
    ],
)
def test_refusals_are_told(space: Space, key: str | None, path: str, status: int, code: int, words: str) -> None:
    space.history(1, 3)
    if key is not None:
        space.options["api_key"] = key
    else:
        body = {"detail": [{"loc": ["query", "page_size"], "msg": "too large", "type": "x"}]}
        space.double.fail("status", path, status=status, times=100, body=body)
    space.job()
    assert words in space.load(code=code)


@pytest.mark.parametrize(("table", "words"), [("where: a = 1", "where"), ("cursor: updated_at", "cursor: created_at")])
def test_what_cannot_be_asked_is_refused(space: Space, table: str, words: str) -> None:
    space.history(1, 3)
    space.job(f"orchestra.pipeline_runs: {{{table}}}")
    assert words in space.load(code=1)


def test_a_fresh_container_goes_on_from_the_destination(space: Space) -> None:
    first = space.history(60, 30)
    space.job()
    space.load()
    shutil.rmtree(space.project.folder / ".runner")
    space.run_at(datetime.now(UTC))
    space.load()
    assert len(space.statuses()) == len(first) + 1
    assert len(set(space.windows())) <= 3


def test_doctor_names_what_the_key_may_not_see(space: Space) -> None:
    space.job("orchestra.pipelines:\n  orchestra.task_runs:")
    space.double.fail("status", "/task_runs", status=403, body={"detail": "Not in your plan"}, times=9)
    said = space.cli("doctor", "job.yml")
    assert "Not in your plan" in said.out + said.err
    assert "1 tables can be read" in said.out + said.err
