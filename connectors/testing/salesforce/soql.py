"""SOQL as text: what a query says.

Facts: developer.salesforce.com, SOQL and SOSL Reference, "SOQL SELECT Syntax", "Date Formats and Date Literals"
(times are not quoted, and have an offset), "Logical Operators" (AND and OR are not mixed without parentheses), "Quoted
String Escape Sequences".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.testing.salesforce.refusal import Refused, malformed

LONGEST = 100_000
AGGREGATES = ("COUNT", "COUNT_DISTINCT", "MAX", "MIN", "SUM", "AVG")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "_": "_", "%": "%"}
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<date>\d{4}-\d\d-\d\d)|(?P<number>[+-]?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][\w.]*(?::\d+)?)|(?P<sign><=|>=|!=|<>|[=<>(),]))",
    re.DOTALL,
)
_RESERVED = {"where", "group", "order", "limit", "offset", "having", "with", "for", "all", "using", "update"}


@dataclass(frozen=True)
class Literal:
    """A value in a query: text, number, date, datetime, bool or null."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Item:
    """What is selected: a path, or an aggregate of one ("" for COUNT())."""

    path: str
    aggregate: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A path, an operator and literals or another query."""

    path: str
    operator: str
    values: tuple[Literal, ...] = ()
    query: Query | None = None


@dataclass(frozen=True)
class Logic:
    """AND, OR or NOT of conditions."""

    operator: str
    parts: tuple[Comparison | Logic, ...]


@dataclass(frozen=True)
class Order:
    """A path to sort by."""

    path: str
    descending: bool
    nulls_last: bool


@dataclass(frozen=True)
class Query:
    """A parsed SELECT."""

    text: str
    name: str
    items: tuple[Item, ...]
    where: Comparison | Logic | None = None
    group: tuple[str, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0


def parse(text: str, now: datetime) -> Query:
    """Return what a query says.

    Raises:
        Refused: It is no SOQL.
    """
    if len(text) > LONGEST:
        raise malformed(f"SOQL statements cannot be longer than {LONGEST} characters.")
    parser = _Parser(text, now)
    query = parser.select()
    parser.end()
    return query


class _Parser:
    def __init__(self, text: str, now: datetime) -> None:
        self._text = text
        self._now = now
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if found is None:
                rest = text[place:].lstrip()
                raise self._refuse(f"unexpected token: '{rest[:1]}'", len(text) - len(rest))
            assert found.lastgroup is not None
            self._tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            place = found.end()
        self._next = 0

    def _refuse(self, message: str, place: int) -> Refused:
        return malformed(f"\n{self._text}\n{' ' * place}^\nERROR at Row:1:Column:{place + 1}\n{message}")

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("end", "<EOF>", len(self._text))

    def _unexpected(self) -> Refused:
        _, value, place = self._peek()
        return self._refuse(f"unexpected token: '{value}'", place)

    def _take(self, *words: str) -> bool:
        """Skip these words or signs if they are next."""
        for number, word in enumerate(words):
            place = self._next + number
            if place >= len(self._tokens):
                return False
            kind, value, _ = self._tokens[place]
            if kind not in ("word", "sign") or value.lower() != word.lower():
                return False
        self._next += len(words)
        return True

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise self._unexpected()

    def _word(self) -> str:
        kind, value, _ = self._peek()
        if kind != "word":
            raise self._unexpected()
        self._next += 1
        return value

    def _integer(self) -> int:
        kind, value, _ = self._peek()
        if kind != "number" or not value.isdigit():
            raise self._unexpected()
        self._next += 1
        return int(value)

    def end(self) -> None:
        if self._next < len(self._tokens):
            raise self._unexpected()

    def select(self) -> Query:
        self._need("select")
        items = [self._item()]
        while self._take(","):
            items.append(self._item())
        self._need("from")
        name = self._word()
        kind, value, _ = self._peek()
        if kind == "word" and value.lower() not in _RESERVED:
            self._next += 1  # the object's alias, which nothing here refers to
        where = self._condition() if self._take("where") else None
        group: list[str] = []
        if self._take("group"):
            self._need("by")
            group.append(self._word())
            while self._take(","):
                group.append(self._word())
        order: list[Order] = []
        if self._take("order"):
            self._need("by")
            order.append(self._order())
            while self._take(","):
                order.append(self._order())
        limit = self._integer() if self._take("limit") else None
        offset = self._integer() if self._take("offset") else 0
        if offset > 2000:
            raise Refused("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        return Query(self._text, name, tuple(items), where, tuple(group), tuple(order), limit, offset)

    def _item(self) -> Item:
        kind, value, _ = self._peek()
        if kind == "sign" and value == "(":
            raise Refused("UNKNOWN_TO_THE_DOUBLE", "a query of children within a query", 501)
        word = self._word()
        if word.lower() == "typeof":
            raise Refused("UNKNOWN_TO_THE_DOUBLE", "TYPEOF", 501)
        aggregate, path = None, word
        if self._take("("):
            aggregate = word.upper()
            if aggregate not in (*AGGREGATES, "FIELDS"):
                raise self._refuse(f"Unknown function: {word}", self._tokens[self._next - 2][2])
            path = "" if self._take(")") else self._word()
            if path:
                self._need(")")
            elif aggregate != "COUNT":
                raise self._unexpected()
        kind, value, _ = self._peek()
        alias = None
        if kind == "word" and value.lower() != "from":
            alias = self._word()
            if aggregate in (None, "FIELDS"):
                raise malformed("only aggregate expressions use field aliasing")
        return Item(path, aggregate, alias)

    def _order(self) -> Order:
        path = self._word()
        descending = self._take("desc") or (self._take("asc") and False)
        last = self._take("nulls", "last")
        if not last:
            self._take("nulls", "first")
        return Order(path, descending, last)

    def _condition(self) -> Comparison | Logic:
        parts = [self._negation()]
        operator = ""
        while True:
            for word in ("and", "or"):
                if self._take(word):
                    if operator not in ("", word):
                        self._next -= 1
                        raise self._unexpected()
                    operator = word
                    parts.append(self._negation())
                    break
            else:
                return Logic(operator, tuple(parts)) if operator else parts[0]

    def _negation(self) -> Comparison | Logic:
        if self._take("not"):
            return Logic("not", (self._primary(),))
        return self._primary()

    def _primary(self) -> Comparison | Logic:
        if self._take("("):
            inner = self._condition()
            self._need(")")
            return inner
        path = self._word()
        for words in (("not", "in"), ("in",), ("like",), ("includes",), ("excludes",)):
            if self._take(*words):
                return self._comparison(path, " ".join(words))
        kind, sign, _ = self._peek()
        if kind != "sign" or sign in "(),":
            raise self._unexpected()
        self._next += 1
        return Comparison(path, "!=" if sign == "<>" else sign, (self._literal(),))

    def _comparison(self, path: str, operator: str) -> Comparison:
        if operator == "like":
            return Comparison(path, operator, (self._literal(),))
        self._need("(")
        if operator.endswith("in") and self._peek()[1].lower() == "select":
            inner = self.select()
            self._need(")")
            return Comparison(path, operator, query=inner)
        values = [self._literal()]
        while self._take(","):
            values.append(self._literal())
        self._need(")")
        return Comparison(path, operator, tuple(values))

    def _literal(self) -> Literal:
        kind, value, _ = self._peek()
        found = self._read(kind, value)
        if found is None:
            raise self._unexpected()
        self._next += 1
        return found

    def _read(self, kind: str, value: str) -> Literal | None:
        if kind == "string":
            return Literal("text", self._unescape(value[1:-1]))
        if kind == "number":
            return Literal("number", Decimal(value))
        try:
            if kind == "moment":
                return Literal("datetime", datetime.fromisoformat(value).astimezone(UTC))
            if kind == "date":
                return Literal("date", date.fromisoformat(value))
        except ValueError:
            return None
        word = value.lower()
        if kind == "word" and word in ("true", "false"):
            return Literal("bool", word == "true")
        if kind == "word" and word == "null":
            return Literal("null", None)
        days = {"today": 0, "yesterday": -1, "tomorrow": 1}
        if kind == "word" and word in days:
            return Literal("day", self._now.date() + timedelta(days=days[word]))
        return None

    def _unescape(self, text: str) -> str:
        def one(found: re.Match[str]) -> str:
            if found[1] not in _ESCAPES:
                raise malformed(f"Illegal escape sequence: \\{found[1]}")
            return ("\\" if found[1] in "_%" else "") + _ESCAPES[found[1]]

        return re.sub(r"\\(.)", one, text, flags=re.DOTALL)
