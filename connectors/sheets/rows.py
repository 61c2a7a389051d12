"""The rows of a table: cells of a window as the objects that its columns say, or the cell that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.sheets.a1 import Area
from connectors.sheets.cells import ERROR_TEXTS, Cell, Fault, Misfit, Moment, convert, from_value, shown
from runner.errors import TableWidened, Undecodable
from runner.source import Scan, Table


def area_of(table: Table) -> Area:
    """Return where a table is."""
    detail = table.detail
    return Area(detail["title"], detail["top"], detail["left"], detail["bottom"], detail["right"])


def heading(cells: Sequence[Cell], width: int) -> list[str]:
    """Return a header as it is compared: dates as numbers, which is all that an answer of values has."""
    plain = [cell.days if isinstance(cell, Moment) else cell for cell in cells[:width]]
    return [shown(cell) or "" for cell in plain] + [""] * (width - len(plain))


def header_changed(table: Table) -> TableWidened:
    """Return the error of a header that is not that of the plan."""
    return TableWidened(
        f"{table.qualified}: its header is not what it was.",
        guidance="Run the same command again; where it always changes, name the columns (header: [a, b]).",
        table=table.qualified,
    )


class Rows:
    """Makes rows of one scan.

    Args:
        loose: Whether values come alone, without their types.
    """

    def __init__(self, scan: Scan, *, loose: bool) -> None:
        self._scan = scan
        self._loose = loose
        self._area = area_of(scan.table)
        self._width = len(scan.table.columns)
        positions = {column.name: position for position, column in enumerate(scan.table.columns)}
        self._columns = [(positions[one.name], one.name, one.native, one.rule) for one in scan.columns]

    def check_header(self, line: Sequence[Any]) -> None:
        """Compare the header with that of the plan.

        Raises:
            TableWidened: It is another.
        """
        table = self._scan.table
        if heading(self._cells(line), self._width) != table.detail["heading"]:
            raise header_changed(table)

    def objects(self, lines: Sequence[Sequence[Any]], top: int) -> list[dict[str, Any]]:
        """Return lines that are not empty, from the row ``top`` on, as objects.

        Raises:
            TableWidened: A cell is not of the type that its column had.
            Undecodable: A cell has an error.
        """
        found = []
        for number, line in enumerate(lines, top):
            cells = self._cells(line)
            if any(cell is not None for cell in cells[self._width :]):
                self._changed(number, self._width, "a value where there was no column")
            if any(cell is not None for cell in cells):
                found.append(self._object(number, cells))
        return found

    def _cells(self, line: Sequence[Any]) -> Sequence[Cell]:
        return [from_value(value) for value in line] if self._loose else line

    def _object(self, number: int, cells: Sequence[Cell]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for position, name, native, rule in self._columns:
            cell = cells[position] if position < len(cells) else None
            if cell is None:
                continue
            if isinstance(cell, Fault):
                row[name] = self._error(number, position, cell, rule)
                continue
            if rule is None and self._loose and isinstance(cell, str) and cell in ERROR_TEXTS:
                self._changed(number, position, f"{cell}, which was not there")
            value = cell
            try:
                value = convert(cell, native, loose=self._loose)
            except Misfit as misfit:
                if rule is None:
                    self._changed(number, position, str(misfit))
            row[name] = value if rule is None else shown(value)
        return row

    def _error(self, number: int, position: int, cell: Fault, rule: str | None) -> str | None:
        """Return what becomes of an error: NULL where the job file asks for it, its text in a column of text."""
        if self._scan.special == "null":
            return None
        if rule == "text":
            return cell.text
        table = self._scan.table
        where = self._area.cell(number, position)
        raise Undecodable(
            f"{table.qualified}: the cell {where} ({table.columns[position].name}) has the error {cell.text}.",
            guidance="Correct it, move the column as text (columns: {name: text}), or set `special: 'null'` for NULL.",
            table=table.qualified,
        )

    def _changed(self, number: int, position: int, words: str) -> None:
        name = self._scan.table.qualified
        where = self._area.cell(number, position)
        raise TableWidened(
            f"{name}: the cell {where} has {words}.",
            guidance="Run the same command again; a column that always changes can be text (columns: {name: text}).",
            table=name,
        )
