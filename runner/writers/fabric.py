"""Microsoft Fabric: files are put into OneLake or ADLS, COPY INTO and the books are one transaction of a warehouse.

All that a transaction reads is one picture there, that of its first statement; of two that change rows of one table the
first to commit wins, and the other one is undone. So what other warehouses look at before they commit could not be
seen: instead, each table has a row of its own, in a table of its own, which every transaction on it changes. Whoever
comes second is undone, or began after the first one's commit and finds its history row.

Statements are written in the SQL of the recipe and spelled in T-SQL by ``tsql.spelled()``.

Facts: learn.microsoft.com, "Transactions in Warehouse tables" (snapshot isolation alone; conflicts are of whole tables
and found at the commit; tables may be made in a transaction), "T-SQL surface area" (no query of system and user tables
together), "Collation".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from runner.errors import DestinationRefused, RunnerError
from runner.load import ChunkLoad, Cost, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import inlined, literal, quote
from runner.rowhash import Dialect
from runner.secrets import remember
from runner.writers import tsql
from runner.writers.cursor import Cursor
from runner.writers.fabricfiles import StagedFiles
from runner.writers.fabriclogin import (
    CHANGED,
    FabricConfig,
    contact_error,
    login_arguments,
    translated,
)
from runner.writers.nohashes import NoHashes
from runner.writers.registry import RegistryClient, options_of_variables
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
        return options_of_variables(environ, prefix, keys)

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
    # No table has this name: columns are named with their table's alone.
    keys_alias = quote("the keys")
    conflict_guidance = CHANGED
    dialect: Dialect = NoHashes("Fabric")

    def __init__(self, config: FabricConfig, dataset: str) -> None:
        super().__init__(dataset)
        self._config = config
        self._connection: Any = None
        self._contacted = False
        self._files = StagedFiles(config, dataset)
        self._statements = 0
        self._named: set[ChunkLoad] = set()
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

    def unmark(self, cursor: Cursor, table: str) -> None:
        """Nothing to do: to delete a note is to change the rows of one table, and a table on record needs none."""

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
        k = self.keys_alias
        same = " and ".join(self.equal(one, f"{k}.{quote(one.name)}", f"{table}.{quote(one.name)}") for one in key)
        names = ", ".join(quote(one.name) for one in key)
        return f"exists (select 1 from (select {names} from {source}) {k} where {same})"

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
        self._files.put(chunk, named=chunk in self._named)

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        for statement in self._files.copies(stage, target, chunks, named=named):
            cursor.execute(statement)

    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        self._files.remove(chunk)

    # The transaction.

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        self._files.run = lease.run
        self._named = {chunk for work in works if not work.one_chunk for chunk in work.chunks}
        for work in works:
            self._make_turn(cursor, self._turn(work.target))
        super().begin(cursor, lease, works, outcomes)
        for work in works:
            _take(cursor, self._turn(work.target))

    def lost(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> list[str]:
        """Return none: the picture of the transaction has no room for others, the commit finds them."""
        return []

    def _make_turn(self, cursor: Cursor, turn: str) -> None:
        """Make the row that transactions on a table change; a second one of it would be harmless."""
        if turn not in self._turns:
            cursor.execute(f"create table if not exists {turn} (taken bigint not null)")
            cursor.execute(f"insert into {turn} (taken) select 0 where not exists (select 1 from {turn})")
            self._turns.add(turn)

    def _turn(self, target: Target) -> str:
        return self.name(target.stage.replace("_stage_", "_turn_"))

    # dlt's schema.

    @property
    def _schema_turn(self) -> str:
        return self.name("_runner_turn_dlt_version")

    def register(self, targets: list[Target]) -> None:
        with self.session() as cursor:
            self._make_turn(cursor, self._schema_turn)
        super().register(targets)

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Let one of those that change dlt's schema through; whoever publishes a table has taken its turn."""
        if table == "_dlt_version":
            _take(cursor, self._schema_turn)

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
            self._files.probe()
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return [*checks, ("ok", f"files can be put to {self._config.stage_url}", "")]


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


def _take(cursor: Cursor, turn: str) -> None:
    cursor.execute(f"update {turn} set taken = taken + 1")


def _raw(cursor: Cursor, sql: str) -> None:
    assert isinstance(cursor, _FabricCursor)
    cursor.raw(sql)
