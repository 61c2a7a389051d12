"""Snowflake: files are PUT to a stage of the dataset, COPY INTO and the books are one transaction.

Names are upper case there, as an unquoted name is: ``select id from raw.orders`` finds them. Statements are written in
the SQL of the recipe and spelled for Snowflake by ``spelled()``.

Facts: docs.snowflake.com, "Transactions" (a statement that defines commits; reads see what is committed; DELETE, UPDATE
and MERGE of one table wait for each other, INSERT and COPY do not), "COPY INTO <table>", "CREATE FILE FORMAT".
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from runner.errors import (
    DestinationError,
    RunnerError,
    UsageError,
)
from runner.load import ChunkLoad, Cost, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import inlined, literal, quote
from runner.writers.cursor import Cursor
from runner.writers.objects import Objects
from runner.writers.registry import RegistryClient, options_of_variables
from runner.writers.snowflakehash import MAKE_FLOAT_BITS, SnowflakeDialect
from runner.writers.snowflakelogin import SnowflakeConfig, contact_error, login_arguments, options_of_uri, translated
from runner.writers.transactional import PROMISES, precision_and_scale
from runner.writers.warehouse import MADE_FOR, WarehouseWriter

_FILES = "_runner_files"
_FORMAT = "(type = parquet use_logical_type = true binary_as_text = false)"
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class Snowflake:
    """A Snowflake database.

    Args:
        options: The keys of the destination in the job file, as SnowflakeConfig has them.
        folder: Where a relative path of a private key starts.
        memory: Not used: files are uploaded as they are.
    """

    config_model = SnowflakeConfig
    max_name = 255
    promises: ClassVar[dict[str, str]] = {mode: PROMISES[mode] for mode in ("full", "append", "incremental")}
    metered = True
    unproved = ""

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        if find_spec("snowflake") is None:
            raise ModuleNotFoundError(name="snowflake-connector-python")
        self.config = SnowflakeConfig.model_validate(options)
        self._folder = folder
        needed = {"account": self.config.account, "database": self.config.database}
        if missing := [key for key, value in needed.items() if not value]:
            raise UsageError(
                f"The destination of type snowflake lacks {' and '.join(missing)}.",
                guidance="Write them into the job file or connections.yml, or set DEST_CREDS.",
            )
        if bool(self.config.stage) != bool(self.config.stage_url):
            raise UsageError("An external stage needs both: stage, its name, and stage_url, where it is.")

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, Snowflake destination)."""
        prefix = "DESTINATION__SNOWFLAKE__CREDENTIALS"
        if environ.get(prefix):
            return options_of_uri(environ[prefix])
        keys = {
            "HOST": "account",
            "DATABASE": "database",
            "USERNAME": "user",
            "PASSWORD": "password",
            "WAREHOUSE": "warehouse",
            "ROLE": "role",
            "PRIVATE_KEY": "private_key",
            "PRIVATE_KEY_PATH": "private_key_file",
            "PRIVATE_KEY_PASSPHRASE": "private_key_passphrase",
            "TOKEN": "token",
        }
        return options_of_variables(environ, prefix, keys)

    def describe(self) -> str:
        return f"snowflake {self.config.account}/{self.config.database}"

    def writer(self, dataset: str) -> SnowflakeWriter:
        return SnowflakeWriter(self.config, dataset, self._folder)


class SnowflakeWriter(WarehouseWriter):
    """Writes to one schema over one connection."""

    text_type = "text"
    timestamp_type = "timestamp_tz"
    now = "current_timestamp()"
    seconds = "date_part(epoch_second, current_timestamp())"
    dialect = SnowflakeDialect()

    def __init__(self, config: SnowflakeConfig, dataset: str, folder: Path) -> None:
        super().__init__(dataset)
        self._config = config
        self._folder = folder
        self._connection: Any = None
        self._contacted = False
        self._tagged = ""
        self._run = ""
        self._meter = _Meter()
        self._rate: float | None = None

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        try:
            yield _SnowflakeCursor(self._connect(), self._meter)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        if self._connection is not None:
            return self._connection
        import snowflake.connector as driver

        try:
            self._connection = driver.connect(**login_arguments(self._config, self.dataset, self._folder))
        except driver.errors.Error as error:
            raise contact_error(error, contacted=self._contacted) from error
        self._contacted = True
        self._tagged = ""
        return self._connection

    @cached_property
    def _objects(self) -> Objects:
        """The external stage."""
        return Objects(self._config.stage_url, {}, allow_http=self._config.protocol == "http")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A session that is gone already cannot be closed, and need not be.
            with contextlib.suppress(Exception):
                connection.close()

    def prepare(self) -> None:
        with self.session() as cursor:
            # CREATE SCHEMA IF NOT EXISTS asks for a grant even where it exists.
            self._rate = self._credits_an_hour(cursor)
            if not self._has_schema(cursor):
                cursor.execute(f"create schema if not exists {quote(self.dataset)}")
            cursor.execute(f"use schema {quote(self.dataset)}")
            self.make_books(cursor)
            # Only hashes of floating-point numbers need it, and the role may not be allowed to make it.
            with contextlib.suppress(DestinationError):
                cursor.execute(MAKE_FLOAT_BITS)
            if not self._config.stage:
                cursor.execute(f"create stage if not exists {self.name(_FILES)}")

    def spent(self) -> Cost:
        used = self._meter.seconds * self._rate / 3600 if self._rate is not None else None
        return Cost(self._meter.statements, credits=used)

    def _credits_an_hour(self, cursor: Cursor) -> float | None:
        """Return the rate of the session's warehouse (docs.snowflake.com, "Overview of warehouses", Warehouse size)."""
        # A role that may not see it loads all the same.
        with contextlib.suppress(DestinationError):
            name = str(cursor.rows("select current_warehouse()")[0][0])
            for row in cursor.rows(f"show warehouses like {literal(name)}"):
                if str(row[0]) == name:
                    return _CREDITS.get(str(row[3]).upper())
        return None

    def _has_schema(self, cursor: Cursor) -> bool:
        named = literal(self.dataset.upper())
        return bool(cursor.rows(f"select 1 from information_schema.schemata where schema_name = {named}"))

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        tables = [work.target.source_table for work in works]
        tag = {
            "application": "orchestra-runner",
            "job": lease.job,
            "run": lease.run,
            "table": tables[0] if len(tables) == 1 else f"{len(tables)} tables",
        }
        self._tag(cursor, json.dumps(tag))
        # A path with a dash would need quotes.
        self._run = lease.run.replace("-", "_")
        super().begin(cursor, lease, works, outcomes)

    def _tag(self, cursor: Cursor, tag: str) -> None:
        """Name job, table and run in the query history."""
        if tag != self._tagged:
            # A tag is a comfort: what cannot be tagged is loaded all the same.
            with contextlib.suppress(DestinationError):
                cursor.execute(f"alter session set query_tag = {literal(tag)}")
            self._tagged = tag

    def sql_type(self, column: TargetColumn) -> str:
        arrow = column.type
        if column.json:
            return "VARIANT"
        if pa.types.is_decimal(arrow):
            return f"NUMBER({arrow.precision},{arrow.scale})"
        if pa.types.is_timestamp(arrow):
            return "TIMESTAMP_TZ" if arrow.tz else "TIMESTAMP_NTZ"
        return _TYPES[str(arrow)]

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        named = f" and table_name = {literal(table.upper())}" if table is not None else ""
        for name, column, kind, precision, scale in cursor.rows(
            "select table_name, column_name, data_type, numeric_precision, numeric_scale "
            f"from information_schema.columns where table_schema = {literal(self.dataset.upper())}{named} "
            "order by table_name, ordinal_position"
        ):
            # A name in other letters than capitals was quoted by somebody, and is none of ours.
            if name == name.upper() and column == column.upper():
                spelled_type = f"NUMBER({precision},{scale})" if kind == "NUMBER" else kind
                found.setdefault(name.lower(), {})[column.lower()] = spelled_type
        return found

    def mandatory(self, cursor: Cursor, table: str, existing: Mapping[str, str]) -> set[str]:
        rows = cursor.rows(
            "select column_name from information_schema.columns "
            f"where table_schema = {literal(self.dataset.upper())} and table_name = {literal(table.upper())} "
            "and is_nullable = 'NO'"
        )
        return {row[0].lower() for row in rows}

    def unpublished(self, cursor: Cursor) -> set[str]:
        rows = cursor.rows(
            f"select table_name from information_schema.tables where table_schema = "
            f"{literal(self.dataset.upper())} and comment like {literal(MADE_FOR + '%')}"
        )
        return {row[0].lower() for row in rows}

    def unmark(self, cursor: Cursor, table: str) -> None:
        cursor.execute(f"comment on table {table} is ''")

    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        made = f"create or replace table {table}" if anew else f"create table if not exists {table}"
        cursor.execute(f"{made} ({columns}) comment = {literal(MADE_FOR + load_id)}")

    def make_table(self, cursor: Cursor, table: str, columns: str) -> None:
        cursor.execute(f"create or replace table {table} ({columns})")

    def typed(self, text: str, kind: str) -> str:
        # Snowflake knows no offset of hours alone (docs.snowflake.com, "Date and time input and output formats").
        return super().typed(re.sub(r"([+-]\d\d)$", r"\1:00", text) if kind == "TIMESTAMP_TZ" else text, kind)

    def widens(self, old: str, new: str) -> bool:
        if old == new:
            return True
        if old.startswith("NUMBER(") and new.startswith("NUMBER("):
            (precision, scale), (wider, deeper) = precision_and_scale(old), precision_and_scale(new)
            return scale == deeper and precision <= wider
        return False

    def upload(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        assert isinstance(cursor, _SnowflakeCursor)
        for file in chunk.files:
            if self._config.stage:
                self._objects.copy(f"{self._run}/{chunk.id}/{file.name}", file)
            else:
                path = str(file.resolve()).replace("\\", "\\\\").replace("'", "\\'")
                cursor.raw(
                    f"put 'file://{path}' {self._place(chunk)} auto_compress = false overwrite = true "
                    "source_compression = none"
                )

    def _place(self, chunk: ChunkLoad) -> str:
        """Return the folder of a chunk's files, as SQL."""
        stage = self._config.stage or f"{quote(self.dataset.upper())}.{quote(_FILES.upper())}"
        return f"@{stage}/{self._run}/{chunk.id}/"

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        assert isinstance(cursor, _SnowflakeCursor)
        names = [quote(column.name) for column in target.columns]
        values = [self._value(column) for column in target.columns]
        if named:
            names.append("_runner_chunk")
        for chunk in chunks:
            for file in chunk.files:
                columns = ", ".join([*values, literal(chunk.id)] if named else values)
                cursor.raw(
                    f"copy into {spelled(stage)} ({spelled(', '.join(names))}) from (select {columns} "
                    f"from {self._place(chunk)}{file.name}) file_format = {_FORMAT} force = true"
                )

    def _value(self, column: TargetColumn) -> str:
        """Return a column of a staged Parquet file: names are the spool's there, and case counts."""
        value = f"$1:{quote(column.source)}"
        if column.json:
            return f"parse_json({value}::text)"
        # Moments are stored in UTC, which is the session's time zone.
        kind = "TIMESTAMP_NTZ" if pa.types.is_timestamp(column.type) else self.sql_type(column)
        return f"{value}::{kind}"

    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        assert isinstance(cursor, _SnowflakeCursor)
        if self._config.stage:
            self._objects.delete([f"{self._run}/{chunk.id}/{file.name}" for file in chunk.files])
        else:
            cursor.raw(f"remove {self._place(chunk)}")

    def registry_client(self) -> RegistryClient:
        config = self._config
        credentials = {
            "host": config.account,
            "database": config.database,
            "username": config.user,
            "password": config.password or None,
            "warehouse": config.warehouse or None,
            "role": config.role or None,
            "token": config.token or None,
            "authenticator": "oauth" if config.token else None,
            "private_key": config.private_key or None,
            "private_key_path": str(self._folder / config.private_key_file) if config.private_key_file else None,
            "private_key_passphrase": config.private_key_passphrase or None,
        }
        given = {key: value for key, value in credentials.items() if value is not None}
        return RegistryClient("snowflake", given, self.dataset, contextlib.nullcontext)

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            with self.session() as cursor:
                user, role, database = cursor.rows("select current_user(), current_role(), current_database()")[0]
                checks = [("ok", f"Snowflake answers as {user} with role {role}, database {database}", "")]
                checks += self._grants(cursor, str(role), exists=self._has_schema(cursor))
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return checks

    def _grants(self, cursor: Cursor, role: str, *, exists: bool) -> list[tuple[str, str, str]]:
        """Compare the role's grants with those that loading takes."""
        try:
            assert isinstance(cursor, _SnowflakeCursor)
            rows = cursor.raw(f"show grants to role {quote(role)}")
        except DestinationError as error:
            return [("warn", f"the grants of {role} cannot be listed: {error.message}", "")]
        # docs.snowflake.com, SHOW GRANTS: created_on, privilege, granted_on, name, …
        held = {(str(row[1]).upper(), str(row[2]).upper(), str(row[3]).replace('"', "").upper()) for row in rows}
        database = self._config.database.upper()
        schema = f"{database}.{self.dataset.upper()}"
        needed = [("USAGE", "DATABASE", database)]
        if self._config.warehouse:
            needed.append(("USAGE", "WAREHOUSE", self._config.warehouse.upper()))
        if exists:
            needed += [(one, "SCHEMA", schema) for one in ("USAGE", "CREATE TABLE", "CREATE STAGE", "CREATE FUNCTION")]
        else:
            needed.append(("CREATE SCHEMA", "DATABASE", database))
        lacking = [
            (privilege, kind, name)
            for privilege, kind, name in needed
            if not {(privilege, kind, name), ("OWNERSHIP", kind, name)} & held
        ]
        if not lacking:
            return [("ok", f"{role} may load into {schema}", "")]
        # What a role inherits from another one is not in the list: a warning and no failure.
        return [
            (
                "warn",
                f"{role} has no {one} on {kind.lower()} {name} of its own",
                f"grant {one} on {kind} {name} to {role};",
            )
            for one, kind, name in lacking
        ]


@dataclass
class _Meter:
    """What statements took so far."""

    statements: int = 0
    seconds: float = 0.0


class _SnowflakeCursor:
    def __init__(self, connection: Any, meter: _Meter) -> None:
        self._connection = connection
        self._meter = meter

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.raw(spelled(inlined(sql, values)))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.raw(spelled(inlined(sql, values)))

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute a statement that is spelled for Snowflake already; return its rows."""
        import snowflake.connector as driver

        began = time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return [tuple(row) for row in cursor.fetchall()]
        except driver.errors.Error as error:
            raise translated(error) from error
        finally:
            self._meter.statements += 1
            self._meter.seconds += time.monotonic() - began


def spelled(sql: str) -> str:
    """Spell a statement for Snowflake: quoted names in capitals, backslashes in literals doubled."""

    def spell(found: re.Match[str]) -> str:
        token = found[0]
        return token.upper() if token[0] == '"' else token.replace("\\", "\\\\")

    return _TOKENS.sub(spell, sql)


_CREDITS = {
    "X-SMALL": 1.0,
    "SMALL": 2.0,
    "MEDIUM": 4.0,
    "LARGE": 8.0,
    "X-LARGE": 16.0,
    "2X-LARGE": 32.0,
    "3X-LARGE": 64.0,
    "4X-LARGE": 128.0,
    "5X-LARGE": 256.0,
    "6X-LARGE": 512.0,
}
_TYPES = {
    "bool": "BOOLEAN",
    "int16": "NUMBER(5,0)",
    "int32": "NUMBER(10,0)",
    "int64": "NUMBER(19,0)",
    "float": "FLOAT",
    "double": "FLOAT",
    "string": "TEXT",
    "binary": "BINARY",
    "date32[day]": "DATE",
    "time64[us]": "TIME",
}
