"""The source: each resource is a table, read in a thread of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
from anyio import from_thread
from anyio.streams.memory import MemoryObjectSendStream
from pydantic import BaseModel, ConfigDict, Field

from connectors.api import Page, PagedSession, PageReading, recall
from connectors.dltsource.extraction import Extraction, hints, make_source
from runner.clock import SystemClock
from runner.errors import RequestRefused, RunnerError
from runner.job import Limits, matches
from runner.limits import SourceLimits
from runner.requests import Requests
from runner.source import CHANGES, NOTHING, Chunk, Position, Scan, Table
from runner.tasks import task_group

_NOTE = "a dlt source shows what is there when it is asked, and is read from its beginning"
# Rows that columns are inferred from at first.
_SAMPLE = 100
# Threads of resources that wait for their servers; others have theirs.
_THREADS = 64


class DltConfig(BaseModel):
    """The keys of a source of type dlt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="package.module:function that returns a dlt source or resource")
    args: dict[str, Any] = Field(default_factory=dict, repr=False, description="its arguments")


class DltSource:
    """An existing dlt source.

    Args:
        options: The keys of the source in the job file, as DltConfig has them.
    """

    config_model = DltConfig
    schemes: tuple[str, ...] = ()

    def __init__(self, options: dict[str, Any]) -> None:
        self.config = DltConfig.model_validate(options)
        clock = SystemClock()
        self.requests = Requests(SourceLimits.of(Limits(), clock), clock)

    def govern(self, requests: Requests) -> None:
        """Use what is known about its tables; its requests are its own."""
        self.requests = requests

    def recall(self, table: str, shape: Any) -> bool:
        """Take what an earlier run learned of a resource into account; tell whether it was not known."""
        return recall(self.requests, table, shape)

    @contextlib.asynccontextmanager
    async def session(self, epoch: int) -> AsyncIterator[DltSession]:
        resources = await anyio.to_thread.run_sync(make_source, self.config.source, self.config.args)
        yield DltSession(self.requests, self.config, resources)

    async def diagnose(self, patterns: Sequence[str], wanted: Callable[[str], bool]) -> list[tuple[str, str, str]]:
        """Return whether the source can be made and its resources begin."""
        try:
            async with self.session(0) as session:
                tables = [table for table in await session.discover(patterns) if wanted(table.qualified)]
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        return [("ok", f"{self.config.source}: {len(tables)} resources can be read", "")]


class DltSession(PagedSession):
    """One made source.

    Args:
        resources: By name.
    """

    position = Position(consistent=False, note=_NOTE, paged=True, marks_rows=True)

    def __init__(self, requests: Requests, config: DltConfig, resources: Any) -> None:
        super().__init__(requests)
        self._config = config
        self._resources = resources
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        selected = [name for name in self._resources if self._resources[name].selected]
        wanted = [name for name in selected if any(matches(pattern, f"dlt.{name}") for pattern in patterns)]
        found: list[Table] = []
        problems: list[RunnerError] = []

        async def one(name: str) -> None:
            try:
                found.append(
                    await anyio.to_thread.run_sync(self._describe, name, limiter=self._threads, abandon_on_cancel=True)
                )
            except RunnerError as error:
                # The others can be read all the same.
                problems.append(error)
                found.append(Table("dlt", name, (), problem=error.message, detail={"resource": name}))

        async with task_group() as group:
            for name in wanted:
                group.start_soon(one, name)
        if problems and len(problems) == len(wanted):
            raise problems[0]
        await anyio.to_thread.run_sync(self.requests.shapes.save)
        return sorted(found, key=lambda table: wanted.index(table.detail["resource"]))

    def _describe(self, name: str) -> Table:
        """Return a resource's table: what it declares, and what its first rows show."""
        declared = hints(self._resources[name])
        shape = self.shape(name)
        for column, kind in declared["kinds"].items():
            shape.declare(column, kind)
        self.requests.shapes.put(name, shape.record())
        extraction = Extraction(self._fresh(name), None)
        for item in extraction.items(_SAMPLE):
            self.learn(name, Page(rows=item) if isinstance(item, list) else Page(batch=item))
            break
        columns = self.shape(name).columns()
        names = {column.name for column in columns}
        key = tuple(column for column in declared["key"] if column in names)
        merges = declared["disposition"] == "merge" and bool(key)
        # As dlt has it: a merge without a key adds.
        adds = declared["disposition"] in ("append", "merge") and not merges
        return Table(
            schema="dlt",
            name=name,
            columns=columns,
            primary_key=key,
            detail={"resource": name, "shape": self.shape(name).record()},
            defaults={"as": declared["name"], **({} if merges else {"mode": "append" if adds else "full"})},
            inferred=True,
            tracked=merges or adds,
        )

    def _fresh(self, name: str) -> Any:
        """Return a resource that was not read yet: a generator can be read once."""
        return make_source(self._config.source, self._config.args)[name]

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        window = scan.window
        ranged = window is not None and window.cursor != CHANGES and (window.start or window.end)
        if ranged or scan.where not in (None, NOTHING):
            raise RequestRefused(
                f"{scan.table.qualified}: a dlt resource takes neither a range nor a condition.",
                guidance="Give its function the arguments that narrow it.",
                table=scan.table.qualified,
            )
        return await super().chunks(scan, rows, size)

    def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        raise AssertionError("a dlt source is read through read()")

    @contextlib.asynccontextmanager
    async def read(self, scan: Scan, chunk: Chunk) -> AsyncIterator[PageReading]:
        send, receive = anyio.create_memory_object_stream[Page](1)
        tracked = scan.window is not None and scan.window.cursor == CHANGES
        state = scan.window.start if tracked and scan.window is not None else None
        name = scan.table.detail["resource"]

        async def pump() -> None:
            with send:
                await anyio.to_thread.run_sync(
                    self._push, name, state, tracked, send, limiter=self._threads, abandon_on_cancel=True
                )

        async with task_group() as group:
            group.start_soon(pump)
            try:
                yield PageReading(self, scan, receive)
            finally:
                # Whoever pushes meets a closed stream and ends.
                receive.close()

    def _push(self, name: str, state: str | None, tracked: bool, send: MemoryObjectSendStream[Page]) -> None:
        extraction = Extraction(self._fresh(name), state)
        try:
            for item in extraction.items():
                page = Page(rows=item) if isinstance(item, list) else Page(batch=item)
                from_thread.run(send.send, page)
            if tracked:
                from_thread.run(send.send, Page(mark=extraction.mark()))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
