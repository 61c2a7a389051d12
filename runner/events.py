"""The one stream of typed events. Progress, logs, report and outputs read it; nothing else prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, ClassVar

from runner.clock import Clock


@dataclass(frozen=True)
class Event:
    """Something changed."""

    level: ClassVar[str] = "info"

    @property
    def action(self) -> str:
        """The constant name of the event in logs: table_published."""
        return re.sub(r"(?<!^)([A-Z])", r"_\1", type(self).__name__).lower()

    def data(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """Return the event as one line for people."""
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


@dataclass(frozen=True)
class RunStarted(Event):
    """A run began, or went on."""

    run: str
    job: str
    tables: int
    rows: int
    bytes: int
    resumed: bool
    consistent: bool
    note: str | None = None

    def sentence(self) -> str:
        verb = "resumes" if self.resumed else "starts"
        return f"run {self.run} {verb}: {self.tables} tables, about {self.rows:,} rows" + (
            f" ({self.note})" if self.note else ""
        )


@dataclass(frozen=True)
class AlreadyDone(Event):
    """A run with the same run key has done it."""

    run: str
    run_key: str

    def sentence(self) -> str:
        return f"run {self.run} has done this already (run key {self.run_key})"


@dataclass(frozen=True)
class TableReplanned(Event):
    """A table is planned anew, with the reason."""

    table: str
    reason: str

    def sentence(self) -> str:
        return f"{self.table}: planned anew: {self.reason}"


@dataclass(frozen=True)
class TableStarted(Event):
    """A table took a slot."""

    table: str
    slot: int
    mode: str
    chunks: int
    rows: int

    def sentence(self) -> str:
        return f"{self.table}: started ({self.mode}, {self.chunks} chunks, about {self.rows:,} rows)"


@dataclass(frozen=True)
class ChunkSpooled(Event):
    """A chunk was read and is durable on local disk."""

    level: ClassVar[str] = "debug"
    table: str
    chunk: str
    rows: int
    bytes: int
    seconds: float

    def sentence(self) -> str:
        return f"{self.table}: chunk {self.chunk} read, {self.rows:,} rows in {self.seconds:.2f} s"


@dataclass(frozen=True)
class ChunkLoaded(Event):
    """A chunk is durable in the destination's staging table."""

    level: ClassVar[str] = "debug"
    table: str
    chunk: str
    rows: int

    def sentence(self) -> str:
        return f"{self.table}: chunk {self.chunk} loaded"


@dataclass(frozen=True)
class TableVerified(Event):
    """Source, spool and destination agree about a table."""

    level: ClassVar[str] = "debug"
    table: str
    how: str
    chunks: int
    rows: int

    def sentence(self) -> str:
        return f"{self.table}: verified by {self.how}, {self.rows:,} rows in {self.chunks} chunks"


@dataclass(frozen=True)
class TablePublished(Event):
    """A table is complete and visible at the destination."""

    table: str
    destination: str
    rows: int
    bytes: int
    seconds: float
    mark: str | None = None
    still: bool = False

    def sentence(self) -> str:
        mark = f", mark {self.mark}" if self.mark else ""
        if self.still:
            return f"{self.table}: nothing new, {self.destination} is as it was{mark}"
        return f"{self.table}: published as {self.destination}, {self.rows:,} rows in {self.seconds:.2f} s{mark}"


@dataclass(frozen=True)
class SchemaChanged(Event):
    """The destination's table changed its columns."""

    level: ClassVar[str] = "warning"
    table: str
    change: str

    def sentence(self) -> str:
        return f"{self.table}: {self.change}"


@dataclass(frozen=True)
class Spent(Event):
    """What loading a table took of a destination that is paid by use.

    Attributes:
        statements: How many were sent; of statements that tables share, a part.
        staged: Bytes uploaded.
        credits: An estimate.
        billed: Bytes that the destination bills.
    """

    level: ClassVar[str] = "debug"
    table: str
    statements: float
    staged: int
    credits: float | None = None
    billed: int | None = None

    def sentence(self) -> str:
        used = f", {self.credits:.5f} credits" if self.credits is not None else ""
        billed = f", {self.billed:,} bytes billed" if self.billed is not None else ""
        return f"{self.table}: {self.statements:,.1f} statements, {self.staged:,} bytes staged{used}{billed}"


@dataclass(frozen=True)
class RowsDeleted(Event):
    """Rows that the source does not have any more were deleted, or marked as deleted."""

    table: str
    rows: int
    hard: bool

    def sentence(self) -> str:
        return f"{self.table}: {self.rows:,} rows are gone at the source and {'deleted' if self.hard else 'marked'}"


@dataclass(frozen=True)
class Drifted(Event):
    """The source is not what the lock file says, or not what was loaded before."""

    level: ClassVar[str] = "warning"
    table: str
    change: str

    def sentence(self) -> str:
        return f"{self.table}: {self.change}"


@dataclass(frozen=True)
class TableFailed(Event):
    """A table failed; the others go on."""

    level: ClassVar[str] = "error"
    table: str
    error: str
    message: str
    guidance: str

    def sentence(self) -> str:
        return f"{self.table}: failed: {self.message} {self.guidance}".rstrip()


@dataclass(frozen=True)
class TableParked(Event):
    """A table gave its slot up until a known time."""

    level: ClassVar[str] = "warning"
    table: str
    resume_at: str
    message: str

    def sentence(self) -> str:
        return f"{self.table}: parked until {self.resume_at}: {self.message}"


@dataclass(frozen=True)
class Retried(Event):
    """Something is tried again."""

    level: ClassVar[str] = "warning"
    table: str
    attempt: int
    wait: float
    message: str

    def sentence(self) -> str:
        return (
            f"{self.table or 'the source'}: attempt {self.attempt} failed, again in {self.wait:.1f} s: {self.message}"
        )


@dataclass(frozen=True)
class SourcePaused(Event):
    """The source asked for a pause; all its coroutines wait."""

    level: ClassVar[str] = "warning"
    seconds: float

    def sentence(self) -> str:
        return f"the source asked for a pause of {self.seconds:.0f} s"


@dataclass(frozen=True)
class LimitChanged(Event):
    """The adaptive limit of connections moved."""

    limit: int

    def sentence(self) -> str:
        return f"connections limited to {self.limit}"


@dataclass(frozen=True)
class EpochBegan(Event):
    """A new snapshot of the source was taken."""

    epoch: int
    consistent: bool
    lsn: str | None
    reason: str

    def sentence(self) -> str:
        return f"epoch {self.epoch} begins ({self.reason})"


@dataclass(frozen=True)
class Warned(Event):
    """Something deserves attention."""

    level: ClassVar[str] = "warning"
    table: str
    message: str

    def sentence(self) -> str:
        return f"{self.table}: {self.message}" if self.table else self.message


@dataclass(frozen=True)
class Draining(Event):
    """A signal came: what is at work ends, nothing new begins."""

    level: ClassVar[str] = "warning"
    grace: float

    def sentence(self) -> str:
        return f"stopping: chunks at work have {self.grace:.0f} s to end; press Ctrl-C again to stop now"


@dataclass(frozen=True)
class TimeSpent(Event):
    """Where the time went (``--profile``): seconds of each stage, which sum up to the wall time."""

    stages: dict[str, float]

    def sentence(self) -> str:
        total = sum(self.stages.values()) or 1.0
        parts = sorted(self.stages.items(), key=lambda part: -part[1])
        told = (f"{name} {seconds:.2f} s ({seconds / total:.0%})" for name, seconds in parts if seconds >= total / 200)
        return f"the time went into: {', '.join(told)}"


@dataclass(frozen=True)
class RunFinished(Event):
    """The run ended."""

    run: str
    exit_code: int
    published: int
    failed: int
    parked: int
    unfinished: int
    skipped: int
    rows: int
    bytes: int
    seconds: float

    def sentence(self) -> str:
        return (
            f"run {self.run} ended with exit code {self.exit_code}: {self.published} published, "
            f"{self.failed} failed, {self.parked} parked, {self.unfinished} unfinished, "
            f"{self.skipped} skipped; {self.rows:,} rows in {self.seconds:.1f} s"
        )


Reader = Callable[[datetime, Event], None]


class Stream:
    """Passes every event to its readers, in order; a reader must not block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: list[Reader] = []

    def subscribe(self, reader: Reader) -> None:
        """Add a reader."""
        self._readers.append(reader)

    def emit(self, event: Event) -> None:
        """Tell every reader."""
        now = self._clock.now()
        for reader in self._readers:
            reader(now, event)
