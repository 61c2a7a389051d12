"""Objects as tables: what a describe says about fields, as columns.

Facts: developer.salesforce.com, SOAP API Developer Guide, "DescribeSObjectResult" (``precision`` and ``scale`` of a
number; digits beyond the scale are cut off by the API when a value is written, but formulas compute what they like),
Object Reference, "Field Types" and "Compound Fields" (read-only; their parts hold the values), "System Fields"
(SystemModstamp is indexed and set by every change); REST API Developer Guide, "sObject Describe".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from connectors.patterns import pattern
from connectors.salesforce.config import SalesforceConfig
from runner.source import Column, Table

SCHEMA = "salesforce"
_COMPOUND = ("address", "location")
_NUMBERS = ("double", "currency", "percent")
_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", tz="UTC"),
    "time": pa.time64("us"),
    "base64": pa.binary(),
}
# nillable is about what may be written from now on, and older records may lack it; these every record has.
_ALWAYS = ("Id", "IsDeleted", "CreatedDate", "LastModifiedDate", "SystemModstamp")
_CURSORS = ("SystemModstamp", "LastModifiedDate", "CreatedDate")


def make_table(config: SalesforceConfig, described: Mapping[str, Any], rows: int, *, word: str) -> Table:
    """Return an object as a table.

    Args:
        word: What the job file calls it.
    """
    name = str(described["name"])
    columns: list[Column] = []
    left: list[str] = []
    for field in described["fields"]:
        reason = _left_out(config, name, field)
        if reason:
            left.append(f"{field['name']} ({reason})")
        else:
            columns.append(_column(config, field))
    known = {column.name for column in columns}
    has_id = "Id" in known
    return Table(
        schema=SCHEMA,
        name=word,
        columns=tuple(columns),
        primary_key=("Id",) if has_id else (),
        kind="object",
        rows=rows,
        bytes=rows * _width(columns),
        indexed=tuple(one for one in _CURSORS if one in known),
        readable=bool(described.get("queryable", True)) and has_id,
        comment=f"not read: {', '.join(left)}" if left else None,
        detail={"object": name, "left_out": left},
        defaults=pattern(SCHEMA, name).defaults(known),
    )


def is_wanted_by_pattern(summary: Mapping[str, Any]) -> bool:
    """Tell whether a pattern with a wildcard means an object: one that holds data and can be followed."""
    return bool(summary.get("queryable") and summary.get("replicateable") and summary.get("retrieveable"))


def _left_out(config: SalesforceConfig, name: str, field: Mapping[str, Any]) -> str | None:
    if field["type"] in _COMPOUND:
        return f"{field['type']}: its parts are read"
    if field["type"] == "base64" and f"{name}.{field['name']}" not in config.binary:
        return "base64: name it in binary of the source to read it"
    return None


def _column(config: SalesforceConfig, field: Mapping[str, Any]) -> Column:
    kind, name = str(field["type"]), str(field["name"])
    precision, scale = int(field.get("precision") or 0), int(field.get("scale") or 0)
    note = None
    native = kind
    if kind in _NUMBERS:
        native = f"{kind}({precision},{scale})"
        fits = 0 < precision <= 38 and not field.get("calculated")
        arrow = pa.decimal128(precision, scale) if fits and config.numbers == "decimal" else pa.float64()
    else:
        arrow = _TYPES.get(kind, pa.string())
        length = int(field.get("length") or 0)
        native = f"{kind}({length})" if arrow == pa.string() and length else kind
    if kind == "reference":
        targets = list(field.get("referenceTo") or ())
        note = f"the id of one of {', '.join(targets)}" if len(targets) > 1 else None
    if kind == "encryptedstring":
        note = "masked, unless the user may view encrypted data"
    nullable = name not in _ALWAYS
    return Column(name, arrow, nullable, native=native, note=note, comment=field.get("inlineHelpText") or None)


def _width(columns: Iterable[Column]) -> int:
    return sum(20 if pa.types.is_string(column.type) else 8 for column in columns)
