"""Runs of the double go to the end that their script says; histories are made up from a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestra.testing.history import add_history
from orchestra.testing.pipeline import read
from orchestra.testing.run import Run, downstream
from orchestra.testing.schema import canonical, problems
from orchestra.testing.script import Script, load_script
from orchestra.testing.state import Workspace
from orchestra.testing.store import Store
from runner.errors import UsageError
from tests.orchestraapi import LOAD, Clock

# a → (b, c) → d, where b and c are in one group.
DEFINITION: dict[str, Any] = {
    "version": "v1",
    "name": "Diamond",
    "pipeline": {
        "first": {"tasks": {"a": {}}, "depends_on": []},
        "middle": {"tasks": {"b": {}, "c": {"depends_on": ["b"]}}, "depends_on": ["first"]},
        "last": {"tasks": {"d": {}}, "depends_on": ["middle"]},
    },
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workspace(clock: Clock) -> Workspace:
    workspace = Workspace(clock)
    workspace.start_after = 0.0
    return workspace


def begun(workspace: Workspace, script: dict[str, Any], definition: Any = None) -> Run:
    pipeline = workspace.add("diamond", definition or DEFINITION, script=Script.model_validate(script))
    return workspace.start(pipeline, {})


def statuses(run: Run, clock: Clock, **more: bool) -> dict[str, str]:
    return {f"{one.task}{one.attempt}": one.status(clock()) for one in run.task_runs(clock(), **more)}


def test_tasks_begin_when_what_they_depend_on_has_ended(workspace: Workspace, clock: Clock) -> None:
    run = begun(workspace, {"otherwise": {"attempts": [{"seconds": 10}]}})
    assert statuses(run, clock) == {"a1": "RUNNING"}
    clock.go(seconds=10)
    assert statuses(run, clock) == {"a1": "SUCCEEDED", "b1": "RUNNING"}
    clock.go(seconds=29)
    assert statuses(run, clock)["d1"] == "RUNNING"
    assert run.status(clock()) == "RUNNING"
    clock.go(seconds=1)
    assert run.status(clock()) == "SUCCEEDED"


def test_a_failed_attempt_is_superseded_and_a_failed_task_skips_the_rest(workspace: Workspace, clock: Clock) -> None:
    failing = {"attempts": [{"status": "FAILED"}, {"status": "FAILED", "message": "no such table"}], "retry_after": 60}
    run = begun(workspace, {"tasks": {"b": failing}})
    clock.go(seconds=62)
    assert statuses(run, clock) == {"a1": "SUCCEEDED", "b2": "RUNNING"}
    assert statuses(run, clock, superseded=True)["b1"] == "FAILED"
    clock.go(seconds=10)
    assert statuses(run, clock) == {"a1": "SUCCEEDED", "b2": "FAILED", "c1": "SKIPPED", "d1": "SKIPPED"}
    assert run.status(clock()) == "FAILED"
    assert run.tasks[2].shown(clock(), {})["message"] == "no such table"
    assert run.tasks[2].shown(clock(), {})["numberOfAttempts"] == 2


@pytest.mark.parametrize(
    ("node", "ends"),
    [
        ({"treat_failure_as_warning": True}, ("WARNING", "SUCCEEDED", "WARNING")),
        ({"paused": True}, ("SKIPPED", "SKIPPED", "SUCCEEDED")),
    ],
)
def test_a_failure_can_be_a_warning_and_a_task_paused(
    workspace: Workspace, clock: Clock, node: dict[str, Any], ends: tuple[str, str, str]
) -> None:
    definition = {**DEFINITION, "pipeline": {"g": {"tasks": {"a": node, "b": {"depends_on": ["a"]}}}}}
    run = begun(workspace, {"tasks": {"a": {"attempts": [{"status": "FAILED"}]}}}, definition)
    clock.go(seconds=5)
    assert (*statuses(run, clock).values(), run.status(clock())) == ends


def test_a_task_without_an_end_waits_for_somebody_to_say_it(workspace: Workspace, clock: Clock) -> None:
    run = begun(workspace, {"tasks": {"b": {"attempts": [{"seconds": None}]}}})
    clock.go(hours=5)
    (b,) = (one for one in run.tasks if one.task == "b")
    assert statuses(run, clock) == {"a1": "SUCCEEDED", "b1": "RUNNING"}
    run.settle(b, clock(), "WARNING", "3 rows")
    clock.go(seconds=3)
    assert statuses(run, clock) == {"a1": "SUCCEEDED", "b1": "WARNING", "c1": "SUCCEEDED", "d1": "SUCCEEDED"}
    assert run.status(clock()) == "WARNING"


def test_a_task_may_end_before_its_script(workspace: Workspace, clock: Clock) -> None:
    run = begun(workspace, {"otherwise": {"attempts": [{"seconds": 100}]}})
    clock.go(seconds=5)
    run.settle(run.tasks[0], clock(), "FAILED", None)
    assert set(statuses(run, clock).values()) == {"FAILED", "SKIPPED"}
    assert run.status(clock()) == "FAILED"


def test_what_depends_on_itself_fails_the_run(workspace: Workspace, clock: Clock) -> None:
    circle = {"a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}}
    run = begun(workspace, {}, {**DEFINITION, "pipeline": {"g": {"tasks": circle}}})
    assert (run.status(clock()), run.message) == ("FAILED", "The tasks depend on each other in a circle")


def test_what_comes_after_tasks() -> None:
    assert downstream(DEFINITION, ["b"]) == ["b", "c", "d"]
    assert downstream(DEFINITION, ["d"]) == ["d"]


def test_a_history_is_the_same_for_a_seed(clock: Clock) -> None:
    def made(seed: int) -> list[Any]:
        workspace = Workspace(clock)
        runs = add_history(workspace, runs=300, days=30, seed=seed)
        return [(run.id, run.created, run.status(clock()), [one.id for one in run.tasks]) for run in runs]

    assert made(7) == made(7)
    assert made(7) != made(8)


def test_a_history_holds_all_that_happens(clock: Clock) -> None:
    workspace = Workspace(clock)
    runs = add_history(workspace, runs=600, days=30, seed=1, late=0.1)
    assert len(workspace.runs) == 600
    assert {run.final for run in runs} == {"SUCCEEDED", "WARNING", "FAILED", "CANCELLED"}
    assert all(0 <= (clock() - run.created).days <= 30 and run.ends and run.ends < clock() for run in runs)
    assert any(one.superseded for run in runs for one in run.tasks)
    late = [run for run in runs if run.later is not None]
    assert 30 < len(late) < 90
    run = next(run for run in late if run.final == "FAILED")
    assert run.later is not None
    clock.moment = run.later.at
    shown = run.shown(clock(), "account")
    assert (shown["runStatus"], shown["updatedAt"]) == ("SUCCEEDED", run.later.at.isoformat())
    assert {one.status(clock()) for one in run.task_runs(clock())} == {"SUCCEEDED"}


def test_a_workspace_is_the_same_after_a_restart(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = Workspace(clock, store=Store(path))
    runs = add_history(first, runs=20, days=5, seed=1)
    pipeline = first.add("load_orders_too", LOAD)
    run = first.start(pipeline, {"file": "a"}, {"environment": "Dev"})
    first.sensor_event("arrived", {"n": 1})
    gone = first.environment("Old")
    first.forget(gone)
    second = Workspace(clock, store=Store(path))
    assert second.account == first.account
    assert second.pipelines == first.pipelines
    assert second.environments == first.environments
    assert list(second.runs.values()) == [*runs, run]
    assert second.sensor_events == first.sensor_events
    second.finish(run.id)
    assert Workspace(clock, store=Store(path)).runs[run.id].status(clock()) == "SUCCEEDED"


def task_of(**more: Any) -> dict[str, Any]:
    task = {"integration": "HTTP", "integration_job": "HTTP_REQUEST", "parameters": {}, "depends_on": [], "name": "T"}
    return {"version": "v1", "name": "n", "pipeline": {"g": {"tasks": {"t": {**task, **more}}}}}


@pytest.mark.parametrize(
    ("document", "loc"),
    [
        ({"version": "v1", "name": "n"}, ["pipeline"]),
        ({**task_of(), "version": "v2"}, ["version"]),
        ({**task_of(), "shedule": []}, ["shedule"]),
        ({**task_of(), "pipeline": []}, ["pipeline"]),
        (task_of(retries=1), ["pipeline", "g", "TaskGroupModel", "tasks", "t", "retries"]),
        (task_of(depends_on=["u"]), ["pipeline", "g", "TaskGroupModel", "tasks", "t", "depends_on", 0]),
        ({**task_of(), "pipeline": {"g": {"tags": [], "tasks": {}}}}, ["pipeline", "g", "TaskGroupModel", "tags"]),
        (
            {**task_of(), "pipeline": {"t": task_of()["pipeline"]["g"]}},
            ["pipeline", "t", "TaskGroupModel", "tasks", "t"],
        ),
        ({**task_of(), "pipeline": {"g": 1}}, ["pipeline", "g", "TaskGroupModel"]),
    ],
)
def test_a_wrong_definition_is_pointed_at(document: dict[str, Any], loc: list[Any]) -> None:
    (problem,) = problems(document)
    assert problem["loc"] == loc
    assert {"type", "msg"} < set(problem)


def test_a_definition_in_camel_case_keeps_the_names_of_people() -> None:
    assert problems(read(LOAD)) == []
    document = {
        **task_of(treat_failure_as_warning=True, configuration={"retry_delay": 1}),
        "inputs": {"my_input": {"type": "string"}},
        "trigger_events": [{"type": "pipeline", "run_inputs": {"my_input": "a"}}],
    }
    document["pipeline"] = {
        "my_group": {"tasks": {"my_task": document["pipeline"]["g"]["tasks"]["t"]}, "depends_on": []}
    }
    found = canonical(document)
    assert set(found["pipeline"]) == {"my_group"}
    assert found["inputs"] == document["inputs"]
    assert found["triggerEvents"] == [{"type": "pipeline", "runInputs": {"my_input": "a"}}]
    task = found["pipeline"]["my_group"]["tasks"]["my_task"]
    assert (task["treatFailureAsWarning"], task["configuration"]) == (True, {"retryDelay": 1})


@pytest.mark.parametrize("text", ["tasks: [", "task: {}", "otherwise: {attempts: [{status: DONE}]}"])
def test_a_wrong_script_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.script.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.script\.yml"):
        load_script(path)
