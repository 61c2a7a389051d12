"""Where a chunk is read: this process. Other engines plug in here later.

The unit is (scan, chunk, epoch) → a spooled chunk. It is idempotent, so an engine may run it anywhere
and more than once.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import anyio
import pyarrow as pa

from runner.columns import Protector
from runner.crash import crash_point
from runner.errors import VerifyFailed
from runner.profile import stage
from runner.rowhash import Digest, Field, Hasher
from runner.source import Chunk, Column, Reading, Scan, Session, following
from runner.spool import Spool, SpooledChunk


class Executor(Protocol):
    """Runs the unit of work."""

    async def read(self, session: Session, scan: Scan, chunk: Chunk, spool: Spool, reserved: int) -> SpooledChunk:
        """Read a chunk into the spool."""
        ...

    async def digest(
        self, session: Session, scan: Scan, chunk: Chunk, ask: Digest, *, whole: bool = False
    ) -> list[tuple[Any, ...]]:
        """Hash a chunk by value, as ``runner.rowhash.Dialect.sql`` returns it."""
        ...


class LocalExecutor:
    """Reads in this process: COPY on the loop, decoding and writing in worker threads.

    Args:
        hash_key: The key of hashed columns, or None.
        width: How many chunks may be on their way through memory at once.
        verify: Whether the rows written are compared with those that the source says it sent.
        hashes: Whether the rows are hashed by value as they stream by.
    """

    def __init__(self, *, hash_key: str | None, width: int, verify: bool, hashes: bool = False) -> None:
        self._hash_key = hash_key
        self._verify = verify
        self._hashes = hashes
        self._slots = anyio.CapacityLimiter(width)
        _use_steady_pool()

    async def read(self, session: Session, scan: Scan, chunk: Chunk, spool: Spool, reserved: int) -> SpooledChunk:
        """Read a chunk into the spool; leaves all its files or none.

        Args:
            reserved: Bytes of disk that were reserved for it; given back on failure.

        Raises:
            VerifyFailed: Fewer or more rows were written than the source sent.
        """
        async with spool.writer(chunk.id, scan.arrow_schema, reserved) as out:
            hasher = Hasher(hash_fields(scan.columns)) if self._hashes else None
            protector = Protector(scan.columns, self._hash_key)
            async with self._slots, self._batches(session, scan, chunk, protector) as (reading, batches):
                async for batch in batches:
                    if hasher is not None:
                        with stage("hash"):
                            await anyio.to_thread.run_sync(_hash, hasher, batch, reading if protector.idle else None)
                    await out.write(batch)
            if self._verify and reading.source_rows is not None and reading.source_rows != out.rows:
                raise VerifyFailed(
                    f"The source sent {reading.source_rows} rows of chunk {chunk.id} and {out.rows} were decoded.",
                    table=scan.table.qualified,
                )
            crash_point("chunk-read", scan.table.qualified)
            spooled = await out.finish()
            hashed = str(hasher.total) if hasher is not None else None
            return replace(spooled, hash=hashed, rest=reading.rest, mark=reading.mark)

    async def digest(
        self, session: Session, scan: Scan, chunk: Chunk, ask: Digest, *, whole: bool = False
    ) -> list[tuple[Any, ...]]:
        """Hash a chunk by value: in the source where it can, else by streaming it, in bounded memory.

        Args:
            whole: Whether the chunks that go on where it ends are part of it.
        """
        found = await session.digest(scan, chunk, ask)
        if found is not None:
            return found
        hasher = Hasher(hash_fields(scan.columns), ask)
        protector = Protector(scan.columns, self._hash_key)
        part: Chunk | None = chunk
        seen: set[str] = set()
        while part is not None:
            seen.add(part.id)
            async with self._slots, self._batches(session, scan, part, protector) as (reading, batches):
                async for batch in batches:
                    await anyio.to_thread.run_sync(hasher.add, batch)
            rest = reading.rest if whole else None
            part = None if rest is None else following(scan, part, part.index + 1, rest, seen)
        return hasher.result()

    @contextlib.asynccontextmanager
    async def _batches(
        self, session: Session, scan: Scan, chunk: Chunk, protector: Protector
    ) -> AsyncIterator[tuple[Reading, AsyncIterator[pa.RecordBatch]]]:
        """Read a chunk's batches, protected columns already as they may leave memory (L11)."""

        async def protected(reading: Reading) -> AsyncIterator[pa.RecordBatch]:
            async for batch in reading:
                yield batch if protector.idle else await anyio.to_thread.run_sync(protector.protect, batch)

        async with session.read(scan, chunk) as reading:
            yield reading, protected(reading)


def _use_steady_pool() -> None:
    """Let Arrow allocate with jemalloc, where it has it: a fifth less memory for batches that come and go."""
    with contextlib.suppress(NotImplementedError):  # a pyarrow that was built without it keeps the pool it has
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def _hash(hasher: Hasher, batch: pa.RecordBatch, reading: Reading | None) -> None:
    lines = reading.lines() if reading is not None else None
    if lines is None:
        hasher.add(batch)
    else:
        hasher.add_lines(lines)


def hash_fields(columns: Sequence[Column]) -> list[Field]:
    """Return columns as they are hashed in Arrow, after their rules were applied."""
    return [Field(column.name, column.type, column.nullable) for column in columns]
