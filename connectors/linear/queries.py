"""Queries, what they cost, and how many rows they may therefore ask for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.linear.config import MOST_ROWS
from connectors.linear.describe import Link
from runner.errors import JobFileError
from runner.source import Column, Scan, Table, Window

# A query may not cost more by itself: https://linear.app/developers/rate-limiting
MOST_POINTS = 10_000
# What a page of members of one row asks for at first: most rows have fewer.
MEMBERS = 10
_PROPERTY, _OBJECT = 0.1, 1.0
_PAGE_INFO = "pageInfo { hasNextPage endCursor }"
_PAGE_POINTS = _OBJECT + 2 * _PROPERTY


@dataclass(frozen=True)
class Query:
    """A query for one page.

    Attributes:
        row: Points of one row of the page: a connection multiplies what it holds by the page's size.
    """

    text: str
    row: float

    def points(self, size: int) -> float:
        """Return what a page of that size costs."""
        return _OBJECT + size * (self.row + _PAGE_POINTS)


class Budget:
    """How many rows fit into one query.

    The documented formula is where it starts; what the server charges, or refuses, corrects it.

    Args:
        most: Rows of a page at most.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._points: float = MOST_POINTS
        self._factor = 1.0

    def size(self, query: Query) -> int:
        """Return the size of the page to ask for."""
        fits = (self._points / self._factor - _OBJECT) / (query.row + _PAGE_POINTS)
        return max(1, min(self._most, math.floor(fits)))

    def charged(self, query: Query, size: int, points: float) -> None:
        """Take into account what the server charged for a page."""
        self._factor = max(self._factor, points / math.ceil(query.points(size)))

    def refused(self, query: Query, size: int, points: float | None, most: float | None) -> None:
        """Take into account that the server refused a page, for so many points as it counts them."""
        before = self.size(query)
        if points is not None and most is not None:
            self._points = most
            self._factor = max(self._factor, points / query.points(size))
        if self.size(query) >= min(size, before):
            self._factor *= 1.5


def rows_query(table: Table, columns: Sequence[Column]) -> Query:
    """Return the query for rows of a table, from any cursor on."""
    refs = table.detail["refs"]
    parts = [f"{refs[one.name]} {{ id }}" if one.name in refs else one.name for one in columns]
    names = {one.name for one in columns}
    # To find the place again where the cursor's row has gone.
    parts += [] if "createdAt" in names else ["createdAt"]
    references = sum(one.name in refs for one in columns)
    points = _OBJECT + references * (_OBJECT + _PROPERTY) + (len(parts) - references) * _PROPERTY
    return Query(_listing(table, " ".join(parts)), points)


def times_query(table: Table) -> Query:
    """Return the query for when the newest rows and the oldest one were made."""
    arguments = _arguments(table)
    oldest = f"oldest: {table.detail['root']}(last: 1{arguments}) {{ nodes {{ createdAt }} }}"
    return Query(_listing(table, "createdAt", oldest), _OBJECT + _PROPERTY)


def newest_query(table: Table, cursor: str) -> Query:
    """Return the query for the largest value of a cursor."""
    return Query(_listing(table, cursor, order=cursor), _OBJECT + _PROPERTY)


def pairs_query(table: Table, link: Link) -> Query:
    """Return the query for rows of the parent and the first members of each."""
    inner = f"{link.field}(first: {MEMBERS}{_members(table)}) {{ nodes {{ id }} {_PAGE_INFO} }}"
    members = _OBJECT + MEMBERS * (_OBJECT + _PROPERTY + _PAGE_POINTS)
    return Query(_listing(table, f"id createdAt {inner}"), _OBJECT + 2 * _PROPERTY + members)


def members_query(table: Table, link: Link) -> Query:
    """Return the query for further members of one row of the parent."""
    parent = table.detail["root"].removesuffix("s")
    text = (
        f"query($first: Int!, $after: String, $id: String!) {{ {parent}(id: $id) {{ "
        f"{link.field}(first: $first, after: $after{_members(table)}) {{ nodes {{ id }} {_PAGE_INFO} }} }} }}"
    )
    return Query(text, _OBJECT + _PROPERTY)


def _members(table: Table) -> str:
    return _given({"includeArchived": "true", "includeDisabled": "true"}, table.detail["members"])


def _given(arguments: Mapping[str, str], known: Sequence[str]) -> str:
    return "".join(f", {name}: {value}" for name, value in arguments.items() if name in known)


def _listing(table: Table, selection: str, more: str = "", order: str = "createdAt") -> str:
    root, asked = table.detail["root"], table.detail["filter"]
    declared = f", $filter: {asked}" if asked else ""
    return (
        f"query($first: Int!, $after: String{declared}) {{ "
        f"{root}(first: $first, after: $after{_arguments(table, order)}) {{ nodes {{ {selection} }} {_PAGE_INFO} }} "
        f"{more} }}"
    )


def _arguments(table: Table, order: str = "createdAt") -> str:
    given = {"orderBy": order, "includeArchived": "true", "includeDisabled": "true", "filter": "$filter"}
    return _given(given, table.detail["arguments"])


# Conditions.


def condition(scan: Scan, bounds: Mapping[str, Any], *, window: bool = True) -> dict[str, Any] | None:
    """Return the filter of a scan within the bounds of a chunk; None where there is none."""
    parts = []
    if scan.where:
        parts.append(_own(scan.where, scan.table.qualified))
    if window and scan.window is not None:
        parts += _window(scan.window, scan.table)
    made = {how: bounds[key] for how, key in (("gte", "from"), ("lt", "to")) if bounds.get(key)}
    if made:
        parts.append({"createdAt": made})
    if parts and not scan.table.detail["filter"]:
        raise JobFileError(f"{scan.table.qualified}: Linear cannot filter it; use mode full, without where.")
    return {"and": parts} if len(parts) > 1 else parts[0] if parts else None


def instant(text: str) -> str:
    """Return a mark as Linear takes times, in milliseconds as it writes them itself."""
    return written(datetime.fromisoformat(text))


def written(moment: datetime) -> str:
    """Return a time as Linear writes it."""
    whole = moment.astimezone(UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{whole.microsecond // 1000:03d}Z"


def mark(moment: datetime) -> str:
    """Return a time as the runner writes marks."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ") + "+00"


def beyond(text: str, *, down: bool) -> str:
    """Return the bound that keeps a row itself and everything after it, where its time has lost its microseconds."""
    moment = datetime.fromisoformat(text)
    return written(moment + timedelta(milliseconds=1) if down else moment)


def _own(text: str, table: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise JobFileError(
            f"{table}: where is a filter of Linear's as JSON, and {text!r} is none.",
            guidance='Such as: where: \'{"team": {"key": {"eq": "ENG"}}}\'.',
        )
    return found


def _window(window: Window, table: Table) -> list[dict[str, Any]]:
    bounds: dict[str, Any] = {}
    if window.start is not None:
        bounds["gte" if window.from_start else "gt"] = instant(window.start)
    if window.end is not None:
        bounds["lt" if window.before_end else "lte"] = instant(window.end)
    if not bounds:
        return []
    column = table.column(window.cursor)
    asked: dict[str, Any] = {window.cursor: bounds}
    if window.nulls and column is not None and column.nullable:
        asked = {"or": [asked, {window.cursor: {"null": True}}]}
    return [asked]
