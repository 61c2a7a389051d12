"""Runs, tasks, operations and assets of a workspace as a source: ``type: orchestra``.

A list with times is read in windows (``orchestra.metadata.windows``), each of them a chunk. Its high-water mark is the
time up to which nothing changes any more: now, or when the oldest run was created that has not finished yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar

import anyio
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.api import Page, PagedSession
from orchestra.api.transport import Transport
from orchestra.api.workspace import Workspace
from orchestra.metadata.tables import RESOURCES, SCHEMA, Resource
from orchestra.metadata.windows import FIRST, OVERLAP, Listing, Span, asked, back, ceiling, floor, half, spans
from runner.clock import SystemClock
from runner.errors import (
    CredentialsRejected,
    JobFileError,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    Unreachable,
)
from runner.job import Limits, matches
from runner.limits import SourceLimits
from runner.requests import Requests
from runner.source import NOTHING, Chunk, Mark, Position, Scan, Table, make_chunk
from runner.tasks import task_group
from runner.units import Duration

_NOTE = (
    "Orchestra shows each page as it is when it is asked; windows of time are read again when they changed meanwhile"
)
# How long it may take until a run is listed under the time that it was created at.
_SETTLING = timedelta(minutes=5)
# A window of more rows is read in parts: rows are kept until all of a part came.
_MOST = 5_000
# Windows that are asked at once how much they hold.
_AT_ONCE = 8
# To how much the age is found out at which Orchestra's lists end.
_EDGE = timedelta(hours=1)


class MetadataConfig(BaseModel):
    """The keys of a source of type orchestra.

    Source: Orchestra docs, API.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: str | None = Field(None, repr=False, description="of a workspace; ORCHESTRA_API_KEY by default")
    base_url: str | None = Field(None, description="ORCHESTRA_BASE_URL, or Orchestra's own, by default")
    account: str | None = Field(None, description="the account, for a token that covers several")
    since: datetime | None = Field(None, description="how far back the first run reads")
    history: Duration | None = Field(None, description="the same, as a time before now")
    empty_windows: int = Field(
        8, ge=1, description="without since and history: windows of 6 days without a row that end the history"
    )
    lag: Duration = Field(timedelta(days=7), description="how old a run is before it is not looked at again")
    unfinished: Duration = Field(timedelta(days=30), description="… and one that has not finished")
    include_superseded: bool = Field(False, description="earlier attempts of task runs, too")
    timeout: Duration = Field(timedelta(seconds=60), description="until an answer begins, and between its parts")

    @model_validator(mode="after")
    def _one_beginning(self) -> MetadataConfig:
        if self.since is not None and self.history is not None:
            raise ValueError("since and history both say how far back: give one")
        return self


class MetadataSource:
    """A workspace of Orchestra.

    Args:
        options: The keys of the source in the job file, as MetadataConfig has them.
    """

    kind: ClassVar[str] = "orchestra"
    config_model = MetadataConfig
    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = MetadataConfig.model_validate(options)
        clock = SystemClock()
        self.requests = Requests(SourceLimits.of(Limits(), clock), clock)

    def govern(self, requests: Requests) -> None:
        """Ask for each request from now on."""
        requests.limits.each = True
        self.requests = requests

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[MetadataSession]:
        config, requests = self.config, self.requests
        workspace = Workspace.of(api_key=config.api_key, base_url=config.base_url, account=config.account)
        timeout = config.timeout.total_seconds()
        transport = Transport(
            workspace, requests.clock, requests.limits, timeout=timeout, patient=True, requests=requests
        )
        async with transport:
            yield MetadataSession(requests, config, transport)

    async def diagnose(self, patterns: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
        """Return whether the workspace can be reached, and which lists the key may not see."""
        found = []
        try:
            async with self.session(0) as session:
                tables = [one for one in await session.discover(patterns) if wanted(one.qualified)]
                found.append(("ok", f"orchestra: {session.where} answers", ""))
                for table in tables:
                    try:
                        await session.glance(table)
                    except (PermissionMissing, RequestRefused) as error:
                        found.append(("warn", f"{table.qualified}: {error.message}", error.advice))
                found.append(("ok", f"{len(tables) + 1 - len(found)} tables can be read", ""))
        except (CredentialsRejected, Unreachable, SourceDown) as error:
            return [("fail", error.message, error.advice)]
        except RunnerError as error:
            return [*found, ("warn", error.message, error.advice)]
        return found


class MetadataSession(PagedSession):
    """One opened workspace; what it calls now is when it was opened.

    Args:
        transport: Opened.
    """

    position = Position(consistent=False, note=_NOTE, paged=True)

    def __init__(self, requests: Requests, config: MetadataConfig, transport: Transport) -> None:
        super().__init__(requests)
        self.where = transport.workspace.name
        self._config = config
        self._listing = Listing(transport)
        self._now = requests.clock.now()
        # From when on lists show rows, where they refused what is older.
        self._edges: dict[str, datetime] = {}
        self._turn = anyio.Lock()

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        wanted = [one for one in RESOURCES.values() if any(matches(p, f"{SCHEMA}.{one.name}") for p in patterns)]
        if wanted:
            # The tables are known; a key that is not accepted is better found out before anything begins.
            await self._listing.count("pipelines", {})
        lag = f"{int(self._config.lag.total_seconds())}s"
        return [one.table(lag) for one in wanted]

    async def glance(self, table: Table) -> None:
        """See whether a table can be read."""
        resource = RESOURCES[table.name]
        if resource.paged:
            await self._listing.count(resource.path, self._newest(resource))
        else:
            await self._listing.whole(resource.path)

    # Marks.

    async def high_water(self, scan: Scan) -> Mark | None:
        """Return the time up to which rows do not change any more."""
        resource = RESOURCES[scan.table.name]
        if scan.window is None:
            return None
        if scan.window.cursor != resource.cursor:
            raise JobFileError(
                f"{scan.table.qualified}: Orchestra looks for no {scan.window.cursor!r}: its windows are those of the "
                "time that something was created at.",
                guidance=f"Say cursor: {resource.cursor}." if resource.cursor else "Say mode: full.",
            )
        mark = self._now - _SETTLING
        if resource.unfinished:
            mark = min([mark, *await self._unfinished(resource)])
        return Mark(mark.isoformat(sep=" "))

    async def _unfinished(self, resource: Resource) -> list[datetime]:
        """Return when the rows were created that have not finished, as far back as we wait for any."""
        found: list[datetime] = []
        for begin, end in reversed(spans(self._now - self._config.unfinished, self._now)):
            try:
                rows = await self._with_status(resource, begin, end)
            except RequestRefused:
                if end == self._now or await self._counts(resource, [(begin, end)]) != [None]:
                    raise
                break  # older than what Orchestra shows
            moments = [_moment(row, resource) for row in rows]
            found += [one for one in moments if one is not None]
        return found

    async def _with_status(self, resource: Resource, begin: datetime, end: datetime) -> list[Mapping[str, Any]]:
        window = {**self._params(resource), **asked(begin, end)}
        try:
            return (
                await self._listing.rows(resource.path, {**window, "status": ",".join(resource.unfinished)}, "id") or []
            )
        except RequestRefused:
            # Not every version of the API knows every status.
            rows: list[Mapping[str, Any]] = []
            refused: RequestRefused | None = None
            answered = False
            for status in resource.unfinished:
                try:
                    rows += await self._listing.rows(resource.path, {**window, "status": status}, "id") or []
                    answered = True
                except RequestRefused as error:
                    refused = error
            if refused is not None and not answered:
                raise refused from None
            return rows

    # Chunks.

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        resource = RESOURCES[scan.table.name]
        if scan.where not in (None, NOTHING):
            raise JobFileError(f"{scan.table.qualified}: Orchestra's lists know no `where:`.")
        if resource.cursor and scan.window is None and {one.name for one in scan.columns} == {"id"}:
            # Keys alone are asked for by who looks for deleted rows.
            raise JobFileError(
                f"{scan.table.qualified}: deletes: compare would delete what is only too old for Orchestra to show.",
                guidance="Say deletes: ignore.",
            )
        if scan.where == NOTHING or not resource.cursor:
            return [make_chunk(scan, 0, {}, storage=None, rows=0, size=0)]
        return [
            make_chunk(
                scan, index, {"from": begin.isoformat(), "to": end.isoformat()}, storage=None, rows=count, size=0
            )
            for index, ((begin, end), count) in enumerate(await self._windows(scan, resource))
        ]

    async def _windows(self, scan: Scan, resource: Resource) -> list[tuple[Span, int]]:
        """Return the windows of a scan, oldest first, and how many rows each holds, where that is known."""
        window, config = scan.window, self._config
        end = ceiling(self._now)
        begin = config.since and (config.since if config.since.tzinfo else config.since.replace(tzinfo=UTC))
        if config.history is not None:
            begin = self._now - config.history
        if window is not None and window.end is not None:
            end = ceiling(datetime.fromisoformat(window.end)) + OVERLAP
        if window is not None and window.start is not None:
            begin = datetime.fromisoformat(window.start)
        if begin is None:
            return await self._history(resource, end)
        begin = max(begin, FIRST)
        found = spans(begin, end) or [(floor(begin), floor(begin) + OVERLAP)]
        return [(span, 0) for span in found]

    async def _history(self, resource: Resource, end: datetime) -> list[tuple[Span, int]]:
        """Return windows back to where there is nothing for long, or Orchestra shows no more."""
        found: list[tuple[Span, int]] = []
        limit = self._config.empty_windows
        candidates = back(end)
        while batch := list(islice(candidates, min(limit, _AT_ONCE))):
            for span, count in zip(batch, await self._counts(resource, batch), strict=True):
                if count is None:
                    # Some of it may be shown: whoever reads it finds out.
                    return [(span, 0), *reversed(found)]
                found.append((span, count))
                if len(found) >= limit and not any(one for _, one in found[-limit:]):
                    return _without_empty(found)
        return _without_empty(found)

    async def _counts(self, resource: Resource, batch: Sequence[Span]) -> list[int | None]:
        """Return how many rows windows hold; None for one that is refused."""
        counts: list[int | None] = [None] * len(batch)

        async def one(index: int, span: Span) -> None:
            with contextlib.suppress(RequestRefused):
                counts[index] = await self._listing.count(resource.path, {**self._params(resource), **asked(*span)})

        async with task_group() as group:
            for index, span in enumerate(batch):
                group.start_soon(one, index, span)
        return counts

    # Rows.

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        resource = RESOURCES[scan.table.name]
        columns = resource.column_of
        if not chunk.bounds:
            items = await self._whole(resource)
            yield Page([resource.row(one, columns) for one in items])
            return
        begin, end = (datetime.fromisoformat(chunk.bounds[name]) for name in ("from", "to"))
        begin = max(begin, self._edges.get(resource.name, begin))
        while begin < end:
            try:
                until, items = await self._part(resource, begin, end)
            except RequestRefused as error:
                begin = await self._shown_from(resource, begin, end, error)
                continue
            rows = [resource.row(one, columns) for one in items if _is_wanted(one, resource, scan, begin, until)]
            rest = {"from": until.isoformat(), "to": end.isoformat()} if until < end else None
            yield Page(rows, rest)
            begin = until

    async def _whole(self, resource: Resource) -> list[Mapping[str, Any]]:
        if not resource.paged:
            return await self._listing.whole(resource.path)
        return await self._listing.rows(resource.path, self._params(resource), resource.key) or []

    async def _part(
        self, resource: Resource, begin: datetime, end: datetime
    ) -> tuple[datetime, list[Mapping[str, Any]]]:
        """Return the rows of a window, or of the first part of it that is small enough, and where that ends."""
        while True:
            middle = half(begin, end)
            params = {**self._params(resource), **asked(begin, end)}
            rows = await self._listing.rows(
                resource.path, params, resource.key, most=_MOST if middle is not None else None
            )
            if rows is not None:
                return end, rows
            assert middle is not None
            end = middle

    async def _shown_from(
        self, resource: Resource, begin: datetime, end: datetime, refused: RequestRefused
    ) -> datetime:
        """Return from when on Orchestra shows rows, where it refused a window because of its age.

        Raises:
            RequestRefused: Its age is not why.
        """
        async with self._turn:
            known = self._edges.get(resource.name)
            if known is not None and known > begin:
                return known
            low, high = begin, floor(self._now) - _EDGE
            old, new = await self._counts(resource, [(low, end), (high, high + _EDGE)])
            if high <= low or old is not None or new is None:
                raise refused
            while high - low > _EDGE:
                middle = floor(low + (high - low) / 2)
                [count] = await self._counts(resource, [(middle, middle + _EDGE)])
                low, high = (middle, high) if count is None else (low, middle)
            # What is that old may have become too old until it is read.
            edge = self._edges[resource.name] = high + timedelta(minutes=1)
        if known is None:
            self.requests.warn(
                f"Orchestra shows none from before {edge:%Y-%m-%d %H:%M} UTC, so that none are read: {refused.message}"
            )
        return edge

    def _params(self, resource: Resource) -> dict[str, str]:
        superseded = resource.name == "task_runs" and self._config.include_superseded
        order = {"sort_column": resource.order, "sort_direction": "asc"} if resource.order else {}
        return {**order, **({"include_superseded": "true"} if superseded else {})}

    def _newest(self, resource: Resource) -> dict[str, str]:
        """Return the parameters of a window that is not refused for its age."""
        window = asked(floor(self._now) - _EDGE, floor(self._now)) if resource.cursor else {}
        return {**self._params(resource), **window}


def _moment(item: Mapping[str, Any], resource: Resource) -> datetime | None:
    """Return the time that windows are about."""
    key = next(key for key, column in resource.column_of.items() if column.name == resource.cursor)
    try:
        found = datetime.fromisoformat(str(item.get(key)))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_wanted(item: Mapping[str, Any], resource: Resource, scan: Scan, begin: datetime, end: datetime) -> bool:
    """Tell whether a row is of the scan's window.

    One that lies outside of what was asked for is kept: then Orchestra's windows are about another time of it, and to
    load it once more harms nobody.
    """
    window, moment = scan.window, _moment(item, resource)
    if window is None:
        return True
    if moment is None:
        return window.nulls
    if window.start is not None and begin - OVERLAP <= moment:
        start = datetime.fromisoformat(window.start)
        if moment < start or (moment == start and not window.from_start):
            return False
    if window.end is not None and moment <= end:
        last = datetime.fromisoformat(window.end)
        if moment > last or (moment == last and window.before_end):
            return False
    return True


def _without_empty(found: list[tuple[Span, int]]) -> list[tuple[Span, int]]:
    """Return windows oldest first, without the oldest that are empty; at least the newest."""
    while len(found) > 1 and not found[-1][1]:
        found.pop()
    return found[::-1]
