"""Values of a cursor: compared, written as marks, and written back as the server writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pyarrow as pa

from runner.errors import SourceError

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?")
Style = dict[str, Any]


class Cursor:
    """What the values of a cursor are.

    Args:
        kind: The type of the cursor's column; None where it is not known: values are compared as they came.
    """

    def __init__(self, kind: pa.DataType | None) -> None:
        self._kind = kind
        self.zoned = kind is not None and pa.types.is_timestamp(kind) and kind.tz is not None
        self._read: Callable[[Any], Any] = lambda value: value
        if kind is None:
            return
        if pa.types.is_timestamp(kind):
            self._read = _moment if self.zoned else _naive
        elif pa.types.is_date(kind):
            self._read = _date
        elif pa.types.is_integer(kind):
            self._read = int

    def read(self, value: Any) -> Any:
        """Return a value as it can be compared.

        Raises:
            SourceError: It is no value of this cursor.
        """
        try:
            return self._read(value)
        except (ValueError, TypeError) as error:
            raise SourceError(f"The cursor's value {value!r} is not of the type {self._kind}.") from error

    def mark(self, value: Any) -> str:
        """Return a value that was read as a mark is written."""
        if isinstance(value, datetime):
            return f"{value.replace(tzinfo=None).isoformat(sep=' ')}{'+00' if self.zoned else ''}"
        return value.isoformat() if isinstance(value, date) else str(value)

    def written(self, mark: str, style: Style | None) -> Any:
        """Return a mark as the server writes such values."""
        value = self.read(mark)
        if not isinstance(value, date):
            return value
        known = style or {}
        if known.get("form") == "object":
            return value
        if known.get("form") == "date" or not isinstance(value, datetime):
            return value.isoformat()[:10]
        digits = known.get("digits", 6 if value.microsecond else 0)
        text = value.replace(tzinfo=None).isoformat(sep=known.get("sep", "T"), timespec="microseconds")
        whole, _, fraction = text.partition(".")
        # What is cut off makes it earlier: rows are read again rather than missed.
        kept = f".{fraction[:digits].ljust(digits, '0')}" if digits else ""
        return f"{whole}{kept}{known.get('zone', 'Z' if self.zoned else '')}"


def style_of(value: Any) -> Style | None:
    """Return how a server writes values like this one; None where there is nothing to know."""
    if isinstance(value, date):
        return {"form": "object"}
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return {"form": "date"}
    match = _MOMENT.fullmatch(value)
    if match is None:
        return None
    zone = match[3] or ""
    if zone not in ("", "Z"):
        zone = "+00:00" if ":" in zone else "+0000"
    return {"form": "moment", "sep": match[1], "digits": len(match[2] or ""), "zone": zone}


def ceiling(headers: Mapping[str, str]) -> str | None:
    """Return the server's own time as a mark, from the Date header (RFC 9110, 6.6.1)."""
    try:
        moment = parsedate_to_datetime(headers.get("Date") or "")
    except (ValueError, TypeError):
        return None
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}+00"


def lag_of(lag: float | None, kind: pa.DataType) -> str | int | None:
    """Return dlt's lag as a job file has it: days for dates, seconds for times, else a number."""
    if not lag:
        return None
    if pa.types.is_integer(kind):
        return int(lag)
    return f"{math.ceil(lag)}{'d' if pa.types.is_date(kind) else 's'}"


def _moment(value: Any) -> datetime:
    found = _parsed(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _naive(value: Any) -> datetime:
    found = _parsed(value)
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _parsed(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    return datetime.fromisoformat(value)


def _date(value: Any) -> date:
    return _parsed(value).date()
