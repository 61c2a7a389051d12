"""How a staging table becomes visible: checks, swap, merge, history, deletes; all in one transaction (L3, L4).

The fingerprint of the whole table is carried forward: a refresh has that of its rows; a merge takes away the
rows it replaces and adds the new ones. So a table can be checked later without its source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.crash import crash_point
from runner.errors import (
    DestinationError,
    KeyNotUnique,
    LeaseLost,
    SchemaConflict,
    TooManyDeleted,
    VerifyFailed,
)
from runner.load import DELETED_AT, VERSION_COLUMNS, Deletion, Outcome, Publication, Range, TableState, Target
from runner.naming import literal, quote
from runner.plan import not_ours
from runner.profile import stage
from runner.rowhash import Digest, Fingerprint, by_prefix, total

if TYPE_CHECKING:
    from runner.writers.books import Books
    from runner.writers.cursor import Cursor
    from runner.writers.transactional import TransactionalWriter

CHUNK = "_runner_chunk"
VALID_FROM, VALID_TO, VERSION = VERSION_COLUMNS
# What rows that are kept are marked with, among others of the same key.
_KEPT = "_runner_kept"
OWN_COLUMNS = (*VERSION_COLUMNS, DELETED_AT)


@dataclass
class Publisher:
    """Publishes one table inside a transaction that somebody else begins and commits."""

    writer: TransactionalWriter
    cursor: Cursor
    books: Books
    target: Target
    publication: Publication
    outcome: Outcome

    @cached_property
    def table(self) -> str:
        """The published table's quoted name."""
        return self.writer.name(self.target.name)

    @cached_property
    def stage(self) -> str:
        """The staging table's quoted name."""
        return self.writer.name(self.target.stage)

    @cached_property
    def columns(self) -> str:
        """The quoted names of the target's columns."""
        return ", ".join(quote(column.name) for column in self.target.columns)

    @cached_property
    def existing(self) -> dict[str, str] | None:
        """The published table's columns before this publication; None where there is no table."""
        return self.writer.published_columns(self.cursor, self.target)

    @property
    def newest(self) -> TableState | None:
        """The newest history row."""
        return self.books.newest(self.target)

    def publish(self, *, one_chunk: bool) -> None:
        """Check, then make the rows in staging visible, and record it.

        Args:
            one_chunk: Whether staging has all rows of one chunk, and no column that names it.

        Raises:
            LeaseLost: Somebody else published the table since it was planned.
            VerifyFailed: Staging does not hold what was read.
            KeyNotUnique: The key is none.
            SchemaConflict: A column changed in a way that cannot be merged.
        """
        self.check_basis()
        with stage("verify", within="load"):
            staged = self._compare(one_chunk=one_chunk) if self.publication.verify else None
        crash_point("verify", self.target.source_table)
        if not one_chunk and self.writer.transactional_ddl:
            # First: DuckDB does not change a table that rows were deleted from in the same transaction.
            self.cursor.execute(f"alter table {self.stage} drop column {CHUNK}")
        if self.publication.collapse:
            staged = self._collapse(staged)
        if self.publication.check_key and not self.outcome.collapsed:
            self._check_key()
        staged = self._leave_out_deleted(staged)
        carried: Fingerprint | None
        if self.publication.mode == "snapshot":
            carried = self._add_versions(staged)
        elif self.existing is None or (self.publication.replace and not self._keeps_marked):
            carried = self._replace(staged)
        else:
            carried = self._merge(staged)
        carried = self._delete_missing(carried)
        self.outcome.hash = carried
        crash_point("swap", self.target.source_table)
        self.books.note_publication(self.target, self.publication, str(carried) if carried is not None else None)

    # Checks.

    def check_basis(self) -> None:
        """Check that the table is still what it was when the publication was planned.

        Raises:
            LeaseLost: Somebody else published it since.
            NotOurs: Somebody else made it.
            DestinationError: It was dropped.
        """
        newest, publication = self.newest, self.publication
        if (newest.load_id if newest else None) != publication.base:
            raise LeaseLost("Another run published the table since this one was planned.", table=self.target.name)
        owner = (newest.source, newest.source_table) if newest else None
        if self.existing is None:
            if newest is not None and not publication.replace:
                raise DestinationError(
                    "The table was dropped at the destination; this run read only what changed since.",
                    guidance="Run the same command again: the table is read as a whole.",
                    table=self.target.name,
                )
        elif not publication.adopt and owner != (self.target.source, self.target.source_table):
            raise not_ours(self.target.name, owner)

    def _compare(self, *, one_chunk: bool) -> Fingerprint | None:
        """Compare staging with what was read, chunk by chunk; return the fingerprint of all of it."""
        publication = self.publication
        if publication.hashes is None:
            chunk, of_it = CHUNK, f"group by {CHUNK}"
            if one_chunk:
                chunk, of_it = literal(next(iter(publication.chunks))), "having count(*) > 0"
            sql = f"select {chunk}, count(*) from {self.stage} {of_it}"
            self._refuse_difference(dict(self.cursor.rows(sql)), publication.chunks, str)
            return None
        dialect = self.writer.dialect
        # Parts by the first digit come with the same scan, where a proof cannot tell chunks apart later.
        ask = Digest(digits=int(publication.parts))
        sql = dialect.sql(ask, self.target.fields(), self.stage, group=CHUNK)
        chunks: dict[str, Fingerprint] = defaultdict(Fingerprint)
        parts: dict[str, Fingerprint] = defaultdict(Fingerprint)
        for chunk, prefix, *sums in self.cursor.rows(sql):
            chunks[chunk] += Fingerprint.of(*sums)
            parts[prefix] += Fingerprint.of(*sums)
        if publication.key_column is not None:
            key = quote(publication.key_column)
            ends = self.cursor.rows(f"select cast(min({key}) as text), cast(max({key}) as text) from {self.stage}")[0]
            self.outcome.key_range = None if ends[0] is None else (str(ends[0]), str(ends[1]))
        expected = {chunk: found for chunk, found in publication.hashes.items() if found.rows}
        self._refuse_difference(dict(chunks), expected, lambda found: f"{found.rows} rows")
        if publication.parts:
            self.outcome.parts = dict(parts)
        return total(chunks.values())

    def _refuse_difference(self, found: dict[str, Any], expected: dict[str, Any], words: Any) -> None:
        wanted = {chunk: value for chunk, value in expected.items() if value}
        wrong = sorted(chunk for chunk in {*found, *wanted} if found.get(chunk) != wanted.get(chunk))
        if not wrong:
            return
        first = wrong[0]
        sent, arrived = (words(one[first]) if first in one else "no rows" for one in (wanted, found))
        values = "" if sent != arrived else ", and their values differ"
        raise VerifyFailed(
            f"{len(wrong)} of {len(expected)} chunks differ; of chunk {first} the source sent {sent} and "
            f"{arrived} arrived{values}.",
            table=self.target.name,
            chunks=",".join(wrong),
        )

    def _check_key(self) -> None:
        names = self.target.key or self.publication.collapse
        key = ", ".join(quote(name) for name in names)
        nulls = " or ".join(f"{quote(name)} is null" for name in names)
        if self.cursor.rows(f"select 1 from {self.stage} group by {key} having count(*) > 1 limit 1") or (
            self.cursor.rows(f"select 1 from {self.stage} where {nulls} limit 1")
        ):
            raise KeyNotUnique(f"({', '.join(names)}) is not unique, or NULL, in the rows read.")

    def _collapse(self, staged: Fingerprint | None) -> Fingerprint | None:
        """Keep one row of each key where pages that shifted showed it more than once: that with the newest cursor."""
        key = ", ".join(quote(name) for name in self.publication.collapse)
        known = " and ".join(f"{quote(name)} is not null" for name in self.publication.collapse)
        if self.target.key and self.cursor.rows(f"select 1 from {self.stage} where not ({known}) limit 1"):
            raise KeyNotUnique(f"({', '.join(self.target.key)}) is NULL in the rows read.")
        twice = f"select count(*) as n from {self.stage} where {known} group by {key} having count(*) > 1"
        more = self.cursor.rows(f"select coalesce(sum(n - 1), 0) from ({twice}) _runner_t")[0][0]
        if not more:
            return staged
        cursor = next((one.name for one in self.target.columns if one.source == self.publication.cursor), None)
        self._keep_newest(key, known, quote(cursor) if cursor else None)
        self.outcome.collapsed = int(more)
        if staged is None:
            return None
        self.outcome.parts = {}
        sql = self.writer.dialect.sql(Digest(), self.target.fields(), self.stage)
        return total(by_prefix(self.cursor.rows(sql)).values())

    def _keep_newest(self, key: str, known: str, cursor: str | None) -> None:
        """Keep one row of each key in staging: that with the newest cursor, else the one that came last."""
        row = self.writer.row_id
        newest = f"case when {cursor} is null then 1 else 0 end, {cursor} desc" if cursor else ""
        if row is not None:
            order = ", ".join(filter(None, (newest, f"{row} desc")))
            numbered = f"{row} as r, row_number() over (partition by {key} order by {order}) as n from {self.stage}"
            older = f"select r from (select {numbered} where {known}) _runner_n where n > 1"
            self.cursor.execute(f"delete from {self.stage} where {row} in ({older})")
            return
        if self.target.ordered and not cursor:
            raise KeyNotUnique(
                "Rows of one key came more than once, and this destination does not know which came last.",
                guidance="Load the table into DuckDB or PostgreSQL, or name a cursor that says which row is the newer.",
            )
        # Rows have no address here: those to keep are added once more, and all others go.
        number = f"row_number() over (partition by {key} order by {newest or CHUNK}) as _runner_n"
        self.cursor.execute(
            f"insert into {self.stage} ({self.columns}, {CHUNK}) select {self.columns}, {literal(_KEPT)} "
            f"from (select {self.columns}, {CHUNK}, {number} from {self.stage}) _runner_s "
            f"where _runner_n = 1 or not ({known})"
        )
        self.cursor.execute(f"delete from {self.stage} where {CHUNK} <> {literal(_KEPT)}")

    # The ways to become visible.

    def _replace(self, staged: Fingerprint | None) -> Fingerprint | None:
        if self.existing is not None:
            self.note_changes(self.existing)
        self.writer.swap(self.cursor, self.target, exists=self.existing is not None)
        return staged

    def _merge(self, staged: Fingerprint | None) -> Fingerprint | None:
        """Replace the rows that staging replaces: those of a range, of a slice, of the same keys; or none."""
        assert self.existing is not None
        self.note_changes(self.existing)
        self.writer.fit_columns(self.cursor, self.target, self.existing)
        replaced = self._make_room(carries=self._carries(staged))
        self.writer.insert_rows(self.cursor, self.target)
        if staged is None or self.publication.replace:
            return staged
        if replaced is None:
            return self._hash_published()
        assert self.newest is not None
        return Fingerprint.parse(str(self.newest.hash)) - replaced + staged

    def _carries(self, staged: Fingerprint | None) -> bool:
        """Tell whether the fingerprint on record is of the same columns, so that it can be carried forward."""
        newest, publication = self.newest, self.publication
        if staged is None or newest is None or not newest.hash or publication.slice is not None:
            return False
        return newest.digest == publication.digest

    def _make_room(self, *, carries: bool) -> Fingerprint | None:
        conditions = []
        publication = self.publication
        if publication.replace:
            conditions.append("1 = 1")
        if publication.range is not None:
            conditions.append(self._range_condition(publication.range))
        if publication.slice is not None and self._deletes:
            conditions.append(self.writer.dialect.within(publication.slice, self._published_fields()))
        # Rows marked as deleted are neither of a range nor of a slice: they are history.
        present = self.writer.present(self.cursor, self.target)
        conditions = [f"{condition} and {present}" if present else condition for condition in conditions]
        if self.target.key and publication.mode != "append":
            conditions.append(self.writer.keyed(self.target, self.stage))
        replaced = Fingerprint()
        for condition in conditions:
            if carries:
                replaced += self._hash_published(condition)
            self.cursor.execute(f"delete from {self.table} where {condition}")
        return replaced if carries else None

    @property
    def _deletes(self) -> bool:
        """Whether rows that the source does not have may go: else only rows with the keys that come are replaced."""
        merges = self.publication.mode == "incremental" and bool(self.target.key)
        return not merges or self.publication.deletion is not None or self.publication.compares

    def _range_condition(self, bounds: Range) -> str:
        column = next(column for column in self.target.columns if column.name == bounds.column)
        kind = self.writer.sql_type(column)
        sides = [(">=", bounds.start), ("<", bounds.end)]
        parts = [f"{quote(column.name)} {sign} {self.writer.typed(side, kind)}" for sign, side in sides if side]
        return " and ".join(parts)

    def _add_versions(self, staged: Fingerprint | None) -> Fingerprint | None:
        """Keep every version of a row: close those that are gone, add those that are new (scd2, as dlt has it)."""
        writer, cursor = self.writer, self.cursor
        own = f"{quote(VALID_FROM)} {writer.timestamp_type}, {quote(VALID_TO)} {writer.timestamp_type}"
        own += f", {quote(VERSION)} {writer.text_type}"
        if self.existing is None or self.publication.replace:
            if self.existing is not None:
                self.note_changes(self.existing)
                cursor.execute(f"drop table {self.table}")
            cursor.execute(f"create table {self.table} as select {self.columns} from {self.stage} where 1 = 0")
            self._add_columns(own)
        else:
            self.note_changes(self.existing)
            writer.fit_columns(cursor, self.target, self.existing)
            if VERSION not in self.existing:
                # Another mode made the table: what it holds are the first versions.
                self._add_columns(own)
                cursor.execute(f"update {self.table} set {VALID_FROM} = {writer.now}")
            if self.newest is None or self.newest.digest != self.publication.digest:
                self._renumber()
        # Equal rows without a key are versions of their own, told apart by their number.
        version = writer.dialect.hash(self.target.fields())
        numbered = self._numbered(self.columns, version, self.stage)
        staged_one = f"select 1 from ({numbered}) _runner_s where _runner_version = {self.table}.{VERSION}"
        gone = f"{VALID_TO} is null and not exists ({staged_one})"
        cursor.execute(f"update {self.table} set {VALID_TO} = {writer.now} where {gone}")
        cursor.execute(
            f"insert into {self.table} ({self.columns}, {VALID_FROM}, {VALID_TO}, {VERSION}) "
            f"select {self.columns}, {writer.now}, null, _runner_version from ({numbered}) _runner_s where not exists "
            f"(select 1 from {self.table} where {VALID_TO} is null and {self.table}.{VERSION} = _runner_version)"
        )
        writer.drop(cursor, self.stage)
        return staged

    def _add_columns(self, columns: str) -> None:
        for column in columns.split(", "):
            self.cursor.execute(f"alter table {self.table} add column {column}")

    def _renumber(self) -> None:
        """Give the current rows the versions of today's columns: a column that came or went is no new version."""
        row = self.writer.row_id
        version = self.writer.dialect.hash(self._published_fields())
        current = f"{self.table} where {VALID_TO} is null"
        numbered = self._numbered(f"{row} as _runner_row", version, current, names="_runner_row")
        self.cursor.execute(
            f"update {self.table} set {VERSION} = _runner_s._runner_version from ({numbered}) _runner_s "
            f"where {self.table}.{row} = _runner_s._runner_row"
        )

    def _numbered(self, columns: str, version: str, source: str, names: str | None = None) -> str:
        """Return the query of rows with their versions: the hash, and a number where rows are equal."""
        names = names or columns
        hashed = f"select {columns}, {version} as _runner_hash from {source}"
        number = "row_number() over (partition by _runner_hash) as _runner_number"
        suffix = "case when _runner_number > 1 then '-' || _runner_number else '' end"
        return (
            f"select {names}, _runner_hash || {suffix} as _runner_version "
            f"from (select {names}, _runner_hash, {number} from ({hashed}) a) b"
        )

    # Deletes.

    def _leave_out_deleted(self, staged: Fingerprint | None) -> Fingerprint | None:
        """Take rows that the source marks as deleted out of staging, where they are to be deleted."""
        deletion = self.publication.deletion
        if deletion is None or deletion.column is None or not deletion.hard:
            return staged
        column = next(column for column in self.target.columns if column.name == deletion.column)
        name = quote(column.name)
        condition = f"{name} is true" if str(column.type) == "bool" else f"{name} is not null"
        self.outcome.deleted += self.cursor.rows(f"select count(*) from {self.stage} where {condition}")[0][0]
        if self.publication.mode != "append" and self.target.key and self.existing and not self.publication.replace:
            # The published row has to go although nothing takes its place.
            gone = self.writer.keyed(self.target, f"{self.stage} where {condition}")
            self._gone = self._hash_published(gone) if self._carries(staged) else Fingerprint()
            self.cursor.execute(f"delete from {self.table} where {gone}")
        if staged is not None:
            sql = self.writer.dialect.sql(Digest(), self.target.fields(), self.stage, condition)
            staged -= total(by_prefix(self.cursor.rows(sql)).values())
        self.outcome.parts = {}
        self.cursor.execute(f"delete from {self.stage} where {condition}")
        return None if staged is None else staged - self._gone

    _gone = Fingerprint()

    def _delete_missing(self, carried: Fingerprint | None) -> Fingerprint | None:
        """Delete, or mark, the rows whose keys the source does not have any more.

        Raises:
            TooManyDeleted: They would be more than the table allows.
        """
        deletion = self.publication.deletion
        if deletion is None or deletion.column is not None:
            return carried
        keys = self.writer.load_keys(self.cursor, self.target, deletion.keys, deletion.rows)
        carried = self._compare_keys(keys, deletion, carried)
        self.writer.drop(self.cursor, keys)
        return carried

    def _compare_keys(self, keys: str, deletion: Deletion, carried: Fingerprint | None) -> Fingerprint | None:
        if not deletion.hard and not self._marked:
            self._add_columns(f"{quote(DELETED_AT)} {self.writer.timestamp_type}")
        present = f"{quote(DELETED_AT)} is null" if self._marked else "1 = 1"
        k = self.writer.keys_alias
        same = " and ".join(
            self.writer.equal(column, f"{k}.{quote(column.name)}", f"{self.table}.{quote(column.name)}")
            for name in self.target.key
            for column in self.target.columns
            if column.name == name
        )
        missing = f"{present} and not exists (select 1 from {keys} {k} where {same})"
        if self._marked:
            back = f"{quote(DELETED_AT)} is not null and exists (select 1 from {keys} {k} where {same})"
            if carried is not None:
                sql = self.writer.dialect.sql(Digest(), self._published_fields(), self.table, back)
                carried += total(by_prefix(self.cursor.rows(sql)).values())
            self.cursor.execute(f"update {self.table} set {quote(DELETED_AT)} = null where {back}")
        each = ", ".join(quote(name) for name in self.target.key)
        once = f"(select distinct {each} from {keys}) {k}"
        lacking = f"select count(*) from {once} where not exists (select 1 from {self.table} where {same})"
        self.outcome.lacking = int(self.cursor.rows(lacking)[0][0])
        gone, rows = (
            int(self.cursor.rows(f"select count(*) from {self.table} where {condition}")[0][0])
            for condition in (missing, present)
        )
        if gone and deletion.most is not None and gone > deletion.most * rows:
            raise TooManyDeleted(
                f"{gone:,} of {rows:,} rows are gone at the source, more than max_delete allows "
                f"({deletion.most:.0%}); nothing was published.",
                table=self.target.name,
            )
        if gone:
            if carried is not None:
                carried -= self._hash_published(missing)
            if deletion.hard:
                self.cursor.execute(f"delete from {self.table} where {missing}")
            else:
                self.cursor.execute(f"update {self.table} set {quote(DELETED_AT)} = {self.writer.now} where {missing}")
            self.outcome.deleted += gone
            self.outcome.parts = {}
        return carried

    @property
    def _keeps_marked(self) -> bool:
        """Whether the table has rows marked as deleted, which are kept when all others are replaced."""
        return self._marked and DELETED_AT not in {column.name for column in self.target.columns}

    @property
    def _marked(self) -> bool:
        """Whether the table has a column that marks rows as deleted."""
        return DELETED_AT in self.writer.existing_columns(self.cursor, self.target.name)[self.target.name]

    # Fingerprints and history.

    def _published_fields(self) -> Sequence[Any]:
        actual = self.writer.existing_columns(self.cursor, self.target.name)[self.target.name]
        return self.target.fields(actual, self.writer.wanted_types(self.target))

    def _hash_published(self, condition: str = "") -> Fingerprint:
        present = self.writer.present(self.cursor, self.target)
        where = " and ".join(f"({part})" for part in (present, condition) if part)
        sql = self.writer.dialect.sql(Digest(), self._published_fields(), self.table, where)
        return total(by_prefix(self.cursor.rows(sql)).values())

    def note_changes(self, existing: dict[str, str]) -> None:
        """Note what differs from the published table, in words; a frozen schema refuses it."""
        plain = {name: kind for name, kind in existing.items() if name not in OWN_COLUMNS}
        differences = column_changes(plain, self.writer.wanted_types(self.target))
        if self.publication.schema == "freeze" and differences:
            raise SchemaConflict(
                f"The schema is frozen and differs: {'; '.join(differences)}.",
                guidance="Set schema: evolve to take the change over.",
            )
        self.outcome.changes += differences


def column_changes(existing: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Return what differs between a published table's columns and the plan's, in words."""
    added = [f"column {name} added ({new})" for name, new in wanted.items() if name not in existing]
    gone = [f"column {name} is gone at the source" for name in existing if name not in wanted]
    changed = [
        f"column {name} changed from {existing[name]} to {new}"
        for name, new in wanted.items()
        if name in existing and existing[name] != new
    ]
    return [*added, *changed, *gone]
