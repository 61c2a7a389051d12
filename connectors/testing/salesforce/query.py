"""Queries run over an organisation: what they may name, and what they find.

Facts: developer.salesforce.com, SOQL and SOSL Reference, "Comparison Operators" (texts compare without case; ``!=``
also finds NULL), "Aggregate Functions" (without an alias their names are expr0, expr1 …), "Semi-Joins with IN";
SOAP API Developer Guide, "ExceptionCode".
"""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from connectors.testing.salesforce.fields import COMPOUND, NUMBERS, Field
from connectors.testing.salesforce.objects import SObject
from connectors.testing.salesforce.org import Org, Record, long_id
from connectors.testing.salesforce.refusal import Refused, malformed
from connectors.testing.salesforce.soql import Comparison, Item, Literal, Logic, Query

_HINT = (
    "If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please "
    "reference your WSDL or the describe call for the appropriate names."
)
_KINDS: dict[str, tuple[str, ...]] = {
    "boolean": ("bool",),
    "date": ("date", "day"),
    "datetime": ("datetime", "day"),
    **dict.fromkeys((*NUMBERS, "int", "long"), ("number",)),
}
_TYPE_NAMES = {"datetime": "dateTime", "text": "string"}
_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}
Path = tuple[Field, ...]
_Test = Callable[[Record], bool]


@dataclass(frozen=True)
class Selected:
    """A checked item: its name in the answer, the fields that lead to it, its aggregate."""

    name: str
    path: Path
    aggregate: str | None = None


@dataclass(frozen=True)
class Found:
    """What a query found: rows as dicts of name to value, or ids to read the rows by."""

    kind: SObject
    selected: tuple[Selected, ...]
    ids: tuple[str, ...] = ()
    groups: tuple[dict[str, Any], ...] | None = None
    count: int | None = None


class Runner:
    """Runs queries of one organisation.

    Args:
        most: How many fields and conditions a query may have before it is too complicated.
    """

    def __init__(self, org: Org, most: int = 5000) -> None:
        self.org = org
        self.most = most

    def check(self, query: Query) -> tuple[SObject, tuple[Selected, ...]]:
        """Return the object and the selection of a query.

        Raises:
            Refused: It names what is not there, or does what cannot be done.
        """
        kind = self.org.object_named(query.name)
        if kind is None or not kind.queryable:
            place = query.text.find(query.name)
            raise Refused(
                "INVALID_TYPE",
                f"\n{query.text}\n{' ' * place}^\nERROR at Row:1:Column:{place + 1}\nsObject type '{query.name}' is "
                "not supported. If you are attempting to use a custom object, be sure to append the '__c' after the "
                "entity name. Please reference your WSDL or the describe call for the appropriate names.",
            )
        items = [one for item in query.items for one in self._expanded(kind, item, query)]
        selected = self._select(kind, items, query)
        self._check_grouping(kind, selected, query)
        if len(selected) + sum(1 for _ in _comparisons(query.where)) > self.most:
            raise Refused(
                "QUERY_TOO_COMPLICATED",
                "Query is either selecting too many fields or the filter conditions are too complicated.",
            )
        _check_joins(query.where)
        for comparison in _comparisons(query.where):
            self._check_comparison(kind, comparison, query)
        for order in query.order:
            field = self._path(kind, order.path, query)[-1]
            if not field.sortable:
                raise malformed(f"field '{field.name}' can not be sorted in a query call")
        return kind, selected

    def run(self, query: Query, *, deleted: bool) -> Found:
        """Return what a query finds; deleted: also in the recycle bin."""
        kind, selected = self.check(query)
        holds = self._test(kind, query.where, query, deleted)
        rows = [row for row in self.org.rows(kind, deleted=deleted) if holds(row)]
        for order in reversed(query.order):
            path = self._path(kind, order.path, query)
            with_value = [row for row in rows if self.follow(row, path) is not None]
            without = [row for row in rows if self.follow(row, path) is None]
            with_value.sort(key=lambda row: _sortable(self.follow(row, path)), reverse=order.descending)
            rows = [*with_value, *without] if order.nulls_last else [*without, *with_value]
        if len(selected) == 1 and selected[0].aggregate == "COUNT" and not selected[0].path:
            return Found(kind, (), count=len(rows) if query.limit is None else min(query.limit, len(rows)))
        if any(one.aggregate for one in selected) or query.group:
            return Found(kind, selected, groups=tuple(self._groups(kind, selected, rows, query)))
        rows = rows[query.offset :]
        rows = rows if query.limit is None else rows[: query.limit]
        return Found(kind, selected, tuple(row["Id"] for row in rows))

    def follow(self, row: Record | None, path: Path) -> Any:
        """Return the value at the end of a path; compound fields as the object of their parts."""
        for field in path[:-1]:
            found = self.org.get(str(row.get(field.name))) if row and row.get(field.name) else None
            row = found[1] if found else None
        if row is None:
            return None
        last = path[-1]
        if last.type not in COMPOUND:
            return row.get(last.name)
        stem = last.name.removesuffix("__c") if last.type == "location" else last.name.removesuffix("Address")
        parts = {
            key.removeprefix(stem).strip("_").removesuffix("__s"): value
            for key, value in row.items()
            if key.startswith(stem) and key != last.name
        }
        values = {key[:1].lower() + key[1:]: value for key, value in parts.items()}
        return values if any(value is not None for value in values.values()) else None

    def _expanded(self, kind: SObject, item: Item, query: Query) -> Iterable[Item]:
        if item.aggregate != "FIELDS":
            return (item,)
        which = item.path.upper()
        if which not in ("ALL", "STANDARD", "CUSTOM"):
            raise malformed(f"FIELDS({item.path}) is not known")
        if which != "STANDARD" and (query.limit is None or query.limit > 200):
            raise malformed("The SOQL FIELDS function must have a LIMIT of at most 200")
        wanted = {"ALL": (True, False), "STANDARD": (False,), "CUSTOM": (True,)}[which]
        return [Item(one.name) for one in self.org.readable(kind) if one.custom in wanted]

    def _select(self, kind: SObject, items: Iterable[Item], query: Query) -> tuple[Selected, ...]:
        selected: list[Selected] = []
        unnamed = 0
        for item in items:
            path = self._path(kind, item.path, query) if item.path else ()
            name = ".".join([*(str(one.relationship) for one in path[:-1]), path[-1].name]) if path else ""
            if item.aggregate:
                if path and not path[-1].aggregatable:
                    raise malformed(f"field {path[-1].name} does not support aggregate operator {item.aggregate}")
                name = item.alias or f"expr{unnamed}"
                unnamed += item.alias is None
            if any(one.name.lower() == name.lower() for one in selected):
                what = "duplicate alias" if item.aggregate else "duplicate field selected"
                raise malformed(f"{what}: {name}")
            selected.append(Selected(name, path, item.aggregate))
        return tuple(selected)

    def _check_grouping(self, kind: SObject, selected: tuple[Selected, ...], query: Query) -> None:
        grouped = [self._path(kind, name, query) for name in query.group]
        for path in grouped:
            if not path[-1].groupable:
                raise malformed(f"field '{path[-1].name}' can not be grouped in a query call")
        aggregated = bool(grouped) or any(one.aggregate for one in selected)
        bare = [one for one in selected if not one.aggregate and one.path not in grouped]
        if aggregated and bare:
            raise malformed(f"Field must be grouped or aggregated: {bare[0].name}")
        if any(one.aggregate == "COUNT" and not one.path for one in selected) and len(selected) > 1:
            raise malformed("COUNT() must be the only element in the SELECT list")

    def _path(self, kind: SObject, text: str, query: Query) -> Path:
        *steps, last = text.split(".")
        if steps and steps[0].lower() == kind.name.lower():
            steps = steps[1:]
        path: list[Field] = []
        current: SObject | None = kind
        for step in steps:
            assert current is not None
            found = [one for one in current.fields if (one.relationship or "").lower() == step.lower()]
            if not found or (current.name, found[0].name) in self.org.hidden:
                raise Refused(
                    "INVALID_FIELD",
                    f"{_mark(query, text)}Didn't understand relationship '{step}' in field path. If you are attempting "
                    "to use a custom relationship, be sure to append the '__r' after the custom relationship name. "
                    "Please reference your WSDL or the describe call for the appropriate names.",
                )
            path.append(found[0])
            # Of several targets only what every one of them has can be asked for: the object Name of the API.
            current = self.org.object_named(found[0].references[0])
            if current is None:
                raise Refused("INVALID_FIELD", f"{_mark(query, text)}No such relation '{step}'.")
        assert current is not None
        field = current.by_name.get(last.lower())
        if field is None or (current.name, field.name) in self.org.hidden:
            raise Refused(
                "INVALID_FIELD",
                f"{_mark(query, text)}No such column '{last}' on entity '{current.name}'. {_HINT}",
            )
        return (*path, field)

    def _check_comparison(self, kind: SObject, one: Comparison, query: Query) -> None:
        field = self._path(kind, one.path, query)[-1]
        if not field.filterable:
            raise Refused("INVALID_FIELD", f"field '{field.name}' can not be filtered in a query call")
        if one.operator in ("includes", "excludes") and field.type != "multipicklist":
            raise Refused("INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {field.type} field")
        if one.operator == "like" and (field.soap != "xsd:string" or one.values[0].kind != "text"):
            raise Refused("INVALID_QUERY_FILTER_OPERATOR", "invalid operator on id field")
        if one.query is not None:
            inner_kind, selected = self.check(one.query)
            if len(selected) != 1 or selected[0].aggregate or one.query.limit is not None:
                raise malformed("semi join sub-selects can only select one field, without aggregates and LIMIT")
            if selected[0].path[-1].type not in ("id", "reference") or field.type not in ("id", "reference"):
                raise malformed(f"The inner select field '{selected[0].name}' of {inner_kind.name} must be an id")
            return
        expected = _KINDS.get(field.type, ("text",))
        for value in one.values:
            if value.kind == "null":
                continue
            if value.kind not in expected:
                quoted = "should be" if expected == ("text",) else "should not be"
                raise Refused(
                    "INVALID_FIELD",
                    f"{_mark(query, one.path)}value of filter criterion for field '{field.name}' must be of type "
                    f"{_TYPE_NAMES.get(expected[0], expected[0])} and {quoted} enclosed in quotes",
                )
            if field.type in ("id", "reference") and not _is_id(value.value):
                raise Refused(
                    "INVALID_QUERY_FILTER_OPERATOR", f"{_mark(query, one.path)}invalid ID field: {value.value}"
                )

    def _test(self, kind: SObject, where: Comparison | Logic | None, query: Query, deleted: bool) -> _Test:
        """Return what tells whether a condition holds for a row."""
        if where is None:
            return lambda row: True
        if isinstance(where, Logic):
            parts = [self._test(kind, part, query, deleted) for part in where.parts]
            if where.operator == "not":
                return lambda row: not parts[0](row)
            whole = all if where.operator == "and" else any
            return lambda row: whole(part(row) for part in parts)
        path = self._path(kind, where.path, query)
        if where.query is not None:
            found = self.run(where.query, deleted=deleted)
            inner = {self.follow(self._record(one), found.selected[0].path) for one in found.ids}
            wanted = where.operator == "in"
            return lambda row: (self.follow(row, path) in inner) == wanted
        compare = _comparison(path[-1], where.operator, where.values)
        if len(path) == 1 and path[0].type not in COMPOUND:
            name = path[0].name
            return lambda row: compare(row.get(name))
        return lambda row: compare(self.follow(row, path))

    def _record(self, record_id: str) -> Record | None:
        found = self.org.get(record_id)
        return found[1] if found else None

    def _groups(
        self, kind: SObject, selected: tuple[Selected, ...], rows: list[Record], query: Query
    ) -> Iterable[dict[str, Any]]:
        paths = [self._path(kind, name, query) for name in query.group]
        groups: dict[tuple[Any, ...], list[Record]] = {} if paths else {(): []}
        for row in rows:
            groups.setdefault(tuple(self.follow(row, path) for path in paths), []).append(row)
        for members in list(groups.values())[: query.limit]:
            result: dict[str, Any] = {}
            for one in selected:
                values = [value for row in members if (value := self.follow(row, one.path)) is not None]
                result[one.name.rpartition(".")[2]] = _aggregate(one.aggregate, values)
            yield result


def _aggregate(operator: str | None, values: list[Any]) -> Any:
    if operator is None:
        return values[0] if values else None
    if operator == "COUNT":
        return len(values)
    if operator == "COUNT_DISTINCT":
        return len(set(values))
    if not values:
        return None
    by_name: dict[str, Callable[[list[Any]], Any]] = {
        "MAX": lambda found: max(found, key=_sortable),
        "MIN": lambda found: min(found, key=_sortable),
        "SUM": sum,
        "AVG": lambda found: sum(found) / len(found),
    }
    return by_name[operator](values)


def _comparison(field: Field, operator: str, literals: tuple[Literal, ...]) -> Callable[[Any], bool]:
    """Return what compares a value of a field with literals."""
    wanted = [_comparable(field, literal.value) for literal in literals]
    if any(literal.kind == "day" for literal in literals) and field.type == "datetime":
        plain = _comparison(Field(field.name, "date"), operator, literals)
        return lambda value: plain(value.date() if isinstance(value, datetime) else value)
    if operator in ("in", "not in"):
        return lambda value: (_comparable(field, value) in wanted) == (operator == "in")
    if operator in ("includes", "excludes"):
        sets = [set(str(one).split(";")) for one in wanted]

        def includes(value: Any) -> bool:
            held = {part.lower() for part in str(value or "").split(";")}
            return any(one <= held for one in sets) == (operator == "includes")

        return includes
    if operator == "like":
        found = re.compile(_pattern(str(literals[0].value)), re.IGNORECASE | re.DOTALL)
        return lambda value: value is not None and found.fullmatch(str(value)) is not None
    right = wanted[0]
    if operator in ("=", "!="):
        return lambda value: bool(_comparable(field, value) == right) == (operator == "=")
    ordered = _ORDERED[operator]
    return lambda value: value is not None and right is not None and bool(ordered(_comparable(field, value), right))


def _comparable(field: Field, value: Any) -> Any:
    if isinstance(value, str):
        if field.type in ("id", "reference"):
            return long_id(value) if len(value) == 15 else value
        return value.lower()
    if isinstance(value, float | int) and not isinstance(value, bool):
        return Decimal(str(value))
    return value


def _sortable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day, tzinfo=UTC) - datetime(1, 1, 1, tzinfo=UTC)) / timedelta(1)
    return value


def _pattern(text: str) -> str:
    parts = re.split(r"(\\.|%|_)", text)
    signs = {"%": ".*", "_": "."}
    return "".join(signs.get(part) or re.escape(part[1:] if part[:1] == "\\" else part) for part in parts)


def _is_id(text: Any) -> bool:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?", text):
        return False
    return len(text) == 15 or long_id(text[:15]).lower() == text.lower()


def _comparisons(where: Comparison | Logic | None) -> Iterable[Comparison]:
    if isinstance(where, Comparison):
        yield where
    elif where is not None:
        for part in where.parts:
            yield from _comparisons(part)


def _check_joins(where: Comparison | Logic | None) -> None:
    """Check where queries stand within a condition: beside AND at its top, and two of them at most."""
    joins = [one for one in _comparisons(where) if one.query is not None]
    if not joins or isinstance(where, Comparison) or where is None:
        return
    if where.operator == "or":
        raise malformed("Semi join sub-selects are not allowed with the 'OR' operator")
    top = [part for part in where.parts if isinstance(part, Comparison)]
    if where.operator == "not" or any(one not in top for one in joins):
        raise malformed(
            "Semi join sub-selects are only allowed at the top level WHERE expressions and not in nested WHERE "
            "expressions."
        )
    if len(joins) > 2:
        raise malformed("Maximum 2 semi join sub-selects are allowed in a query")


def _mark(query: Query, name: str) -> str:
    place = max(0, query.text.find(name))
    return f"\n{query.text}\n{' ' * place}^\nERROR at Row:1:Column:{place + 1}\n"
