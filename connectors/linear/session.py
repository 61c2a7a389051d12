"""One opened workspace: tables, marks, parts and pages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

from connectors.api import ApiSession, Page
from connectors.http import Http, Reply
from connectors.http.answers import parse_json
from connectors.linear.config import MOST_ROWS
from connectors.linear.describe import LINKS, ROOTS, SCHEMA, START, Link, Roots, describe, type_query, wanted_types
from connectors.linear.faults import EntityGone, TooComplex
from connectors.linear.queries import (
    Budget,
    Query,
    beyond,
    condition,
    mark,
    members_query,
    newest_query,
    pairs_query,
    rows_query,
    times_query,
    written,
)
from runner.errors import JobFileError, RequestRefused, TableChanged
from runner.job import matches
from runner.source import Chunk, Column, Mark, Position, Scan, Table, make_chunk

# A table is read in parts at once where each has about so many rows, at least.
_PART = 1_000
_MOST_PARTS = 16
# How long a change may take, from the time that it bears until others see it.
_SETTLING = timedelta(minutes=1)


class LinearSession(ApiSession):
    """One opened workspace.

    Rows are asked for in the order they were made in, which never changes: what is changed while pages are read stays
    where it is. In the order of changes it would come to the front, behind the reader's back (the newest come first).
    """

    position = Position(
        consistent=False, note="each page shows the workspace as it was when it was asked for", paged=True
    )

    def __init__(self, http: Http, budget: Budget) -> None:
        super().__init__(http)
        self._budget = budget

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        names = sorted({*ROOTS, *LINKS})
        wanted = [name for name in names if any(matches(one, f"{SCHEMA}.{name}") for one in patterns)]
        if not wanted:
            return []
        roots = Roots.of(await self._send(START))
        types = await self._types(wanted_types(wanted, roots))
        found = (describe(name, roots, types) for name in wanted)
        return [table for table in found if table is not None]

    async def _types(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the descriptions of types; in several queries where one would be too complex."""
        if not names:
            return {}
        try:
            return dict(await self._send(type_query(names)))
        except TooComplex:
            if len(names) == 1:
                raise
        half = len(names) // 2
        return {**await self._types(names[:half]), **await self._types(names[half:])}

    async def first(self, table: Table) -> None:
        """Read one row with all that is to be read of it, to see whether that is allowed."""
        link = LINKS.get(table.name) if table.kind == "link" else None
        query = pairs_query(table, link) if link else rows_query(table, table.columns)
        await self._send(query.text, first=1)

    async def high_water(self, scan: Scan) -> Mark | None:
        if scan.window is None:
            return None
        newest, settled = await self._newest(scan, condition(scan, {}, window=False))
        # A change has its time before others can see it: what is that young is read again.
        return None if newest is None else Mark(mark(min(newest, settled)))

    async def newest(self, scan: Scan) -> str | None:
        assert scan.window is not None
        newest, settled = await self._newest(scan, condition(scan, {}))
        if newest is not None and newest > settled:
            older = scan.within(replace(scan.window, end=mark(settled)))
            newest, _ = await self._newest(older, condition(older, {}))
        return None if newest is None else mark(newest)

    async def _newest(self, scan: Scan, asked: dict[str, Any] | None) -> tuple[datetime | None, datetime]:
        """Return the largest cursor, and until when all that happened is seen."""
        assert scan.window is not None
        cursor = scan.window.cursor
        if cursor not in ("updatedAt", "createdAt"):
            raise JobFileError(
                f"{scan.table.qualified}: Linear finds the latest {cursor} for nobody: it orders by updatedAt and "
                "createdAt alone.",
                guidance="Say cursor: updatedAt.",
            )
        query = newest_query(scan.table, cursor)
        reply = await self._post(query.text, {"first": 1, "filter": asked})
        nodes = reply.data["data"][scan.table.detail["root"]]["nodes"]
        settled = _moment_of(reply, self.http.clock.now()) - _SETTLING
        return (datetime.fromisoformat(nodes[0][cursor]) if nodes else None), settled

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        bounds = await self._parts(scan)
        return [make_chunk(scan, index, one, storage=None, rows=0, size=0) for index, one in enumerate(bounds)]

    async def _parts(self, scan: Scan) -> list[dict[str, Any]]:
        """Return ranges of the time that rows were made at: all of them together have every row."""
        table = scan.table
        if "createdAt" not in table.detail["filters"] or not {"last", "orderBy"} <= set(table.detail["arguments"]):
            return [{}]
        found = await self._send(times_query(table).text, first=MOST_ROWS, filter=condition(scan, {}))
        listed = found[table.detail["root"]]
        newest = sorted(datetime.fromisoformat(one["createdAt"]) for one in listed["nodes"])
        if not listed["pageInfo"]["hasNextPage"] or newest[0] == newest[-1]:
            return [{}]
        first = min(newest[0], *(datetime.fromisoformat(one["createdAt"]) for one in found["oldest"]["nodes"]))
        span = newest[-1] - first
        count = int(min(_MOST_PARTS, len(newest) * (span / (newest[-1] - newest[0])) / _PART))
        edges = [written(first + span * part / count) for part in range(1, count)]
        if len(set(edges)) < len(edges) or not edges:
            return [{}]
        return [
            {key: edge for key, edge in (("from", start), ("to", end)) if edge is not None}
            for start, end in zip([None, *edges], [*edges, None], strict=True)
        ]

    def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        link = LINKS.get(scan.table.name) if scan.table.kind == "link" else None
        if link is not None:
            return self._pairs(scan, link, chunk.bounds)
        return self._rows(scan, chunk.bounds)

    async def _rows(self, scan: Scan, bounds: Mapping[str, Any]) -> AsyncIterator[Page]:
        query, refs = rows_query(scan.table, scan.columns), scan.table.detail["refs"]
        rest: dict[str, Any] | None = dict(bounds)
        while rest is not None:
            nodes, rest = await self._page(scan, query, rest)
            yield Page([_row(one, scan.columns, refs) for one in nodes], rest)

    async def _pairs(self, scan: Scan, link: Link, bounds: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Yield the pairs of each row of the parent, and follow the rows whose members are on more pages."""
        query = pairs_query(scan.table, link)
        begin = dict(bounds)
        # Rows that have more members, as [id, where to go on]: they come before the next page of the parent.
        more: list[list[str]] = begin.pop("open", [])
        rest = None if begin.pop("done", False) else begin
        while more or rest is not None:
            if more:
                parent, after = more[0]
                rows, following = await self._members(scan.table, link, parent, after)
                more = [[parent, following], *more[1:]] if following else more[1:]
            else:
                assert rest is not None
                nodes, rest = await self._page(scan, query, rest)
                members = [(one["id"], one[link.field]) for one in nodes]
                rows = [_pair(link, parent, one["id"]) for parent, held in members for one in held["nodes"]]
                infos = [(parent, held["pageInfo"]) for parent, held in members]
                more = [[parent, _cursor(info)] for parent, info in infos if info["hasNextPage"]]
            going_on = {**(rest if rest is not None else {"done": True}), "open": more} if more else rest
            yield Page(rows, going_on)

    async def _members(
        self, table: Table, link: Link, parent: str, after: str
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return further members of one row, and where to go on; nothing where the row itself is gone."""
        query = members_query(table, link)
        for start in (after, None):
            # The member that the cursor stands for may be gone: then all of this row's members are read again.
            with contextlib.suppress(EntityGone):
                data = await self._ask(query, id=parent, after=start)
                members = next(iter(data.values()))[link.field]
                info = members["pageInfo"]
                rows = [_pair(link, parent, one["id"]) for one in members["nodes"]]
                return rows, (_cursor(info) if info["hasNextPage"] else None)
        return [], None

    async def _page(
        self, scan: Scan, query: Query, bounds: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return the rows of one page, and the bounds that go on after it."""
        asked = {"filter": condition(scan, bounds)}
        try:
            data = await self._ask(query, after=bounds.get("after"), **asked)
        except EntityGone:
            if bounds.get("after") is None:
                raise
            bounds = _without_cursor(bounds, scan.table)
            data = await self._ask(query, after=None, filter=condition(scan, bounds))
        listed = data[scan.table.detail["root"]]
        nodes, info = listed["nodes"], listed["pageInfo"]
        if not info["hasNextPage"]:
            return nodes, None
        times = [one["createdAt"] for one in nodes]
        rest = {**bounds, "after": _cursor(info)}
        if times:
            ends = [datetime.fromisoformat(one) for one in (times[0], times[-1])]
            rest["last"] = times[-1]
            if ends[0] != ends[1]:
                rest["down"] = ends[0] > ends[1]
        return nodes, rest

    async def _ask(self, query: Query, **variables: Any) -> dict[str, Any]:
        """Send a query for a page of as many rows as it may have."""
        while True:
            size = self._budget.size(query)
            try:
                reply = await self._post(query.text, {"first": size, **variables})
            except TooComplex as error:
                if size == 1:
                    raise
                self._budget.refused(query, size, error.points, error.most)
                continue
            charged = reply.header("X-Complexity") or ""
            if charged.replace(".", "", 1).isdigit():
                self._budget.charged(query, size, float(charged))
            return cast("dict[str, Any]", reply.data["data"])

    async def _send(self, text: str, **variables: Any) -> dict[str, Any]:
        return cast("dict[str, Any]", (await self._post(text, variables)).data["data"])

    async def _post(self, text: str, variables: Mapping[str, Any]) -> Reply:
        given = {name: value for name, value in variables.items() if value is not None}
        return await self.http.post("/graphql", json={"query": text, "variables": given}, idempotent=True)


def _moment_of(reply: Reply, now: datetime) -> datetime:
    """Return when the server answered, by its own clock where it says so."""
    try:
        return parsedate_to_datetime(reply.header("Date") or "")
    except ValueError:
        return now


def _row(node: Mapping[str, Any], columns: Sequence[Column], refs: Mapping[str, str]) -> dict[str, Any]:
    row = {}
    for one in columns:
        if one.name in refs:
            other = node.get(refs[one.name])
            row[one.name] = None if other is None else other["id"]
        else:
            value = node.get(one.name)
            # The scalar JSON comes as text already.
            row[one.name] = parse_json(value) if one.native == "JSON" and isinstance(value, str) else value
    return row


def _pair(link: Link, parent: str, member: str) -> dict[str, Any]:
    return dict(zip(link.columns, (parent, member), strict=True))


def _cursor(info: Mapping[str, Any]) -> str:
    found = info["endCursor"]
    if not found:
        raise RequestRefused("Linear says that there are more rows, and not where.")
    return str(found)


def _without_cursor(bounds: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Return bounds that go on at the time of the last row, whose cursor is not known any more.

    Raises:
        TableChanged: The pages so far do not tell in which direction they go.
    """
    if bounds.get("down") is None or "createdAt" not in table.detail["filters"]:
        raise TableChanged("The row that the next page begins after is gone.", table=table.qualified)
    rest = {key: value for key, value in bounds.items() if key not in ("after", "last")}
    edge = beyond(bounds["last"], down=bounds["down"])
    return {**rest, "to" if bounds["down"] else "from": edge}
