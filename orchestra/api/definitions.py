"""What the definition of a pipeline says about one of its inputs: where it is used, and what a run shows of it.

Facts: Orchestra docs, "Pipelines" (task groups hold tasks, tasks hold parameters; a task may also stand alone),
"Inputs" (``${{ inputs.name }}``, put in as raw text), "Matrix" (the task runs of a task that is repeated are called
after it, with a suffix), API, "List task runs" (taskParameters, runParameters).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from orchestra.api.models import TaskRun

Verdict = Literal["ours", "other", "unknown"]
Place = tuple[str, ...]

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_CONTAINERS = ("yaml", "data", "content")


def parse_definition(data: Any, text: str) -> dict[str, Any] | None:
    """Return the definition in an answer: YAML, JSON, a text of either, or inside an object; None where there is none.

    Args:
        data: The answer as JSON; None where it is none.
        text: The answer as text.
    """
    found = text if data is None else data
    for _ in range(3):
        if isinstance(found, str):
            try:
                found = yaml.safe_load(found)
            except yaml.YAMLError:
                return None
        if not isinstance(found, Mapping) or isinstance(found.get("pipeline"), Mapping):
            break
        found = next((found[key] for key in _CONTAINERS if found.get(key)), None)
    return dict(found) if isinstance(found, Mapping) and isinstance(found.get("pipeline"), Mapping) else None


def task_ids(definition: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the ids of the tasks in a definition."""
    return frozenset(name for name, _ in _tasks(definition or {}))


def _tasks(definition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    groups = definition.get("pipeline")
    for key, group in groups.items() if isinstance(groups, Mapping) else ():
        tasks = group.get("tasks") if isinstance(group, Mapping) else None
        # A task may also stand where a group does.
        for name, task in tasks.items() if isinstance(tasks, Mapping) else ((key, group),):
            yield str(name), task


@dataclass(frozen=True)
class _Use:
    """One parameter of a task that holds the input.

    Attributes:
        place: Where it is among the parameters, in the spelling of ``_spelled``.
        template: Its text.
    """

    task: str
    place: Place
    template: str


class InputUses:
    """Where a pipeline puts one of its inputs.

    Args:
        definition: Of the pipeline; None where it cannot be had.
        inputs: The inputs that it declares, where they are known otherwise too.
        name: The input.

    Attributes:
        declared: Whether the pipeline takes the input.
    """

    def __init__(self, definition: Mapping[str, Any] | None, inputs: Mapping[str, Any], name: str) -> None:
        own = (definition or {}).get("inputs")
        declared = {*inputs, *(own if isinstance(own, Mapping) else ())}
        self.declared = name in declared
        self._reference = re.compile(
            rf"\s*inputs\s*(?:\.\s*{re.escape(name)}|\[\s*(['\"]){re.escape(name)}\1\s*\])\s*", re.IGNORECASE
        )
        self._uses = tuple(self._find(definition or {}))

    @property
    def visible(self) -> bool:
        """Whether runs show the input: the parameters of some task hold it."""
        return bool(self._uses)

    def verdict(self, task_runs: list[TaskRun], value: str) -> Verdict:
        """Tell whether a run was started with this value.

        Returns:
            ours: A parameter holds it. other: A parameter holds another value. unknown: No parameter holds any yet.
        """
        verdict: Verdict = "unknown"
        for run in task_runs:
            shown = list(_leaves(run.task_parameters)) + list(_leaves(run.run_parameters))
            for use in self._uses:
                mine = re.compile(self._pattern(use.template, value), re.DOTALL)
                if any(mine.fullmatch(text) for _, text in shown):
                    return "ours"
                named = run.task_id == use.task or (run.task_id or "").startswith(f"{use.task}_")
                if named and any(place == use.place and not self._in(text) for place, text in shown):
                    verdict = "other"
        return verdict

    def _find(self, definition: Mapping[str, Any]) -> Iterator[_Use]:
        for name, task in _tasks(definition):
            parameters = task.get("parameters") if isinstance(task, Mapping) else None
            for place, text in _leaves(parameters, whole=False):
                if self._in(text):
                    yield _Use(name, place, text)

    def _in(self, text: str) -> bool:
        return any(self._reference.fullmatch(found[1]) for found in _EXPRESSION.finditer(text))

    def _pattern(self, template: str, value: str) -> str:
        """Return what the template matches once the value is in it; other expressions may be anything."""
        pattern, end = "", 0
        for found in _EXPRESSION.finditer(template):
            pattern += re.escape(template[end : found.start()])
            pattern += re.escape(value) if self._reference.fullmatch(found[1]) else ".*"
            end = found.end()
        return pattern + re.escape(template[end:])


def _leaves(value: Any, place: Place = (), *, whole: bool = True) -> Iterator[tuple[Place, str]]:
    """Return every text in a value with its place; a text that is JSON is looked into.

    Args:
        whole: Whether such a text is returned itself too.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*place, _spelled(str(key))), whole=whole)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, str(index)), whole=whole)
    elif isinstance(value, str):
        inner = _inner(value)
        if inner is not None:
            yield from _leaves(inner, place, whole=whole)
        if inner is None or whole:
            yield place, value
    elif value is not None:
        yield place, str(value)


def _inner(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None


def _spelled(key: str) -> str:
    # A definition says environment_variables, the API says environmentVariables.
    return re.sub(r"[^a-z0-9]", "", key.lower())
