"""One attempt at a task, and how it looks at a time.

Facts: Orchestra docs, API, "List task runs", "List operations" (names of keys and statuses); orchestra-cli 0.5.2 (names
of log files begin with the number of the attempt).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field

from orchestra.testing.pipeline import stamp
from orchestra.testing.script import OperationScript, TaskScript

RUN_STATUSES = ("CREATED", "RUNNING", "SUCCEEDED", "WARNING", "FAILED", "SKIPPED", "CANCELLING", "CANCELLED")
STATUSES = ("CREATED", "QUEUED", "RUNNING", "SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLING", "CANCELLED")
TERMINAL = frozenset({"SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLED"})
_SET_OUTPUTS = ("PYTHON", "HTTP")
_OF_COSTS = (
    *("cost", "credits", "creditsLabel", "currency", "finalCostAmount", "finalCostCurrency", "rawCostAmount"),
    *("rawCostIntegration", "rawCostLabel", "rawCostUnits"),
)
_UNSCRIPTED = TaskScript()


class Later(BaseModel):
    """What is said of a run long after its end: it was restarted, or somebody marked it."""

    model_config = ConfigDict(extra="forbid")

    at: datetime
    status: str
    message: str | None = None


class TaskRun(BaseModel):
    """One attempt at one task of a run.

    Attributes:
        created: From when on lists hold it. starts: When it is RUNNING. ends: None while nobody knows.
        final: What it ends with.
        told: What the webhook was told of it, short of an end.
        cancelling: From when on it is being cancelled.
        superseded: When the next attempt took its place.
        script: What it leaves behind.
        outputs: By name in small letters: names do not differ by case.
        logs: Files that the webhook was given.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    name: str
    parameters: dict[str, Any]
    created: datetime
    starts: datetime | None = None
    ends: datetime | None = None
    final: str = "SUCCEEDED"
    message: str | None = None
    id: str = Field(default_factory=lambda: str(uuid4()))
    integration: str = "PYTHON"
    job: str = "PYTHON_EXECUTE_SCRIPT"
    connection: str | None = None
    attempt: int = 1
    told: str | None = None
    cancelling: datetime | None = None
    superseded: datetime | None = None
    later: Later | None = None
    script: TaskScript = _UNSCRIPTED
    outputs: dict[str, Any] = Field(default_factory=dict)
    logs: dict[str, str] = Field(default_factory=dict)
    depends_on: list[str] = Field(default_factory=list)

    def status(self, now: datetime) -> str:
        """Return how it is doing."""
        if self.later is not None and now >= self.later.at:
            return self.later.status
        if self.ends is not None and now >= self.ends:
            return self.final
        if self.cancelling is not None and now >= self.cancelling:
            return "CANCELLING"
        if self.told is not None:
            return self.told
        return "RUNNING" if self.starts is not None and now >= self.starts else "CREATED"

    def over(self, now: datetime) -> bool:
        """Tell whether it has ended."""
        return self.status(now) in TERMINAL

    def takes_outputs(self) -> bool:
        """Tell whether outputs are kept: those of Python and HTTP tasks only with ``set_outputs``."""
        return not self.job.startswith(_SET_OUTPUTS) or bool(self.parameters.get("set_outputs"))

    def shown(self, now: datetime, run: Mapping[str, Any]) -> dict[str, Any]:
        """Return it as a list does; what it has from its run comes from there."""
        over = self.over(now)
        said = self.later.message if self.later is not None and now >= self.later.at else self.message
        moments = (self.created, self.starts, self.cancelling, self.ends, self.later.at if self.later else None)
        return {
            "id": self.id,
            **run,
            "taskId": self.task,
            "taskName": self.name,
            "integration": self.integration,
            "integrationJob": self.job,
            "status": self.status(now),
            "message": said if over or self.told else None,
            "externalStatus": self.final if over else None,
            "externalMessage": said if over else None,
            "platformLink": None,
            "taskParameters": self.parameters,
            "runParameters": {},
            "connectionId": self.connection,
            "computeResourceId": None,
            "numberOfAttempts": self.attempt,
            "matrixParent": False,
            "matrixParentId": None,
            "createdAt": stamp(self.created),
            "updatedAt": stamp(max(one for one in moments if one is not None and one <= now)),
            "startedAt": stamp(self.starts) if self.starts is not None and now >= self.starts else None,
            "completedAt": stamp(self.ends) if over else None,
            "dependsOn": self.depends_on,
        }

    def log_files(self, now: datetime) -> dict[str, tuple[bytes, str]]:
        """Return its log files by name: what they hold, and PENDING, WRITING or READY."""
        if self.created > now:
            return {}
        begun = self.starts is not None and now >= self.starts
        state = "READY" if self.over(now) else "WRITING" if begun else "PENDING"
        found: dict[str, tuple[bytes, str]] = {}
        if self.starts is not None:
            scripted = {name: [(line.after, line.text) for line in lines] for name, lines in self.script.log.items()}
            until = now if self.ends is None else min(now, self.ends)
            for name, lines in (scripted or self._said(now)).items():
                due = [text for after, text in lines if self.starts + timedelta(seconds=after) <= until and begun]
                found[f"{self.attempt}/{name}"] = ("".join(f"{text}\n" for text in due).encode(), state)
        return found | {f"{self.attempt}/{name}": (text.encode(), "READY") for name, text in self.logs.items()}

    def _said(self, now: datetime) -> dict[str, list[tuple[float, str]]]:
        """Return the log of a task for which no script has one."""
        commands = str(self.parameters.get("commands") or self.parameters.get("command") or self.job).split(";")
        last = [(0.0, f"The task has ended: {self.final}")] if self.over(now) else []
        return {name.strip(): [(0.0, f"$ {name.strip()}"), *last] for name in commands if name.strip()}

    def artifacts(self, now: datetime) -> dict[str, str]:
        """Return its artifacts by name."""
        return self.script.artifacts if self.over(now) and self.starts is not None else {}

    def operations(self, now: datetime) -> Sequence[OperationScript]:
        """Return its operations, all recorded at its end."""
        known = self.ends is not None and self.starts is not None and now >= self.ends
        return self.script.operations if known and self.final not in ("CANCELLED", "SKIPPED") else ()

    def shown_operation(self, number: int, run: Mapping[str, Any]) -> dict[str, Any]:
        """Return one of its operations as a list does; they follow each other."""
        assert self.starts is not None
        assert self.ends is not None
        one = self.script.operations[number]
        before = sum(earlier.seconds for earlier in self.script.operations[:number])
        begins = min(self.ends, self.starts + timedelta(seconds=before))
        ends = min(self.ends, begins + timedelta(seconds=one.seconds))
        return {
            "id": str(uuid5(NAMESPACE_URL, f"{self.id}/{number}")),
            "accountId": run["accountId"],
            "pipelineRunId": run["pipelineRunId"],
            "taskRunId": self.id,
            "insertedAt": stamp(self.ends),
            "message": one.message,
            "operationName": one.name,
            "operationStatus": one.status,
            "operationType": one.type,
            "externalStatus": one.status.lower(),
            "externalDetail": None,
            "externalId": one.external_id or one.name,
            "integration": self.integration,
            "integrationJob": self.job,
            "startedAt": stamp(begins),
            "completedAt": stamp(ends),
            "dependencies": one.dependencies,
            "operationDuration": round((ends - begins).total_seconds(), 3),
            "rowsAffected": one.rows,
            **dict.fromkeys(_OF_COSTS),
            "assetExternalId": None,
            "meta": None,
            "tags": None,
            "canRerun": None,
        }
