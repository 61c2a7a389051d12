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
import time
from collections.abc import Sequence
from pathlib import Path

from runner.errors import LeaseLost, RunnerError
from runner.load import (
    DELETED_AT,
    RENEW_SECONDS,
    ChunkLoad,
    Cost,
    DatasetState,
    Deletion,
    Lease,
    Outcome,
    TableWork,
    Target,
)
from runner.naming import literal, quote
from runner.writers.books import Books
from runner.writers.cursor import Cursor
from runner.writers.publication import Publisher
from runner.writers.rowleases import Claims
from runner.writers.transactional import TransactionalWriter, keys_target

# The comment of a table that was made for the load whose id follows.
MADE_FOR = "orchestra-runner: made for load "


class WarehouseWriter(TransactionalWriter):
    """The recipe for warehouses; a subclass says how one differs."""

    transactional_ddl = False
    row_id = None
    readers_wait = False
    leases_type = Claims
    conflict_guidance = "Drop or rename the table at the destination, then run the same command again."

    def __init__(self, dataset: str) -> None:
        super().__init__(dataset)
        self._renewed = time.monotonic()
        self._made: list[str] = []
        self._before: dict[str, dict[str, str] | None] = {}
        self._keys: dict[str, str] = {}
        self._left: list[str] = []
        self._uploaded: list[ChunkLoad] = []

    # What differs between warehouses.

    @abc.abstractmethod
    def upload(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        """Bring a chunk's files to where copy() finds them; again is harmless."""

    @abc.abstractmethod
    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        """Delete a chunk's uploaded files."""

    @abc.abstractmethod
    def unpublished(self, cursor: Cursor) -> set[str]:
        """Return the tables of the dataset whose comment says that a load made them, whether it ended or not."""

    @abc.abstractmethod
    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        """Create a table that a load will publish, and say so in its comment; anew: in place of one that never was."""

    @abc.abstractmethod
    def unmark(self, cursor: Cursor, table: str) -> None:
        """Take away the comment of a table that was made for a load: the load is on record."""

    @abc.abstractmethod
    def spent(self) -> Cost:
        """Return what this writer has taken so far."""

    # State.

    def read_state(self, run: str | None) -> DatasetState:
        state = super().read_state(run)
        if any(name not in state.tables and not name.startswith("_") for name in state.existing):
            with self.session() as cursor:
                for name in self.unpublished(cursor) - {*state.tables}:
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

    def _transaction(self, cursor: Cursor, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        before = self.spent()
        outcomes = super()._transaction(cursor, lease, works)
        spent = self.spent() - before
        for work, outcome in zip(works, outcomes, strict=True):
            outcome.cost = spent.share(len(works), sum(chunk.bytes for chunk in work.chunks if chunk in self._uploaded))
        return outcomes

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        self._before, self._keys, self._left, self._uploaded, self._made = {}, {}, [], [], []
        books = Books(self, cursor, lease, works)
        for work, outcome in zip(works, outcomes, strict=True):
            books.check_lease(work.target)
            if work.publication is None or not books.is_published(work.publication):
                self._make_ready(cursor, books, work, outcome)
        self.keep(cursor, lease)
        cursor.execute("begin")

    def _make_ready(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        """Make the tables of a work and upload its files: what is done outside of its transaction."""
        target, publication = work.target, work.publication
        done = books.receipts[target.name]
        fresh = work.fresh or not done
        if fresh and self.existing_columns(cursor, target.stage):
            # Whoever publishes the table holds its rows: to make it anew would not wait for them, and this does.
            cursor.execute(f"delete from {self.name(target.stage)}")
        if publication is not None:
            existing = self.existing_columns(cursor, target.name).get(target.name)
            left = existing is not None and books.newest(target) is None and target.name in self.unpublished(cursor)
            existing = None if left else existing
            self._before[target.name] = existing
            publisher = Publisher(self, cursor, books, target, publication, outcome)
            publisher.check_basis()
            if existing is None:
                table, columns = self.name(target.name), self.columns(target)
                self.make_published(cursor, table, columns, publication.load_id, anew=left)
                self._made.append(table)
            else:
                if publication.schema == "freeze":
                    publisher.note_changes(existing)
                    outcome.changes.clear()
                super().fit_columns(cursor, target, existing)
            if publication.deletion is not None and publication.deletion.column is None:
                self._make_keys(cursor, target, publication.deletion)
        if fresh:
            if done:
                # First: receipts without rows would be believed.
                self._forget(cursor, target)
            self.create_stage(cursor, target, named=not work.one_chunk)
            done = {}
        for chunk in work.chunks:
            if done.get(chunk.id) != chunk.epoch and chunk.files:
                self.keep(cursor, books.lease)
                self.upload(cursor, chunk)
                self._uploaded.append(chunk)

    def keep(self, cursor: Cursor, lease: Lease) -> None:
        """Renew the leases if that is due: the loader waits for a package, which may take longer than they last.

        Claims that ran out come to life again unless somebody asked for the table, who deletes them.
        """
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self.leases.renew(cursor, lease)
            self._renewed = time.monotonic()

    def _make_keys(self, cursor: Cursor, target: Target, deletion: Deletion) -> None:
        if not deletion.hard and DELETED_AT not in self.existing_columns(cursor, target.name)[target.name]:
            table = self.name(target.name)
            cursor.execute(f"alter table {table} add column {quote(DELETED_AT)} {self.timestamp_type}")
        if deletion.keys:
            chunk = ChunkLoad(keys_target(target).stage, 0, deletion.keys, deletion.rows, 0)
            self.upload(cursor, chunk)
            self._uploaded.append(chunk)
        self._keys[target.name] = super().load_keys(cursor, target, deletion.keys, deletion.rows)

    def load_keys(self, cursor: Cursor, target: Target, files: Sequence[Path], rows: int) -> str:
        return self._keys[target.name]

    def published_columns(self, cursor: Cursor, target: Target) -> dict[str, str] | None:
        return self._before[target.name]

    def fit_columns(self, cursor: Cursor, target: Target, existing: dict[str, str]) -> None:
        """Nothing to do in the transaction: it was done before."""

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

    def leave_to_dlt(self) -> None:
        """Close our session: a process has one at a time (``limits.destination``)."""
        self.close()

    def renew(self, lease: Lease) -> None:
        super().renew(lease)
        self._renewed = time.monotonic()

    def published_twice(self, published: Sequence[Target]) -> str:
        """Return the query of tables that have two history rows of the newest number: two published them at once."""
        states, listed = self.name("_runner_state"), ", ".join(literal(target.name) for target in published)
        return (
            f"select table_name from (select table_name, seq, count(*) as rows_of_it, max(max(seq)) over (partition by "
            f"table_name) as newest from {states} where table_name in ({listed}) group by table_name, seq) s "
            "where seq = newest and rows_of_it > 1"
        )

    def commit(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        if lost := self.lost(cursor, lease, works):
            raise LeaseLost(table=lost[0])
        cursor.execute("commit")
        self._tidy(cursor, [work.target for work in works if work.publication is not None])

    def lost(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> list[str]:
        """Return the tables that others took or published since the transaction began."""
        self.keep(cursor, lease)
        held = self.leases.held(cursor, lease, [work.target.name for work in works])
        lost = [work.target.name for work in works if work.target.name not in held]
        published = [work.target for work in works if work.publication is not None]
        if not lost and published:
            lost = [row[0] for row in cursor.rows(self.published_twice(published))]
        return lost

    def _tidy(self, cursor: Cursor, published: Sequence[Target]) -> None:
        """Drop what the transaction left; what stays behind is found and dropped by the next one."""
        # The rows are committed: a failure here must not be told as theirs.
        with contextlib.suppress(RunnerError):
            for table in self._left:
                cursor.execute(f"drop table if exists {table}")
            for table in self._made:
                self.unmark(cursor, table)
            for target in published:
                cursor.execute(f"delete from {self.name('_runner_plans')} where table_name = ?", [target.name])
        for chunk in self._uploaded:
            with contextlib.suppress(RunnerError):
                self.remove_uploaded(cursor, chunk)
