"""Which columns a range has: their names from a header, their types from every cell below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.sheets.cells import ERROR_TEXTS, NOTES, TYPES, Cell, Fault, kind, shown
from runner.source import Column

_NUMBERS = frozenset({"int", "float"})
_DAYS = frozenset({"date", "timestamp"})
_TIMES = frozenset({"time", "duration"})


@dataclass
class Seen:
    """What was seen of one column."""

    kinds: set[str] = field(default_factory=set)
    error: tuple[int, str] | None = None
    like_error: bool = False

    def see(self, row: int, cell: Cell) -> None:
        """Take one cell into account."""
        own = kind(cell)
        if own == "error":
            assert isinstance(cell, Fault)
            self.error = self.error or (row, cell.text)
        elif own:
            self.kinds.add(own)
            self.like_error = self.like_error or (own == "text" and cell in ERROR_TEXTS)

    @property
    def kind(self) -> str:
        """The type of the column."""
        kinds = self.kinds
        if not kinds:
            return "text"
        if len(kinds) == 1:
            return next(iter(kinds))
        for group, whole in ((_NUMBERS, "float"), (_DAYS, "timestamp"), (_TIMES, "duration")):
            if kinds <= group:
                return whole
        return "mixed"


@dataclass
class Shape:
    """What was seen of a range, row by row.

    Attributes:
        header: Its header's cells, once they were seen; None where it has none.
        filled: How many rows below the header are not empty.
        last: The row after the last one that is not empty.
    """

    header: list[Cell] | None = None
    columns: list[Seen] = field(default_factory=list)
    filled: int = 0
    last: int = 0

    def see(self, row: int, cells: Sequence[Cell]) -> None:
        """Take a row below the header into account."""
        if all(cell is None for cell in cells):
            return
        self.filled += 1
        self.last = row + 1
        while len(self.columns) < len(cells) and any(cell is not None for cell in cells[len(self.columns) :]):
            self.columns.append(Seen())
        for seen, cell in zip(self.columns, cells, strict=False):
            seen.see(row, cell)

    @property
    def width(self) -> int:
        """How many columns it has: up to the last that has a name or a value."""
        used = [position for position, seen in enumerate(self.columns, 1) if seen.kinds or seen.error is not None]
        named = [position for position, cell in enumerate(self.header or (), 1) if cell is not None]
        return max([0, *used, *named])

    def exact(self) -> bool:
        """Tell whether values alone say enough: no errors, nothing that looks like one, no dates in mixed columns."""
        return not any(
            seen.error is not None or seen.like_error or (seen.kind == "mixed" and seen.kinds & (_DAYS | _TIMES))
            for seen in self.columns
        )

    def described(self, given: Sequence[str] | None) -> tuple[Column, ...]:
        """Return the columns.

        Args:
            given: Names that stand in for the header.
        """
        width = max(self.width, len(given or ()))
        seen = [*self.columns, *(Seen() for _ in range(width))][:width]
        titles = list(given) if given is not None else [title(cell) for cell in self.header or ()]
        found = []
        for name, one in zip(unique([*titles, *[""] * width][:width]), seen, strict=True):
            found.append(Column(name, TYPES[one.kind], True, one.kind, note=NOTES.get(one.kind)))
        return tuple(found)


def title(cell: Cell) -> str:
    """Return the name that a cell of a header gives: its text in one line."""
    return " ".join((shown(cell) or "").split())


def unique(titles: Sequence[str]) -> list[str]:
    """Return names that differ, also where case does not count: column_3 for none, name_2 for a second one."""
    taken = {one.casefold() for one in titles if one}
    used: set[str] = set()
    names = []
    for position, one in enumerate(titles, 1):
        name = one or f"column_{position}"
        number = 2
        stem = name
        while name.casefold() in used or (name != one and name.casefold() in taken):
            name = f"{stem}_{number}"
            number += 1
        used.add(name.casefold())
        names.append(name)
    return names
