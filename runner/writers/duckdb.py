"""DuckDB: one file, one process at a time, a full refresh by rename."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from runner.errors import (
    DestinationBusy,
    DestinationError,
    DiskFull,
    NotOurs,
    ReadOnly,
    RunnerError,
    UsageError,
)
from runner.load import ChunkLoad, DatasetState, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import inlined, literal, quote
from runner.rowhash import DUCKDB
from runner.secrets import redact
from runner.writers.cursor import Cursor
from runner.writers.registry import RegistryClient
from runner.writers.transactional import PROMISES, TransactionalWriter, precision_and_scale

_LOCK_WAIT = 30.0
# On two cores, two threads took twice the CPU time of one for half a million rows, and as much for two million.
_THREAD_ROWS = 600_000
_LEAST_MEMORY = 128 * 2**20
# DuckDB writes a column in blocks of 256 KiB, of which two and a bit are in memory at a time.
_COLUMN_MEMORY = 640 * 2**10
_MALFORMED = re.compile(
    r"Malformed JSON at byte \d+ of input: (.+?)\.\s+Input: .* from source column (.+?)\n", re.DOTALL
)


class DuckDBConfig(BaseModel):
    """The keys of a destination of type duckdb."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(None, description="the database file, relative to the project's root")


class DuckDB:
    """A DuckDB file.

    Args:
        options: The keys of the destination in the job file, as DuckDBConfig has them.
        folder: Where a relative path starts.
        memory: Bytes that loading may take.
    """

    config_model = DuckDBConfig
    max_name = 63
    promises: ClassVar[dict[str, str]] = PROMISES
    metered = False
    unproved = ""

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        config = DuckDBConfig.model_validate(options)
        self.path = (folder / (config.path or "warehouse.duckdb")).resolve()
        self._memory = memory

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, DuckDB destination)."""
        found = environ.get("DESTINATION__DUCKDB__CREDENTIALS")
        return {"path": found.removeprefix("duckdb:///")} if found else {}

    def describe(self) -> str:
        return f"duckdb {self.path}"

    def writer(self, dataset: str) -> DuckDBWriter:
        if dataset == self.path.stem.lower():
            # DuckDB cannot tell the catalog from the schema then, and dlt refuses it.
            raise UsageError(
                f"The dataset {dataset!r} has the name of the DuckDB file {self.path.name}.",
                guidance="Give one of them another name.",
            )
        return DuckDBWriter(self.path, dataset, self._memory)


class DuckDBWriter(TransactionalWriter):
    """Writes to one schema of the file, which is open only while a package loads."""

    text_type = "varchar"
    dialect = DUCKDB

    def __init__(self, path: Path, dataset: str, memory: int) -> None:
        super().__init__(dataset)
        self.path = path
        self._memory = max(memory, _LEAST_MEMORY)
        self._open: tuple[contextlib.ExitStack, _DuckDBCursor] | None = None
        self._keep = False
        self._settings = 1, self._memory

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        try:
            yield self._cursor()
        except BaseException:
            self.close()
            raise
        if not self._keep:
            self.close()

    def _cursor(self) -> _DuckDBCursor:
        if self._open is None:
            with contextlib.ExitStack() as stack, _translated():
                connection = self.connect(stack)
                stack.callback(connection.close)
                self._settings = 1, self._memory
                self._open = stack.pop_all(), _DuckDBCursor(connection)
        return self._open[1]

    def connect(self, stack: contextlib.ExitStack) -> duckdb.DuckDBPyConnection:
        """Open the database, with whatever is to be held as long as it is open."""
        stack.enter_context(file_lock(self.path))
        return duckdb.connect(str(self.path), config=self.settings())

    def settings(self) -> dict[str, Any]:
        """Return the settings of a connection."""
        return {
            "memory_limit": f"{self._memory // 2**20}MiB",
            "threads": "1",
            "preserve_insertion_order": "false",
            # A table that is called time is no variable of ours.
            "python_enable_replacements": "false",
        }

    def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            with _translated():
                opened[0].close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._keep = True
        try:
            yield
        finally:
            self._keep = False
            self.close()

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        # Opening and closing the file costs more than a small table: it stays open until rest().
        self._keep = True
        try:
            return super().apply(lease, works)
        finally:
            self._keep = False

    def rest(self) -> None:
        self.close()

    def read_state(self, run: str | None) -> DatasetState:
        if not self.path.exists():
            return DatasetState({}, {})
        return super().read_state(run)

    readers_wait = False

    def sql_type(self, column: TargetColumn) -> str:
        return duckdb_type(column)

    def make_table(self, cursor: Cursor, table: str, columns: str) -> None:
        cursor.execute(f"create or replace table {table} ({columns})")

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        names = [quote(column.name) for column in target.columns]
        values = [quote(column.source) for column in target.columns]
        files = {literal(str(file)): literal(chunk.id) for chunk in chunks for file in chunk.files}
        option = ""
        if named:
            # One INSERT for all of them: each leaves half a row group behind, which is written again.
            cases = " ".join(f"when {file} then {chunk}" for file, chunk in files.items())
            names, values = [*names, "_runner_chunk"], [*values, f"case _runner_file {cases} end"]
            option = ", filename = '_runner_file'"
        # And so does each thread of it.
        threads = max(1, min(sum(chunk.rows for chunk in chunks) // _THREAD_ROWS, os.cpu_count() or 1))
        # One thread keeps the order in which rows came.
        threads = 1 if target.ordered else threads
        # A wide table that gets less cannot be written at all.
        settings = threads, max(self._memory, len(names) * _COLUMN_MEMORY)
        if settings != self._settings:
            cursor.execute(f"set threads = {settings[0]}; set memory_limit = '{settings[1] // 2**20}MiB'")
            self._settings = settings
        cursor.execute(
            f"insert into {stage} ({', '.join(names)}) select {', '.join(values)} "
            f"from read_parquet([{', '.join(files)}]{option})"
        )

    def swap(self, cursor: Cursor, target: Target, *, exists: bool) -> None:
        if exists:
            cursor.execute(f"drop table {self.name(target.name)}")
        cursor.execute(f"alter table {self.name(target.stage)} rename to {quote(target.name)}")

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        if table is not None:
            # The catalog's own functions walk over every table of the file.
            try:
                rows = cursor.rows(f"describe {self.name(table)}")
            except DestinationError as error:
                if "does not exist" not in error.message:
                    raise
                return {}
            return {table: {row[0]: row[1] for row in rows}}
        for name, column, kind in cursor.rows(
            "select table_name, column_name, data_type from duckdb_columns() where schema_name = ? "
            "and database_name = current_database() order by table_name, column_index",
            [self.dataset],
        ):
            found.setdefault(name, {})[column] = kind
        return found

    def widens(self, old: str, new: str) -> bool:
        order = ("SMALLINT", "INTEGER", "BIGINT")
        if old in order and new in order:
            return order.index(old) <= order.index(new)
        if old.startswith("DECIMAL") and new.startswith("DECIMAL"):
            (precision, scale), (wider, deeper) = precision_and_scale(old), precision_and_scale(new)
            return deeper >= scale and wider - deeper >= precision - scale
        return (old, new) in (("FLOAT", "DOUBLE"), ("JSON", "VARCHAR")) or old == new

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Nothing to do: the file's lock is held."""

    def registry_client(self) -> RegistryClient:
        return RegistryClient("duckdb", str(self.path), self.dataset, lambda: file_lock(self.path))

    def diagnose(self) -> list[tuple[str, str, str]]:
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise PermissionError
        except OSError:
            return [("fail", f"{self.path} cannot be written", "check the path and the permissions of its folder")]
        try:
            if self.path.exists():
                with self.session() as cursor:
                    cursor.rows("select 1")
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return [("ok", f"{self.path} can be written (DuckDB {duckdb.__version__})", "")]


class _DuckDBCursor:
    # Values go into the statement: for parameters duckdb looks for numpy and pandas, longer than the SQL takes.
    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        with _translated():
            self._connection.execute(inlined(sql, values))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _translated():
            return self._connection.execute(inlined(sql, values)).fetchall()


def duckdb_type(column: TargetColumn) -> str:
    """Return the column's type as duckdb_columns() spells it."""
    arrow = column.type
    if column.json:
        return "JSON"
    if pa.types.is_decimal(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})"
    if pa.types.is_timestamp(arrow):
        return "TIMESTAMP WITH TIME ZONE" if arrow.tz else "TIMESTAMP"
    return _TYPES[str(arrow)]


_TYPES = {
    "bool": "BOOLEAN",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
    "time64[us]": "TIME",
}


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``<file>.lock``: one writer at a time, ours or dbt's; first come first served within a deadline.

    Raises:
        DestinationBusy: Another process kept it for too long.
        ReadOnly: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ReadOnly(f"{path.parent} cannot be written: {error.strerror}.") from error
    try:
        deadline = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DestinationBusy(f"Another run is writing to {path}.") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise _translate(error) from error


def _translate(error: duckdb.Error) -> RunnerError:
    text = redact(str(error)).strip()
    lower = text.lower()
    if "set lock on file" in lower:
        return DestinationBusy(f"Another program has the DuckDB file open: {text.splitlines()[0]}")
    if "no space left" in lower or "disk quota" in lower or "file too large" in lower:
        return DiskFull(f"DuckDB: {text}")
    if "permission denied" in lower or "read-only" in lower or "is a directory" in lower:
        return ReadOnly(f"DuckDB: {text}")
    if "transaction conflict" in lower or "conflict on" in lower:
        return DestinationBusy(f"DuckDB: {text}")
    if "is of type view" in lower:
        return NotOurs(f"DuckDB: {text}")
    if malformed := _MALFORMED.search(text):
        reason, column = malformed.groups()
        return DestinationError(
            f"The column {column!r} holds JSON that DuckDB cannot read: {reason}.",
            guidance=f"Move it as text (columns: {{{column}: text}}).",
        )
    if "not a valid duckdb database" in lower:
        return ReadOnly(f"DuckDB: {text}", guidance="The file is not a DuckDB database: choose another path.")
    # A commit that lacks memory calls itself an error of the transaction.
    if isinstance(error, duckdb.OutOfMemoryException) or "failed to pin block" in lower:
        return DestinationError(
            f"DuckDB ran out of memory: {text.splitlines()[0]}",
            guidance="Raise limits.memory, of which DuckDB has half: it works on 2,048 rows at a time, so that "
            "rows of a megabyte take it 2 to 4 GB. Files need no more memory for them.",
        )
    return DestinationError(f"DuckDB: {text}")
