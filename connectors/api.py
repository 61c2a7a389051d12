"""What all sources have in common that answer in pages of JSON objects."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from connectors.http import Http, HttpConfig
from connectors.records import cast_batch, to_batch
from connectors.shapes import Shape
from runner.clock import SystemClock
from runner.errors import (
    CredentialsRejected,
    RunnerError,
    SourceDown,
    SourceError,
    TableWidened,
    Undecodable,
    Unreachable,
)
from runner.job import Limits
from runner.limits import SourceLimits
from runner.requests import Requests
from runner.rowhash import Digest
from runner.source import NOTHING, Chunk, Mark, Position, Scan, Table, make_chunk

# A chunk ends at the first page past so many rows or bytes: what a kill costs at most.
_CHUNK_ROWS = 10_000
_CHUNK_BYTES = 32 * 2**20
# Converting more than that would hold up the loop.
_SMALL = 2_000
_NOTE = "the source answers in pages: each shows what is there when it is asked"


@dataclass(frozen=True)
class Page:
    """Some objects of a table.

    Attributes:
        rows: One mapping each: column name to value, as JSON has it.
        rest: The bounds to go on from after this page; None after the last one.
        batch: Instead of rows: columns of text, as CSV has them.
        mark: The high-water mark of the rows so far, where only they tell it.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    rest: dict[str, Any] | None = None
    batch: pa.RecordBatch | None = None
    mark: str | None = None

    @property
    def length(self) -> int:
        """How many objects it has."""
        return self.batch.num_rows if self.batch is not None else len(self.rows)


class PagedSession(abc.ABC):
    """One opened source; its chunks read pages.

    Args:
        requests: What its requests ask, and what was learned about its tables.
    """

    position = Position(consistent=False, note=_NOTE, paged=True)

    def __init__(self, requests: Requests) -> None:
        self.requests = requests

    @abc.abstractmethod
    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        """Return the tables that the patterns name."""

    @abc.abstractmethod
    def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        """Return the pages of a chunk, one after the other, from its bounds on.

        Raises:
            TableChanged: The server does not know any more where to go on.
        """

    async def high_water(self, scan: Scan) -> Mark | None:
        """Return the mark of the window's cursor, taken before rows are read."""
        return None

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        """Return the parts that can be read at once; nothing changes at the server."""
        return [make_chunk(scan, 0, {}, storage=None, rows=scan.table.rows, size=scan.table.bytes)]

    @contextlib.asynccontextmanager
    async def read(self, scan: Scan, chunk: Chunk) -> AsyncIterator[PageReading]:
        yield PageReading(self, scan, self.pages(scan, chunk))

    async def digest(self, scan: Scan, chunk: Chunk, ask: Digest) -> list[tuple[Any, ...]] | None:
        return None

    async def unchanged(self, scan: Scan, chunk: Chunk, rows: int, token: str | None) -> bool:
        return False

    # Tables that nobody described.

    def shape(self, table: str) -> Shape:
        """Return what is known of a table's columns so far."""
        return Shape(self.requests.shapes.get(table))

    def learn(self, table: str, page: Page) -> list[str]:
        """Take a page into account for the columns of a table; return what that changed, in words."""
        shape = self.shape(table)
        changes = shape.observe(page.rows) if page.batch is None else shape.observe_schema(page.batch.schema)
        if changes:
            self.requests.shapes.put(table, shape.record())
        return changes


class ApiSession(PagedSession):
    """One opened source over HTTP.

    Args:
        http: The session to the server.
    """

    def __init__(self, http: Http) -> None:
        super().__init__(http.requests)
        self.http = http


class PageReading:
    """The record batches of one chunk.

    Args:
        pages: Its pages, one after the other.
    """

    def __init__(self, session: PagedSession, scan: Scan, pages: AsyncIterator[Page]) -> None:
        self.source_rows: int | None = None
        self.rest: dict[str, Any] | None = None
        self.mark: str | None = None
        self._session = session
        self._scan = scan
        self._source = pages
        self._changes: list[str] = []

    def lines(self) -> pa.Array | None:
        return None

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        rows = size = left_out = 0
        if self._scan.slice is not None:
            raise SourceError(f"{self._scan.table.qualified}: pages cannot be narrowed to a slice of the keys.")
        if self._scan.where == NOTHING:
            self.source_rows = 0
            return
        async with contextlib.aclosing(self._pages()) as pages:
            async for page in pages:
                self.mark = page.mark or self.mark
                rows += page.length
                batch = await self._batch(page)
                if batch is not None:
                    size += batch.nbytes
                    left_out += page.length - batch.num_rows
                    if batch.num_rows:
                        yield batch
                if page.rest is not None and (rows >= _CHUNK_ROWS or size >= _CHUNK_BYTES):
                    self.rest = page.rest
                    break
        if self._changes:
            await anyio.to_thread.run_sync(self._session.requests.shapes.save)
            raise TableWidened(
                f"rows came that its columns did not show before: {'; '.join(dict.fromkeys(self._changes))}",
                table=self._scan.table.qualified,
            )
        self.source_rows = rows - left_out

    async def _pages(self) -> AsyncGenerator[Page, None]:
        try:
            async for page in self._source:
                yield page
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()

    async def _batch(self, page: Page) -> pa.RecordBatch | None:
        """Return a page's rows; None where they do not fit and the columns have to be inferred anew."""
        if page.length > _SMALL:
            return await anyio.to_thread.run_sync(self._convert, page)
        return self._convert(page)

    def _convert(self, page: Page) -> pa.RecordBatch | None:
        scan, table = self._scan, self._scan.table
        if table.inferred and self._is_new(page):
            return None
        try:
            if page.batch is not None:
                batch = cast_batch(page.batch, scan.columns, table=table.qualified, special=scan.special)
            else:
                batch = to_batch(page.rows, scan.columns, table=table.qualified, special=scan.special)
        except Undecodable:
            if not table.inferred:
                raise
            self._changes += self._session.learn(table.name, page)
            if not self._changes and self._session.shape(table.name).columns() == table.columns:
                raise
            # Another chunk, or an attempt that was cut off, may have learned it.
            self._changes = self._changes or ["its columns are inferred anew"]
            return None
        return _present(batch, scan.present) if scan.present is not None else batch

    def _is_new(self, page: Page) -> bool:
        """Tell whether a page has values of columns that nobody has seen yet; they are learned."""
        known = {column.name for column in self._scan.table.columns}
        if page.batch is not None:
            new = {field.name for field in page.batch.schema if not pa.types.is_null(field.type)} - known
        else:
            names = set().union(*page.rows) - known if page.rows else set()
            new = {name for name in names if any(row.get(name) is not None for row in page.rows)}
        if new or self._changes:
            learned = self._session.learn(self._scan.table.name, page)
            # Another chunk, or an attempt that was cut off, may have learned it: these columns lack it all the same.
            self._changes += learned or [f"{name} is new" for name in sorted(new)]
        return bool(self._changes)


def recall(requests: Requests, table: str, kinds: Mapping[str, str] | None) -> bool:
    """Take what an earlier run learned of a table into account; tell whether it was not known."""
    shape = Shape(requests.shapes.get(table))
    before = shape.columns()
    for name, kind in (kinds or {}).items():
        shape.declare(name, kind)
    if shape.columns() == before:
        return False
    requests.shapes.put(table, shape.record())
    return True


def _present(batch: pa.RecordBatch, column: str) -> pa.RecordBatch:
    """Return the rows that a column does not mark as deleted."""
    marks = batch.column(batch.schema.get_field_index(column))
    marked = pc.fill_null(marks, False) if pa.types.is_boolean(marks.type) else pc.is_valid(marks)
    return batch.filter(pc.invert(marked))


class ApiSource(abc.ABC):
    """A source that answers in pages.

    Args:
        options: The keys of the source in the job file, as ``config_model`` has them.
    """

    kind: ClassVar[str]
    config_model: ClassVar[type[HttpConfig]]
    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = self.config_model.model_validate(options)
        clock = SystemClock()
        self.requests = Requests(SourceLimits.of(Limits(), clock), clock)

    def govern(self, requests: Requests) -> None:
        """Ask for each request from now on."""
        requests.limits.each = True
        self.requests = requests

    def recall(self, table: str, shape: Any) -> bool:
        """Take what an earlier run learned of a table into account; tell whether it was not known."""
        return recall(self.requests, table, shape)

    @abc.abstractmethod
    def make_http(self) -> Http:
        """Return the session to the server, not opened yet."""

    @abc.abstractmethod
    def make_session(self, http: Http, epoch: int) -> ApiSession:
        """Return the session of one epoch over an open connection."""

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[ApiSession]:
        async with self.make_http() as http:
            yield self.make_session(http, epoch)

    async def diagnose(self, patterns: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
        """Return whether the source can be reached and what it shows."""
        try:
            async with self.session(0) as session:
                tables = await session.discover(patterns)
                return [
                    ("ok", f"{self.kind}: {session.http.base} answers", ""),
                    *await self.examine(session, [table for table in tables if wanted(table.qualified)]),
                ]
        except (CredentialsRejected, Unreachable, SourceDown) as error:
            return [("fail", error.message, error.advice)]
        except RunnerError as error:
            return [("warn", error.message, error.advice)]

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        """Return more checks, on a session that works; nothing by default."""
        return [("ok", f"{len(tables)} tables can be read", "")]
