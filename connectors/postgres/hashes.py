"""A scan's columns as the server hashes them: the values that COPY sends, after the scan's rules."""

from __future__ import annotations

import pyarrow as pa

from runner.naming import quote
from runner.rowhash import Field
from runner.source import Column, Scan

_FIRST, _LAST = "0001-01-01", "9999-12-31"


def can_hash(scan: Scan) -> bool:
    """Tell whether the server can hash the values as written: it never sees the key of hashed columns."""
    return not any(column.rule == "hash" for column in scan.columns)


def hash_fields(scan: Scan) -> list[Field]:
    """Return the columns of a scan with the SQL of their values."""
    return [_field(column, scan.special) for column in scan.columns]


def _field(column: Column, special: str) -> Field:
    name, value, verbatim = quote(column.name), "", True
    if column.rule == "mask":
        value = f"case when {name} is distinct from null then '***' end"
    elif column.json and column.note:
        value = f"array_to_json({name})"
    elif special == "null":
        value = _ordinary(name, column.type)
    if pa.types.is_string(column.type) and column.rule != "mask":
        verbatim = not column.json and (column.native == "text" or column.native.startswith("character varying"))
    # What the catalog calls not null is not null; what a rule or policy makes of it may be.
    return Field(column.name, column.type, column.nullable or bool(value), value, verbatim=verbatim)


def _ordinary(name: str, kind: pa.DataType) -> str:
    """Return a value that is NULL where decoding makes it NULL (``special: null``)."""
    if pa.types.is_decimal(kind):
        return f"case when ({name})::text !~ '[nN]' then {name} end"
    if pa.types.is_date(kind):
        return f"case when {name} between '{_FIRST}' and '{_LAST}' then {name} end"
    if pa.types.is_timestamp(kind):
        zone = "+00" if kind.tz else ""
        return f"case when {name} between '{_FIRST} 00:00:00{zone}' and '{_LAST} 23:59:59.999999{zone}' then {name} end"
    if pa.types.is_time(kind):
        return f"case when {name} < '24:00' then {name} end"
    return ""
