"""PostgreSQL asked a question: few connections, read-only transactions, cancelled at the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import asyncpg

from connectors.postgres.config import PostgresConfig
from connectors.postgres.connection import Connections
from connectors.sql.client import Column, Kind, Rows, enclosed
from connectors.sql.dialect import Dialect, Postgres
from connectors.sql.threads import SLOW
from runner.errors import (
    PermissionMissing,
    RequestRefused,
    SourceDown,
    SourceError,
    StatementTooLong,
    TableChanged,
    TableMissing,
    Undecodable,
)
from runner.naming import quote

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8"), "number"),
    "date": "date",
    "timestamp": "naive",
    "timestamptz": "aware",
}
_CANCEL_SECONDS = 5.0


class PostgresClient:
    """A server; implements ``connectors.sql.client.Client``."""

    config_model = PostgresConfig
    dialect: Dialect = Postgres()

    def __init__(self, config: PostgresConfig) -> None:
        self._connections = Connections(config)

    async def ask(self, statement: str, parameters: Sequence[str] = (), *, limit: int) -> Rows:
        async with self._session() as connection:
            # Without a name: a pooler gives the next transaction another server's session.
            prepared = await connection.prepare(statement, name="")
            cursor = await prepared.cursor(*parameters)
            records = await cursor.fetch(limit)
            names = tuple(attribute.name for attribute in prepared.get_attributes())
            return Rows(names, [tuple(record) for record in records])

    async def describe(self, query: str) -> tuple[Column, ...]:
        async with self._session() as connection:
            prepared = await connection.prepare(f"select * from {enclosed(query)}", name="")
            return tuple(_column(attribute) for attribute in prepared.get_attributes())

    async def close(self) -> None:
        """Close what is idle."""
        await self._connections.close()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        try:
            async with self._connections.transaction() as connection:
                try:
                    yield connection
                except anyio.get_cancelled_exc_class():
                    # The driver has asked the server to cancel, and forgets about it if it is merely cut off.
                    with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
                        await connection.close(timeout=_CANCEL_SECONDS)
                    raise
        except SourceDown:
            # Those that lie idle were lost with it.
            await self._connections.close()
            raise
        except StatementTooLong as error:
            raise StatementTooLong(error.message, guidance=SLOW) from error
        except TableMissing as error:
            raise TableMissing(error.message, guidance="Check its name and its schema.") from error
        except TableChanged as error:
            raise RequestRefused(error.message, guidance="Check the columns that the query names.") from error
        except PermissionMissing as error:
            if error.advice != PermissionMissing.guidance:
                raise
            raise PermissionMissing(error.message, guidance="Grant this user SELECT on it.") from error
        except SourceError as error:
            if type(error) is not SourceError:
                raise
            raise RequestRefused(error.message, guidance="Check the query: the server says what is wrong.") from error
        except (OverflowError, ValueError) as error:
            message = f"A value cannot be read ({type(error).__name__}): a date outside of the years 1 to 9999?"
            raise Undecodable(message, guidance="Leave such rows out in the query, or select them as text.") from error


def _column(attribute: Any) -> Column:
    kind = attribute.type
    # The server describes a domain as the type that it is made of; only its own types go by their names.
    if kind.schema == "pg_catalog":
        return Column(attribute.name, quote(kind.name), _KINDS.get(kind.name, "other"))
    return Column(attribute.name, f"{quote(kind.schema)}.{quote(kind.name)}", "other")
