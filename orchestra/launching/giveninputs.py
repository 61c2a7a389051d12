"""The inputs of a start against those that its pipeline declares.

Facts: Orchestra docs, "Inputs" (``type``, ``default``, ``optional``; an input without a default has to be given).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestra.launching.launch import Launch
from orchestra.pipelinevalues import is_expression, kind_of
from runner.document import nearest

# What values of a type are, and one as --set takes it.
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), ""),
    "number": ((int, float), ":=5"),
    "boolean": ((bool,), ":=true"),
    "list": ((list,), ':=["shop.orders"]'),
    "dict": ((dict,), ':={"region": "eu"}'),
}


def input_problems(launch: Launch, declared: Mapping[str, Any], *, run_key: str) -> list[str]:
    """Return what is wrong with the inputs of a start; never with their values.

    Args:
        declared: The inputs of the pipeline by name, each as its definition has it.
        run_key: The input that gets a key of each start.
    """
    problems = []
    for name in sorted({*launch.inputs, *launch.into}):
        if name not in declared:
            near = nearest(name, declared)
            hint = f" Did you mean {near!r}?" if near else f" It takes {', '.join(sorted(declared)) or 'none at all'}."
            problems.append(f"the pipeline takes no input {name!r}{_origin(launch, name).rstrip(',')}.{hint}")
        else:
            problems += _of_type(launch, name, declared[name])
    for name, one in declared.items():
        if launch.entry.retry_from_failed or name in launch.inputs or name == run_key:
            continue
        if isinstance(one, Mapping) and "type" in one and one.get("default") is None and not one.get("optional"):
            problems.append(f"the pipeline needs the input {name!r}, which has no default. Give it in run_inputs.")
    return problems


def _of_type(launch: Launch, name: str, one: Any) -> list[str]:
    kind = str(one.get("type")) if isinstance(one, Mapping) else ""
    value = launch.inputs.get(name)
    if kind not in _TYPES or value is None or is_expression(value):
        return []
    wanted, example = _TYPES[kind]
    if isinstance(value, wanted) and not (kind == "number" and isinstance(value, bool)):
        return []
    hint = ""
    if _set(launch, name):
        hint = f" Write for example --set '{name}{example or '=TEXT'}'."
    elif isinstance(value, str):
        hint = " Leave the quotes out."
    elif kind == "string":
        hint = " Quote it."
    return [f"the input {name!r}{_origin(launch, name)} is {kind_of(value)}, and its type is {kind}.{hint}"]


def _origin(launch: Launch, name: str) -> str:
    return ", which --input names," if name in launch.into else ", which --set gives," if _set(launch, name) else ""


def _set(launch: Launch, name: str) -> bool:
    """Tell whether an input is not that of the file."""
    own = launch.entry.run_inputs
    return name not in launch.into and (name not in own or own[name] is not launch.inputs[name])
