"""What a resource says about its table: keys, how it is loaded, the types of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator

from runner.document import nearest

# dlt's data types, and the types that their values arrive in.
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "binary": pa.binary(),
    "json": pa.string(),
    "decimal": pa.decimal128(38, 9),
    "wei": pa.decimal128(38, 0),
}
_KEYS = frozenset(
    (
        *("name", "data_type", "precision", "scale", "timezone", "nullable", "variant", "partition", "cluster"),
        *("primary_key", "sort", "unique", "merge_key", "row_key", "parent_key", "root_key", "hard_delete"),
        *("dedup_sort", "incremental", "description"),
    )
)


def _names(value: Any) -> Any:
    if value is None:
        return ()
    if callable(value):
        raise ValueError("a function: name the columns")
    return (value,) if isinstance(value, str) else tuple(value)


def _disposition(value: Any) -> Any:
    if callable(value):
        raise ValueError("a function: name the disposition")
    if not isinstance(value, Mapping):
        return value
    strategy = value.get("strategy")
    if strategy in (None, "delete-insert", "upsert", "truncate-and-insert", "insert-from-staging"):
        return value.get("disposition")
    if strategy == "scd2":
        raise ValueError("strategy scd2: set mode: snapshot for the table in the job file, which keeps every version")
    raise ValueError(f"there is no strategy {strategy!r} here")


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Disposition = Annotated[Literal["replace", "append", "merge", "skip"] | None, BeforeValidator(_disposition)]


def columns_of(value: Any) -> Any:
    """Return hints of columns by name: dlt takes a dictionary or a list.

    Raises:
        ValueError: A key or a type that dlt does not have, or a model in Python.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping | list | tuple):
        raise ValueError("a model in Python: write the columns as a dictionary")
    by_name = dict(value) if isinstance(value, Mapping) else {one.get("name"): one for one in value}
    for name, hints in by_name.items():
        for key in hints:
            if key not in _KEYS and not str(key).startswith("x-"):
                near = nearest(str(key), _KEYS)
                raise ValueError(f"{name}: unknown key {key!r}." + (f" Did you mean {near!r}?" if near else ""))
        if hints.get("data_type") not in (None, *_TYPES):
            near = nearest(str(hints["data_type"]), _TYPES)
            raise ValueError(
                f"{name}: {hints['data_type']!r} is no type." + (f" Did you mean {near!r}?" if near else "")
            )
    return by_name


def arrow_type(hints: Mapping[str, Any]) -> pa.DataType | None:
    """Return the type that hints ask for; None where they ask for none."""
    kind = hints.get("data_type")
    if kind is None:
        return None
    if kind == "timestamp" and hints.get("timezone") is False:
        return pa.timestamp("us")
    if kind == "decimal" and hints.get("precision"):
        scale = hints.get("scale")
        return pa.decimal128(min(38, int(hints["precision"])), 0 if scale is None else int(scale))
    return _TYPES[kind]


def key_of(primary_key: tuple[str, ...], columns: Mapping[str, Mapping[str, Any]], hint: str) -> tuple[str, ...]:
    """Return a key: as it is named, or the columns that have the hint."""
    return primary_key or tuple(name for name, hints in columns.items() if hints.get(hint))
