"""The double of Orchestra answers as its reference says, and refuses what it refuses."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from orchestra.testing import OrchestraDouble
from orchestra.testing.double import PREFIX
from orchestra.testing.state import Workspace
from tests.orchestraapi import LOAD, Clock, ask

_NO_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def double(clock: Clock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock) as server:
        server.workspace.add("load_orders", LOAD)
        yield server


_RUNS, _TASKS = f"{PREFIX}/pipeline_runs", f"{PREFIX}/task_runs"
_START = f"{PREFIX}/pipelines/load_orders/start"
_EVENT = {"event_type": "SET_OUTPUT", "task_run_id": _NO_ID, "output_name": "a", "output_value": 1}
# path, body, status, where in the request (or words of the detail).
_REFUSED: dict[str, tuple[str, Any, int, Any]] = {
    "unknown path": (f"{PREFIX}/pipeline_run", None, 404, "Not Found"),
    "unknown method": (_START, None, 405, "Method Not Allowed"),
    "unknown parameter of runs": (f"{_RUNS}?statuses=FAILED", None, 422, ["query", "statuses"]),
    "camel case": (f"{_RUNS}?pageSize=5", None, 422, ["query", "pageSize"]),
    "unknown parameter of task runs": (f"{_TASKS}?environments={_NO_ID}", None, 422, ["query", "environments"]),
    "unknown parameter of one run": (f"{_RUNS}/{_NO_ID}/status?page=1", None, 422, ["query", "page"]),
    "unknown parameter of its tasks": (f"{_RUNS}/{_NO_ID}/task_runs?status=FAILED", None, 422, ["query", "status"]),
    "unknown parameter of a pipeline": (f"{PREFIX}/pipeline?name=a", None, 422, ["query", "name"]),
    "a parameter twice": (f"{_RUNS}?status=FAILED&status=WARNING", None, 422, ["query", "status"]),
    "page of 101": (f"{_RUNS}?page_size=101", None, 422, ["query", "page_size"]),
    "page of none": (f"{_RUNS}?page_size=0", None, 422, ["query", "page_size"]),
    "page 0": (f"{_TASKS}?page=0", None, 422, ["query", "page"]),
    "page in words": (f"{_TASKS}?page=first", None, 422, ["query", "page"]),
    "half a window": (f"{_RUNS}?time_from=2026-01-01T00:00:00Z", None, 422, ["query", "time_to"]),
    "the other half": (f"{_TASKS}?time_to=2026-01-01T00:00:00Z", None, 422, ["query", "time_from"]),
    "a window of 8 days": (
        f"{_RUNS}?time_from=2026-01-01T00:00:00Z&time_to=2026-01-08T00:00:01Z",
        None,
        422,
        ["query", "time_to"],
    ),
    "a window backwards": (
        f"{_RUNS}?time_from=2026-01-02T00:00:00Z&time_to=2026-01-01T00:00:00Z",
        None,
        422,
        ["query", "time_from"],
    ),
    "a time in words": (f"{_RUNS}?time_from=today&time_to=today", None, 422, ["query", "time_from"]),
    "a time of nowhere": (f"{_RUNS}?time_from=2026-01-01&time_to=2026-01-02", None, 422, ["query", "time_from"]),
    "unknown status": (f"{_RUNS}?status=FAILED,DONE", None, 422, ["query", "status"]),
    "status in small letters": (f"{_TASKS}?status=failed", None, 422, ["query", "status"]),
    "an alias for an id": (f"{_RUNS}?pipeline_ids=load_orders", None, 422, ["query", "pipeline_ids"]),
    "an odd id of a run": (f"{_RUNS}?pipeline_run_ids=1", None, 422, ["query", "pipeline_run_ids"]),
    "an odd id in a path": (f"{_RUNS}/1/status", None, 422, ["path", "pipeline_run_id"]),
    "an unknown run": (f"{_RUNS}/{_NO_ID}/status", None, 404, "Pipeline run not found"),
    "tasks of an unknown run": (f"{_RUNS}/{_NO_ID}/task_runs", None, 404, "Pipeline run not found"),
    "an unknown pipeline": (f"{PREFIX}/pipeline?alias=other", None, 404, "Pipeline not found"),
    "no selector": (f"{PREFIX}/pipeline", None, 400, "exactly one"),
    "two selectors": (f"{PREFIX}/pipeline/data?alias=a&pipeline_id={_NO_ID}", None, 400, "exactly one"),
    "half a selector": (f"{PREFIX}/pipeline?repository=a/b", None, 422, ["query", "yaml_path"]),
    "an alias as an id": (f"{PREFIX}/pipeline?pipeline_id=load_orders", None, 422, ["query", "pipeline_id"]),
    "start of an unknown pipeline": (f"{PREFIX}/pipelines/other/start", {}, 404, "Pipeline not found"),
    "inputs in snake case": (_START, {"run_inputs": {}}, 422, ["body", "run_inputs"]),
    "inputs as a list": (_START, {"runInputs": []}, 422, ["body", "runInputs"]),
    "an unknown input": (_START, {"runInputs": {"file": "a", "x": 1}}, 422, ["body", "runInputs", "x"]),
    "an input of another type": (_START, {"runInputs": {"file": 5}}, 422, ["body", "runInputs", "file"]),
    "true for a number": (_START, {"runInputs": {"file": "a", "rows": True}}, 422, ["body", "runInputs", "rows"]),
    "a missing input": (_START, {}, 400, "Missing required pipeline input: file"),
    "a version in words": (_START, {"versionNumber": "1"}, 422, ["body", "versionNumber"]),
    "unknown task": (_START, {"taskIds": ["other"]}, 422, ["body", "taskIds"]),
    "a task that is none": (_START, {"taskIds": [1]}, 422, ["body", "taskIds", 0]),
    "continue without tasks": (_START, {"continueDownstreamRun": True}, 422, ["body", "continueDownstreamRun"]),
    "an override without type": (
        _START,
        {"environmentOverrides": {"A": "b"}},
        422,
        ["body", "environmentOverrides", "A"],
    ),
    "a start with a query": (f"{_START}?environment=a", {}, 422, ["query", "environment"]),
    "no JSON": (_START, b"{", 422, ["body", 0]),
    "an array": (_START, [], 422, ["body"]),
    "a schema without a name": (f"{PREFIX}/pipelines/schema", {"version": "v1", "pipeline": {}}, 422, ["name"]),
    "an unknown event": ("/", {**_EVENT, "event_type": "OUTPUT"}, 422, ["body", "event_type"]),
    "an event without value": ("/", {**_EVENT, "output_value": 1, "x": 2}, 422, ["body", "x"]),
    "an event of no task": ("/", {"event_type": "SET_OUTPUT", "output_name": "a"}, 422, ["body", "output_value"]),
}


@pytest.fixture(scope="module")
def standing() -> Iterator[OrchestraDouble]:
    with OrchestraDouble() as server:
        server.workspace.add("load_orders", LOAD)
        yield server


@pytest.mark.parametrize("case", _REFUSED)
def test_it_refuses(standing: OrchestraDouble, case: str) -> None:
    path, body, status, where = _REFUSED[case]
    answer = ask(standing, path, body)
    assert answer[0] == status, answer
    if isinstance(where, list):
        assert answer[1]["detail"][0]["loc"] == where
        assert {"type", "msg"} < set(answer[1]["detail"][0])
    else:
        assert where in answer[1]["detail"]
    assert not standing.workspace.runs


def test_nobody_is_let_in_without_a_key_or_into_another_workspace(double: OrchestraDouble) -> None:
    double.workspaces["other"] = Workspace(double.now)
    for key in (None, "wrong"):
        assert ask(double, _RUNS, key=key)[0] == 401
    account = {"X-Orchestra-Account-Id": double.workspace.account}
    assert ask(double, _RUNS, **account)[0] == 200
    assert ask(double, _RUNS, key="other", **account)[0] == 403
    assert ask(double, _START, {"runInputs": {"file": "a"}}, key="other")[0] == 404


def test_a_run_goes_through_its_statuses(double: OrchestraDouble, clock: Clock) -> None:
    double.workspace.run_for, double.workspace.task_delay = 10.0, 3.0
    status, started = ask(double, _START, {"runInputs": {"file": "a.csv", "run_key": "k1"}, "environment": "Dev"})
    run = started["pipelineRunId"]
    assert (status, set(started)) == (200, {"id", "pipelineRunId", "message"})
    path = f"{_RUNS}/{run}"
    assert ask(double, f"{path}/status")[1]["runStatus"] == "CREATED"
    assert ask(double, f"{path}/task_runs")[1] == {"page": 1, "pageSize": 10, "total": 0, "results": []}
    clock.go(seconds=3)
    assert ask(double, f"{path}/status")[1]["runStatus"] == "RUNNING"
    pull, tell = ask(double, f"{path}/task_runs")[1]["results"]
    assert pull["taskParameters"] == {
        "command": "python -m pull a.csv",
        "environment_variables": '{"KEY": "k1"}',
        "set_outputs": True,
    }
    assert (pull["taskId"], pull["status"], pull["pipelineRunId"], tell["taskParameters"]) == (
        "pull",
        "RUNNING",
        run,
        {},
    )
    clock.go(seconds=7)
    (listed,) = ask(double, f"{_RUNS}?status=SUCCEEDED,FAILED")[1]["results"]
    assert (listed["runStatus"], listed["completedAt"], listed["envName"]) == (
        "SUCCEEDED",
        "2026-01-01T12:00:10+00:00",
        "Dev",
    )


def test_lists_are_paged_filtered_and_bounded_by_time(double: OrchestraDouble, clock: Clock) -> None:
    other = double.workspace.add("other", LOAD.replace("Load orders", "Other"))
    first = double.workspace.find("load_orders")
    assert first is not None
    runs = [double.workspace.start(one, {}).id for one in (first, other, first) if not clock.go(minutes=1)]
    query = {"time_from": "2026-01-01T12:02:00Z", "time_to": "2026-01-01T13:00:00Z"}

    def found(**more: str) -> list[str]:
        return [one["id"] for one in ask(double, f"{_RUNS}?{urlencode(more)}")[1]["results"]]

    assert found(**query) == [runs[2], runs[1]]
    assert found(page="2", page_size="2") == [runs[0]]
    assert found(pipeline_ids=other.id) == [runs[1]]
    assert found(pipeline_run_ids=f"{runs[0]},{runs[2]}") == [runs[2], runs[0]]
    tasks = ask(double, f"{_TASKS}?pipeline_run_ids={runs[0]}&page_size=100")[1]
    assert {one["pipelineRunId"] for one in tasks["results"]} == set(runs), "it does not filter"
    clock.go(days=1, minutes=1)
    assert [ask(double, one)[1]["total"] for one in (_RUNS, _TASKS)] == [3, 6]
    clock.go(days=6)
    assert [ask(double, one)[1]["total"] for one in (_RUNS, _TASKS)] == [0, 0], "7 days by default"


def test_a_paused_pipeline_is_not_started(double: OrchestraDouble) -> None:
    double.workspace.add("paused", LOAD, paused=True)
    status, answer = ask(double, f"{PREFIX}/pipelines/paused/start", {"runInputs": {"file": "a"}})
    assert (status, answer) == (400, {"detail": "Pipeline is paused"})


@pytest.mark.parametrize("kind", ["status", "reset", "silence"])
@pytest.mark.parametrize("done", [True, False])
def test_an_answer_can_be_lost_after_a_start_and_before(double: OrchestraDouble, kind: Any, done: bool) -> None:
    double.fail(kind, "/start", status=502, done=done)
    request = urllib.request.Request(
        f"{double.url}{_START}",
        data=b'{"runInputs": {"file": "a"}}',
        headers={"Authorization": f"Bearer {double.key}", "Content-Type": "application/json"},
    )
    with pytest.raises((urllib.error.URLError, ConnectionError, TimeoutError)):
        urllib.request.urlopen(request, timeout=0.2).read()
    assert len(double.workspace.runs) == done
