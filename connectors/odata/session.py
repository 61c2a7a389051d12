"""One opened service: its entity sets as tables, marks, parts that can be read at once, pages."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio

from connectors.api import ApiSession, Page
from connectors.http import Http
from connectors.odata import changes, lines, literals, reading
from connectors.odata.columns import column, decoder
from connectors.odata.config import ODataConfig
from connectors.odata.describe import describe
from connectors.odata.edm import EntitySet, Model
from connectors.odata.reading import Request
from connectors.odata.service import Service
from connectors.patterns import own_names
from runner.errors import PermissionMissing, RequestRefused, SourceDown, TableMissing
from runner.job import matches
from runner.rowhash import Digest
from runner.source import CHANGES, Chunk, Mark, Scan, Table, Window, make_chunk
from runner.tasks import task_group

# A part is worth a probe from so many rows on; more parts than that are not read at once anyway.
_PART = 10_000
_MOST_PARTS = 64


class ODataSession(ApiSession):
    """One epoch of a service.

    Args:
        service: Shared by all epochs: it knows $metadata.
    """

    def __init__(self, http: Http, service: Service, kind: str) -> None:
        super().__init__(http)
        self.service = service
        self._kind = kind
        self._unsorted: set[str] = set()

    @property
    def config(self) -> ODataConfig:
        """The keys of the source."""
        return self.service.config

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        model = await self.service.model(anew=True)
        words = {name: word for word, name in own_names(self._kind, patterns).items() if word not in model.sets}
        called = {one.name: words.get(one.name, one.name) for one in model.sets.values()}
        wanted = [
            one
            for one in model.sets.values()
            if not one.name.startswith("DeltaLinksOf")
            and any(matches(pattern, f"{self._kind}.{called[one.name]}") for pattern in patterns)
        ]
        counts: dict[str, int | None] = {}

        async def count(name: str) -> None:
            counts[name] = await self._count(name)

        async with task_group() as group:
            for one in wanted:
                group.start_soon(count, one.name)
        return [describe(one, model, self.config, self._kind, counts[one.name], called[one.name]) for one in wanted]

    async def _count(self, name: str) -> int | None:
        """Return how many entities a set has; 0 where it does not say, None where the user may not read it."""
        try:
            return await self.service.count(name)
        except PermissionMissing:
            return None
        except (RequestRefused, TableMissing, SourceDown):
            return 0

    async def high_water(self, scan: Scan) -> Mark | None:
        model, owner = await self._place(scan)
        if scan.window is None or scan.window.cursor == CHANGES:
            return None
        cursor = scan.window.cursor
        prop = owner.type.properties[cursor]
        found = column(prop, model)
        assert found is not None
        given = literals.joined([scan.where, f"{cursor} ne null" if prop.nullable else None])
        options = [("$filter", given)] if given else []
        options += [("$orderby", f"{cursor} desc"), ("$top", "1"), ("$select", cursor)]
        try:
            answer = await self.service.entities(owner.name, options)
        except RequestRefused:
            if scan.window == Window(cursor):
                return None  # all of it is read anyway, whatever the service can sort by
            raise
        if not answer.rows or answer.rows[0].get(cursor) is None:
            return None
        decode = decoder(found, model.version)
        value = answer.rows[0][cursor]
        text = str(decode(value) if decode is not None else value)
        # Whoever writes sets the time before it can be seen.
        return Mark(_marked(text, found.type), exact=False)

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        model, owner = await self._place(scan)
        if _tracked(scan):
            return [self._chunk(scan, 0, {}, scan.table.rows)]
        paging = self._paging(owner)
        request = self._request(scan, owner, model)
        found: list[dict[str, Any]] = [{}]
        expected, part = scan.table.rows, max(1, min(rows, _PART))
        if expected > part and paging != "server":
            if request.condition is not None:
                expected = await self.service.count(owner.name, [("$filter", request.condition)])
            found = await self._ranges(request, expected, part) if paging == "key" else _counted(expected, part)
        if model.version == 2 and scan.window is not None and scan.window.start is not None:
            found += [{"lines": one.navigation.name} for one in self._lines(scan, owner, model)]
        return [self._chunk(scan, index, bounds, expected // len(found)) for index, bounds in enumerate(found)]

    def _chunk(self, scan: Scan, index: int, bounds: dict[str, Any], rows: int) -> Chunk:
        size = rows * 20 * max(1, len(scan.columns))
        return make_chunk(scan, index, bounds, storage=None, rows=rows, size=size)

    async def _ranges(self, request: Request, expected: int, part: int) -> list[dict[str, Any]]:
        """Return ranges of the key of about that many rows each, found by asking for the keys where they begin."""
        parts = min(_MOST_PARTS, math.ceil(expected / part))
        starts: dict[int, list[Any]] = {}

        async def probe(index: int) -> None:
            keyed = Request(request.set, request.version, request.key, request.condition, (), request.decode)
            skip = str(expected * index // parts)
            more = [("$orderby", ",".join(request.key)), ("$skip", skip), ("$top", "1")]
            answer = await self.service.entities(request.set.name, keyed.options(*more))
            if answer.rows:
                starts[index] = keyed.key_of(keyed.rows(answer.rows)[0])

        try:
            async with task_group() as group:
                for index in range(1, parts):
                    group.start_soon(probe, index)
        except RequestRefused:
            self._unsorted.add(request.set.name)
            return [{}]
        edges = [starts[index] for index in sorted(starts)]
        edges = [edge for at, edge in enumerate(edges) if at == 0 or edge != edges[at - 1]]
        lows: list[Any] = [None, *edges]
        highs: list[Any] = [*edges, None]
        return [
            {name: value for name, value in (("after", low), ("upto", high)) if value is not None}
            for low, high in zip(lows, highs, strict=True)
        ]

    async def digest(self, scan: Scan, chunk: Chunk, ask: Digest) -> list[tuple[Any, ...]] | None:
        if _tracked(scan) and scan.window is not None and scan.window.start is None:
            raise RequestRefused(
                f"{scan.table.qualified}: an initial load cannot be read a second time: that would begin its tracking "
                "anew, and the delta link of the first one would be gone.",
                guidance="Use --verify hash or --verify counts for it; later runs may use --verify source.",
                table=scan.table.qualified,
            )
        return None

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        model, owner = await self._place(scan)
        bounds = chunk.bounds
        request = self._request(scan, owner, model)
        if _tracked(scan):
            deleted = scan.table.detail["deleted"]
            names = dict.fromkeys([*(request.select or ()), changes.CHANGE_MODE, changes.COUNTER])
            known = tuple(name for name in names if name in owner.type.properties)
            request = Request(owner, model.version, known, scan.where, request.expanded, request.decode)
            assert scan.window is not None
            if "next" in bounds:
                pages = changes.go_on(self.service, request, bounds, deleted)
            elif scan.window.start is None:
                pages = changes.initial(self.service, request, deleted)
            else:
                pages = changes.since(self.service, request, scan.window.start, deleted)
        elif "lines" in bounds:
            one = next(one for one in self._lines(scan, owner, model) if one.navigation.name == bounds["lines"])
            assert scan.window is not None
            pages = lines.changed(self.service, one, request, scan.where, scan.window, bounds)
        elif "next" in bounds or (not bounds and self._paging(owner) == "server"):
            pages = reading.by_links(self.service, request, bounds)
        elif "skip" in bounds or self._paging(owner) == "skip":
            pages = reading.by_count(self.service, request, bounds)
        else:
            pages = self._keyed(request, bounds)
        deleted = scan.table.detail.get("deleted")
        async for page in pages:
            if deleted is not None and not _tracked(scan):
                yield Page([{**row, deleted: False} for row in page.rows], page.rest)
            else:
                yield page

    async def _keyed(self, request: Request, bounds: dict[str, Any]) -> AsyncIterator[Page]:
        """Yield pages by key; by links where the very first one is refused and nobody said how to page."""
        begun = False
        try:
            async for page in reading.by_key(self.service, request, bounds):
                begun = True
                yield page
            return
        except RequestRefused:
            if begun or bounds or self.config.paging == "key":
                raise
        self._unsorted.add(request.set.name)
        async for page in reading.by_links(self.service, request, {}):
            yield page

    def _request(self, scan: Scan, owner: EntitySet, model: Model) -> Request:
        """Return what a scan asks, with the window of its cursor."""
        inside = None
        window = scan.window if scan.window is not None and scan.window.cursor != CHANGES else None
        if window is not None:
            prop = owner.type.properties[window.cursor]
            inside = literals.window(window, prop.type, model.version, nullable=prop.nullable)
            if inside is not None and window.start is not None and model.version == 4:
                also = [lines.condition(one, window, model.version) for one in self._lines(scan, owner, model)]
                inside = literals.joined([inside, *also], "or")
        return reading.make_request(scan, owner, model, literals.joined([scan.where, inside]))

    def _lines(self, scan: Scan, owner: EntitySet, model: Model) -> list[lines.Lines]:
        names = [one.name for one in scan.columns if one.name in owner.type.navigation]
        assert scan.window is not None
        return lines.lines_of(owner, names, model, scan.window.cursor)

    def _paging(self, owner: EntitySet) -> str:
        if self.config.paging != "auto":
            return self.config.paging
        return (
            "key" if reading.has_order(owner) and not owner.tracked and owner.name not in self._unsorted else "server"
        )

    async def _place(self, scan: Scan) -> tuple[Model, EntitySet]:
        model = await self.service.model()
        owner = model.sets.get(scan.table.detail["set"])
        if owner is None:
            raise TableMissing(f"The service has no entity set {scan.table.detail['set']}.", table=scan.table.qualified)
        return model, owner


def _counted(expected: int, part: int) -> list[dict[str, Any]]:
    """Return ranges by number; the last one goes on to whatever end there is."""
    step = max(1, math.ceil(expected / min(_MOST_PARTS, max(1, math.ceil(expected / part)))))
    starts = range(0, expected, step)
    return [{"skip": at, **({"until": at + step} if at + step < expected else {})} for at in starts] or [{}]


def _tracked(scan: Scan) -> bool:
    """Tell whether a scan goes on from a delta link, or begins with one: it starts the tracking anew."""
    window: Window | None = scan.window
    return scan.table.tracked and window is not None and window.cursor == CHANGES and window.from_start


def _marked(text: str, kind: Any) -> str:
    """Return a value of a cursor as the runner keeps marks."""
    if getattr(kind, "tz", None):
        return literals.moment(text, zoned=True).replace("T", " ", 1).removesuffix("Z") + "+00"
    return text.replace("T", " ", 1) if "T" in text else text


async def first_row(service: Service, name: str) -> None:
    """Ask for one row, so that what stands in the way is said."""
    with anyio.fail_after(60):
        await service.entities(name, [("$top", "1")])
