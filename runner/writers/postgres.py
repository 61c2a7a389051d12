"""PostgreSQL: COPY inside the transaction, a full refresh that keeps grants and dependent views."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from psycopg2.extensions import make_dsn, parse_dsn
from pydantic import BaseModel, ConfigDict, Field

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationDown,
    DestinationError,
    DiskFull,
    NotOurs,
    ReadOnly,
    RunnerError,
    SchemaConflict,
    TableLocked,
    Unreachable,
    UsageError,
)
from runner.load import ChunkLoad, Target, TargetColumn
from runner.naming import literal, quote
from runner.rowhash import PostgresDialect
from runner.secrets import redact
from runner.writers.books import TABLES
from runner.writers.cursor import Cursor
from runner.writers.registry import RegistryClient
from runner.writers.transactional import PROMISES, TransactionalWriter, precision_and_scale

_BATCH_ROWS = 2**14
_BATCH_VALUES = 2**20
_BATCH_BYTES = 4 * 2**20


class PostgresConfig(BaseModel):
    """The keys of a destination of type postgres; what is missing comes from libpq's environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: str = Field("", description="URI, or keyword=value pairs", repr=False)
    host: str | None = None
    port: int | None = None
    database: str | None = None
    user: str | None = None
    password: str | None = Field(None, repr=False)
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None

    def whole(self) -> str:
        """Return the DSN with the other keys over it.

        Raises:
            psycopg2.ProgrammingError: It cannot be read.
        """
        own = self.model_dump(exclude={"dsn", "database"}, exclude_none=True)
        database = {} if self.database is None else {"dbname": self.database}
        return str(make_dsn(self.dsn, **own, **database))


class Postgres:
    """A PostgreSQL database.

    Args:
        options: The keys of the destination in the job file, as PostgresConfig has them.
        folder: Not used.
        memory: Not used: rows stream through in row groups.
    """

    config_model = PostgresConfig
    max_name = 63
    promises: ClassVar[dict[str, str]] = PROMISES
    metered = False
    unproved = ""

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        try:
            self._dsn = PostgresConfig.model_validate(options).whole()
            port = parse_dsn(self._dsn).get("port", "5432")
        except psycopg2.ProgrammingError:
            port = ""
        if not all(one.isdigit() for one in port.split(",")):
            # psycopg2's own words may hold a part of the password.
            raise UsageError(
                "The DSN of the destination cannot be read.",
                guidance="Signs such as @ # / in a password are written %40 %23 %2F.",
            )

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, Postgres destination)."""
        prefix = "DESTINATION__POSTGRES__CREDENTIALS"
        if environ.get(prefix):
            return {"dsn": environ[prefix]}
        keys = {"HOST": "host", "PORT": "port", "DATABASE": "dbname", "USERNAME": "user", "PASSWORD": "password"}
        parts = {keyword: environ[f"{prefix}__{key}"] for key, keyword in keys.items() if f"{prefix}__{key}" in environ}
        return {"dsn": make_dsn(**parts)} if parts else {}

    def describe(self) -> str:
        parts = parse_dsn(self._dsn)
        return f"postgres {parts.get('host', 'localhost')}:{parts.get('port', '5432')}/{parts.get('dbname', '')}"

    def writer(self, dataset: str) -> PostgresWriter:
        return PostgresWriter(self._dsn, dataset)


class PostgresWriter(TransactionalWriter):
    """Writes to one schema over one connection."""

    text_type = "character varying"
    row_id = "ctid"

    def __init__(self, dsn: str, dataset: str) -> None:
        super().__init__(dataset)
        self._dsn = dsn
        self._connection: psycopg2.extensions.connection | None = None
        self._contacted = False
        self._longest: float | None = None

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        connection = self._connect()
        try:
            yield _PostgresCursor(connection, self._longest)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> psycopg2.extensions.connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            connection = psycopg2.connect(_session_dsn(self._dsn))
        except psycopg2.Error as error:
            raise _contact_error(error, contacted=self._contacted) from error
        connection.autocommit = True
        self._connection = connection
        try:
            with _translated():
                self._longest = _longest(connection)
        except BaseException:
            self.close()
            raise
        self._contacted = True
        return connection

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None and not connection.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as side:
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def prepare(self) -> None:
        with self.session() as cursor:
            exists = cursor.rows("select 1 from pg_namespace where nspname = ?", [self.dataset])
            tables = cursor.rows(
                "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace "
                f"where n.nspname = ? and c.relname in ({', '.join('?' * len(TABLES))})",
                [self.dataset, *TABLES],
            )
            # CREATE SCHEMA IF NOT EXISTS asks for a grant even where it exists, and two at once collide.
            if not (exists and len(tables) == len(TABLES)):
                # On failure the session is closed, and the lock with it.
                cursor.execute("select pg_advisory_lock(?)", [_lock_key(self.dataset, "")])
                super().prepare()
                cursor.execute("select pg_advisory_unlock(?)", [_lock_key(self.dataset, "")])

    @property
    def dialect(self) -> PostgresDialect:  # type: ignore[override]
        """The server's dialect: one in another encoding hashes what its text is in UTF-8."""
        return PostgresDialect(converts=self._connect().info.parameter_status("server_encoding") != "UTF8")

    def sql_type(self, column: TargetColumn) -> str:
        arrow = column.type
        if column.json:
            # json keeps the text as it is; jsonb would write an array of the source in another way.
            return "jsonb" if column.native == "jsonb" else "json"
        if pa.types.is_decimal(arrow):
            return f"numeric({arrow.precision},{arrow.scale})"
        if pa.types.is_timestamp(arrow):
            return "timestamp with time zone" if arrow.tz else "timestamp without time zone"
        return _TYPES[str(arrow)]

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        assert isinstance(cursor, _PostgresCursor)
        names = ", ".join(quote(column.name) for column in target.columns)
        sources = [column.source for column in target.columns]
        for chunk in chunks:
            if named:
                # A default costs less than the same text in every row that is sent.
                cursor.execute(f"alter table {stage} alter column _runner_chunk set default {literal(chunk.id)}")
            with _CsvStream(chunk.files, sources) as stream:
                cursor.copy(f"copy {stage} ({names}) from stdin (format csv)", stream)

    def swap(self, cursor: Cursor, target: Target, *, exists: bool) -> None:
        table, stage = self.name(target.name), self.name(target.stage)
        if not exists:
            cursor.execute(f"alter table {stage} rename to {quote(target.name)}")
            return
        kind = cursor.rows("select relkind from pg_class where oid = ?::regclass", [table])[0][0]
        if kind != "r":
            raise NotOurs(f"{target.name} at the destination is not a plain table.", table=target.name)
        # Readers that wait for this lock longer than a swap takes have a long query of their own.
        cursor.execute(f"lock table {table} in access exclusive mode")
        if self._has_dependents(cursor, table):
            # Views and the like hang on the table itself, so its rows are exchanged and not the table:
            # DELETE and INSERT are one change to every reader here (MVCC), TRUNCATE would not be.
            self._exchange_rows(cursor, target)
            return
        grants = self._grants(cursor, table, stage)
        cursor.execute(f"drop table {table}")
        cursor.execute(f"alter table {stage} rename to {quote(target.name)}")
        for grant in grants:
            cursor.execute(grant)

    def _has_dependents(self, cursor: Cursor, table: str) -> bool:
        """Look for what would be lost with the table: views, keys, indexes, policies, triggers."""
        return bool(
            cursor.rows(
                "select 1 from pg_depend where refobjid = ?::regclass and classid in ('pg_rewrite'::regclass, "
                "'pg_policy'::regclass, 'pg_publication_rel'::regclass, 'pg_trigger'::regclass) "
                "union all select 1 from pg_index where indrelid = ?::regclass "
                "union all select 1 from pg_constraint where confrelid = ?::regclass "
                "or (conrelid = ?::regclass and contype in ('c', 'f', 'p', 'u', 'x')) limit 1",
                [table] * 4,
            )
        )

    def _exchange_rows(self, cursor: Cursor, target: Target) -> None:
        try:
            self.fit_columns(cursor, target, self.existing_columns(cursor, target.name)[target.name])
        except SchemaConflict as error:
            raise SchemaConflict(
                f"{error.message} Views, keys or indexes depend on the table.",
                guidance="Drop what depends on the table, then run the same command again.",
                table=target.name,
            ) from error
        cursor.execute(f"delete from {self.name(target.name)}")
        self.insert_rows(cursor, target)

    def _grants(self, cursor: Cursor, table: str, stage: str) -> list[str]:
        """Return the statements that give the new table the old one's owner, grants and comment."""
        rows = cursor.rows(
            "select case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end, "
            "privilege_type, is_grantable from pg_class c, aclexplode(c.relacl) where c.oid = ?::regclass "
            "and grantee <> c.relowner",
            [table],
        )
        new = table
        statements = [
            f"grant {privilege} on {new} to {role}{' with grant option' if grantable else ''}"
            for role, privilege, grantable in rows
        ]
        for column, role, privilege in cursor.rows(
            "select a.attname, case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end, "
            "privilege_type from pg_attribute a, aclexplode(a.attacl) "
            "where a.attrelid = ?::regclass and a.attnum > 0 and exists (select 1 from pg_attribute n "
            "where n.attrelid = ?::regclass and n.attname = a.attname)",
            [table, stage],
        ):
            statements.append(f"grant {privilege} ({quote(column)}) on {new} to {role}")
        owner = cursor.rows(
            "select quote_ident(pg_get_userbyid(relowner)), relowner = (select oid from pg_roles "
            "where rolname = current_user), quote_literal(obj_description(oid, 'pg_class')) "
            "from pg_class where oid = ?::regclass",
            [table],
        )[0]
        if not owner[1]:
            statements.append(f"alter table {new} owner to {owner[0]}")
        if owner[2]:
            statements.append(f"comment on table {new} is {owner[2]}")
        return statements

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for name, column, kind in cursor.rows(
            "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_class c "
            "join pg_namespace n on n.oid = c.relnamespace "
            "left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
            "where n.nspname = ? and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = coalesce(?, c.relname) "
            "order by 1, a.attnum",
            [self.dataset, table],
        ):
            columns = found.setdefault(name, {})
            if column is not None:
                columns[column] = kind
        return found

    def widens(self, old: str, new: str) -> bool:
        order = ("smallint", "integer", "bigint")
        if old in order and new in order:
            return order.index(old) <= order.index(new)
        if old.startswith("numeric(") and new.startswith("numeric("):
            (precision, scale), (wider, deeper) = precision_and_scale(old), precision_and_scale(new)
            return deeper >= scale and wider - deeper >= precision - scale
        return (old, new) in (("real", "double precision"), ("character varying", "text")) or old == new

    def lock_table(self, cursor: Cursor, table: str) -> None:
        cursor.rows("select pg_advisory_xact_lock(?)", [_lock_key(self.dataset, table)])

    def registry_client(self) -> RegistryClient:
        return RegistryClient("postgres", self._dsn, self.dataset, self._registering, self._answered_soon)

    @contextlib.contextmanager
    def _registering(self) -> Iterator[None]:
        """Keep others from changing dlt's schema between its reading and its writing."""
        with self.session() as cursor:
            cursor.execute("begin")
            self.lock_table(cursor, "_dlt_version")
            yield
            cursor.execute("commit")

    def _answered_soon(self, connection: psycopg2.extensions.connection) -> contextlib.AbstractContextManager[None]:
        # Whatever dlt asks is answered at once: a few rows of its own tables.
        return _bounded(connection, 3 * _way(self._connect()))

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            with self.session() as cursor:
                version = cursor.rows("show server_version")[0][0]
                user, create, schema = cursor.rows(
                    "select current_user, has_database_privilege(current_database(), 'create'), "
                    "(select has_schema_privilege(oid, 'create') from pg_namespace where nspname = ?)",
                    [self.dataset],
                )[0]
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        checks = [("ok", f"destination PostgreSQL {version} answers", "")]
        if schema is None and not create:
            checks.append(
                (
                    "fail",
                    f"{user} may not create the schema {self.dataset}",
                    f"grant create on database {quote(self._database())} to {quote(user)};",
                )
            )
        elif schema is False:
            checks.append(
                (
                    "fail",
                    f"{user} may not create tables in {self.dataset}",
                    f"grant create, usage on schema {quote(self.dataset)} to {quote(user)};",
                )
            )
        else:
            checks.append(("ok", f"{user} may create tables in {self.dataset}", ""))
        return checks

    def _database(self) -> str:
        return str(self._connect().info.dbname)


class _PostgresCursor:
    def __init__(self, connection: psycopg2.extensions.connection, longest: float | None) -> None:
        self._connection = connection
        self._longest = longest

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        with self._call() as cursor:
            cursor.execute(*_percent(sql, values))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._call() as cursor:
            cursor.execute(*_percent(sql, values))
            return cursor.fetchall()

    def copy(self, sql: str, stream: Any) -> None:
        with self._call() as cursor:
            cursor.copy_expert(sql, stream, size=2**20)

    @contextlib.contextmanager
    def _call(self) -> Iterator[psycopg2.extensions.cursor]:
        with _translated(), _bounded(self._connection, self._longest), self._connection.cursor() as cursor:
            yield cursor


class _CsvStream(io.RawIOBase):
    """The rows of Parquet files as CSV; a thread makes the next few thousand while the last are sent."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str]) -> None:
        self._batches = self._read(files, list(columns))
        self._rest = memoryview(b"")
        self._ahead = ThreadPoolExecutor(1)
        self._next = self._ahead.submit(next, self._batches, b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._next.result())
            if self._rest:
                self._next = self._ahead.submit(next, self._batches, b"")
        part = self._rest[: size if size > 0 else None]
        self._rest = self._rest[len(part) :]
        return bytes(part)

    def close(self) -> None:
        self._ahead.shutdown()
        self._batches.close()
        super().close()

    def _read(self, files: Sequence[Path], columns: list[str]) -> Generator[bytes, None, None]:
        options = pacsv.WriteOptions(include_header=False)
        for file in files:
            with pq.ParquetFile(file) as parquet:
                # A batch may not span row groups: those are bounded in bytes, and rows alone bound nothing.
                for group in range(parquet.num_row_groups):
                    size = _batch_rows(parquet.metadata.row_group(group))
                    for batch in parquet.iter_batches(batch_size=size, columns=columns, row_groups=[group]):
                        table = pa.table([_hex(batch.column(name)) for name in columns], names=columns)
                        sink = pa.BufferOutputStream()
                        pacsv.write_csv(table, sink, options)
                        yield sink.getvalue().to_pybytes()


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    """Return how many rows of a row group become text at once: at most a million values, some megabytes."""
    by_values = _BATCH_VALUES // group.num_columns
    by_bytes = _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
    return max(1, min(_BATCH_ROWS, int(by_values), int(by_bytes)))


def _hex(array: pa.Array) -> pa.Array:
    if array.type != pa.binary():
        return array
    return pa.array([None if value is None else "\\x" + value.hex() for value in array.to_pylist()], pa.string())


def _session_dsn(dsn: str) -> str:
    """Return a DSN with our settings of a session; how long it waits, the given one may say itself."""
    own = parse_dsn(dsn)
    found = {
        "connect_timeout": "10",
        # A server that is gone without a word is noticed by the kernel within a minute, not within hours.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "60000",
        **own,
        "application_name": "orchestra-runner",
        "options": f"-c lock_timeout=60s -c idle_in_transaction_session_timeout=10min "
        f"-c statement_timeout=6h {own.get('options', '')} "
        "-c TimeZone=UTC -c DateStyle=ISO -c bytea_output=hex -c client_encoding=UTF8",
    }
    return str(make_dsn(**found))


_TYPES = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float": "real",
    "double": "double precision",
    "string": "character varying",
    "binary": "bytea",
    "date32[day]": "date",
    "time64[us]": "time without time zone",
}


def _percent(sql: str, values: Sequence[Any]) -> tuple[str, list[Any] | None]:
    """Return a statement and its values as psycopg2 takes them; without values it leaves every sign alone."""
    return (sql.replace("%", "%%").replace("?", "%s"), list(values)) if values else (sql, None)


def _lock_key(dataset: str, table: str) -> int:
    digest = hashlib.blake2b(f"runner {dataset}.{table}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _way(connection: psycopg2.extensions.connection) -> float:
    """Return the seconds that any answer may take, whatever was asked."""
    return float(connection.info.dsn_parameters["connect_timeout"])


def _longest(connection: psycopg2.extensions.connection) -> float | None:
    """Return the seconds after which a statement has no answer any more: the server's own time-out, and the way."""
    way = _way(connection)
    with _bounded(connection, way), connection.cursor() as cursor:
        cursor.execute("select setting::float / 1000 from pg_settings where name = 'statement_timeout'")
        (seconds,) = cursor.fetchone() or (0,)
    return seconds + way if seconds else None


@contextlib.contextmanager
def _bounded(connection: psycopg2.extensions.connection, seconds: float | None) -> Iterator[None]:
    """Hang up on a server that is silent for too long: a thread inside the driver cannot be cancelled otherwise."""
    if seconds is None or connection.closed:
        yield
        return
    late = threading.Event()
    # A descriptor of our own: the driver's may be closed, and its number be another file, when the time is over.
    with socket.socket(fileno=os.dup(connection.fileno())) as side:

        def hang_up() -> None:
            late.set()
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg2.Error as error:
            if late.is_set():
                raise DestinationDown("PostgreSQL did not answer in time.") from error
            raise
        finally:
            timer.cancel()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        raise _translate(error) from error


def _translate(error: psycopg2.Error) -> RunnerError:
    text = redact(str(error)).strip().split("\n")[0].rstrip(".") + "."
    state = error.pgcode or ""
    if state in ("53100", "53200"):
        return DiskFull(f"PostgreSQL: {text}")
    if state in ("42501", "25006"):
        return ReadOnly(f"PostgreSQL: {text}")
    if state in ("40P01", "40001", "55P03"):
        return TableLocked(f"PostgreSQL: {text}")
    if not state or state.startswith(("08", "57P")):
        return DestinationDown(f"PostgreSQL: {text}")
    return DestinationError(f"PostgreSQL: {text}")


def _contact_error(error: psycopg2.Error, *, contacted: bool) -> RunnerError:
    text = redact(str(error)).strip().split("\n")[0].rstrip(".") + "."
    if contacted:
        return DestinationDown(f"PostgreSQL: {text}")
    if "password" in text or "authentication" in text or "role" in text:
        return CredentialsRejected(f"The destination refused us: {text}")
    if "does not exist" in text:
        return DatabaseMissing(f"The destination refused us: {text}")
    return Unreachable(f"The destination does not answer: {text}")
