"""Everything that is wrong with a pipeline, and where: its form, its ids, who waits for whom, and all the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestra.pipeline import note_mistakes, read_pipeline
from orchestra.validation.expressioncheck import check_expressions
from orchestra.validation.locations import Located
from orchestra.validation.matrices import check_matrices
from orchestra.validation.outline import Node, Outline
from orchestra.validation.parametercheck import check_tasks
from orchestra.validation.problems import Findings, Problem, near, sequence
from orchestra.validation.triggercheck import check_alerts, check_triggers


def check_pipeline(text: str, path: Path, located: Located | None = None) -> list[Problem]:
    """Return the mistakes and the doubts of a pipeline, in the order of the file; none of them hides another.

    Args:
        text: The YAML.
        path: What it is called in messages.
        located: The same text, where it was read before.
    """
    located = located or Located(text)
    findings = Findings(path, located)
    note_mistakes(located, findings)
    data = located.data
    if located.broken or not isinstance(data, dict):
        return findings.problems()
    if "version" not in data and "pipeline" not in data:
        findings.error((), "this is no pipeline: it has neither 'version' nor 'pipeline'.", "Add `version: v1`.")
        return findings.problems()
    read_pipeline(located, findings)
    if "version" not in data:
        findings.error((), "the pipeline needs the key 'version'.", "Add `version: v1`.")
    outline = Outline(data)
    _check_ids(outline, findings)
    _check_order(outline, findings)
    check_matrices(outline, findings)
    check_expressions(outline, findings)
    check_tasks(outline, findings)
    check_triggers(outline, findings)
    check_alerts(outline, findings)
    return findings.problems()


def _check_ids(outline: Outline, findings: Findings) -> None:
    """Groups and tasks share their ids; with two of one, the editor of Orchestra finds no pipeline."""
    known: dict[str, Node] = dict(outline.top)
    if not outline.top and outline.data.get("pipeline") == {}:
        findings.error_of_key(("pipeline",), "the pipeline has no groups.")
    for group in outline.groups.values():
        if group.data.get("tasks") == {}:
            findings.warn_of_key((*group.path, "tasks"), f"the group {group.id!r} has no tasks.")
    for task in outline.every_task():
        first = known.setdefault(task.id, task)
        if first.path != task.path:
            line = findings.located.key(first.path).line
            what = "a task" if first.is_task else "a group"
            message = f"the id {task.id!r} is taken: {what} in line {line} has it."
            findings.error_of_key(task.path, message, "Ids are unique among all groups and tasks.")


def _check_order(outline: Outline, findings: Findings) -> None:
    _check_level(outline.top, outline, findings)
    for group in outline.groups.values():
        _check_level(outline.tasks_of(group), outline, findings)


def _check_level(nodes: Mapping[str, Node], outline: Outline, findings: Findings) -> None:
    for node in nodes.values():
        named = sequence(node.data.get("depends_on"))
        for index, other in enumerate(named):
            if isinstance(other, str) and other not in nodes:
                what = "task" if node.group is not None else "group"
                hint = _elsewhere(node, other, outline) or near(other, set(nodes) - {node.id})
                # The docs name tasks of the same group only, and the OpenAPI document any task or group.
                known = node.group is not None and (other in outline.top or other in outline.tasks)
                note = findings.warn if known else findings.error
                note((*node.path, "depends_on", index), f"there is no {what} {other!r} to wait for.", hint)
            elif other in named[:index]:
                findings.warn((*node.path, "depends_on", index), f"{other!r} stands twice.")
    for circle in _circles(nodes):
        node = nodes[circle[0]]
        index = node.data["depends_on"].index(circle[1])
        said = "→".join(circle)
        findings.error((*node.path, "depends_on", index), f"these wait for each other: {said}.")


def _elsewhere(node: Node, other: str, outline: Outline) -> str:
    if node.group is None:
        task = outline.tasks.get(other)
        if task is not None and task.group is not None:
            said = "itself" if task.group == node.id else repr(task.group)
            return f"That is a task of the group {said}; a group waits for groups."
        return ""
    if other in outline.top:
        return f"That is a group: let the group {node.group!r} wait for it."
    task = outline.tasks.get(other)
    return f"That is a task of another group: let {node.group!r} wait for {task.group!r}." if task else ""


def _circles(nodes: Mapping[str, Node]) -> Iterator[list[str]]:
    """Return circles, each once: from its first node in the file, back to it."""
    done: set[str] = set()
    for start in nodes:
        if start in done:
            continue
        # Without recursion: a chain may be as long as the file.
        way: list[str] = []
        on_way: dict[str, int] = {}
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            name, left = waiting.pop()
            if left:
                on_way.pop(way.pop())
                done.add(name)
            elif name in on_way:
                yield _from_first([*way[on_way[name] :], name], nodes)
            elif name not in done:
                on_way[name] = len(way)
                way.append(name)
                waiting.append((name, True))
                waiting.extend((other, False) for other in nodes[name].waits_for if other in nodes)


def _from_first(circle: list[str], nodes: Mapping[str, Node]) -> list[str]:
    order = list(nodes)
    ring = circle[:-1]
    first = min(range(len(ring)), key=lambda index: order.index(ring[index]))
    ring = ring[first:] + ring[:first]
    return [*ring, ring[0]]
