"""Small tables that are waiting to be read come together, in one request for many ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from connectors.http import Http
from connectors.sheets.questions import ask_values
from connectors.sheets.survey import LONGEST, cost
from runner.errors import TableChanged
from runner.source import Table


class Ahead:
    """Values of whole tables, some of them before they are asked for.

    Args:
        cells: About so many are held at most.
        range_of: Returns the range of a table.
    """

    def __init__(self, http: Http, cells: int, range_of: Callable[[Table], str]) -> None:
        self._http = http
        self._cells = cells
        self._range_of = range_of
        self._expected: dict[str, Table] = {}
        self._read: dict[str, list[list[Any]]] = {}
        self._turn = anyio.Lock()

    def expect(self, table: Table) -> None:
        """Note that a table will be read; what was read of it before belongs to another plan."""
        self._read.pop(table.qualified, None)
        self._expected[table.qualified] = table

    async def take(self, table: Table) -> list[list[Any]]:
        """Return the values of a table, and read others that fit into the same request."""
        # One at a time: whoever waits may be read by the one before it.
        async with self._turn:
            found = self._read.pop(table.qualified, None)
            if found is None:
                group = self._group(table)
                try:
                    answers = await self._ask(group)
                except TableChanged:
                    if len(group) == 1:
                        raise
                    # It may be one of the others that is gone: each finds out for itself.
                    group = [table]
                    answers = await self._ask(group)
                self._read.update(zip((one.qualified for one in group), answers, strict=True))
                found = self._read.pop(table.qualified)
            return found

    async def _ask(self, group: list[Table]) -> list[list[list[Any]]]:
        ranges = [self._range_of(one) for one in group]
        answers = await ask_values(self._http, group[0].detail["spreadsheet"], ranges)
        for one in group:
            self._expected.pop(one.qualified, None)
        return answers

    def _group(self, table: Table) -> list[Table]:
        group = [table]
        held = sum(map(len, self._read.values()))
        size, length = _cells(table) + held, cost(self._range_of(table))
        for one in self._expected.values():
            if one.qualified == table.qualified or one.detail["spreadsheet"] != table.detail["spreadsheet"]:
                continue
            size, length = size + _cells(one), length + cost(self._range_of(one))
            if size > self._cells or length > LONGEST:
                break
            group.append(one)
        return group


def _cells(table: Table) -> int:
    return int((table.detail["last"] - table.detail["top"] + 1) * len(table.columns))
