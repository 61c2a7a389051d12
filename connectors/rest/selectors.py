"""The rows of an answer: selected, then filtered and changed by processing steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from connectors.rest.config import Step
from connectors.rest.jsonpaths import compiled
from runner.errors import RunnerError, SourceError


def select(path: str, data: Any) -> list[Any]:
    """Return what lies at a path: a list as it is, anything else as the only element of one."""
    found = compiled(path).find(data)
    rows: Any = found[0] if len(found) == 1 else found
    if rows is None:
        return []
    return rows if isinstance(rows, list) else [rows]


def as_row(item: Any) -> dict[str, Any]:
    """Return an element as a row: what is no object becomes the column ``value``, as in dlt."""
    return item if isinstance(item, dict) else {"value": item}


def processed(items: Iterable[Any], steps: Sequence[Step], resource: str) -> list[Any]:
    """Return elements after all steps, in their order.

    Raises:
        SourceError: A step failed; the error is the user's own.
    """
    found = [item for item in items if item is not None]
    for step in steps:
        for name in ("filter", "map", "yield_map"):
            function = getattr(step, name)
            if function is not None:
                found = _step(name, function, found, resource)
    return found


def _step(name: str, function: Callable[..., Any], items: list[Any], resource: str) -> list[Any]:
    call = _one_argument(function)
    try:
        if name == "filter":
            return [item for item in items if call(item)]
        if name == "map":
            return [made for item in items if (made := call(item)) is not None]
        return [made for item in items for made in _several(call(item))]
    except RunnerError:
        raise
    except Exception as error:  # it is the user's, and may raise anything
        raise SourceError(
            f"A {name} of processing_steps of {resource} failed: {type(error).__name__}: {error}.",
            guidance="Correct the function; it is called with one row at a time.",
        ) from error


def _several(made: Any) -> Iterable[Any]:
    if made is None:
        return ()
    if isinstance(made, Mapping | str | bytes) or not isinstance(made, Iterable):
        return (made,)
    return (one for one in made if one is not None)


@lru_cache(maxsize=256)
def _one_argument(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function of one argument: dlt calls those that take two with what it knows of the row."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function
    needed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    named = any(one.name == "meta" for one in needed[1:])
    return (lambda item: function(item, None)) if named else function
