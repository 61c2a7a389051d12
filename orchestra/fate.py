"""What became of a start whose answer was lost: the run that it began, or the certainty that there is none.

Orchestra takes no idempotency key, and what a run was started with is seen only in the parameters of its tasks
(Orchestra docs, API, "List pipeline runs", "List task runs"). So a start carries a key of its own, where its pipeline
takes an input for one. Else its other inputs are looked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestra.client import OrchestraClient, is_id
from orchestra.definitions import InputUses, Verdict
from orchestra.models import PipelineRun
from orchestra.transport import LONGEST_WINDOW
from runner.errors import OutcomeUnknown, PermissionMissing, RequestRefused
from runner.tasks import task_group

# How far the clocks of Orchestra and of this machine may be apart.
SKEW = timedelta(minutes=5)
_MOST_RUNS = 1000
_ABREAST = 8
# Runs that a clock or a sensor of Orchestra began are not ours: an API key begins none of these.
_NOT_OURS = frozenset({"SCHEDULED", "SENSOR"})


@dataclass(frozen=True)
class Fate:
    """What a look found.

    Attributes:
        run: The run, once it is found.
        candidates: Runs that may be it.
    """

    run: str | None = None
    candidates: tuple[str, ...] = ()


class Target:
    """A pipeline that is started: what is known of it before.

    Args:
        pipeline: Alias or id.

    Attributes:
        id: None where it is not known.
        exists: Whether there is such a pipeline; None where we may not know.
        declared: The inputs that it takes; None where they are not known.
    """

    def __init__(
        self, client: OrchestraClient, pipeline: str, *, branch: str | None = None, commit: str | None = None
    ) -> None:
        self.client = client
        self.pipeline = pipeline
        self.exists: bool | None = None
        self.declared: frozenset[str] | None = None
        self._branch, self._commit = branch, commit
        self.id = pipeline if is_id(pipeline) else None
        self._definition: dict[str, Any] | None = None
        self._inputs: dict[str, Any] = {}
        self._before: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Find out what the pipeline takes, and which of its runs began just now.

        Raises:
            RunnerError: Orchestra cannot be asked at all.
        """
        try:
            pipeline = await self.client.pipeline(self.pipeline)
            self.exists = pipeline is not None
            if pipeline is None:
                return
            self.id = pipeline.id
            self._definition = await self.client.definition(self.pipeline, branch=self._branch, commit=self._commit)
            # Those of a branch are not those of the pipeline as it is published.
            self._inputs = {} if self._branch or self._commit else pipeline.inputs
            if self._definition is not None or self._inputs:
                own = (self._definition or {}).get("inputs")
                self.declared = frozenset({*self._inputs, *(own if isinstance(own, Mapping) else ())})
            now = self.client.clock.now()
            self._before = frozenset(run.id for run in await self._runs(now - SKEW))
        except (PermissionMissing, RequestRefused, OutcomeUnknown):
            # The key may be good for a start all the same; only such a run cannot be looked for.
            return

    def takes(self, name: str) -> bool:
        """Tell whether the pipeline takes an input, as far as that is known."""
        return name in (self.declared or ())

    def shows(self, name: str) -> bool:
        """Tell whether runs show an input."""
        return InputUses(self._definition, self._inputs, name).visible

    async def find(
        self, inputs: Mapping[str, Any], since: datetime, *, key: str | None, taken: Container[str] = ()
    ) -> Fate:
        """Look for the run that a start of unknown fate began.

        Args:
            inputs: What it was started with.
            since: When it was sent.
            key: The input that carries a key of this one start.
            taken: Runs that are known to be others.

        Raises:
            OutcomeUnknown: It cannot be looked for.
            RunnerError: Orchestra did not answer.
        """
        if self.id is None:
            raise OutcomeUnknown(f"The runs of {self.pipeline!r} cannot be seen, so it cannot be looked for.")
        runs = [one for one in await self._runs(since - SKEW) if one.id not in taken and one.id not in self._before]
        shown = {key: inputs[key]} if key and self.shows(key) else self._shown(inputs)
        uses = [(InputUses(self._definition, self._inputs, name), str(value)) for name, value in shown.items()]
        # A page may repeat what the one before it held, when runs begin meanwhile.
        ids = list(dict.fromkeys(run.id for run in runs))
        verdicts: dict[str, Verdict] = dict.fromkeys(ids, "unknown")

        async def judge(run: str) -> None:
            tasks = [one async for page in self.client.task_runs_of(run) for one in page]
            found = {use.verdict(tasks, value) for use, value in uses}
            verdicts[run] = "other" if "other" in found else "ours" if found == {"ours"} else "unknown"

        for first in range(0, len(ids) if uses else 0, _ABREAST):
            async with task_group() as group:
                for run in ids[first : first + _ABREAST]:
                    group.start_soon(judge, run)
        ours = [run for run in ids if verdicts[run] == "ours"]
        # Lists begin with the newest; whoever ran ours again by hand made another one that carries the key.
        if ours and (len(ours) == 1 or key in shown):
            return Fate(ours[-1])
        return Fate(None, tuple(run for run in ids if verdicts[run] != "other"))

    def _shown(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs that runs show as they were given: how other values are written is not known for sure."""
        return {name: value for name, value in inputs.items() if _plain(value) and self.shows(name)}

    async def _runs(self, since: datetime) -> list[PipelineRun]:
        assert self.id is not None
        until = self.client.clock.now() + SKEW
        begin = max(since, until - LONGEST_WINDOW)
        found: list[PipelineRun] = []
        runs = self.client.runs(time_from=begin, time_to=until, pipelines=[self.id])
        async with contextlib.aclosing(runs) as pages:
            async for page in pages:
                found += [run for run in page if run.pipeline_id == self.id and not _foreign(run)]
                if len(found) > _MOST_RUNS:
                    raise OutcomeUnknown(f"More than {_MOST_RUNS:,} runs of {self.pipeline!r} began since it was sent.")
        return found


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value) and value.isprintable() and not set(value) & set("'\"\\${}")
    return isinstance(value, int) and not isinstance(value, bool)


def _foreign(run: PipelineRun) -> bool:
    kinds = {trigger.trigger_type for trigger in run.triggered_by or ()}
    return bool(kinds) and kinds <= _NOT_OURS
