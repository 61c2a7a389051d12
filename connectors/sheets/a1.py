"""A1 notation: how ranges and cells are named.

Facts: developers.google.com/workspace/sheets/api/guides/concepts#cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"([A-Za-z]{1,3})?(\d+)?(?::([A-Za-z]{1,3})?(\d+)?)?")


@dataclass(frozen=True)
class Area:
    """A rectangle of a sheet, counted from 0; ends are exclusive."""

    title: str
    top: int
    left: int
    bottom: int
    right: int

    @property
    def width(self) -> int:
        """How many columns it has."""
        return self.right - self.left

    def rows(self, top: int, bottom: int | None) -> str:
        """Return the range of some of its rows; without an end to the end of the sheet, however long that is now."""
        last = "" if bottom is None else str(bottom)
        return f"{quoted(self.title)}!{letters(self.left)}{top + 1}:{letters(self.right - 1)}{last}"

    def cell(self, row: int, column: int) -> str:
        """Return the name of a cell, as people say it."""
        return f"{quoted(self.title)}!{letters(self.left + column)}{row + 1}"


def quoted(title: str) -> str:
    """Return a sheet's title as a range names it: in quotes it is never taken for a cell or a named range."""
    return "'" + title.replace("'", "''") + "'"


def unquoted(text: str) -> str:
    """Return the title that a range names."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def letters(column: int) -> str:
    """Return the letters of a column."""
    text = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(65 + rest) + text
    return text


def number(text: str) -> int:
    """Return the number of a column's letters."""
    found = 0
    for letter in text.upper():
        found = found * 26 + ord(letter) - 64
    return found - 1


def bounds(text: str) -> tuple[int, int, int | None, int | None] | None:
    """Return top, left, bottom and right of a range without its sheet; None for an open end, or for no range."""
    hit = _RANGE.fullmatch(text)
    if not hit or not text:
        return None
    left, top, right, bottom = hit.groups()
    if ":" not in text:
        if left is None or top is None:
            return None
        right, bottom = left, top
    elif (left is None) != (right is None) or (left is None and top is None):
        return None
    rows = [int(one) for one in (top, bottom) if one]
    if 0 in rows:
        return None
    columns = sorted(number(one) for one in (left, right) if one)
    return (
        min(rows) - 1 if top else 0,
        columns[0] if columns else 0,
        max(rows) if bottom else None,
        columns[-1] + 1 if columns else None,
    )
