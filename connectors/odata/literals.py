"""Conditions in the words of either version: literals, windows, ranges of keys.

After OData URL Conventions 4.01 (section 5.1.1) and OData 2.0, "URI Conventions" (section 4.5) and "Overview" (6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.source import Window

# What has an order that a service and its database agree about.
ORDERED = (
    "Edm.String",
    "Edm.Guid",
    "Edm.Byte",
    "Edm.SByte",
    "Edm.Int16",
    "Edm.Int32",
    "Edm.Int64",
    "Edm.Decimal",
    "Edm.Date",
    "Edm.DateTime",
    "Edm.DateTimeOffset",
)
_BARE = re.compile(r"[-+0-9.eE]+|[0-9a-fA-F-]{36}|[0-9T:.Z+-]+|true|false")


def literal(value: Any, kind: str, version: int) -> str:
    """Return a value as a literal.

    Args:
        value: As columns hold it: text in ISO 8601, a number, a text.
        kind: The Edm type.

    Raises:
        ValueError: It is none of that type: nothing of it may get into a condition.
    """
    if value is None:
        return "null"
    if kind == "Edm.String":
        return "'" + str(value).replace("'", "''") + "'"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind in ("Edm.DateTimeOffset", "Edm.DateTime"):
        text = moment(text, zoned=kind == "Edm.DateTimeOffset")
    if not _BARE.fullmatch(text):
        raise ValueError(f"{text!r} is no {kind}")
    if version == 4:
        return text
    prefix = {"Edm.DateTimeOffset": "datetimeoffset", "Edm.DateTime": "datetime", "Edm.Guid": "guid"}.get(kind)
    if prefix:
        return f"{prefix}'{text}'"
    return text + {"Edm.Int64": "L", "Edm.Decimal": "M"}.get(kind, "")


def moment(text: str, *, zoned: bool) -> str:
    """Return a time of the runner's marks, or ISO 8601, as OData writes it."""
    found = text.strip().replace(" ", "T", 1)
    if len(found) == len("2024-01-01"):
        found += "T00:00:00"
    if not zoned:
        return re.sub(r"(Z|[+-]\d\d(:?\d\d)?)$", "", found)
    found = re.sub(r"\+00(:?00)?$", "Z", found)
    return found if re.search(r"(Z|[+-]\d\d:\d\d)$", found) else found + "Z"


def joined(parts: Sequence[str | None], word: str = "and") -> str | None:
    """Return conditions as one; None for none."""
    kept = [part for part in parts if part]
    return f" {word} ".join(f"({part})" for part in kept) if len(kept) > 1 else (kept[0] if kept else None)


def window(bounds: Window, kind: str, version: int, *, nullable: bool, path: str | None = None) -> str | None:
    """Return a window of the cursor as a condition.

    Args:
        path: The property, where it is not called as the cursor.
    """
    name = path or bounds.cursor
    parts = []
    if bounds.start is not None:
        parts.append(f"{name} {'ge' if bounds.from_start else 'gt'} {literal(bounds.start, kind, version)}")
    if bounds.end is not None:
        parts.append(f"{name} {'lt' if bounds.before_end else 'le'} {literal(bounds.end, kind, version)}")
    if not parts:
        return None if bounds.nulls or not nullable else f"{name} ne null"
    inside = " and ".join(parts)
    return f"({inside}) or {name} eq null" if bounds.nulls and nullable else inside


def beyond(names: Sequence[str], kinds: Sequence[str], values: Sequence[Any], version: int) -> str:
    """Return the condition that a key is after another one, part by part."""
    texts = [literal(value, kind, version) for value, kind in zip(values, kinds, strict=True)]
    found = []
    for index, name in enumerate(names):
        equal = [f"{names[at]} eq {texts[at]}" for at in range(index)]
        found.append(" and ".join([*equal, f"{name} gt {texts[index]}"]))
    return joined(found, "or") or ""


def until(names: Sequence[str], kinds: Sequence[str], values: Sequence[Any], version: int) -> str:
    """Return the condition that a key is not after another one."""
    texts = [literal(value, kind, version) for value, kind in zip(values, kinds, strict=True)]
    found = []
    for index, name in enumerate(names):
        equal = [f"{names[at]} eq {texts[at]}" for at in range(index)]
        last = "le" if index == len(names) - 1 else "lt"
        found.append(" and ".join([*equal, f"{name} {last} {texts[index]}"]))
    return joined(found, "or") or ""


def equal(names: Sequence[str], kinds: Sequence[str], values: Sequence[Any], version: int) -> str:
    """Return the condition that a key is this one."""
    parts = zip(names, kinds, values, strict=True)
    return " and ".join(f"{name} eq {literal(value, kind, version)}" for name, kind, value in parts)
