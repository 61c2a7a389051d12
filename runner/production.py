"""``production:`` of a job file: what the pipeline that runs the job in production is generated from.

The words of alerts and of tasks are those of Orchestra (Orchestra docs, "Alerts", "Python", "Schedules").
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runner.units import Duration

Status = Literal["FAILED", "SUCCEEDED", "CANCELLED", "WARNING", "SKIPPED", "ANY_COMPLETED"]
Connection = Annotated[
    str,
    Field(
        pattern=r"^(\$\{\{\s*[Ee][Nn][Vv]\.\w+\s*\}\}|\w+_\d{5})$",
        description="${{ ENV.NAME }}, or a connection's id, which ends in five digits",
        examples=["${{ ENV.PYTHON_CONNECTION }}"],
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlertParameters(_Strict):
    """What an alert takes besides."""

    priority: int | None = Field(None, ge=1, le=5, description="DATADOG")
    body: dict[str, Any] | str | None = Field(None, description="WEBHOOK")


class AlertDestination(_Strict):
    """Where an alert goes: SLACK and EMAIL take a destination, the others a connection."""

    integration: Literal["SLACK", "EMAIL", "PAGER_DUTY", "MICROSOFT_TEAMS", "WEBHOOK", "DATADOG"]
    destination: str | None = Field(None, min_length=1, description="a channel, a member or an address")
    connection_id: Connection | None = None
    parameters: AlertParameters | None = None

    @model_validator(mode="after")
    def _complete(self) -> AlertDestination:
        needed = "destination" if self.integration in ("SLACK", "EMAIL") else "connection_id"
        if getattr(self, needed) is None:
            raise ValueError(f"{self.integration} needs a {needed}")
        return self


class PipelineAlert(_Strict):
    """Who is told how a run of the pipeline ended."""

    name: str = Field(min_length=1)
    statuses: list[Status] = Field(["FAILED"], min_length=1)
    destinations: list[AlertDestination] = Field(min_length=1)
    custom_message: str | None = Field(None, max_length=200)


class ProductionConnections(_Strict):
    """Connections of the platform; what is left out is the workspace's default for that integration."""

    python: Connection | None = Field(None, description="the repository, and the secrets that the job refers to")
    dbt: Connection | None = None
    test: Connection | None = Field(None, description="the destination, for the data-quality tasks")


class Quality(_Strict):
    """What is tested in the destination after a load.

    ``freshness`` is by table, as under ``tables:``: how far behind the newest value of the cursor may be before there
    is a warning; after ``error_after`` times that it is an error.
    """

    keys: bool = Field(True, description="keys are unique and not null")
    counts: bool = Field(True, description="as many rows as the record of the last load says")
    freshness: dict[str, Duration] = Field(default_factory=dict, description="pattern: how old a warning is")
    error_after: int = Field(3, ge=2, le=10, description="an error after so many times the freshness")
    exclude: list[str] = Field(default_factory=list, description="patterns of tables that are not tested")
    parameters: dict[str, str] = Field(
        default_factory=dict, description="further parameters of the test tasks: role, location, warehouse_id"
    )

    @field_validator("freshness")
    @classmethod
    def _seconds(cls, freshness: dict[str, timedelta]) -> dict[str, timedelta]:
        if any(age < timedelta(minutes=1) for age in freshness.values()):
            raise ValueError("a freshness of less than a minute")
        return freshness


class Production(_Strict):
    """What the generated production pipeline needs to know; ``runner orchestra generate`` reads it."""

    schedule: str | None = Field(
        None, description="minute hour day-of-month month day-of-week year", examples=["30 5 * * ? *"]
    )
    timezone: str = "UTC"
    environment: str | None = Field(None, description="the environment of this job file that production runs")
    style: Literal["matrix", "tasks"] = Field("matrix", description="one repeated task, or a task for each table")
    max_parallel: int = Field(8, ge=1, description="tables in work at once")
    batch_small: int | None = Field(None, ge=2, description="so many small tables share one task")
    retries: int = Field(2, ge=0)
    retry_delay: Duration = Field(timedelta(minutes=5), description="whole minutes, at most 2h")
    timeout: Duration = Field(timedelta(hours=1), description="of one task, whole seconds")
    connections: ProductionConnections = Field(default_factory=lambda: ProductionConnections())
    python_version: Literal["3.11", "3.12"] = "3.12"
    package_manager: Literal["PIP", "UV", "POETRY"] = "PIP"
    build_command: str | None = Field(None, description="by default installs the project with the extras it needs")
    project_dir: str | None = Field(None, description="the project inside its repository")
    shallow_clone_dirs: str | None = Field(None, description="only these folders are cloned")
    branch: str | None = Field(None, description="of the code; by default that of the connection")
    quality: Quality = Field(default_factory=lambda: Quality())
    alerts: list[PipelineAlert] = Field(default_factory=list)

    @field_validator("retry_delay")
    @classmethod
    def _minutes(cls, delay: timedelta) -> timedelta:
        if delay % timedelta(minutes=1) or delay > timedelta(hours=2):
            raise ValueError("whole minutes are needed, at most 120")
        return delay

    @field_validator("timeout")
    @classmethod
    def _whole(cls, timeout: timedelta) -> timedelta:
        if timeout % timedelta(seconds=1) or timeout < timedelta(seconds=1):
            raise ValueError("whole seconds are needed")
        return timeout

    @field_validator("python_version", mode="before")
    @classmethod
    def _text(cls, version: Any) -> Any:
        return str(version) if isinstance(version, float) else version

    @field_validator("schedule")
    @classmethod
    def _six_fields(cls, schedule: str | None) -> str | None:
        fields = (schedule or "").split()
        if schedule is not None and (len(fields) != 6 or (fields[2] == "?") == (fields[4] == "?")):
            raise ValueError(
                "six fields are needed, minute hour day-of-month month day-of-week year, and exactly one of the days "
                "is ?: 30 5 * * ? * is half past five every day"
            )
        return schedule

    @field_validator("alerts")
    @classmethod
    def _names(cls, alerts: list[PipelineAlert]) -> list[PipelineAlert]:
        if len({one.name for one in alerts}) < len(alerts):
            raise ValueError("two alerts have one name")
        return alerts
