"""The statements that read what is newer than a cursor, in an order that never loses a row.

Rows are ordered by the cursor column and then by a hash of their key, so that a page may end between rows of an equal
cursor. A position in that order is the cursor's text and the hash. All values go to the database as texts that are
bound, and it casts them: so nothing is rounded on the way, whatever the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from connectors.sql.client import Client, Column, Statement, enclosed, find_column
from connectors.sql.dialect import Dialect
from connectors.sql.values import ready
from runner.errors import UsageError
from runner.naming import quote

_EXTRA = 4


class Line(NamedTuple):
    """A row that was read.

    Attributes:
        values: Its JSON-ready values, by column.
        raw: The driver's value of the cursor.
        cursor: The cursor's text.
        mark: The same, or the present moment where that is earlier.
        tie: What orders it among rows of an equal cursor.
        keep: Whether it lies behind the mark by no more than the lag.
    """

    values: dict[str, Any]
    raw: Any
    cursor: str
    mark: str
    tie: str
    keep: bool


@dataclass(frozen=True)
class Newer:
    """A query whose rows are read in the order of a column.

    Attributes:
        columns: Those of the query.
        column: The cursor.
        key: The columns that make a row unique; empty for all.
        lag: How far behind the newest row others may still come.
    """

    dialect: Dialect
    query: str
    columns: tuple[Column, ...]
    column: Column
    key: tuple[str, ...]
    lag: timedelta | int | None

    @classmethod
    async def of(
        cls, client: Client, query: str, column: str, key: Sequence[str], lag: timedelta | int | None
    ) -> Newer:
        """Ask the database about the columns and return the statements.

        Raises:
            RunnerError: The query is wrong, or has no such column.
            UsageError: The lag does not fit the column.
        """
        columns = await client.describe(query)
        found = find_column(columns, column)
        names = [one.name for one in columns]
        for name in names:
            if names.count(name) > 1:
                find_column(columns, name)
        wanted = {timedelta: ("date", "naive", "aware"), int: ("number",)}
        if lag is not None and found.kind not in wanted[type(lag)]:
            said = "a number" if isinstance(lag, int) else "a duration"
            raise UsageError(
                f"The lag is {said}, and {found.name} is of type {found.type}.",
                guidance="Give a duration for dates and times (5m), and a number for numbers; other types have no lag.",
            )
        if not found.exact:
            raise UsageError(
                f"{found.name} is of type {found.type}, whose texts are not exact here.",
                guidance="Cast it to a number with digits in the query.",
            )
        keys = tuple(find_column(columns, name).name for name in key)
        return cls(client.dialect, query, columns, found, keys, lag or None)

    def top(self, floor: str | None) -> Statement:
        """Return the statement of the newest cursor, and of the mark that it makes."""
        bound = _Bound(self)
        newest = f"max({self._column})"
        mark = self.dialect.capped(newest, self.column.kind, self.column.type)
        where = f" where {self._column} > {bound(floor)}" if floor is not None else ""
        select = f"select {self.dialect.text(newest)}, {self.dialect.text(mark)}"
        return Statement(f"{select} from {enclosed(self.query)}{where}", tuple(bound.parameters))

    def page(
        self,
        *,
        since: str | None,
        floor: str | None,
        after: tuple[str, str] | None = None,
        top: str | None = None,
        mark: str | None = None,
        limit: int,
    ) -> Statement:
        """Return the statement of the next rows.

        Args:
            since: A mark: rows that are older by no more than the lag are read again.
            floor: Only newer ones, however long the lag.
            after: The position of the last row of the page before.
            top: No newer ones.
            mark: Rows older than that by more than the lag are not kept in mind.
        """
        # Some databases know a parameter only by where it stands: they are bound in the order of the text.
        bound, text = _Bound(self), self.dialect.text
        capped = self.dialect.capped(self._column, self.column.kind, self.column.type)
        tie = self.dialect.digest("_asked", [column.name for column in self.columns], self.key)
        keep = f"case when {self._column} >= {self._behind(bound(mark))} then 1 else 0 end" if mark else "1"
        select = f"select _asked.*, {text(self._column)}, {text(capped)}, {tie}, {keep}"
        where = [f"{self._column} is not null"]
        if after is not None:
            where.append(f"{self._column} >= {bound(after[0])}")
            newer = f"{self._column} > {bound(after[0])}"
            equal = f"{self._column} = {bound(after[0])} and {tie} > {bound(after[1], raw=True)}"
            where.append(f"({newer} or ({equal}))")
        elif since is not None:
            where.append(f"{self._column} >= {self._behind(bound(since))}")
        if floor is not None:
            where.append(f"{self._column} > {bound(floor)}")
        if top is not None:
            where.append(f"{self._column} <= {bound(top)}")
        order = f"order by {self._column}, {tie} limit {limit}"
        return Statement(
            f"{select} from {enclosed(self.query)} where {' and '.join(where)} {order}", tuple(bound.parameters)
        )

    def line(self, row: Sequence[Any]) -> Line:
        """Return a row of a page."""
        *values, cursor, mark, tie, keep = row
        assert len(row) == len(self.columns) + _EXTRA
        names = [column.name for column in self.columns]
        spelled = [self.dialect.spelled(name) for name in names]
        return Line(
            dict(zip(spelled, map(ready, values), strict=True)),
            values[names.index(self.column.name)],
            cursor,
            mark,
            tie,
            bool(keep),
        )

    @property
    def _column(self) -> str:
        return f"_asked.{quote(self.column.name)}"

    def _behind(self, place: str) -> str:
        if self.lag is None:
            return place
        return self.dialect.less(place, self.column.kind, self.column.type, self.lag)


class _Bound:
    """Parameters in the order in which they stand."""

    def __init__(self, newer: Newer) -> None:
        self._newer = newer
        self.parameters: list[str] = []

    def __call__(self, text: str, *, raw: bool = False) -> str:
        self.parameters.append(text)
        place = self._newer.dialect.place(len(self.parameters))
        return place if raw else f"cast({place} as {self._newer.column.type})"
