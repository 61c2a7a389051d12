"""Compares a value of the source with one that arrived; shares nothing with the runner's own hash."""

from __future__ import annotations

import json
import math
import re
import struct
from decimal import Decimal
from typing import Any

import asyncpg

from connectors.testing.fidelity.alltypes import Way

# In JSON a time is separated from its day by a T, and UTC is +00:00 (ISO 8601).
_ISO = re.compile(r"^(?P<day>\d+-\d\d-\d\d) (?P<time>[\d:.]+)(?P<zone>\+00)?(?P<era> BC)?$")


class _Number(str):
    """A number of a JSON document, with the digits that it was written with."""


def is_same(way: Way, value: Any, text: Any, there: Any) -> bool:
    """Tell whether a value arrived as it left.

    Args:
        way: How it is compared, as alltypes.Case says.
        value: What the source's client returns; not needed for a way by text.
        text: What the source's server prints; of an array the elements.
        there: What the destination's client returns.
    """
    if way == "value":
        return is_same_value(value, there)
    if way in ("text", "json"):
        return type(there) is type(text) and bool(there == text)
    if there is None or text is None:
        return there is None and text is None
    return _same_element(way, value if way == "array" else text, text, _parsed(there))


def is_same_value(here: Any, there: Any) -> bool:
    """Tell whether two clients returned the same value of the same type."""
    if type(here) is not type(there):
        return False
    if isinstance(here, float):
        return struct.pack("<d", here) == struct.pack("<d", there) or (here != here and there != there)
    # The digits of a decimal count too: 1.5 is not 1.50.
    return bool(here == there) and (not isinstance(here, Decimal) or str(here) == str(there))


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=_Number, parse_float=_Number, object_pairs_hook=lambda pairs: pairs)


def _with_t(parts: re.Match[str]) -> str:
    return f"{parts['day']}T{parts['time']}{'+00:00' if parts['zone'] else ''}{parts['era'] or ''}"


def _same_element(way: Way, here: Any, text: Any, there: Any) -> bool:
    """Compare an array's element, or the array, with what is in the JSON document."""
    if isinstance(here, list):
        texts = text if isinstance(text, list) else [None] * len(here)
        return (
            isinstance(there, list)
            and len(here) == len(there)
            and all(_same_element(way, *three) for three in zip(here, texts, there, strict=True))
        )
    if here is None or there is None:
        return here is None and there is None
    if way == "array of json":
        return bool(_parsed(text) == there)
    if way == "array of text":
        return bool(there == _ISO.sub(_with_t, text))
    if isinstance(here, asyncpg.Record):
        return [name for name, _ in there] == list(here.keys()) and all(
            _same_element(way, value, None, found) for value, (_, found) in zip(here.values(), there, strict=True)
        )
    if isinstance(here, bool):
        return there is here
    if isinstance(here, int | float | Decimal):
        digits = text or (f"{here:f}" if isinstance(here, Decimal) else str(here))
        return type(there) is (_Number if math.isfinite(here) else str) and str(there) == digits
    if isinstance(here, bytes):
        return bool(there == "\\x" + here.hex())
    return bool(there == (here if isinstance(here, str) else here.isoformat()))
