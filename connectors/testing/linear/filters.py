"""How a filter of the schema is applied to a record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from graphql import GraphQLError, GraphQLObjectType, get_named_type

from connectors.testing.linear.records import Records
from connectors.testing.linear.schema import read_moment

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda held, asked: asked in held,
    "notContains": lambda held, asked: asked not in held,
    "containsIgnoreCase": lambda held, asked: asked.lower() in held.lower(),
    "eqIgnoreCase": lambda held, asked: asked.lower() == held.lower(),
    "startsWith": lambda held, asked: held.startswith(asked),
    "endsWith": lambda held, asked: held.endswith(asked),
}


class Filters:
    """Applies filters.

    Source: https://linear.app/developers/filtering
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def fits(self, kind: str, record: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> bool:
        """Tell whether a record is one that the filter means; all of its conditions have to hold."""
        return all(self._holds(kind, record, name, one) for name, one in asked.items() if one is not None)

    def _holds(self, kind: str, record: Mapping[str, Any] | None, name: str, asked: Any) -> bool:
        if name == "and":
            return all(self.fits(kind, record, one) for one in asked)
        if name == "or":
            return any(self.fits(kind, record, one) for one in asked)
        if name == "null":
            return (record is None) is bool(asked)
        if record is None:
            return False
        found = self._records.schema.type_map[kind]
        field = found.fields.get(name) if isinstance(found, GraphQLObjectType) else None
        if field is None:
            raise GraphQLError(f"this double cannot filter {kind} by {name}")
        inner = get_named_type(field.type)
        if isinstance(inner, GraphQLObjectType):
            return self.fits(inner.name, self._records.get(inner.name, record.get(name)), asked)
        return all(_compares(record.get(name), how, one) for how, one in asked.items())


def _compares(held: Any, how: str, asked: Any) -> bool:
    if how == "null":
        return (held is None) is bool(asked)
    if how in ("in", "nin"):
        return any(_compares(held, "eq", one) for one in asked) == (how == "in")
    if how in ("eq", "neq"):
        return bool(_like(held, asked) == asked) == (how == "eq")
    if held is None:
        return False
    if how in _ORDERS:
        return _ORDERS[how](_like(held, asked), asked)
    if how in _TEXTS:
        return _TEXTS[how](held, asked)
    raise GraphQLError(f"this double cannot compare by {how}")


def _like(held: Any, asked: Any) -> Any:
    if isinstance(held, str) and isinstance(asked, datetime):
        return read_moment(held)
    if isinstance(held, str) and isinstance(asked, date):
        return date.fromisoformat(held)
    return held
