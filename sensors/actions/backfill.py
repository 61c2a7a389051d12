"""Run a backfill or a single table, exactly once: the run key goes to the runner, which knows what it has done.

``runner backfill --run-key KEY`` does nothing when a run of that key has finished, goes on with one that was cut off,
and starts one else; the job's lock orders two of them. So to send it again is always right, and nothing needs to be
looked up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator

from runner.errors import DeliveryRefused, NotDelivered, UsageError
from runner.platform import TOLD_BY_PARENT
from runner.units import Duration
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.actions.command import execute
from sensors.room import Room
from sensors.templates import check, render

_BUSY = 15.0


class RunConfig(ActionConfig):
    """A run of the runner."""

    job: str = Field(description="the job file; a relative path begins at the folder of the sensor file")
    since: str | None = Field(None, description="template; as of `runner backfill`")
    until: str | None = None
    verify: Literal["none", "counts", "hash", "source"] | None = None
    full_refresh: bool = False
    timeout: Duration = timedelta(hours=6)

    @field_validator("since", "until")
    @classmethod
    def _templates(cls, text: str | None) -> str | None:
        check(text)
        return text


class BackfillConfig(RunConfig):
    """A backfill."""

    tables: list[str] = Field(default_factory=list, description="templates; all tables of the job by default")


class TaskConfig(RunConfig):
    """A single table."""

    table: str = Field(description="template")


ConfigT = TypeVar("ConfigT", bound=RunConfig)


class Run(Action[ConfigT]):
    """Runs the runner as a process of its own."""

    promise = "exactly once"

    def __init__(self, options: Mapping[str, Any], room: Room, folder: Path) -> None:
        super().__init__(options, room, folder)
        self.job = self.folder / self.config.job
        if not self.job.is_file():
            raise UsageError(f"{self.kind}: {self.config.job}: no such job file.", guidance="Check the path.")

    async def find(self, delivery: Delivery) -> Sent | None:
        # Whoever sends it again is told by the runner that it was done.
        return None

    async def run(self, delivery: Delivery, command: Sequence[str]) -> Sent:
        """Run a command of the runner with what all of them take."""
        names, config = delivery.names(), self.config
        words = [sys.executable, "-m", "runner", *command, "--run-key", delivery.run_key, "--json"]
        for option, template in (("--since", config.since), ("--until", config.until)):
            words += [option, str(render(template, names))] if template is not None else []
        words += ["--verify", config.verify] if config.verify else []
        words += ["--full-refresh"] if config.full_refresh else []
        words += ["--env", self.room.environment] if self.room.environment else []
        # The task of a platform is the sensor, which ends later.
        own = {TOLD_BY_PARENT: "1"}
        code, lines = await execute(words, delivery, Path.cwd(), config.timeout.total_seconds(), own)
        said = [line for line in lines if not line.startswith("{")]
        if code == 0:
            return _sent(lines)
        problem = " ".join(said[-2:]) or _last_problem(lines) or f"it ended with exit code {code}."
        if code == 3:
            raise NotDelivered(problem, retry_after=_BUSY, patient=True)
        raise NotDelivered(problem)


class Backfill(Run[BackfillConfig]):
    """Runs a backfill."""

    kind = "backfill"
    config_model = BackfillConfig

    def describe(self) -> str:
        return f"backfills {self.config.job}"

    async def send(self, delivery: Delivery) -> Sent:
        tables = [str(render(pattern, delivery.names())) for pattern in self.config.tables]
        chosen = [word for pattern in tables for word in ("--tables", pattern)]
        return await self.run(delivery, ["backfill", str(self.job), *chosen])


class Task(Run[TaskConfig]):
    """Moves a single table."""

    kind = "task"
    config_model = TaskConfig

    def describe(self) -> str:
        return f"moves {self.config.table} of {self.config.job}"

    async def send(self, delivery: Delivery) -> Sent:
        table = str(render(self.config.table, delivery.names()))
        if not table:
            raise DeliveryRefused(f"The template {self.config.table!r} gives no table.")
        return await self.run(delivery, ["task", str(self.job), "--table", table])


def _events(lines: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def _sent(lines: Sequence[str]) -> Sent:
    for event in reversed(_events(lines)):
        if event.get("action") == "run_finished":
            kept = ("run", "rows", "published")
            return Sent(event.get("run"), {name: event[name] for name in kept if name in event})
        if event.get("action") == "already_done":
            return Sent(event.get("run"), {"run": event.get("run")})
    return Sent()


def _last_problem(lines: Sequence[str]) -> str | None:
    for event in reversed(_events(lines)):
        if event.get("level") == "error":
            return str(event.get("message") or event.get("error") or event.get("action"))
    return None
