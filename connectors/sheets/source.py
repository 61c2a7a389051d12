"""The source: spreadsheets as tables; what is small is read together, what is long in windows of rows."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import anyio

from connectors.api import ApiSession, ApiSource, Page
from connectors.http import Http
from connectors.sheets.ahead import Ahead
from connectors.sheets.config import SheetsConfig
from connectors.sheets.faults import judge
from connectors.sheets.layout import fill, places
from connectors.sheets.login import authentication
from connectors.sheets.questions import ask_cells, ask_layout, ask_values
from connectors.sheets.rows import Rows, area_of, heading
from connectors.sheets.survey import Progress, survey
from connectors.sheets.windows import borders, bounds_of, check_borders
from runner.errors import PermissionMissing, RequestRefused, TableChanged, TableMissing, TableWidened
from runner.job import matches
from runner.source import NOTHING, Chunk, Position, Scan, Table, make_chunk

_NOTE = "a sheet is read as it is when it is asked; cells that change meanwhile are as they were or as they are"
_CELL_BYTES = 12
# More than a sheet can have: windows are bounded by cells alone.
_MOST_ROWS = 10**7
# Converting more cells than that would hold up the loop.
_SMALL = 5_000
# Formulas may make other values whenever they are looked at.
_MOST_WIDENED = 3


class SheetsSource(ApiSource):
    """Spreadsheets of Google Sheets."""

    kind = "sheets"
    config_model = SheetsConfig
    config: SheetsConfig

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._widened: Counter[str] = Counter()

    def make_http(self) -> Http:
        config = self.config
        reader = str((config.service_account or {}).get("client_email", "the user who consented"))
        return Http(
            config,
            base=config.api_url,
            auth=authentication(config, self.requests.clock),
            requests=self.requests,
            judge=judge(reader, config.quota_pause.total_seconds()),
        )

    def make_session(self, http: Http, epoch: int) -> SheetsSession:
        return SheetsSession(http, self.config, self._widened)


class SheetsSession(ApiSession):
    """One look at the spreadsheets.

    Args:
        widened: How often the columns of a table were not those of the plan.
    """

    position = Position(consistent=False, note=_NOTE, paged=True)

    def __init__(self, http: Http, config: SheetsConfig, widened: Counter[str]) -> None:
        super().__init__(http)
        self._config = config
        self._widened = widened
        self._ahead = Ahead(http, config.cells, _whole)

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        found, tables = await self._spreadsheets()
        there, lost = places(self._config, found)
        tables += [_unreadable(name, problem) for name, problem in lost.items()]
        wanted = [place for place in there if _wanted(place.name, patterns)]
        tables = [table for table in tables if _wanted(table.name, patterns)]
        for seen in await survey(self.http, wanted, self._config.cells):
            place, table = seen.place, _table(seen)
            if table.columns:
                tables.append(table)
            elif place.name in self._config.ranges or f"{table.schema}.{table.name}" in patterns:
                tables.append(_unreadable(place.name, "there is no cell in its range, or none from its header on"))
        return tables

    async def _spreadsheets(self) -> tuple[dict[str, Mapping[str, Any]], list[Table]]:
        """Return what each spreadsheet consists of; one of several that cannot be read takes no other with it."""
        found: dict[str, Mapping[str, Any]] = {}
        tables: list[Table] = []
        for key in self._config.spreadsheets:
            try:
                found[key] = await ask_layout(self.http, key)
            except (PermissionMissing, TableMissing, RequestRefused) as error:
                if len(self._config.spreadsheets) == 1:
                    raise
                tables.append(_unreadable(key, f"{error.message} {error.advice}"))
        return found, tables

    async def state(self, scan: Scan) -> str:
        table = scan.table
        if scan.window is not None or scan.where is not None:
            raise _unordered(table)
        header = table.detail["header_row"]
        starts = borders(table, _MOST_ROWS, self._config.cells)
        first = [header if header is not None else starts[0], *starts[1:]]
        digest = hashlib.blake2b(digest_size=16)
        for top, bottom in zip(first, [*starts[1:], None], strict=True):
            lines = await self._window(scan, top, bottom)
            text = await anyio.to_thread.run_sync(repr, lines)
            digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        table = scan.table
        if scan.window is not None or scan.where not in (None, NOTHING):
            raise _unordered(table)
        starts = borders(table, rows, self._config.cells)
        if len(starts) == 1:
            if table.detail["exact"]:
                self._ahead.expect(table)
            return [make_chunk(scan, 0, {}, storage=None, rows=table.rows, size=table.bytes)]
        with self._seldom(scan):
            await self._check_header(scan)
        each = table.rows // len(starts)
        return [
            make_chunk(scan, number, bounds, storage=None, rows=each, size=table.bytes // len(starts))
            for number, bounds in enumerate(await bounds_of(self.http, scan, starts))
        ]

    async def _check_header(self, scan: Scan) -> None:
        """Compare the header of a long table, whose windows come without it."""
        detail = scan.table.detail
        if (row := detail["header_row"]) is not None:
            text = area_of(scan.table).rows(row, row + 1)
            (lines,) = await ask_values(self.http, detail["spreadsheet"], [text])
            lines = fill(lines, detail["merges"], row, detail["left"])
            Rows(scan, loose=True).check_header(lines[0] if lines else [])

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        with self._seldom(scan):
            yield await self._page(scan, chunk)

    @contextlib.contextmanager
    def _seldom(self, scan: Scan) -> Iterator[None]:
        """Let the columns be looked at again, but not whenever a formula that always changes asks for it."""
        name = scan.table.qualified
        try:
            yield
        except TableWidened as error:
            self._widened[name] += 1
            if self._widened[name] <= _MOST_WIDENED:
                raise
            raise TableChanged(error.message, guidance=error.advice, table=name) from error

    async def _page(self, scan: Scan, chunk: Chunk) -> Page:
        detail = scan.table.detail
        rows = Rows(scan, loose=detail["exact"])
        if chunk.bounds:
            first = chunk.bounds["from"]
            lines = await self._window(scan, first, chunk.bounds["to"])
            await check_borders(self.http, scan, chunk.bounds)
        else:
            first = detail["top"] if detail["header_row"] is None else detail["header_row"]
            lines = await self._everything(scan)
        lines = fill(lines, detail["merges"], first, detail["left"])
        if not chunk.bounds and detail["header_row"] is not None:
            rows.check_header(lines[0] if lines else [])
            lines, first = lines[detail["top"] - first :], detail["top"]
        if len(lines) * len(scan.table.columns) > _SMALL:
            return Page(await anyio.to_thread.run_sync(rows.objects, lines, first))
        return Page(rows.objects(lines, first))

    async def _everything(self, scan: Scan) -> list[list[Any]]:
        table = scan.table
        if table.detail["exact"]:
            return await self._ahead.take(table)
        return await self._cells(table, _whole(table))

    async def _window(self, scan: Scan, top: int, bottom: int | None) -> list[list[Any]]:
        table = scan.table
        text = area_of(table).rows(top, bottom if bottom is not None else _end(table))
        if not table.detail["exact"]:
            return await self._cells(table, text)
        (lines,) = await ask_values(self.http, table.detail["spreadsheet"], [text])
        return lines

    async def _cells(self, table: Table, text: str) -> list[list[Any]]:
        detail = table.detail
        return (await ask_cells(self.http, detail["spreadsheet"], {detail["sheet"]: text}))[detail["sheet"]]


def _unordered(table: Table) -> RequestRefused:
    return RequestRefused(
        f"{table.qualified}: a sheet has no cursor and takes no condition.",
        guidance="Read it with `mode: full`, without `cursor` and `where`.",
        table=table.qualified,
    )


def _whole(table: Table) -> str:
    """Return the range of a table and its header."""
    detail = table.detail
    top = detail["top"] if detail["header_row"] is None else detail["header_row"]
    return area_of(table).rows(top, _end(table))


def _end(table: Table) -> int | None:
    """Return the row after the last; None where what is added below belongs to it, too."""
    return None if table.detail["open"] else int(table.detail["bottom"])


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(matches(pattern, f"{SheetsSource.kind}.{name}") for pattern in patterns)


def _unreadable(name: str, problem: str) -> Table:
    return Table(SheetsSource.kind, name, (), problem=problem)


def _table(seen: Progress) -> Table:
    place, shape = seen.place, seen.shape
    columns = shape.described(place.given)
    area = place.area
    top = area.top if seen.header_row is None else seen.header_row + 1
    return Table(
        SheetsSource.kind,
        place.name,
        columns,
        rows=shape.filled,
        bytes=shape.filled * len(columns) * _CELL_BYTES,
        detail={
            "spreadsheet": place.spreadsheet,
            "sheet": place.sheet,
            "title": area.title,
            "top": top,
            "left": area.left,
            "bottom": area.bottom,
            "right": area.right,
            "open": place.open,
            "header_row": seen.header_row,
            "heading": heading(shape.header or [], len(columns)),
            "merges": [list(one) for one in place.merges],
            "last": max(top, shape.last),
            "exact": shape.exact(),
        },
        defaults={"mode": "full"},
    )
