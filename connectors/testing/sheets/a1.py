"""Ranges as requests and answers write them.

Facts: developers.google.com/workspace/sheets/api/guides/concepts#cell (A1 and R1C1 notation, quoted titles, open ends,
named ranges).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.testing.sheets.grid import Sheet, Spreadsheet
from connectors.testing.sheets.refusals import Refused

_CELL = r"([A-Za-z]{1,3})?([1-9]\d{0,7})?"
_A1 = re.compile(rf"{_CELL}(?::{_CELL})?")
_R1C1 = re.compile(r"R(\d+)C(\d+)(?::R(\d+)C(\d+))?")
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Area:
    """A rectangle of a sheet; ends are exclusive, and inside the grid."""

    sheet: Sheet
    top: int
    left: int
    bottom: int
    right: int

    def __str__(self) -> str:
        title = self.sheet.title
        # What could be taken for a cell is quoted, too.
        if not _PLAIN.fullmatch(title) or _A1.fullmatch(title) or _R1C1.fullmatch(title):
            title = "'" + title.replace("'", "''") + "'"
        first, last = f"{letters(self.left)}{self.top + 1}", f"{letters(self.right - 1)}{self.bottom}"
        return f"{title}!{first}" if first == last else f"{title}!{first}:{last}"


def letters(column: int) -> str:
    """Return the letters of a column that is counted from 0."""
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


def resolve(spreadsheet: Spreadsheet, text: str) -> Area:
    """Return what a range means.

    Raises:
        Refused: It cannot be parsed, names no sheet, or begins outside the grid.
    """
    cells: str | None = text
    title, mark, rest = text.rpartition("!")
    if mark:
        sheet, cells = _sheet(spreadsheet, title), rest
    elif (whole := _sheet(spreadsheet, text)) is not None:
        sheet, cells = whole, None
    elif (named := spreadsheet.named.get(text)) is not None:
        sheet, cells = _sheet(spreadsheet, named.rpartition("!")[0]), named.rpartition("!")[2]
    else:
        sheet = spreadsheet.sheets[0]
    bounds = (None, None, None, None) if cells is None else _bounds(cells)
    if sheet is None or bounds is None:
        raise Refused(400, f"Unable to parse range: {text}")
    top, left, bottom, right = bounds
    area = Area(
        sheet,
        top or 0,
        left or 0,
        min(sheet.rows, bottom if bottom is not None else sheet.rows),
        min(sheet.columns, right if right is not None else sheet.columns),
    )
    if area.top >= sheet.rows or area.left >= sheet.columns:
        quoted = str(Area(sheet, 0, 0, 1, 1)).rpartition("!")[0]
        place = f"{quoted}!{cells}"
        raise Refused(400, f"Range ({place}) exceeds grid limits. Max rows: {sheet.rows}, max columns: {sheet.columns}")
    return area


def _sheet(spreadsheet: Spreadsheet, title: str) -> Sheet | None:
    if len(title) > 1 and title[0] == title[-1] == "'":
        title = title[1:-1].replace("''", "'")
    elif _A1.fullmatch(title) and title not in spreadsheet.named and ":" in title:
        return None
    return next((sheet for sheet in spreadsheet.sheets if sheet.title == title), None)


def _bounds(text: str) -> tuple[int | None, int | None, int | None, int | None] | None:
    """Return top, left, bottom and right; None for what is open, and for what is no range."""
    if hit := _R1C1.fullmatch(text):
        numbers = [int(one) for one in hit.groups() if one is not None]
        if 0 in numbers:
            return None
        first, last = numbers[:2], numbers[-2:]
        rows, columns = sorted((first[0], last[0])), sorted((first[1], last[1]))
        return rows[0] - 1, columns[0] - 1, rows[1], columns[1]
    hit = _A1.fullmatch(text)
    if not hit or not text or text.endswith(":"):
        return None
    left, top, right, bottom = hit[1], hit[2], hit[3], hit[4]
    if ":" not in text:
        if left is None or top is None:
            return None
        right, bottom = left, top
    elif (left is None) != (right is None):
        return None
    rows = sorted(int(one) for one in (top, bottom) if one)
    columns = sorted(number(one) for one in (left, right) if one)
    # One row number alone leaves the other end open: A5:A is from row 5 on, A:A5 up to it.
    return (
        rows[0] - 1 if top else None,
        columns[0] if columns else None,
        rows[-1] if bottom else None,
        columns[-1] + 1 if columns else None,
    )


def number(column: str) -> int:
    """Return the number of a column's letters, counted from 0."""
    found = 0
    for letter in column.upper():
        found = found * 26 + ord(letter) - 64
    return found - 1
