"""The columns of rows that nobody described: inferred from what came, wider with every value that does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa

from runner.source import Column

Kind = Literal["boolean", "integer", "number", "date", "time", "datetime", "timestamp", "binary", "text", "json"]

_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "binary": pa.binary(),
    "text": pa.string(),
    "json": pa.string(),
}
_TEXTS = frozenset({"date", "datetime", "timestamp", "text"})
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?")
# A double holds every integer up to here.
_DOUBLE = 2**53


class Shape:
    """What is known of the columns of a table.

    Args:
        kinds: By column, as ``record`` returned it.
    """

    def __init__(self, kinds: Mapping[str, str] | None = None) -> None:
        self._kinds: dict[str, str] = {name: kind for name, kind in (kinds or {}).items() if _type_of(kind)}

    def record(self) -> dict[str, str]:
        """Return it as JSON."""
        return dict(self._kinds)

    def declare(self, name: str, kind: str) -> None:
        """Say that a column is of a kind: one of Kind, or decimal(precision,scale)."""
        self._kinds[name] = merged(self._kinds.get(name), kind)

    def observe(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take rows into account; return what that changed, in words."""
        changes = []
        for row in rows:
            for name, value in row.items():
                if value is None:
                    continue
                before = self._kinds.get(name)
                if before == "json" or (before == "text" and isinstance(value, str)):
                    continue
                if before is not None and before[0:7] == "decimal" and isinstance(value, Decimal):
                    continue
                after = merged(before, kind_of(value))
                if after != before:
                    self._kinds[name] = after
                    changes.append(f"{name} is {after}" + (f", not {before}" if before else ""))
        return changes

    def observe_schema(self, schema: pa.Schema) -> list[str]:
        """Take the columns of Arrow rows into account; return what that changed, in words."""
        changes = []
        for field in schema:
            kind = kind_of_type(field.type)
            before = self._kinds.get(field.name)
            after = before if kind is None else merged(before, kind)
            if after is not None and after != before:
                self._kinds[field.name] = after
                changes.append(f"{field.name} is {after}" + (f", not {before}" if before else ""))
        return changes

    def columns(self, required: Sequence[str] = ()) -> tuple[Column, ...]:
        """Return the columns.

        Args:
            required: Those that every row has a value of.
        """
        return tuple(
            Column(name, _type_of(kind), nullable=name not in required, native=kind, json=kind == "json")
            for name, kind in self._kinds.items()
        )


def _type_of(kind: str) -> pa.DataType | None:
    declared = _DECIMAL.fullmatch(kind)
    if declared and int(declared[1]) <= 38:
        return pa.decimal128(int(declared[1]), int(declared[2]))
    return _TYPES.get(kind)


def kind_of(value: Any) -> Kind:
    """Return the narrowest kind that holds a value as it is."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return _kind_of_text(value)
    if isinstance(value, datetime):
        return "datetime" if value.tzinfo is None else "timestamp"
    if isinstance(value, date | time):
        return "date" if isinstance(value, date) else "time"
    if isinstance(value, bytes):
        return "binary"
    # Decimal: a number that a double would round.
    return "json" if isinstance(value, Decimal | list | dict | tuple) else "text"


def kind_of_type(kind: pa.DataType) -> str | None:
    """Return the kind of Arrow values; None where they are all NULL."""
    tests: Sequence[tuple[Callable[[pa.DataType], bool], str]] = (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "decimal(20,0)"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_floating, "number"),
        (pa.types.is_date, "date"),
        (pa.types.is_time, "time"),
        (pa.types.is_timestamp, "timestamp" if getattr(kind, "tz", None) else "datetime"),
        (pa.types.is_binary, "binary"),
        (pa.types.is_large_binary, "binary"),
        (pa.types.is_nested, "json"),
    )
    if pa.types.is_null(kind):
        return None
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return next((name for test, name in tests if test(kind)), "text")


def merged(one: str | None, other: str) -> str:
    """Return the narrowest kind that holds the values of both as they are."""
    if one is None or one == other:
        return other
    if {one, other} <= _TEXTS:
        return "text"
    return "number" if {one, other} == {"integer", "number"} else "json"


def _kind_of_text(value: str) -> Kind:
    # Cheap first: nearly no text looks like this.
    if len(value) < 10 or value[4] != "-" or not value[0].isdigit():
        return "text"
    try:
        if _DATE.fullmatch(value):
            date.fromisoformat(value)
            return "date"
        if match := _MOMENT.fullmatch(value):
            datetime.fromisoformat(value)
            return "timestamp" if match[2] else "datetime"
    except ValueError:
        return "text"
    return "text"
