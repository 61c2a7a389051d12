"""Connections to PostgreSQL: opened late, kept few, settled by one round trip per transaction."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg

from connectors.postgres.config import PostgresConfig
from connectors.postgres.faults import DRIVER_ERRORS, translate, translate_contact
from runner.errors import SnapshotLost, TableChanged, Unreachable

APPLICATION_NAME = "orchestra-runner"
ENCODE = "Write it as postgresql://user:password@host:port/database, signs such as @ # / in a password as %40 %23 %2F."


class Connections:
    """Connections to one server, kept for the next transaction; the caller's limits bound how many are at work."""

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self._idle: list[asyncpg.Connection[Any]] = []
        self._contacted = False
        self.pooled = config.pooler == "transaction"
        # The server keeps its own time-outs. Ours, longer by what we wait for any answer, are for one that is gone.
        self.patience = config.connect_timeout.total_seconds()

    @property
    def where(self) -> str:
        """Host, port and database, for messages."""
        arguments = self.config.arguments()
        parts = urlsplit(arguments.get("dsn", ""))
        host = arguments.get("host") or parts.hostname or os.environ.get("PGHOST", "localhost")
        port = arguments.get("port") or parts.port or os.environ.get("PGPORT", "5432")
        database = arguments.get("database") or parts.path.lstrip("/") or os.environ.get("PGDATABASE", "")
        return f"postgres {host}:{port}/{database}"

    async def open(self) -> asyncpg.Connection[Any]:
        """Open a connection.

        Raises:
            ContactError: At first contact, a wrong host, user, password or database.
            SourceDown: Later, a connection that could not be made; a retry can help.
        """
        try:
            connection = await self._connect()
        except (*DRIVER_ERRORS, ValueError) as error:
            # A certificate that is refused is a ValueError too.
            if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
                # Its own words may hold a part of the password.
                raise Unreachable("The DSN of the source cannot be read.", guidance=ENCODE) from None
            found = translate(error) if self._contacted else translate_contact(error, self.where)
            raise found from None
        self._contacted = True
        return connection

    async def _connect(self) -> asyncpg.Connection[Any]:
        statement = self.config.statement_timeout.total_seconds()
        # No prepared statements by name and no settings at start-up: pgbouncer takes neither.
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            **self.config.arguments(),
            timeout=self.patience,
            command_timeout=statement + self.patience if statement else None,
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION_NAME},
        )
        try:
            _keep_alive(connection)
            if self.config.pooler == "auto" and not self._contacted:
                # A pooler answers with a process id of its own at start-up (protocol: BackendKeyData).
                backend = await connection.fetchval("select pg_backend_pid()", timeout=self.patience)
                self.pooled = backend != connection.get_server_pid()
        except BaseException:
            connection.terminate()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, snapshot: str | None = None, first: str = "", table: str | None = None, idle: str = "5min"
    ) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Lend a connection inside a read-only transaction with our session settings.

        Args:
            snapshot: An exported snapshot to read.
            first: Statements to run first, in the same round trip; a division by zero says that the table changed.
            table: The table's name, for errors.
            idle: idle_in_transaction_session_timeout.
        """
        # What the server closed meanwhile is not asked.
        self._idle = [connection for connection in self._idle if not connection.is_closed()]
        connection = self._idle.pop() if self._idle else await self.open()
        lock = self.config.lock_timeout.total_seconds()
        # A pooler may let this wait for its turn.
        longest = None if self.pooled or not lock else lock + self.patience
        clean = False
        try:
            try:
                await connection.execute(self._begin(snapshot, idle) + first, timeout=longest)
            except asyncpg.DivisionByZeroError as error:
                message = f"{table} was truncated, rewritten or altered since it was planned."
                raise TableChanged(message, table=table) from error
            except asyncpg.PostgresError as error:
                # The exporting transaction is gone: SET TRANSACTION SNAPSHOT finds no file.
                if snapshot and error.sqlstate in ("22023", "55000", "42704"):
                    raise SnapshotLost(table=table) from error
                raise
            yield connection
            await connection.execute("commit", timeout=self.patience)
            clean = True
        except DRIVER_ERRORS as error:
            raise translate(error, table=table) from error
        finally:
            # Cancelled or failed: the server may still be sending, so the connection is not reused.
            if clean and not connection.is_closed():
                self._idle.append(connection)
            else:
                connection.terminate()

    def _begin(self, snapshot: str | None, idle: str) -> str:
        milliseconds = int(self.config.statement_timeout.total_seconds() * 1000)
        lock = int(self.config.lock_timeout.total_seconds() * 1000)
        parts = ["begin isolation level repeatable read read only"]
        if snapshot:
            parts.append(f"set transaction snapshot '{snapshot}'")
        settings = {
            "TimeZone": "UTC",
            "DateStyle": "ISO",
            "IntervalStyle": "iso_8601",
            "extra_float_digits": "3",
            "bytea_output": "hex",
            "statement_timeout": str(milliseconds),
            "lock_timeout": str(lock),
            "idle_in_transaction_session_timeout": idle,
            # Without this a policy would hide rows in silence.
            "row_security": "on" if self.config.row_security else "off",
        }
        parts += [f"set local {name} = '{value}'" for name, value in settings.items()]
        return "; ".join(parts) + "; "

    async def close(self) -> None:
        """Close what is idle, all at once: a server that is gone answers none of them."""
        idle, self._idle = self._idle, []
        with anyio.move_on_after(2, shield=True):
            async with anyio.create_task_group() as group:
                for connection in idle:
                    group.start_soon(_close, connection)
        for connection in idle:
            connection.terminate()


async def _close(connection: asyncpg.Connection[Any]) -> None:
    with contextlib.suppress(Exception):
        await connection.close()


def _keep_alive(connection: asyncpg.Connection[Any]) -> None:
    """Let the kernel ask after a server that is silent for long (tcp(7)); asyncpg has no option for it."""
    side = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    # A Unix socket has no such options, nor has every system.
    with contextlib.suppress(OSError, AttributeError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
