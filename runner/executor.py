"""Where a chunk is read: this process. Other engines plug in here later.

The unit is (scan, chunk, epoch) → a spooled chunk. It is idempotent, so an engine may run it anywhere
and more than once.
"""

from __future__ import annotations

from typing import Protocol

import anyio

from runner.columns import Protector
from runner.errors import VerifyFailed
from runner.source import Chunk, Scan, Session
from runner.spool import Spool, SpooledChunk


class Executor(Protocol):
    """Runs the unit of work."""

    async def read(self, session: Session, scan: Scan, chunk: Chunk, spool: Spool, reserved: int) -> SpooledChunk:
        """Read a chunk into the spool."""
        ...


class LocalExecutor:
    """Reads in this process: COPY on the loop, decoding and writing in worker threads.

    Args:
        hash_key: The key of hashed columns, or None.
        width: How many chunks may be on their way through memory at once.
        verify: Whether the rows written are compared with those that the source says it sent.
    """

    def __init__(self, *, hash_key: str | None, width: int, verify: bool) -> None:
        self._hash_key = hash_key
        self._verify = verify
        self._slots = anyio.CapacityLimiter(width)

    async def read(self, session: Session, scan: Scan, chunk: Chunk, spool: Spool, reserved: int) -> SpooledChunk:
        """Read a chunk into the spool; leaves all its files or none.

        Args:
            reserved: Bytes of disk that were reserved for it; given back on failure.

        Raises:
            VerifyFailed: Fewer or more rows were written than the source sent.
        """
        async with spool.writer(chunk.id, scan.arrow_schema, reserved) as out:
            protector = Protector(scan.columns, self._hash_key)
            async with self._slots, session.read(scan, chunk) as reading:
                async for batch in reading:
                    if not protector.idle:
                        batch = await anyio.to_thread.run_sync(protector.protect, batch)
                    await out.write(batch)
            if self._verify and reading.source_rows is not None and reading.source_rows != out.rows:
                raise VerifyFailed(
                    f"The source sent {reading.source_rows} rows of chunk {chunk.id} and {out.rows} were decoded.",
                    table=scan.table.qualified,
                )
            return await out.finish()
