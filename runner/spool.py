"""Chunks as Parquet on local disk: written under a temporary name, fsynced, renamed (L1)."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq

from runner.crash import crash_point
from runner.errors import DiskFull, SpoolFull
from runner.limits import Budget
from runner.profile import stage

ROW_GROUP_ROWS = 122_880
ROW_GROUP_BYTES = 32 * 2**20
FILE_BYTES = 128 * 2**20
# A column of many different values is not worth a dictionary: it is given up early.
_DICTIONARY_BYTES = 64 * 2**10


@dataclass(frozen=True)
class SpooledChunk:
    """The files of one chunk.

    Attributes:
        files: Paths relative to the spool's folder; empty for a chunk without rows.
        rows: Rows in them; bytes: their size on disk.
        hash: The fingerprint of the rows, where they are verified by hash.
        rest: The bounds of the chunk that goes on where this one ended early; mark: the mark of its rows, where only
            they tell it.
    """

    files: tuple[str, ...]
    rows: int
    bytes: int
    hash: str | None = None
    rest: dict[str, Any] | None = None
    mark: str | None = None


class Spool:
    """A folder of chunks, bounded by a budget of bytes on disk."""

    def __init__(self, folder: Path, disk: Budget) -> None:
        self.folder = folder
        self.disk = disk
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def writer(self, chunk: str, schema: pa.Schema, reserved: int) -> ChunkWriter:
        """Return a writer for a chunk whose space was reserved before it is read."""
        return ChunkWriter(self, chunk, schema, reserved)

    def holds(self, spooled: SpooledChunk) -> bool:
        """Tell whether every file of a chunk is there, whole."""
        sizes = 0
        for name in spooled.files:
            try:
                sizes += (self.folder / name).stat().st_size
            except OSError:
                return False
        return sizes == spooled.bytes

    async def remove(self, spooled: SpooledChunk) -> None:
        """Delete a chunk's files and give their space back."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._unlink, spooled.files)
        # Here and not in the thread: whoever waits for the space is woken on the loop.
        self.disk.release(spooled.bytes)

    def _unlink(self, files: Iterable[str]) -> None:
        for name in files:
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self, keep: set[str]) -> None:
        """Delete what no chunk of the ledger claims: leftovers of a killed process."""
        for file in self.folder.iterdir():
            if file.name not in keep:
                file.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class ChunkWriter:
    """Writes the batches of one chunk; leaves either all its files or none."""

    def __init__(self, spool: Spool, chunk: str, schema: pa.Schema, reserved: int) -> None:
        self._spool = spool
        self._chunk = chunk
        self._schema = schema
        self._reserved = reserved
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._file: pa.NativeFile | None = None
        self._finished: list[Path] = []
        self._bytes = 0
        self.rows = 0
        self._done = False

    async def __aenter__(self) -> ChunkWriter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._done:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._abandon)
            self._spool.disk.release(self._reserved)

    async def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; a full row group goes to disk in a worker thread.

        Raises:
            SpoolFull: The spool would grow past its budget.
            DiskFull: The disk itself is full.
        """
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
            with stage("write"):
                await anyio.to_thread.run_sync(self._flush)
            self._account()

    async def finish(self) -> SpooledChunk:
        """Make the chunk durable and return it."""
        with stage("write"):
            await anyio.to_thread.run_sync(self._finish)
        crash_point("chunk-fsynced")
        self._account()
        self._done = True
        # What was reserved by estimate becomes what is really there.
        self._spool.disk.release(self._reserved - self._bytes)
        names = tuple(path.name for path in self._finished)
        return SpooledChunk(names, self.rows, self._bytes)

    def _account(self) -> None:
        if self._bytes > self._reserved:
            more = max(self._bytes - self._reserved, min(FILE_BYTES, self._reserved))
            if not self._spool.disk.grow(more):
                more = self._bytes - self._reserved
                if not self._spool.disk.grow(more):
                    raise SpoolFull
            self._reserved += more

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending, self._schema)
        self._pending = []
        self._pending_rows = self._pending_bytes = 0
        try:
            if self._writer is None:
                self._open()
            assert self._writer is not None
            assert self._file is not None
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            unfinished = self._file.tell()
            if unfinished >= FILE_BYTES:
                self._close()
                unfinished = 0
        except OSError as error:
            raise _disk_error(error) from error
        self._bytes = unfinished + sum(path.stat().st_size for path in self._finished)

    def _open(self) -> None:
        path = self._spool.folder / f"{self._chunk}.{len(self._finished)}.parquet"
        temporary = path.with_suffix(".tmp")
        os.close(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        self._file = pa.OSFile(str(temporary), "wb")
        self._writer = parquet_writer(self._file, self._schema)

    def _close(self) -> None:
        assert self._writer is not None
        assert self._file is not None
        self._writer.close()
        self._file.close()
        self._writer = self._file = None
        path = self._spool.folder / f"{self._chunk}.{len(self._finished)}.parquet"
        temporary = path.with_suffix(".tmp")
        _fsync(temporary)
        temporary.rename(path)
        self._finished.append(path)

    def _finish(self) -> None:
        try:
            self._flush()
            if self._writer is not None:
                self._close()
            if self._finished:
                _fsync(self._spool.folder)
        except OSError as error:
            raise _disk_error(error) from error
        self._bytes = sum(path.stat().st_size for path in self._finished)

    def _abandon(self) -> None:
        # A failed close has nothing left to save: the file is deleted next.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._file is not None:
                self._file.close()
        for leftover in self._spool.folder.glob(f"{self._chunk}.*"):
            leftover.unlink(missing_ok=True)


def parquet_writer(sink: pa.NativeFile | io.IOBase, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that is settled for speed; any reader of Parquet reads what it writes."""
    return pq.ParquetWriter(
        sink,
        schema,
        compression="snappy",
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        store_decimal_as_integer=True,
        # The least and the greatest of texts take a sixth of the time, and rows are seldom skipped by them.
        write_statistics=[field.name for field in schema if not _is_text(field.type)],
    )


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.binary())


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(error: OSError) -> DiskFull:
    return DiskFull(
        f"The spool cannot be written: {error.strerror or error}.",
        guidance="Free some space, or point --state-dir at a larger disk; what is loaded stays loaded.",
    )
