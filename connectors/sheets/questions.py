"""What is asked of the API: what a spreadsheet consists of, cells with their formats, values alone.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/get (a GridData for each range of a
sheet), .../v4/spreadsheets.values/batchGet (many ranges at once), .../api/guides/field-masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from connectors.http import Http
from connectors.sheets.cells import Cell, from_data
from connectors.sheets.layout import FIELDS
from runner.errors import SourceDown

_CELLS = "sheets(properties.sheetId,data(rowData.values(effectiveValue,effectiveFormat.numberFormat.type)))"


async def ask_layout(http: Http, spreadsheet: str) -> Mapping[str, Any]:
    """Return what a spreadsheet consists of."""
    params = {"fields": FIELDS, "prettyPrint": "false"}
    found = await http.get(f"/v4/spreadsheets/{spreadsheet}", params=params)
    return _object(found.data)


async def ask_cells(http: Http, spreadsheet: str, ranges: Mapping[int, str]) -> dict[int, list[list[Cell]]]:
    """Return cells with their types, row by row, of one range of each of several sheets.

    Args:
        ranges: By the sheet's id: an answer lists sheets in their own order.
    """
    params = [("fields", _CELLS), ("prettyPrint", "false"), *(("ranges", one) for one in ranges.values())]
    found = _object((await http.get(f"/v4/spreadsheets/{spreadsheet}", params=params)).data)
    answers = await anyio.to_thread.run_sync(_cells, found)
    if set(answers) != set(ranges):
        raise SourceDown(f"Google answered for {len(answers)} of {len(ranges)} sheets.")
    return answers


def _cells(found: Mapping[str, Any]) -> dict[int, list[list[Cell]]]:
    answers: dict[int, list[list[Cell]]] = {}
    for sheet in found.get("sheets", ()):
        data = sheet.get("data") or [{}]
        rows = [[from_data(one) for one in row.get("values", ())] for row in data[0].get("rowData", ())]
        answers[sheet.get("properties", {}).get("sheetId", 0)] = rows
    return answers


async def ask_values(
    http: Http, spreadsheet: str, ranges: list[str], *, formulas: bool = False
) -> list[list[list[Any]]]:
    """Return the values of ranges, as JSON has them; dates are numbers."""
    params = [
        ("majorDimension", "ROWS"),
        ("valueRenderOption", "FORMULA" if formulas else "UNFORMATTED_VALUE"),
        ("dateTimeRenderOption", "SERIAL_NUMBER"),
        ("fields", "valueRanges(range,values)"),
        ("prettyPrint", "false"),
        *(("ranges", one) for one in ranges),
    ]
    found = _object((await http.get(f"/v4/spreadsheets/{spreadsheet}/values:batchGet", params=params)).data)
    answers = found.get("valueRanges", [])
    if len(answers) != len(ranges):
        raise SourceDown(f"Google answered {len(answers)} of {len(ranges)} ranges.")
    return [one.get("values", []) for one in answers]


def _object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise SourceDown("Google answered with something else than a JSON object.")
    return data
