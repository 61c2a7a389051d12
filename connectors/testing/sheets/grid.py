"""What the double holds: spreadsheets, sheets, cells, and how a cell is shown.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/cells (what a cell has),
.../api/guides/formats (numbers of days since 1899-12-30, patterns), .../reference/rest/v4/spreadsheets/other#ErrorType.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

EPOCH = dt.datetime(1899, 12, 30)
ERRORS = {
    "#NULL!": "NULL_VALUE",
    "#DIV/0!": "DIVIDE_BY_ZERO",
    "#VALUE!": "VALUE",
    "#REF!": "REF",
    "#NAME?": "NAME",
    "#NUM!": "NUM",
    "#N/A": "N_A",
    "#ERROR!": "ERROR",
    "Loading...": "LOADING",
}
PATTERNS = {"DATE": "m/d/yyyy", "TIME": "h:mm:ss am/pm", "DATE_TIME": "m/d/yyyy h:mm:ss", "PERCENT": "0.00%"}
_PART = re.compile(r"\[h\]|yyyy|yy|mm|m|dd|d|hh|h|ss\.000|ss|s|am/pm|.", re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        value: What it evaluates to: a serial number where it is a date; an error's text where it is an error.
        kind: The type of its number format; "" is automatic.
        formula: What was typed, if that is a formula.
        shown: How it is shown, where that is not what the pattern makes of it.
        error: Whether the value is an error and not a text.
        derived: Whether the format comes from what the formula returns and was given by nobody.
    """

    value: bool | int | float | str | None = None
    kind: str = ""
    pattern: str = ""
    formula: str | None = None
    shown: str | None = None
    error: bool = False
    derived: bool = False

    @property
    def empty(self) -> bool:
        """Whether an answer of values leaves it out at the end of a row."""
        return self.value is None and self.formula is None

    def formatted(self) -> str:
        """Return what is shown."""
        if self.shown is not None:
            return self.shown
        value = self.value
        if isinstance(value, bool):
            return str(value).upper()
        if value is None or isinstance(value, str):
            return value or ""
        if self.kind in ("DATE", "TIME", "DATE_TIME"):
            return _moment(float(value), self.pattern or PATTERNS[self.kind])
        if self.kind == "PERCENT":
            return f"{value * 100:.2f}%"
        if self.kind == "CURRENCY":
            return f"${value:,.2f}"
        return f"{value:.10g}"

    def rendered(self, value_option: str, date_option: str) -> Any:
        """Return what an answer of values has for it."""
        if value_option == "FORMULA" and self.formula is not None:
            return self.formula
        if value_option == "FORMATTED_VALUE":
            return self.formatted()
        if self.kind in ("DATE", "TIME", "DATE_TIME") and date_option == "FORMATTED_STRING":
            return self.formatted()
        return "" if self.value is None else plain(self.value)

    def data(self) -> dict[str, Any]:
        """Return it as a CellData."""
        found: dict[str, Any] = {}
        if self.value is not None:
            entered = {"formulaValue": self.formula} if self.formula is not None else self._extended()
            found = {
                "userEnteredValue": entered,
                "effectiveValue": self._extended(),
                "formattedValue": self.formatted(),
            }
        if self.kind:
            number = {"type": self.kind, "pattern": self.pattern or PATTERNS.get(self.kind, "0.00")}
            if not self.derived:
                found["userEnteredFormat"] = {"numberFormat": number}
            found["effectiveFormat"] = {"numberFormat": number}
        return found

    def _extended(self) -> dict[str, Any]:
        if self.error:
            return {"errorValue": {"type": ERRORS[str(self.value)], "message": "The cell has an error."}}
        if isinstance(self.value, bool):
            return {"boolValue": self.value}
        if isinstance(self.value, str):
            return {"stringValue": self.value}
        return {"numberValue": plain(self.value)}


def plain(value: Any) -> Any:
    """Return a number as JSON writes it: without a fraction where it has none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def cell(value: Any) -> Cell:
    """Return the cell that holds a value of Python."""
    if isinstance(value, Cell):
        return value
    if isinstance(value, dt.datetime):
        return Cell((value - EPOCH) / dt.timedelta(days=1), "DATE_TIME")
    if isinstance(value, dt.date):
        return Cell((value - EPOCH.date()).days, "DATE")
    if isinstance(value, dt.time):
        return Cell((dt.datetime.combine(EPOCH, value) - EPOCH) / dt.timedelta(days=1), "TIME")
    if isinstance(value, dt.timedelta):
        return Cell(value / dt.timedelta(days=1), "TIME", "[h]:mm:ss")
    return Cell(value)


def error(text: str, formula: str = "=BAD()") -> Cell:
    """Return a cell with an error."""
    return Cell(text, formula=formula, error=True)


@dataclass
class Sheet:
    """A sheet of a spreadsheet.

    Attributes:
        kind: GRID, OBJECT (a chart) or DATA_SOURCE.
        merges: Merged cells: top, left, bottom and right, ends exclusive.
    """

    title: str
    number: int = 0
    rows: int = 1000
    columns: int = 26
    hidden: bool = False
    kind: str = "GRID"
    merges: list[tuple[int, int, int, int]] = field(default_factory=list)
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)

    def fill(self, rows: Iterable[Sequence[Any]], top: int = 0, left: int = 0) -> Sheet:
        """Put values into cells; None leaves them empty. The grid grows as it must."""
        for y, row in enumerate(rows, top):
            for x, value in enumerate(row, left):
                if value is not None:
                    self.put(y, x, value)
        return self

    def put(self, row: int, column: int, value: Any) -> None:
        """Put a value into a cell; None empties it."""
        if value is None:
            self.cells.pop((row, column), None)
        else:
            self.cells[row, column] = cell(value)
        self.rows, self.columns = max(self.rows, row + 1), max(self.columns, column + 1)

    def merge(self, top: int, left: int, bottom: int, right: int) -> None:
        """Merge cells: all but the upper left one lose their values."""
        self.merges.append((top, left, bottom, right))
        for y in range(top, bottom):
            for x in range(left, right):
                if (y, x) != (top, left):
                    self.cells.pop((y, x), None)

    def insert(self, row: int, count: int = 1) -> None:
        """Insert empty rows before a row."""
        self.cells = {(y + count if y >= row else y, x): one for (y, x), one in self.cells.items()}
        self.rows += count

    def remove(self, row: int, count: int = 1) -> None:
        """Delete rows."""
        kept = {key: one for key, one in self.cells.items() if not row <= key[0] < row + count}
        self.cells = {(y - count if y >= row else y, x): one for (y, x), one in kept.items()}
        self.rows -= count

    def at(self, row: int, column: int) -> Cell:
        """Return a cell."""
        return self.cells.get((row, column), _EMPTY)

    def formatted(self, row: int, column: int, **changes: Any) -> None:
        """Change something about a cell."""
        self.cells[row, column] = replace(self.at(row, column), **changes)


_EMPTY = Cell()


@dataclass
class Spreadsheet:
    """A spreadsheet.

    Attributes:
        shared: The accounts that may read it.
        named: Named ranges, as ``'Title'!A1:B2``.
        office: Whether it is a file of another program, which the API does not read.
    """

    id: str
    title: str
    sheets: list[Sheet] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    named: dict[str, str] = field(default_factory=dict)
    locale: str = "en_US"
    time_zone: str = "Europe/Berlin"
    office: bool = False

    def add(self, title: str, values: Iterable[Sequence[Any]] = (), **options: Any) -> Sheet:
        """Add a sheet with these values."""
        made = Sheet(title, 0 if not self.sheets else 1000 + len(self.sheets), **options).fill(values)
        self.sheets.append(made)
        return made


def _moment(serial: float, pattern: str) -> str:
    """Show a date, a time or a duration; m is a minute beside hours or seconds, else a month."""
    when = EPOCH + dt.timedelta(milliseconds=round(serial * 86_400_000))
    half = "am/pm" in pattern.lower()
    hour = (when.hour % 12 or 12) if half else when.hour
    parts = _PART.findall(pattern)
    text = ""
    for position, part in enumerate(parts):
        near = "".join(parts[max(0, position - 2) : position]) + "|" + "".join(parts[position + 1 : position + 3])
        lower = part.lower()
        minute = lower in ("m", "mm") and (
            "h" in near.lower().partition("|")[0] or "s" in near.lower().partition("|")[2]
        )
        text += {
            "[h]": str(int(serial * 24 + 1e-9)),
            "yyyy": f"{when.year:04}",
            "yy": f"{when.year % 100:02}",
            "mm": f"{when.minute if minute else when.month:02}",
            "m": str(when.minute if minute else when.month),
            "dd": f"{when.day:02}",
            "d": str(when.day),
            "hh": f"{hour:02}",
            "h": str(hour),
            "ss.000": f"{when.second:02}.{when.microsecond // 1000:03}",
            "ss": f"{when.second:02}",
            "s": str(when.second),
            "am/pm": "PM" if when.hour >= 12 else "AM",
        }.get(lower, part)
    return text
