"""Finding the run that a start of unknown fate became.

Orchestra takes no idempotency key. So a value of one's own goes along as an input of the pipeline, and the runs that
began since are looked through: the parameters of their tasks show the input (Orchestra docs, API, "List task runs").
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestra.api.definitions import InputUses, Verdict
from orchestra.api.models import PipelineRun
from orchestra.api.transport import LONGEST_WINDOW
from orchestra.client import OrchestraClient, is_id
from runner.errors import OutcomeUnknown
from runner.tasks import task_group

# After the end of a request its run may take that long until it is listed.
GRACE = timedelta(seconds=60)
# How far the clocks of Orchestra and of this machine may be apart.
SKEW = timedelta(minutes=5)
_KEPT = timedelta(minutes=5)
_MOST_RUNS = 1000
_ABREAST = 8
# Runs that a clock, a sensor or another pipeline began are not ours: an API key begins none of these.
_NOT_OURS = frozenset({"SCHEDULED", "SENSOR", "TRIGGER_EVENT"})


@dataclass(frozen=True)
class Known:
    """What is known of a pipeline.

    Attributes:
        id: None where there is no such pipeline.
        uses: Where it puts the input.
    """

    id: str | None
    uses: InputUses


@dataclass(frozen=True)
class Fate:
    """What a start became.

    Attributes:
        run: The run that shows the value.
        unclear: Runs of which it cannot be told (yet). Without these and without a run, none began; one may still
            appear within ``GRACE`` of the start.
    """

    run: str | None = None
    unclear: tuple[str, ...] = ()


class Lookup:
    """Finds runs of one pipeline by one of its inputs; what it learns of the pipeline is kept for minutes.

    Args:
        pipeline: Alias or id.
        input: The input that carries the value.
        branch: Git branch that the pipeline is started from.
    """

    def __init__(
        self,
        client: OrchestraClient,
        pipeline: str,
        *,
        input: str,  # noqa: A002
        branch: str | None = None,
    ) -> None:
        self._client = client
        self._pipeline = pipeline
        self._input = input
        self._branch = branch
        self._known: tuple[datetime, Known] | None = None

    async def known(self) -> Known:
        """Return what is known of the pipeline; asked for anew when it is old.

        Raises:
            RunnerError: It cannot be read.
        """
        now = self._client.clock.now()
        if self._known is not None and now - self._known[0] < _KEPT:
            return self._known[1]
        pipeline = await self._client.pipeline(self._pipeline)
        definition = await self._client.definition(self._pipeline, branch=self._branch)
        uses = InputUses(definition, pipeline.inputs if pipeline else {}, self._input)
        known = Known(pipeline.id if pipeline else (self._pipeline if is_id(self._pipeline) else None), uses)
        if pipeline is not None and definition is not None:
            self._known = (now, known)
        return known

    async def find(self, value: str, since: datetime) -> Fate:
        """Look for the run that carries a value.

        Args:
            since: When the start was handed over, by the clock of this machine.

        Raises:
            OutcomeUnknown: It cannot be found out, now or later; ``context["runs"]`` has the pages of runs it may be.
            RunnerError: Orchestra cannot be asked.
        """
        known = await self.known()
        if known.id is None:
            raise OutcomeUnknown(
                f"There is no pipeline {self._pipeline!r} in this workspace any more, so its runs cannot be seen."
            )
        begin, ids = await began(self._client, known.id, since)
        if ids and not known.uses.visible:
            raise OutcomeUnknown(
                f"The pipeline {self._pipeline!r} may have been started: {len(ids)} of its runs began since, and "
                "they do not show their run key.",
                guidance=f"Put ${{{{ inputs.{self._input} }}}} into a parameter of its first task: then "
                f"its runs are told apart. {OutcomeUnknown.guidance}",
                runs=[self._client.workspace.run_url(one) for one in ids],
            )
        verdicts = await judge(self._client, ids, [(known.uses, value)], one=True)
        # Lists begin with the newest; whoever ran ours again by hand made another one that carries the value.
        ours = [run for run in ids if verdicts.get(run) == "ours"]
        if ours:
            return Fate(ours[-1])
        unclear = tuple(run for run in ids if verdicts[run] == "unknown")
        if not unclear and begin > since - SKEW:
            raise OutcomeUnknown(
                f"It was sent more than {LONGEST_WINDOW.days} days ago, and Orchestra lists no runs as old as that."
            )
        return Fate(None, unclear)


async def began(client: OrchestraClient, pipeline: str, since: datetime) -> tuple[datetime, list[str]]:
    """Return from when on runs are listed, and those of a pipeline that an API key may have begun, newest first.

    Args:
        pipeline: Its id.
        since: By the clock of this machine.

    Raises:
        OutcomeUnknown: They are too many.
        RunnerError: Orchestra cannot be asked.
    """
    until = client.clock.now() + SKEW
    begin = max(since - SKEW, until - LONGEST_WINDOW)
    found: list[str] = []
    async with contextlib.aclosing(client.runs(time_from=begin, time_to=until, pipelines=[pipeline])) as pages:
        async for page in pages:
            found += [run.id for run in page if run.pipeline_id == pipeline and not _foreign(run)]
            if len(found) > _MOST_RUNS:
                raise OutcomeUnknown(f"More than {_MOST_RUNS:,} runs of the pipeline began since it was sent.")
    # A page may repeat what the one before it held, when runs begin meanwhile.
    return begin, list(dict.fromkeys(found))


async def judge(
    client: OrchestraClient, runs: Sequence[str], uses: Sequence[tuple[InputUses, str]], *, one: bool
) -> dict[str, Verdict]:
    """Tell which runs were started with certain values: those that show every one of them.

    Args:
        uses: Each input, and its value as text.
        one: Whether one that is ours is enough: the runs after it are not looked at.
    """
    verdicts: dict[str, Verdict] = {}

    async def look(run: str) -> None:
        async with contextlib.aclosing(client.task_runs_of(run)) as pages:
            tasks = [one async for page in pages for one in page]
        found = {use.verdict(tasks, value) for use, value in uses}
        verdicts[run] = "other" if "other" in found else "ours" if found == {"ours"} else "unknown"

    for first in range(0, len(runs), _ABREAST):
        async with task_group() as group:
            for run in runs[first : first + _ABREAST]:
                group.start_soon(look, run)
        if one and "ours" in verdicts.values():
            break
    return verdicts


async def find_run(
    client: OrchestraClient,
    pipeline: str,
    *,
    input: str,  # noqa: A002
    value: str,
    since: datetime,
    branch: str | None = None,
) -> Fate:
    """Look once for the run of a pipeline that was started with a value, as ``Lookup``."""
    return await Lookup(client, pipeline, input=input, branch=branch).find(value, since)


def _foreign(run: PipelineRun) -> bool:
    kinds = {trigger.trigger_type for trigger in run.triggered_by or ()}
    return bool(kinds) and kinds <= _NOT_OURS
