"""The sensor type ``orchestra``: a run of a pipeline reached a status."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orchestra.api.catalog import is_id
from orchestra.api.models import PipelineRun
from orchestra.api.transport import LONGEST_WINDOW
from orchestra.api.workspace import Workspace
from orchestra.client import connected
from orchestra.runlist import RunList, Runs
from runner.errors import RequestRefused, UsageError
from sensors.room import Room
from sensors.sensor import Event, Polled, Sensor, SensorConfig, Setting

Status = Literal["SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLED"]

# A run may be listed so much later than it began; clocks may differ by as much.
_OVERLAP = timedelta(minutes=10)
# A look may begin so much later than it was asked for.
_QUEUE = timedelta(minutes=1)
# Lists of the same span are one request for all sensors of a workspace.
_SPANS = tuple(timedelta(minutes=minutes) for minutes in (15, 60, 6 * 60, 24 * 60, 3 * 24 * 60, 7 * 24 * 60))
_LONGEST = 4 * LONGEST_WINDOW
# Right after a start SUCCEEDED may be shown before it is true; then completedAt is missing.
_SETTLED = timedelta(minutes=10)
_RESOLVED = timedelta(minutes=10)


class PipelineRunSensorConfig(SensorConfig):
    """What the sensor takes."""

    pipeline: str | list[str] = Field("*", description="alias or id, several of them, or * for all of the workspace")
    statuses: list[Status] = Field(["SUCCEEDED", "WARNING"], min_length=1, description="what is waited for")
    environment: str | None = Field(None, description="name or id of an environment; all otherwise")
    branch: str | None = Field(None, description="git branch; all otherwise")
    api_key: str | None = Field(None, repr=False, description="ORCHESTRA_API_KEY by default")
    base_url: str | None = Field(None, description="ORCHESTRA_BASE_URL by default")
    account: str | None = Field(None, description="the account, for a token that covers several")

    @field_validator("pipeline")
    @classmethod
    def _some(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("name a pipeline by its alias or id, or * for all")
        return value

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The pipelines; none stands for all."""
        names = (self.pipeline,) if isinstance(self.pipeline, str) else tuple(self.pipeline)
        return () if "*" in names else names


class _Cursor(BaseModel):
    """What is known after a poll.

    Attributes:
        since: Every run that began before is open, done, or none of ours.
        open: Runs that were not over, and when they began as far as that is known.
        done: What runs that may be listed again ended with, as keys of events.
    """

    model_config = ConfigDict(extra="forbid")

    since: datetime
    open: dict[str, datetime | None] = Field(default_factory=dict)
    done: list[str] = Field(default_factory=list)


class PipelineRunSensor(Sensor[PipelineRunSensorConfig]):
    """Fires when a run of a pipeline has ended in one of some statuses.

    A run is followed from when it is first listed until it is over, however long that takes; so the order in which runs
    end does not matter.
    """

    kind = "orchestra"
    config_model = PipelineRunSensorConfig

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        self.workspace = Workspace.of(
            api_key=self.config.api_key, base_url=self.config.base_url, account=self.config.account, folder=Path.cwd()
        )
        self._ids: tuple[datetime, frozenset[str]] | None = None
        self._first = _beginning(setting.start)

    @property
    def system(self) -> Hashable:
        return self.workspace.system

    @property
    def share(self) -> Hashable:
        return "runs"

    def describe(self) -> str:
        which = ", ".join(self.config.pipelines) or "all pipelines"
        return f"runs of {which} at {self.workspace.name} that end in {', '.join(self.config.statuses)}"

    async def poll(self, cursor: Any) -> Polled:
        self.room.limits(self.system, self.setting.limits)
        listing = await self._listing()
        ids = await self._pipelines(listing)
        if cursor is None and self._first is None:
            return await self._begin(listing, ids)
        now = self.room.clock.now()
        known = self._read(cursor, now)
        begin = known.since - _OVERLAP
        clipped = now - begin > _LONGEST
        runs, seen = await self._look(listing, known, begin)
        return self._judge(runs, seen, known, ids, begin, clipped)

    # What is looked at.

    async def _look(self, listing: RunList, known: _Cursor, begin: datetime) -> tuple[dict[str, PipelineRun], datetime]:
        listing.follow(self, known.open)
        span = _span(self.room.clock.now() - begin + _QUEUE)
        found: dict[str, PipelineRun] = {}
        seen = known.since
        async with contextlib.aclosing(self.look_pages(lambda: listing.read(span), span)) as pages:
            async for page in pages:
                found.update((run.id, run) for run in page.runs)
                seen = page.at
        return found, seen

    async def _begin(self, listing: RunList, ids: frozenset[str]) -> Polled:
        """Return where ``now`` is: what is under way is followed, what is over is left alone."""
        found: dict[str, PipelineRun] = {}
        seen = self.room.clock.now()
        # What is under way first: a run that ends between the two looks is followed all the same.
        async with contextlib.aclosing(self.look_pages(listing.unfinished, "unfinished")) as pages:
            async for page in pages:
                found.update((run.id, run) for run in page.runs)
        async with contextlib.aclosing(self.look_pages(lambda: listing.read(_SPANS[0]), _SPANS[0])) as pages:
            async for page in pages:
                for run in page.runs:
                    found.setdefault(run.id, run)
        mine = [run for run in found.values() if self._mine(run, ids)]
        over = {run.id for run in mine if self._over(run, run.created_at, seen)}
        followed = {run.id: run.created_at for run in mine if run.id not in over}
        done = [_key(run) for run in mine if run.id in over]
        return Polled(
            cursor=_Cursor(since=seen, open=followed, done=done).model_dump(mode="json"),
            note=f"{len(followed)} runs under way",
        )

    async def _listing(self) -> RunList:
        client = await connected(self.room, self.workspace)

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[RunList]:
            yield RunList(client)

        return await self.room.connection(("runs", *self.workspace.system), connect)

    async def _pipelines(self, listing: RunList) -> frozenset[str]:
        """Return the ids of the pipelines; none stands for all."""
        now = self.room.clock.now()
        if self._ids is not None and now - self._ids[0] < _RESOLVED:
            return self._ids[1]
        ids = set()
        for name in self.config.pipelines:
            found = name if is_id(name) else await self.look(partial(listing.pipeline, name), "pipeline", name)
            if found is None:
                raise RequestRefused(
                    f"There is no pipeline {name!r} in this workspace of Orchestra.",
                    guidance="Check its alias or id, and that the API key is of its workspace.",
                )
            ids.add(found.lower())
        self._ids = (now, frozenset(ids))
        return self._ids[1]

    # What it means.

    def _judge(
        self,
        runs: dict[str, PipelineRun],
        seen: datetime,
        known: _Cursor,
        ids: frozenset[str],
        begin: datetime,
        clipped: bool,
    ) -> Polled:
        done = set(known.done)
        followed = dict(known.open)
        ended: list[PipelineRun] = []
        kept: list[str] = []
        next_begin = seen - _OVERLAP
        for run in runs.values():
            if run.id not in followed and (run.created_at or seen) < begin:
                # Listed only because a longer time was asked for, with others: it was judged before.
                continue
            if run.id not in followed and not self._mine(run, ids):
                continue
            created = run.created_at or followed.get(run.id)
            if not self._over(run, created, seen):
                followed[run.id] = created
                continue
            followed.pop(run.id, None)
            if _key(run) not in done:
                ended.append(run)
            if created is None or created >= next_begin:
                kept.append(_key(run))
        gone = [run for run in known.open if run in runs and runs[run].run_status == Runs.GONE]
        for run_id in gone:
            followed.pop(run_id, None)
        ended = [run for run in ended if run.run_status in self.config.statuses]
        ended.sort(key=lambda run: (run.completed_at or run.updated_at or seen, run.id))
        notes = [f"{len(runs)} runs looked at, {len(followed)} under way"]
        if gone:
            notes.append(f"{len(gone)} are gone")
        if clipped:
            notes.append(f"nothing was looked at for more than {_LONGEST.days} days: what ended before is not seen")
        return Polled(
            events=[self._event(run) for run in ended],
            cursor=_Cursor(since=seen, open=followed, done=sorted(kept)).model_dump(mode="json"),
            note="; ".join(notes),
        )

    def _mine(self, run: PipelineRun, ids: frozenset[str]) -> bool:
        if ids and run.pipeline_id.lower() not in ids:
            return False
        if self.config.branch is not None and run.branch != self.config.branch:
            return False
        wanted = self.config.environment
        return wanted is None or wanted in (run.env_id, run.env_name)

    @staticmethod
    def _over(run: PipelineRun, created: datetime | None, now: datetime) -> bool:
        if run.run_status not in ("SUCCEEDED", "WARNING") or run.completed_at is not None:
            return run.over or run.run_status == Runs.GONE
        return created is None or now - created > _SETTLED

    def _event(self, run: PipelineRun) -> Event:
        times = {"created_at": run.created_at, "started_at": run.started_at, "completed_at": run.completed_at}
        return Event(
            key=_key(run),
            values={
                "pipeline_run_id": run.id,
                "status": run.run_status,
                "pipeline_id": run.pipeline_id,
                "pipeline_name": run.pipeline_name,
                "environment": run.env_name,
                "environment_id": run.env_id,
                "branch": run.branch,
                "commit": run.commit,
                "message": run.message,
                "url": self.workspace.run_url(run.id),
                **{name: moment.isoformat() if moment else None for name, moment in times.items()},
            },
            at=run.completed_at or run.updated_at,
        )

    def _read(self, cursor: Any, now: datetime) -> _Cursor:
        if cursor is None:
            assert self._first is not None
            # What is over when it begins counts too: no run of that time was seen.
            return _Cursor(since=(self._first or now - LONGEST_WINDOW) + _OVERLAP)
        try:
            return _Cursor.model_validate(cursor)
        except ValidationError:
            raise UsageError(
                "The cursor of this sensor is none of its own.", guidance="Give it another name."
            ) from None


def _key(run: PipelineRun) -> str:
    return f"{run.id}:{run.run_status}"


def _beginning(start: Any) -> datetime | Literal[False] | None:
    """Return the moment that a sensor begins at: None for now, False for as early as Orchestra lists runs."""
    if start == "now":
        return None
    if start == "beginning":
        return False
    try:
        moment = start if isinstance(start, datetime) else datetime.fromisoformat(str(start))
    except ValueError:
        raise UsageError(
            f"cursor: {start!r} is no time.", guidance="Give now, beginning, or a time: 2026-01-31T06:00:00Z."
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span(age: timedelta) -> timedelta:
    """Return the smallest span that is long enough, so that sensors ask for the same."""
    return next((span for span in _SPANS if span >= age), min(_LONGEST, -(-age // LONGEST_WINDOW) * LONGEST_WINDOW))
