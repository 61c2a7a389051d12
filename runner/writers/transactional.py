"""Rows, their receipts and the history row in one transaction, on any SQL database that has them.

Chunks load into a staging table with a column ``_runner_chunk``; a receipt in ``_runner_chunks`` is
written in the same transaction, so that loading a chunk again is a no-op (L3, L5). Publishing checks
the lease, counts, swaps or merges, and writes ``_runner_state`` and ``_dlt_loads``, all in one (L4, L10).
"""

from __future__ import annotations

import abc
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from runner.crash import crash_point
from runner.errors import (
    DestinationBusy,
    DestinationDown,
    DestinationError,
    DiskFull,
    RunnerError,
    SchemaConflict,
    VerifyFailed,
)
from runner.load import (
    DELETED_AT,
    ChunkLoad,
    DatasetState,
    Held,
    Lease,
    Outcome,
    Receipt,
    RunRecord,
    TableState,
    TableWork,
    Target,
    TargetColumn,
)
from runner.naming import literal, quote
from runner.rowhash import Dialect, Digest, Field
from runner.secrets import redact
from runner.writers.books import STATE_COLUMNS, TABLES, Books
from runner.writers.cursor import Cursor
from runner.writers.publication import CHUNK, OWN_COLUMNS, VALID_TO, Publisher
from runner.writers.registry import RegistryClient, grown, register
from runner.writers.rowleases import RowLeases

PROMISES = {
    "full": "exactly once; all at once",
    "append": "exactly once",
    "incremental": "exactly once",
    "snapshot": "exactly once",
}

# Tables up to this size share a transaction: a commit takes longer than their rows.
_SMALL_BYTES = 2**20


class TransactionalWriter(abc.ABC):
    """The recipe; a subclass says how its database differs."""

    text_type = "text"
    timestamp_type = "timestamp with time zone"
    now = "now()"
    microsecond = "interval '1 microsecond'"
    # What the table of keys is called where a published table is compared with it.
    keys_alias = "k"
    # The most rows that one INSERT … VALUES may have; None is any number.
    most_values: int | None = None
    # The clock of all leases: seconds since 1970.
    seconds = "extract(epoch from now())"
    # Whether tables are made and altered in the transaction; else before it, for such a statement would commit it.
    transactional_ddl = True
    leases_type: type[RowLeases] = RowLeases
    publisher_type: type[Publisher] = Publisher
    row_id: str | None = "rowid"
    # What to do about a column that fits neither way; None: what its error says.
    conflict_guidance: str | None = None
    # Whether readers of a table wait from its swap until the commit: then they must not wait for other tables too.
    readers_wait = True
    dialect: Dialect

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.leases = self.leases_type(self.name("_runner_leases"), self.seconds)

    # What differs between databases.

    @abc.abstractmethod
    def session(self) -> Any:
        """Return a context manager that lends a Cursor and closes it; errors arrive translated."""

    @abc.abstractmethod
    def sql_type(self, column: TargetColumn) -> str:
        """Return the type of a column, spelled as existing_columns() spells it."""

    @abc.abstractmethod
    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        """Append the rows of chunks to the staging table; named: each with the chunk's id."""

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
            self.make_books(cursor)
            cursor.execute("commit")

    def make_books(self, cursor: Cursor) -> None:
        """Create what is missing of the tables that hold the dataset's records."""
        existing = self.existing_columns(cursor)
        for table, columns in TABLES.items():
            sql = self.book_columns(columns)
            if not self.transactional_ddl:
                # A warehouse keeps no keys, and rows that are only added would break them.
                sql = sql.replace(" primary key", "")
            if table not in existing:
                cursor.execute(f"create table if not exists {self.name(table)} ({sql})")
                continue
            # A dataset that an earlier version made lacks what has been added since.
            for column in sql.split(", "):
                if column.split()[0] not in existing[table]:
                    cursor.execute(f"alter table {self.name(table)} add column {column}")

    def book_columns(self, columns: str) -> str:
        """Return the columns of a table of TABLES as the database spells their types."""
        return columns.format(text=self.text_type)

    def read_state(self, run: str | None) -> DatasetState:
        with self.session() as cursor:
            existing = self.existing_columns(cursor)
            if "_runner_state" not in existing:
                return DatasetState({}, existing)
            states = cursor.rows(
                f"select table_name, {STATE_COLUMNS} from {self.name('_runner_state')} s where seq = "
                f"(select max(seq) from {self.name('_runner_state')} n where n.table_name = s.table_name)"
            )
            plans: dict[str, str] = {}
            receipts: list[tuple[Any, ...]] = []
            if "_runner_plans" in existing:
                # A plan of the run that published the table is carried out, and was not deleted yet.
                plans = dict(
                    cursor.rows(
                        f"select table_name, plan from {self.name('_runner_plans')} p where not exists (select 1 from "
                        f"{self.name('_runner_state')} s where s.table_name = p.table_name and s.run = p.run)"
                    )
                )
                receipts = cursor.rows(
                    "select table_name, chunk, run, epoch, row_count, hash, source_token "
                    f"from {self.name('_runner_chunks')} where run = ? "
                    f"or table_name in (select table_name from {self.name('_runner_plans')})",
                    [run],
                )
        tables = {row[0]: TableState(*row[1:]) for row in states}
        chunks = {(table, chunk): Receipt(*rest) for table, chunk, *rest in receipts}
        return DatasetState(tables, existing, chunks, plans)

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        # In one order: two who take some of the same rows in two orders would wait for each other.
        wanted = sorted(tables)
        if not wanted:
            return []
        with self.session() as cursor:
            return self.leases.acquire(cursor, lease, wanted)

    def discard(self, target: Target) -> None:
        with self.session() as cursor:
            cursor.execute("begin")
            cursor.execute(f"drop table if exists {self.name(target.stage)}")
            for table in ("_runner_chunks", "_runner_plans"):
                cursor.execute(f"delete from {self.name(table)} where table_name = ?", [target.name])
            cursor.execute("commit")

    def renew(self, lease: Lease) -> None:
        with self.session() as cursor:
            self.leases.renew(cursor, lease)

    def release(self, lease: Lease) -> None:
        with self.session() as cursor:
            self.leases.release(cursor, lease)

    def rest(self) -> None:  # noqa: B027 - a server needs no rest between packages
        """Let others at the destination until the next package."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        with self.session() as cursor:
            outcomes: list[Outcome] = []
            for group in self._groups(works):
                together = self._together(cursor, lease, group) if len(group) > 1 else []
                if together and not any(outcome.error for outcome in together):
                    outcomes += together
                    continue
                for work in group:
                    try:
                        outcomes += self._transaction(cursor, lease, [work])
                    except RunnerError as error:
                        if error.retriable:
                            raise
                        # What was committed before stays told; what is left would only fail the same way.
                        return outcomes + [Outcome(error=error) for _ in works[len(outcomes) :]]
            return outcomes

    def _groups(self, works: Sequence[TableWork]) -> Iterator[list[TableWork]]:
        """Return works that are done in one transaction: small tables that are published at once, else one by one."""
        group: list[TableWork] = []
        for work in works:
            publication = work.publication
            new = publication is not None and (publication.base is None or not self.readers_wait)
            if new and work.fresh and work.bytes <= _SMALL_BYTES:
                group.append(work)
                continue
            if group:
                yield group
                group = []
            yield [work]
        if group:
            yield group

    def _together(self, cursor: Cursor, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        try:
            return self._transaction(cursor, lease, works)
        except RunnerError as error:
            if error.retriable:
                raise
            # Some of them may still get through alone.
            return []

    def _transaction(self, cursor: Cursor, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        """Do some works in one transaction; of several, all or none."""
        outcomes = [Outcome() for _ in works]
        books: Books | None = None
        name = works[0].target.name
        try:
            self.begin(cursor, lease, works, outcomes)
            crash_point("load-begun", works[0].target.source_table)
            books = Books(self, cursor, lease, works)
            for work, outcome in zip(works, outcomes, strict=True):
                name = work.target.name
                books.check_lease(work.target)
                if work.publication is None or not books.is_published(work.publication):
                    self._stage(cursor, books, work, outcome)
                    if work.publication is not None:
                        publisher = self.publisher_type(self, cursor, books, work.target, work.publication, outcome)
                        publisher.publish(one_chunk=work.one_chunk)
            books.write()
            for work in works:
                crash_point("load-receipted", work.target.source_table)
                if work.publication is not None:
                    crash_point("publish-recorded", work.target.source_table)
            self.commit(cursor, lease, works)
        except VerifyFailed as error:
            if books is not None and len(works) == 1 and not works[0].one_chunk:
                # Nothing but staging was touched yet: it is kept, so that the rows that differ can be looked for.
                books.write()
                cursor.execute("commit")
            else:
                self._rollback(cursor)
            outcomes[0].error = error
        except RunnerError as error:
            self._rollback(cursor)
            if _concerns_all(error):
                raise
            outcomes[0].error = error
        except Exception as error:  # whatever it is, it must not stop the other tables (L6)
            self._rollback(cursor)
            message = f"An unexpected {type(error).__name__}: {redact(str(error))}"
            outcomes[0].error = DestinationError(message, table=name)
        return outcomes

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        """Begin the transaction of some works, alone with their tables."""
        cursor.execute("begin")
        for name in sorted(work.target.name for work in works):
            self.lock_table(cursor, name)

    def commit(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        """Commit the transaction of some works.

        Raises:
            LeaseLost: Somebody else published one of the tables meanwhile.
        """
        cursor.execute("commit")

    def drop(self, cursor: Cursor, table: str) -> None:
        """Drop a table of ours whose rows were published."""
        cursor.execute(f"drop table {table}")

    def _rollback(self, cursor: Cursor) -> None:
        try:
            cursor.execute("rollback")
        except RunnerError:
            # The connection is gone and the transaction with it; the first error is the one to tell.
            return

    def _stage(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        target, stage = work.target, self.name(work.target.stage)
        done = books.receipts[target.name]
        if work.fresh or not done:
            if self.transactional_ddl:
                self.create_stage(cursor, target, named=not work.one_chunk)
            books.forget(target)
            if work.plan is not None:
                books.note_plan(target, work.plan)
            done = {}
        new = [chunk for chunk in work.chunks if done.get(chunk.id) != chunk.epoch]
        for chunk in new:
            if chunk.id in done:
                cursor.execute(f"delete from {stage} where {CHUNK} = ?", [chunk.id])
                cursor.execute(
                    f"delete from {self.name('_runner_chunks')} where table_name = ? and chunk = ?",
                    [target.name, chunk.id],
                )
        if filled := [chunk for chunk in new if chunk.files]:
            self.copy(cursor, stage, target, filled, named=not work.one_chunk)
        for chunk in new:
            crash_point("load-staged", target.source_table)
            books.note_chunk(target, chunk)
            outcome.rows += chunk.rows

    def published_columns(self, cursor: Cursor, target: Target) -> dict[str, str] | None:
        """Return the columns of a published table as they were before this publication; None where there is none."""
        return self.existing_columns(cursor, target.name).get(target.name)

    def create_stage(self, cursor: Cursor, target: Target, *, named: bool) -> None:
        """Make the staging table of a target anew; named: with a column for the chunk's id."""
        columns = self.columns(target)
        if named:
            columns += f", {CHUNK} {self.text_type} not null"
        self.make_table(cursor, self.name(target.stage), columns)

    def columns(self, target: Target) -> str:
        """Return a target's columns as CREATE TABLE lists them."""
        return ", ".join(
            f"{quote(column.name)} {self.sql_type(column)}{'' if column.nullable else ' not null'}"
            for column in target.columns
        )

    def make_table(self, cursor: Cursor, table: str, columns: str) -> None:
        """Create a table of ours in place of one that may be left over."""
        cursor.execute(f"drop table if exists {table}")
        cursor.execute(f"create table {table} ({columns})")

    def wanted_types(self, target: Target) -> dict[str, str]:
        """Return the types that the plan gives the columns."""
        return {column.name: self.sql_type(column) for column in target.columns}

    def among(self, columns: str, values: str, source: str) -> str:
        """Return the condition that columns have the values of one of the source's rows."""
        return f"({columns}) in (select {values} from {source})"

    def keyed(self, target: Target, source: str) -> str:
        """Return the condition that a published row has the key of one of the source's rows."""
        key = ", ".join(quote(name) for name in target.key)
        return self.among(key, key, source)

    def equal(self, column: TargetColumn, left: str, right: str) -> str:
        """Return the condition that two values of a column are the same."""
        return f"{left} = {right}"

    def after(self, moment: str) -> str:
        """Return the SQL of the moment that is a microsecond later."""
        return f"{moment} + {self.microsecond}"

    def grouped(self, *columns: str) -> str:
        """Return how GROUP BY names the first columns of a query."""
        return ", ".join(str(place) for place in range(1, len(columns) + 1))

    def typed(self, text: str, kind: str) -> str:
        """Return a literal of a type."""
        return f"cast({literal(text)} as {kind})"

    def fit_columns(self, cursor: Cursor, target: Target, existing: dict[str, str]) -> None:
        """Make the columns of a published table fit the rows that come.

        Raises:
            SchemaConflict: A column changed in a way that keeps neither the old values nor the new.
        """
        table = self.name(target.name)
        wanted = self.wanted_types(target)
        for name, new in wanted.items():
            had = existing.get(name, new)
            if not self.widens(had, new) and not self.widens(new, had):
                raise SchemaConflict(
                    f"The column {name!r} was {had} and is {new} now.",
                    guidance=self.conflict_guidance,
                    table=target.name,
                )
        for name, new in wanted.items():
            if (old := existing.get(name)) is None:
                cursor.execute(f"alter table {table} add column {quote(name)} {new}")
            elif old != new and self.widens(old, new):
                cursor.execute(f"alter table {table} alter column {quote(name)} set data type {new}")
        nullable = {column.name for column in target.columns if column.nullable}
        may_be_null = {name for name in existing if name not in wanted or name in nullable} - {*OWN_COLUMNS}
        if may_be_null:
            for name in sorted(may_be_null & self.mandatory(cursor, target.name, existing)):
                cursor.execute(f"alter table {table} alter column {quote(name)} drop not null")

    def mandatory(self, cursor: Cursor, table: str, existing: Mapping[str, str]) -> set[str]:
        """Return the columns of a published table that may be NOT NULL; to drop that where it is not is harmless."""
        return {*existing}

    def insert_rows(self, cursor: Cursor, target: Target) -> None:
        """Add the staging table's rows to the published table, and drop it."""
        names = ", ".join(quote(column.name) for column in target.columns)
        stage = self.name(target.stage)
        cursor.execute(f"insert into {self.name(target.name)} ({names}) select {names} from {stage}")
        self.drop(cursor, stage)

    # Hashes of what is there.

    def present(self, cursor: Cursor, target: Target) -> str:
        """Return the condition that leaves history and rows marked as deleted out, or an empty string."""
        theirs = {column.name for column in target.columns}
        columns = set(self.existing_columns(cursor, target.name).get(target.name, {})) - theirs
        return " and ".join(f"{quote(name)} is null" for name in (VALID_TO, DELETED_AT) if name in columns)

    def digest(
        self,
        target: Target,
        ask: Digest,
        *,
        chunk: str | None = None,
        cursor: str | None = None,
        until: str | None = None,
        between: tuple[str, str | None, str | None] | None = None,
    ) -> list[tuple[Any, ...]]:
        with self.session() as at:
            if chunk is not None:
                where = f"{CHUNK} = {literal(chunk)}"
                return self._ask(at, ask, target.fields(), self.name(target.stage), where)
            actual = self.existing_columns(at, target.name).get(target.name)
            if actual is None:
                return []
            conditions = [self.present(at, target)]
            if cursor is not None and until is not None:
                name, kind = quote(cursor), actual[cursor]
                conditions.append(f"({name} <= {self.typed(until, kind)} or {name} is null)")
            if between is not None:
                name, low, high = between
                kind = actual[name]
                sides = ((">=", low), ("<", high))
                conditions += [f"{quote(name)} {sign} {self.typed(side, kind)}" for sign, side in sides if side]
            where = " and ".join(condition for condition in conditions if condition)
            hashed = target.fields(actual, self.wanted_types(target))
            return self._ask(at, ask, hashed, self.name(target.name), where)

    def _ask(
        self, cursor: Cursor, ask: Digest, hashed: Sequence[Field], relation: str, where: str
    ) -> list[tuple[Any, ...]]:
        return cursor.rows(self.dialect.sql(ask, hashed, relation, where))

    def load_keys(self, cursor: Cursor, target: Target, files: Sequence[Path], rows: int) -> str:
        """Load the keys that the source has into a table of their own, and return its quoted name.

        Raises:
            DestinationError: Not all of them arrived: rows would be deleted that are not gone.
        """
        own = keys_target(target)
        keys = own.columns
        table = self.name(own.stage)
        columns = ", ".join(f"{quote(column.name)} {self.sql_type(column)}" for column in keys)
        self.make_table(cursor, table, columns)
        if files:
            self.copy(cursor, table, own, [ChunkLoad(own.stage, 0, tuple(files), rows, 0)], named=False)
        arrived = cursor.rows(f"select count(*) from {table}")[0][0]
        if arrived != rows:
            raise DestinationError(f"{rows} keys were read and {arrived} arrived.", table=target.name)
        return table

    def record_run(self, record: RunRecord) -> None:
        runs = self.name("_runner_runs")
        values = [getattr(record, field.name) for field in fields(record)]
        marks = ", ".join("?" * len(values))
        with self.session() as cursor:
            cursor.execute("begin")
            cursor.execute(f"delete from {runs} where run = ?", [record.run])
            cursor.execute(f"insert into {runs} values ({marks})", values)
            cursor.execute("commit")

    def register(self, targets: list[Target]) -> None:
        with self.session() as cursor:
            known = set(cursor.rows(f"select table_name, digest from {self.name('_runner_schemas')}"))
            new = [target for target in targets if (target.name, target.digest()) not in known]
            if not new:
                return
            crash_point("register-begun")
            cursor.execute("begin")
            by_us = self._grow_schema(cursor, new)
            cursor.execute("commit")
        if not by_us:
            self.leave_to_dlt()
            register(self.registry_client(), new)
        crash_point("register-committed")
        if not by_us:
            with self.session() as cursor:
                cursor.execute("begin")
                self._note_schemas(cursor, new)
                cursor.execute("commit")

    def leave_to_dlt(self) -> None:  # noqa: B027 - a session more or less is nothing to a server
        """Make room for a session of dlt."""

    def _grow_schema(self, cursor: Cursor, targets: list[Target]) -> bool:
        """Add tables to dlt's schema without dlt; return whether that is enough."""
        self.lock_table(cursor, "_dlt_version")
        versions = self.name("_dlt_version")
        stored = cursor.rows(
            f"select schema from {versions} where schema_name = ? order by inserted_at desc limit 1", [self.dataset]
        )
        schema = grown(self.dataset, stored[0][0] if stored else None, targets)
        if schema is None:
            return False
        cursor.execute(
            f"insert into {versions} (version, engine_version, inserted_at, schema_name, version_hash, schema) "
            # The newest row is the schema, whatever the clocks say, and however long we waited for our turn.
            f"select ?, ?, coalesce(greatest({self.now}, (select {self.after('max(inserted_at)')} "
            f"from {versions} where schema_name = ?)), {self.now}), ?, ?, ?",
            [
                schema["version"],
                schema["engine_version"],
                self.dataset,
                self.dataset,
                schema["version_hash"],
                json.dumps(schema),
            ],
        )
        self._note_schemas(cursor, targets)
        return True

    def _note_schemas(self, cursor: Cursor, targets: Sequence[Target]) -> None:
        schemas = self.name("_runner_schemas")
        names = ", ".join(literal(target.name) for target in targets)
        cursor.execute(f"delete from {schemas} where table_name in ({names})")
        size = self.most_values or len(targets)
        for start in range(0, len(targets), size):
            part = targets[start : start + size]
            values = ", ".join(f"({literal(target.name)}, {literal(target.digest())})" for target in part)
            cursor.execute(f"insert into {schemas} values {values}")

    def interrupt(self) -> None:  # noqa: B027 - a writer whose calls end soon has nothing to end
        """End the call under way, from another thread."""

    def close(self) -> None:  # noqa: B027 - a writer that keeps nothing open has nothing to close
        """Close what stays open between calls."""


def keys_target(target: Target) -> Target:
    """Return the table that all keys of the source are loaded into."""
    return Target(f"{target.name} keys", tuple(column for column in target.columns if column.name in target.key))


def _concerns_all(error: RunnerError) -> bool:
    """Tell whether an error of one table would meet every other table too."""
    return isinstance(error, DestinationBusy | DestinationDown | DiskFull)


def precision_and_scale(kind: str) -> tuple[int, int]:
    """Return the two numbers of a decimal type, as in ``numeric(18,2)``."""
    precision, scale = kind[kind.index("(") + 1 : -1].split(",")
    return int(precision), int(scale)
