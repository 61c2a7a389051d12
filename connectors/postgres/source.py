"""The source: sessions over one exported snapshot, chunks read by COPY."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pyarrow as pa
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from connectors.postgres.catalog import HAS_FOREIGN, check, discover, storage, storages
from connectors.postgres.checks import diagnose
from connectors.postgres.chunks import condition, split, whole, window_condition
from connectors.postgres.config import PostgresConfig
from connectors.postgres.connection import APPLICATION_NAME, Connections
from connectors.postgres.decode import Decoder
from connectors.postgres.faults import DRIVER_ERRORS, translate
from connectors.postgres.hashes import can_hash, hash_fields
from runner.errors import SnapshotLost
from runner.naming import literal, quote
from runner.profile import stage
from runner.rowhash import NULL, SEPARATOR, Digest, PostgresDialect
from runner.source import Chunk, Mark, Position, Scan, Table
from runner.tasks import task_group

if TYPE_CHECKING:
    from connectors.postgres.watching import Watching

_BATCH = 4 * 2**20
_WATCH = 5.0
# The server sends 8 kB at a time. To wake up for each costs both sides more than the bytes do; after a nap the socket
# holds what came meanwhile.
_NAP = 0.001
_SIP = 128 * 2**10
# What is small is not kept waiting.
_PROMPT = 32

OLDEST_WRITER = f"""
select least(min(xact_start), (select min(prepared) from pg_prepared_xacts), clock_timestamp()) as oldest,
       coalesce(bool_and(state is not null or backend_type <> 'client backend'), true)
           and not pg_is_in_recovery() as visible,
       (select reset_val from pg_settings where name = 'TimeZone') as zone
from pg_stat_activity
where backend_type not in ('autovacuum worker', 'walsender') and application_name <> '{APPLICATION_NAME}'
"""


class PostgresSource:
    """A PostgreSQL database.

    Args:
        options: The keys of the source in the job file, as PostgresConfig has them.
    """

    config_model = PostgresConfig
    schemes = ("postgres", "postgresql")

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = PostgresConfig.model_validate(options)
        self._connections = Connections(self.config)

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[PostgresSession]:
        """Open a session: a leader holds the snapshot, every read imports it."""
        connections = self._connections
        leader = await connections.open()
        try:
            if connections.pooled:
                leader.terminate()
                position = Position(
                    consistent=False,
                    note="a pooler in transaction mode is in between: each chunk reads a snapshot of its own",
                )
                yield await _prepare(PostgresSession(connections, position, None, None))
                return
            session = await _lead(connections, leader)
            async with task_group() as group:
                group.start_soon(session.watch)
                try:
                    yield await _prepare(session)
                finally:
                    group.cancel_scope.cancel()
        finally:
            leader.terminate()
            await connections.close()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Watching]:
        """Open a session that holds no snapshot."""
        from connectors.postgres.watching import Watching

        connections = Connections(self.config)
        try:
            session = Watching(connections, Position(False, note="each question sees the database of its own moment"))
            await _prepare(session)
            yield session
        finally:
            await connections.close()

    async def diagnose(self, patterns: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
        return await diagnose(self._connections, patterns, wanted)


async def _lead(connections: Connections, leader: asyncpg.Connection[Any]) -> PostgresSession:
    """Take the snapshot; who was writing is asked before it, so that nobody is missed."""
    try:
        with anyio.fail_after(connections.patience):
            writers = await leader.fetchrow(OLDEST_WRITER)
            await leader.execute(
                "begin isolation level repeatable read read only; "
                "set local idle_in_transaction_session_timeout = 0; set local statement_timeout = '1min'"
            )
            snapshot = await leader.fetchval("select pg_export_snapshot()")
            token = await leader.fetchval("select pg_current_snapshot()::text")
            lsn = await leader.fetchval(
                "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text"
            )
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    session = PostgresSession(connections, Position(True, token, lsn), snapshot, leader)
    if writers is not None:
        session.oldest_writer = writers["oldest"]
        # A standby does not show who writes on its primary.
        session.writers_visible = bool(writers["visible"])
        session.zone = writers["zone"]
    return session


async def _prepare(session: PostgresSession) -> PostgresSession:
    async with session.begin() as connection:
        session.version = int(await connection.fetchval("show server_version_num")) // 10000
        session.encoding = await connection.fetchval("show server_encoding")
    return session


def before_writers(oldest: datetime, zone: str, native: str) -> str:
    """Return up to when all is committed, as an expression of a column's type."""
    # Writers that began before may still commit rows stamped with their very start, which a column of fewer digits
    # rounds, also down.
    digits = re.search(r"\((\d)\)", native)
    step = f"interval '{10 ** -int(digits[1] if digits else 6):f} seconds'"
    found = f"('{oldest.isoformat()}'::timestamptz - {step})"
    # What now() left in such a column is the writer's local time: by default the database's zone.
    return found if "with time zone" in native else f"({found} at time zone {literal(zone)})"


class PostgresSession:
    """One picture of the database."""

    def __init__(
        self,
        connections: Connections,
        position: Position,
        snapshot: str | None,
        leader: asyncpg.Connection[Any] | None,
    ) -> None:
        self.connections = connections
        self.position = position
        self.snapshot = snapshot
        self.version = 0
        self.encoding = ""
        self.oldest_writer: Any = None
        self.writers_visible = True
        self.zone = "UTC"
        self._stored: dict[int, str] = {}
        self._leader = leader
        self._lost = False

    @property
    def dialect(self) -> PostgresDialect:
        """How this server hashes."""
        return PostgresDialect(converts=self.encoding not in ("UTF8", "SQL_ASCII"))

    def begin(
        self, *, first: str = "", table: str | None = None
    ) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection[Any]]:
        """Begin a transaction that reads this session's snapshot."""
        if self._lost:
            raise SnapshotLost(table=table)
        return self.connections.transaction(snapshot=self.snapshot, first=first, table=table)

    async def watch(self) -> None:
        """Notice when the leader dies: its snapshot dies with it."""
        while self._leader is not None and not self._lost:
            await anyio.sleep(_WATCH)
            try:
                with anyio.fail_after(30):
                    await self._leader.execute("select 1")
            except (*DRIVER_ERRORS, TimeoutError):
                self._lost = True

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        # The catalog as it is now, not as the snapshot saw it: a table altered since must look altered.
        async with self.connections.transaction() as connection:
            tables = await discover(connection, self.connections.config, patterns)
            if self.version >= 14:
                # Before, a table that is dropped at this moment would be an error of all of them.
                self._stored.update(await storages(connection, tables))
            return tables

    async def high_water(self, scan: Scan) -> Mark | None:
        assert scan.window is not None
        cursor = quote(scan.window.cursor)
        column = scan.table.column(scan.window.cursor)
        native = column.native if column else ""
        timed = native.startswith("timestamp") and self.oldest_writer is not None
        largest = f"max({cursor})"
        if native.startswith(("timestamp", "date")):
            # A mark at infinity would hide every change to come.
            largest += f" filter (where isfinite({cursor}))"
        ceiling = largest
        if timed:
            ceiling = f"least({largest}, {before_writers(self.oldest_writer, self.zone, native)})"
        if scan.window.start is not None and not scan.window.from_start:
            # What was appended up to the last mark must not be read again.
            ceiling = f"greatest({ceiling}, {literal(scan.window.start)}::{native})"
        conditions = [*window_condition(scan), *([f"({scan.where})"] if scan.where else [])]
        where = " where " + " and ".join(conditions) if conditions else ""
        async with self.begin(table=scan.table.qualified) as connection:
            value = await connection.fetchval(
                f"select case when {largest} is not null then ({ceiling})::text end "
                f"from {relation_of(scan, None)}{where}"
            )
        known = "with time zone" in native or self.zone in ("UTC", "Etc/UTC", "GMT")
        return None if value is None else Mark(value, exact=timed and known and self.writers_visible)

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        stored = self._stored.get(scan.table.detail["oid"])
        if stored is not None and (unsplit := whole(scan, rows, size, stored)):
            return unsplit
        async with self.begin(table=scan.table.qualified) as connection:
            return await split(connection, scan, rows, size, consistent=self.position.consistent, version=self.version)

    @contextlib.asynccontextmanager
    async def _locked(self, scan: Scan, chunk: Chunk) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Lend a connection that holds the table as it was planned."""
        table = scan.table
        relation, first = relation_of(scan, chunk), ""
        if chunk.storage is not None:
            # LOCK takes no materialized view; to look at nothing of it locks it just as well.
            viewed = table.kind == "materialized_view"
            lock = f"select from {relation} limit 0" if viewed else f"lock table {relation} in access share mode"
            if "relation" in chunk.bounds:
                # The parent first, as TRUNCATE has it: the check looks at all partitions.
                lock = f"lock table {relation_of(scan, None, alone=True)} in access share mode; {lock}"
            # The lock keeps TRUNCATE and rewriting DDL out from here on, so one look is enough.
            first = f"{lock}; {check(table, chunk.storage)}"
        async with self.begin(first=first, table=table.qualified) as connection:
            yield connection

    async def digest(self, scan: Scan, chunk: Chunk, ask: Digest) -> list[tuple[Any, ...]] | None:
        if not can_hash(scan) or self.encoding == "SQL_ASCII":
            return None
        where = condition(scan, chunk, self.dialect)
        sql = self.dialect.sql(ask, hash_fields(scan), relation_of(scan, chunk), where)
        async with self._locked(scan, chunk) as connection:
            return [tuple(row) for row in await connection.fetch(sql)]

    @contextlib.asynccontextmanager
    async def read(self, scan: Scan, chunk: Chunk) -> AsyncIterator[CopyReading]:
        table = scan.table
        relation = relation_of(scan, chunk)
        async with self._locked(scan, chunk) as connection:
            reading = CopyReading(Decoder(scan))
            query = f"select {_select(scan)} from {relation}{_where(condition(scan, chunk, self.dialect))}"
            send, receive = anyio.create_memory_object_stream[bytes](1)
            async with task_group() as group:
                group.start_soon(reading.pump, connection, query, send, table.qualified)
                reading.stream = receive
                try:
                    yield reading
                finally:
                    receive.close()
                    send.close()
                    if reading.source_rows is None:
                        group.cancel_scope.cancel()

    async def unchanged(self, scan: Scan, chunk: Chunk, rows: int, token: str | None) -> bool:
        """Compare by row versions, which costs no value to be read.

        Every row version of the chunk that is visible now and was created by a transaction older than
        all that ran when the old snapshot was taken, was visible then too. If there are as many of
        them as rows were read, and no younger ones, the two pictures are the same set of versions.
        """
        # A condition may look at anything, and a foreign partition has no row versions of ours.
        if not (self.position.consistent and token and chunk.storage) or scan.where or self.version < 13:
            return False
        async with self.begin(table=scan.table.qualified) as connection:
            if await connection.fetchval(storage(scan.table)) != chunk.storage:
                return False
            if scan.table.kind == "partitioned" and await connection.fetchval(HAS_FOREIGN, scan.table.detail["oid"]):
                return False
            # xmin is 32 bits wide: it belongs to the current cycle, or, where that would be the
            # future, to the one before. A frozen, very old xmin only ever errs towards reading again.
            old = int(token.split(":")[0])
            row = await connection.fetchrow(
                "with now as (select pg_snapshot_xmax(pg_current_snapshot())::text::int8 as top) "
                "select count(*) as now, count(*) filter (where "
                "case when (top >> 32 << 32) + x.xid < top then (top >> 32 << 32) + x.xid "
                "else (top >> 32 << 32) + x.xid - 4294967296 end < $1) as old "
                f"from now, (select xmin::text::int8 as xid from {relation_of(scan, chunk)}"
                f"{_where(condition(scan, chunk, self.dialect))}) x",
                old,
            )
        return row is not None and row["now"] == rows and row["old"] == rows


class CopyReading:
    """Record batches of one COPY."""

    def __init__(self, decoder: Decoder) -> None:
        self.source_rows: int | None = None
        self.rest: dict[str, Any] | None = None
        self.mark: str | None = None
        self.stream: MemoryObjectReceiveStream[bytes] | None = None
        self._decoder = decoder
        self._last = (b"", 0)

    async def pump(
        self,
        connection: asyncpg.Connection[Any],
        query: str,
        send: MemoryObjectSendStream[bytes],
        table: str,
    ) -> None:
        """Run the COPY; gather whole rows to a few megabytes; wait while the reader is behind."""
        gathered: list[bytes] = []
        size = sips = 0

        async def take(data: bytes) -> None:
            # asyncpg hands over whole CopyData messages; the server sends one row in each.
            nonlocal size, sips
            gathered.append(data)
            size += len(data)
            if size >= _BATCH:
                whole = b"".join(gathered)
                gathered.clear()
                size = 0
                await send.send(whole)
            elif len(data) < _SIP:
                sips += 1
                if sips > _PROMPT:
                    await anyio.sleep(_NAP)

        with send:
            try:
                status = await connection.copy_from_query(
                    query, output=take, format="csv", delimiter=SEPARATOR, null=NULL
                )
            except DRIVER_ERRORS as error:
                raise translate(error, table=table) from error
            if gathered:
                await send.send(b"".join(gathered))
            self.source_rows = int(status.split()[-1])

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        assert self.stream is not None
        while True:
            with stage("source"):
                data = await anext(self.stream, None)
            if data is None:
                return
            with stage("decode"):
                batch = await anyio.to_thread.run_sync(self._decoder.decode, data)
            self._last = data, batch.num_rows
            yield batch

    def lines(self) -> pa.Array | None:
        return self._decoder.lines(*self._last)


def _where(text: str) -> str:
    return f" where {text}" if text else ""


def relation_of(scan: Scan, chunk: Chunk | None, *, alone: bool = False) -> str:
    """Return what is selected from: a table, or the partition that a chunk names."""
    schema, name = scan.table.schema, scan.table.name
    if chunk is not None and "relation" in chunk.bounds:
        schema, name = chunk.bounds["relation"]
        return f"only {quote(schema)}.{quote(name)}"
    # ONLY: the children of old-style inheritance are tables of their own.
    only = "only " if alone or scan.table.kind == "table" else ""
    return f"{only}{quote(schema)}.{quote(name)}"


def _select(scan: Scan) -> str:
    parts = []
    for column in scan.columns:
        name = quote(column.name)
        parts.append(f"array_to_json({name})" if column.json and column.note else name)
    return ", ".join(parts)
