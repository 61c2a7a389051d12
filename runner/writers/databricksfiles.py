"""Parquet files as a SQL warehouse reads them.

Names of columns are told apart without their case there, and a time of day is a type that it does not read from
Parquet (docs.databricks.com, "Data types"): such files are sent as a copy.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names of a file's columns as it is uploaded: their own, unless one of them could be mistaken."""
    lower = {name.lower() for name in names}
    if len(lower) == len(names) and all(_PLAIN_NAME.fullmatch(name) for name in names):
        return {name: name for name in names}
    return {name: f"c{number}" for number, name in enumerate(sorted(names))}


@contextlib.contextmanager
def readable(file: Path) -> Iterator[Path]:
    """Lend a file that a SQL warehouse reads: itself, or a copy that is gone afterwards."""
    with pq.ParquetFile(file) as source:
        schema = source.schema_arrow
        names = file_names(schema.names)
        if not any(pa.types.is_time(field.type) for field in schema) and all(
            one == name for one, name in names.items()
        ):
            yield file
            return
        fields = [
            pa.field(names[field.name], pa.string() if pa.types.is_time(field.type) else field.type, field.nullable)
            for field in schema
        ]
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "rows.parquet"
            with pq.ParquetWriter(copied, pa.schema(fields)) as writer:
                for batch in source.iter_batches():
                    columns = [
                        column.cast(field.type) if pa.types.is_time(column.type) else column
                        for column, field in zip(batch.columns, fields, strict=True)
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)))
            yield copied
