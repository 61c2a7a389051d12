"""The runs of a workspace, listed once for everybody who follows some of them.

Facts: Orchestra docs, API, "List pipeline runs" (filters, window), "Get pipeline run status" (one run, of any age).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from weakref import WeakKeyDictionary

import anyio

from orchestra.api.models import UNFINISHED_RUNS, PipelineRun
from orchestra.api.transport import LONGEST_WINDOW
from orchestra.client import OrchestraClient

# Runs may begin by a clock that is ahead of ours.
_AHEAD = timedelta(minutes=5)
_IDS = 50
# Older ones are asked for one by one; so many in one look, the others in the next ones.
_ALONE = 25
# An alias may be given to another pipeline.
_KEPT = timedelta(minutes=10)


@dataclass(frozen=True)
class Runs:
    """One page of a look.

    Attributes:
        at: When the look began.
    """

    # The status of a run that Orchestra does not know any more.
    GONE: ClassVar[str] = "GONE"

    at: datetime
    runs: tuple[PipelineRun, ...]


class RunList:
    """Lists what began lately, and what somebody follows from before."""

    def __init__(self, client: OrchestraClient) -> None:
        self._client = client
        self._followed: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()
        self._next = 0
        self._ids: dict[str, tuple[datetime, str]] = {}
        self._turn = anyio.Lock()

    async def pipeline(self, alias: str) -> str | None:
        """Return the id of a pipeline, asked for once for everybody; None where there is none."""
        async with self._turn:
            now = self._client.clock.now()
            at, found = self._ids.get(alias, (now - _KEPT, ""))
            if now - at < _KEPT:
                return found
            pipeline = await self._client.pipeline(alias)
            if pipeline is not None:
                self._ids[alias] = (now, pipeline.id)
            return pipeline.id if pipeline else None

    def follow(self, who: object, runs: Iterable[str]) -> None:
        """Note which runs somebody follows; instead of those of before."""
        self._followed[who] = frozenset(runs)

    async def read(self, span: timedelta) -> AsyncGenerator[Runs, None]:
        """Return pages of the runs that began within that time, and of those that are followed; at least one page."""
        now = self._client.clock.now()
        wanted = sorted(frozenset().union(*self._followed.values()))
        missing = set(wanted)
        begin = max(now - span, now + _AHEAD - LONGEST_WINDOW) if span <= LONGEST_WINDOW else now - span
        listed = self._client.runs(time_from=begin, time_to=now + _AHEAD)
        async with contextlib.aclosing(listed) as pages:
            async for page in pages:
                missing.difference_update(run.id for run in page)
                yield Runs(now, tuple(page))
        older = sorted(missing)
        until = now + _AHEAD
        for first in range(0, len(older), _IDS):
            asked = older[first : first + _IDS]
            async with contextlib.aclosing(
                self._client.runs(time_from=until - LONGEST_WINDOW, time_to=until, runs=asked)
            ) as pages:
                async for page in pages:
                    # Whatever else it lists is not what was asked for.
                    found = tuple(run for run in page if run.id in missing)
                    missing.difference_update(run.id for run in found)
                    yield Runs(now, found)
        yield Runs(now, await self._alone(sorted(missing)))

    async def unfinished(self) -> AsyncGenerator[Runs, None]:
        """Return pages of the runs that are under way, however long; at least one page."""
        now = self._client.clock.now()
        listed = self._client.runs(
            time_from=now + _AHEAD - LONGEST_WINDOW, time_to=now + _AHEAD, statuses=UNFINISHED_RUNS
        )
        async with contextlib.aclosing(listed) as pages:
            async for page in pages:
                yield Runs(now, tuple(page))
        yield Runs(now, ())

    async def _alone(self, runs: list[str]) -> tuple[PipelineRun, ...]:
        """Ask for runs that no list holds, one by one, in turns."""
        if not runs:
            return ()
        begin = self._next % len(runs)
        turn = (runs[begin:] + runs[:begin])[:_ALONE]
        self._next = begin + len(turn)
        found = []
        for run in turn:
            status = await self._client.run_status(run)
            found.append(status or PipelineRun(id=run, run_status=Runs.GONE))
        return tuple(found)
