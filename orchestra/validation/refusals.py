"""What pydantic refuses in a pipeline, in words, where it stands."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestra.pipelinevalues import kind_of
from orchestra.validation.problems import Findings, near
from runner.document import Path_

# Nobody describes all the keys of these: what is not known is let through.
_OPEN = ("anomalies", "operation_metadata")
_KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def note_refusals(error: ValidationError, model: type[BaseModel], findings: Findings) -> list[Path_] | None:
    """Note what is wrong with keys and values.

    Returns:
        The unknown keys, where nothing else is wrong and none of them is a mistake for sure; else None.
    """
    doubted: list[Path_] | None = []
    told: set[Path_] = set()
    for issue in error.errors(include_url=False):
        path = place_in(findings.located.knows, issue["loc"], issue["type"])
        if path in told:
            continue
        told.add(path)
        if issue["type"] == "extra_forbidden":
            certain = not any(part in _OPEN for part in _without_ids(path)[:-1])
            _unknown(path, model, findings, certain=certain)
            doubted = None if certain or doubted is None else [*doubted, path]
            continue
        doubted = None
        if issue["type"] == "missing":
            what = "the pipeline" if len(path) == 1 else ".".join(map(str, path[:-1]))
            findings.error_of_key(path[:-1], f"{what} needs the key {path[-1]!r}.")
        else:
            _wrong(path, issue, findings)
    return doubted


def place_in(knows: typing.Callable[[Path_], bool], loc: tuple[Any, ...], kind: str) -> Path_:
    """Return where a complaint belongs: names of models and members of unions are left out.

    Args:
        knows: Whether something stands at a path of the document.
        loc: Of pydantic, or of the schema endpoint of Orchestra.
        kind: Of the complaint; a key that is missing stands nowhere, and one that was merged stands elsewhere.
    """
    path: Path_ = ()
    for index, part in enumerate(loc):
        # The document's own keys are texts, whatever they look like.
        named = part if knows((*path, part)) else str(part)
        if knows((*path, named)) or (index == len(loc) - 1 and kind in ("missing", "extra_forbidden")):
            path = (*path, named)
    return path


def _without_ids(path: Path_) -> Path_:
    """Leave out the ids of a group and a task, which may be called as a key is."""
    if path[0] != "pipeline":
        return path
    return path[4:] if path[2:3] == ("tasks",) else path[2:]


def _unknown(path: Path_, model: type[BaseModel], findings: Findings, *, certain: bool) -> None:
    key = str(path[-1])
    known = fields_at(model, path[:-1], findings.located.data)
    hint = near(key, known)
    if key == "tags" and len(path) == 3 and path[0] == "pipeline":
        hint = "A group takes no tags: they belong to its tasks."
    elif key in model.model_fields and len(path) > 1:
        hint = "It belongs at the top of the file."
    note = findings.error_of_key if certain else findings.warn_of_key
    note(path, f"unknown key {key!r}.", hint or (f"Known here: {', '.join(known)}." if known else ""))


def _wrong(path: Path_, issue: Any, findings: Findings) -> None:
    name = ".".join(map(str, path)) or "the pipeline"
    value, kind = issue["input"], issue["type"]
    if kind == "literal_error":
        known = [word.strip("'") for word in issue["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        findings.error(path, f"{name}: {value!r} is not known.", near(str(value), known, f"Known: {', '.join(known)}."))
    elif kind in _KINDS:
        is_, hint = kind_of(value), ""
        if kind == "string_type" and isinstance(value, bool | int | float):
            hint = "Quote it."
        findings.error(path, f"{name} should be {_KINDS[kind]}, not {is_}.", hint)
    elif kind == "string_too_long":
        findings.error(path, f"{name} has {len(value)} letters; {issue['ctx']['max_length']} are allowed.")
    elif kind == "string_pattern_mismatch":
        findings.error(path, f"{name}: {value!r} is no name of Orchestra: those are in capitals.", _capitals(value))
    else:
        hint = ""
        if path[-1] == "retry_delay" and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            hint = f"It counts minutes, not seconds; {value} seconds are {max(1, round(value / 60))}."
        findings.error(path, f"{name} {str(issue['msg']).removeprefix('Value error, ')}.", hint)


def _capitals(value: str) -> str:
    return f"Did you mean {value.strip().upper().replace('-', '_').replace(' ', '_')!r}?"


def fields_at(model: type[BaseModel], path: Path_, data: Any) -> list[str]:
    """Return the keys that are known at a place of a document."""
    found: list[Any] = [model]
    for part in path:
        data = (
            data.get(part) if isinstance(data, dict) else None if isinstance(data, list) is False else data[int(part)]
        )
        found = [inner for one in found for inner in _inner(one, part)]
    models = [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]
    if len(models) > 1 and isinstance(data, dict):
        # A task that stands by itself, or a group.
        models = [max(models, key=lambda one: len(set(one.model_fields) & set(data)))]
    return [name for one in models for name in one.model_fields]


def _inner(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return _members(field.annotation) if field else []
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return _members(arguments[1])
    if origin is list:
        return _members(arguments[0])
    return []


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (dict, list) or not arguments:
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return _members(arguments[0])
    return [member for one in arguments for member in _members(one)]
