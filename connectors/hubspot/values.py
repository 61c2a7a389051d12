"""Properties as columns: every value leaves HubSpot as text, and arrives as its property's type says.

Facts: developers.hubspot.com, "Properties" (types and field types; times in UTC as ISO 8601 or as milliseconds since
1970; several choices in one value are separated by semicolons).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from runner.source import Column

TIME = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 20 digits before the point and 18 behind it: ids, amounts, and fractions as calculated properties have them.
_NUMBERS = {"decimal": pa.decimal128(38, 18), "double": pa.float64(), "text": pa.string()}
_TYPES = {"date": pa.date32(), "datetime": TIME, "bool": pa.bool_()}


def column(name: str, native: str, *, numbers: str, label: str | None = None, required: bool = False) -> Column:
    """Return the column of a property."""
    kind = _NUMBERS[numbers] if native == "number" else _TYPES.get(native, pa.string())
    return Column(name, kind, nullable=not required, native=native, json=native == "json", comment=label)


def convert(native: str, text: Any) -> Any:
    """Return a property's value as its column's type takes it; what was cleared is NULL, but for texts."""
    if text is None or (text == "" and native not in ("string", "enumeration", "phone_number")):
        return None
    if native in ("date", "datetime") and isinstance(text, str) and text.removeprefix("-").isdigit():
        moment = _EPOCH + timedelta(milliseconds=int(text))
        return moment.date().isoformat() if native == "date" else moment.isoformat()
    return text


def milliseconds(text: str, *, up: bool = False) -> int:
    """Return a mark or a time of HubSpot as whole milliseconds since 1970, rounded down or up."""
    micros = (datetime.fromisoformat(text.replace("Z", "+00:00")) - _EPOCH) // timedelta(microseconds=1)
    return -(-micros // 1000) if up else micros // 1000


def mark(text: str) -> str:
    """Return a time of HubSpot as the runner writes marks."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds(text) if not text.isdigit() else int(text))
    return f"{moment.replace(tzinfo=None).isoformat(sep=' ')}+00"
