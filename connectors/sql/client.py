"""What every client of a database offers: ask a question, and say which columns a question has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel

from connectors.sql.dialect import Dialect
from runner.errors import RequestRefused

# A semicolon and what may follow it: comments, but nothing that could be the end of a string.
_END = re.compile(r"(;(\s|--[^\n'\"]*(\n|$)|/\*[^'\"]*?\*/)*)+$")
Kind = Literal["number", "date", "naive", "aware", "other"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer.

    Attributes:
        name: As the database spells it.
        type: What a text is cast to so that it compares with the column.
        kind: What can be added to it: numbers, days, times without and with a zone.
        exact: Whether a text of a value becomes the same value again.
    """

    name: str
    type: str
    kind: Kind
    exact: bool = True


class Statement(NamedTuple):
    """A statement and the texts that are bound to its parameters."""

    text: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer: the driver's own values, row by row."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


class Client(Protocol):
    """A database that can be asked; it mends itself and serves many at once.

    Attributes:
        config_model: The keys of its source, of which it is made.
        dialect: How its statements are written.
    """

    config_model: ClassVar[type[BaseModel]]

    @property
    def dialect(self) -> Dialect: ...

    async def ask(self, statement: str, parameters: Sequence[str] = (), *, limit: int) -> Rows:
        """Ask once, read-only where the database has that; to be cancelled ends the statement at the database too.

        Args:
            statement: One statement.
            parameters: Texts that are bound, never pasted; the statement casts them.
            limit: No more rows than that are read.

        Raises:
            RunnerError: What kept it from answering, in words.
        """
        ...

    async def describe(self, query: str) -> tuple[Column, ...]:
        """Return the columns of a query without running it.

        Raises:
            RunnerError: The query is wrong.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


def enclosed(query: str) -> str:
    """Return a query as a table of another one; nothing but a SELECT can stand there."""
    # The line end closes a comment on its last line.
    return f"(\n{_END.sub('', query).strip()}\n) as _asked"


def find_column(columns: Sequence[Column], name: str) -> Column:
    """Return the column of that name, in any case where only one is meant.

    Raises:
        RequestRefused: There is none; the nearest name is said.
    """
    exact = [column for column in columns if column.name == name]
    found = exact or [column for column in columns if column.name.lower() == name.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise RequestRefused(
            f"There are {len(found)} columns named {name!r}.", guidance="Give each a name of its own in the query."
        )
    near = difflib.get_close_matches(name.lower(), [column.name.lower() for column in columns], 1, 0.5)
    spelled = next((column.name for column in columns if near and column.name.lower() == near[0]), None)
    known = ", ".join(column.name for column in columns[:20]) + (", …" if len(columns) > 20 else "")
    hint = f"Did you mean {spelled!r}? " if spelled else ""
    raise RequestRefused(f"There is no column {name!r}.", guidance=f"{hint}There are: {known}.")
