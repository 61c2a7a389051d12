"""What a configuration names in Python: modules, functions, and the objects that only dlt itself can use."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

# What dlt's incremental object calls what its dictionary has too.
_INCREMENTAL = (
    "cursor_path",
    "initial_value",
    "end_value",
    "row_order",
    "on_cursor_value_missing",
    "lag",
    "range_start",
    "range_end",
    "last_value_func",
)


def load(reference: str) -> Any:
    """Return what ``package.module:name`` names; modules of the working directory count too.

    Raises:
        ValueError: There is no such thing, in words.
    """
    module, sign, name = reference.partition(":")
    if not sign or not module or not name:
        raise ValueError(f"{reference!r} is no reference: write package.module:name")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module!r} cannot be imported: {error}") from error
    finally:
        if added:
            sys.path.remove(here)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"the module {module!r} has no {name!r}")
        found = getattr(found, part)
    return found


def load_config(reference: Any) -> Mapping[str, Any]:
    """Return the dictionary that a reference names, or that the function it names returns.

    Raises:
        ValueError: It is none, in words.
    """
    found = load(reference) if isinstance(reference, str) else reference
    if callable(found):
        found = found()
    if not isinstance(found, Mapping):
        raise ValueError(f"{reference!r} is {_class(found)}, not a dictionary or a function that returns one")
    return found


def function(value: Any) -> Callable[..., Any]:
    """Return a function: itself, or what ``package.module:function`` names.

    Raises:
        ValueError: It is none.
    """
    found = load(value) if isinstance(value, str) else value
    if not callable(found):
        raise ValueError(f"{_class(value)} is no function: write package.module:function")
    return found  # type: ignore[no-any-return]


def refuse_object(value: Any, what: str) -> None:
    """Refuse an object where a dictionary is needed.

    Raises:
        ValueError: It is an object of dlt, of requests or of somebody else.
    """
    if value is not None and not isinstance(value, str | Mapping):
        raise ValueError(
            f"{what} is an object ({_class(value)}), which works with dlt's own client alone: write it as a dictionary"
        )


def without_objects(params: Any) -> Any:
    """Return parameters with dlt's incremental objects as the dictionaries that they stand for."""
    if not isinstance(params, Mapping):
        return params
    return {name: _described(value) for name, value in params.items()}


def _described(value: Any) -> Any:
    if type(value).__name__ != "Incremental" or not hasattr(value, "cursor_path"):
        return value
    given = {name: getattr(value, name, None) for name in _INCREMENTAL}
    return {"type": "incremental", **{name: one for name, one in given.items() if one is not None}}


def _class(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
