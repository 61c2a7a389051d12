"""The nodes of a pipeline and how they wait for each other, read from a document that may be wrong in places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestra.validation.problems import mapping, sequence
from runner.document import Path_


@dataclass(frozen=True)
class Node:
    """A group, or a task.

    Attributes:
        group: The group of a task; None for a group, and for a task that stands by itself.
    """

    id: str
    path: Path_
    data: Mapping[str, Any]
    group: str | None = None
    waits_for: tuple[str, ...] = field(default=())

    @property
    def is_task(self) -> bool:
        """Whether it is a task."""
        return len(self.path) == 4 or ("integration" in self.data and "tasks" not in self.data)


class Outline:
    """What a pipeline is made of.

    Attributes:
        top: What stands right under ``pipeline``, by id: groups, and tasks that stand by themselves.
        tasks: All tasks by id; of an id that stands twice, the first.
    """

    def __init__(self, data: Any) -> None:
        self.data = mapping(data)
        self.top = {
            name: Node(name, ("pipeline", name), mapping(one), waits_for=_waits(one))
            for name, one in mapping(self.data.get("pipeline")).items()
        }
        self.tasks: dict[str, Node] = {}
        self._before: dict[str, set[str]] = {}
        for node in self.every_task():
            self.tasks.setdefault(node.id, node)

    def every_task(self) -> Iterator[Node]:
        """Return all tasks in the order of the file."""
        for group in self.top.values():
            if group.is_task:
                yield group
            yield from self.tasks_of(group).values()

    def tasks_of(self, group: Node) -> dict[str, Node]:
        """Return the tasks of a group by id."""
        return {
            name: Node(name, (*group.path, "tasks", name), mapping(one), group.id, _waits(one))
            for name, one in mapping(group.data.get("tasks")).items()
        }

    @property
    def groups(self) -> dict[str, Node]:
        """The groups by id."""
        return {name: node for name, node in self.top.items() if not node.is_task}

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs by name."""
        return mapping(self.data.get("inputs"))

    def runs_before(self, task: str, path: Path_) -> bool:
        """Tell whether a task has ended when the node around a path is looked at."""
        other = self.tasks[task]
        if len(path) < 2 or path[0] != "pipeline" or path[1] not in self.top:
            return True
        here, there = str(path[1]), other.group or other.id
        if here != there:
            if here not in self._before:
                self._before[here] = _reached(here, self.top)
            return there in self._before[here]
        if len(path) < 4 or path[2] != "tasks" or other.group is None:
            return False
        return task in _reached(str(path[3]), self.tasks_of(self.top[here]))

    def matrix_keys(self, path: Path_) -> set[str] | None:
        """Return the inputs of the matrix around a path; None where there is none."""
        if len(path) < 2 or path[0] != "pipeline" or path[1] not in self.top:
            return None
        matrix = self.top[str(path[1])].data.get("matrix")
        return set(mapping(mapping(matrix).get("inputs"))) if isinstance(matrix, dict) else None


def _waits(data: Any) -> tuple[str, ...]:
    return tuple(one for one in sequence(mapping(data).get("depends_on")) if isinstance(one, str))


def _reached(start: str, nodes: Mapping[str, Node]) -> set[str]:
    """Return everything that a node waits for, near or far."""
    found: set[str] = set()
    waiting = list(nodes[start].waits_for) if start in nodes else []
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found.add(name)
            waiting.extend(nodes[name].waits_for)
    return found
