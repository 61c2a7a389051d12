"""What a cell holds, and what becomes of it in a column of a type.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/cells#CellData (effectiveValue and
effectiveFormat), .../api/reference/rest/v4/DateTimeRenderOption (numbers of days since 1899-12-30),
.../spreadsheets/other#ErrorType.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeGuard

import pyarrow as pa

_EPOCH = dt.datetime(1899, 12, 30)
_DAY_MS = 86_400_000
# What the years 1 and 9999 begin and end with.
_FIRST, _LAST = -693_593, 2_958_465.99999
_LARGEST = 2**53
# Of each type, the kind of format that its numbers have.
_MOMENTS = {"date": "date", "time": "time", "timestamp": "timestamp", "duration": "time"}
_FORMATS = {"DATE": "date", "TIME": "time", "DATE_TIME": "timestamp"}
# Their numbers are whole by chance.
_FRACTIONAL = frozenset({"PERCENT", "CURRENCY", "SCIENTIFIC"})
ERRORS = {
    "NULL_VALUE": "#NULL!",
    "DIVIDE_BY_ZERO": "#DIV/0!",
    "VALUE": "#VALUE!",
    "REF": "#REF!",
    "NAME": "#NAME?",
    "NUM": "#NUM!",
    "N_A": "#N/A",
    "ERROR": "#ERROR!",
    "LOADING": "Loading...",
}
ERROR_TEXTS = frozenset(ERRORS.values())
TYPES: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "duration": pa.float64(),
    "text": pa.string(),
    "mixed": pa.string(),
}
NOTES = {
    "duration": "a number of days, as Sheets keeps it",
    "mixed": "cells of several types: text as it is, other values as JSON writes them",
}
WORDS = {
    "int": "whole numbers",
    "float": "numbers",
    "boolean": "TRUE and FALSE",
    "date": "dates",
    "time": "times of day",
    "timestamp": "dates with times",
    "duration": "durations",
    "text": "text",
    "error": "an error",
}


class Misfit(ValueError):
    """A value is not of the type that its column had when the sheet was planned."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A number of days that is shown as a date, a time or both."""

    kind: str
    days: float


@dataclass(frozen=True, slots=True)
class Fault:
    """An error, as it is shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Fraction:
    """A number that is shown as a percentage, an amount of money or with an exponent."""

    number: float


Cell = bool | int | float | str | Moment | Fault | Fraction | None


def from_data(data: Mapping[str, Any]) -> Cell:
    """Return the cell that a CellData describes; what is empty and empty text are both None."""
    value = data.get("effectiveValue")
    if not value:
        return None
    if "numberValue" in value:
        number = _number(value["numberValue"])
        shown = data.get("effectiveFormat", {}).get("numberFormat", {}).get("type", "")
        if shown in _FORMATS and _FIRST <= number < _LAST:
            return Moment(_FORMATS[shown], float(number))
        return Fraction(float(number)) if shown in _FRACTIONAL else number
    if "boolValue" in value:
        return bool(value["boolValue"])
    if "errorValue" in value:
        return Fault(ERRORS.get(value["errorValue"].get("type", ""), "#ERROR!"))
    return str(value.get("stringValue", "")) or None


def from_value(value: Any) -> Cell:
    """Return the cell of an answer with values that are neither formatted nor dates as text."""
    if value is None or value == "":
        return None
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float | Decimal):
        return _number(value)
    raise Misfit(f"a value of an unknown kind: {type(value).__name__}")


def kind(cell: Cell) -> str:
    """Return the type that a cell alone would give its column; "" for an empty one."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "boolean"
    if isinstance(cell, str):
        return "text"
    if isinstance(cell, int):
        return "int"
    if isinstance(cell, float | Fraction):
        return "float"
    if isinstance(cell, Fault):
        return "error"
    if cell.kind == "date" and not cell.days.is_integer():
        return "timestamp"
    if cell.kind == "time" and not 0 <= cell.days < 1:
        return "duration"
    return cell.kind


def convert(cell: Cell, wanted: str, *, loose: bool) -> Any:
    """Return the JSON value of a cell in a column.

    Args:
        loose: Whether dates come as numbers that do not say so.

    Raises:
        Misfit: It does not belong into such a column.
    """
    if cell is None:
        return None
    if wanted == "mixed":
        return shown(cell)
    own = kind(cell)
    if wanted in _MOMENTS:
        moment = Moment(_MOMENTS[wanted], float(cell)) if loose and _is_number(cell) else cell
        if isinstance(moment, Moment) and _holds(wanted, moment):
            return moment.days if wanted == "duration" else _iso(wanted, moment.days)
    elif wanted == "float" and own in ("int", "float"):
        return float(cell.number if isinstance(cell, Fraction) else cell)  # type: ignore[arg-type]
    elif own == wanted:
        return cell
    raise Misfit(f"{WORDS[own]} among {WORDS[wanted]}")


def shown(cell: Cell) -> str | None:
    """Return a cell as text: text as it is, the rest as JSON writes it."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, Fault):
        return cell.text
    if isinstance(cell, Moment):
        own = kind(cell)
        return json.dumps(_plain(cell.days)) if own == "duration" else str(_iso(own, cell.days))
    number = cell.number if isinstance(cell, Fraction) else cell
    return json.dumps(_plain(number) if isinstance(number, float) else number)


def _is_number(cell: Cell) -> TypeGuard[int | float]:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _holds(wanted: str, moment: Moment) -> bool:
    """Tell whether a moment is one of a column's, which is of the same kind or of a wider one."""
    if not _FIRST <= moment.days < _LAST:
        return False
    own = kind(moment)
    return own == wanted or (own, wanted) in (("date", "timestamp"), ("time", "duration"))


def _iso(wanted: str, days: float) -> str:
    # Sheets counts milliseconds; a double of this size is a little off them.
    moment = _EPOCH + dt.timedelta(milliseconds=round(days * _DAY_MS))
    if wanted == "date":
        return moment.date().isoformat()
    if wanted == "time":
        return moment.time().isoformat() if moment < _EPOCH + dt.timedelta(days=1) else "23:59:59.999999"
    return moment.isoformat()


def _number(value: Any) -> int | float:
    """Return a number of Sheets, which is a double, however many digits were sent."""
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= _LARGEST else number


def _plain(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) <= _LARGEST else number
