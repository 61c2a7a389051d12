"""The check of a pipeline's definition: keys, required ones, and what depends on what.

Facts: Orchestra docs, "Pipeline YAML" (version v1; unknown keys are refused); orchestra-cli 0.5.2 (the name of a model
can be an element of ``loc``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

_TOP = {
    *("version", "name", "pipeline", "schedule", "sensors", "trigger_events", "webhook", "inputs", "configuration"),
    *("alerts", "anomalies", "meta"),
}
_GROUP = {"tasks", "depends_on", "name", "condition", "matrix", "paused", "meta"}
_TASK_NEEDED = ("integration", "integration_job", "parameters")
_TASK = {
    *_TASK_NEEDED,
    *("depends_on", "name", "connection", "condition", "configuration", "alerts", "tags", "treat_failure_as_warning"),
    *("operation_metadata", "meta", "paused", "anomalies"),
}
_LONGEST_NAME = 100
# What is below these keys was named by whoever wrote the pipeline.
_NAMED = {"pipeline", "tasks", "inputs", "sensors", "checks"}
_FREE = {"run_inputs", "map_outputs", "meta", "operation_metadata"}

Problem = dict[str, Any]


def problems(document: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with a definition, each as an element of the ``detail`` of a 422."""
    return list(_problems(document))


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _keys(document, _TOP, ("version", "name", "pipeline"), [])
    if document.get("version", "v1") != "v1":
        yield _problem(["version"], "Input should be 'v1'", "literal_error")
    groups = document.get("pipeline", {})
    if not isinstance(groups, Mapping):
        yield _problem(["pipeline"], "Input should be a valid dictionary", "dict_type")
        return
    taken: set[str] = set(groups)
    for name, group in groups.items():
        loc = ["pipeline", name, "TaskGroupModel"]
        if not isinstance(group, Mapping):
            yield _problem(loc, "Input should be a valid dictionary", "dict_type")
            continue
        if "integration" in group and "tasks" not in group:
            # A task may stand alone.
            loc[-1] = "TaskModel"
            yield from _keys(group, _TASK, _TASK_NEEDED, loc)
            yield from _depends(group, set(groups), loc)
            continue
        yield from _keys(group, _GROUP, ("tasks",), loc)
        yield from _depends(group, set(groups), loc)
        tasks = group.get("tasks", {})
        if not isinstance(tasks, Mapping):
            yield _problem([*loc, "tasks"], "Input should be a valid dictionary", "dict_type")
            continue
        for task, node in tasks.items():
            here = [*loc, "tasks", task]
            if not isinstance(node, Mapping):
                yield _problem(here, "Input should be a valid dictionary", "dict_type")
                continue
            if task in taken:
                yield _problem(here, f"The id {task} is used twice", "value_error")
            taken.add(task)
            yield from _keys(node, _TASK, _TASK_NEEDED, here)
            yield from _depends(node, set(tasks), here)


def _keys(node: Mapping[str, Any], known: set[str], needed: tuple[str, ...], loc: list[Any]) -> Iterator[Problem]:
    if isinstance(node.get("name"), str) and len(node["name"]) > _LONGEST_NAME:
        yield _problem([*loc, "name"], f"String should have at most {_LONGEST_NAME} characters", "string_too_long")
    for name in needed:
        if name not in node:
            yield _problem([*loc, name], "Field required", "missing")
    for name in node:
        if name not in known:
            yield _problem([*loc, name], "Extra inputs are not permitted", "extra_forbidden")


def _depends(node: Mapping[str, Any], known: set[str], loc: list[Any]) -> Iterator[Problem]:
    named = node.get("depends_on") or []
    if not isinstance(named, list):
        yield _problem([*loc, "depends_on"], "Input should be a valid list", "list_type")
        return
    for number, name in enumerate(named):
        if name not in known:
            yield _problem([*loc, "depends_on", number], f"There is no {name} to depend on", "value_error")


def _problem(loc: list[Any], message: str, kind: str) -> Problem:
    return {"type": kind, "loc": loc, "msg": message}


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with its keys in camel case, as the API keeps it."""
    return {to_camel(key): _canonical(key, value) for key, value in document.items()}


def _canonical(key: str, value: Any) -> Any:
    if key in _FREE:
        return value
    if isinstance(value, list):
        return [_canonical("", one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if key in _NAMED:
        return {name: _canonical("", one) for name, one in value.items()}
    return canonical(value)
