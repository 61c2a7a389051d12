"""Expressions in braces: ``{resources.parent.field}``, ``{incremental.start_value}``, and names of parameters."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import SourceError


class _Formatter(string.Formatter):
    """Looks a whole expression up, dots and all."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if field_name not in kwargs:
            raise KeyError(field_name)
        return kwargs[field_name], field_name


_FORMATTER = _Formatter()


def expressions(content: Any) -> set[str]:
    """Return every expression in texts, lists and dictionaries.

    Raises:
        ValueError: Braces do not match.
    """
    if isinstance(content, str):
        return {field for _, field, _, _ in _FORMATTER.parse(content) if field}
    if isinstance(content, Mapping):
        return {one for pair in content.items() for part in pair for one in expressions(part)}
    if isinstance(content, list | tuple):
        return {one for part in content for one in expressions(part)}
    return set()


def single(text: Any) -> str | None:
    """Return the expression that a text consists of, if it is one and no more."""
    if not isinstance(text, str):
        return None
    parts = list(_FORMATTER.parse(text))
    if len(parts) != 1:
        return None
    literal, field, form, conversion = parts[0]
    return field if field and not literal and not form and conversion is None else None


def expanded(content: Any, values: Mapping[str, Any], *, typed: bool = False) -> Any:
    """Return content with every expression replaced.

    Args:
        typed: Whether a text that is one expression becomes the value itself and not its text.

    Raises:
        SourceError: An expression has no value.
    """
    if isinstance(content, str):
        try:
            name = single(content) if typed else None
            if name is not None:
                return values[name]
            return _FORMATTER.vformat(content, (), values)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise SourceError(f"{content!r} cannot be filled in: {error}.") from error
    if isinstance(content, Mapping):
        return {
            expanded(name, values, typed=typed): expanded(value, values, typed=typed) for name, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [expanded(one, values, typed=typed) for one in content]
    return content


def expanded_params(params: Mapping[str, Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a query with their expressions replaced; those whose value is None are left out."""
    return {
        expanded(name, values): expanded(value, values)
        for name, value in (params or {}).items()
        if (alone := single(value)) is None or values.get(alone, "") is not None
    }


def outside(found: Iterable[str], contexts: Iterable[str]) -> str | None:
    """Return an expression that belongs to none of the contexts, if there is one."""
    known = tuple(f"{context}." for context in contexts)
    return next((one for one in sorted(found) if not one.startswith(known)), None)
