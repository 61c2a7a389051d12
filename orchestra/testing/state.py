"""What a workspace of the double holds, and what can be done with it from outside of the API."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from orchestra.testing.environment import Environment
from orchestra.testing.pipeline import Pipeline, Storage, read, stamp, text_of
from orchestra.testing.run import Run
from orchestra.testing.script import Script
from orchestra.testing.store import Store
from orchestra.testing.taskrun import STATUSES, TERMINAL, TaskRun

__all__ = ["STATUSES", "TERMINAL", "Environment", "Pipeline", "Run", "Storage", "TaskRun", "Workspace", "stamp"]

_WEEK = timedelta(days=7)


class Workspace:
    """One workspace; an API key belongs to one.

    Args:
        now: The time.
        name: How accounts are listed.
        store: Where it is kept; in memory only by default. What the store has is there at once.

    Attributes:
        start_after: Seconds until a run is RUNNING. run_for: Seconds until it has ended; None leaves it to the test.
        task_delay: Seconds until the runs of its tasks are there. list_lag: Seconds until lists hold a run.
        final: What runs end with.
        stale: Seconds in which a run is shown as SUCCEEDED although it is not.
        script: What becomes of runs of pipelines that have no script of their own; None leaves it to run_for and final.
        cancel_for: Seconds in which a run is CANCELLING; None until it is forced.
        force_after: Seconds of CANCELLING after which it can be forced.
        starts: Bodies of the starts that were accepted, in order.
        connections: What ``GET /integrations/connections`` lists: ``Workspace.connect`` adds one.
        dbt_state: What ``/state/DBT_CORE`` keeps, by asset.
        federated_credentials: What ``GET /compute_resources/azure/federated_credentials`` answers.
        chance: What is in no order comes in this one.
        folder: Where files of any repository are read, for imports; None for nowhere.
    """

    def __init__(self, now: Callable[[], datetime], *, name: str = "First", store: Store | None = None) -> None:
        self.now = now
        self.name = name
        self.account = str(uuid4())
        self.pipelines: dict[str, Pipeline] = {}
        self.runs: dict[str, Run] = {}
        self.environments: dict[str, Environment] = {}
        self.connections: list[dict[str, Any]] = []
        self.dbt_state: dict[str, dict[str, Any]] = {}
        self.federated_credentials = {
            "subjectId": f"workspace:{self.account}",
            "audience": "api://AzureADTokenExchange",
        }
        self.sensor_events: list[dict[str, Any]] = []
        self.starts: list[dict[str, Any]] = []
        self.folder: Path | None = None
        self.chance = random.Random(1)  # noqa: S311 - nothing is secret
        self.start_after = 1.0
        self.run_for: float | None = None
        self.task_delay = 0.0
        self.list_lag = 0.0
        self.stale = 0.0
        self.final = "SUCCEEDED"
        self.script: Script | None = None
        self.cancel_for: float | None = 2.0
        self.force_after = 60.0
        self._store = store
        if store is not None:
            self._load(store)
        if not self.environments:
            self.environment("Production")
            self.environment("Dev")

    # What is in it.

    def add(
        self,
        alias: str | None,
        definition: str | Mapping[str, Any],
        *,
        paused: bool = False,
        published: bool = True,
        storage: Storage | None = None,
        refs: Mapping[str, str | Mapping[str, Any]] | None = None,
        script: Script | None = None,
    ) -> Pipeline:
        """Add a pipeline.

        Args:
            storage: Where its definition lives; in Orchestra by default.
            refs: Its definitions in git by branch and commit.
        """
        now = self.now()
        made = Pipeline(
            alias=alias,
            versions=[text_of(definition)],
            created=now,
            updated=now,
            paused=paused,
            published=1 if published else None,
            storage=storage or Storage(),
            refs={name: text_of(text) for name, text in (refs or {}).items()},
            script=script,
        )
        self.pipelines[made.id] = made
        self.keep(made)
        return made

    def find(self, name: str) -> Pipeline | None:
        """Return a pipeline by alias or id."""
        return next((one for one in self.pipelines.values() if name in (one.id, one.alias)), None)

    def environment(self, name: str, values: Mapping[str, Mapping[str, Any]] | None = None) -> Environment:
        """Add an environment; the first is the default."""
        now = self.now()
        kept = {key: dict(value) for key, value in (values or {}).items()}
        made = Environment(name=name, created=now, updated=now, default=not self.environments, values=kept)
        self.environments[made.id] = made
        self.keep(made)
        return made

    def connect(self, integration: str, name: str, *, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
        """Add a connection; its id is the name with five digits behind it."""
        now = stamp(self.now())
        same = [one for one in self.connections if one["integration"] == integration]
        made = {
            "integration": integration,
            "authStatus": status,
            "connectionId": f"{name}_{10_000 + len(self.connections)}",
            "connectionName": name,
            "isDefault": not same,
            "createdAt": now,
            "updatedAt": now,
            **more,
        }
        self.connections.append(made)
        return made

    def find_environment(self, name: str | None) -> Environment | None:
        """Return an environment by name or id, or the default."""
        every = self.environments.values()
        return next((one for one in every if (one.default if name is None else name in (one.id, one.name))), None)

    def task_run(self, task_run: str) -> TaskRun | None:
        """Return one attempt at a task."""
        found = self.run_of(task_run)
        return found[1] if found else None

    def run_of(self, task_run: str) -> tuple[Run, TaskRun] | None:
        """Return one attempt at a task, and the run that it belongs to."""
        now = self.now()
        for run in reversed(self.runs.values()):
            for task in run.tasks:
                if task.id == task_run and task.created <= now:
                    return run, task
        return None

    def latest_runs(self, now: datetime) -> dict[str, dict[str, Any]]:
        """Return the newest run of each pipeline, as the API shows it."""
        newest: dict[str, Run] = {}
        for run in self.runs.values():
            if run.pipeline not in newest or newest[run.pipeline].created <= run.created:
                newest[run.pipeline] = run
        return {pipeline: run.shown(now, self.account) for pipeline, run in newest.items()}

    def assets(self, now: datetime) -> list[dict[str, Any]]:
        """Return the assets that tasks have left behind by now, as the API shows them."""
        found: dict[tuple[str, str], tuple[str, datetime, datetime]] = {}
        for run in self.runs.values():
            for task in run.tasks:
                if not task.script.assets or task.ends is None or task.ends > now or task.final not in _LEFT:
                    continue
                for one in task.script.assets:
                    key = (one.integration or task.integration, one.name)
                    _, first, last = found.get(key, ("", task.ends, task.ends))
                    found[key] = (one.type, min(first, task.ends), max(last, task.ends))
        return [
            {
                "assetId": str(uuid5(NAMESPACE_URL, f"{self.account}/{integration}/{name}")),
                "accountId": self.account,
                "integration": integration,
                "assetName": name,
                "assetType": kind,
                "integrationAccountId": integration.lower(),
                "externalId": name,
                "status": "UNKNOWN",
                "createdAt": stamp(first),
                "updatedAt": stamp(last),
            }
            for (integration, name), (kind, first, last) in sorted(found.items())
        ]

    # What happens in it.

    def start(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
        trigger: str = "MANUAL",
        *,
        definition: str | None = None,
        wanted: Sequence[str] | None = None,
    ) -> Run:
        """Start a run, with inputs that were looked at.

        Args:
            definition: What runs; by default what the pipeline holds.
            wanted: The tasks that run; by default those of the body, or all.
        """
        now = self.now()
        said = dict(body or {})
        environment = self.find_environment(said.get("environment"))
        run = Run(
            pipeline=pipeline.id,
            pipeline_name=pipeline.data["name"],
            version=None if pipeline.storage.git else said.get("versionNumber") or pipeline.published,
            environment=environment.id if environment else None,
            environment_name=environment.name if environment else said.get("environment"),
            definition=read(definition) if definition is not None else pipeline.data,
            created=now,
            inputs=dict(inputs),
            body=said,
            begins=now + timedelta(seconds=self.start_after),
            listed_at=now + timedelta(seconds=self.list_lag),
            trigger=trigger,
            wanted=list(wanted) if wanted is not None else said.get("taskIds") or None,
            script=pipeline.script or self.script,
            stale=self.stale,
        )
        if run.script is None:
            run.final = self.final
            run.ends = None if self.run_for is None else now + timedelta(seconds=self.run_for)
        run.lay(now + timedelta(seconds=self.task_delay))
        self.runs[run.id] = run
        self.starts.append(said)
        self.keep(run)
        return run

    def finish(self, run: str, status: str = "SUCCEEDED") -> None:
        """Let a run end now."""
        self.runs[run].finish(self.now(), status)
        self.keep(self.runs[run])

    def sensor_event(self, kind: str, event: Any) -> None:
        """Store an event for sensors, and forget those of more than 7 days."""
        now = self.now()
        kept = [one for one in self.sensor_events if datetime.fromisoformat(one["at"]) > now - _WEEK]
        self.sensor_events = [*kept, {"type": kind, "event": event, "at": now.isoformat()}]
        self.keep_value("sensor_events", self.sensor_events)

    # Where it is kept.

    def keep(self, one: Pipeline | Run | Environment) -> None:
        """Write an object that has changed, if there is where."""
        if self._store is not None:
            self._store.put(type(one).__name__, one.id, one.model_dump_json())

    def forget(self, one: Pipeline | Environment) -> None:
        """Forget an object."""
        (self.pipelines if isinstance(one, Pipeline) else self.environments).pop(one.id)
        if self._store is not None:
            self._store.drop(type(one).__name__, one.id)

    def keep_value(self, name: str, value: Any) -> None:
        """Write something that is there once."""
        if self._store is not None:
            self._store.put("value", name, json.dumps(value))

    def _load(self, store: Store) -> None:
        self.pipelines = {name: Pipeline.model_validate_json(body) for name, body in store.all("Pipeline")}
        self.runs = {name: Run.model_validate_json(body) for name, body in store.all("Run")}
        self.environments = {name: Environment.model_validate_json(body) for name, body in store.all("Environment")}
        values = {name: json.loads(body) for name, body in store.all("value")}
        self.account = values.get("account", self.account)
        self.dbt_state = values.get("dbt_state", {})
        self.sensor_events = values.get("sensor_events", [])
        store.put("value", "account", json.dumps(self.account))


_LEFT = ("SUCCEEDED", "WARNING")
