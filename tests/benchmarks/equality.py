"""Whether the rows that a program wrote are those of the source, value by value."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import duckdb
import pyarrow as pa

from connectors.postgres.source import PostgresSource
from runner.naming import quote
from runner.rowhash import DUCKDB, POSTGRES, Dialect, Digest, Field, Fingerprint, by_prefix, total
from runner.source import Table
from tests.benchmarks.contenders import Work

Fingerprints = dict[str, Fingerprint]
_SETTINGS = "set datestyle = iso; set timezone = utc; set extra_float_digits = 3; set bytea_output = hex"


def of_source(work: Work) -> tuple[list[Table], Fingerprints]:
    """Return the tables of a work and what the source itself makes of their rows."""

    async def ask() -> tuple[list[Table], Fingerprints]:
        async with PostgresSource({"dsn": work.dsn}).session(1) as session:
            tables = [t for t in await session.discover([f"{work.schema}.*"]) if t.name in work.tables]
        return tables, await _in_postgres(work.dsn, work.schema, tables)

    return asyncio.run(ask())


def of_place(work: Work, tables: list[Table], folder: Path) -> Fingerprints:
    """Return the same of what a program wrote.

    Raises:
        duckdb.Error: A table is not there, or a value is not of its type.
    """
    if work.kind == "postgres":
        return asyncio.run(_in_postgres(work.target, "raw", tables))
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        if work.kind == "duckdb":
            connection.execute(f"attach '{folder / 'out.duckdb'}' as it (read_only)")
        found = {}
        for table in tables:
            relation = f"it.raw.{quote(table.name)}"
            if work.kind == "csv":
                relation = f"read_csv('{folder}/{table.name}.csv', all_varchar = true)"
            elif work.kind == "parquet":
                relation = _parquet(folder, table.name)
            found[table.name] = total(by_prefix(connection.execute(_sql(DUCKDB, table, relation)).fetchall()).values())
        return found


async def _in_postgres(dsn: str, schema: str, tables: list[Table]) -> Fingerprints:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SETTINGS)
        found = {}
        for table in tables:
            sql = _sql(POSTGRES, table, f"{quote(schema)}.{quote(table.name)}")
            found[table.name] = total(by_prefix([tuple(row) for row in await connection.fetch(sql)]).values())
        return found
    finally:
        await connection.close()


def _parquet(folder: Path, name: str) -> str:
    """Return the relation of a file of that name, or of a folder of files: dlt's, or ours, named in a manifest."""
    files = [folder / f"{name}.parquet"]
    if not files[0].exists():
        home = next(path for path in folder.rglob(name) if path.is_dir())
        manifest = home / "manifest.json"
        listed = json.loads(manifest.read_text())["files"] if manifest.exists() else None
        files = [home / one["name"] for one in listed] if listed else list(home.rglob("*.parquet"))
    return f"read_parquet([{', '.join(repr(str(file)) for file in files)}])"


def _sql(dialect: Dialect, table: Table, relation: str) -> str:
    fields = []
    for column in table.columns:
        name, kind = quote(column.name), column.type
        if dialect is POSTGRES:
            value = f"({name})::text" if pa.types.is_string(kind) else name
        else:
            value = name if pa.types.is_binary(kind) else f"cast({name} as {_type(kind)})"
        if column.native.startswith("character("):
            # DuckDB's extension trims what pads a char(n).
            value = f"rtrim({value})"
        fields.append(Field(column.name, kind, True, value))
    return dialect.sql(Digest(), fields, relation)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    names = {"bool": "boolean", "date32[day]": "date", "time64[us]": "time", "string": "varchar", "float": "float"}
    return names.get(str(kind), str(kind))
