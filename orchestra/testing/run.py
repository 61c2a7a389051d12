"""A run of a pipeline, and how time and the webhook move it on.

Facts: Orchestra docs, API, "List pipeline runs"; "Branching" (a task runs when all that it depends on ended SUCCEEDED
or WARNING, otherwise it is SKIPPED, and so is what depends on it); "Inputs" (``${{ inputs.x }}`` is put in as it is).
Conditions and matrices are not worked out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from orchestra.testing.pipeline import groups_of, stamp, tasks_of
from orchestra.testing.script import Script
from orchestra.testing.taskrun import TERMINAL, Later, TaskRun

_INPUT = re.compile(r"\$\{\{\s*inputs\.([A-Za-z_]\w*)\s*\}\}", re.IGNORECASE)
_GOOD = ("SUCCEEDED", "WARNING")


class Run(BaseModel):
    """One run of a pipeline.

    Attributes:
        definition: What runs.
        wanted: Its tasks; None for all.
        script: What becomes of its tasks; without one they all end with the run.
        ends: When it ends; None while nobody knows.
        final: What it ends with.
        stale: Seconds after its creation in which it is shown as SUCCEEDED, wrongly and without completedAt.
        listed_at: From when on lists hold it.
        tasks: Attempts at its tasks, in the order in which they were laid out; some lie in the future.
    """

    model_config = ConfigDict(extra="forbid")

    pipeline: str
    pipeline_name: str
    version: int | None
    environment: str | None
    environment_name: str | None
    definition: dict[str, Any] = Field(repr=False)
    created: datetime
    begins: datetime
    listed_at: datetime
    inputs: dict[str, Any] = Field(default_factory=dict)
    body: dict[str, Any] = Field(default_factory=dict)
    trigger: str = "MANUAL"
    wanted: list[str] | None = None
    script: Script | None = None
    ends: datetime | None = None
    final: str = "SUCCEEDED"
    message: str | None = None
    stale: float = 0.0
    cancelling: datetime | None = None
    later: Later | None = None
    id: str = Field(default_factory=lambda: str(uuid4()))
    tasks: list[TaskRun] = Field(default_factory=list, repr=False)

    def status(self, now: datetime) -> str:
        """Return how it is doing."""
        if now < self.created + timedelta(seconds=self.stale):
            return "SUCCEEDED"
        if self.later is not None and now >= self.later.at:
            return self.later.status
        if self.ends is not None and now >= self.ends:
            return self.final
        if self.cancelling is not None and now >= self.cancelling:
            return "CANCELLING"
        return "RUNNING" if now >= self.begins else "CREATED"

    def shown(self, now: datetime, account: str) -> dict[str, Any]:
        """Return it as a list does."""
        status = self.status(now)
        over = status in TERMINAL and self.ends is not None and now >= self.ends
        moments = (self.created, self.begins, self.cancelling, self.ends, self.later.at if self.later else None)
        said = self.later.message if self.later is not None and now >= self.later.at else self.message
        return {
            "id": self.id,
            "pipelineId": self.pipeline,
            "pipelineName": self.pipeline_name,
            "accountId": account,
            "envId": self.environment,
            "envName": self.environment_name,
            "runStatus": status,
            "triggeredBy": [{"triggerType": self.trigger}],
            "childPipelineRuns": [],
            "message": (said if over else None) or "",
            "createdAt": stamp(self.created),
            "updatedAt": stamp(max(one for one in moments if one is not None and one <= max(now, self.created))),
            "startedAt": stamp(self.begins) if now >= self.begins else None,
            "completedAt": stamp(self.ends) if over else None,
            "branch": self.body.get("branch"),
            "commit": self.body.get("commit"),
            "pipelineVersionNumber": self.version,
            "hasAnomalies": None,
            "anomalies": None,
            "gitLink": None,
            "data": None,
        }

    def task_runs(self, now: datetime, *, superseded: bool = False) -> list[TaskRun]:
        """Return the attempts that lists hold by now: of each task the newest, or all."""
        return [
            task
            for task in self.tasks
            if task.created <= now and (superseded or task.superseded is None or task.superseded > now)
        ]

    def given(self, account: str) -> dict[str, Any]:
        """Return what its task runs have from it."""
        return {"pipelineRunId": self.id, "pipelineId": self.pipeline, "accountId": account}

    def lay(self, shown_at: datetime | None = None) -> None:
        """Lay out what is known of its tasks.

        Args:
            shown_at: When the tasks of a run without a script appear.
        """
        if self.script is None:
            for task, node in self._tasks().items():
                one = self._attempt(task, node, shown_at or self.begins, 1)
                one.starts, one.ends, one.final = one.created, self.ends, self.final
                self.tasks.append(one)
            return
        while self._lay_next():
            pass
        if all(task.ends is not None for task in self.tasks):
            self._end()

    def settle(self, task: TaskRun, now: datetime, status: str, message: str | None) -> None:
        """Take from the webhook that a task has ended."""
        node = self._tasks().get(task.task, {})
        task.ends, task.final, task.message, task.told = now, _softened(status, node), message, None
        task.starts = min(task.starts or now, now)
        if self.script is not None and self.cancelling is None:
            self._cut(now)
            self.ends = None
            self.lay()

    def finish(self, now: datetime, status: str) -> None:
        """Let it end now, with all that is under way."""
        self.ends, self.final, self.stale = now, status, 0.0
        self.begins = min(self.begins, now)
        self._cut(now)
        for task in self.tasks:
            if task.ends is None or task.ends > now:
                task.ends, task.final = now, status

    def cancel(self, now: datetime, seconds: float | None) -> None:
        """Begin to cancel it; None seconds leave it CANCELLING until it is forced."""
        self.cancelling, self.final = now, "CANCELLED"
        self.ends = None if seconds is None else now + timedelta(seconds=seconds)
        self._cut(now)
        for task in self.tasks:
            if not task.over(now):
                task.cancelling, task.ends, task.final = now, self.ends, "CANCELLED"

    def _cut(self, now: datetime) -> None:
        """Take back what was to come; the tasks of a run without a script come all the same."""
        if self.script is not None:
            self.tasks = [task for task in self.tasks if task.created <= now]
            for task in self.tasks:
                if task.superseded is not None and task.superseded > now:
                    task.superseded = None

    def _tasks(self) -> dict[str, dict[str, Any]]:
        return {name: task for name, task in tasks_of(self.definition).items() if self._in(name)}

    def _attempt(self, task: str, node: Mapping[str, Any], created: datetime, number: int) -> TaskRun:
        return TaskRun(
            task=task,
            name=_text(_filled(node.get("name") or task, self.inputs)),
            parameters=_filled(node.get("parameters") or {}, self.inputs),
            created=created,
            attempt=number,
            integration=node.get("integration") or "PYTHON",
            job=node.get("integration_job") or "PYTHON_EXECUTE_SCRIPT",
            connection=node.get("connection"),
            depends_on=list(node.get("depends_on") or ()),
        )

    def _lay_next(self) -> bool:
        """Lay out one attempt that can be; tell whether there was one."""
        assert self.script is not None
        newest = {task.task: task for task in self.tasks}
        groups = groups_of(self.definition)
        for group in groups.values():
            before = [one for name in group.get("depends_on") or () for one in _inside(groups, name)]
            for task, node in group["tasks"].items():
                if self.wanted is not None and task not in self.wanted:
                    continue
                last = newest.get(task)
                if last is not None:
                    if not self._again(last):
                        continue
                    assert last.ends is not None
                    created = last.ends + timedelta(seconds=last.script.retry_after)
                    last.superseded = created
                    self._script(task, node, created, last.attempt + 1)
                    return True
                needed = [one for one in (*before, *(node.get("depends_on") or ())) if self._in(one)]
                found = [newest.get(one) for one in needed]
                ended = [one for one in found if one is not None and one.ends is not None and not self._again(one)]
                if len(ended) < len(needed):
                    continue
                created = max([self.begins, *(one.ends for one in ended if one.ends is not None)])
                if all(one.final in _GOOD for one in ended) and not (group.get("paused") or node.get("paused")):
                    self._script(task, node, created, 1)
                else:
                    skipped = self._attempt(task, node, created, 1)
                    skipped.ends, skipped.final = created, "SKIPPED"
                    self.tasks.append(skipped)
                return True
        return False

    def _in(self, task: str) -> bool:
        return self.wanted is None or task in self.wanted

    @staticmethod
    def _again(task: TaskRun) -> bool:
        """Tell whether another attempt follows."""
        return task.ends is not None and task.final == "FAILED" and task.attempt < len(task.script.attempts)

    def _script(self, task: str, node: Mapping[str, Any], created: datetime, number: int) -> None:
        """Lay out one attempt as the script has it."""
        assert self.script is not None
        script = self.script.of(task)
        one = self._attempt(task, node, created, number)
        wanted = script.attempts[number - 1]
        one.script, one.starts, one.message = script, created, wanted.message
        one.ends = None if wanted.seconds is None else created + timedelta(seconds=wanted.seconds)
        last = number == len(script.attempts)
        one.final = _softened(wanted.status, node) if last else wanted.status
        if last and one.takes_outputs():
            one.outputs = {name.lower(): value for name, value in script.outputs.items()}
        self.tasks.append(one)

    def _end(self) -> None:
        """Work out how it ends, now that the ends of all its tasks are known."""
        finals = {task.final for task in self.tasks if task.superseded is None}
        if len({task.task for task in self.tasks}) < len(self._tasks()):
            self.message, self.final = "The tasks depend on each other in a circle", "FAILED"
        else:
            self.final = next((one for one in ("FAILED", "CANCELLED", "WARNING") if one in finals), "SUCCEEDED")
        self.ends = max([self.begins, *(task.ends for task in self.tasks if task.ends is not None)])


def downstream(definition: Mapping[str, Any], tasks: Collection[str]) -> list[str]:
    """Return these tasks and all that depend on them."""
    groups = definition["pipeline"]
    found = set(tasks)
    while True:
        more = {
            name
            for group in groups.values()
            for name, task in group["tasks"].items()
            if found & set(task.get("depends_on") or ())
            or any(found & set(_inside(groups, one)) for one in group.get("depends_on") or ())
        }
        if more <= found:
            return sorted(found)
        found |= more


def _softened(status: str, node: Mapping[str, Any]) -> str:
    return "WARNING" if status == "FAILED" and node.get("treat_failure_as_warning") else status


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


def _inside(groups: Mapping[str, Any], name: str) -> Collection[str]:
    """Return the tasks of a group; none for a group that is not there."""
    return groups[name]["tasks"] if name in groups else ()
