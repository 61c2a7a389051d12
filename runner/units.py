"""Durations, sizes, rates and shares, as people write them in a job file."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION = r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$"
_SIZE = r"^\d+(\.\d+)? ?([kKMGT]?B|[KMGT]iB)$"
_RATE = r"^\d+(\.\d+)?/(s|m|h|d)$"
_SHARE = r"^\d+(\.\d+)?%$"


def parse_duration(text: str) -> timedelta:
    """Parse ``5m``, ``1h30m`` or ``250ms``.

    Raises:
        ValueError: The text is not a duration.
    """
    if not re.match(_DURATION, text):
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m, 1h30m or 2d")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text)
    try:
        return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any time there is") from None


def parse_size(text: str | int) -> int:
    """Parse ``256MiB`` or ``20GB`` into bytes.

    Raises:
        ValueError: The text is not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = re.match(r"^(\d+(?:\.\d+)?) ?([kKMGT]?i?B)$", str(text))
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{text!r} is not a size; write for example 256MiB or 20GB")
    return int(float(match[1]) * _BYTES[match[2]])


def parse_rate(text: str) -> float:
    """Parse ``50/s`` or ``100/m`` into a number per second.

    Raises:
        ValueError: The text is not a rate.
    """
    match = re.match(r"^(\d+(?:\.\d+)?)/(s|m|h|d)$", str(text))
    if not match or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a rate; write for example 50/s or 100/m")
    return float(match[1]) / _SECONDS[match[2]]


def parse_share(text: str) -> float:
    """Parse ``80%`` into 0.8.

    Raises:
        ValueError: The text is not a percentage between 0 and 100.
    """
    match = re.match(r"^(\d+(?:\.\d+)?)%$", str(text))
    if not match or float(match[1]) > 100:
        raise ValueError(f"{text!r} is not a percentage; write for example 80%")
    return float(match[1]) / 100


def format_size(count: float) -> str:
    """Return bytes for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Return a length of time for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(max(seconds, 60)), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _lag(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) and not value.isdigit() else value


_text = {"type": "string"}
Duration = Annotated[
    timedelta, BeforeValidator(_duration), WithJsonSchema({**_text, "pattern": _DURATION, "examples": ["5m"]})
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{**_text, "pattern": _SIZE, "examples": ["256MiB"]}, {"type": "integer"}]}),
]
Rate = Annotated[float, BeforeValidator(parse_rate), WithJsonSchema({**_text, "pattern": _RATE, "examples": ["50/s"]})]
Share = Annotated[
    float, BeforeValidator(parse_share), WithJsonSchema({**_text, "pattern": _SHARE, "examples": ["80%"]})
]
Lag = Annotated[
    timedelta | int,
    BeforeValidator(_lag),
    WithJsonSchema({"anyOf": [{**_text, "pattern": _DURATION}, {"type": "integer"}]}),
]
