"""The dataset's own records of some tables in one transaction: asked once for all of them, written once at its end."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.errors import LeaseLost
from runner.load import ChunkLoad, Lease, Publication, TableState, TableWork, Target

if TYPE_CHECKING:
    from runner.writers.cursor import Cursor
    from runner.writers.transactional import TransactionalWriter

# Text, bigint and double precision mean the same in most dialects; times are seconds since 1970.
TABLES = {
    "_runner_state": "table_name text not null, seq bigint not null, source text not null, "
    "source_table text not null, job text not null, run text not null, mode text not null, cursor_column text, "
    "mark text, load_id text not null, digest text not null, row_count bigint not null, "
    "published_at double precision not null, hash text, source_token text, key_columns text",
    "_runner_chunks": "run text not null, table_name text not null, chunk text not null, epoch bigint not null, "
    "row_count bigint not null, hash text, loaded_at double precision not null, source_token text",
    "_runner_plans": "table_name text not null primary key, run text not null, plan text not null, "
    "created_at double precision not null",
    "_runner_runs": "run text not null primary key, job text not null, command text not null, source text not null, "
    "host text not null, version text not null, started text not null, finished text, exit_code bigint, "
    "tables_published bigint, tables_failed bigint, row_count bigint, verified text",
    "_runner_leases": "table_name text not null primary key, run text not null, token text not null, "
    "host text not null, pid bigint not null, expires_at double precision not null",
    "_runner_schemas": "table_name text not null, digest text not null",
    # The columns are dlt's own (dlt.common.schema.utils: loads_table, version_table), so that dlt goes on with them.
    "_dlt_loads": "load_id {text} not null, schema_name {text}, status bigint not null, "
    "inserted_at timestamp with time zone not null, schema_version_hash {text}",
    "_dlt_version": "version bigint not null, engine_version bigint not null, "
    "inserted_at timestamp with time zone not null, schema_name {text} not null, version_hash {text} not null, "
    "schema {text} not null",
}
STATE_COLUMNS = (
    "source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count, hash, source_token, "
    "key_columns"
)
_RECEIPTS = "_runner_chunks (run, table_name, chunk, epoch, row_count, hash, source_token, loaded_at)"
STATES = f"_runner_state (table_name, seq, {STATE_COLUMNS}, published_at)"


class Books:
    """What the dataset holds about the tables of some works, and what is to be added.

    Attributes:
        receipts: Of each table, the chunks in staging and their epochs.
    """

    def __init__(self, writer: TransactionalWriter, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        self._writer = writer
        self._cursor = cursor
        self.lease = lease
        names = [work.target.name for work in works]
        loads = [work.publication.load_id for work in works if work.publication is not None]
        listed = ", ".join("?" * len(names))
        chunks, states = (writer.name(f"_runner_{what}") for what in ("chunks", "state"))
        self._held = writer.leases.held(cursor, lease, names)
        self.receipts: dict[str, dict[str, int]] = defaultdict(dict)
        groups = writer.grouped("table_name", "chunk")
        done = f"select table_name, chunk, max(epoch) from {chunks} where table_name in ({listed}) group by {groups}"
        for table, chunk, epoch in cursor.rows(done, names):
            self.receipts[table][chunk] = epoch
        self._loaded: set[str] = set()
        self._newest: dict[str, tuple[int, TableState]] = {}
        if loads:
            ids = ", ".join("?" * len(loads))
            found = cursor.rows(f"select load_id from {writer.name('_dlt_loads')} where load_id in ({ids})", loads)
            self._loaded = {row[0] for row in found}
            source = f"{states} where table_name in ({listed}) group by table_name"
            last = writer.among("table_name, seq", "table_name, max(seq)", source)
            newest = f"select table_name, seq, {STATE_COLUMNS} from {states} where {last}"
            for table, seq, *state in cursor.rows(newest, names):
                self._newest[table] = seq, TableState(*state)
        self._forgotten: list[str] = []
        self._published: list[str] = []
        self._rows: dict[str, tuple[str, list[list[Any]]]] = {}

    def check_lease(self, target: Target) -> None:
        """Raise LeaseLost where somebody else may publish the table now."""
        if target.name not in self._held:
            raise LeaseLost(table=target.name)

    def is_published(self, publication: Publication) -> bool:
        """Tell whether a publication is done already."""
        return publication.load_id in self._loaded

    def newest(self, target: Target) -> TableState | None:
        """Return the newest history row of a table."""
        found = self._newest.get(target.name)
        return found[1] if found else None

    def forget(self, target: Target) -> None:
        """Note that what was staged of a table is gone."""
        self._forgotten.append(target.name)

    def note_plan(self, target: Target, plan: str) -> None:
        """Note what is being staged, for a container without our ledger."""
        self._add("_runner_plans", f"(?, ?, ?, {self._writer.seconds})", [target.name, self.lease.run, plan])

    def note_chunk(self, target: Target, chunk: ChunkLoad) -> None:
        """Note a chunk that is in staging."""
        values = [self.lease.run, target.name, chunk.id, chunk.epoch, chunk.rows, chunk.hash, chunk.token]
        self._add(_RECEIPTS, f"(?, ?, ?, ?, ?, ?, ?, {self._writer.seconds})", values)

    def history(self, target: Target, publication: Publication, hashed: str | None) -> list[Any]:
        """Return the history row of a publication, without its time."""
        newest = self.newest(target)
        mark, column, token = publication.mark, publication.cursor, publication.token
        if mark is None and newest is not None and newest.cursor == column and not publication.replace:
            mark, token = newest.mark, newest.token
        seq = self._newest[target.name][0] + 1 if newest is not None else 1
        return [
            target.name, seq, target.source, target.source_table, self.lease.job, self.lease.run, publication.mode,
            column, mark, publication.load_id, publication.digest, sum(publication.chunks.values()), hashed, token,
            ",".join(target.key),
        ]  # fmt: skip

    def note_publication(self, target: Target, publication: Publication, hashed: str | None) -> None:
        """Note that a table is published: its history row, and its load."""
        state = self.history(target, publication, hashed)
        self._add(STATES, f"({', '.join('?' * len(state))}, {self._writer.seconds})", state)
        self._add("_dlt_loads", f"(?, ?, 0, {self._writer.now}, null)", [publication.load_id, self._writer.dataset])
        self._published.append(target.name)

    def write(self) -> None:
        """Write all of it; before the commit."""
        self._delete("_runner_chunks", self._forgotten)
        self._delete("_runner_plans", self._forgotten)
        self._insert(*self._rows)
        # A plan that was noted here and is carried out is none any more.
        self._delete("_runner_plans", self._published)
        self._forgotten, self._published = [], []

    def write_receipts(self) -> None:
        """Write what is in staging, where that is made durable before it is published."""
        self._insert(*(table for table in self._rows if table in ("_runner_plans", _RECEIPTS)))

    def _insert(self, *tables: str) -> None:
        for table in tables:
            form, rows = self._rows.pop(table)
            name, _, columns = table.partition(" ")
            size = self._writer.most_values or len(rows)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                values = ", ".join([form] * len(part))
                self._cursor.execute(
                    f"insert into {self._writer.name(name)} {columns} values {values}",
                    [value for row in part for value in row],
                )

    def _add(self, table: str, form: str, values: list[Any]) -> None:
        self._rows.setdefault(table, (form, []))[1].append(values)

    def _delete(self, table: str, names: list[str]) -> None:
        # A warehouse locks the whole table to delete a row: there it is done outside of the transaction.
        if names and self._writer.transactional_ddl:
            listed = ", ".join("?" * len(names))
            self._cursor.execute(f"delete from {self._writer.name(table)} where table_name in ({listed})", names)


def with_types(columns: str, types: Mapping[str, str]) -> str:
    """Return the columns of a table of TABLES with a database's own types in place of the standard's."""
    return re.sub(rf"(?<= )(?:{'|'.join(types)})\b", lambda found: types[found[0]], columns)
