"""From PostgreSQL's types to Arrow's, and what changes on the way.

Everything without a row here travels as the text the server prints under the session settings of
``connection.py`` (ISO dates, UTC, hex bytea), which is exact.
"""

from __future__ import annotations

import pyarrow as pa

_FIXED = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}


def arrow_type(name: str, kind: str, typmod: int) -> tuple[pa.DataType, bool, str | None]:
    """Return how a column arrives.

    Args:
        name: pg_type.typname, domains resolved to their base type.
        kind: pg_type.typcategory ('A' is an array).
        typmod: pg_attribute.atttypmod.

    Returns:
        The Arrow type, whether the text is JSON, and what changes on the way in words.
    """
    if kind == "A":
        return pa.string(), True, "array as JSON"
    if name in ("json", "jsonb"):
        return pa.string(), True, None
    if name == "numeric":
        return _numeric(typmod)
    if name in _FIXED:
        return _FIXED[name], False, None
    return pa.string(), False, None


def _numeric(typmod: int) -> tuple[pa.DataType, bool, str | None]:
    """Decode numeric's typmod: ((precision << 16) | (scale & 0x7ff)) + 4 (numeric.c of PostgreSQL)."""
    if typmod < 4:
        return pa.string(), False, "numeric without a precision as text"
    precision, scale = (typmod - 4) >> 16, (typmod - 4) & 0x7FF
    scale = (scale ^ 1024) - 1024
    if precision > 38 or not 0 <= scale <= precision:
        return pa.string(), False, f"numeric({precision},{scale}) as text"
    return pa.decimal128(precision, scale), False, None
