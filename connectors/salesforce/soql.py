"""The SOQL that is sent.

Facts: developer.salesforce.com, SOQL and SOSL Reference, "Date Formats and Date Literals" (times are not quoted),
"Quoted String Escape Sequences", "Semi-Joins with IN" (not beside OR); Bulk API 2.0 Developer Guide, "SOQL
Considerations" (ORDER BY and LIMIT keep a job from being split).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from runner.source import Column, Scan, Window

# The longest address is 16,384 bytes, with all that goes before the query.
_LONGEST = 15_500


def is_long(statement: str) -> bool:
    """Tell whether a statement does not fit into an address."""
    return len(quote(statement, safe="")) > _LONGEST


def text(value: str) -> str:
    """Return a quoted text."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def literal(value: str, kind: pa.DataType) -> str:
    """Return a mark as a literal of its column's type."""
    if pa.types.is_timestamp(kind):
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return value


def select(scan: Scan) -> str:
    """Return the fields of a scan; its key always, for a query goes on behind the last one read."""
    names = [column.name for column in scan.columns]
    return ", ".join(names if "Id" in names else ["Id", *names])


def make_query(scan: Scan, bounds: Mapping[str, Any], *, ordered: bool) -> str:
    """Return the query of a chunk.

    Args:
        bounds: after and until are ids; child is an object whose changed records are followed to this one.
    """
    conditions = make_conditions(scan, child=bounds.get("child"))
    if "after" in bounds:
        conditions.append(f"Id > {text(bounds['after'])}")
    if "until" in bounds:
        conditions.append(f"Id <= {text(bounds['until'])}")
    said = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {select(scan)} FROM {scan.table.detail['object']}{said}{' ORDER BY Id' if ordered else ''}"


def make_conditions(scan: Scan, *, child: Sequence[str] | None = None) -> list[str]:
    """Return the conditions of a scan, all of which must hold."""
    conditions = [f"({scan.where})"] if scan.where else []
    column = None if scan.window is None else scan.table.column(scan.window.cursor)
    if scan.window is None or column is None:
        return conditions
    if child is None:
        return conditions + _within(scan.window, column)
    name, field = child
    inner = " AND ".join(_within(scan.window, Column("SystemModstamp", column.type, nullable=False)))
    return [*conditions, f"Id IN (SELECT {field} FROM {name} WHERE {inner})"]


def _within(window: Window, column: Column) -> list[str]:
    parts = []
    if window.start is not None:
        sign = ">=" if window.from_start else ">"
        parts.append(f"{column.name} {sign} {literal(window.start, column.type)}")
    if window.end is not None:
        sign = "<" if window.before_end else "<="
        parts.append(f"{column.name} {sign} {literal(window.end, column.type)}")
    if not column.nullable or (not parts and window.nulls):
        return parts
    if not window.nulls:
        return [*parts, f"{column.name} != null"]
    return [f"({' AND '.join(parts)} OR {column.name} = null)" if len(parts) == 1 else
            f"(({' AND '.join(parts)}) OR {column.name} = null)"]  # fmt: skip


def as_mark(value: str) -> str:
    """Return a time of an answer as the text of a mark."""
    moment = datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
    return f"{moment.isoformat(sep=' ')}+00"
