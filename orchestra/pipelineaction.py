"""The action ``pipeline``: start a run of a pipeline for an event, exactly once.

Orchestra takes no idempotency key. So the run key goes along as an input of the pipeline, and after a start whose fate
is unknown the runs that began since are looked through: the parameters of their tasks show the input (Orchestra docs,
API, "List task runs").
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from pydantic import Field, field_validator

from orchestra.client import OrchestraClient, connected, is_id
from orchestra.definitions import InputUses, Verdict
from orchestra.models import PipelineRun, Start
from orchestra.transport import LONGEST_WINDOW
from orchestra.workspace import Workspace
from runner.errors import (
    CredentialsRejected,
    NotDelivered,
    OutcomeUnknown,
    Parked,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    Throttled,
    UsageError,
)
from runner.tasks import task_group
from runner.units import Duration
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.room import Room
from sensors.templates import render

# How far the clocks of Orchestra and of this machine may be apart.
_SKEW = timedelta(minutes=5)
# A start may take that long from when it was handed over until its run is listed.
_GRACE = timedelta(seconds=60)
# What must be known of the pipeline before a start is asked for in that time; it is kept for as long.
_PREPARE = 20.0
_KEPT = timedelta(minutes=5)
_ASK_AGAIN = 15.0
_MOST_RUNS = 1000
_ABREAST = 8
# Runs that a clock or a sensor of Orchestra began are not ours: an API key begins none of these.
_NOT_OURS = frozenset({"SCHEDULED", "SENSOR"})


class PipelineActionConfig(ActionConfig):
    """What the action takes."""

    pipeline: str = Field(min_length=1, description="alias or id of the pipeline")
    inputs: dict[str, Any] = Field(default_factory=dict, description="inputs of the pipeline; templates over the event")
    environment: str | None = Field(None, description="name or id of the environment; the default one otherwise")
    branch: str | None = Field(None, description="git branch of the pipeline")
    run_key_input: str = Field("run_key", min_length=1, description="the input that carries the run key")
    api_key: str | None = Field(None, repr=False, description="ORCHESTRA_API_KEY by default")
    base_url: str | None = Field(None, description="ORCHESTRA_BASE_URL by default")
    account: str | None = Field(None, description="the account, for a token that covers several")
    lookup_for: Duration = Field(
        timedelta(minutes=30), ge=timedelta(minutes=1), description="how long an uncertain start is looked for"
    )

    @field_validator("pipeline")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if any(sign in value for sign in "/?#") or value != value.strip():
            raise ValueError("an alias or an id is meant, not an address")
        return value


class PipelineAction(Action[PipelineActionConfig]):
    """Starts a run of a pipeline."""

    kind = "pipeline"
    config_model = PipelineActionConfig
    promise = "exactly once"

    def __init__(self, options: Mapping[str, Any], room: Room, folder: Path) -> None:
        super().__init__(options, room, folder)
        if self.config.run_key_input in self.config.inputs:
            raise UsageError(
                f"inputs: {self.config.run_key_input!r} is the input that carries the run key.",
                guidance="Leave it out, or name the input for the run key with run_key_input.",
            )
        self.workspace = Workspace.of(
            api_key=self.config.api_key, base_url=self.config.base_url, account=self.config.account, folder=folder
        )
        self._known: tuple[datetime, _Known] | None = None

    def describe(self) -> str:
        return f"starts the pipeline {self.config.pipeline}"

    async def send(self, delivery: Delivery) -> Sent:
        inputs = render(self.config.inputs, delivery.names())
        client = await self._client()
        client.check_pause()
        with anyio.move_on_after(_PREPARE) as scope:
            try:
                known = await self._pipeline(client)
            except (CredentialsRejected, PermissionMissing, RequestRefused):
                # The key may be good for a start all the same; only such a run cannot be looked for.
                known = _Known(None, InputUses(None, {}, self.config.run_key_input))
            except RunnerError as error:
                raise _not_yet(error) from error
        if scope.cancelled_caught:
            raise NotDelivered("Orchestra did not say in time what the pipeline takes.", retry_after=_ASK_AGAIN)
        if known.uses.declared or known.uses.visible:
            inputs[self.config.run_key_input] = delivery.run_key
        started = await client.start(
            self.config.pipeline,
            Start(run_inputs=inputs or None, environment=self.config.environment, branch=self.config.branch),
        )
        return self._sent(started.pipeline_run_id)

    async def find(self, delivery: Delivery) -> Sent | None:
        client = await self._client()
        first = delivery.sent_at or delivery.at
        # The first attempt may have been refused long before the one whose fate is unknown.
        last = delivery.tried_at or first
        age = self.room.clock.now() - last
        try:
            run, unclear = await self._search(client, first, delivery.run_key)
        except OutcomeUnknown:
            raise
        except RunnerError as error:
            if error.retriable or age < self.config.lookup_for:
                raise _not_yet(error) from error
            raise OutcomeUnknown(
                f"Whether the pipeline {self.config.pipeline!r} was started cannot be found out: {error.message}"
            ) from error
        if run is not None:
            return self._sent(run)
        if unclear:
            which = ", ".join(self.workspace.run_url(one) for one in unclear[:3])
            if age < self.config.lookup_for:
                raise NotDelivered(f"It does not show yet whose runs these are: {which}", retry_after=_ASK_AGAIN)
            raise OutcomeUnknown(
                f"The pipeline {self.config.pipeline!r} may have been started: "
                f"{len(unclear)} of its runs do not show their run key ({which})."
            )
        grace = (last + _GRACE - self.room.clock.now()).total_seconds()
        if grace > 0:
            raise NotDelivered("A run may still appear in Orchestra's list.", retry_after=grace)
        return None

    async def _search(self, client: OrchestraClient, since: datetime, run_key: str) -> tuple[str | None, list[str]]:
        """Return the run that carries the run key, and the runs of which it cannot be told."""
        known = await self._pipeline(client)
        if known.id is None:
            raise OutcomeUnknown(
                f"There is no pipeline {self.config.pipeline!r} in this workspace any more, so its runs cannot be seen."
            )
        now = self.room.clock.now()
        until = now + _SKEW
        begin = max(since - _SKEW, until - LONGEST_WINDOW)
        candidates: list[PipelineRun] = []
        async with contextlib.aclosing(client.runs(time_from=begin, time_to=until, pipelines=[known.id])) as pages:
            async for page in pages:
                candidates += [run for run in page if run.pipeline_id == known.id and not _foreign(run)]
                if len(candidates) > _MOST_RUNS:
                    raise OutcomeUnknown(
                        f"More than {_MOST_RUNS:,} runs of {self.config.pipeline!r} began since it was sent."
                    )
        # A page may repeat what the one before it held, when runs begin meanwhile.
        ids = list(dict.fromkeys(run.id for run in candidates))
        if ids and not known.uses.visible:
            raise OutcomeUnknown(
                f"The pipeline {self.config.pipeline!r} may have been started: {len(ids)} of its runs began since, and "
                "they do not show their run key.",
                guidance=f"Put ${{{{ inputs.{self.config.run_key_input} }}}} into a parameter of its first task: then "
                f"its runs are told apart. {OutcomeUnknown.guidance}",
            )
        verdicts: dict[str, Verdict] = {}

        async def judge(run: str) -> None:
            verdicts[run] = known.uses.verdict(
                [one async for page in client.task_runs_of(run) for one in page], run_key
            )

        for first in range(0, len(ids), _ABREAST):
            async with task_group() as group:
                for run in ids[first : first + _ABREAST]:
                    group.start_soon(judge, run)
            # Lists begin with the newest; whoever ran ours again by hand made another one that carries the run key.
            ours = [run for run in ids if verdicts.get(run) == "ours"]
            if ours:
                return ours[-1], []
        unclear = [run for run in ids if verdicts[run] == "unknown"]
        if not unclear and begin > since - _SKEW:
            raise OutcomeUnknown(
                f"It was sent more than {LONGEST_WINDOW.days} days ago, and Orchestra lists no runs as old as that."
            )
        return None, unclear

    async def _pipeline(self, client: OrchestraClient) -> _Known:
        now = self.room.clock.now()
        if self._known is not None and now - self._known[0] < _KEPT:
            return self._known[1]
        pipeline = await client.pipeline(self.config.pipeline)
        definition = await client.definition(self.config.pipeline, branch=self.config.branch)
        uses = InputUses(definition, pipeline.inputs if pipeline else {}, self.config.run_key_input)
        name = self.config.pipeline
        known = _Known(pipeline.id if pipeline else (name if is_id(name) else None), uses)
        if pipeline is not None and definition is not None:
            self._known = (now, known)
        return known

    async def _client(self) -> OrchestraClient:
        return await connected(self.room, self.workspace)

    def _sent(self, run: str) -> Sent:
        return Sent(run, {"pipeline_run_id": run, "url": self.workspace.run_url(run)})


class _Known:
    """What is known of the pipeline.

    Attributes:
        id: None where there is no such pipeline.
    """

    def __init__(self, pipeline: str | None, uses: InputUses) -> None:
        self.id = pipeline
        self.uses = uses


def _foreign(run: PipelineRun) -> bool:
    kinds = {trigger.trigger_type for trigger in run.triggered_by or ()}
    return bool(kinds) and kinds <= _NOT_OURS


def _not_yet(error: RunnerError) -> NotDelivered:
    wait = error.retry_after if isinstance(error, Throttled) else None
    # To wait for a turn is no attempt.
    patient = isinstance(error, Throttled | Parked)
    return NotDelivered(error.message, guidance=error.advice or None, retry_after=wait or _ASK_AGAIN, patient=patient)
