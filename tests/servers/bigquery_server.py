"""bqemulator, in an environment of its own: ``python bigquery_server.py PORT``; it ends with its standard input.

It answers the real client over HTTP and runs what it is asked on DuckDB. Some things are mended here. Assertions were
unknown. A second job with the id of an earlier one ran, where BigQuery refuses it (cloud.google.com, "Running jobs
programmatically"). Columns that were altered were not told by INFORMATION_SCHEMA, and JSON and sizes of decimals never.
And jobs saw what a transaction under way had changed: here one ends before the next one begins.

Two things are made quick. A statement is parsed a dozen times on its way, here once. And INFORMATION_SCHEMA is spelled
out in the statement, here only what it tells of the tables that the statement names.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sys
import threading
from typing import Any

import duckdb
from bqemulator.api.routes import jobs
from bqemulator.catalog import ddl_sync
from bqemulator.catalog.models import TableFieldSchema, TableSchema
from bqemulator.config import Settings
from bqemulator.domain.errors import InvalidQueryError, ResourceRef, resource_already_exists
from bqemulator.jobs import executor
from bqemulator.scripting.interpreter import ScriptInterpreter
from bqemulator.server import EmulatorServer
from bqemulator.sql.rewriter import information_schema
from bqemulator.storage.sql_identifiers import quoted_table_ref
from duckdb_extensions import import_extension
from sqlglot.dialects.dialect import Dialect

_ASSERT = re.compile(r"assert (\(.*\)) as '([^']*)'", re.IGNORECASE | re.DOTALL)
_NAMED = re.compile(r"\btable_name (?:= '[^'\\]*'|in \((?:'[^'\\]*'[, ]*)+\))")
_ALTER = re.compile(r"alter table `([^`]+)`\.`([^`]+)`", re.IGNORECASE)
_TYPES = {
    "BIGINT": "INTEGER",
    "DOUBLE": "FLOAT",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "STRING",
    "BLOB": "BYTES",
    "TIMESTAMP": "DATETIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
}


def _asserting() -> None:
    plain = ScriptInterpreter._exec_sql

    async def execute(self: Any, sql: str) -> None:
        found = _ASSERT.fullmatch(sql.strip())
        if found is None:
            await plain(self, sql)
            return
        answer = await self._run_query(f"select {found[1]}")
        if answer.column(0)[0].as_py() is not True:
            raise InvalidQueryError(f"Assertion failed: {found[2]}")

    ScriptInterpreter._exec_sql = execute


def _refusing_second_jobs() -> None:
    plain = jobs._handle_query_job
    turn = asyncio.Lock()

    async def handle(project: str, job: str, *arguments: Any, **more: Any) -> Any:
        async with turn:
            if more["ctx"].catalog.get_job(project, job) is not None:
                raise resource_already_exists(ResourceRef("job", project, resource_id=job))
            return await plain(project, job, *arguments, **more)

    jobs._handle_query_job = handle


def _field(name: str, kind: str, notnull: bool) -> TableFieldSchema:
    mode = "REQUIRED" if notnull else "NULLABLE"
    if not kind.startswith("DECIMAL"):
        return TableFieldSchema(name=name, type=_TYPES.get(kind, kind), mode=mode)
    precision, scale = (int(number) for number in re.findall(r"\d+", kind))
    decimal = "NUMERIC" if scale <= 9 and precision - scale <= 29 else "BIGNUMERIC"
    return TableFieldSchema(name=name, type=decimal, mode=mode, precision=precision, scale=scale)


def _telling_columns() -> None:
    def schema(project: str, dataset: str, table: str, ctx: Any) -> TableSchema:
        rows = ctx.engine.execute(f"PRAGMA table_info({quoted_table_ref(project, dataset, table)})").fetchall()
        return TableSchema(fields=tuple(_field(name, kind, notnull) for _, name, kind, notnull, *_ in rows))

    plain = executor.sync_dropped_object

    def sync(sql: str, project: str, ctx: Any) -> None:
        plain(sql, project, ctx)
        if found := _ALTER.match(sql):
            table = ctx.catalog.get_table(project, found[1], found[2])
            ctx.catalog.update_table(table.model_copy(update={"schema_": schema(project, found[1], found[2], ctx)}))

    ddl_sync._introspect_schema = schema
    executor.sync_dropped_object = sync


def _parsing_once() -> None:
    plain = Dialect.parse

    @functools.lru_cache(maxsize=512)
    def parsed(dialect: type[Dialect], sql: str) -> list[Any]:
        return plain(dialect(), sql)

    def parse(self: Dialect, sql: str, **options: Any) -> list[Any]:
        if options or self.settings or len(sql) > 100_000:
            return plain(self, sql, **options)
        return [one and one.copy() for one in parsed(type(self), sql)]

    Dialect.parse = parse  # type: ignore[method-assign]


class _Few:
    """A catalog of some tables."""

    def __init__(self, catalog: Any, names: set[str]) -> None:
        self._catalog = catalog
        self._names = names

    def list_tables(self, project: str, dataset: str) -> list[Any]:
        return [table for table in self._catalog.list_tables(project, dataset) if table.table_id in self._names]


def _telling_what_is_asked() -> None:
    def narrow(plain: Any) -> Any:
        def expand(sql: str, project: str, catalog: Any) -> str:
            # Two conditions, or one that may not hold for all rows: everything is told.
            found = _NAMED.findall(sql)
            if len(found) == 1 and " or " not in sql.lower() and " not " not in sql.lower():
                catalog = _Few(catalog, set(re.findall(r"'([^']*)'", found[0])))
            return plain(sql, project, catalog)

        return expand

    for view in ("columns", "table_options"):
        name = f"expand_information_schema_{view}"
        setattr(information_schema, name, narrow(getattr(information_schema, name)))


def _end() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until the standard input is closed."""
    with duckdb.connect() as connection:
        # The emulator wants it and would load it down.
        import_extension("spatial", con=connection)
    threading.Thread(target=_end, daemon=True).start()
    _asserting()
    _refusing_second_jobs()
    _telling_columns()
    _telling_what_is_asked()
    _parsing_once()
    settings = Settings(rest_port=int(sys.argv[1]), grpc_port=0, log_level="error", metrics_enabled=False)
    EmulatorServer(settings).run_forever()


if __name__ == "__main__":
    main()
