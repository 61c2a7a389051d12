"""What is done, durably: one SQLite file a run, written by one thread, read by anybody (L1, L2)."""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from runner.crash import crash_point
from runner.errors import DiskFull, LedgerDamaged
from runner.profile import stage

_SCHEMA = """
create table if not exists run (
    run text primary key, job text not null, source text not null, destination text not null,
    dataset text not null, environment text, command text not null, state text not null,
    started text not null, finished text, exit_code integer, version text not null
) strict;
create table if not exists tables (
    name text primary key, destination text not null, mode text not null, digest text not null,
    state text not null, plan text not null, mark text, load_id text, rows integer, bytes integer,
    epoch integer, started text, finished text, resume_at text, error text, token text, lsn text, hash text,
    parts text, deleted integer
) strict;
create table if not exists chunks (
    table_name text not null, id text not null, position integer not null, bounds text not null,
    storage text, rows_estimate integer not null, bytes_estimate integer not null, state text not null,
    epoch integer, token text, rows integer, bytes integer, files text, seconds real, hash text,
    mark text, next text,
    primary key (table_name, id)
) strict;
create table if not exists attempts (
    at text not null, table_name text not null, chunk text, attempt integer not null, wait real not null,
    error text not null, message text not null
) strict;
"""
_ADDED = {"tables": ("token", "lsn", "hash", "parts", "deleted"), "chunks": ("hash", "mark", "next")}


@dataclass(frozen=True)
class Statement:
    """One change of the ledger."""

    sql: str
    values: tuple[Any, ...] = ()


class Ledger:
    """The ledger of one run.

    Changes go through one thread that commits whatever is waiting in one transaction: a caller
    returns from write() only when its change is on disk (synchronous=FULL).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[tuple[Sequence[Statement], Future[None]] | None] = queue.SimpleQueue()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute("pragma journal_mode=wal")
            self._connection.execute("pragma synchronous=full")
            self._connection.executescript(_SCHEMA)
            self._add_columns()
        except sqlite3.OperationalError as error:
            raise DiskFull(f"The ledger cannot be written: {error}.", path=path) from error
        except sqlite3.DatabaseError as error:
            raise LedgerDamaged(f"The ledger {path} cannot be read: {error}.") from error
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    def _add_columns(self) -> None:
        """Give a ledger that an earlier version began the columns that were added since."""
        for table, names in _ADDED.items():
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
            self._connection.execute("commit")
        except Exception as error:  # whatever it is, the thread lives on and the callers are told
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            known = isinstance(error, sqlite3.Error)
            told = DiskFull(f"The ledger cannot be written: {error}.", path=self.path) if known else error
            for _, future in batch:
                future.set_exception(told)
        else:
            for _, future in batch:
                future.set_result(None)

    def close(self) -> None:
        """Write what waits and close the file."""
        self._queue.put(None)
        self._thread.join()
        crash_point("ledger-compacted")
        self._connection.execute("pragma wal_checkpoint(truncate)")
        self._connection.close()


class LedgerReader:
    """Reads a ledger, also while its run is at work."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("select 1 from run").fetchone()
        except sqlite3.Error as error:
            raise LedgerDamaged(f"The ledger {path} cannot be read: {error}.") from error

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self) -> dict[str, Any] | None:
        """Return the run's own row."""
        row = self._connection.execute("select * from run").fetchone()
        return dict(row) if row else None

    def tables(self) -> list[dict[str, Any]]:
        """Return the tables in the order they were planned."""
        return [dict(row) for row in self._connection.execute("select * from tables order by rowid")]

    def chunks(self, table: str | None = None) -> list[dict[str, Any]]:
        """Return the chunks of one table, or of all."""
        where, values = ("where table_name = ?", (table,)) if table else ("", ())
        rows = self._connection.execute(f"select * from chunks {where} order by table_name, position", values)
        return [{**dict(row), "bounds": json.loads(row["bounds"])} for row in rows]

    def attempts(self) -> list[dict[str, Any]]:
        """Return every retry."""
        return [dict(row) for row in self._connection.execute("select * from attempts order by at")]


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
