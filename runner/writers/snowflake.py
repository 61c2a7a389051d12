"""Snowflake: files are PUT to a stage of the dataset, COPY INTO and the books are one transaction.

Names are upper case there, as an unquoted name is: ``select id from raw.orders`` finds them. Statements are written in
the SQL of the recipe and spelled for Snowflake by ``spelled()``.

Facts: docs.snowflake.com, "Transactions" (a statement that defines commits; reads see what is committed; DELETE, UPDATE
and MERGE of one table wait for each other, INSERT and COPY do not), "COPY INTO <table>", "CREATE FILE FORMAT".
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    ReadOnly,
    RunnerError,
    Unreachable,
    UsageError,
)
from runner.load import ChunkLoad, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import inlined, literal, quote
from runner.secrets import redact
from runner.writers.cursor import Cursor
from runner.writers.objects import Objects
from runner.writers.registry import RegistryClient
from runner.writers.snowflakehash import MAKE_FLOAT_BITS, SnowflakeDialect
from runner.writers.transactional import PROMISES, precision_and_scale
from runner.writers.warehouse import MADE_FOR, WarehouseWriter

_FILES = "_runner_files"
_LOGIN_SECONDS = 30
_ANSWER_SECONDS = 60
_LOCK_SECONDS = 600
_FORMAT = "(type = parquet use_logical_type = true binary_as_text = false)"
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class SnowflakeConfig(BaseModel):
    """The keys of a destination of type snowflake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: str = Field("", description="account identifier, as in <account>.snowflakecomputing.com")
    user: str = Field("", description="the user; not needed with a workload identity")
    password: str = Field("", description="password, or a programmatic access token", repr=False)
    private_key: str = Field("", description="key pair: the private key as PEM, or base64 of PEM or DER", repr=False)
    private_key_file: str = Field("", description="key pair: a file with the private key, relative to the project")
    private_key_passphrase: str = Field("", description="key pair: what the private key is encrypted with", repr=False)
    token: str = Field("", description="an OAuth access token, or the token of a workload identity", repr=False)
    workload_identity: Literal["aws", "azure", "gcp", "oidc"] | None = Field(
        None, description="the provider of a workload identity"
    )
    role: str = ""
    warehouse: str = ""
    database: str = Field("", description="the database that holds the dataset's schema")
    stage: str = Field(
        "", description="an external stage, as DATABASE.SCHEMA.STAGE; by default files go to an internal one"
    )
    stage_url: str = Field("", description="where the external stage is: s3://, gs:// or az:// and a prefix")
    host: str = Field("", description="another host than the account's own")
    port: int | None = None
    protocol: Literal["http", "https"] = "https"


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
            return _of_uri(environ[prefix])
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
        return {name: environ[f"{prefix}__{key}"] for key, name in keys.items() if environ.get(f"{prefix}__{key}")}

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

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        try:
            yield _SnowflakeCursor(self._connect())
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        if self._connection is not None:
            return self._connection
        import snowflake.connector as driver

        try:
            self._connection = driver.connect(**self._arguments())
        except driver.errors.Error as error:
            raise _contact_error(error, contacted=self._contacted) from error
        self._contacted = True
        self._tagged = ""
        return self._connection

    def _arguments(self) -> dict[str, Any]:
        """Return what the driver takes (docs.snowflake.com, Python Connector API, connect)."""
        config = self._config
        found: dict[str, Any] = {
            "account": config.account,
            "user": config.user or None,
            "role": config.role or None,
            "warehouse": config.warehouse or None,
            "database": config.database,
            "schema": self.dataset.upper(),
            "host": config.host or None,
            "port": config.port,
            "protocol": config.protocol,
            "application": "orchestra_runner",
            "autocommit": True,
            "login_timeout": _LOGIN_SECONDS,
            "network_timeout": _ANSWER_SECONDS,
            "session_parameters": {
                "TIMEZONE": "UTC",
                "LOCK_TIMEOUT": _LOCK_SECONDS,
                "QUERY_TAG": json.dumps({"application": "orchestra-runner", "dataset": self.dataset}),
                "CLIENT_TELEMETRY_ENABLED": False,
            },
        }
        if config.workload_identity:
            found |= {
                "authenticator": "WORKLOAD_IDENTITY",
                "workload_identity_provider": config.workload_identity.upper(),
                "token": config.token or None,
            }
        elif config.token:
            found |= {"authenticator": "oauth", "token": config.token}
        elif config.private_key or config.private_key_file:
            found["private_key"] = _der(config, self._folder)
        else:
            found["password"] = config.password
        return {key: value for key, value in found.items() if value is not None}

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
            if not self._has_schema(cursor):
                cursor.execute(f"create schema if not exists {quote(self.dataset)}")
            cursor.execute(f"use schema {quote(self.dataset)}")
            self.make_books(cursor)
            # Only hashes of floating-point numbers need it, and the role may not be allowed to make it.
            with contextlib.suppress(DestinationError):
                cursor.execute(MAKE_FLOAT_BITS)
            if not self._config.stage:
                cursor.execute(f"create stage if not exists {self.name(_FILES)}")

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
        self._run = lease.run
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

    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        made = f"create or replace table {table}" if anew else f"create table if not exists {table}"
        cursor.execute(f"{made} ({columns}) comment = {literal(MADE_FOR + load_id)}")

    def make_table(self, cursor: Cursor, table: str, columns: str) -> None:
        cursor.execute(f"create or replace table {table} ({columns})")

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
            rows = cursor.rows(f"show grants to role {quote(role)}")
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


class _SnowflakeCursor:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.raw(spelled(inlined(sql, values)))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.raw(spelled(inlined(sql, values)))

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute a statement that is spelled for Snowflake already; return its rows."""
        import snowflake.connector as driver

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return [tuple(row) for row in cursor.fetchall()]
        except driver.errors.Error as error:
            raise _translate(error) from error


def spelled(sql: str) -> str:
    """Spell a statement for Snowflake: quoted names in capitals, backslashes in literals doubled."""

    def spell(found: re.Match[str]) -> str:
        token = found[0]
        return token.upper() if token[0] == '"' else token.replace("\\", "\\\\")

    return _TOKENS.sub(spell, sql)


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


def _der(config: SnowflakeConfig, folder: Path) -> bytes:
    """Return the private key as the driver takes it: PKCS #8 in DER.

    Raises:
        UsageError: It cannot be read, or the passphrase does not open it.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        data = (folder / config.private_key_file).read_bytes() if config.private_key_file else _key_bytes(config)
        passphrase = config.private_key_passphrase.encode() or None
        read = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
        key = read(data, passphrase)
    except (OSError, ValueError, TypeError) as error:
        # What the library says may hold a part of the key.
        raise UsageError(
            f"The private key of the destination cannot be read ({type(error).__name__}).",
            guidance="Give it as PEM, as base64 of it, or as a file, and its passphrase if it is encrypted.",
        ) from None
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_bytes(config: SnowflakeConfig) -> bytes:
    text = config.private_key.strip()
    if "-----BEGIN" in text:
        # Environment variables often carry line ends as two characters.
        return text.replace("\\n", "\n").encode()
    return base64.b64decode("".join(text.split()), validate=True)


def _of_uri(uri: str) -> dict[str, Any]:
    """Return the options of a URI: snowflake://user:password@account/database?warehouse=…&role=…."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    found: dict[str, Any] = {
        "account": parts.hostname or "",
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/").split("/")[0],
        **{key: query[key] for key in ("warehouse", "role", "token", "private_key") if key in query},
    }
    return {key: value for key, value in found.items() if value}


def _contact_error(error: Any, *, contacted: bool) -> RunnerError:
    text = _words(error)
    if contacted:
        return DestinationDown(f"Snowflake: {text}")
    # docs.snowflake.com: 250001 could not connect, 2503xx the network, 390100 a wrong user or password.
    number = int(getattr(error, "errno", 0) or 0)
    if number in (390100, 390144, 390101, 394304, 250003) or "password" in text.lower() or "JWT" in text:
        return CredentialsRejected(f"Snowflake refused us: {text}")
    if number in (390201, 390189):
        return DatabaseMissing(f"Snowflake refused us: {text}")
    return Unreachable(f"Snowflake does not answer: {text}")


def _translate(error: Any) -> RunnerError:
    text = _words(error)
    number = int(getattr(error, "errno", 0) or 0)
    # 390114 a session that ran out; 250001 to 250007, 253xxx the network.
    if number in (390114, 390112, 390111) or 250000 <= number < 251020:
        return DestinationDown(f"Snowflake: {text}")
    if number in (625, 628):  # the lock could not be had, or the statement was aborted for a deadlock
        return DestinationBusy(f"Snowflake: {text}")
    if number in (3001, 3041):
        return ReadOnly(f"Snowflake: {text}")
    if number in (606, 57014):
        return DestinationError(f"Snowflake: {text}", guidance="Name a warehouse that the role may use.")
    return DestinationError(f"Snowflake: {text}")


def _words(error: Any) -> str:
    return redact(" ".join(str(getattr(error, "msg", None) or error).split()))
