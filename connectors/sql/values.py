"""From a driver's values to JSON, without losing anything.

Whole numbers, floats and booleans are JSON's own. A decimal is a string, with all of its digits: ``"12.50"``. Dates and
times are ISO 8601, those with a zone in UTC. Bytes are hexadecimal; JSON of the database is its text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

_LONGEST = 200


def ready(value: Any) -> Any:
    """Return a value as JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(name): ready(inner) for name, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [ready(inner) for inner in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)


def moment(value: Any, zone: Any = UTC) -> datetime | None:
    """Return the moment that a date or time means, in UTC; None where it is neither.

    Args:
        zone: That of times without one.
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone).astimezone(UTC)
    return None


def alike(kept: Any, like: Any) -> Any:
    """Return the value that a JSON-ready one was made of, so that it compares with one of the same column.

    Raises:
        ValueError: It is of another type.
    """
    if isinstance(like, datetime):
        found = datetime.fromisoformat(str(kept))
        return found if (found.tzinfo is None) == (like.tzinfo is None) else found.replace(tzinfo=like.tzinfo and UTC)
    if isinstance(like, date):
        return date.fromisoformat(str(kept)[:10])
    if isinstance(like, int | float | Decimal) and not isinstance(like, bool):
        try:
            return Decimal(str(kept))
        except InvalidOperation:
            raise ValueError(f"{kept!r} is not a number") from None
    return ready(kept) if isinstance(like, str) else type(like)(kept)


def digest(value: Any) -> str:
    """Return a short hash of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def key_of(values: Sequence[Any]) -> str:
    """Return the key of an event made of JSON-ready values: equal only where they are."""
    only = values[0] if len(values) == 1 else None
    plain = (isinstance(only, str) and not only.startswith("[")) or (
        isinstance(only, int) and not isinstance(only, bool)
    )
    text = str(only) if plain else json.dumps(list(values), separators=(",", ":"), ensure_ascii=False)
    # What is shortened keeps a sign that no list of values begins with.
    return text if len(text) <= _LONGEST else f"[#{digest(list(values))}"


def _duration(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    return f"{sign}P{value.days}DT{value.seconds}{fraction}S"
