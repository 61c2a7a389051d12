"""The trigger file: which pipelines of which workspaces are started, and with what.

Its JSON form is that of Orchestra's blueprint "Run multiple pipelines"; YAML, and what else a start takes, come on top.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from orchestra.api.models import Start
from orchestra.api.workspace import Workspace
from runner.document import Document, nearest, validate
from runner.errors import JobFileError, SecretMissing, UsageError
from runner.job import Strict

_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class WorkspaceEntry(Strict):
    """A workspace; a text alone is its ``variable``."""

    variable: str = Field(description="name of the environment variable that holds the API key", repr=False)
    base_url: str | None = Field(None, description="ORCHESTRA_BASE_URL, or Orchestra's own by default")
    account: str | None = Field(None, description="the account, for a token that covers several")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"variable": value} if isinstance(value, str) else value

    @field_validator("variable")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _VARIABLE.match(value):
            raise ValueError("the name of an environment variable is meant, which holds the API key; not the key")
        return value


class PipelineEntry(Strict):
    """A pipeline that is started."""

    workspace: str = Field(description="a label of workspaces")
    pipeline: str = Field(min_length=1, description="alias or id")
    branch: str | None = Field(None, description="git branch of the pipeline")
    commit: str | None = Field(None, description="git commit of the pipeline")
    version_number: int | None = Field(None, ge=1, description="version of a pipeline that is kept in Orchestra")
    environment: str | None = Field(None, description="name or id of the environment; the default one otherwise")
    run_inputs: dict[str, Any] = Field(default_factory=dict, repr=False, description="inputs of the pipeline")
    task_ids: list[str] | None = Field(None, min_length=1, description="only these tasks")
    retry_from_failed: bool | None = Field(None, description="go on from the tasks that failed in the last run")
    continue_downstream: bool | None = Field(None, description="with task_ids or retry_from_failed: what depends too")

    @field_validator("pipeline")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if any(sign in value for sign in "/?#") or value != value.strip():
            raise ValueError("an alias or an id is meant, not an address")
        return value

    @field_validator("run_inputs", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _partial(self) -> PipelineEntry:
        if self.continue_downstream and not (self.task_ids or self.retry_from_failed):
            raise ValueError("continue_downstream belongs to task_ids or retry_from_failed")
        return self

    def start(self, more: Mapping[str, Any]) -> Start:
        """Return what a start says.

        Args:
            more: Inputs over those of the file.
        """
        inputs = {**self.run_inputs, **more}
        return Start(
            run_inputs=inputs or None,
            environment=self.environment,
            branch=self.branch,
            commit=self.commit,
            version_number=self.version_number,
            task_ids=self.task_ids,
            retry_from_failed=self.retry_from_failed,
            continue_downstream_run=self.continue_downstream,
        )


class TriggerFile(Strict):
    """A file of pipelines that are started together."""

    workspaces: dict[str, WorkspaceEntry] = Field(min_length=1, description="label: name of the key's variable")
    pipelines: list[PipelineEntry] = Field(min_length=1)


class Trigger:
    """A trigger file with everything it refers to.

    Attributes:
        entries: The pipelines, those that ``only`` leaves out missing.
        workspaces: By label; those that an entry names.
    """

    def __init__(
        self, file: TriggerFile, document: Document, environ: Mapping[str, str], only: tuple[str, ...]
    ) -> None:
        self._document = document
        self.entries = [one for one in file.pipelines if not only or _fits(one, only)]
        if not self.entries:
            raise UsageError(
                f"--only {' '.join(only)} fits no pipeline.",
                guidance=f"There are: {', '.join(sorted({one.pipeline for one in file.pipelines}))}.",
            )
        self.workspaces: dict[str, Workspace] = {}
        # A key names one account, and the variables of this process know nothing of the others.
        environ = {name: value for name, value in environ.items() if name != "ORCHESTRA_ACCOUNT_ID"}
        problems: list[str] = []
        for label in dict.fromkeys(entry.workspace for entry in self.entries):
            entry = file.workspaces[label]
            key = environ.get(entry.variable)
            where = f"{document.path}:{document.line(('workspaces', label))}: workspaces.{label}"
            if not key:
                problems.append(f"{where}: the variable {entry.variable} is not set.")
                continue
            try:
                self.workspaces[label] = Workspace.of(
                    api_key=key, base_url=entry.base_url, account=entry.account, environ=environ
                )
            except UsageError as error:
                problems.append(f"{where}: {error.message}")
        if problems:
            raise SecretMissing(
                "\n".join(problems),
                guidance="Set each variable to the API key of its workspace, or write it into .env beside the file. "
                "A key is made in Orchestra under Settings, API Keys.",
            )


def load_triggers(path: Path, environ: Mapping[str, str], *, only: tuple[str, ...] = ()) -> Trigger:
    """Read and validate a trigger file, JSON or YAML, and find every key that it refers to.

    Args:
        environ: The variables that hold the keys.
        only: Patterns of pipelines, or of ``workspace/pipeline``.

    Raises:
        JobFileError: Wrong keys or values, each with its line.
        SecretMissing: Variables that are not set.
        UsageError: A pattern fits nothing.
    """
    document = _document(path)
    data: object = document.data
    if isinstance(data, dict) and isinstance(data.get("pipeline"), dict) and not {"workspaces", "pipelines"} & {*data}:
        raise JobFileError(
            f"{path}: this is a pipeline, not a trigger file.",
            guidance="Start it with --pipeline NAME: its alias or id in Orchestra.",
        )
    file = validate(TriggerFile, document.data, document)
    known, problems = sorted(file.workspaces), []
    for index, entry in enumerate(file.pipelines):
        if entry.workspace not in file.workspaces:
            near = nearest(entry.workspace, known)
            hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}."
            place = ("pipelines", index, "workspace")
            problems.append(document.refuse(place, f"{entry.workspace!r} is not among workspaces. {hint}"))
    if problems:
        raise JobFileError("\n".join(one.message for one in problems), **problems[0].context)
    return Trigger(file, document, environ, only)


def named_pipelines(pipelines: list[str], environ: Mapping[str, str], *, only: tuple[str, ...] = ()) -> Trigger:
    """Return what ``--pipeline`` names, in the workspace of ORCHESTRA_API_KEY.

    Raises:
        UsageError: That is no name of a pipeline, or there is no key.
    """
    entry = {"variable": "ORCHESTRA_API_KEY", "account": environ.get("ORCHESTRA_ACCOUNT_ID") or None}
    document = Document(Path("--pipeline"), text="{}")
    data = {
        "workspaces": {"default": entry},
        "pipelines": [{"workspace": "default", "pipeline": pipeline} for pipeline in pipelines],
    }
    return Trigger(validate(TriggerFile, data, document), document, environ, only)


def _document(path: Path) -> Document:
    if path.suffix.lower() != ".json":
        return Document(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return Document(path)  # which says what is wrong
    try:
        data = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise JobFileError(f"{path}:{line}: not JSON: {error}.", line=line) from None
    # For YAML a tab is no space, and one character is not two escapes; only the lines are taken from it.
    document = Document(path, _SURROGATE.sub("?", text.replace("\t", " ")))
    document.data = data
    return document


def _fits(entry: PipelineEntry, only: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(name, pattern)
        for pattern in only
        for name in (entry.pipeline, f"{entry.workspace}/{entry.pipeline}")
    )
