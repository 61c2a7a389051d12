"""Follow the log of a dbt task while it runs: every file, which are its attempts and commands, as they appear.

Facts: Orchestra docs, API, "List task run logs" (files are named ``<attempt>/<command>``), "Download task run log" (by
Range), "List task runs" (by id, at most 7 days back).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import anyio

from orchestra.client import OrchestraClient
from orchestra.dbtlog import DbtLog
from orchestra.dbtoutcome import Outcome
from orchestra.dbtresults import read_outcomes
from orchestra.models import TaskRun
from orchestra.transport import LONGEST_WINDOW
from orchestra.waiting import passes
from runner.errors import RequestRefused, RunnerError, UsageError
from sensors.alert import Alert

ItemT = TypeVar("ItemT")
_RESULTS, _MANIFEST = "run_results.json", "manifest.json"
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass
class _File:
    log: DbtLog
    offset: int = 0


@dataclass
class DbtTail:
    """The log of one task run.

    Attributes:
        task: The id of a task run; where ``run`` is given, also the id of a task, whose newest run is meant.
        run: The id of the pipeline run; found out where it is empty.
        tell: Told of alerts as they come.
        warned: Told why a look failed that is taken again.
        pause: Seconds between two looks.
    """

    client: OrchestraClient
    task: str
    run: str
    tell: Callable[[list[Alert]], Awaitable[None]]
    warned: Callable[[str], None] = lambda _: None
    pause: float = 5.0
    _told: set[str] = field(default_factory=set)
    _files: dict[tuple[str, str], _File] = field(default_factory=dict)

    @property
    def structured(self) -> int:
        """How many lines were events of dbt."""
        return sum(file.log.structured for file in self._files.values())

    async def follow(self, seconds: float) -> bool:
        """Tell of alerts until the task run is over and read to its end; return whether that was in time.

        Raises:
            RunnerError: It cannot be read, and another look cannot help.
        """
        with anyio.move_on_after(seconds):
            while True:
                try:
                    if await self.look():
                        return True
                except RunnerError as error:
                    if not passes(error):
                        raise
                    self.warned(error.message)
                await self.client.clock.sleep(self.pause)
        for (_, name), file in self._files.items():
            await self._say(file.log.take(), name)
        return False

    async def look(self) -> bool:
        """Tell what is new; return whether the task run was over before, so that no more will come.

        Raises:
            RunnerError: It cannot be read.
        """
        found = await self._find()
        if found is None:
            return await self._never()
        try:
            for name in sorted(await self.client.logs(self.run, found.id)):
                file = self._files.setdefault((found.id, name), _File(DbtLog(self._told)))
                await self._read(found, name, file)
                await self._say(file.log.take(), name)
        except RequestRefused:
            # What has not begun to write may have no list of files yet, or a name without a file.
            if found.over:
                raise
        return found.over

    async def artifacts(self) -> bool:
        """Tell what run_results.json of the task run says; return whether there is one.

        Raises:
            RunnerError: It cannot be read, or there is no such task run.
        """
        found = await self._find()
        if found is None:
            raise RequestRefused(f"There is no run of the task {self.task!r} yet in the run {self.run}.")
        names = await self.client.artifacts(self.run, found.id)
        manifests = [name for name in names if name.rpartition("/")[2] == _MANIFEST]
        results = [name for name in names if name.rpartition("/")[2] == _RESULTS]
        manifest = await self.client.artifact(self.run, found.id, manifests[-1]) if manifests else None
        for name in results:
            text = await self.client.artifact(self.run, found.id, name)
            read = partial(read_outcomes, text, manifest, what=name)
            await self._say(await anyio.to_thread.run_sync(read))
        return bool(results)

    async def _read(self, found: TaskRun, name: str, file: _File) -> None:
        """Read what a file has more than last time; of a task that is over, all that will ever be."""
        parts = self.client.log(self.run, found.id, name, start=file.offset, follow=found.over)
        async with contextlib.aclosing(parts):
            async for part in parts:
                file.offset += len(part)
                file.log.feed(part)
        if found.over:
            file.log.end()

    async def _say(self, outcomes: list[Outcome], name: str = "") -> None:
        if not outcomes:
            return
        # They count as told from here on.
        with anyio.CancelScope(shield=True):
            attempt, _, command = name.partition("/")
            facts = {"command": command, "attempt": attempt} if command else {}
            url = self.client.workspace.run_url(self.run)
            await self.tell([outcome.alert(url=url, **facts) for outcome in outcomes])

    async def _never(self) -> bool:
        """Tell whether the pipeline run is over, so that the task will have no run.

        Raises:
            RequestRefused: There is no such pipeline run.
        """
        run = await self.client.run(self.run)
        if run is None:
            raise RequestRefused(f"There is no run {self.run} in this workspace.", guidance="Check --run.")
        if run.over:
            self.warned(f"The run {self.run} is over, and the task {self.task!r} has no run in it.")
        return run.over

    async def _find(self) -> TaskRun | None:
        """Return the task run; None while the task has none yet.

        Raises:
            RequestRefused: There is no such task run.
            UsageError: It cannot be told which one is meant.
        """
        if self.run:
            there = await _all(self.client.task_runs_of(self.run))
            mine = [one for one in there if self.task in (one.id, one.task_id)]
            return max(mine, key=lambda one: one.created_at or _EARLIEST, default=None)
        try:
            UUID(self.task)
        except ValueError:
            raise UsageError(
                f"{self.task!r} is no id of a task run.",
                guidance="The id of a task needs --run, the id of the pipeline run it is in.",
            ) from None
        now = self.client.clock.now()
        pages = self.client.task_runs(time_from=now - LONGEST_WINDOW, time_to=now, task_runs=[self.task])
        found = next((one for one in await _all(pages) if one.id == self.task), None)
        if found is None or not found.pipeline_run_id:
            raise RequestRefused(
                f"There is no task run {self.task} of the last {LONGEST_WINDOW.days} days in this workspace.",
                guidance="Check its id, and that the API key is of its workspace; --run finds an older one.",
            )
        self.run = found.pipeline_run_id
        return found


async def _all(pages: AsyncGenerator[list[ItemT], None]) -> list[ItemT]:
    async with contextlib.aclosing(pages):
        return [one async for page in pages for one in page]
