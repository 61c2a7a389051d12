"""Follow the log of a dbt task while it runs: every attempt and command, as they appear.

Facts: Orchestra docs, API, "List task run logs" (files are named ``<attempt>/<command>``), "Download a task run log"
(by Range), "List task runs" (by id, at most 7 days back; ``include_superseded`` shows earlier attempts too). Whether an
attempt has an id of its own is not said: both are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import anyio

from orchestra.api.definitions import task_ids
from orchestra.api.models import PipelineRun, TaskRun
from orchestra.api.transport import LONGEST_WINDOW
from orchestra.api.waiting import passes
from orchestra.client import OrchestraClient, is_id
from orchestra.dbt.log import DbtLog
from orchestra.dbt.outcome import Outcome
from orchestra.dbt.results import read_outcomes
from runner.document import nearest
from runner.errors import RequestRefused, RunnerError, UsageError
from sensors.alert import Alert

ItemT = TypeVar("ItemT")
_RESULTS, _MANIFEST = "run_results.json", "manifest.json"
_CHECK_RUN = "Check --run: the id of a pipeline run is meant, and the API key is that of its workspace."
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass
class _File:
    log: DbtLog
    offset: int = 0


@dataclass
class DbtTail:
    """The log of one task in one pipeline run, over all attempts.

    Attributes:
        task: The id of a run of the task; where ``run`` is given, also the id of the task.
        run: The id of the pipeline run; found out where it is empty.
        tell: Told of alerts as they come.
        warned: Told why a look failed that is taken again.
        pause: Seconds between two looks.
        linger: Seconds for which another attempt is waited for after one that failed.
        status: How the newest attempt was doing at the last look; empty while there is none.
    """

    client: OrchestraClient
    task: str
    run: str
    tell: Callable[[list[Alert]], Awaitable[None]]
    warned: Callable[[str], None] = lambda _: None
    pause: float = 5.0
    linger: float = 60.0
    status: str = ""
    _following: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _told: set[str] = field(default_factory=set)
    _left: dict[str, bool] = field(default_factory=dict)
    _tasks: frozenset[str] | None = None
    _files: dict[tuple[str, str], _File] = field(default_factory=dict)

    @property
    def structured(self) -> int:
        """How many lines were events of dbt."""
        return sum(file.log.structured for file in self._files.values())

    def stop(self) -> None:
        """Follow no longer; what was read is still told."""
        self._following.cancel()

    async def follow(self, seconds: float) -> bool:
        """Tell of alerts until the task is over and read to its end; return whether that was in time.

        Once.

        Raises:
            RunnerError: It cannot be read, and another look cannot help.
        """
        clock = self.client.clock
        failed: float | None = None
        self._following.deadline = anyio.current_time() + seconds
        with self._following:
            while True:
                try:
                    # In a run that was over before this look no attempt can have come after it.
                    last = failed is not None and await self._run_over()
                    over = await self.look()
                    if over and (last or self.status != "FAILED"):
                        return True
                    failed = None if not over else clock.monotonic() if failed is None else failed
                    if failed is not None and clock.monotonic() - failed >= self.linger:
                        return True
                except RunnerError as error:
                    if not passes(error):
                        raise
                    self.warned(error.message)
                await clock.sleep(self.pause)
        for (_, name), file in self._files.items():
            await self._say(file.log.take(), name)
        return False

    async def look(self) -> bool:
        """Tell what is new; return whether the newest attempt was over before.

        Raises:
            RunnerError: It cannot be read.
        """
        newest = await self._newest()
        if newest is None:
            self.status = ""
            over = await self._may_begin()
            if over:
                self.warned(f"The run {self.run} is over, and the task {self.task!r} did not run in it.")
            return over
        self.status = newest.status
        if newest.id not in self._left:
            for one in await self._attempts():
                self._left.setdefault(one.id, False)
            self._left[newest.id] = False
        for task_run, left in list(self._left.items()):
            over = newest.over or task_run != newest.id
            if not left:
                await self._read(task_run, over)
                # An attempt that was followed by another one is read no more.
                self._left[task_run] = task_run != newest.id
        return newest.over

    async def artifacts(self) -> bool:
        """Tell what run_results.json of the newest attempt says; return whether there is one.

        Raises:
            RunnerError: It cannot be read, or there is no such task run.
        """
        newest = await self._newest()
        if newest is None:
            await self._may_begin()
            raise RequestRefused(f"The task {self.task!r} has not run in the run {self.run}.")
        names = await self.client.artifacts(self.run, newest.id)
        manifests = [name for name in names if name.rpartition("/")[2] == _MANIFEST]
        results = [name for name in names if name.rpartition("/")[2] == _RESULTS]
        manifest = await self.client.artifact(self.run, newest.id, manifests[-1]) if results and manifests else None
        for name in results:
            text = await self.client.artifact(self.run, newest.id, name)
            read = partial(read_outcomes, text, manifest, what=name)
            await self._say(await anyio.to_thread.run_sync(read))
        return bool(results)

    async def _read(self, task_run: str, over: bool) -> None:
        """Read what the files of an attempt have more than last time; of one that is over, all that will ever be."""
        try:
            for name in sorted(await self.client.logs(self.run, task_run)):
                file = self._files.setdefault((task_run, name), _File(DbtLog(self._told)))
                parts = self.client.log(self.run, task_run, name, start=file.offset, follow=over)
                async with contextlib.aclosing(parts):
                    async for part in parts:
                        file.offset += len(part)
                        file.log.feed(part)
                if over:
                    file.log.end()
                await self._say(file.log.take(), name)
        except RequestRefused:
            # What has not begun to write may have no list of files yet, or a name without a file.
            if over:
                raise

    async def _say(self, outcomes: list[Outcome], name: str = "") -> None:
        if not outcomes:
            return
        # They count as told from here on.
        with anyio.CancelScope(shield=True):
            attempt, _, command = name.partition("/")
            facts = {"command": command, "attempt": attempt} if command else {}
            url = self.client.workspace.run_url(self.run)
            await self.tell([outcome.alert(url=url, **facts) for outcome in outcomes])

    # Which runs of a task are meant.

    async def _newest(self) -> TaskRun | None:
        """Return the newest attempt; None while there is none. From then on ``task`` is the id of the task.

        Raises:
            RequestRefused: There is no such task run.
            UsageError: It cannot be told which one is meant.
        """
        if not self.run:
            named = await self._named()
            self.run, self.task = named.pipeline_run_id or "", named.task_id or named.id
        try:
            there = await _all(self.client.task_runs_of(self.run))
        except RequestRefused:
            if not is_id(self.run):
                raise UsageError(f"{self.run!r} is no id of a pipeline run.", guidance=_CHECK_RUN) from None
            await self._known()
            raise
        mine = [one for one in there if self.task in (one.id, one.task_id)]
        if not mine and is_id(self.task):
            mine = [one for one in await self._attempts() if one.id == self.task]
            if not mine:
                raise RequestRefused(f"There is no task run {self.task} in the run {self.run}.")
            self.task = mine[0].task_id or self.task
            mine = [one for one in there if one.task_id == self.task] or mine
        newest = max(mine, key=lambda one: one.created_at or _EARLIEST, default=None)
        if newest is not None:
            self.task = newest.task_id or newest.id
        return newest

    async def _named(self) -> TaskRun:
        """Return the task run of that id, in whatever run it is."""
        if not is_id(self.task):
            raise UsageError(
                f"{self.task!r} is no id of a task run.",
                guidance="The id of a task needs --run, the id of the pipeline run it is in.",
            )
        now = self.client.clock.now()
        found = await _all(
            self.client.task_runs(time_from=now - LONGEST_WINDOW, time_to=now, task_runs=[self.task], superseded=True)
        )
        for one in found:
            if one.id == self.task and one.pipeline_run_id:
                return one
        raise RequestRefused(
            f"There is no task run {self.task} of the last {LONGEST_WINDOW.days} days in this workspace.",
            guidance="Check its id, and that the API key is of its workspace; --run finds an older one.",
        )

    async def _attempts(self) -> list[TaskRun]:
        """Return all attempts at the task, the oldest first."""
        run = await self._known()
        if run.created_at is None:
            return []
        pages = self.client.task_runs(
            time_from=run.created_at,
            time_to=self.client.clock.now(),
            pipelines=[run.pipeline_id] if run.pipeline_id else [],
            superseded=True,
        )
        found = [one for one in await _all(pages) if one.pipeline_run_id == self.run]
        return sorted(
            (one for one in found if self.task in (one.id, one.task_id)), key=lambda one: one.created_at or _EARLIEST
        )

    async def _may_begin(self) -> bool:
        """Return whether the run is over, in which the task has not begun.

        Raises:
            UsageError: The run does not have this task.
        """
        run = await self._known()
        if self._tasks is None:
            self._tasks = await self._declared(run)
        # A task that is repeated runs under its id with a suffix.
        if any(self.task == one or self.task.startswith(f"{one}_") for one in self._tasks):
            return run.over
        if self._tasks or run.over:
            begun = {one.task_id for one in await _all(self.client.task_runs_of(self.run)) if one.task_id}
            # It may have begun since.
            if self.task not in begun:
                known = sorted(begun | self._tasks)
                near = nearest(self.task, known)
                raise UsageError(
                    f"The run {self.run} has no task {self.task!r}." + (f" Did you mean {near!r}?" if near else ""),
                    guidance=f"Its tasks: {', '.join(known) or 'none'}.",
                )
        return run.over

    async def _declared(self, run: PipelineRun) -> frozenset[str]:
        """Return the ids of the tasks that a run may have; none where that cannot be known."""
        try:
            definition = await self.client.definition(
                run.pipeline_id, branch=run.branch, commit=run.commit, version=run.pipeline_version_number
            )
        except RequestRefused:
            return frozenset()
        return task_ids(definition)

    async def _run_over(self) -> bool:
        return (await self._known()).over

    async def _known(self) -> PipelineRun:
        run = await self.client.run(self.run)
        if run is None:
            raise RequestRefused(f"There is no run {self.run} in this workspace.", guidance=_CHECK_RUN)
        return run


async def _all(pages: AsyncGenerator[list[ItemT], None]) -> list[ItemT]:
    async with contextlib.aclosing(pages):
        return [one async for page in pages for one in page]
