"""Values as the REST API writes them into JSON, and the Bulk API into CSV.

Facts: developer.salesforce.com, REST API Developer Guide, "Query" (``attributes``, ``totalSize``, ``done``,
``nextRecordsUrl``); Bulk API 2.0 Developer Guide, "Get Results for a Query Job" (all values are quoted, a header in
every set, NULL is empty) and "Valid Date Format in Records".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from connectors.testing.salesforce.objects import SObject
from connectors.testing.salesforce.org import Record
from connectors.testing.salesforce.query import Runner, Selected

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}


def json_value(value: Any) -> Any:
    """Return a value as it stands in JSON."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}.000+0000"
    if isinstance(value, time):
        return f"{value:%H:%M:%S}.000Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: json_value(part) for name, part in value.items()}
    return value


def csv_value(kind: str, value: Any) -> str:
    """Return a value as it stands in CSV."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}.000Z"
    if isinstance(value, Decimal | float) or kind in ("double", "currency", "percent"):
        return _double(float(value))
    return str(json_value(value))


def _double(value: float) -> str:
    """Return a double as Java writes it: in scientific notation from ten millions on."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    mantissa, _, exponent = f"{Decimal(repr(value)):e}".lower().partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}"


def as_record(runner: Runner, kind: SObject, row: Record, selected: Sequence[Selected], version: str) -> dict[str, Any]:
    """Return a record as a query answers with it: parents are objects of their own."""
    made: dict[str, Any] = {"attributes": _attributes(kind.name, row["Id"], version)}
    for one in selected:
        place = made
        current: Record | None = row
        for step in one.path[:-1]:
            found = runner.org.get(str(current[step.name])) if current and current.get(step.name) else None
            name = str(step.relationship)
            if found is None:
                place.setdefault(name, None)
                current = None
                break
            if not place.get(name):
                place[name] = {"attributes": _attributes(found[0].name, found[1]["Id"], version)}
            place, current = place[name], found[1]
        if current is not None:
            last = one.path[-1]
            value = runner.follow(current, (last,))
            if last.type == "base64" and value is not None:
                value = f"/services/data/v{version}/sobjects/{kind.name}/{row['Id']}/{last.name}"
            place[last.name] = json_value(value)
    return made


def as_group(values: dict[str, Any]) -> dict[str, Any]:
    """Return a row of aggregates."""
    shown = {name: json_value(value) for name, value in values.items()}
    return {"attributes": {"type": "AggregateResult"}, **shown}


def as_table(
    runner: Runner, rows: Sequence[Record], selected: Sequence[Selected], delimiter: str, line_ending: str
) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_ending, quoting=csv.QUOTE_ALL)
    writer.writerow([one.name for one in selected])
    for row in rows:
        writer.writerow([csv_value(one.path[-1].type, runner.follow(row, one.path)) for one in selected])
    return out.getvalue()


def _attributes(name: str, record_id: str, version: str) -> dict[str, str]:
    return {"type": name, "url": f"/services/data/v{version}/sobjects/{name}/{record_id}"}
