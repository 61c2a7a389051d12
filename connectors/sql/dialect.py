"""How databases write what we ask them.

Facts: postgresql.org/docs/current (Functions, String, Date/Time; "Row Constructors": a row is cast to text);
duckdb.org/docs (SQL, Functions; Timestamp); docs.snowflake.com (DATEADD, CURRENT_TIMESTAMP, Identifier requirements).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from runner.errors import UsageError
from runner.naming import quote

_PARTS = re.compile(r'\s*("(?:[^"]|"")*"|[^."]+)\s*(\.|$)')
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
# A time without a zone may be that of any place on earth: the first to see a day are at UTC+14.
_AHEAD = timedelta(hours=14)


class Dialect:
    """The SQL that PostgreSQL and DuckDB both speak; the clients of others change what differs."""

    text_type = "varchar"
    now = "current_timestamp"

    def name(self, part: str) -> str:
        """Return one part of a name as it is written in a job file, quoted."""
        return quote(part)

    def spelled(self, column: str) -> str:
        """Return the name by which templates find a column of an answer."""
        return column

    def table(self, name: str) -> str:
        """Return a table's name of one to three parts, quoted.

        Raises:
            UsageError: It is no name.
        """
        parts: list[str] = []
        position, more = 0, True
        while more and (match := _PARTS.match(name, position)):
            part = match[1].strip()
            # Between quotes it is exact already.
            parts.append(part if part.startswith('"') else self.name(part))
            position, more = match.end(), bool(match[2])
        if more or position != len(name) or len(parts) > 3:
            raise UsageError(f"{name!r} is not the name of a table.", guidance="Write it as schema.table.")
        return ".".join(parts)

    def place(self, number: int) -> str:
        """Return the place of a parameter, the first is 1, as a text."""
        return f"cast(${number} as {self.text_type})"

    def text(self, expression: str) -> str:
        """Return an expression as a text that is exact."""
        return f"cast({expression} as {self.text_type})"

    def less(self, expression: str, kind: str, type_: str, by: timedelta | int) -> str:
        """Return an expression less a lag: a duration for dates and times, else a number."""
        if isinstance(by, int):
            return f"cast({expression} - {by} as {type_})"
        return f"cast({self._moved(expression, -by)} as {type_})"

    def capped(self, expression: str, kind: str, type_: str) -> str:
        """Return an expression, or the present moment where that is earlier; numbers and texts as they are."""
        if kind not in ("date", "naive", "aware"):
            return expression
        now = self.now if kind == "aware" else self._moved(self._utc(), _AHEAD)
        return f"least({expression}, cast({now} as {type_}))"

    def digest(self, alias: str, columns: Sequence[str], key: Sequence[str]) -> str:
        """Return a text that orders rows whose cursors are equal: of the key's columns, or of all."""
        row = f"row({', '.join(f'{alias}.{quote(name)}' for name in key)})" if key else alias
        return f"md5({self.text(row)})"

    def _moved(self, expression: str, by: timedelta) -> str:
        return f"({expression} + interval '{int(by.total_seconds() * 1000)} milliseconds')"

    def _utc(self) -> str:
        return f"cast(({self.now} at time zone 'UTC') as timestamp)"


class Postgres(Dialect):
    """PostgreSQL."""

    text_type = "text"


class Snowflake(Dialect):
    """Snowflake, whose names are upper case unless they are quoted."""

    now = "current_timestamp()"

    def name(self, part: str) -> str:
        return quote(part.upper() if _PLAIN.fullmatch(part) else part)

    def spelled(self, column: str) -> str:
        return column.lower() if _PLAIN.fullmatch(column.lower()) and column.isupper() else column

    def place(self, number: int) -> str:
        return "?"

    def digest(self, alias: str, columns: Sequence[str], key: Sequence[str]) -> str:
        texts = (self.text(f"{alias}.{quote(name)}") for name in (key or columns))
        # With its length before it, a value cannot pass for two.
        parts = [f"coalesce({self.text(f'length({text})')} || ':' || {text}, '-')" for text in texts]
        return f"md5({' || '.join(parts)})"

    def _moved(self, expression: str, by: timedelta) -> str:
        return f"dateadd(millisecond, {int(by.total_seconds() * 1000)}, {expression})"

    def _utc(self) -> str:
        return f"cast(convert_timezone('UTC', {self.now}) as timestamp_ntz)"
