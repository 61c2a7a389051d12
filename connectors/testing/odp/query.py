"""Query options of OData 2.0 as SAP Gateway reads them: $filter, $orderby, $select, numbers.

After OData 2.0, "URI Conventions", sections 4.2 to 4.8.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.testing.odp.refusals import Refused
from connectors.testing.odp.sets import EntitySet, Row

_TOKEN = re.compile(
    r"\s*(?:(?P<typed>(?:datetimeoffset|datetime|time|guid|binary|X)'[^']*')|(?P<text>'(?:[^']|'')*')"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[LMmdDfF]?)|(?P<word>[A-Za-z_][\w/]*)|(?P<sign>[()])|(?P<bad>\S))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: bool(a == b),
    "ne": lambda a, b: bool(a != b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
}
_NUMBERS = ("Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64", "Edm.Decimal", "Edm.Double", "Edm.Single")
_LITERALS = {
    "datetimeoffset": "Edm.DateTimeOffset",
    "datetime": "Edm.DateTime",
    "time": "Edm.Time",
    "guid": "Edm.Guid",
    "binary": "Edm.Binary",
    "X": "Edm.Binary",
}

Test = Callable[[Row], bool]


def number(text: str, option: str) -> int:
    """Return the value of $top or $skip."""
    if not re.fullmatch(r"\d+", text):
        raise Refused.malformed(f"Invalid value '{text}' for system query option '{option}'.")
    return int(text)


def selected(text: str | None, owner: EntitySet, expanded: list[str]) -> list[str] | None:
    """Return the properties that $select names; None is all."""
    if text is None or text == "*":
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name.split("/")[0] not in owner.properties and name.split("/")[0] not in expanded:
            raise Refused.property(name, owner.name)
    return names


def ordering(text: str | None, owner: EntitySet) -> list[tuple[str, bool]]:
    """Return the properties of $orderby, each with whether it goes down."""
    found = []
    for part in text.split(",") if text else []:
        name, _, way = part.strip().partition(" ")
        if name not in owner.properties:
            raise Refused.property(name, owner.name)
        if way not in ("", "asc", "desc"):
            raise Refused.malformed(f"Invalid token '{way}' in $orderby.")
        found.append((name, way == "desc"))
    return found


def plain(value: Any) -> Any:
    """Return a value that sorts: rows hold what Python has for each type."""
    return (value is not None, value)


def condition(text: str | None, owner: EntitySet) -> Test:
    """Return what $filter says as a test of a row."""
    if text is None:
        return lambda row: True
    return _Parser(text, owner).whole()


def literal(text: str) -> tuple[str, Any]:
    """Return the type and the value of a literal."""
    match = _TOKEN.fullmatch(text)
    if match is None or match.lastgroup not in ("typed", "text", "number", "word"):
        raise Refused.malformed(f"Invalid literal {text}.")
    kind = match.lastgroup
    try:
        if kind == "text":
            return "Edm.String", text[1:-1].replace("''", "'")
        if kind == "number":
            return "number", Decimal(text.rstrip("LMmdDfF"))
        if kind == "word":
            return {"true": ("Edm.Boolean", True), "false": ("Edm.Boolean", False), "null": ("null", None)}[text]
        name, _, rest = text.partition("'")
        return _LITERALS[name], _typed(name, rest[:-1])
    except (KeyError, ValueError, ArithmeticError) as error:
        raise Refused.malformed(f"Invalid literal {text}.") from error


def _typed(name: str, text: str) -> Any:
    if name == "datetimeoffset":
        return datetime.fromisoformat(text).astimezone(UTC)
    if name == "datetime":
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            raise ValueError("a datetime has no offset")
        return found
    if name == "guid":
        return str(uuid.UUID(text))
    if name == "time":
        match = re.fullmatch(r"PT(\d+)H(\d+)M(\d+)S", text)
        if match is None:
            raise ValueError("no time")
        hours, minutes, seconds = map(int, match.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return bytes.fromhex(text)


class _Parser:
    """or, and, not, comparisons of a property with a literal, parentheses, substringof and startswith."""

    def __init__(self, text: str, owner: EntitySet) -> None:
        self.owner = owner
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup == "bad":
                raise Refused.malformed(f"Invalid token detected at position {at}")
            assert match.lastgroup is not None
            self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        self.at = 0

    def whole(self) -> Test:
        found = self._or()
        if self.at < len(self.tokens):
            raise Refused.malformed(f"Invalid token '{self.tokens[self.at][1]}' detected in $filter")
        return found

    def _take(self, *words: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at][1] in words:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def _next(self) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise Refused.malformed("Unexpected end of $filter")
        self.at += 1
        return self.tokens[self.at - 1]

    def _or(self) -> Test:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _and(self) -> Test:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Test:
        if self._take("not"):
            inner = self._one()
            return lambda row: not inner(row)
        if self._take("("):
            found = self._or()
            if not self._take(")"):
                raise Refused.malformed("A closing parenthesis is missing in $filter")
            return found
        kind, name = self._next()
        if kind != "word":
            raise Refused.malformed(f"Invalid token '{name}' detected in $filter")
        if name not in self.owner.properties:
            raise Refused.property(name, self.owner.name)
        sign = self._take(*_COMPARE)
        if sign is None:
            raise Refused.malformed(f"An operator is missing after '{name}' in $filter")
        found_type, value = literal(self._next()[1])
        declared = self.owner.properties[name].type
        if found_type not in ("null", declared) and not (found_type == "number" and declared in _NUMBERS):
            raise Refused.malformed(f"Invalid parametertype used at function '{sign}': {declared} and {found_type}.")
        return _comparison(name, sign, value)


def _comparison(name: str, sign: str, value: Any) -> Test:
    compare = _COMPARE[sign]

    def test(row: Row) -> bool:
        held = row[name]
        if held is None or value is None:
            return sign in ("eq", "ne") and compare(held, value)
        return compare(Decimal(str(held)) if isinstance(value, Decimal) else held, value)

    return test
