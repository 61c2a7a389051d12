"""A session for who waits for changes: no snapshot, one cheap question as long as nothing is new.

The largest value of an indexed column is read backwards from the index's end (PostgreSQL, "Indexes and ORDER BY").
"""

from __future__ import annotations

from connectors.postgres.connection import Connections
from connectors.postgres.source import OLDEST_WRITER, PostgresSession, before_writers, relation_of
from runner.naming import literal, quote
from runner.source import Position, Scan


class Watching(PostgresSession):
    """The database as it is whenever it is asked."""

    def __init__(self, connections: Connections, position: Position) -> None:
        super().__init__(connections, position, None, None)

    async def newest(self, scan: Scan) -> str | None:
        assert scan.window is not None
        column = scan.table.column(scan.window.cursor)
        native = column.native if column else ""
        found = await self._largest(scan, native)
        if found is None or not native.startswith("timestamp"):
            return found
        # Asked before the snapshot that it is about: who ends in between is seen in both.
        async with self.connections.transaction() as connection:
            writers = await connection.fetchrow(OLDEST_WRITER)
        assert writers is not None
        return await self._largest(scan, native, before_writers(writers["oldest"], writers["zone"], native))

    async def _largest(self, scan: Scan, native: str, ceiling: str | None = None) -> str | None:
        window = scan.window
        assert window is not None
        name = quote(window.cursor)
        start = f"{name} > {literal(window.start)}::{native}" if window.start is not None else f"{name} is not null"
        conditions = [start, *([f"{name} <= {ceiling}"] if ceiling else [])]
        if native.startswith(("timestamp", "date")):
            conditions.append(f"isfinite({name})")
        if scan.where:
            conditions.append(f"({scan.where})")
        async with self.connections.transaction(table=scan.table.qualified) as connection:
            found: str | None = await connection.fetchval(
                f"select {name}::text from {relation_of(scan, None)} where {' and '.join(conditions)} "
                f"order by {name} desc limit 1"
            )
        return found
