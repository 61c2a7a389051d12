"""The source: spreadsheets as tables; what is small is read together, what is long in windows of rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
from runner.errors import RequestRefused
from runner.job import matches
from runner.source import NOTHING, Chunk, Position, Scan, Table, make_chunk

_NOTE = "a sheet is read as it is when it is asked; cells that change meanwhile are as they were or as they are"
_CELL_BYTES = 12
# Converting more cells than that would hold up the loop.
_SMALL = 5_000


class SheetsSource(ApiSource):
    """Spreadsheets of Google Sheets."""

    kind = "sheets"
    config_model = SheetsConfig
    config: SheetsConfig

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
        return SheetsSession(http, self.config)


class SheetsSession(ApiSession):
    """One look at the spreadsheets."""

    position = Position(consistent=False, note=_NOTE, paged=True)

    def __init__(self, http: Http, config: SheetsConfig) -> None:
        super().__init__(http)
        self._config = config
        self._ahead = Ahead(http, config.cells, _whole)

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        found = {key: await ask_layout(self.http, key) for key in self._config.spreadsheets}
        wanted = [
            place
            for place in places(self._config, found)
            if any(matches(pattern, f"{SheetsSource.kind}.{place.name}") for pattern in patterns)
        ]
        seen = await survey(self.http, wanted, self._config.cells)
        return [table for one in seen if (table := _table(one)).columns]

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        table = scan.table
        if scan.window is not None or scan.where not in (None, NOTHING):
            raise RequestRefused(
                f"{table.qualified}: a sheet has no cursor and takes no condition.",
                guidance="Read it with `mode: full`, without `cursor` and `where`.",
                table=table.qualified,
            )
        starts = borders(table, rows, self._config.cells)
        if len(starts) == 1:
            if table.detail["exact"]:
                self._ahead.expect(table)
            return [make_chunk(scan, 0, {}, storage=None, rows=table.rows, size=table.bytes)]
        each = table.rows // len(starts)
        return [
            make_chunk(scan, number, bounds, storage=None, rows=each, size=table.bytes // len(starts))
            for number, bounds in enumerate(await bounds_of(self.http, scan, starts))
        ]

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
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
            yield Page(await anyio.to_thread.run_sync(rows.objects, lines, first))
        else:
            yield Page(rows.objects(lines, first))

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


def _whole(table: Table) -> str:
    """Return the range of a table and its header."""
    detail = table.detail
    top = detail["top"] if detail["header_row"] is None else detail["header_row"]
    return area_of(table).rows(top, _end(table))


def _end(table: Table) -> int | None:
    """Return the row after the last; None where what is added below belongs to it, too."""
    return None if table.detail["open"] else int(table.detail["bottom"])


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
