"""The destinations as a reader sees them: each read with its own client, and with no code of the runner's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from runner.naming import quote

DATASET = "fidelity"


@dataclass(frozen=True)
class Arrival:
    """A table at a destination.

    Attributes:
        types: The destination's own type of each column, in their order.
        rows: The values as the destination's client returns them.
    """

    types: dict[str, str]
    rows: list[tuple[Any, ...]]


class Place(Protocol):
    """A destination."""

    name: str
    spec: dict[str, str]

    async def read(self, tables: Iterable[str]) -> dict[str, Arrival]:
        """Return published tables by their names."""
        ...


class InDuckDB:
    """A DuckDB file, read with duckdb."""

    name = "DuckDB"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "warehouse.duckdb"
        self.spec = {"type": "duckdb", "path": str(self._path)}

    async def read(self, tables: Iterable[str]) -> dict[str, Arrival]:
        """Return published tables by their names."""
        found = {}
        # No table of ours is meant to be a variable of this module.
        options: dict[str, Any] = {"python_enable_replacements": "false"}
        with duckdb.connect(str(self._path), read_only=True, config=options) as connection:
            connection.execute("set timezone = 'UTC'")
            for table in tables:
                relation = f"{quote(DATASET)}.{quote(table)}"
                types = {row[0]: row[1] for row in connection.execute(f"describe {relation}").fetchall()}
                found[table] = Arrival(types, connection.execute(f"select * from {relation}").fetchall())
        return found


class InPostgres:
    """A PostgreSQL database, read with asyncpg."""

    name = "PostgreSQL"

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.spec = {"type": "postgres", "dsn": dsn}

    async def read(self, tables: Iterable[str]) -> dict[str, Arrival]:
        """Return published tables by their names."""
        found = {}
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            for table in tables:
                relation = f"{quote(DATASET)}.{quote(table)}"
                types = await connection.fetch(
                    "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                    "where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum",
                    relation,
                )
                rows = await connection.fetch(f"select * from {relation}")
                found[table] = Arrival({row[0]: row[1] for row in types}, [tuple(row) for row in rows])
        finally:
            await connection.close()
        return found


class InParquet:
    """A folder of Parquet files, read with pyarrow: the files that each table's manifest names."""

    name = "Parquet"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "lake"
        self.spec = {"type": "filesystem", "url": str(self._folder)}

    async def read(self, tables: Iterable[str]) -> dict[str, Arrival]:
        """Return published tables by their names."""
        return {table: _read_parquet(self._folder / DATASET / table) for table in tables}


def _read_parquet(folder: Path) -> Arrival:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    types = {column["name"]: str(column["type"]) for column in manifest["columns"]}
    parts = [pq.ParquetFile(folder / file["name"]).read() for file in manifest["files"]]
    for part in parts:
        types = {field.name: str(field.type) for field in part.schema}
    columns = pa.concat_tables(parts).columns if parts else []
    return Arrival(types, list(zip(*(column.to_pylist() for column in columns), strict=True)))
