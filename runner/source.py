"""The port that every connector implements: what a table, a chunk and a source are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from runner.errors import SourceError
from runner.naming import fingerprint
from runner.rowhash import Digest, Slice


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: The Arrow type its values arrive in.
        native: The source's own type, as the source writes it.
        json: Whether the text is a JSON document.
        note: What changes on the way, in words; None where nothing does.
        rule: The column rule in force (hash, mask, text), or None.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    native: str = ""
    json: bool = False
    note: str | None = None
    rule: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Table:
    """What is moved: a table of a database, an API object, a sheet.

    Attributes:
        kind: table, partitioned, view, materialized_view or foreign_table.
        rows: Estimated rows; bytes: estimated bytes in the source.
        indexed: Columns that lead an index: cursors are looked for among them.
        readable: Whether the user may read it.
        problem: Why it cannot be read, where others can; None for all that can.
        detail: What the connector wants to find again; JSON-serialisable.
        defaults: Keys of a table entry that the connector knows to be right; they lie under those of the job file.
        inferred: Whether the columns were inferred from some of the rows, so that others may not fit.
        tracked: Whether the source itself keeps track of changes: the mark is a token of its own, not a value of a
            column.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    kind: str = "table"
    rows: int = 0
    bytes: int = 0
    indexed: tuple[str, ...] = ()
    readable: bool = True
    problem: str | None = None
    comment: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    inferred: bool = False
    tracked: bool = False

    @property
    def qualified(self) -> str:
        """``schema.table`` as the source names it."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """Return a column by name."""
        return next((column for column in self.columns if column.name == name), None)

    def shape(self) -> list[list[Any]]:
        """Return the columns as JSON: what a lock file and the drift check compare."""
        return [[column.name, column.native, column.nullable] for column in self.columns]

    def difference(self, later: Table) -> str:
        """Return what changed about the columns since, in words."""
        old = {column.name: column for column in self.columns}
        new = {column.name: column for column in later.columns}
        parts = [f"{name} was added" for name in new if name not in old]
        parts += [f"{name} was dropped" for name in old if name not in new]
        parts += [
            f"{name} changed from {old[name].native} to {new[name].native}"
            for name in new
            if name in old and (old[name].native, old[name].nullable) != (new[name].native, new[name].nullable)
        ]
        return ", ".join(parts) or "the order of its columns"


@dataclass(frozen=True)
class Window:
    """A range of the cursor, as the source's own text; None is open.

    Attributes:
        start: Lower bound; exclusive unless from_start.
        end: Upper bound; inclusive unless before_end.
        nulls: Whether rows without a cursor value belong to it.
        late: The picture of the last run: row versions that it did not show belong to it wherever their cursor lies.
    """

    cursor: str
    start: str | None = None
    end: str | None = None
    from_start: bool = False
    before_end: bool = False
    nulls: bool = True
    late: str | None = None


@dataclass(frozen=True)
class Scan:
    """What is read of a table: its columns, a condition, a window of the cursor, a slice of its keys.

    Attributes:
        present: The column that marks rows as deleted, where only the others are wanted.
    """

    table: Table
    columns: tuple[Column, ...]
    where: str | None = None
    window: Window | None = None
    special: str = "error"
    slice: Slice | None = None
    present: str | None = None

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the record batches that read() yields."""
        return pa.schema([pa.field(column.name, column.type, column.nullable) for column in self.columns])

    def digest(self) -> str:
        """Return what decides whether a chunk of an earlier plan still fits."""
        window = asdict(self.window) if self.window else None
        if window is not None and window["late"] is None:
            del window["late"]  # as digests of earlier versions were made
        parts = [[c.name, c.native, str(c.type), c.rule] for c in self.columns]
        part = [*([asdict(self.slice)] if self.slice else []), *([self.present] if self.present else [])]
        return fingerprint([self.table.qualified, parts, self.where, window, self.special, *part])

    def over(self, table: Table) -> Scan:
        """Return the same scan over a table that was discovered again."""
        return replace(self, table=table)

    def within(self, window: Window | None) -> Scan:
        """Return the same scan of another window of the cursor."""
        return replace(self, window=window)


@dataclass(frozen=True)
class Chunk:
    """A disjoint part of a table: the unit of work.

    Attributes:
        bounds: What read() needs to find the rows; JSON-serialisable; {} is the whole table.
        storage: The identity of the table's storage when planned; None where it has none.
        rows: Estimated rows; bytes: estimated bytes. Estimates are not part of the id.
    """

    id: str
    index: int
    bounds: dict[str, Any]
    storage: str | None = None
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Mark:
    """A high-water mark: the largest cursor value safely loaded.

    Attributes:
        value: The source's own text of it.
        exact: False where writers still at work could commit below it unseen.
    """

    value: str
    exact: bool = True


@dataclass(frozen=True)
class Position:
    """Where a session's picture was taken.

    Attributes:
        consistent: Whether all chunks read one snapshot.
        paged: Whether a chunk may end before its rows do, and say where the next one begins.
        marks_rows: Whether high-water marks are known from the rows that were read alone (Reading.mark).
        token: The snapshot's name where it has one: what a worker imports and a chunk is compared by.
        note: Why it is not consistent, in words.
    """

    consistent: bool
    token: str | None = None
    lsn: str | None = None
    note: str | None = None
    paged: bool = False
    marks_rows: bool = False


class Reading(Protocol):
    """Record batches of one chunk, and how many rows the source says it sent.

    Attributes:
        rest: Where the chunk ended before its rows did: the bounds of the chunk that goes on.
        mark: The high-water mark of the rows that were read, where only they can tell it.
    """

    source_rows: int | None
    rest: dict[str, Any] | None
    mark: str | None

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]: ...

    def lines(self) -> pa.Array | None:
        """Return the rows of the last batch as the lines that ``runner.rowhash`` hashes, if they came as such."""
        ...


class Session(Protocol):
    """One picture of a source."""

    position: Position

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        """Return the tables that the patterns name, with keys and estimates."""
        ...

    async def high_water(self, scan: Scan) -> Mark | None:
        """Return the safe mark of the window's cursor in this picture; None for an empty table."""
        ...

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        """Split a scan into disjoint, covering chunks of about that many rows and bytes."""
        ...

    def read(self, scan: Scan, chunk: Chunk) -> AbstractAsyncContextManager[Reading]:
        """Read a chunk: bounded in memory; cancellation closes the connection.

        Raises:
            TableChanged: The table's storage or columns are not those of the plan.
        """
        ...

    async def digest(self, scan: Scan, chunk: Chunk, ask: Digest) -> list[tuple[Any, ...]] | None:
        """Hash a chunk's rows where they are, as ``runner.rowhash.Dialect.sql`` returns them.

        Returns:
            None where this source or these columns cannot be hashed there: then they are streamed.
        """
        ...

    async def unchanged(self, scan: Scan, chunk: Chunk, rows: int, token: str | None) -> bool:
        """Tell whether a chunk read under an older picture would read the same now.

        Args:
            rows: How many rows were read then.
            token: The token of that picture.

        Returns:
            True only where it is certain.
        """
        ...


class Source(Protocol):
    """A system that can be discovered and read."""

    def session(self, epoch: int) -> AbstractAsyncContextManager[Session]:
        """Open one consistent picture.

        Raises:
            ContactError: Host, user, password or database are wrong.
            SourceDown: The connection was lost; a retry can help.
        """
        ...

    async def diagnose(self, patterns: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
        """Return checks as (ok | warn | fail, what was found, what to do).

        Args:
            wanted: Whether a table that the patterns name is one of the job's.
        """
        ...


@runtime_checkable
class Newest(Protocol):
    """A session that tells cheaply what is new, to who waits for changes and reads none."""

    async def newest(self, scan: Scan) -> str | None:
        """Return the largest cursor of the rows in the window that nothing will slip below any more.

        Returns:
            None where there is none.
        """
        ...


@runtime_checkable
class Digestible(Protocol):
    """A session whose tables have no cursor: who waits for changes compares what is there."""

    async def state(self, scan: Scan) -> str:
        """Return a digest of all that a scan would read."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """A source whose sessions hold something that must not be held for hours."""

    def watching(self) -> AbstractAsyncContextManager[Session]:
        """Open a session without a picture, which lives for hours: each answer is of its own moment."""
        ...


# The condition of a scan that has no rows to read.
NOTHING = "false"
# The cursor of a table whose changes the source keeps track of.
CHANGES = "@changes"


def make_chunk(scan: Scan, index: int, bounds: dict[str, Any], *, storage: str | None, rows: int, size: int) -> Chunk:
    """Make a chunk whose id depends on what is read and nothing else."""
    return Chunk(fingerprint([scan.digest(), bounds]), index, bounds, storage, rows, size)


def following(scan: Scan, chunk: Chunk, index: int, rest: dict[str, Any], known: Container[str] = ()) -> Chunk:
    """Return the chunk that goes on where another one ended.

    Args:
        known: The ids of the chunks that were there before: none of them may come again.

    Raises:
        SourceError: The paging leads back to where it has been.
    """
    found = make_chunk(scan, index, rest, storage=chunk.storage, rows=chunk.rows, size=chunk.bytes)
    if found.id in known:
        raise SourceError(
            "The source's pages lead back to one that was read before.",
            guidance="Its paging does not advance; check the paginator's options.",
            table=scan.table.qualified,
        )
    return found
