"""Rows, their receipts and the history row in one transaction, on any SQL database that has them.

Chunks load into a staging table with a column ``_runner_chunk``; a receipt in ``_runner_chunks`` is
written in the same transaction, so that loading a chunk again is a no-op (L3, L5). Publishing checks
the lease, counts, swaps or merges, and writes ``_runner_state`` and ``_dlt_loads``, all in one (L4, L10).
"""

from __future__ import annotations

import abc
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from runner.errors import (
    DestinationBusy,
    DestinationDown,
    DestinationError,
    DiskFull,
    KeyNotUnique,
    LeaseLost,
    RunnerError,
    SchemaConflict,
    VerifyFailed,
)
from runner.load import (
    LEASE_SECONDS,
    ChunkLoad,
    DatasetState,
    Held,
    Lease,
    Outcome,
    Publication,
    Range,
    TableState,
    TableWork,
    Target,
    TargetColumn,
)
from runner.naming import quote
from runner.plan import not_ours
from runner.secrets import redact
from runner.writers.registry import RegistryClient, register

_CHUNK = "_runner_chunk"
_STATE_COLUMNS = "source, source_table, job, run, mode, cursor_column, mark, load_id, digest, row_count"

# Text, bigint and double precision mean the same in every dialect; times are seconds since 1970.
_TABLES = {
    "_runner_state": "table_name text not null, seq bigint not null, source text not null, "
    "source_table text not null, job text not null, run text not null, mode text not null, cursor_column text, "
    "mark text, load_id text not null, digest text not null, row_count bigint not null, "
    "published_at double precision not null",
    "_runner_chunks": "run text not null, table_name text not null, chunk text not null, epoch bigint not null, "
    "row_count bigint not null, hash text, loaded_at double precision not null",
    "_runner_leases": "table_name text not null primary key, run text not null, token text not null, "
    "host text not null, pid bigint not null, expires_at double precision not null",
    "_runner_schemas": "table_name text not null, digest text not null",
    # The columns are dlt's own (dlt.common.schema.utils.loads_table), so that dlt goes on with it.
    "_dlt_loads": "load_id {text} not null, schema_name {text}, status bigint not null, "
    "inserted_at timestamp with time zone not null, schema_version_hash {text}",
}
_NOW = "extract(epoch from now())"


class Cursor(Protocol):
    """One connection of a driver, behind the few calls that we need."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None: ...

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class TransactionalWriter(abc.ABC):
    """The recipe; a subclass says how its database differs."""

    text_type = "text"

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    # What differs between databases.

    @abc.abstractmethod
    def session(self) -> Any:
        """Return a context manager that lends a Cursor and closes it; errors arrive translated."""

    @abc.abstractmethod
    def sql_type(self, column: TargetColumn) -> str:
        """Return the type of a column, spelled as existing_columns() spells it."""

    @abc.abstractmethod
    def copy(self, cursor: Cursor, stage: str, target: Target, files: Sequence[Path], chunk: str) -> None:
        """Append the rows of Parquet files to the staging table."""

    @abc.abstractmethod
    def swap(self, cursor: Cursor, target: Target, *, exists: bool) -> None:
        """Put the staging table, already without its chunk column, in the table's place."""

    @abc.abstractmethod
    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        """Return columns and their types, by table or view of the dataset, or of one of them."""

    @abc.abstractmethod
    def widens(self, old: str, new: str) -> bool:
        """Tell whether every value of the old type is one of the new type."""

    @abc.abstractmethod
    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Keep other writers of the table out until the transaction ends."""

    @abc.abstractmethod
    def registry_client(self) -> RegistryClient:
        """Return how dlt reaches the dataset."""

    @abc.abstractmethod
    def diagnose(self) -> list[tuple[str, str, str]]:
        """Return checks as (ok | warn | fail, what was found, what to do)."""

    # What is the same everywhere.

    def name(self, table: str) -> str:
        """Return a table's quoted name with its dataset."""
        return f"{quote(self.dataset)}.{quote(table)}"

    def prepare(self) -> None:
        with self.session() as cursor:
            cursor.execute("begin")
            cursor.execute(f"create schema if not exists {quote(self.dataset)}")
            for table, columns in _TABLES.items():
                sql = columns.format(text=self.text_type)
                cursor.execute(f"create table if not exists {self.name(table)} ({sql})")
            cursor.execute("commit")

    def read_state(self, run: str | None) -> DatasetState:
        with self.session() as cursor:
            existing = self.existing_columns(cursor)
            if "_runner_state" not in existing:
                return DatasetState({}, existing, {})
            states = cursor.rows(
                f"select table_name, {_STATE_COLUMNS} from {self.name('_runner_state')} s where seq = "
                f"(select max(seq) from {self.name('_runner_state')} n where n.table_name = s.table_name)"
            )
            receipts = cursor.rows(
                f"select table_name, chunk, epoch, row_count from {self.name('_runner_chunks')} where run = ?",
                [run],
            )
        tables = {row[0]: TableState(*row[1:]) for row in states}
        return DatasetState(tables, existing, {(table, chunk, epoch): rows for table, chunk, epoch, rows in receipts})

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        wanted = list(tables)
        if not wanted:
            return []
        leases = self.name("_runner_leases")
        with self.session() as cursor:
            others = cursor.rows(f"select distinct host, pid from {leases} where host = ?", [lease.host])
            dead = [pid for _, pid in others if pid != lease.pid and not _alive(pid)] or [-1]
            gone = ", ".join(str(int(pid)) for pid in dead)
            cursor.execute("begin")
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                values = ", ".join(f"(?, ?, ?, ?, ?, {_NOW} + {LEASE_SECONDS})" for _ in part)
                flat = [value for table in part for value in (table, lease.run, lease.token, lease.host, lease.pid)]
                cursor.execute(
                    f"insert into {leases} as l (table_name, run, token, host, pid, expires_at) values {values} "
                    "on conflict (table_name) do update set run = excluded.run, token = excluded.token, "
                    "host = excluded.host, pid = excluded.pid, expires_at = excluded.expires_at "
                    f"where l.expires_at < {_NOW} or l.run = excluded.run "
                    f"or (l.host = excluded.host and l.pid in ({gone}))",
                    flat,
                )
            cursor.execute("commit")
            rows = cursor.rows(
                f"select table_name, run, host, pid, expires_at - {_NOW} from {leases} where token <> ?",
                [lease.token],
            )
        mine = set(wanted)
        return [Held(*row) for row in rows if row[0] in mine]

    def renew(self, lease: Lease) -> None:
        with self.session() as cursor:
            cursor.execute(
                f"update {self.name('_runner_leases')} set expires_at = {_NOW} + {LEASE_SECONDS} where token = ?",
                [lease.token],
            )

    def release(self, lease: Lease) -> None:
        with self.session() as cursor:
            # By run, not by token: a killed process of the same run may have left some.
            cursor.execute(f"delete from {self.name('_runner_leases')} where run = ?", [lease.run])

    def rest(self) -> None:  # noqa: B027 - a server needs no rest between packages
        """Let others at the destination until the next package."""

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        with self.session() as cursor:
            outcomes: list[Outcome] = []
            for work in works:
                try:
                    outcomes.append(self._transaction(cursor, lease, work))
                except RunnerError as error:
                    if error.retriable:
                        raise
                    # What was committed before stays told; what is left would only fail the same way.
                    return outcomes + [Outcome(error=error) for _ in works[len(outcomes) :]]
            return outcomes

    def _transaction(self, cursor: Cursor, lease: Lease, work: TableWork) -> Outcome:
        outcome = Outcome()
        try:
            cursor.execute("begin")
            self.lock_table(cursor, work.target.name)
            self._check_lease(cursor, lease, work.target)
            if work.publication is None or not self._published(cursor, work.publication):
                self._stage(cursor, lease, work, outcome)
                if work.publication is not None:
                    self._publish(cursor, lease, work.target, work.publication, outcome)
            cursor.execute("commit")
        except RunnerError as error:
            self._rollback(cursor)
            if _concerns_all(error):
                raise
            outcome.error = error
        except Exception as error:  # whatever it is, it must not stop the other tables (L6)
            self._rollback(cursor)
            message = f"An unexpected {type(error).__name__}: {redact(str(error))}"
            outcome.error = DestinationError(message, table=work.target.name)
        return outcome

    def _rollback(self, cursor: Cursor) -> None:
        try:
            cursor.execute("rollback")
        except RunnerError:
            # The connection is gone and the transaction with it; the first error is the one to tell.
            return

    def _stage(self, cursor: Cursor, lease: Lease, work: TableWork, outcome: Outcome) -> None:
        receipts = self.name("_runner_chunks")
        target, stage = work.target, self.name(work.target.stage)
        done: dict[str, int] = dict(
            cursor.rows(
                f"select chunk, max(epoch) from {receipts} where run = ? and table_name = ? group by chunk",
                [lease.run, target.name],
            )
        )
        if work.fresh or not done:
            self._create_stage(cursor, lease, target)
            done = {}
        for chunk in work.chunks:
            before = done.get(chunk.id)
            if before == chunk.epoch:
                continue
            if before is not None:
                cursor.execute(f"delete from {stage} where {_CHUNK} = ?", [chunk.id])
                cursor.execute(
                    f"delete from {receipts} where run = ? and table_name = ? and chunk = ?",
                    [lease.run, target.name, chunk.id],
                )
            self._load_chunk(cursor, lease, target, chunk)
            outcome.rows += chunk.rows

    def _load_chunk(self, cursor: Cursor, lease: Lease, target: Target, chunk: ChunkLoad) -> None:
        if chunk.files:
            self.copy(cursor, self.name(target.stage), target, chunk.files, chunk.id)
        cursor.execute(
            f"insert into {self.name('_runner_chunks')} values (?, ?, ?, ?, ?, null, {_NOW})",
            [lease.run, target.name, chunk.id, chunk.epoch, chunk.rows],
        )

    def _create_stage(self, cursor: Cursor, lease: Lease, target: Target) -> None:
        columns = [
            f"{quote(column.name)} {self.sql_type(column)}{'' if column.nullable else ' not null'}"
            for column in target.columns
        ]
        cursor.execute(f"drop table if exists {self.name(target.stage)}")
        cursor.execute(f"create table {self.name(target.stage)} ({', '.join(columns)}, {_CHUNK} {self.text_type})")
        cursor.execute(f"delete from {self.name('_runner_chunks')} where table_name = ?", [target.name])

    def _published(self, cursor: Cursor, publication: Publication) -> bool:
        sql = f"select 1 from {self.name('_dlt_loads')} where load_id = ?"
        return bool(cursor.rows(sql, [publication.load_id]))

    def _publish(
        self, cursor: Cursor, lease: Lease, target: Target, publication: Publication, outcome: Outcome
    ) -> None:
        newest = self._newest(cursor, target)
        if (newest.load_id if newest else None) != publication.base:
            raise LeaseLost("Another run published the table since this one was planned.", table=target.name)
        if publication.verify:
            self._count(cursor, target, publication)
        if publication.check_key:
            self._check_key(cursor, target)
        columns = self.existing_columns(cursor, target.name)
        owner = (newest.source, newest.source_table) if newest else None
        if target.name in columns and not publication.adopt and owner != (target.source, target.source_table):
            raise not_ours(target.name, owner)
        stage = self.name(target.stage)
        cursor.execute(f"alter table {stage} drop column {_CHUNK}")
        exists = target.name in columns
        if newest is not None and not exists and not publication.replace:
            raise DestinationError(
                "The table was dropped at the destination; this run read only what changed since.",
                guidance="Run the same command again: the table is read as a whole.",
                table=target.name,
            )
        if publication.replace or not exists:
            if exists:
                outcome.changes += self._changes(columns[target.name], target, publication)
            self.swap(cursor, target, exists=exists)
        else:
            outcome.changes += self._changes(columns[target.name], target, publication)
            self.fit_columns(cursor, target, columns[target.name])
            self._make_room(cursor, target, publication)
            self.insert_rows(cursor, target)
        self._record(cursor, lease, target, publication, newest)

    def _count(self, cursor: Cursor, target: Target, publication: Publication) -> None:
        found = dict(cursor.rows(f"select {_CHUNK}, count(*) from {self.name(target.stage)} group by {_CHUNK}"))
        expected = {chunk: rows for chunk, rows in publication.chunks.items() if rows}
        if found != expected:
            wrong = sorted(chunk for chunk in {*found, *expected} if found.get(chunk, 0) != expected.get(chunk, 0))
            first = wrong[0]
            raise VerifyFailed(
                f"{len(wrong)} chunks differ; in chunk {first} the source sent {expected.get(first, 0)} rows "
                f"and {found.get(first, 0)} arrived.",
                table=target.name,
            )

    def _check_key(self, cursor: Cursor, target: Target) -> None:
        key = ", ".join(quote(name) for name in target.key)
        nulls = " or ".join(f"{quote(name)} is null" for name in target.key)
        stage = self.name(target.stage)
        if cursor.rows(f"select 1 from {stage} group by {key} having count(*) > 1 limit 1") or cursor.rows(
            f"select 1 from {stage} where {nulls} limit 1"
        ):
            raise KeyNotUnique(f"({', '.join(target.key)}) is not unique, or NULL, in the rows read.")

    def _newest(self, cursor: Cursor, target: Target) -> TableState | None:
        rows = cursor.rows(
            f"select {_STATE_COLUMNS} from {self.name('_runner_state')} where table_name = ? order by seq desc limit 1",
            [target.name],
        )
        return TableState(*rows[0]) if rows else None

    def _check_lease(self, cursor: Cursor, lease: Lease, target: Target) -> None:
        if not cursor.rows(
            f"select 1 from {self.name('_runner_leases')} where table_name = ? and token = ?",
            [target.name, lease.token],
        ):
            raise LeaseLost(table=target.name)

    def _wanted(self, target: Target) -> dict[str, str]:
        return {column.name: self.sql_type(column) for column in target.columns}

    def fit_columns(self, cursor: Cursor, target: Target, existing: dict[str, str]) -> None:
        """Make the columns of a published table fit the rows that come.

        Raises:
            SchemaConflict: A column changed in a way that keeps neither the old values nor the new.
        """
        wanted = self._wanted(target)
        table = self.name(target.name)
        for name, new in wanted.items():
            old = existing.get(name)
            if old is None:
                cursor.execute(f"alter table {table} add column {quote(name)} {new}")
            elif old != new and self.widens(old, new):
                cursor.execute(f"alter table {table} alter column {quote(name)} type {new}")
            elif old != new and not self.widens(new, old):
                raise SchemaConflict(f"The column {name!r} was {old} and is {new} now.", table=target.name)
        nullable = {column.name for column in target.columns if column.nullable}
        for name in existing:
            if name not in wanted or name in nullable:
                cursor.execute(f"alter table {table} alter column {quote(name)} drop not null")

    def insert_rows(self, cursor: Cursor, target: Target) -> None:
        """Add the staging table's rows to the published table, and drop it."""
        names = ", ".join(quote(column.name) for column in target.columns)
        stage = self.name(target.stage)
        cursor.execute(f"insert into {self.name(target.name)} ({names}) select {names} from {stage}")
        cursor.execute(f"drop table {stage}")

    def _changes(self, existing: dict[str, str], target: Target, publication: Publication) -> list[str]:
        """Return what differs from the published table, in words; a frozen schema refuses it."""
        differences = _differences(existing, self._wanted(target))
        if publication.schema == "freeze" and differences:
            raise SchemaConflict(
                f"The schema is frozen and differs: {'; '.join(differences)}.",
                guidance="Set schema: evolve to take the change over.",
            )
        return differences

    def _make_room(self, cursor: Cursor, target: Target, publication: Publication) -> None:
        """Delete what the rows in staging replace: their range of the cursor, and their keys."""
        table, stage = self.name(target.name), self.name(target.stage)
        if publication.range is not None:
            self._delete_range(cursor, target, publication.range)
        if target.key and publication.mode != "append":
            key = ", ".join(quote(name) for name in target.key)
            cursor.execute(f"delete from {table} where ({key}) in (select {key} from {stage})")

    def _delete_range(self, cursor: Cursor, target: Target, bounds: Range) -> None:
        column = next(column for column in target.columns if column.name == bounds.column)
        sides = [(">=", bounds.start), ("<", bounds.end)]
        conditions = [f"{quote(column.name)} {sign} cast(? as {self.sql_type(column)})" for sign, side in sides if side]
        cursor.execute(
            f"delete from {self.name(target.name)} where {' and '.join(conditions)}",
            [side for _, side in sides if side],
        )

    def _record(
        self, cursor: Cursor, lease: Lease, target: Target, publication: Publication, newest: TableState | None
    ) -> None:
        state = self.name("_runner_state")
        rows = sum(publication.chunks.values())
        mark, column = publication.mark, publication.cursor
        if mark is None and newest is not None and newest.cursor == column and not publication.replace:
            mark = newest.mark
        cursor.execute(
            f"insert into {state} select ?, coalesce(max(seq), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {_NOW} "
            f"from {state} where table_name = ?",
            [
                target.name,
                target.source,
                target.source_table,
                lease.job,
                lease.run,
                publication.mode,
                column,
                mark,
                publication.load_id,
                publication.digest,
                rows,
                target.name,
            ],
        )
        cursor.execute(
            f"insert into {self.name('_dlt_loads')} values (?, ?, 0, now(), null)",
            [publication.load_id, self.dataset],
        )

    def register(self, targets: list[Target]) -> None:
        schemas = self.name("_runner_schemas")
        with self.session() as cursor:
            known = set(cursor.rows(f"select table_name, digest from {schemas}"))
        new = [target for target in targets if (target.name, target.digest()) not in known]
        if not new:
            return
        register(self.registry_client(), new)
        with self.session() as cursor:
            cursor.execute("begin")
            for target in new:
                cursor.execute(f"delete from {schemas} where table_name = ?", [target.name])
                cursor.execute(f"insert into {schemas} values (?, ?)", [target.name, target.digest()])
            cursor.execute("commit")

    def close(self) -> None:  # noqa: B027 - a writer that keeps nothing open has nothing to close
        """Close what stays open between calls."""


def _differences(existing: dict[str, str], wanted: dict[str, str]) -> list[str]:
    added = [f"column {name} added ({new})" for name, new in wanted.items() if name not in existing]
    gone = [f"column {name} is gone at the source" for name in existing if name not in wanted]
    changed = [
        f"column {name} changed from {existing[name]} to {new}"
        for name, new in wanted.items()
        if name in existing and existing[name] != new
    ]
    return [*added, *changed, *gone]


def _concerns_all(error: RunnerError) -> bool:
    """Tell whether an error of one table would meet every other table too."""
    return isinstance(error, DestinationBusy | DestinationDown | DiskFull)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
