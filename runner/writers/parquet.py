"""A table's Parquet files, on their way to a store and back, a row group at a time."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.load import Target
from runner.rowhash import Hasher
from runner.spool import parquet_writer
from runner.writers.folder import Store, is_temporary
from runner.writers.manifest import DataFile

UNREADABLE = (OSError, pa.ArrowException)


class TableFiles:
    """The files of one table.

    Args:
        room: Held while the rows of a file are in memory.
    """

    def __init__(self, store: Store, table: str, room: AbstractContextManager[object]) -> None:
        self._store = store
        self._table = table
        self._room = room

    def write(self, name: str, source: Path, target: Target) -> DataFile:
        """Copy a spooled file, with the target's names of its columns."""
        path = f"{self._table}/{name}"
        schema = pq.read_schema(source)
        names = {column.source: column.name for column in target.columns}
        with self._room:
            if [(same, same) for same in schema.names] == list(names.items()):
                size = self._store.copy(path, source)
            else:
                size = self._store.write(path, _renamed(source, schema, names))
        return DataFile(name, pq.read_metadata(source).num_rows, size)

    def counted(self, file: DataFile) -> DataFile:
        """Return a file with the number of rows that its footer in the store says."""
        with self._open(file) as opened, pq.ParquetFile(opened) as parquet:
            return replace(file, rows=parquet.metadata.num_rows)

    def hashed(self, file: DataFile, target: Target) -> DataFile:
        """Return a file with the number and the fingerprint of the rows that it has in the store."""
        found = self.hash([file], target, Hasher(target.fields())).total
        return replace(file, rows=found.rows, hash=str(found))

    def hash(self, files: Iterable[DataFile], target: Target, hasher: Hasher) -> Hasher:
        """Give a hasher the rows of some files; a column that a file lacks is NULL."""
        for file in files:
            with self._room, self._open(file) as opened:
                for batch in _batches(opened, target):
                    hasher.add(batch)
        return hasher

    def remove(self, keep: Iterable[DataFile], seq: int) -> None:
        """Remove the files of publications up to a number, except some; those of others are not ours."""
        kept = {f"{self._table}/{file.name}" for file in keep}
        found = self._store.files(self._table, deep=True)
        self._store.delete([path for path in found if path not in kept and _seq(path) <= seq])

    def are_foreign(self) -> bool:
        """Tell whether somebody else's files lie in the table's folder, where there is no manifest."""
        return any(not is_temporary(path) for path in self._store.files(self._table))

    def _open(self, file: DataFile) -> io.IOBase:
        return self._store.open(f"{self._table}/{file.name}")


def _seq(path: str) -> float:
    found = re.fullmatch(r"[^/]+/(\d{6,})-[^/]+/[^/]+", path)
    return int(found[1]) if found else math.inf


def _renamed(source: Path, schema: pa.Schema, names: dict[str, str]) -> Iterator[bytes]:
    schema = pa.schema([schema.field(old).with_name(new) for old, new in names.items()])
    sink = _Sink()
    with (
        pq.ParquetFile(source) as spooled,
        parquet_writer(sink, schema) as writer,
    ):
        for number in range(spooled.num_row_groups):
            group = spooled.read_row_group(number, list(names))
            writer.write_table(pa.table([group.column(old) for old in names], schema=schema))
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """What a Parquet writer writes to; what was written is taken away piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: object) -> int:
        part = bytes(memoryview(data))  # type: ignore[arg-type]
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _batches(file: io.IOBase, target: Target) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file, pre_buffer=True) as parquet:
        has = set(parquet.schema_arrow.names)
        present = [column.name for column in target.columns if column.name in has]
        for number in range(parquet.num_row_groups):
            group = parquet.read_row_group(number, present)
            arrays = [
                group.column(column.name) if column.name in has else pa.nulls(group.num_rows, column.type)
                for column in target.columns
            ]
            yield from pa.table(arrays, names=[column.name for column in target.columns]).to_batches()
