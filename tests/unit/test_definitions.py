"""Whose run is it: the run key in the parameters of tasks, as their templates put it there."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.api.definitions import InputUses
from orchestra.api.models import TaskRun

CODE = "python -m jobs.load --run-key=${{ inputs.run_key }} --day ${{ ORCHESTRA.CURRENT_TIME }}"
ENVIRON = '{"FILE": "${{ inputs.file }}", "RUN_KEY": "${{ INPUTS.run_key }}"}'


def uses(**parameters: Any) -> InputUses:
    return InputUses({"pipeline": {"g": {"tasks": {"load": {"parameters": parameters}}}}}, {}, "run_key")


def task(task_id: str = "load", **parameters: Any) -> TaskRun:
    return TaskRun(id="t", status="RUNNING", task_id=task_id, task_parameters=parameters)


@pytest.mark.parametrize(
    ("template", "shown", "verdict"),
    [
        ({"command": CODE}, {"command": "python -m jobs.load --run-key=k-1 --day 2026"}, "ours"),
        ({"command": CODE}, {"command": "python -m jobs.load --run-key=k-12 --day 2026"}, "other"),
        ({"command": CODE}, {"command": CODE}, "unknown"),
        ({"command": CODE}, {}, "unknown"),
        ({"environment_variables": ENVIRON}, {"environment_variables": '{"FILE": "f", "RUN_KEY": "k-1"}'}, "ours"),
        ({"environment_variables": ENVIRON}, {"environmentVariables": {"FILE": "f", "RUN_KEY": "k-1"}}, "ours"),
        ({"environment_variables": ENVIRON}, {"environmentVariables": {"FILE": "k-1", "RUN_KEY": "x"}}, "ours"),
        ({"environment_variables": ENVIRON}, {"environmentVariables": {"FILE": "f", "RUN_KEY": "xk-1"}}, "other"),
        ({"environment_variables": ENVIRON}, {"environmentVariables": {"FILE": "f"}}, "unknown"),
        ({"body": {"key": "${{inputs['run_key']}}"}}, {"body": {"key": "k-1"}}, "ours"),
        ({"body": ["${{ inputs.run_key }}"]}, {"body": ["k-2"]}, "other"),
        ({"n": "${{ inputs.run_key }}"}, {"n": 5}, "other"),
    ],
)
def test_a_run_shows_its_run_key(template: dict[str, Any], shown: dict[str, Any], verdict: str) -> None:
    assert uses(**template).verdict([task(**shown)], "k-1") == verdict


def test_only_the_task_that_carries_it_tells_that_it_is_another() -> None:
    look = uses(command=CODE)
    other = "python -m jobs.load --run-key=z --day 2026"
    assert look.verdict([task("report", command=other)], "k-1") == "unknown"
    assert look.verdict([task("load_eu", command=other)], "k-1") == "other", "a repeated task"
    assert look.verdict([], "k-1") == "unknown"
    assert look.verdict([task(command=other), task("load_eu", command=other.replace("z", "k-1"))], "k-1") == "ours"


def test_signs_of_patterns_in_a_run_key_are_signs() -> None:
    look = uses(command=CODE)
    assert look.verdict([task(command="python -m jobs.load --run-key=a.b*[1] --day 2026")], "a.b*[1]") == "ours"
    assert look.verdict([task(command="python -m jobs.load --run-key=axb1 --day 2026")], "a.b*[1]") == "other"


@pytest.mark.parametrize(
    ("definition", "inputs", "declared", "visible"),
    [
        (None, {}, False, False),
        (None, {"run_key": {"type": "string"}}, True, False),
        ({"inputs": {"run_key": None}, "pipeline": {}}, {}, True, False),
        ({"pipeline": {"g": {"tasks": {"t": {"parameters": {"a": "${{ inputs.run_key2 }}"}}}}}}, {}, False, False),
        ({"pipeline": {"g": {"tasks": {"t": {"name": "${{ inputs.run_key }}"}}}}}, {}, False, False),
        ({"pipeline": {"g": {"tasks": {"t": {"parameters": {"a": "${{ inputs.run_key }}"}}}}}}, {}, False, True),
        ({"pipeline": {"g": {"tasks": ["odd"]}, "h": None}}, {}, False, False),
    ],
)
def test_what_a_pipeline_does_with_the_input(definition: Any, inputs: Any, declared: bool, visible: bool) -> None:
    found = InputUses(definition, inputs, "run_key")
    assert (found.declared, found.visible) == (declared, visible)


def test_a_task_may_stand_where_a_group_does() -> None:
    look = InputUses({"pipeline": {"load": {"parameters": {"command": CODE}}}}, {}, "run_key")
    assert look.visible
    assert look.verdict([task(command="python -m jobs.load --run-key=k-1 --day 2026")], "k-1") == "ours"
