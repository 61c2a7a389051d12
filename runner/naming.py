"""Names at the destination, by the ``snake_case`` convention of dlt, and names of what has none: fingerprints.

dlt is the reference (dlt.common.normalizers.naming.snake_case, 1.31); a property test holds the two
equal, so that an ordinary dlt pipeline finds our tables under the names it would have chosen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

_REDUCE = str.maketrans("+-*@|", "x_xal")
_TAG = bytes.maketrans(b"/+", b"ab")
_COLLISION = 0.001


def normalise(identifier: str, max_length: int) -> str:
    """Return the destination's name for an identifier of the source.

    Args:
        identifier: Any name; must not be empty or blank.
        max_length: The destination's limit, in characters; longer names are shortened and tagged.
    """
    identifier = identifier.strip()
    name = re.sub(r"[^a-zA-Z\d_]+", "_", identifier.translate(_REDUCE))
    name = re.sub(r"([^_])([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    if re.match(r"^\d", name):
        name = "_" + name
    stem = name.rstrip("_")
    name = re.sub(r"__+", "_", stem + "x" * (len(name) - len(stem)))
    if len(name) <= max_length:
        return name
    size = int((3 * math.log2(1 / _COLLISION) // 8) + 1)
    digest = hashlib.shake_128(identifier.encode()).digest(size)
    tag = base64.b64encode(digest).rstrip(b"=").translate(_TAG).lower().decode("ascii")
    keep = max_length - len(tag)
    return name[: keep - keep // 2] + tag + name[len(name) - keep // 2 :]


def quote(name: str) -> str:
    """Quote an SQL identifier (SQL:2016 delimited identifier)."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote an SQL string literal; for servers with standard_conforming_strings on."""
    return "'" + value.replace("'", "''") + "'"


def inlined(sql: str, values: Sequence[Any]) -> str:
    """Put values in the place of the question marks of a statement, as literals."""
    if not values:
        return sql
    parts = sql.split("?")
    assert len(parts) == len(values) + 1
    texts = ["null" if v is None else literal(v) if isinstance(v, str) else str(v) for v in values]
    return "".join(part + text for part, text in zip(parts, [*texts, ""], strict=True))


def fingerprint(value: Any) -> str:
    """Return 16 hex digits of BLAKE2b over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
