"""Spool to destination: the port that every writer implements, and the one loader that feeds it."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import pyarrow as pa

from runner.clock import Clock
from runner.errors import DestinationBusy, DestinationDown, DestinationError, RunnerError
from runner.profile import stage
from runner.rowhash import Digest, Field, Fingerprint, Slice
from runner.secrets import redact
from runner.source import fingerprint

_PACKAGE_WORKS = 64
_PACKAGE_BYTES = 512 * 2**20
_HOLD_SECONDS = 5.0
_LINGER_SECONDS = 0.25
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
    """A table at the destination."""

    name: str
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...] = ()
    source: str = ""
    source_table: str = ""
    comment: str | None = None

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


@dataclass
class Outcome:
    """What a transaction did.

    Attributes:
        changes: What changed about the table's columns, in words.
        deleted: Rows that were deleted at the source, and are gone or marked now.
        lacking: Keys that the source has and the table lacks, although no run will read them.
        hash: The fingerprint of the whole table as it is published now; None where it is not known.
        parts: For a table that was replaced: fingerprints by the first hex digit of the rows' hashes.
        key_range: The smallest and the largest value of the key's first column in what was read.
    """

    rows: int = 0
    changes: list[str] = field(default_factory=list)
    deleted: int = 0
    lacking: int = 0
    hash: Fingerprint | None = None
    parts: dict[str, Fingerprint] = field(default_factory=dict)
    key_range: tuple[str, str] | None = None
    error: RunnerError | None = None


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
    """

    max_name: int
    promises: dict[str, str]

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


class Loader:
    """Feeds one writer: gathers what is ready into packages while the one before is loading.

    Args:
        writer: What is fed; called in a worker thread, one call at a time.
        patience: How long a busy or absent destination is waited for, in seconds.
    """

    def __init__(self, writer: Writer, lease: Lease, clock: Clock, *, patience: float = 60.0) -> None:
        self.writer = writer
        self._lease = lease
        self._clock = clock
        self._patience = patience
        self._turn = anyio.Lock()
        self._interrupted = False
        self._send, self._receive = anyio.create_memory_object_stream[tuple[TableWork, "_Answer"]](math.inf)

    async def load(self, work: TableWork) -> Outcome:
        """Do a table's work; returns when it is durable.

        Raises:
            RunnerError: Of this table, or of the destination as a whole.
        """
        answer = _Answer()
        self._send.send_nowait((work, answer))
        await answer.event.wait()
        if answer.error is not None:
            raise answer.error
        assert answer.outcome is not None
        if answer.outcome.error is not None:
            raise answer.outcome.error
        return answer.outcome

    async def run(self) -> None:
        """Load packages until cancelled; a package under way is always awaited."""
        while True:
            work: tuple[TableWork, _Answer] | None = await self._receive.receive()
            held = self._clock.monotonic()
            while work is not None:
                await self._package(work)
                work = await self._next(held)
            await self.call(self.writer.rest)

    async def _next(self, held: float) -> tuple[TableWork, _Answer] | None:
        """Return work that comes right after a package; None lets others at the destination."""
        if self._clock.monotonic() - held > _HOLD_SECONDS:
            return None
        with anyio.move_on_after(_LINGER_SECONDS):
            return await self._receive.receive()
        return None

    async def _package(self, first: tuple[TableWork, _Answer]) -> None:
        package = [first]
        size = first[0].bytes
        while len(package) < _PACKAGE_WORKS and size < _PACKAGE_BYTES:
            try:
                package.append(self._receive.receive_nowait())
            except anyio.WouldBlock:
                break
            size += package[-1][0].bytes
        with anyio.CancelScope(shield=True):
            await self._load(package)

    async def renew(self) -> None:
        """Keep the leases alive until cancelled."""
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            # A destination that is down fails the loads themselves; the next renewal may work again.
            with contextlib.suppress(RunnerError):
                await self.call(lambda: self.writer.renew(self._lease))

    def interrupt(self) -> None:
        """End the call under way and wait for nothing any more: a driver's thread cannot be cancelled."""
        self._interrupted = True
        self.writer.interrupt()

    def close(self) -> None:
        """Take no more work."""
        self._send.close()
        self._receive.close()

    async def call(self, blocking: Callable[[], Any], *, patience: float | None = None) -> Any:
        """Call the writer in a worker thread, after the package under way.

        Args:
            patience: Another one than the loader's.

        Raises:
            DestinationError: The destination stayed busy or down for too long.
        """

        async def once() -> Any:
            async with self._turn:
                # A driver's thread cannot be cancelled, only awaited.
                with anyio.CancelScope(shield=True):
                    return await anyio.to_thread.run_sync(blocking)

        return await self._patiently(once, self._patience if patience is None else patience)

    async def _load(self, package: list[tuple[TableWork, _Answer]]) -> None:
        works, shared = _joined(package)
        try:
            with stage("load"):
                outcomes = await self.call(lambda: self.writer.apply(self._lease, works))
        except RunnerError as error:
            for _, answer in package:
                answer.fail(error)
        except Exception as error:  # a driver may raise anything; the tables of this package fail, the others go on
            told = DestinationError(f"An unexpected {type(error).__name__}: {redact(str(error))}")
            for _, answer in package:
                answer.fail(told)
        else:
            for answers, outcome in zip(shared, outcomes, strict=True):
                for answer in answers:
                    answer.give(outcome)

    async def _patiently(self, call: Callable[[], Awaitable[Any]], patience: float) -> Any:
        return await patiently(call, self._clock, lambda: 0.0 if self._interrupted else patience)


def _joined(package: Sequence[tuple[TableWork, _Answer]]) -> tuple[list[TableWork], list[list[_Answer]]]:
    """Return works of which each loads all chunks of its table that wait, and who waits for it."""
    works: list[TableWork] = []
    answers: list[list[_Answer]] = []
    places: dict[str, int] = {}
    for work, answer in package:
        place = places.get(work.target.name)
        if place is not None and work.publication is None and not work.fresh:
            works[place] = replace(works[place], chunks=[*works[place].chunks, *work.chunks])
            answers[place].append(answer)
            continue
        if work.publication is None:
            places[work.target.name] = len(works)
        works.append(work)
        answers.append([answer])
    return works, answers


async def patiently(call: Callable[[], Awaitable[Any]], clock: Clock, patience: Callable[[], float]) -> Any:
    """Call until the destination is neither busy nor down.

    Args:
        patience: How long that may take, in seconds; asked again each time.

    Raises:
        DestinationError: It stayed busy or down for too long.
    """
    began = clock.monotonic()
    wait = 0.1
    while True:
        try:
            return await call()
        except (DestinationBusy, DestinationDown):
            if clock.monotonic() + wait > began + patience():
                raise
        await clock.sleep(wait)
        wait = min(wait * 2, 5.0)


class _Answer:
    """What became of one work."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.outcome: Outcome | None = None
        self.error: RunnerError | None = None

    def give(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.event.set()

    def fail(self, error: RunnerError) -> None:
        self.error = error
        self.event.set()
