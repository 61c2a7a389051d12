"""What the double's answers are made of: ValueRange, Sheet, GridData, NamedRange.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets.values#ValueRange and
.../v4/spreadsheets/sheets.
"""

from __future__ import annotations

from typing import Any

from connectors.testing.sheets.a1 import Area, resolve
from connectors.testing.sheets.grid import Sheet, Spreadsheet
from connectors.testing.sheets.refusals import Refused


def grid(area: Area) -> Area:
    """Return an area, if it has cells that can be read."""
    if area.sheet.kind != "GRID":
        raise Refused(400, f"Range ({area}) is not a grid: it cannot be read.")
    return area


def value_range(area: Area, asked: dict[str, Any]) -> dict[str, Any]:
    """Return a ValueRange: what is empty at the end of a row, and rows that are empty at the end, are left out."""
    dimension = asked.get("majorDimension", "ROWS")
    by_columns = dimension == "COLUMNS"
    options = asked.get("valueRenderOption", "FORMATTED_VALUE"), asked.get("dateTimeRenderOption", "SERIAL_NUMBER")
    lines: list[list[Any]] = []
    outer = range(area.left, area.right) if by_columns else range(area.top, area.bottom)
    inner = range(area.top, area.bottom) if by_columns else range(area.left, area.right)
    for one in outer:
        line = [area.sheet.at(*((two, one) if by_columns else (one, two))) for two in inner]
        while line and line[-1].empty:
            line.pop()
        lines.append([cell.rendered(*options) for cell in line])
    while lines and not lines[-1]:
        lines.pop()
    found: dict[str, Any] = {"range": str(area), "majorDimension": "COLUMNS" if by_columns else "ROWS"}
    if lines:
        found["values"] = lines
    return found


def described(sheet: Sheet, index: int, areas: list[Area], data: bool) -> dict[str, Any]:
    """Return a Sheet with the GridData of these areas."""
    properties: dict[str, Any] = {
        "sheetId": sheet.number,
        "title": sheet.title,
        "index": index,
        "sheetType": sheet.kind,
    }
    if sheet.kind == "GRID":
        properties["gridProperties"] = {"rowCount": sheet.rows, "columnCount": sheet.columns}
    if sheet.hidden:
        properties["hidden"] = True
    found: dict[str, Any] = {"properties": properties}
    merges = [
        merge
        for merge in sheet.merges
        if any(
            merge[0] < area.bottom and area.top < merge[2] and merge[1] < area.right and area.left < merge[3]
            for area in areas
        )
    ]
    if merges:
        found["merges"] = [_range(sheet, *merge) for merge in merges]
    if data and sheet.kind == "GRID":
        found["data"] = [_grid_data(area) for area in areas]
    return found


def _grid_data(area: Area) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for y in range(area.top, area.bottom):
        values = [area.sheet.at(y, x).data() for x in range(area.left, area.right)]
        while values and not values[-1]:
            values.pop()
        rows.append({"values": values} if values else {})
    while rows and not rows[-1]:
        rows.pop()
    # What is 0 is left out, as Google's JSON leaves out what has its default.
    found: dict[str, Any] = {}
    if area.top:
        found["startRow"] = area.top
    if area.left:
        found["startColumn"] = area.left
    if rows:
        found["rowData"] = rows
    found["rowMetadata"] = [{"pixelSize": 21}] * (area.bottom - area.top)
    found["columnMetadata"] = [{"pixelSize": 100}] * (area.right - area.left)
    return found


def _range(sheet: Sheet, top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    own = {"sheetId": sheet.number} if sheet.number else {}
    return {
        **own,
        "startRowIndex": top,
        "endRowIndex": bottom,
        "startColumnIndex": left,
        "endColumnIndex": right,
    }


def named(file: Spreadsheet, name: str, text: str) -> dict[str, Any]:
    """Return a NamedRange."""
    area = resolve(file, text)
    place = _range(area.sheet, area.top, area.left, area.bottom, area.right)
    return {"namedRangeId": f"id-{name}", "name": name, "range": place}
