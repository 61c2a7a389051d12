"""The pipeline of Orchestra, ``version: v1``, as models.

Keys, values and limits follow PipelineModel of Orchestra's OpenAPI document (in orchestra-mcp), and its words where it
gives a limit in words only. ``anomalies``, ``paused`` and expressions in the place of numbers and flags are not in it,
and the pipelines of orchestra-blueprints have them, so they are taken too. Parameters are open here: which ones a job
knows is in `orchestra.validation.parameters`, and an unknown one is never refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from orchestra.pipelinevalues import Flag, Whole
from orchestra.validation.locations import Located
from orchestra.validation.problems import Findings
from orchestra.validation.refusals import note_refusals
from runner.document import Path_
from runner.errors import JobFileError

MOST_RETRY_DELAY = 120
LONGEST_NAME = 100
LONGEST_MESSAGE = 200
SHORTEST_FREQUENCY, LONGEST_FREQUENCY = 60, 600
LONGEST_WINDOW = 7200

InputType = Literal["string", "number", "boolean", "dict", "list"]
AlertStatus = Literal["FAILED", "SUCCEEDED", "CANCELLED", "WARNING", "SKIPPED", "ANY_COMPLETED"]
RunStatus = Literal[
    "CREATED", "RUNNING", "SUCCEEDED", "WARNING", "FAILED", "SKIPPED", "CANCELLING", "CANCELLED"
]  # fmt: skip

Texts = list[str]


class Part(BaseModel):
    """A mapping of a pipeline."""

    model_config = ConfigDict(extra="forbid")


class Concurrency(Part):
    """How many runs of a pipeline there may be at once, of one environment and branch."""

    max_active: Annotated[int | str, Whole(0)] | None = Field(None, description="No limit without it.")


class Configuration(Part):
    """Retries and time-outs; those of a task come before those of its group and those of the pipeline."""

    retries: Annotated[int | str, Whole(0)] | None = None
    retry_delay: Annotated[int | str, Whole(0, MOST_RETRY_DELAY, "minutes")] | None = Field(
        None, description="Minutes, at most 120."
    )
    timeout: Annotated[int | str, Whole(1, unit="seconds")] | None = Field(None, description="Seconds.")
    concurrency: Concurrency | None = None


class DestinationParameters(Part):
    """DATADOG: the priority; WEBHOOK: the body."""

    priority: Annotated[int | str, Whole(1, 5)] | None = None
    body: dict[str, Any] | str | None = None


class Destination(Part):
    """Who hears of it: SLACK, EMAIL, PAGER_DUTY, MICROSOFT_TEAMS, WEBHOOK, DATADOG."""

    integration: str
    destination: str | None = Field(None, description="A channel, a member, an address.")
    connection_id: str | None = None
    parameters: DestinationParameters | None = None


class Alert(Part):
    """A message when a pipeline, a task or a sensor ends so."""

    name: str
    statuses: list[AlertStatus]
    destinations: list[Destination]
    custom_message: str | None = Field(None, max_length=LONGEST_MESSAGE)


class Anomaly(Part):
    """A message when a run takes much longer than those before it."""

    type: str = Field(description="pipeline_duration_above_baseline or task_duration_above_baseline.")
    percentage_above_baseline: float | None = None
    destinations: list[Destination] | None = None


class OperationMetadata(Part):
    """Where more is known about the operations of a task, for example a warehouse about those of dbt."""

    integration: str
    connection: str | None = None
    s3_bucket_name: str | None = None
    s3_key_prefix: str | None = None
    dbt_warehouse_identifier: str | None = None


class Task(Part):
    """One task; ``depends_on`` names tasks of its own group, or what stands beside a task that stands by itself."""

    integration: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    integration_job: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    parameters: dict[str, Any]
    depends_on: Texts = Field(default_factory=list)
    condition: str | None = None
    name: str = Field("", max_length=LONGEST_NAME)
    tags: Texts | None = None
    connection: str | None = None
    operation_metadata: dict[str, OperationMetadata] | None = None
    treat_failure_as_warning: Flag | None = None
    paused: Flag | None = None
    configuration: Configuration | None = None
    meta: dict[str, Any] | None = None
    alerts: list[Alert] | None = None
    anomalies: list[Anomaly] | None = None


class Matrix(Part):
    """One input, and the group is repeated for each of its values."""

    inputs: dict[str, list[Any] | str]
    max_parallel: Annotated[int | str, Whole(1)] | None = None
    sequential: Flag | None = None
    continue_on_error: Flag | None = None


class TaskGroup(Part):
    """Tasks that are run together; ``depends_on`` names other groups."""

    tasks: dict[str, Task]
    depends_on: Texts = Field(default_factory=list)
    condition: str | None = None
    name: str | None = Field(None, max_length=LONGEST_NAME)
    matrix: Matrix | None = None
    paused: Flag | None = None
    meta: dict[str, Any] | None = None


class Schedule(Part):
    """When it starts by itself; the cron has six fields, as that of AWS EventBridge."""

    name: str | None = None
    cron: str
    timezone: str | None = None
    environment: str | None = None
    branch: str | None = None
    run_inputs: dict[str, Any] | None = None
    exclude: Texts | None = Field(None, description="Days without a run: YYYY-MM-DD.")


class SensorCheck(Part):
    """What a sensor looks at."""

    integration: str
    sensor_type: str
    connection: str | None = None
    parameters: dict[str, Any]
    map_outputs: dict[str, str] | None = None


class Sensor(Part):
    """A start when all checks hold, once in each window; a window opens at each tick of the cron."""

    name: str = Field(max_length=LONGEST_NAME)
    cron: str
    timezone: str
    timeout_mins: Annotated[int | str, Whole(1, LONGEST_WINDOW, "minutes")]
    frequency_secs: Annotated[int | str, Whole(SHORTEST_FREQUENCY, LONGEST_FREQUENCY, "seconds")] | None = None
    environments: Texts | str | None = None
    exclude: Texts | None = None
    run_inputs: dict[str, Any] | None = None
    condition: str | None = None
    checks: dict[str, SensorCheck]
    alerts: list[Alert] | None = None


class TriggerEvent(Part):
    """A start when another pipeline ends so."""

    type: Literal["pipeline"]
    pipeline_id: str
    statuses: list[RunStatus] | None = None
    run_inputs: dict[str, Any] | None = None


class Webhook(Part):
    """A start by HTTP."""

    enabled: Flag = False
    run_inputs: dict[str, Any] | None = None
    operation_metadata: dict[str, OperationMetadata] | None = None


class PipelineInput(Part):
    """A value that each run is given."""

    type: InputType
    default: Any = None
    optional: Flag | None = None


def _node(value: Any) -> str:
    """Tell a task that stands by itself from a group."""
    if isinstance(value, BaseModel):
        return "task" if isinstance(value, Task) else "group"
    return "task" if isinstance(value, dict) and "tasks" not in value and "integration" in value else "group"


Node = Annotated[Annotated[TaskGroup, Tag("group")] | Annotated[Task, Tag("task")], Discriminator(_node)]


class Pipeline(Part):
    """A whole pipeline; the keys stand in the order in which Orchestra writes them."""

    version: Literal["v1"] = "v1"
    name: str = Field(max_length=LONGEST_NAME, description="Words with # in it are tags.")
    pipeline: dict[str, Node]
    schedule: list[Schedule] | None = None
    sensors: dict[str, Sensor] | None = None
    trigger_events: list[TriggerEvent] | None = None
    webhook: Webhook | None = None
    configuration: Configuration | None = None
    inputs: dict[str, PipelineInput] | None = None
    alerts: list[Alert] | None = None
    anomalies: list[Anomaly] | None = None
    meta: dict[str, Any] | None = None


def read_pipeline(located: Located, findings: Findings) -> Pipeline | None:
    """Return the model of a document, and note what is wrong with its keys and values.

    Unknown keys of parts that no reference describes in full are only doubted; they are left out of the model.
    """
    data = located.data
    for _ in range(2):
        try:
            return Pipeline.model_validate(data)
        except ValidationError as error:
            doubted = note_refusals(error, Pipeline, findings)
            if doubted is None:
                return None
            data = _without(data, set(doubted))
    return None


def _without(data: Any, paths: set[Path_], at: Path_ = ()) -> Any:
    if isinstance(data, dict):
        return {key: _without(one, paths, (*at, key)) for key, one in data.items() if (*at, key) not in paths}
    if isinstance(data, list):
        return [_without(one, paths, (*at, index)) for index, one in enumerate(data)]
    return data


def load_pipeline(text: str, path: Path) -> Pipeline:
    """Return the pipeline of a YAML text; `orchestra.validation.pipelinecheck` looks for more than its form.

    Args:
        path: What the text is called in messages.

    Raises:
        JobFileError: It is no pipeline; every mistake of its form, one a line.
    """
    located = Located(text)
    findings = Findings(path, located)
    note_mistakes(located, findings)
    pipeline = None if located.broken else read_pipeline(located, findings)
    problems = [problem for problem in findings.problems() if problem.severity == "error"]
    if problems or pipeline is None:
        raise JobFileError("\n".join(map(str, problems)), line=problems[0].line if problems else None)
    return pipeline


def note_mistakes(located: Located, findings: Findings) -> None:
    """Note what is wrong with a document before anything is known about pipelines."""
    for place, message, hint in located.mistakes:
        findings.add(place, message, hint)
    if located.broken or isinstance(located.data, dict):
        return
    said = "this file is empty." if located.data is None else "this is no pipeline: a pipeline is a mapping of keys."
    findings.error((), said, "A pipeline begins with `version: v1`.")
