"""What a workspace of the double holds: pipelines, their runs, the runs of their tasks, and how time moves them on.

Facts: Orchestra docs, API, "List pipeline runs", "List task runs" (names of keys and statuses); "Inputs" (``${{
inputs.x }}`` is put in as raw text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import yaml

STATUSES = ("CREATED", "QUEUED", "RUNNING", "SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLING", "CANCELLED")
TERMINAL = frozenset({"SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLED"})
_INPUT = re.compile(r"\$\{\{\s*inputs\.([A-Za-z_]\w*)\s*\}\}", re.IGNORECASE)


def stamp(moment: datetime | None) -> str | None:
    """Return a time as the API writes it."""
    return None if moment is None else moment.isoformat()


@dataclass
class Pipeline:
    """A pipeline and its definition, as YAML."""

    alias: str | None
    yaml: str
    created: datetime
    paused: bool = False
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def data(self) -> dict[str, Any]:
        """The definition."""
        found: dict[str, Any] = yaml.safe_load(self.yaml)
        return found

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that it declares."""
        return self.data.get("inputs") or {}

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Its tasks by id."""
        return {name: task for group in self.data["pipeline"].values() for name, task in group["tasks"].items()}

    def shown(self) -> dict[str, Any]:
        """Return it as the API does; some keys are texts that hold JSON."""
        return {
            "id": self.id,
            "name": self.data["name"],
            "alias": self.alias,
            "paused": self.paused,
            "numTasks": len(self.tasks),
            "storageProvider": "ORCHESTRA",
            "createdAt": stamp(self.created),
            "updatedAt": stamp(self.created),
            "inputs": self.inputs,
            "schedule": "[]",
            "triggerEvents": "[]",
            "sensors": "{}",
            "webhook": '{"enabled": false}',
            "latestVersionNumber": 1,
            "publishedVersionNumber": 1,
        }


@dataclass
class TaskRun:
    """One run of one task."""

    task: str
    name: str
    parameters: dict[str, Any]
    shown_at: datetime
    id: str = field(default_factory=lambda: str(uuid4()))
    outputs: dict[str, Any] = field(default_factory=dict)
    status: str | None = None


@dataclass
class Run:
    """One run of a pipeline.

    Attributes:
        ends: When it ends by itself; None leaves that to the test.
        final: What it ends with.
        stale: Seconds after its creation in which it is shown as SUCCEEDED, wrongly and without completedAt.
        listed_at: From when on lists hold it.
    """

    pipeline: Pipeline
    created: datetime
    inputs: dict[str, Any]
    body: dict[str, Any]
    begins: datetime
    ends: datetime | None
    listed_at: datetime
    trigger: str = "MANUAL"
    final: str = "SUCCEEDED"
    stale: float = 0.0
    id: str = field(default_factory=lambda: str(uuid4()))
    tasks: list[TaskRun] = field(default_factory=list)

    def status(self, now: datetime) -> str:
        """Return how it is doing."""
        if now < self.created + timedelta(seconds=self.stale):
            return "SUCCEEDED"
        if self.ends is not None and now >= self.ends:
            return self.final
        return "RUNNING" if now >= self.begins else "CREATED"

    def shown(self, now: datetime, account: str) -> dict[str, Any]:
        """Return it as a list does."""
        status = self.status(now)
        over = status in TERMINAL and self.ends is not None and now >= self.ends
        return {
            "id": self.id,
            "pipelineId": self.pipeline.id,
            "pipelineName": self.pipeline.data["name"],
            "accountId": account,
            "envId": "7d0c5a52-0f8e-4d3c-9a57-6d6f0f0f0001",
            "envName": self.body.get("environment") or "Production",
            "runStatus": status,
            "triggeredBy": [{"triggerType": self.trigger}],
            "childPipelineRuns": [],
            "message": None,
            "createdAt": stamp(self.created),
            "updatedAt": stamp(self.ends if over else self.created),
            "startedAt": stamp(self.begins) if now >= self.begins else None,
            "completedAt": stamp(self.ends) if over else None,
            "branch": self.body.get("branch"),
            "commit": self.body.get("commit"),
            "pipelineVersionNumber": self.body.get("versionNumber") or 1,
        }

    def shown_tasks(self, now: datetime, account: str) -> list[dict[str, Any]]:
        """Return the runs of its tasks that are there by now."""
        status = self.status(now)
        return [
            {
                "id": task.id,
                "pipelineRunId": self.id,
                "pipelineId": self.pipeline.id,
                "accountId": account,
                "taskId": task.task,
                "taskName": task.name,
                "integration": "PYTHON",
                "integrationJob": "PYTHON_EXECUTE_SCRIPT",
                "status": task.status or status,
                "message": None,
                "externalStatus": None,
                "externalMessage": None,
                "platformLink": None,
                "taskParameters": task.parameters,
                "runParameters": {},
                "connectionId": None,
                "numberOfAttempts": 1,
                "createdAt": stamp(task.shown_at),
                "updatedAt": stamp(task.shown_at),
                "startedAt": stamp(task.shown_at),
                "completedAt": stamp(self.ends) if status in TERMINAL else None,
            }
            for task in self.tasks
            if task.shown_at <= now
        ]


class Workspace:
    """One workspace; an API key belongs to one.

    Args:
        now: The time.

    Attributes:
        start_after: Seconds until a run is RUNNING. run_for: Seconds until it has ended; None leaves it to the test.
        task_delay: Seconds until the runs of its tasks are there. list_lag: Seconds until lists hold a run.
        final: What runs end with.
        stale: Seconds in which a run is shown as SUCCEEDED although it is not.
        starts: Bodies of the starts that were accepted, in order.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.account = str(uuid4())
        self.pipelines: dict[str, Pipeline] = {}
        self.runs: dict[str, Run] = {}
        self.starts: list[dict[str, Any]] = []
        self.start_after = 1.0
        self.run_for: float | None = None
        self.task_delay = 0.0
        self.list_lag = 0.0
        self.stale = 0.0
        self.final = "SUCCEEDED"

    def add(self, alias: str | None, definition: str | Mapping[str, Any], *, paused: bool = False) -> Pipeline:
        """Add a pipeline."""
        text = definition if isinstance(definition, str) else yaml.safe_dump(dict(definition), sort_keys=False)
        made = Pipeline(alias, text, self.now(), paused)
        self.pipelines[made.id] = made
        return made

    def find(self, name: str) -> Pipeline | None:
        """Return a pipeline by alias or id."""
        return next((one for one in self.pipelines.values() if name in (one.id, one.alias)), None)

    def start(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
        trigger: str = "MANUAL",
    ) -> Run:
        """Start a run, with inputs that were looked at."""
        now = self.now()
        run = Run(
            pipeline=pipeline,
            created=now,
            inputs=dict(inputs),
            body=dict(body or {}),
            begins=now + timedelta(seconds=self.start_after),
            ends=None if self.run_for is None else now + timedelta(seconds=self.run_for),
            listed_at=now + timedelta(seconds=self.list_lag),
            trigger=trigger,
            final=self.final,
            stale=self.stale,
        )
        shown_at = now + timedelta(seconds=self.task_delay)
        wanted = run.body.get("taskIds")
        run.tasks = [
            TaskRun(name, task.get("name", name), _filled(task.get("parameters") or {}, run.inputs), shown_at)
            for name, task in pipeline.tasks.items()
            if wanted is None or name in wanted
        ]
        self.runs[run.id] = run
        self.starts.append(dict(body or {}))
        return run

    def finish(self, run: str, status: str = "SUCCEEDED") -> None:
        """Let a run end now."""
        one = self.runs[run]
        one.ends, one.final, one.stale = self.now(), status, 0.0
        one.begins = min(one.begins, self.now())

    def task_run(self, task_run: str) -> TaskRun | None:
        """Return the run of a task."""
        return next((task for run in self.runs.values() for task in run.tasks if task.id == task_run), None)


def _filled(value: Any, inputs: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _INPUT.sub(lambda found: _text(inputs.get(found[1])), value)
    if isinstance(value, Mapping):
        return {key: _filled(item, inputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, inputs) for item in value]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
