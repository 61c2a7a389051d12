"""Warehouses: statements that define tables commit what is open, and rows are locked by the table.

The recipe is that of the transactional writer, with three differences. Tables are made and altered before the
transaction. A first load is published into an empty table that was made a moment before; until its load is on record
its comment says so, and nobody takes it for somebody else's. And what many tasks write at once is only ever added to:
leases are claims of which the earliest counts, and marks are read by latest row. So 100 tasks on one dataset do not
wait for each other; two that publish the same table meet at its staging table, whose rows each deletes at the end of
its transaction, and the second finds the first one's history row (reads see what is committed).
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.errors import LeaseLost, RunnerError, SchemaConflict
from runner.load import (
    DELETED_AT,
    LEASE_SECONDS,
    ChunkLoad,
    DatasetState,
    Deletion,
    Held,
    Lease,
    Outcome,
    TableWork,
    Target,
)
from runner.naming import literal, quote
from runner.writers.books import Books
from runner.writers.publication import OWN_COLUMNS, Publisher
from runner.writers.transactional import Cursor, TransactionalWriter, is_alive, keys_target

# The comment of a table that was made for the load whose id follows.
MADE_FOR = "orchestra-runner: made for load "


class WarehouseWriter(TransactionalWriter):
    """The recipe for warehouses; a subclass says how one differs."""

    transactional_ddl = False
    readers_wait = False

    def __init__(self, dataset: str) -> None:
        super().__init__(dataset)
        self._before: dict[str, dict[str, str] | None] = {}
        self._keys: dict[str, str] = {}
        self._left: list[str] = []
        self._uploaded: list[ChunkLoad] = []

    # What differs between warehouses.

    @abc.abstractmethod
    def upload(self, cursor: Cursor, lease: Lease, chunk: ChunkLoad) -> None:
        """Bring a chunk's files to where copy() finds them; again is harmless."""

    @abc.abstractmethod
    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        """Delete a chunk's uploaded files."""

    @abc.abstractmethod
    def made_for(self, cursor: Cursor) -> dict[str, str]:
        """Return, by table of the dataset, the load that the table was made for, as far as its comment says."""

    @abc.abstractmethod
    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        """Create a table that a load will publish, and say so in its comment; anew: in place of one that never was."""

    @abc.abstractmethod
    def mandatory(self, cursor: Cursor, table: str) -> set[str]:
        """Return the columns of a published table that are NOT NULL."""

    # Leases: claims, of which the earliest that lives counts.

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        wanted = sorted(tables)
        if not wanted:
            return []
        leases = self.name("_runner_leases")
        with self.session() as cursor:
            claims = cursor.rows(f"select distinct run, token, host, pid from {leases}")
            for run, token, host, pid in claims:
                gone = host == lease.host and pid != lease.pid and not is_alive(pid)
                if token != lease.token and (run == lease.run or gone):
                    cursor.execute(f"delete from {leases} where token = ?", [token])
            # A claim that ran out must not come to life again by a renewal that was late.
            if cursor.rows(f"select 1 from {leases} group by token having max(expires_at) < {self.seconds} limit 1"):
                expired = f"select token from {leases} group by token having max(expires_at) < {self.seconds}"
                cursor.execute(f"delete from {leases} where token in ({expired})")
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                values = ", ".join(f"(?, ?, ?, ?, ?, {self.seconds} + {LEASE_SECONDS})" for _ in part)
                cursor.execute(
                    f"insert into {leases} (table_name, run, token, host, pid, expires_at) values {values}",
                    [value for name in part for value in (name, lease.run, lease.token, lease.host, lease.pid)],
                )
            mine = self.holds(cursor, lease, wanted)
            lost = [name for name in wanted if name not in mine]
            if not lost:
                return []
            # A claim that waits for its turn would be the holder one day without knowing it.
            listed = ", ".join(literal(name) for name in lost)
            cursor.execute(f"delete from {leases} where token = ? and table_name in ({listed})", [lease.token])
            rows = cursor.rows(
                f"select table_name, run, host, pid, max(expires_at) - {self.seconds} from {leases} "
                f"where table_name in ({listed}) group by table_name, run, host, pid"
            )
        return [Held(table, run, host, pid, float(left)) for table, run, host, pid, left in rows]

    def holds(self, cursor: Cursor, lease: Lease, tables: Sequence[str]) -> set[str]:
        listed = ", ".join(literal(name) for name in tables)
        rows = cursor.rows(
            f"select table_name, token, min(expires_at) from {self.name('_runner_leases')} "
            f"where table_name in ({listed}) group by table_name, token having max(expires_at) >= {self.seconds}"
        )
        first: dict[str, tuple[float, str]] = {}
        for name, token, claimed in rows:
            first[name] = min(first.get(name, (float("inf"), "")), (float(claimed), token))
        return {name for name, (_, token) in first.items() if token == lease.token}

    def renew(self, lease: Lease) -> None:
        leases = self.name("_runner_leases")
        with self.session() as cursor:
            cursor.execute(
                f"insert into {leases} (table_name, run, token, host, pid, expires_at) "
                f"select distinct table_name, run, token, host, pid, {self.seconds} + {LEASE_SECONDS} "
                f"from {leases} where token = ?",
                [lease.token],
            )

    # State.

    def read_state(self, run: str | None) -> DatasetState:
        state = super().read_state(run)
        if any(name not in state.tables and not name.startswith("_") for name in state.existing):
            with self.session() as cursor:
                made = self.made_for(cursor)
            for name in made:
                if name not in state.tables:
                    state.existing.pop(name, None)
        return state

    def discard(self, target: Target) -> None:
        with self.session() as cursor:
            cursor.execute(f"drop table if exists {self.name(target.stage)}")
            self._forget(cursor, target)

    def _forget(self, cursor: Cursor, target: Target) -> None:
        for table in ("_runner_chunks", "_runner_plans"):
            cursor.execute(f"delete from {self.name(table)} where table_name = ?", [target.name])

    # The transaction, and what comes before and after it.

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        self._before, self._keys, self._left, self._uploaded = {}, {}, [], []
        books = Books(self, cursor, lease, works)
        for work, outcome in zip(works, outcomes, strict=True):
            books.check_lease(work.target)
            if work.publication is None or not books.is_published(work.publication):
                self._make_ready(cursor, books, work, outcome)
        cursor.execute("begin")

    def _make_ready(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        """Make the tables of a work and upload its files: what is done outside of its transaction."""
        target, publication = work.target, work.publication
        if publication is not None:
            existing = self.existing_columns(cursor, target.name).get(target.name)
            left = existing is not None and books.newest(target) is None and target.name in self.made_for(cursor)
            existing = None if left else existing
            self._before[target.name] = existing
            publisher = Publisher(self, cursor, books, target, publication, outcome)
            publisher.check_basis()
            if existing is None:
                columns = self._columns(target)
                self.make_published(cursor, self.name(target.name), columns, publication.load_id, anew=left)
            else:
                if publication.schema == "freeze":
                    publisher.note_changes(existing)
                    outcome.changes.clear()
                self._fit(cursor, target, existing)
            if publication.deletion is not None and publication.deletion.column is None:
                self._make_keys(cursor, lease=books.lease, target=target, deletion=publication.deletion)
        done = books.receipts[target.name]
        if work.fresh or not done:
            if done:
                # First: receipts without rows would be believed.
                self._forget(cursor, target)
            self.create_stage(cursor, target, named=not work.one_chunk)
            done = {}
        for chunk in work.chunks:
            if done.get(chunk.id) != chunk.epoch and chunk.files:
                self.upload(cursor, books.lease, chunk)
                self._uploaded.append(chunk)

    def _columns(self, target: Target) -> str:
        return ", ".join(
            f"{quote(column.name)} {self.sql_type(column)}{'' if column.nullable else ' not null'}"
            for column in target.columns
        )

    def _make_keys(self, cursor: Cursor, *, lease: Lease, target: Target, deletion: Deletion) -> None:
        if not deletion.hard and DELETED_AT not in self.existing_columns(cursor, target.name)[target.name]:
            table = self.name(target.name)
            cursor.execute(f"alter table {table} add column {quote(DELETED_AT)} {self.timestamp_type}")
        if deletion.keys:
            chunk = ChunkLoad(keys_target(target).stage, 0, deletion.keys, deletion.rows, 0)
            self.upload(cursor, lease, chunk)
            self._uploaded.append(chunk)
        self._keys[target.name] = super().load_keys(cursor, target, deletion.keys, deletion.rows)

    def load_keys(self, cursor: Cursor, target: Target, files: Sequence[Path], rows: int) -> str:
        return self._keys[target.name]

    def published_columns(self, cursor: Cursor, target: Target) -> dict[str, str] | None:
        return self._before[target.name]

    def fit_columns(self, cursor: Cursor, target: Target, existing: dict[str, str]) -> None:
        """Nothing to do in the transaction: it was done before."""

    def _fit(self, cursor: Cursor, target: Target, existing: dict[str, str]) -> None:
        table = self.name(target.name)
        wanted = self.wanted_types(target)
        for name, new in wanted.items():
            old = existing.get(name)
            if old is not None and old != new and not self.widens(old, new) and not self.widens(new, old):
                raise SchemaConflict(
                    f"The column {name!r} was {old} and is {new} now.",
                    guidance="Drop or rename the table at the destination, then run the same command again.",
                    table=target.name,
                )
        for name, new in wanted.items():
            old = existing.get(name)
            if old is None:
                cursor.execute(f"alter table {table} add column {quote(name)} {new}")
            elif old != new and self.widens(old, new):
                cursor.execute(f"alter table {table} alter column {quote(name)} set data type {new}")
        nullable = {column.name for column in target.columns if column.nullable}
        may_be_null = {name for name in existing if name not in wanted or name in nullable} - {*OWN_COLUMNS}
        if may_be_null:
            for name in sorted(may_be_null & self.mandatory(cursor, target.name)):
                cursor.execute(f"alter table {table} alter column {quote(name)} drop not null")

    def swap(self, cursor: Cursor, target: Target, *, exists: bool) -> None:
        """Exchange the rows: grants, policies, tags and streams stay, for the table stays."""
        if exists:
            cursor.execute(f"delete from {self.name(target.name)}")
        self.insert_rows(cursor, target)

    def drop(self, cursor: Cursor, table: str) -> None:
        """Drop it after the commit; its rows go now, which makes two publications of one table wait for each other."""
        cursor.execute(f"delete from {table}")
        self._left.append(table)

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Wait for others that change dlt's schema; whoever publishes a table waits at its staging table."""
        if table == "_dlt_version":
            cursor.execute(f"update {self.name(table)} set version = version where schema_name = ?", [self.dataset])

    def commit(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        published = [work.target for work in works if work.publication is not None]
        held = self.holds(cursor, lease, [work.target.name for work in works])
        lost = [work.target.name for work in works if work.target.name not in held]
        if not lost and published:
            listed = ", ".join(literal(target.name) for target in published)
            lost = [
                row[0]
                for row in cursor.rows(
                    f"select table_name from {self.name('_runner_state')} where table_name in ({listed}) "
                    "group by table_name, seq having count(*) > 1"
                )
            ]
        if lost:
            raise LeaseLost(table=lost[0])
        cursor.execute("commit")
        self._tidy(cursor, published)

    def _tidy(self, cursor: Cursor, published: Sequence[Target]) -> None:
        """Drop what the transaction left; what stays behind is found and dropped by the next one."""
        # The rows are committed: a failure here must not be told as theirs.
        with contextlib.suppress(RunnerError):
            for table in self._left:
                cursor.execute(f"drop table if exists {table}")
            for target in published:
                cursor.execute(f"delete from {self.name('_runner_plans')} where table_name = ?", [target.name])
        for chunk in self._uploaded:
            with contextlib.suppress(RunnerError):
                self.remove_uploaded(cursor, chunk)
