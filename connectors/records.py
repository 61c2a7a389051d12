"""JSON objects as Arrow: each value exactly as its column's type says, or an error in words."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from runner.errors import Undecodable
from runner.source import Column

# ISO 8601 as Python reads it, but for digits beyond microseconds, which it would drop.
_FINE = re.compile(r"\.\d{6}\d*[1-9]")
_LONGEST = 80
# json.dumps would make an encoder for every value.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Misfit(ValueError):
    """A value is not of its column's type."""


def to_batch(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, table: str, special: str = "error"
) -> pa.RecordBatch:
    """Return rows as a record batch of these columns; what a row lacks is NULL.

    Args:
        special: null: decimals and times that do not fit become NULL.

    Raises:
        Undecodable: A value does not fit its column.
    """
    arrays = [_column([row.get(one.name) for row in rows], one, table, special) for one in columns]
    _refuse_nulls(arrays, columns, table)
    schema = pa.schema([pa.field(one.name, one.type, one.nullable) for one in columns])
    return pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else pa.record_batch([], schema=schema)


def cast_batch(
    batch: pa.RecordBatch, columns: Sequence[Column], *, table: str, special: str = "error"
) -> pa.RecordBatch:
    """Return a batch, of texts as CSV has them or of other types, as these columns; what it lacks is NULL."""
    arrays = []
    for one in columns:
        index = batch.schema.get_field_index(one.name)
        if index < 0:
            arrays.append(pa.nulls(batch.num_rows, one.type))
            continue
        given = batch.column(index)
        if given.type == one.type:
            arrays.append(given)
            continue
        quick = None if one.json else _cast(given, one.type)
        arrays.append(quick if quick is not None else _column(given.to_pylist(), one, table, special))
    _refuse_nulls(arrays, columns, table)
    schema = pa.schema([pa.field(one.name, one.type, one.nullable) for one in columns])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _refuse_nulls(arrays: Sequence[pa.Array], columns: Sequence[Column], table: str) -> None:
    for array, column in zip(arrays, columns, strict=True):
        if not column.nullable and array.null_count:
            raise Undecodable(
                f"{table}: {column.name} is NULL in a row, and the source says that it never is.",
                guidance="Leave the column out (columns: {name: drop}), or the rows with `where:`.",
                table=table,
            )


def json_text(value: Any) -> str:
    """Return a value as compact JSON, numbers as they were written."""
    try:
        return _COMPACT(value)
    except TypeError:
        return _exact_json(value)


def _column(values: list[Any], column: Column, table: str, special: str) -> pa.Array:
    kind = column.type
    if column.json:
        return pa.array([None if value is None else json_text(value) for value in values], kind)
    quick = _quick(values, kind)
    if quick is not None:
        return quick
    convert = _converter(kind)
    lenient = special == "null" and (pa.types.is_decimal(kind) or pa.types.is_temporal(kind))
    found: list[Any] = []
    for value in values:
        try:
            found.append(None if value is None else convert(value))
        except (Misfit, ValueError, TypeError, InvalidOperation, OverflowError) as error:
            if not lenient:
                raise _undecodable(table, column, value) from error
            found.append(None)
    try:
        return pa.array(found, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        return _one_by_one(found, values, column, table, error if not lenient else None)


def _one_by_one(found: list[Any], values: list[Any], column: Column, table: str, error: Exception | None) -> pa.Array:
    """Find the value that the type cannot hold; without an error to raise it becomes NULL."""
    kept: list[Any] = []
    for one, value in zip(found, values, strict=True):
        try:
            pa.array([one], column.type)
            kept.append(one)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            if error is not None:
                raise _undecodable(table, column, value) from error
            kept.append(None)
    return pa.array(kept, column.type)


def _undecodable(table: str, column: Column, value: Any) -> Undecodable:
    shown = json_text(value) if not isinstance(value, bytes) else "(bytes)"
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    return Undecodable(f"{table}: {column.name} is {column.native or column.type}, and {shown} is not.", table=table)


def _quick(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    """Return the array where Arrow itself takes the values without changing any of them."""
    try:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return _cast(pa.array(values, pa.string()), kind)
        if pa.types.is_decimal(kind) or pa.types.is_time(kind) or pa.types.is_binary(kind):
            return None
        if pa.types.is_integer(kind) and any(type(value) is not int for value in values if value is not None):
            return None  # Arrow would take 1.5 for 1
        if pa.types.is_floating(kind) and any(isinstance(value, int | Decimal) for value in values):
            return None
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return texts.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # Arrow has no such cast: each value is converted by itself
        return None


# One value.


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    tests: Iterable[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]]] = (
        (pa.types.is_boolean, _boolean),
        (pa.types.is_integer, _integer),
        (pa.types.is_floating, _floating),
        (pa.types.is_decimal, _decimal),
        (pa.types.is_date, _date),
        (pa.types.is_timestamp, lambda value: _moment(value, zoned=kind.tz is not None)),
        (pa.types.is_time, _time),
        (pa.types.is_binary, _bytes),
    )
    return next((convert for test, convert in tests if test(kind)), _text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value).strip('"')


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Misfit


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Misfit
    found = int(value)
    if not isinstance(value, str) and found != value:
        raise Misfit
    return found


def _floating(value: Any) -> float:
    if isinstance(value, str):
        return float(value.replace("INF", "inf"))
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Misfit
    found = float(value)
    if isinstance(value, int | Decimal) and Decimal(repr(found)) != value:
        raise Misfit
    return found


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Misfit
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return date.fromisoformat(value)


def _moment(value: Any, *, zoned: bool) -> datetime:
    if isinstance(value, str) and _FINE.search(value):
        raise Misfit
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if not zoned:
        if moment.tzinfo is not None:
            raise Misfit
        return moment
    # RFC 3339 without an offset means UTC here.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _time(value: Any) -> time:
    found = value if isinstance(value, time) else time.fromisoformat(str(value).removesuffix("Z"))
    if found.tzinfo is not None or _FINE.search(str(value)):
        raise Misfit
    return found


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, AttributeError) as error:
        raise Misfit from error


def _exact_json(value: Any) -> str:
    """Return JSON with Decimals as numbers, which the library would refuse."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return (
            "{"
            + ",".join(f"{json.dumps(str(key), ensure_ascii=False)}:{_exact_json(one)}" for key, one in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(_exact_json(one) for one in value) + "]"
    if isinstance(value, datetime | date | time):
        return json.dumps(value.isoformat())
    return json.dumps(value, ensure_ascii=False, default=str)
