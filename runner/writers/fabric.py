"""Microsoft Fabric: files are put into OneLake or ADLS, COPY INTO and the books are one transaction of a warehouse.

All that a transaction reads is one picture there, that of its first statement; of two that change rows of one table the
first to commit wins, and the other one is undone. So what other warehouses look at before they commit could not be
seen: instead, each table has a row of its own, in a table of its own, which every transaction on it changes. Whoever
comes second is undone, or began after the first one's commit and finds its history row.

Statements are written in the SQL of the recipe and spelled in T-SQL by ``tsql.spelled()``.

Facts: learn.microsoft.com, "Transactions in Warehouse tables" (snapshot isolation alone; conflicts are of whole tables
and found at the commit; tables may be made in a transaction), "T-SQL surface area" (no query of system and user tables
together), "COPY INTO" (files by their columns' places; a SAS, or the login itself), "Collation".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import DestinationRefused, RunnerError
from runner.load import ChunkLoad, Cost, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import inlined, literal, quote
from runner.rowhash import Dialect
from runner.secrets import remember
from runner.writers import tsql
from runner.writers.cursor import Cursor
from runner.writers.fabriclogin import (
    CHANGED,
    FabricConfig,
    contact_error,
    login_arguments,
    store_options,
    translated,
)
from runner.writers.nohashes import NoHashes
from runner.writers.objects import Objects
from runner.writers.publication import CHUNK
from runner.writers.registry import RegistryClient
from runner.writers.transactional import PROMISES
from runner.writers.warehouse import WarehouseWriter

# Tables have no comments there: these are the ids of those that a load made.
_MADE = "_runner_made"
# Texts of keys and of the books are compared sign by sign.
_COLLATION = "Latin1_General_100_BIN2_UTF8"


class Fabric:
    """A warehouse of Microsoft Fabric.

    Args:
        options: The keys of the destination in the job file, as FabricConfig has them.
        folder: Not used: nothing is kept here.
        memory: Not used: files are uploaded as they are.
    """

    config_model = FabricConfig
    max_name = 128
    promises: ClassVar[dict[str, str]] = {mode: PROMISES[mode] for mode in ("full", "append", "incremental")}
    metered = True
    unproved = (
        "there is no server that speaks its protocol where the tests run; its statements are compared with files that "
        "were read by eye"
    )

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        self.config = FabricConfig.model_validate(options)
        for secret in (self.config.client_secret, self.config.stage_credential):
            if secret:
                remember(f"secret='{secret}'")
        self.config.check()
        if find_spec("mssql_python") is None:
            raise ModuleNotFoundError(name="mssql-python")

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, Fabric destination)."""
        prefix = "DESTINATION__FABRIC__CREDENTIALS"
        keys = {
            "HOST": "server",
            "DATABASE": "database",
            "AZURE_TENANT_ID": "tenant_id",
            "AZURE_CLIENT_ID": "client_id",
            "AZURE_CLIENT_SECRET": "client_secret",
        }
        return {name: environ[f"{prefix}__{key}"] for key, name in keys.items() if environ.get(f"{prefix}__{key}")}

    def describe(self) -> str:
        return f"fabric {self.config.server}/{self.config.database}"

    def writer(self, dataset: str) -> FabricWriter:
        return FabricWriter(self.config, dataset)


class FabricWriter(WarehouseWriter):
    """Writes to one schema over one connection."""

    text_type = tsql.TEXT
    timestamp_type = tsql.MOMENT
    now = tsql.NOW
    seconds = tsql.SECONDS
    most_values = tsql.MOST_VALUES
    conflict_guidance = CHANGED
    dialect: Dialect = NoHashes("Fabric")

    def __init__(self, config: FabricConfig, dataset: str) -> None:
        super().__init__(dataset)
        self._config = config
        self._connection: Any = None
        self._contacted = False
        self._run = ""
        self._statements = 0
        self._several: set[ChunkLoad] = set()
        self._turns: set[str] = set()

    # The connection.

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        try:
            yield _FabricCursor(self, self._connect())
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Any:
        if self._connection is None:
            import mssql_python as driver

            # A connection that goes back to a pool would keep its transaction, and what that locks.
            driver.pooling(enabled=False)
            try:
                self._connection = driver.connect(**login_arguments(self._config))
            except driver.Error as error:
                raise contact_error(error, contacted=self._contacted) from None
            self._contacted = True
        return self._connection

    @cached_property
    def _objects(self) -> Objects:
        return Objects(self._config.stage_url, store_options(self._config))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A session that is gone already cannot be closed, and need not be.
            with contextlib.suppress(Exception):
                connection.close()

    def count(self) -> None:
        """Count a statement."""
        self._statements += 1

    def spent(self) -> Cost:
        return Cost(self._statements)

    # The dataset.

    def prepare(self) -> None:
        with self.session() as cursor:
            self._check_collation(cursor)
            if not self._has_schema(cursor):
                _raw(cursor, f"create schema {tsql.spelled(quote(self.dataset))}")
            self.make_books(cursor)

    def _check_collation(self, cursor: Cursor) -> None:
        found = cursor.rows("select cast(databasepropertyex(db_name(), 'Collation') as varchar(128))")[0][0]
        if found != _COLLATION:
            raise DestinationRefused(
                f"The warehouse has the collation {found}, in which keys that differ may be equal.",
                guidance=f"Load into a warehouse with {_COLLATION}, which is the default.",
            )

    def _has_schema(self, cursor: Cursor) -> bool:
        return bool(cursor.rows(f"select 1 from sys.schemas where name = {literal(self.dataset)}"))

    def make_books(self, cursor: Cursor) -> None:
        super().make_books(cursor)
        cursor.execute(
            f"create table if not exists {self.name(_MADE)} (object_id bigint not null, load_id varchar(8000) not null)"
        )

    def book_columns(self, columns: str) -> str:
        return tsql.book_columns(super().book_columns(columns))

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        named = f" and TABLE_NAME = {literal(table)}" if table is not None else ""
        for name, column, *kind in cursor.rows(
            "select TABLE_NAME, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, "
            f"DATETIME_PRECISION from INFORMATION_SCHEMA.COLUMNS where TABLE_SCHEMA = {literal(self.dataset)}{named} "
            "order by TABLE_NAME, ORDINAL_POSITION"
        ):
            found.setdefault(name, {})[column] = tsql.stored_type(*kind)
        return found

    def mandatory(self, cursor: Cursor, table: str, existing: Mapping[str, str]) -> set[str]:
        """Return none: columns are made nullable, and a table of somebody else's refuses NULL in its own words."""
        return set()

    def unpublished(self, cursor: Cursor) -> set[str]:
        if _MADE not in self.existing_columns(cursor, _MADE):
            return set()
        # Two queries: system tables and tables of the warehouse cannot be joined.
        made = {int(row[0]) for row in cursor.rows(f"select object_id from {self.name(_MADE)}")}
        tables = f"select name, object_id from sys.tables where schema_id = schema_id({literal(self.dataset)})"
        return {name for name, number in cursor.rows(tables) if int(number) in made}

    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        if anew:
            cursor.execute(f"drop table if exists {table}")
        # Were they not made together, a table without its note would be taken for somebody else's: refused, not lost.
        cursor.execute("begin")
        cursor.execute(f"create table {table} ({columns})")
        number = cursor.rows(f"select object_id({literal(tsql.spelled(table))}, 'U')")[0][0]
        cursor.execute(f"insert into {self.name(_MADE)} (object_id, load_id) values (?, ?)", [number, load_id])
        cursor.execute("commit")

    # The dialect.

    def sql_type(self, column: TargetColumn) -> str:
        return tsql.column_type(column)

    def widens(self, old: str, new: str) -> bool:
        return tsql.widens(old, new)

    def columns(self, target: Target) -> str:
        # A column that was made NOT NULL could not be changed later.
        return ", ".join(f"{quote(column.name)} {self.sql_type(column)} null" for column in target.columns)

    def among(self, columns: str, values: str, source: str) -> str:
        names = columns.split(", ")
        own = [f"_runner_{place}" for place in range(len(names))]
        same = " and ".join(f"m.{one} = {name}" for one, name in zip(own, names, strict=True))
        return f"exists (select 1 from (select {values} from {source}) m ({', '.join(own)}) where {same})"

    def keyed(self, target: Target, source: str) -> str:
        key = [column for name in target.key for column in target.columns if column.name == name]
        table = self.name(target.name)
        same = " and ".join(self.equal(one, f"k.{quote(one.name)}", f"{table}.{quote(one.name)}") for one in key)
        names = ", ".join(quote(one.name) for one in key)
        return f"exists (select 1 from (select {names} from {source}) k where {same})"

    def equal(self, column: TargetColumn, left: str, right: str) -> str:
        return tsql.equal(column, left, right)

    def after(self, moment: str) -> str:
        return f"dateadd(microsecond, 1, {moment})"

    def grouped(self, *columns: str) -> str:
        return ", ".join(columns)

    def typed(self, text: str, kind: str) -> str:
        return super().typed(tsql.moment(text) if kind == tsql.MOMENT else text, kind)

    # Files.

    def upload(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        for file in chunk.files:
            if chunk in self._several:
                with _marked(file, chunk.id) as marked:
                    self._objects.copy(self._place(chunk, file), marked)
            else:
                self._objects.copy(self._place(chunk, file), file)

    def _place(self, chunk: ChunkLoad, file: Path) -> str:
        """Return where a file is: letters and digits alone, for some signs are patterns to COPY."""
        of_it = json.dumps([self.dataset, self._run, chunk.id, chunk.epoch, file.name])
        return f"{hashlib.blake2b(of_it.encode(), digest_size=16).hexdigest()}.parquet"

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        by_layout: dict[str, list[str]] = {}
        for chunk in chunks:
            for file in chunk.files:
                places = {name: place for place, name in enumerate(pq.read_schema(file).names, start=1)}
                columns = [f"{quote(column.name)} {places[column.source]}" for column in target.columns]
                if named:
                    columns.append(f"{quote(CHUNK)} {len(places) + 1}")
                location = f"{self._config.stage_location.rstrip('/')}/{self._place(chunk, file)}"
                by_layout.setdefault(", ".join(columns), []).append(literal(location))
        options = "file_type = 'PARQUET'"
        if self._config.stage_credential:
            secret = literal(self._config.stage_credential)
            options += f", credential = (identity = 'Shared Access Signature', secret = {secret})"
        for layout, locations in by_layout.items():
            cursor.execute(f"copy into {stage} ({layout}) from {', '.join(locations)} with ({options})")

    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        self._objects.delete([self._place(chunk, file) for file in chunk.files])

    # The transaction.

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        self._run = lease.run
        self._several = {chunk for work in works if not work.one_chunk for chunk in work.chunks}
        for work in works:
            self._make_turn(cursor, work.target.stage)
        super().begin(cursor, lease, works, outcomes)
        for work in works:
            self._take_turn(cursor, work.target.stage)

    def lost(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> list[str]:
        """Return none: the picture of the transaction has no room for others, the commit finds them."""
        return []

    def _turn(self, stage: str) -> str:
        return self.name(stage.replace("_stage_", "_turn_"))

    def _make_turn(self, cursor: Cursor, stage: str) -> None:
        """Make the row that transactions on a table change; a second one of it would be harmless."""
        turn = self._turn(stage)
        if turn not in self._turns:
            cursor.execute(f"create table if not exists {turn} (taken bigint not null)")
            cursor.execute(f"insert into {turn} (taken) select 0 where not exists (select 1 from {turn})")
            self._turns.add(turn)

    def _take_turn(self, cursor: Cursor, stage: str) -> None:
        cursor.execute(f"update {self._turn(stage)} set taken = taken + 1")

    # dlt's schema.

    def register(self, targets: list[Target]) -> None:
        with self.session() as cursor:
            self._make_turn(cursor, _SCHEMA)
        super().register(targets)

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Let one of those that change dlt's schema through; whoever publishes a table has taken its turn."""
        if table == "_dlt_version":
            self._take_turn(cursor, _SCHEMA)

    def registry_client(self) -> RegistryClient:
        credentials = {
            "host": self._config.server,
            "database": self._config.database,
            "azure_tenant_id": self._config.tenant_id,
            "azure_client_id": self._config.client_id,
            "azure_client_secret": self._config.client_secret,
        }
        given = {key: value for key, value in credentials.items() if value}
        return RegistryClient("fabric", given, self.dataset, contextlib.nullcontext)

    # Checks.

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            with self.session() as cursor:
                user, database = cursor.rows("select suser_sname(), db_name()")[0]
                checks = [("ok", f"Fabric answers as {user}, warehouse {database}", "")]
                self._check_collation(cursor)
            self._objects.write("_runner_probe", [b"probe"])
            self._objects.delete(["_runner_probe"])
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return [*checks, ("ok", f"files can be put to {self._config.stage_url}", "")]


_SCHEMA = "_runner_stage_dlt_version"


class _FabricCursor:
    def __init__(self, writer: FabricWriter, connection: Any) -> None:
        self._writer = writer
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.raw(tsql.spelled(inlined(sql, values)))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.raw(tsql.spelled(inlined(sql, values)))

    def raw(self, sql: str) -> list[tuple[Any, ...]]:
        """Execute a statement that is spelled in T-SQL already; return its rows."""
        import mssql_python as driver

        self._writer.count()
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute(sql, use_prepare=False)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        except driver.Error as error:
            # The driver's own error may hold the statement, and that a SAS.
            raise translated(error) from None


def _raw(cursor: Cursor, sql: str) -> None:
    assert isinstance(cursor, _FabricCursor)
    cursor.raw(sql)


@contextlib.contextmanager
def _marked(file: Path, chunk: str) -> Iterator[Path]:
    """Lend a copy of a file whose last column is the chunk's id."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, pq.ParquetFile(file) as source:
        copy = Path(folder) / file.name
        schema = source.schema_arrow.append(pa.field(CHUNK, pa.string()))
        with pq.ParquetWriter(copy, schema, compression="snappy") as writer:
            for batch in source.iter_batches():
                names = pa.repeat(pa.scalar(chunk), batch.num_rows)
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, names], schema=schema))
        yield copy
