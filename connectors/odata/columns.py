"""Properties as columns: Edm types to Arrow, and the JSON of either version to what the core converts.

After OData JSON Format 4.01 (section 7.1) and OData 2.0, "JSON Format" (section 4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from connectors.odata.edm import Model, Property
from runner.source import Column

_PLAIN: dict[str, pa.DataType] = {
    "Edm.Boolean": pa.bool_(),
    "Edm.Byte": pa.int16(),
    "Edm.SByte": pa.int16(),
    "Edm.Int16": pa.int16(),
    "Edm.Int32": pa.int32(),
    "Edm.Int64": pa.int64(),
    "Edm.Single": pa.float32(),
    "Edm.Double": pa.float64(),
    "Edm.Date": pa.date32(),
    "Edm.DateTime": pa.timestamp("us"),
    "Edm.DateTimeOffset": pa.timestamp("us", tz="UTC"),
    "Edm.Time": pa.time64("us"),
    "Edm.TimeOfDay": pa.time64("us"),
    "Edm.Binary": pa.binary(),
    "Edm.Guid": pa.string(),
    "Edm.String": pa.string(),
    "Edm.Duration": pa.string(),
}
_WIDEST = 38
_TICKS = re.compile(r"/Date\((-?\d+)([+-]\d{1,4})?\)/")
_SPAN = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(\.\d+)?S)?")
_EPOCH = datetime(1970, 1, 1)
_LONGEST_FRACTION = 6

Decode = Callable[[Any], Any]


def column(prop: Property, model: Model) -> Column | None:
    """Return the column of a property; None for a stream, which is read at an address of its own."""
    kind = model.plain.get(prop.type, prop.type)
    native = _native(prop, kind)
    if kind == "Edm.Stream":
        return None
    if prop.collection or (kind not in _PLAIN and kind != "Edm.Decimal"):
        # Complex types, geography, what has no declared type.
        return Column(prop.name, pa.string(), prop.nullable, native, json=True, comment=prop.label)
    type_, note = _decimal(prop) if kind == "Edm.Decimal" else (_PLAIN[kind], None)
    if kind == "Edm.DateTime" and prop.dated:
        type_ = pa.date32()
    return Column(prop.name, type_, prop.nullable, native, note=note, comment=prop.label)


def _native(prop: Property, kind: str) -> str:
    facets = [str(part) for part in (prop.precision, prop.scale) if part is not None] if kind == "Edm.Decimal" else []
    text = prop.type + (f"({','.join(facets)})" if facets else "") + (" as Date" if prop.dated else "")
    return f"Collection({text})" if prop.collection else text


def _decimal(prop: Property) -> tuple[pa.DataType, str | None]:
    scale = prop.scale or ""
    if prop.precision is None or not scale.isdigit():
        return pa.string(), "a decimal without a fixed scale arrives as text"
    if prop.precision > _WIDEST or int(scale) > prop.precision:
        return pa.string(), f"a decimal of more than {_WIDEST} digits arrives as text"
    return pa.decimal128(prop.precision, int(scale)), None


def decoder(one: Column, version: int) -> Decode | None:
    """Return what turns a value of JSON into what the core converts; None where nothing has to be done."""
    if one.json:
        return stripped
    kind = one.native.partition("(")[0].partition(" ")[0]
    if kind == "Edm.Decimal" and pa.types.is_string(one.type):
        return number_text
    if kind == "Edm.Binary":
        return _padded
    if version == 2:
        if one.native == "Edm.DateTime as Date":
            return _date
        return {"Edm.DateTime": _local, "Edm.DateTimeOffset": _moment, "Edm.Time": _time}.get(kind)
    return _fraction if kind == "Edm.DateTimeOffset" else None


def number_text(value: Any) -> Any:
    """Return a number as the text it was sent as."""
    return value if value is None or isinstance(value, str) else str(value)


def _padded(value: Any) -> Any:
    """Return base64 with the padding that OData 4 lets services leave out."""
    return value + "=" * (-len(value) % 4) if isinstance(value, str) else value


def _fraction(value: Any) -> Any:
    """Return a time without zeros behind its microseconds: they say nothing, and Arrow would refuse them."""
    if isinstance(value, str) and len(value) > len("2024-01-01T00:00:00.000000Z"):
        return re.sub(r"(\.\d{6})0+(?=\D|$)", r"\1", value)
    return value


def _moment(value: Any) -> Any:
    """Return /Date(ms)/ as ISO 8601; with an offset in minutes, the milliseconds are those of the clock there."""
    match = _TICKS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    offset = match[2]
    try:
        moment = _EPOCH + timedelta(milliseconds=int(match[1]), minutes=-int(offset) if offset else 0)
    except OverflowError:
        return value  # a year that no calendar here has
    return moment.isoformat() + ("Z" if offset else "")


def _local(value: Any) -> Any:
    moment = _moment(value)
    return moment.removesuffix("Z") if isinstance(moment, str) else moment


def _date(value: Any) -> Any:
    moment = _local(value)
    # A time in a date would be lost: the core refuses it in words.
    return moment[:10] if isinstance(moment, str) and moment[10:] == "T00:00:00" else moment


def _time(value: Any) -> Any:
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    fraction = (match[4] or "").rstrip("0").rstrip(".")
    if hours > 23 or minutes > 59 or seconds > 59 or len(fraction) > _LONGEST_FRACTION + 1:
        return value
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"


def stripped(value: Any) -> Any:
    """Return a nested value without what OData says about it: __metadata, @odata.…, links that nobody followed."""
    if isinstance(value, list):
        return [stripped(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) <= {"results", "__next", "__count"} and isinstance(value.get("results"), list):
        return stripped(value["results"])
    return {
        name: stripped(one)
        for name, one in value.items()
        if name != "__metadata" and "@" not in name and not (isinstance(one, Mapping) and "__deferred" in one)
    }
