"""Sources of type rest: what a configuration of dlt's REST API source reads, read page by page and in parallel."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from connectors.api import ApiSession, ApiSource, Page
from connectors.http import Http, Reply
from connectors.rest.actions import act
from connectors.rest.auth import Credentials, asking
from connectors.rest.columns import KIND, as_typed, cursor_column, hinted_times, table_of
from connectors.rest.config import RestConfig, read_config
from connectors.rest.cursors import Cursor, ceiling, style_of
from connectors.rest.incremental import Span
from connectors.rest.jsonpaths import compiled
from connectors.rest.ranges import First, first_page, ranges
from connectors.rest.resources import Resource, resources
from connectors.rest.usage import usage
from connectors.rest.walk import Walk
from runner.clock import SystemClock
from runner.errors import CredentialsRejected, RequestRefused, RunnerError, SourceDown, SourceError, Throttled
from runner.job import Limits, matches
from runner.limits import SourceLimits
from runner.plan import can_order
from runner.requests import Requests
from runner.source import NOTHING, Chunk, Position, Scan, Table, make_chunk
from runner.tasks import task_group

# How many pages are looked at for the columns of a resource while they are empty.
_SAMPLE = 10
_AT_ONCE = 16


class RestSession(ApiSession):
    """One opened API.

    Args:
        group: Where children are read ahead.
        heard: The headers of the last answer.
    """

    position = Position(
        consistent=False,
        note="an API answers page by page: each shows what is there when it is asked, and all together are not one "
        "picture",
        paged=True,
        marks_rows=True,
    )

    def __init__(
        self,
        http: Http,
        config: RestConfig,
        known: Mapping[str, Resource],
        group: TaskGroup,
        heard: dict[str, Mapping[str, str]],
    ) -> None:
        super().__init__(http)
        self._resources = known
        self._heard = heard
        self._walk = Walk(http, config.client.base_url, known, group)
        self._first: dict[str, First] = {}
        self._tables = 1

    # What there is.

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        wanted = [
            one
            for one in self._resources.values()
            if one.selected and any(matches(pattern, f"{KIND}.{one.table}") for pattern in patterns)
        ]
        self._tables = max(self._tables, len(wanted))
        exact = {one.name for one in wanted if {one.table, f"{KIND}.{one.table}"} & set(patterns)}
        found: dict[str, Table] = {}
        at_once = anyio.Semaphore(_AT_ONCE)

        async def describe(resource: Resource) -> None:
            async with at_once:
                found[resource.name] = await self._described(resource, named=resource.name in exact)

        async with task_group() as group:
            for resource in wanted:
                group.start_soon(describe, resource)
        await anyio.to_thread.run_sync(self.requests.shapes.save)
        tables = [found[one.name] for one in wanted]
        # A resource without any row has no columns: a wildcard passes it by.
        return [one for one in tables if one.columns or one.problem]

    async def _described(self, resource: Resource, *, named: bool) -> Table:
        """Return a resource as a table.

        Args:
            named: Whether the job names it, so that it is there although it is empty.
        """
        problem: str | None = None
        first, ended = None, False
        try:
            first, ended = await self._sample(resource)
        except (CredentialsRejected, SourceDown, Throttled):
            raise
        except SourceError as error:
            problem = error.message
        if first is not None:
            self._first[resource.name] = first
        styles: dict[str, Any] = self.requests.shapes.get(_styles(resource)) or {}
        return table_of(
            resource,
            self.shape(resource.table),
            style=styles.get("style"),
            rows=first.rows if first else 0,
            partial=self._is_partial(resource),
            unseen=named or not ended,
            problem=problem,
        )

    async def _sample(self, resource: Resource) -> tuple[First | None, bool]:
        """Learn the columns from the first page that has rows; return what it showed, and whether there was none."""
        first: First | None = None
        leaves = self._walk.leaves(resource, {}, self._walk.whole(resource), width=1)
        async with contextlib.aclosing(leaves) as pages:
            looked_at = 0
            async for leaf in pages:
                if first is None and leaf.answer is not None:
                    first = (
                        First(None, None, leaf.elements)
                        if resource.parent
                        else first_page(resource, leaf.answer, leaf.elements)
                    )
                looked_at += 1
                if leaf.rows:
                    self.learn(resource.table, Page(leaf.rows))
                    self._learn_style(resource, leaf.rows)
                if leaf.rows or looked_at >= _SAMPLE:
                    return first, False
        return first, True

    def _learn_style(self, resource: Resource, rows: Sequence[Mapping[str, Any]]) -> None:
        if resource.incremental is None:
            return
        path = compiled(resource.incremental.cursor_path)
        value = next((found for row in rows if (found := path.first(row)) is not None), None)
        style = style_of(value)
        if style is not None:
            self.requests.shapes.put(_styles(resource), {"style": style})

    def _is_partial(self, resource: Resource) -> bool:
        parent = self._walk.parent(resource)
        return parent is not None and (parent.incremental is not None or self._is_partial(parent))

    # What is read of it.

    def _resource(self, scan: Scan) -> Resource:
        if scan.where is not None and scan.where != NOTHING:
            raise RequestRefused(
                f"{scan.table.qualified}: where: an API has no conditions of its own.",
                guidance="Write what it filters by into params of the resource, or a filter into processing_steps.",
                table=scan.table.qualified,
            )
        return self._resources[scan.table.detail["resource"]]

    def _span(self, scan: Scan, resource: Resource, top: str | None) -> Span:
        column = scan.table.column(cursor_column(resource) or "")
        kind = column.type if column is not None and can_order(column.type) else None
        styled = scan.table.detail.get("style")
        return Span(resource.name, resource.incremental, Cursor(kind), window=scan.window, style=styled, ceiling=top)

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        resource = self._resource(scan)
        if scan.where == NOTHING:
            return [make_chunk(scan, 0, {}, storage=None, rows=0, size=0)]
        top = await self._ceiling(scan, resource)
        span = self._span(scan, resource, top)
        moved = scan.window is not None and (scan.window.start, scan.window.end) != (None, None)
        first = None if moved else self._first.pop(resource.name, None)
        # Tables that are read at the same time share the requests.
        width = math.ceil(self.requests.limits.concurrency.ceiling / max(1, self._tables))
        found = await ranges(self._walk, resource, span, first, width)
        common = {"ceiling": top} if top is not None else {}
        each = scan.table.rows // len(found)
        return [
            make_chunk(scan, index, {**bounds, **common}, storage=None, rows=each, size=0)
            for index, bounds in enumerate(found)
        ]

    async def _ceiling(self, scan: Scan, resource: Resource) -> str | None:
        """Return the server's time before the first page is read, for cursors that are points in time."""
        column = scan.table.column(cursor_column(resource) or "")
        if scan.window is None or column is None or not Cursor(column.type).zoned:
            return None
        if "headers" not in self._heard:
            leaves = self._walk.leaves(resource, {}, self._walk.whole(resource), width=1)
            async with contextlib.aclosing(leaves) as pages:
                async for _ in pages:
                    break
        return ceiling(self._heard.get("headers", {}))

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        resource = self._resource(scan)
        span = self._span(scan, resource, chunk.bounds.get("ceiling"))
        times = hinted_times(resource, scan.columns)
        async with contextlib.aclosing(self._walk.leaves(resource, chunk.bounds, span)) as leaves:
            async for leaf in leaves:
                mark = span.mark if scan.window is not None else None
                yield Page(as_typed(leaf.rows, times), leaf.rest, mark=mark)


class RestSource(ApiSource):
    """An API that a configuration of dlt's REST API source describes.

    Args:
        options: ``client``, ``resource_defaults`` and ``resources``, or ``config``; and the keys of all HTTP sources.

    Raises:
        JobFileError: The configuration is wrong.
    """

    kind = KIND
    config_model = RestConfig

    def __init__(self, options: dict[str, Any]) -> None:
        self.settings = read_config(options)
        self.config = self.settings
        self.resources = resources(self.settings)
        clock = SystemClock()
        self.requests = Requests(SourceLimits.of(Limits(), clock), clock)
        self._credentials = Credentials()

    def make_http(self) -> Http:
        return self._open({})

    def _open(self, heard: dict[str, Mapping[str, str]]) -> Http:
        def judge(reply: Reply) -> RunnerError | None:
            heard["headers"] = reply.headers
            resource = asking.get()
            return act(resource.actions, reply) if resource is not None and resource.actions else None

        client = self.settings.client
        headers = {name: str(value) for name, value in (client.headers or {}).items() if value is not None}
        return Http(
            self.settings,
            base=client.base_url,
            auth=self._credentials,
            requests=self.requests,
            headers=headers,
            judge=judge,
            usage=lambda reply: usage(reply, now=self.requests.clock.now()),
        )

    def make_session(self, http: Http, epoch: int) -> ApiSession:
        raise AssertionError("a session needs the group that it reads ahead in: session() makes both")

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[ApiSession]:
        heard: dict[str, Mapping[str, str]] = {}
        async with self._open(heard) as http, task_group() as group:
            try:
                yield RestSession(http, self.settings, self.resources, group, heard)
            finally:
                group.cancel_scope.cancel()

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        found = [("warn", f"{one.qualified}: {one.problem}", "") for one in tables if one.problem is not None]
        return [("ok", f"{len(tables) - len(found)} resources can be read", ""), *found]


def _styles(resource: Resource) -> str:
    return f"{resource.table}@cursor"
