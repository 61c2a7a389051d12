"""The port that every writer implements: what is loaded, published and recorded at a destination."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from runner.errors import RunnerError
from runner.naming import fingerprint
from runner.rowhash import Digest, Field, Fingerprint, Slice

LEASE_SECONDS = 60
# Columns that a published table may have besides its source's: dlt's for scd2, and the mark of deleted rows.
VERSION_COLUMNS = ("_dlt_valid_from", "_dlt_valid_to", "_dlt_id")
DELETED_AT = "_deleted_at"
RENEW_SECONDS = 15


@dataclass(frozen=True)
class TargetColumn:
    """A column at the destination.

    Attributes:
        source: The column's name in the spool; name: at the destination.
        native: The source's own type, where the destination is of the same kind.
    """

    source: str
    name: str
    type: pa.DataType
    nullable: bool
    json: bool = False
    native: str = ""


@dataclass(frozen=True)
class Target:
    """A table at the destination.

    Attributes:
        ordered: Whether of two rows with one key the one that came later is the newer one.
    """

    name: str
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...] = ()
    source: str = ""
    source_table: str = ""
    comment: str | None = None
    ordered: bool = False

    @property
    def stage(self) -> str:
        """The staging table that its chunks load into before they are published."""
        return "_runner_stage_" + hashlib.blake2b(self.name.encode(), digest_size=8).hexdigest()

    def fields(self, actual: Mapping[str, str] | None = None, types: Mapping[str, str] | None = None) -> list[Field]:
        """Return the columns as they are hashed.

        Args:
            actual: The types that a published table has; types: those that the plan would give it.
        """
        found = []
        for column in self.columns:
            wider = bool(actual and types and actual.get(column.name) != types[column.name])
            nullable = column.nullable or actual is not None
            verbatim = pa.types.is_string(column.type) and not column.json
            absent = actual is not None and types is not None and column.name not in actual
            value = f"cast(null as {types[column.name]})" if absent and types else ""
            found.append(Field(column.name, column.type, nullable, value, wider and not absent, verbatim))
        return found

    def digest(self) -> str:
        """Return what dlt's schema has to know about the table."""
        return fingerprint([self.name, [[c.name, str(c.type), c.nullable, c.json] for c in self.columns], self.key])


@dataclass(frozen=True)
class ChunkLoad:
    """A spooled chunk on its way to the staging table.

    Attributes:
        hash: The fingerprint of the rows that were read, where they are verified by hash.
        token: The picture of the source that it was read under.
    """

    id: str
    epoch: int
    files: tuple[Path, ...]
    rows: int
    bytes: int
    hash: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Range:
    """A half-open range of the cursor at the destination that a publication replaces."""

    column: str
    start: str | None
    end: str | None


@dataclass(frozen=True)
class Deletion:
    """What becomes of rows that were deleted at the source.

    Attributes:
        hard: Whether they are deleted; else they get a time in ``_deleted_at``.
        column: The column that marks a row as deleted; None compares all keys.
        keys: With column None: files of all keys that the source has; rows: how many those are.
        most: The largest share of the table's rows that may go; None is any.
    """

    hard: bool
    column: str | None = None
    keys: tuple[Path, ...] = ()
    rows: int = 0
    most: float | None = None


@dataclass(frozen=True)
class Publication:
    """How the staging table becomes visible, in one transaction.

    Attributes:
        replace: Swap the whole table; otherwise rows are merged by key, or added where there is none.
        chunks: Chunk ids and their rows: what the staging table must hold, else nothing is published.
        hashes: Chunk ids and the fingerprints that their rows must have; None compares counts alone.
        mark: The high-water mark from now on; None keeps the old one.
        token: The picture of the source that the mark was taken in.
        slice: The rows that a repair replaces.
        key_column: The column whose smallest and largest value a proof tells.
        compares: Whether the table has no rows that the source lacks (``deletes: compare``).
        parts: Whether a proof needs fingerprints of parts, because chunks cannot be told apart at the destination.
        schema: evolve or freeze.
        base: The newest load id of the table when it was planned; another one now means that somebody else
            published it since.
        check_key: Whether the key has to be proved unique first.
        verify: Whether the rows of every chunk are counted.
    """

    load_id: str
    mode: str
    replace: bool
    chunks: dict[str, int]
    digest: str
    base: str | None = None
    cursor: str | None = None
    mark: str | None = None
    range: Range | None = None
    schema: str = "evolve"
    check_key: bool = False
    verify: bool = True
    adopt: bool = False
    hashes: Mapping[str, Fingerprint] | None = None
    token: str | None = None
    slice: Slice | None = None
    deletion: Deletion | None = None
    key_column: str | None = None
    parts: bool = False
    compares: bool = False
    collapse: tuple[str, ...] = ()


@dataclass
class TableWork:
    """What one transaction does for one table: load chunks, publish, or both.

    Attributes:
        fresh: Whether the staging table is made anew.
        plan: With fresh, the plan that its chunks belong to: what another machine goes on with.
    """

    target: Target
    chunks: list[ChunkLoad] = field(default_factory=list)
    publication: Publication | None = None
    fresh: bool = False
    plan: str | None = None

    @property
    def bytes(self) -> int:
        """The size of the files to load."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def one_chunk(self) -> bool:
        """Whether one chunk is all there is, and is published with it: nothing has to tell its rows from others'."""
        publication = self.publication
        if publication is None or publication.hashes is not None or publication.collapse:
            return False
        return self.fresh and len(self.chunks) == 1 and list(publication.chunks) == [self.chunks[0].id]


@dataclass(frozen=True)
class Cost:
    """What was taken of a destination that is paid by use.

    Attributes:
        statements: How many were sent.
        staged: Bytes uploaded.
        credits: What their time costs, as an estimate; None where that is not known.
        billed: Bytes that the destination bills; None where it bills time.
    """

    statements: float = 0.0
    staged: int = 0
    credits: float | None = None
    billed: int | None = None

    def __sub__(self, before: Cost) -> Cost:
        used = None if self.credits is None else self.credits - (before.credits or 0.0)
        billed = None if self.billed is None else self.billed - (before.billed or 0)
        return Cost(self.statements - before.statements, self.staged - before.staged, used, billed)

    def share(self, parts: int, staged: int) -> Cost:
        """Return one of several equal parts, with the bytes that were staged for it."""
        used = None if self.credits is None else self.credits / parts
        billed = None if self.billed is None else self.billed // parts
        return Cost(self.statements / parts, staged, used, billed)


@dataclass
class Outcome:
    """What a transaction did.

    Attributes:
        changes: What changed about the table's columns, in words.
        deleted: Rows that were deleted at the source, and are gone or marked now.
        collapsed: Rows that came more than once, of which the newest was kept.
        lacking: Keys that the source has and the table lacks, although no run will read them.
        hash: The fingerprint of the whole table as it is published now; None where it is not known.
        parts: For a table that was replaced: fingerprints by the first hex digit of the rows' hashes.
        key_range: The smallest and the largest value of the key's first column in what was read.
        still: Whether there was nothing new, so that nothing was sent to the destination.
    """

    rows: int = 0
    changes: list[str] = field(default_factory=list)
    deleted: int = 0
    lacking: int = 0
    collapsed: int = 0
    hash: Fingerprint | None = None
    parts: dict[str, Fingerprint] = field(default_factory=dict)
    key_range: tuple[str, str] | None = None
    error: RunnerError | None = None
    still: bool = False
    cost: Cost | None = None


@dataclass(frozen=True)
class Lease:
    """The right of one run to publish tables."""

    job: str
    run: str
    token: str
    host: str
    pid: int


@dataclass(frozen=True)
class Held:
    """A lease of somebody else."""

    table: str
    run: str
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True)
class TableState:
    """The newest history row of a table: who made it, and its high-water mark."""

    source: str
    source_table: str
    job: str
    run: str
    mode: str
    cursor: str | None
    mark: str | None
    load_id: str
    digest: str
    rows: int
    hash: str | None = None
    token: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Receipt:
    """A chunk that is durable in staging."""

    run: str
    epoch: int
    rows: int
    hash: str | None
    token: str | None


@dataclass(frozen=True)
class DatasetState:
    """What the destination knows.

    Attributes:
        tables: Newest history row by table.
        existing: Columns by table or view, as the destination names their types.
        chunks: Receipts by (table, chunk) of one run, and of every plan that is not published.
        plans: Table to the plan that its staging table holds chunks of, as TableWork.plan.
    """

    tables: dict[str, TableState]
    existing: dict[str, dict[str, str]]
    chunks: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A run as the destination keeps it, for anybody with SQL."""

    run: str
    job: str
    command: str
    source: str
    host: str
    version: str
    started: str
    finished: str | None = None
    exit_code: int | None = None
    published: int | None = None
    failed: int | None = None
    rows: int | None = None
    verified: str | None = None


class Writer(Protocol):
    """Writes to one dataset. Its methods block; the loader calls them in a worker thread, one at a time."""

    def prepare(self) -> None:
        """Create the dataset and the ``_runner_*`` tables.

        Raises:
            ContactError: Host, user or password are wrong.
            ReadOnly: It cannot be written.
        """
        ...

    def read_state(self, run: str | None) -> DatasetState:
        """Return marks, tables and what one run has loaded; creates nothing."""
        ...

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        """Take the tables' leases; return those that others hold."""
        ...

    def discard(self, target: Target) -> None:
        """Forget what is staged of a table: it is known to be wrong."""
        ...

    def renew(self, lease: Lease) -> None:
        """Prolong the run's leases by the destination's clock."""
        ...

    def release(self, lease: Lease) -> None:
        """Give the run's leases back."""
        ...

    def rest(self) -> None:
        """Let others at the destination until the next package: a file is closed."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Return a context in which the destination stays open from call to call."""
        ...

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        """Do each table's work in a transaction, of its own or with other small tables; doing it again is harmless.

        Raises:
            DestinationError: Nothing more can be written, for any table.
        """
        ...

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
        """Hash rows of a table as ``Dialect.sql`` returns them.

        Args:
            between: A column and the half-open range of it; None is open.
            chunk: A chunk in staging; else the published table, without rows that are history or marked deleted.
            cursor: With until: only rows up to that cursor value, or without one.
        """
        ...

    def record_run(self, record: RunRecord) -> None:
        """Keep how a run stands in ``_runner_runs``."""
        ...

    def register(self, targets: list[Target]) -> None:
        """Tell dlt's schema in the dataset about tables it does not know yet."""
        ...

    def diagnose(self) -> list[tuple[str, str, str]]:
        """Return checks as (ok | warn | fail, what was found, what to do)."""
        ...

    def interrupt(self) -> None:
        """End the call under way, from another thread; what it did not commit is undone."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


class Destination(Protocol):
    """A kind of destination, found by the entry point ``runner.destinations``.

    Attributes:
        max_name: The longest identifier, in characters.
        promises: Mode to promise, in words; a mode that is missing is refused.
        metered: Whether it is paid by what it reads or by the time that takes.
        unproved: Why nobody knows whether it keeps what it promises: it never ran in a test; empty where it did.
    """

    max_name: int
    promises: dict[str, str]
    metered: bool
    unproved: str

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None: ...

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own ``DESTINATION__…`` variables hold."""
        ...

    def describe(self) -> str:
        """Return where it is, without secrets."""
        ...

    def writer(self, dataset: str) -> Writer:
        """Return a writer for a dataset.

        Raises:
            UsageError: The dataset cannot have that name.
        """
        ...
