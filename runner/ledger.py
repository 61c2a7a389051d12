"""What is done, durably: one SQLite file a run, written by one thread, read by anybody (L1, L2)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from runner.crash import crash_point
from runner.errors import LedgerDamaged
from runner.journal import Journal

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


class Ledger(Journal):
    """The ledger of one run."""

    schema = _SCHEMA
    added = _ADDED
    words = "ledger"

    def closing(self) -> None:
        crash_point("ledger-compacted")


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
