"""Snowflake asked a question: few sessions of its own driver in threads, cancelled at the service.

Facts: docs.snowflake.com, "Using the Python Connector" (qmark binding is done by the server), "Python Connector API"
(execute: timeout cancels the query), SYSTEM$CANCEL_ALL_QUERIES, STATEMENT_TIMEOUT_IN_SECONDS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from pydantic import Field

from connectors.sql.client import Column, Kind, Rows, enclosed
from connectors.sql.dialect import Dialect, Snowflake
from connectors.sql.threads import SLOW, run
from runner.errors import (
    DestinationBusy,
    DestinationDown,
    RequestRefused,
    RunnerError,
    SourceBusy,
    SourceDown,
    StatementTooLong,
    TableMissing,
)
from runner.units import Duration
from runner.writers.snowflakelogin import SnowflakeConfig as Login
from runner.writers.snowflakelogin import contact_error, login_arguments, translated

_SESSIONS = 4
_TIMES = "YYYY-MM-DD HH24:MI:SS.FF9"
FoundT = TypeVar("FoundT")


class SnowflakeConfig(Login):
    """The keys of a source of type snowflake, for sensors: those of the destination, and these."""

    schema_: str = Field("", alias="schema", description="the schema of names that have none")
    statement_timeout: Duration = timedelta(minutes=5)


class SnowflakeClient:
    """A database; implements ``connectors.sql.client.Client``."""

    config_model = SnowflakeConfig
    dialect: Dialect = Snowflake()

    def __init__(self, config: SnowflakeConfig) -> None:
        self._config = config
        self._threads = anyio.CapacityLimiter(_SESSIONS)
        self._idle: list[Any] = []
        self._contacted = False
        self._seconds = config.statement_timeout.total_seconds() or None

    async def ask(self, statement: str, parameters: Sequence[str] = (), *, limit: int) -> Rows:
        def read(cursor: Any) -> Rows:
            self._execute(cursor, statement, parameters)
            names = tuple(column.name for column in cursor.description)
            return Rows(names, [tuple(row) for row in cursor.fetchmany(limit)])

        return await self._in_thread(read)

    async def describe(self, query: str) -> tuple[Column, ...]:
        def read(cursor: Any) -> tuple[Column, ...]:
            self._execute(cursor, f"select * from {enclosed(query)} limit 0", ())
            return tuple(_column(column) for column in cursor.description)

        return await self._in_thread(read)

    async def close(self) -> None:
        """Close the sessions that are idle."""
        idle, self._idle = self._idle, []

        def close() -> None:
            for session in idle:
                with contextlib.suppress(Exception):
                    session.close()

        with anyio.move_on_after(5, shield=True):
            await to_thread.run_sync(close, abandon_on_cancel=True)

    def _execute(self, cursor: Any, statement: str, parameters: Sequence[str]) -> None:
        timeout = None if self._seconds is None else max(1, int(self._seconds))
        cursor.execute(statement, tuple(parameters) or None, timeout=timeout)

    async def _in_thread(self, read: Callable[[Any], FoundT]) -> FoundT:
        held: list[Any] = []

        def work() -> FoundT:
            import snowflake.connector as driver

            try:
                held.append(self._idle.pop() if self._idle else self._connect())
                with held[0].cursor() as cursor:
                    found = read(cursor)
            except driver.errors.Error as error:
                raise _found(error) from error
            self._idle.append(held[0])
            return found

        def stop() -> None:
            for session in held:
                # The session that is at work is asked by another cursor: its own does not know the query's id yet.
                with contextlib.suppress(Exception), session.cursor() as cursor:
                    cursor.execute(f"select system$cancel_all_queries({int(session.session_id)})", timeout=2)

        # The service ends what is too long; ours is for a service that is gone.
        seconds = None if self._seconds is None else self._seconds + 30
        return await run(work, stop, threads=self._threads, seconds=seconds, again=1.0)

    def _connect(self) -> Any:
        import snowflake.connector as driver

        config = self._config
        arguments = login_arguments(config, config.schema_, Path())
        arguments["session_parameters"] |= {
            "QUERY_TAG": '{"application": "orchestra-runner"}',
            "TIMESTAMP_NTZ_OUTPUT_FORMAT": _TIMES,
            "TIMESTAMP_LTZ_OUTPUT_FORMAT": f"{_TIMES} TZHTZM",
            "TIMESTAMP_TZ_OUTPUT_FORMAT": f"{_TIMES} TZHTZM",
            **({"STATEMENT_TIMEOUT_IN_SECONDS": max(1, int(self._seconds))} if self._seconds else {}),
        }
        if not config.schema_:
            del arguments["schema"]
        try:
            session = driver.connect(**arguments, paramstyle="qmark")
        except driver.errors.Error as error:
            found = contact_error(error, contacted=self._contacted)
            raise (SourceDown(found.message) if isinstance(found, DestinationDown) else found) from error
        self._contacted = True
        return session


def _column(column: Any) -> Column:
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    name = FIELD_ID_TO_NAME[column.type_code]
    kinds: dict[str, Kind] = {
        "FIXED": "number",
        "REAL": "number",
        "DATE": "date",
        "TIMESTAMP": "naive",
        "TIMESTAMP_NTZ": "naive",
        "TIMESTAMP_LTZ": "aware",
        "TIMESTAMP_TZ": "aware",
    }
    types = {"FIXED": f"number(38, {column.scale or 0})", "REAL": "float", "TIMESTAMP": "timestamp_ntz"}
    # A text of a floating-point number has fewer digits there than the number.
    return Column(column.name, types.get(name, name.lower()), kinds.get(name, "other"), exact=name != "REAL")


def _found(error: Any) -> RunnerError:
    number = int(getattr(error, "errno", 0) or 0)
    found = translated(error)
    # docs.snowflake.com: 2003 does not exist or not authorized; 604 cancelled, 630 the statement's time-out.
    if number == 2003:
        return TableMissing(found.message, guidance="Check its name, and that the role may use and select it.")
    if number in (604, 630):
        return StatementTooLong(found.message, guidance=SLOW)
    if isinstance(found, DestinationDown):
        return SourceDown(found.message)
    if isinstance(found, DestinationBusy):
        return SourceBusy(found.message)
    return RequestRefused(found.message, guidance=found.advice or "Check the query: Snowflake says what is wrong.")
