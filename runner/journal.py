"""One SQLite file with one writer: a thread that commits whatever waits in one transaction (L1, L2)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import anyio

from runner.errors import DiskFull, LedgerDamaged
from runner.profile import stage


@dataclass(frozen=True)
class Statement:
    """One change of the ledger."""

    sql: str
    values: tuple[Any, ...] = ()


class Journal:
    """A file of tables.

    Changes go through one thread that commits whatever is waiting in one transaction: a caller
    returns from write() only when its change is on disk (synchronous=FULL).

    Attributes:
        schema: The statements that make its tables where they are not there.
        added: Columns that an earlier version's file lacks, by table.
        words: What it is called in errors.
    """

    schema: ClassVar[str]
    added: ClassVar[Mapping[str, Sequence[str]]] = {}
    words: ClassVar[str] = "file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[tuple[Sequence[Statement], Future[None]] | None] = queue.SimpleQueue()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=full")
            self._connection.executescript(self.schema)
            self._add_columns()
        except sqlite3.OperationalError as error:
            raise DiskFull(f"The {self.words} cannot be written: {error}.", path=path) from error
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(f"The {self.words} {path} cannot be read: {error}.") from error
        self._thread = threading.Thread(target=self._work, name=self.words, daemon=True)
        self._thread.start()

    def _add_columns(self) -> None:
        """Give a ledger that an earlier version began the columns that were added since."""
        for table, names in self.added.items():
            known = {row[1] for row in self._connection.execute(f"pragma table_info({table})")}
            for name in names:
                if name not in known:
                    self._connection.execute(f"alter table {table} add column {name} any")

    async def write(self, *statements: Statement) -> None:
        """Make changes durable, together.

        Raises:
            DiskFull: The disk is full; nothing of it was written.
        """
        future: Future[None] = Future()
        self._queue.put((statements, future))
        # What is under way is awaited even when the caller is cancelled: the row may already be on disk.
        with anyio.CancelScope(shield=True):
            with stage("ledger"):
                await asyncio.wrap_future(future)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            batch = [item]
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    self._queue.put(None)
                    break
                batch.append(more)
            self._commit(batch)

    def _commit(self, batch: list[tuple[Sequence[Statement], Future[None]]]) -> None:
        try:
            self._connection.execute("begin immediate")
            for statements, _ in batch:
                for statement in statements:
                    self._connection.execute(statement.sql, statement.values)
            self.committing(statement for statements, _ in batch for statement in statements)
            self._connection.execute("commit")
        except Exception as error:  # whatever it is, the thread lives on and the callers are told
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
            if len(batch) > 1 and not isinstance(error, sqlite3.OperationalError):
                # A value that cannot be written is one caller's; the others' changes are written without it.
                for one in batch:
                    self._commit([one])
                return
            known = isinstance(error, sqlite3.Error)
            told = DiskFull(f"The {self.words} cannot be written: {error}.", path=self.path) if known else error
            for _, future in batch:
                future.set_exception(told)
        else:
            for _, future in batch:
                future.set_result(None)

    def close(self) -> None:
        """Write what waits and close the file."""
        self._queue.put(None)
        self._thread.join()
        self.closing()
        self._connection.execute("pragma wal_checkpoint(truncate)")
        self._connection.close()

    def committing(self, statements: Iterable[Statement]) -> None:
        """Note that these changes are made, and are about to be committed."""

    def closing(self) -> None:
        """Note that all is written, and is about to be folded into one file."""


def insert(table: str, values: dict[str, Any]) -> Statement:
    """Return the statement that adds or replaces a row."""
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    return Statement(f"insert or replace into {table} ({names}) values ({marks})", tuple(values.values()))


def update(table: str, where: dict[str, Any], **values: Any) -> Statement:
    """Return the statement that changes the rows where every key is equal."""
    sets = ", ".join(f"{name} = ?" for name in values)
    conditions = " and ".join(f"{name} = ?" for name in where)
    return Statement(f"update {table} set {sets} where {conditions}", (*values.values(), *where.values()))


def delete(table: str, **where: Any) -> Statement:
    """Return the statement that deletes the rows where every key is equal."""
    conditions = " and ".join(f"{name} = ?" for name in where)
    return Statement(f"delete from {table} where {conditions}", tuple(where.values()))
