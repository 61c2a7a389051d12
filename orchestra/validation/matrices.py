"""The matrix of a group: its values, and the ids of the tasks that it makes.

Facts: Orchestra docs, "Matrix": exactly one input; a child is called after its task, with the value, the ``id`` of the
value, or its position.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestra.pipelinevalues import is_expression
from orchestra.validation.outline import Outline
from orchestra.validation.problems import Findings, mapping

# The docs count positions from 1 in one place and from 0 in another.
_FIRST_POSITIONS = (1, 0)


def values_of(matrix: Any) -> list[Any] | None:
    """Return the values of a matrix; None where only a run knows them."""
    inputs = mapping(mapping(matrix).get("inputs"))
    values = next(iter(inputs.values())) if len(inputs) == 1 else None
    return values if isinstance(values, list) else None


def suffix_of(value: Any) -> str | None:
    """Return what the id of a child ends with; None where it is the position."""
    if isinstance(value, dict):
        value = value.get("id")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def suffixes(values: list[Any], first: int) -> list[str]:
    """Return what the ids of all children end with, positions counted from a number."""
    return [suffix_of(value) or str(position) for position, value in enumerate(values, first)]


def child_ids(task: str, matrix: Any) -> set[str] | None:
    """Return the ids of the children of a task, in every reading; None where only a run knows them."""
    values = values_of(matrix)
    if values is None or any(is_expression(suffix_of(value)) for value in values):
        return None
    return {f"{task}_{suffix}" for first in _FIRST_POSITIONS for suffix in suffixes(values, first)}


def check_matrices(outline: Outline, findings: Findings) -> None:
    """Look at the matrix of every group."""
    for group in outline.groups.values():
        matrix = group.data.get("matrix")
        at = (*group.path, "matrix", "inputs")
        inputs = mapping(matrix).get("inputs")
        if not isinstance(inputs, dict):
            continue
        if len(inputs) != 1:
            hint = "Make one list of all combinations." if inputs else ""
            findings.error_of_key(at, f"a matrix has exactly one input; here are {len(inputs) or 'none'}.", hint)
            continue
        key, values = next(iter(inputs.items()))
        if isinstance(values, str) and not is_expression(values):
            findings.error((*at, key), "the input of a matrix is a list, or one ${{ }} that becomes a list.")
        elif values == []:
            findings.warn((*at, key), "this list is empty: the group does nothing.")
        elif isinstance(values, list):
            _duplicates(values, (*at, key), findings)


def _duplicates(values: list[Any], at: tuple[str | int, ...], findings: Findings) -> None:
    readings = [suffixes(values, first) for first in _FIRST_POSITIONS]
    for index in range(len(values)):
        twice = [ids[index] for ids in readings if Counter(ids)[ids[index]] > 1 and ids.index(ids[index]) < index]
        if not twice:
            continue
        message = f"two children would have the id TASK_{twice[0]}."
        if len(twice) == len(readings):
            findings.error((*at, index), message, "Give each value an id of its own.")
        else:
            findings.warn((*at, index), message, "It depends on how Orchestra counts positions; give each value an id.")
