"""A resource as a table: columns inferred or hinted, and how it is loaded unless the job file says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from connectors.rest.cursors import Style, lag_of
from connectors.rest.hints import arrow_type
from connectors.rest.jsonpaths import compiled
from connectors.rest.resources import Resource
from connectors.shapes import Shape
from runner.naming import normalise
from runner.plan import can_order
from runner.source import Column, Table

KIND = "rest"
_LONGEST = 255


def table_of(
    resource: Resource,
    shape: Shape,
    *,
    style: Style | None = None,
    rows: int = 0,
    partial: bool = False,
    unseen: bool = False,
    problem: str | None = None,
) -> Table:
    """Return a resource as a table.

    Args:
        style: How the server writes values of the cursor.
        rows: How many there are, estimated.
        partial: Whether the rows of a parent that is incremental are all that it has.
        unseen: Whether there may be rows although none was seen: it has columns until the first one comes.
        problem: Why it cannot be read.
    """
    cursor = cursor_column(resource)
    never_empty = resource.incremental is not None and resource.incremental.on_cursor_value_missing != "include"
    known = shape.columns([cursor] if cursor and never_empty else [])
    columns = _hinted(known or (_unseen(resource, cursor) if unseen else ()), resource.columns)
    names = {normalise(one.name, _LONGEST): one.name for one in columns}
    key = tuple(names.get(normalise(name, _LONGEST), name) for name in resource.key)
    found = next((one for one in columns if one.name == cursor), None)
    return Table(
        KIND,
        resource.table,
        columns,
        primary_key=key,
        kind="resource",
        rows=rows,
        indexed=(cursor,) if cursor else (),
        detail={"resource": resource.name, "style": style, "shape": shape.record()},
        defaults=_defaults(resource, key, found, partial=partial),
        inferred=True,
        problem=problem,
    )


def cursor_column(resource: Resource) -> str | None:
    """Return the column of the cursor: of a nested one, one that is added."""
    return compiled(resource.incremental.cursor_path).column if resource.incremental else None


def _unseen(resource: Resource, cursor: str | None) -> tuple[Column, ...]:
    """Return the columns of a resource whose rows are all still to come: they are others once there is one."""
    names = list(dict.fromkeys([*resource.key, *([cursor] if cursor else [])])) or ["value"]
    moment = pa.timestamp("us", tz="UTC")
    return tuple(
        Column(name, moment, nullable=False) if name == cursor else Column(name, pa.string()) for name in names
    )


def _hinted(columns: Sequence[Column], hints: Mapping[str, Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return inferred columns with the types that hints give them, and those that only hints know."""
    left = {normalise(name, _LONGEST): (name, one) for name, one in hints.items()}
    found = []
    for column in columns:
        _, hint = left.pop(normalise(column.name, _LONGEST), ("", {}))
        kind = arrow_type(hint)
        if kind is not None:
            column = replace(column, type=kind, native=hint["data_type"], json=hint["data_type"] == "json")
        found.append(replace(column, comment=hint.get("description")))
    for name, hint in left.values():
        kind = arrow_type(hint)
        if kind is not None:
            found.append(Column(name, kind, native=hint["data_type"], json=hint["data_type"] == "json"))
    return tuple(found)


def _defaults(resource: Resource, key: tuple[str, ...], cursor: Column | None, *, partial: bool) -> dict[str, Any]:
    """Return the keys of a table entry that stand for the disposition, the key and the cursor of a resource."""
    model, found = resource.incremental, dict[str, Any]()
    if key:
        found["key"] = list(key)
    orders = cursor is not None and can_order(cursor.type)
    if model is not None and (orders or resource.disposition == "append"):
        # What cannot be a cursor is told in words: appended without one, rows would come again with every run.
        found["cursor"] = cursor_column(resource)
    # Rows are found by a merge key, and not told apart by it: then all are loaded.
    merges = bool(key) and orders and set(resource.merge_key) <= set(key)
    if resource.disposition == "replace":
        found["mode"] = "full"
    elif resource.disposition == "append":
        found["mode"] = "full" if partial and model is None else "append"
    elif resource.disposition == "merge" or (orders and key):
        found["mode"] = "incremental" if merges else "full"
    elif orders and model is not None and model.on_cursor_value_missing != "include":
        found["mode"] = "append"
    if found.get("mode") == "incremental" and model is not None and cursor is not None:
        lag = lag_of(model.lag, cursor.type)
        if lag is not None:
            found["lag"] = lag
    return found


def hinted_times(resource: Resource, columns: Sequence[Column]) -> dict[str, pa.DataType]:
    """Return the columns that hints say to be times, with their types."""
    hinted = {normalise(name, _LONGEST) for name, hint in resource.columns.items() if hint.get("data_type")}
    return {
        one.name: one.type
        for one in columns
        if normalise(one.name, _LONGEST) in hinted and (pa.types.is_timestamp(one.type) or pa.types.is_date(one.type))
    }


def as_typed(rows: list[dict[str, Any]], times: Mapping[str, pa.DataType]) -> list[dict[str, Any]]:
    """Return rows whose numbers are times where hints say that the column has times, as dlt takes them."""
    wrong = [name for name in times if any(isinstance(row.get(name), int | float) for row in rows)]
    if not wrong:
        return rows
    return [{**row, **{name: _time(row.get(name), times[name]) for name in wrong}} for row in rows]


def _time(value: Any, kind: pa.DataType) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    moment = datetime.fromtimestamp(value, UTC)
    if pa.types.is_date(kind):
        return moment.date()
    return moment if kind.tz is not None else moment.replace(tzinfo=None)
