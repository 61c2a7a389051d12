"""What becomes of a run: for each task how long it takes, how it ends, and what it leaves behind.

Nothing is really run. A script says of each task which attempts it needs, which lines its log gets and when, and which
operations, assets and artifacts are there afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runner.errors import UsageError

Ending = Literal["SUCCEEDED", "WARNING", "FAILED", "SKIPPED", "CANCELLED"]


class Part(BaseModel):
    """A part of a script."""

    model_config = ConfigDict(extra="forbid")


class Attempt(Part):
    """One attempt at a task.

    Attributes:
        seconds: How long it runs; None until the webhook is told of its end.
        status: What it ends with. After FAILED comes the next attempt, if the script has one.
    """

    seconds: float | None = Field(default=1.0, ge=0)
    status: Ending = "SUCCEEDED"
    message: str | None = None


class Line(Part):
    """A line of a log, so many seconds after the attempt began."""

    text: str
    after: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class OperationScript(Part):
    """An operation that is there when the task has ended, such as a model that dbt has built."""

    name: str
    type: str = "OPERATION"
    status: str = "SUCCEEDED"
    seconds: float = 1.0
    rows: int | None = None
    external_id: str | None = None
    message: str | None = None
    dependencies: list[str] = Field(default_factory=list)


class AssetScript(Part):
    """An asset that is there when the task has succeeded."""

    name: str
    type: str = "TABLE"
    integration: str | None = None


class TaskScript(Part):
    """What becomes of one task.

    Attributes:
        attempts: In order; all but the last are superseded.
        retry_after: Seconds between them.
        log: Lines by name of file, without the attempt; by default a file for each command.
        artifacts: Texts by name of file.
    """

    attempts: list[Attempt] = Field(default_factory=lambda: [Attempt()], min_length=1)
    retry_after: float = Field(default=0.0, ge=0)
    log: dict[str, list[Line]] = Field(default_factory=dict)
    operations: list[OperationScript] = Field(default_factory=list)
    assets: list[AssetScript] = Field(default_factory=list)
    artifacts: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)


class Script(Part):
    """What becomes of the runs of a pipeline.

    Attributes:
        tasks: By task id. otherwise: The other tasks.
    """

    tasks: dict[str, TaskScript] = Field(default_factory=dict)
    otherwise: TaskScript = Field(default_factory=TaskScript)

    def of(self, task: str) -> TaskScript:
        """Return what becomes of a task."""
        return self.tasks.get(task, self.otherwise)


def load_script(path: Path) -> Script:
    """Read a script.

    Raises:
        UsageError: It is none.
    """
    try:
        return Script.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where}: {first['msg']}") from error
