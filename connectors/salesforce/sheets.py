"""CSV as it streams by: whole records to Arrow, in bounded memory.

Facts: developer.salesforce.com, Bulk API 2.0 Developer Guide, "Get Results for a Query Job" (values are quoted, quotes
in them doubled; a field without a value is empty, and Salesforce keeps no empty texts).
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import pyarrow as pa
import pyarrow.csv as pacsv

from runner.errors import SourceDown

_BLOCK = 2**20


async def read_sheet(parts: AsyncIterator[bytes], *, block: int = _BLOCK) -> AsyncGenerator[pa.RecordBatch, None]:
    """Yield the records of a sheet as texts, about a block of bytes at a time; the first line names the columns.

    Raises:
        SourceDown: It ends in the middle of a record.
    """
    names: list[str] | None = None
    buffer = b""
    async for part in parts:
        buffer += part
        if len(buffer) < block and names is not None:
            continue
        if names is None:
            end = _first_end(buffer)
            if end < 0:
                continue
            names, buffer = _header(buffer[:end]), buffer[end:]
        end = _last_end(buffer)
        if end > 0:
            yield await anyio.to_thread.run_sync(_parse, buffer[:end], names)
            buffer = buffer[end:]
    if buffer.count(b'"') % 2:
        raise SourceDown("The job's results end in the middle of a record.")
    if names is not None and buffer.strip():
        yield await anyio.to_thread.run_sync(_parse, buffer, names)


def _header(line: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(line.decode("utf-8-sig"))))


def _first_end(buffer: bytes) -> int:
    """Return where the first record ends; -1 where it does not."""
    end = buffer.find(b"\n")
    while end >= 0 and buffer.count(b'"', 0, end) % 2:
        end = buffer.find(b"\n", end + 1)
    return end + 1 if end >= 0 else -1


def _last_end(buffer: bytes) -> int:
    """Return where the last whole record ends: at a line's end that is outside quotes."""
    quotes = buffer.count(b'"')
    end = len(buffer)
    while True:
        place = buffer.rfind(b"\n", 0, end)
        if place < 0:
            return -1
        quotes -= buffer.count(b'"', place, end)
        if quotes % 2 == 0:
            return place + 1
        end = place


def _parse(data: bytes, names: list[str]) -> pa.RecordBatch:
    table = pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return table.combine_chunks().to_batches()[0]
