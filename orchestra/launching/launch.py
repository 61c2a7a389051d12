"""One start of a pipeline, from the trigger file to how its run ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestra.api.models import PipelineRun, Start
from orchestra.api.workspace import Workspace
from orchestra.launching.ranges import Part
from orchestra.launching.triggerfile import PipelineEntry, Trigger
from runner.errors import UsageError
from runner.secrets import redact

Status = Literal[
    "waiting",
    "starting",
    "looking",
    "started",
    "running",
    "succeeded",
    "warning",
    "skipped",
    "failed",
    "cancelled",
    "unknown",
    "not started",
]
_ENDS: Mapping[str, Status] = {
    "SUCCEEDED": "succeeded",
    "WARNING": "warning",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
_BAD: frozenset[Status] = frozenset({"skipped", "failed", "cancelled", "unknown", "not started"})
# Shorter values are words of a sentence too; longer ones are found inside words.
_LONG = 4


@dataclass(eq=False)
class Launch:
    """One start.

    Attributes:
        number: Its place in the order of starts, from 1.
        part: The days that it is for; ``into``: the inputs that hold them.
        detail: What Orchestra calls the status of the run, while that goes on.
        run: Its id, once that is known.
        attempts: How often it was sent.
        began: When it was sent first, on the monotonic clock; ``ended``: when nothing more came of it.
        error: Why it is not well; never a value of an input.
        candidates: Pages of the runs that may be this one.
        unfinished: Whether whoever asked went away before it was over.
        silent: Whether Orchestra did not answer then.
    """

    number: int
    label: str
    workspace: Workspace = field(repr=False)
    entry: PipelineEntry = field(repr=False)
    start: Start = field(repr=False)
    part: Part | None = None
    into: tuple[str, ...] = ()
    status: Status = "waiting"
    detail: str = ""
    run: str | None = None
    attempts: int = 0
    began: float | None = None
    ended: float | None = None
    error: str | None = None
    candidates: tuple[str, ...] = ()
    unfinished: bool = False
    silent: bool = False

    @property
    def pipeline(self) -> str:
        """Alias or id."""
        return self.entry.pipeline

    @property
    def name(self) -> str:
        """What it is called in lines."""
        return f"{self.label}/{self.pipeline}" + (f" {self.part}" if self.part else "")

    @property
    def url(self) -> str | None:
        """The page of its run."""
        return self.workspace.run_url(self.run) if self.run else None

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that it gives the pipeline."""
        return self.start.run_inputs or {}

    @property
    def bad(self) -> bool:
        """Whether it did not do what was asked for, or nobody knows: a run that was skipped has done nothing."""
        return self.status in _BAD and not self.unfinished

    def accept(self, run: str) -> None:
        """Note its run."""
        self.run, self.status, self.error, self.candidates = run, "started", None, ()

    def fail(self, status: Status, error: str) -> None:
        """Note that it is not well."""
        self.status, self.error = status, self._conceal(error)

    def see(self, run: PipelineRun) -> bool:
        """Note how its run is doing; tell whether that is news."""
        before = self.status, self.detail
        self.status = _ENDS.get(run.run_status, "running")
        self.detail = run.run_status.lower() if self.status == "running" else ""
        if self.status not in ("running", "succeeded") and run.message:
            self.error = self._conceal(run.message)
        return (self.status, self.detail) != before

    def _conceal(self, text: str) -> str:
        # The dates of a part are no secret, and messages are about them.
        return conceal(text, {name: value for name, value in self.inputs.items() if name not in self.into})

    def seconds(self, now: float) -> float | None:
        """Return how long it has been at it."""
        return None if self.began is None else (self.ended if self.ended is not None else now) - self.began

    def record(self, now: float) -> dict[str, Any]:
        """Return it for machines; no values of inputs."""
        seconds = self.seconds(now)
        return {
            "workspace": self.label,
            "pipeline": self.pipeline,
            "part": str(self.part) if self.part else None,
            "status": self.status,
            "run_id": self.run,
            "url": self.url,
            "run_status": self.detail.upper() or None,
            "run_inputs": sorted(self.inputs),
            "attempts": self.attempts,
            "seconds": None if seconds is None else round(seconds, 3),
            "error": self.error,
            "candidates": list(self.candidates),
        }


def plan_launches(
    trigger: Trigger,
    parts: Sequence[Part] = (),
    *,
    into: tuple[str, ...] = (),
    inputs: Mapping[str, Any] | None = None,
) -> list[Launch]:
    """Return the starts that a trigger file asks for: of each part, every pipeline.

    Args:
        into: The input that holds START..END of a part, or two for START and END.
        inputs: Inputs for all of them, over those of the file; those of a part come over both.

    Raises:
        UsageError: An input is given twice.
    """
    inputs = inputs or {}
    for name in into:
        if name in inputs:
            raise UsageError(
                f"--set {name}: this input holds the part of the range.", guidance="Leave one of them out."
            )
    launches: list[Launch] = []
    for part in parts or (None,):
        more = dict(inputs)
        if part is not None:
            more |= {into[0]: str(part)} if len(into) == 1 else {into[0]: str(part.start), into[1]: str(part.end)}
        for entry in trigger.entries:
            workspace = trigger.workspaces[entry.workspace]
            launches.append(
                Launch(len(launches) + 1, entry.workspace, workspace, entry, entry.start(more), part=part, into=into)
            )
    return launches


def conceal(text: str, inputs: Mapping[str, Any]) -> str:
    """Remove secrets, and the values of inputs, from what somebody else said."""
    text = " ".join(redact(text).split())
    values = {form for value in inputs.values() for leaf in _leaves(value) for form in _forms(leaf)}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _LONG:
            text = text.replace(value, "***")
        else:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "***", text)
        # What a server says is cut off somewhere, maybe within a value.
        for length in range(len(value) - 1, _LONG - 1, -1):
            if text.endswith(value[:length]):
                text = text[:-length] + "***"
                break
    return text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _forms(leaf: str) -> Iterator[str]:
    """Return how a value may be written in an answer."""
    for form in (leaf, json.dumps(leaf)[1:-1], repr(leaf)[1:-1]):
        if form.strip():
            yield " ".join(form.split())
