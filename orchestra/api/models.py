"""What Orchestra's API takes and answers.

Facts: Orchestra docs, API, "Start a pipeline run", "List pipeline runs", "List task runs", "Get pipeline run status",
"List pipelines" (four of a pipeline's keys are texts that hold JSON).
Answers may hold keys that are not known here: a vendor adds some every month.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

# An unknown status is taken for unfinished.
TERMINAL = frozenset({"SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLED"})
# What lists are asked for; a pipeline run is never QUEUED, and to ask for what is not known may be refused.
UNFINISHED_RUNS = ("CREATED", "RUNNING", "CANCELLING")
UNFINISHED_TASK_RUNS = ("CREATED", "QUEUED", "RUNNING", "CANCELLING")


def _decoded(value: Any) -> Any:
    """Return what a text that holds JSON holds: some keys of a pipeline arrive that way."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _mapping(value: Any) -> Any:
    found = _decoded(value)
    return found if isinstance(found, Mapping) else {}


def _utc(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _list(value: Any) -> Any:
    found = _decoded(value)
    return found if isinstance(found, list) else []


Moment = Annotated[datetime | None, BeforeValidator(_utc)]
Object = Annotated[dict[str, Any], BeforeValidator(_mapping)]
Listing = Annotated[list[Any], BeforeValidator(_list)]


class Answer(BaseModel):
    """Something that Orchestra answered."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Started(Answer):
    """The answer to a start."""

    pipeline_run_id: str = Field(min_length=1)
    message: str | None = None


class Trigger(Answer):
    """What started a run, or what started that.

    Attributes:
        trigger_type: MANUAL, SCHEDULED, SENSOR, TRIGGER_EVENT, WEBHOOK (the API too), RESTART_ALL and its kin.
    """

    trigger_type: str | None = None
    pipeline_run_id: str | None = None
    schedule_name: str | None = None
    sensor_name: str | None = None


class ChildRun(Answer):
    """A run that a task of another run started."""

    pipeline_id: str
    pipeline_run_id: str
    pipeline_name: str | None = None


class PipelineRun(Answer):
    """A run of a pipeline."""

    id: str
    pipeline_id: str = ""
    pipeline_name: str | None = None
    account_id: str | None = None
    run_status: str
    env_id: str | None = None
    env_name: str | None = None
    message: str | None = None
    branch: str | None = None
    commit: str | None = None
    pipeline_version_number: int | None = None
    triggered_by: list[Trigger] | None = None
    child_pipeline_runs: list[ChildRun] | None = None
    created_at: Moment = None
    updated_at: Moment = None
    started_at: Moment = None
    completed_at: Moment = None

    @property
    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.run_status in TERMINAL


class TaskRun(Answer):
    """A run of a task."""

    id: str
    pipeline_run_id: str | None = None
    pipeline_id: str | None = None
    account_id: str | None = None
    task_id: str | None = None
    task_name: str | None = None
    integration: str | None = None
    integration_job: str | None = None
    status: str
    message: str | None = None
    external_status: str | None = None
    external_message: str | None = None
    platform_link: str | None = None
    task_parameters: Object = Field(default_factory=dict)
    run_parameters: Object = Field(default_factory=dict)
    connection_id: str | None = None
    number_of_attempts: int | None = None
    matrix_parent: bool | None = None
    matrix_parent_id: str | None = None
    created_at: Moment = None
    updated_at: Moment = None
    started_at: Moment = None
    completed_at: Moment = None

    @property
    def over(self) -> bool:
        """Whether it will not change any more."""
        return self.status in TERMINAL


class Pipeline(Answer):
    """A pipeline, without its definition."""

    # orchestra-cli reads both names of it in the answer to a change.
    id: str = Field(min_length=1, validation_alias=AliasChoices("id", "pipeline_id"))
    name: str | None = None
    alias: str | None = None
    paused: bool | None = None
    num_tasks: int | None = None
    inputs: Object = Field(default_factory=dict)
    schedule: Listing = Field(default_factory=list)
    sensors: Object = Field(default_factory=dict)
    trigger_events: Listing = Field(default_factory=list)
    webhook: Object = Field(default_factory=dict)
    product_id: str | None = None
    product_name: str | None = None
    storage_provider: str | None = None
    repository: str | None = None
    default_branch: str | None = None
    yaml_path: str | None = None
    # An answer to a change may say currentVersionNumber instead.
    latest_version_number: int | None = Field(
        None, validation_alias=AliasChoices("latestVersionNumber", "currentVersionNumber", "latest_version_number")
    )
    published_version_number: int | None = None
    latest_run_id: str | None = None
    latest_run_status: str | None = None
    latest_run_message: str | None = None
    latest_run_created_at: Moment = None
    latest_run_started_at: Moment = None
    latest_run_completed_at: Moment = None
    created_at: Moment = None
    updated_at: Moment = None


class Start(BaseModel):
    """What a start says; every key can be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    run_inputs: dict[str, Any] | None = None
    environment: str | None = None
    branch: str | None = None
    commit: str | None = None
    version_number: int | None = None
    task_ids: list[str] | None = None
    continue_downstream_run: bool | None = None
    retry_from_failed: bool | None = None
    environment_overrides: dict[str, dict[str, Any]] | None = None
    ci_run_id: str | None = None

    def body(self) -> dict[str, Any]:
        """Return it as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
