"""What a spreadsheet consists of: its sheets and named ranges, and the tables that are made of them.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets (sheets, named ranges) and
.../v4/spreadsheets/sheets (grids, hidden sheets, merged cells; the value of merged cells is in the first of them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.sheets.a1 import Area, bounds, quoted, unquoted
from connectors.sheets.config import Header, RangeConfig, SheetsConfig
from runner.errors import UsageError

FIELDS = (
    "properties.title,namedRanges(name,range),"
    "sheets(properties(sheetId,title,sheetType,hidden,gridProperties(rowCount,columnCount)),merges)"
)
# Top, left, bottom, right; ends are exclusive.
Merge = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """Where a table is.

    Attributes:
        name: The table's.
        open: Whether it goes on to the end of the sheet, however long that grows.
        merges: Merged cells whose first cell is in it, if they are to be filled.
    """

    spreadsheet: str
    sheet: int
    name: str
    area: Area
    open: bool
    header: Header
    merges: tuple[Merge, ...]

    @property
    def given(self) -> list[str] | None:
        """Names that stand in for a header, if there is none."""
        return self.header if isinstance(self.header, list) else [] if self.header == "none" else None

    def cut(self, row: int) -> int:
        """Return where to cut near a row: not through merged cells, and not beyond the end."""
        return cut(self.merges, row, self.area.bottom)


def places(config: SheetsConfig, found: Mapping[str, Mapping[str, Any]]) -> tuple[list[Place], dict[str, str]]:
    """Return the tables of spreadsheets, and by their names why others cannot be read.

    Args:
        found: What the server says of each, by its id.

    Raises:
        UsageError: The job file says how to read a table that is nowhere.
    """
    made: list[Place] = []
    lost: dict[str, str] = {}
    unused = set(config.ranges)
    for key, described in found.items():
        book = _Book(key, described)
        prefix = f"{book.title} " if len(config.spreadsheets) > 1 else ""
        for name, own, text in _named(config, book, prefix):
            unused -= {name, prefix + name}
            place = _place(config, book, prefix + name, own, text)
            if place is not None:
                made.append(place)
            else:
                lost[prefix + name] = f"its range {text!r} leads nowhere in the spreadsheet {book.title!r}"
    if unused and len(found) == len(config.spreadsheets):
        known = ", ".join(sorted({place.name for place in made}))
        raise UsageError(
            f"ranges: there is no sheet and no named range {min(unused)!r}.",
            guidance=f"Give it a range and, where there are several, a spreadsheet; or name one of: {known}.",
        )
    taken: Counter[str] = Counter()
    unique = []
    for place in made:
        taken[place.name] += 1
        number = taken[place.name]
        unique.append(place if number == 1 else replace(place, name=f"{place.name}_{number}"))
    return unique, lost


class _Book:
    """A spreadsheet as the server describes it."""

    def __init__(self, key: str, described: Mapping[str, Any]) -> None:
        self.key = key
        self.title = str(described.get("properties", {}).get("title", key))
        self.sheets = [
            sheet
            for sheet in described.get("sheets", ())
            if sheet["properties"].get("sheetType", "GRID") == "GRID" and "gridProperties" in sheet["properties"]
        ]
        self.named = {one["name"]: one["range"] for one in described.get("namedRanges", ())}

    def sheet(self, title: str) -> Mapping[str, Any] | None:
        return next((sheet for sheet in self.sheets if sheet["properties"]["title"] == title), None)

    def area(self, text: str) -> tuple[Mapping[str, Any], Area, bool] | None:
        """Return the sheet of a range, its area in the grid, and whether its end is open."""
        title, mark, cells = text.rpartition("!")
        if (whole := self.sheet(unquoted(text))) is not None:
            return whole, _area(whole, 0, 0, None, None), True
        if not mark and text in self.named:
            return self._grid_range(self.named[text])
        sheet = self.sheet(unquoted(title)) if mark else next(iter(self.sheets), None)
        ends = bounds(cells)
        if sheet is None or ends is None:
            return None
        area = _area(sheet, *ends)
        return (sheet, area, ends[2] is None) if area.top < area.bottom and area.left < area.right else None

    def _grid_range(self, found: Mapping[str, Any]) -> tuple[Mapping[str, Any], Area, bool] | None:
        # What is 0 may be left out; so is what is open.
        number = found.get("sheetId", 0)
        sheet = next((one for one in self.sheets if one["properties"].get("sheetId", 0) == number), None)
        if sheet is None:
            return None
        top, left = found.get("startRowIndex", 0), found.get("startColumnIndex", 0)
        bottom = found.get("endRowIndex")
        return sheet, _area(sheet, top, left, bottom, found.get("endColumnIndex")), bottom is None


def _area(sheet: Mapping[str, Any], top: int, left: int, bottom: int | None, right: int | None) -> Area:
    grid = sheet["properties"]["gridProperties"]
    rows, columns = grid.get("rowCount", 0), grid.get("columnCount", 0)
    return Area(
        sheet["properties"]["title"],
        top,
        left,
        rows if bottom is None else min(rows, bottom),
        columns if right is None else min(columns, right),
    )


def _named(config: SheetsConfig, book: _Book, prefix: str) -> list[tuple[str, RangeConfig, str]]:
    """Return the tables of a spreadsheet: name, what the job file says of it, and the range as it is written."""
    found: dict[str, tuple[str, RangeConfig, str]] = {}
    sheets = [sheet["properties"] for sheet in book.sheets]
    for one in sheets:
        own = _own(config, book, one["title"], prefix)
        if config.include_hidden or not one.get("hidden") or own is not None:
            own = own or RangeConfig()
            found[f"sheet {one['title']}"] = (
                one["title"],
                own,
                own.range or quoted(one["title"]),
            )
    for name in book.named if config.named_ranges else ():
        own = _own(config, book, name, prefix) or RangeConfig()
        found[f"range {name}"] = (name, own, own.range or name)
    known = {name for name, _, _ in found.values()}
    for name in config.ranges:
        own = config.of(name)
        mine = own.spreadsheet == book.key or (own.spreadsheet is None and len(config.spreadsheets) == 1)
        if mine and own.range is not None and name.removeprefix(prefix) not in known:
            found[f"own {name}"] = (name.removeprefix(prefix), own, own.range)
    return list(found.values())


def _own(config: SheetsConfig, book: _Book, name: str, prefix: str) -> RangeConfig | None:
    for written in (prefix + name, name):
        if written in config.ranges:
            own = config.of(written)
            return own if own.spreadsheet in (None, book.key) else None
    return None


def _place(config: SheetsConfig, book: _Book, name: str, own: RangeConfig, text: str) -> Place | None:
    found = book.area(text)
    if found is None:
        return None
    sheet, area, is_open = found
    fill = (own.merged or config.merged) == "fill"
    merges = _merges(sheet.get("merges", ()), area) if fill else ()
    number = sheet["properties"].get("sheetId", 0)
    header = own.header if own.header is not None else config.header
    return Place(book.key, number, name, area, is_open, header, merges)


def _merges(found: Sequence[Mapping[str, Any]], area: Area) -> tuple[Merge, ...]:
    made = [
        (
            one.get("startRowIndex", 0),
            one.get("startColumnIndex", 0),
            min(one.get("endRowIndex", area.bottom), area.bottom),
            min(one.get("endColumnIndex", area.right), area.right),
        )
        for one in found
    ]
    inside = (one for one in made if area.top <= one[0] < area.bottom and area.left <= one[1] < area.right)
    return tuple(sorted(inside))


def cut(merges: Iterable[Sequence[int]], row: int, bottom: int) -> int:
    """Return the first row from there on that is inside no merged cells; the bottom if there is none before it."""
    for top, _, end, _ in merges:  # sorted by their first rows
        if top < row < end:
            row = end
    return min(row, bottom)


def fill(rows: list[list[Any]], merges: Iterable[Sequence[int]], top: int, left: int) -> list[list[Any]]:
    """Return rows whose merged cells all hold what the first of them does.

    Args:
        rows: Rows of a sheet from ``top`` on, whose cells begin with the column ``left``.
        merges: None of them begins above these rows and ends in them.
    """
    for first, start, end, stop in merges:
        row, column = first - top, start - left
        if not 0 <= row < len(rows) or column >= len(rows[row]) or rows[row][column] in (None, ""):
            continue
        value = rows[row][column]
        rows += [[] for _ in range(end - top - len(rows))]
        for line in rows[row : end - top]:
            line += [None] * (stop - left - len(line))
            line[column : stop - left] = [value] * (stop - start)
    return rows
