"""Writes to Databricks: files are PUT into a volume, read into staging, and published by one statement.

Databricks commits each statement by itself. So every step is one statement that can be repeated: what is staged of a
chunk is exchanged, the publication is written down as an intent before it is carried out, and its books follow. Each
of these statements fails by itself where the lease is not ours any more when it starts.

Facts, all of docs.databricks.com: "PUT INTO", "LIST", "REMOVE", "Query data by path", "INSERT" (REPLACE WHERE),
"COLUMNS" of the information schema, "Isolation levels and write conflicts" (rows that are only added do not conflict; a
table that is replaced ends statements under way on it).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from runner.crash import crash_point
from runner.errors import DestinationError, LeaseLost, RunnerError
from runner.load import RENEW_SECONDS, ChunkLoad, Cost, Held, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import literal, quote
from runner.writers import databrickssql as dialect
from runner.writers.books import Books
from runner.writers.cursor import Cursor
from runner.writers.databricksconnection import Warehouse, WarehouseCursor
from runner.writers.databricksfiles import file_names, readable
from runner.writers.databricksintents import INTENTS, Intent, Intents, cut_off
from runner.writers.databrickspublication import StatementPublisher
from runner.writers.nohashes import NoHashes
from runner.writers.publication import CHUNK
from runner.writers.registry import RegistryClient
from runner.writers.rowleases import Claims
from runner.writers.transactional import TransactionalWriter

FILES = "_runner_files"
_FILE = "_runner_file"
_STATEMENT_FILES = 50


class DatabricksWriter(TransactionalWriter):
    """Writes to one schema of a catalog.

    Args:
        connect: Opens a connection of the driver.
        volume: The volume for files as CATALOG.SCHEMA.VOLUME; empty is one of the dataset's own.
        credentials: What dlt takes as credentials.
    """

    text_type = "STRING"
    timestamp_type = "TIMESTAMP"
    now = "current_timestamp()"
    microsecond = "interval 1 microsecond"
    seconds = "unix_millis(current_timestamp()) / 1000D"
    transactional_ddl = False
    readers_wait = False
    leases_type = Claims
    leases: Claims
    publisher_type = StatementPublisher
    dialect: NoHashes = NoHashes("Databricks")

    def __init__(
        self, connect: Callable[[], Any], catalog: str, volume: str, dataset: str, credentials: dict[str, Any]
    ) -> None:
        self._catalog = catalog
        super().__init__(dataset)
        self._warehouse = Warehouse(connect)
        self._credentials = credentials
        self._own_volume = not volume
        place = [*volume.split("."), dataset] if volume else [catalog, dataset, FILES]
        self._root = "/".join(["/Volumes", *place])
        self._intents = Intents(dataset, self.name, self.leases, self.seconds, self.now)
        self._renewed = 0.0
        self._lease: Lease | None = None
        self._sent = 0

    # The session.

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        try:
            yield self._warehouse.cursor()
        except BaseException:
            self.close()
            raise

    def interrupt(self) -> None:
        self._warehouse.interrupt()

    def close(self) -> None:
        self._warehouse.close()

    # The dataset.

    def name(self, table: str) -> str:
        return f"{quote(self._catalog)}.{quote(self.dataset)}.{quote(table)}"

    def folder(self, stage: str) -> str:
        """Return where the files of a staging table are."""
        return f"{self._root}/{stage}"

    def prepare(self) -> None:
        with self.session() as cursor:
            schema = f"{quote(self._catalog)}.{quote(self.dataset)}"
            if not self._has_schema(cursor):
                cursor.execute(f"create schema if not exists {schema}")
            if self._own_volume:
                cursor.execute(f"create volume if not exists {self.name(FILES)}")
            self.make_books(cursor)
            intents = self.book_columns(self._intents.columns())
            cursor.execute(f"create table if not exists {self.name(INTENTS)} ({intents})")

    def _information(self, view: str) -> str:
        return f"{quote(self._catalog)}.information_schema.{view}"

    def _has_schema(self, cursor: Cursor) -> bool:
        named = literal(self.dataset.lower())
        return bool(cursor.rows(f"select 1 from {self._information('schemata')} where schema_name = {named}"))

    def book_columns(self, columns: str) -> str:
        return dialect.book_columns(columns.format(text="text"))

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        named = f" and table_name = {literal(table)}" if table is not None else ""
        for name, column, kind in cursor.rows(
            f"select table_name, column_name, full_data_type from {self._information('columns')} "
            f"where table_schema = {literal(self.dataset.lower())}{named} order by table_name, ordinal_position"
        ):
            found.setdefault(name, {})[column] = kind.upper().replace(" ", "")
        return found

    def sql_type(self, column: TargetColumn) -> str:
        return dialect.column_type(column)

    def widens(self, old: str, new: str) -> bool:
        return dialect.widens(old, new)

    # Leases, and what somebody left half done.

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        wanted = sorted(tables)
        held = super().acquire(lease, wanted)
        self._renewed = time.monotonic()
        mine = sorted({*wanted} - {one.table for one in held})
        if mine:
            # Before the state is read: a run that is planned from an old mark would load the same rows again.
            with self.session() as cursor:
                for intent in self._intents.open(cursor, mine):
                    try:
                        self._complete(cursor, lease, intent)
                    except DestinationError as error:
                        # What cannot be completed concerns its table alone, which meets it again.
                        if error.retriable:
                            raise
        return held

    def renew(self, lease: Lease) -> None:
        super().renew(lease)
        self._renewed = time.monotonic()

    def _complete(self, cursor: Cursor, lease: Lease, intent: Intent) -> None:
        self._intents.complete(cursor, lease, intent)
        self._tidy(cursor, intent.table, intent.load_id)

    def _settle(self, cursor: Cursor, lease: Lease, work: TableWork) -> None:
        """Complete what somebody left of a table, before its staging table is touched.

        Raises:
            DestinationError: It cannot be completed, and what comes would double its rows.
        """
        for intent in self._intents.open(cursor, [work.target.name]):
            try:
                self._complete(cursor, lease, intent)
            except DestinationError as error:
                if error.retriable or isinstance(error, LeaseLost):
                    raise
                if intent.adds and work.publication is None:
                    continue
                if intent.adds and work.publication is not None and not work.publication.replace:
                    raise cut_off(intent, error) from error
                # The mark was not moved: the same rows are read again, and exchange or merge what is there.
                self._intents.forget(cursor, intent.load_id)

    def carry_out(self, cursor: Cursor, lease: Lease, intent: Intent) -> None:
        """Write an intent down and carry it out."""
        self._stay(cursor, lease)
        self._intents.begin(cursor, lease, intent)

    def _stay(self, cursor: Cursor, lease: Lease) -> None:
        """Renew the leases where that was long ago: the loader does it between packages, and one may take long."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self.leases.renew(cursor, lease)
            self._renewed = time.monotonic()

    # Works, of which each is done by itself.

    def _groups(self, works: Sequence[TableWork]) -> Iterator[list[TableWork]]:
        yield from ([work] for work in works)

    def _transaction(self, cursor: Cursor, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        before, self._sent = self._warehouse.statements, 0
        outcomes = super()._transaction(cursor, lease, works)
        outcomes[0].cost = Cost(self._warehouse.statements - before, self._sent)
        return outcomes

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        self._lease = lease
        for work in works:
            self._settle(cursor, lease, work)

    def commit(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        for work in works:
            if work.publication is not None:
                self._tidy(cursor, work.target.name, work.publication.load_id)

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Nothing can be locked: what a statement relies on it checks itself."""

    def swap(self, cursor: Cursor, target: Target, *, exists: bool) -> None:
        """Refuse: a table is exchanged by the one statement of its publication."""
        raise NotImplementedError  # StatementPublisher exchanges no tables

    def _stage(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        target = work.target
        done = books.receipts[target.name]
        if work.fresh or not done:
            if done:
                # First: receipts without rows would be believed.
                self._forget(cursor, target.name, receipts=True)
            self.create_stage(cursor, target, named=True)
            if work.plan is not None:
                books.note_plan(target, work.plan)
            done = {}
        new = [chunk for chunk in work.chunks if done.get(chunk.id) != chunk.epoch]
        for chunk in new:
            if chunk.id in done:
                cursor.execute(
                    f"delete from {self.name('_runner_chunks')} where table_name = ? and chunk = ?",
                    [target.name, chunk.id],
                )
        self.copy(cursor, self.name(target.stage), target, new, named=True)
        for chunk in new:
            crash_point("load-staged", target.source_table)
            books.note_chunk(target, chunk)
            outcome.rows += chunk.rows

    def create_stage(self, cursor: Cursor, target: Target, *, named: bool) -> None:
        """Make the staging table anew: every row has its chunk and its file, and none is declared NOT NULL."""
        columns = [f"{quote(column.name)} {self.sql_type(column)}" for column in target.columns]
        columns += [f"{quote(CHUNK)} STRING", f"{quote(_FILE)} STRING"]
        cursor.execute(f"create or replace table {self.name(target.stage)} ({', '.join(columns)})")

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        assert isinstance(cursor, WarehouseCursor)
        assert self._lease is not None
        condition = self.leases.condition(self._lease, [target.name])
        values = ", ".join(
            f"cast({value} as {self.sql_type(column)}) as {quote(column.name)}"
            for column, value in zip(target.columns, self.in_files(target).values(), strict=True)
        )
        for group in _in_statements(chunks):
            parts = []
            for chunk in group:
                for file in chunk.files:
                    # A new name every time: COPY INTO skips a file whose name it has loaded, whatever is in it.
                    name = f"{uuid.uuid4().hex}.parquet"
                    place = f"{self.folder(target.stage)}/{name}"
                    with readable(file) as ready:
                        cursor.put(ready, place)
                        self._sent += ready.stat().st_size
                    parts.append(
                        f"select {values}, {literal(chunk.id)} as {quote(CHUNK)}, {literal(name)} as {quote(_FILE)} "
                        f"from parquet.{quote(place)}"
                    )
            if parts:
                self._stay(cursor, self._lease)
                fill = dialect.fill_stage(stage, [chunk.id for chunk in group if chunk.files], parts)
                cursor.execute(dialect.guarded(fill, condition))

    def in_files(self, target: Target) -> dict[str, str]:
        """Return the columns of the target's files, as SQL, by the names that they get."""
        names = file_names([column.source for column in target.columns])
        return {column.name: quote(names[column.source]) for column in target.columns}

    def discard(self, target: Target) -> None:
        with self.session() as cursor:
            self._forget(cursor, target.name, receipts=True)
            cursor.execute(f"drop table if exists {self.name(target.stage)}")

    def _forget(self, cursor: Cursor, table: str, *, receipts: bool = False) -> None:
        """Forget the plan of a table, and what is staged of it."""
        for book in ["_runner_chunks"] * receipts + ["_runner_plans"]:
            cursor.execute(f"delete from {self.name(book)} where table_name = ?", [table])

    def _tidy(self, cursor: Cursor, table: str, load_id: str) -> None:
        """Drop what a publication leaves; what stays behind is found and dropped by the next one."""
        assert isinstance(cursor, WarehouseCursor)
        stage = Target(table, ()).stage
        # The rows are published: a failure here must not be told as theirs.
        with contextlib.suppress(RunnerError):
            self._intents.forget(cursor, load_id)
            self._forget(cursor, table)
            cursor.execute(f"drop table if exists {self.name(stage)}")
            cursor.empty(self.folder(stage))

    # dlt's schema, and checks.

    def registry_client(self) -> RegistryClient:
        return RegistryClient("databricks", self._credentials, self.dataset, contextlib.nullcontext)

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            with self.session() as cursor:
                user = cursor.rows("select current_user()")[0][0]
                exists = self._has_schema(cursor)
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        checks = [("ok", f"Databricks answers as {user}, catalog {self._catalog}", "")]
        if not exists:
            advice = f"grant create schema on catalog {self._catalog} to `{user}`;"
            checks.append(("warn", f"the schema {self.dataset} will be made", advice))
        return checks


def _in_statements(chunks: Sequence[ChunkLoad]) -> Iterator[list[ChunkLoad]]:
    """Return chunks in groups whose files are read by one statement."""
    group: list[ChunkLoad] = []
    for chunk in chunks:
        if group and sum(len(one.files) for one in [*group, chunk]) > _STATEMENT_FILES:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group
