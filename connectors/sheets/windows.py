"""A long table is read in windows of rows; what stands at their borders is remembered, so that moved rows are noticed.

Facts: developers.google.com/workspace/sheets/api/limits (no limit on the size of an answer, two megabytes are
recommended), .../api/reference/rest/v4/ValueRenderOption (formulas are not calculated, so that what
is volatile stays the same).
"""

from __future__ import annotations

from typing import Any

from connectors.http import Http
from connectors.sheets.layout import cut
from connectors.sheets.questions import ask_values
from connectors.sheets.rows import area_of, header_changed
from runner.errors import TableChanged
from runner.naming import fingerprint
from runner.source import Scan, Table

_TOGETHER = 40


def borders(table: Table, rows: int, cells: int) -> list[int]:
    """Return the first rows of a table's windows."""
    detail = table.detail
    area = area_of(table)
    # What is empty beside the columns is not sent.
    height = max(1, min(rows, cells // len(table.columns)))
    found = [detail["top"]]
    while (following := cut(detail["merges"], found[-1] + height, area.bottom)) < detail["last"]:
        found.append(following)
    return found


async def marks(http: Http, table: Table, rows: list[int]) -> list[str]:
    """Return what stands in some rows of a table, formulas as they were written, as digests."""
    area = area_of(table)
    found: list[str] = []
    for first in range(0, len(rows), _TOGETHER):
        ranges = [area.rows(row, row + 1) for row in rows[first : first + _TOGETHER]]
        answers = await ask_values(http, table.detail["spreadsheet"], ranges, formulas=True)
        found += [fingerprint(answer) for answer in answers]
    return found


async def bounds_of(http: Http, scan: Scan, starts: list[int]) -> list[dict[str, Any]]:
    """Return the bounds of windows: their rows, and what stands in the header and at their borders."""
    header = scan.table.detail["header_row"]
    seen = await marks(http, scan.table, [*([header] if header is not None else []), *starts])
    head = seen.pop(0) if header is not None else None
    return [
        {
            "from": start,
            "to": starts[number + 1] if number + 1 < len(starts) else None,
            "header": head,
            "first": seen[number],
            "next": seen[number + 1] if number + 1 < len(starts) else None,
        }
        for number, start in enumerate(starts)
    ]


async def check_borders(http: Http, scan: Scan, window: dict[str, Any]) -> None:
    """Check after a window was read that its rows are still where they were.

    Raises:
        TableChanged: They moved, or the header changed.
    """
    table = scan.table
    header = table.detail["header_row"]
    rows = [(header, window["header"]), (window["from"], window["first"]), (window["to"], window["next"])]
    known = [(row, mark) for row, mark in rows if row is not None and mark is not None]
    found = await marks(http, table, [row for row, _ in known])
    moved = [row for (row, mark), now in zip(known, found, strict=True) if mark != now]
    if header is not None and header in moved:
        raise header_changed(table)
    if moved:
        raise TableChanged(
            f"{table.qualified}: row {moved[0] + 1} is not what it was; rows were inserted, deleted or changed there "
            "while the sheet was read.",
            table=table.qualified,
        )
