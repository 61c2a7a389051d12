"""The Parquet files that COPY INTO reads, in OneLake or ADLS.

Facts: learn.microsoft.com, "COPY INTO (Transact-SQL)": columns are named with the places of the file's fields, several
files of one container may be listed, snappy is read; a SAS, or the login of the session.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runner.load import ChunkLoad, Target
from runner.naming import literal, quote
from runner.writers.fabriclogin import FabricConfig, store_options
from runner.writers.objects import Objects
from runner.writers.publication import CHUNK


class StagedFiles:
    """The files of one dataset.

    Attributes:
        run: The run that they are put for.
    """

    def __init__(self, config: FabricConfig, dataset: str) -> None:
        self._config = config
        self._dataset = dataset
        self.run = ""

    @cached_property
    def _objects(self) -> Objects:
        return Objects(self._config.stage_url, store_options(self._config))

    def put(self, chunk: ChunkLoad, *, named: bool) -> None:
        """Put a chunk's files where COPY finds them; named: with the chunk's id as their last column."""
        for file in chunk.files:
            with _named(file, chunk.id) if named else contextlib.nullcontext(file) as source:
                self._objects.copy(self._place(chunk, file), source)

    def remove(self, chunk: ChunkLoad) -> None:
        """Delete a chunk's files."""
        self._objects.delete([self._place(chunk, file) for file in chunk.files])

    def probe(self) -> None:
        """Put a file, and delete it."""
        self._objects.write("_runner_probe", [b"probe"])
        self._objects.delete(["_runner_probe"])

    def copies(self, table: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> Iterator[str]:
        """Yield the statements that load chunks, in the SQL of the recipe: one for all files that are alike."""
        layouts: dict[str, list[str]] = {}
        for chunk in chunks:
            for file in chunk.files:
                places = {name: place for place, name in enumerate(pq.read_schema(file).names, start=1)}
                columns = [f"{quote(column.name)} {places[column.source]}" for column in target.columns]
                if named:
                    columns.append(f"{quote(CHUNK)} {len(places) + 1}")
                location = f"{self._config.stage_location.rstrip('/')}/{self._place(chunk, file)}"
                layouts.setdefault(", ".join(columns), []).append(literal(location))
        options = "file_type = 'PARQUET'"
        if self._config.stage_credential:
            secret = literal(self._config.stage_credential)
            options += f", credential = (identity = 'Shared Access Signature', secret = {secret})"
        for layout, locations in layouts.items():
            yield f"copy into {table} ({layout}) from {', '.join(locations)} with ({options})"

    def _place(self, chunk: ChunkLoad, file: Path) -> str:
        """Return where a file is: letters and digits alone, for some signs are patterns to COPY."""
        of_it = json.dumps([self._dataset, self.run, chunk.id, chunk.epoch, file.name])
        return f"{hashlib.blake2b(of_it.encode(), digest_size=16).hexdigest()}.parquet"


@contextlib.contextmanager
def _named(file: Path, chunk: str) -> Iterator[Path]:
    """Lend a copy of a file whose last column is the chunk's id."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, pq.ParquetFile(file) as source:
        copy = Path(folder) / file.name
        schema = source.schema_arrow.append(pa.field(CHUNK, pa.string()))
        with pq.ParquetWriter(copy, schema, compression="snappy") as writer:
            for batch in source.iter_batches():
                names = pa.repeat(pa.scalar(chunk), batch.num_rows)
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, names], schema=schema))
        yield copy
