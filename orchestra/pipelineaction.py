"""The action ``pipeline``: start a run of a pipeline for an event, exactly once.

The run key goes along as an input of the pipeline, so that ``orchestra.api.lookup`` can find the run that a start of
unknown fate became.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from pydantic import Field, field_validator

from orchestra.api.definitions import InputUses
from orchestra.api.lookup import GRACE, Known, Lookup
from orchestra.api.models import Start
from orchestra.api.transport import LONGEST_ONCE
from orchestra.api.workspace import Workspace
from orchestra.client import OrchestraClient, connected
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
from runner.units import Duration
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.room import Room
from sensors.templates import render

# What must be known of the pipeline before a start is asked for in that time.
_PREPARE = 20.0
_ASK_AGAIN = 15.0


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
    longest = timedelta(seconds=_PREPARE) + LONGEST_ONCE

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
        self._looks: tuple[OrchestraClient, Lookup] | None = None

    def describe(self) -> str:
        return f"starts the pipeline {self.config.pipeline}"

    async def send(self, delivery: Delivery) -> Sent:
        inputs = render(self.config.inputs, delivery.names())
        client = await self._client()
        client.check_pause()
        with anyio.move_on_after(_PREPARE) as scope:
            try:
                known = await self._lookup(client).known()
            except (CredentialsRejected, PermissionMissing, RequestRefused):
                # The key may be good for a start all the same; only such a run cannot be looked for.
                known = Known(None, InputUses(None, {}, self.config.run_key_input))
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
            fate = await self._lookup(client).find(delivery.run_key, first)
        except OutcomeUnknown:
            raise
        except RunnerError as error:
            if error.retriable or age < self.config.lookup_for:
                raise _not_yet(error) from error
            raise OutcomeUnknown(
                f"Whether the pipeline {self.config.pipeline!r} was started cannot be found out: {error.message}"
            ) from error
        if fate.run is not None:
            return self._sent(fate.run)
        if fate.unclear:
            which = ", ".join(self.workspace.run_url(one) for one in fate.unclear[:3])
            if age < self.config.lookup_for:
                raise NotDelivered(f"It does not show yet whose runs these are: {which}", retry_after=_ASK_AGAIN)
            raise OutcomeUnknown(
                f"The pipeline {self.config.pipeline!r} may have been started: "
                f"{len(fate.unclear)} of its runs do not show their run key ({which})."
            )
        grace = (last + GRACE - self.room.clock.now()).total_seconds()
        if grace > 0:
            raise NotDelivered("A run may still appear in Orchestra's list.", retry_after=grace)
        return None

    def _lookup(self, client: OrchestraClient) -> Lookup:
        if self._looks is None or self._looks[0] is not client:
            looks = Lookup(client, self.config.pipeline, input=self.config.run_key_input, branch=self.config.branch)
            self._looks = (client, looks)
        return self._looks[1]

    async def _client(self) -> OrchestraClient:
        return await connected(self.room, self.workspace)

    def _sent(self, run: str) -> Sent:
        return Sent(run, {"pipeline_run_id": run, "url": self.workspace.run_url(run)})


def _not_yet(error: RunnerError) -> NotDelivered:
    wait = error.retry_after if isinstance(error, Throttled) else None
    # To wait for a turn is no attempt.
    patient = isinstance(error, Throttled | Parked)
    return NotDelivered(error.message, guidance=error.advice or None, retry_after=wait or _ASK_AGAIN, patient=patient)
