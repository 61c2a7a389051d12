"""A DuckDB file asked a question: opened, asked, closed, so that whoever writes it can.

Facts: duckdb.org/docs, "Concurrency" (one process may write, or several may read), "Python, Reference" (interrupt).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel, ConfigDict, Field

from connectors.sql.client import Column, Kind, Rows, enclosed
from connectors.sql.dialect import Dialect
from connectors.sql.threads import run
from runner.errors import (
    DatabaseMissing,
    RequestRefused,
    RunnerError,
    SourceBusy,
    SourceDown,
    SourceRefused,
    TableMissing,
    Undecodable,
)
from runner.secrets import redact
from runner.units import Duration, Size

_THREADS = 4
FoundT = TypeVar("FoundT")


class DuckDBConfig(BaseModel):
    """The keys of a source of type duckdb, for sensors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="the database file, relative to the working directory")
    statement_timeout: Duration = timedelta(minutes=5)
    memory: Size = Field(512 * 2**20, description="what one question may take")


class DuckDBClient:
    """A file; implements ``connectors.sql.client.Client``."""

    config_model = DuckDBConfig
    dialect = Dialect()

    def __init__(self, config: DuckDBConfig) -> None:
        self._config = config
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def ask(self, statement: str, parameters: Sequence[str] = (), *, limit: int) -> Rows:
        def read(connection: Any) -> Rows:
            answer = connection.execute(statement, list(parameters))
            return Rows(tuple(column[0] for column in answer.description), answer.fetchmany(limit))

        return await self._in_thread(read)

    async def describe(self, query: str) -> tuple[Column, ...]:
        def read(connection: Any) -> tuple[Column, ...]:
            answer = connection.execute(f"select * from {enclosed(query)} limit 0")
            return tuple(_column(name, str(kind)) for name, kind, *_ in answer.description)

        return await self._in_thread(read)

    async def close(self) -> None:
        """Do nothing: the file is held only while it is asked."""

    async def _in_thread(self, read: Callable[[Any], FoundT]) -> FoundT:
        question = _Question(self._config)
        seconds = self._config.statement_timeout.total_seconds() or None
        return await run(lambda: question.ask(read), question.stop, threads=self._threads, seconds=seconds)


class _Question:
    """One opening of the file."""

    def __init__(self, config: DuckDBConfig) -> None:
        self._config = config
        self._connection: Any = None

    def ask(self, read: Callable[[Any], FoundT]) -> FoundT:
        import duckdb

        path = Path(self._config.path).resolve()
        if not path.is_file():
            raise DatabaseMissing(f"There is no DuckDB file {path}.", guidance="Check the path of the source.")
        settings: dict[str, Any] = {
            "threads": "1",
            "memory_limit": f"{self._config.memory // 2**20}MiB",
            # A table that is called time is no variable of ours.
            "python_enable_replacements": "false",
        }
        try:
            # By closing it the file is let go, whatever happened.
            with contextlib.closing(duckdb.connect(str(path), read_only=True, config=settings)) as connection:
                connection.execute("set TimeZone = 'UTC'")
                self._connection = connection
                return read(connection)
        except duckdb.Error as error:
            raise _translated(error, path) from error
        finally:
            self._connection = None

    def stop(self) -> None:
        connection = self._connection
        if connection is not None:
            # It may have been closed meanwhile.
            with contextlib.suppress(Exception):
                connection.interrupt()


def _column(name: str, kind: str) -> Column:
    found: Kind = "other"
    if kind in ("DATE", "TIMESTAMP WITH TIME ZONE"):
        found = "date" if kind == "DATE" else "aware"
    elif kind.startswith("TIMESTAMP"):
        found = "naive"
    elif kind.startswith("DECIMAL(") or kind in ("FLOAT", "DOUBLE") or kind.endswith(("INT", "INTEGER")):
        found = "number"
    return Column(name, kind, found)


def _translated(error: Exception, path: Path) -> RunnerError:
    import duckdb

    text = redact(str(error)).strip()
    # What follows quotes the statement. A name that is near is on a line of its own.
    first = " ".join(text.partition("LINE 1:")[0].split())
    lower = text.lower()
    if "set lock on file" in lower or "different configuration" in lower:
        return SourceBusy(f"Another program writes to the DuckDB file {path}.")
    if isinstance(error, duckdb.CatalogException):
        return TableMissing(f"DuckDB: {first}", guidance="Check its name and its schema.")
    if isinstance(error, duckdb.IOException):
        if "not a valid duckdb database" in lower:
            return SourceRefused(f"{path} is not a DuckDB database.", guidance="Check the path of the source.")
        return SourceDown(f"DuckDB: {first}")
    if isinstance(error, duckdb.BinderException | duckdb.ParserException | duckdb.ConversionException):
        return RequestRefused(f"DuckDB: {first}", guidance="Check the query: DuckDB says what is wrong.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return RequestRefused(f"DuckDB: {first}", guidance="Select less, or raise `memory` of the source.")
    if isinstance(error, duckdb.InvalidInputException) and "timestamp" in lower:
        return Undecodable(f"DuckDB: {first}", guidance="Select the column as text.")
    return RequestRefused(f"DuckDB: {first}", guidance="Check the query: DuckDB says what is wrong.")
