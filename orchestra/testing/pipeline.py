"""A pipeline as the API keeps it: versions of its definition, and where the definition lives.

Facts: Orchestra docs, API, "Get a pipeline" (names of keys; four of them are texts that hold JSON), "Create a
pipeline", "Import a pipeline"; orchestra-cli 0.5.2 (``latestVersionNumber``, ``publishedVersionNumber``).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import yaml
from pydantic import BaseModel, ConfigDict, Field

from orchestra.testing.script import Script

PROVIDERS = ("ORCHESTRA", "GITHUB", "GITLAB", "AZURE_DEVOPS", "BITBUCKET")


def stamp(moment: datetime | None) -> str | None:
    """Return a time as the API writes it."""
    return None if moment is None else moment.isoformat()


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def text_of(definition: str | Mapping[str, Any]) -> str:
    """Return a definition as YAML."""
    return definition if isinstance(definition, str) else yaml.safe_dump(dict(definition), sort_keys=False)


class Storage(BaseModel):
    """Where the definition of a pipeline lives."""

    model_config = ConfigDict(extra="forbid")

    provider: str = "ORCHESTRA"
    repository: str | None = None
    yaml_path: str | None = None
    default_branch: str | None = None
    working_branch: str | None = None

    @property
    def git(self) -> bool:
        """Whether a repository is the truth."""
        return self.provider != "ORCHESTRA"


class Pipeline(BaseModel):
    """A pipeline.

    Attributes:
        versions: Definitions as YAML; the first is version 1.
        published: The version that runs by default; None for a draft.
        refs: Definitions of a pipeline in git, by branch and by commit; what is not here is not known.
        script: What becomes of its runs; None leaves it to the workspace.
    """

    model_config = ConfigDict(extra="forbid")

    alias: str | None
    versions: list[str]
    created: datetime
    updated: datetime
    published: int | None = 1
    paused: bool = False
    id: str = Field(default_factory=lambda: str(uuid4()))
    storage: Storage = Field(default_factory=Storage)
    refs: dict[str, str] = Field(default_factory=dict)
    script: Script | None = None

    @property
    def yaml(self) -> str:
        """The definition that runs by default, or the draft if none does."""
        return self.versions[(self.published or len(self.versions)) - 1]

    @property
    def data(self) -> dict[str, Any]:
        """The same, read."""
        return _parsed(self.yaml)

    def at(self, *, version: int | None = None, ref: str | None = None) -> str | None:
        """Return the definition of a version, a branch or a commit; None for one that is not known."""
        if version is not None:
            return self.versions[version - 1] if 0 < version <= len(self.versions) else None
        if ref is not None and self.storage.git and self.refs:
            return self.refs.get(ref)
        return self.yaml

    def add(self, text: str, now: datetime, *, publish: bool) -> None:
        """Add a version; drafts are versions too."""
        self.versions.append(text)
        self.updated = now
        if publish:
            self.published = len(self.versions)

    def shown(self, latest: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return it as the API does.

        Args:
            latest: Its latest run, as the API shows it.
        """
        data = self.data
        shown = {
            "id": self.id,
            "name": data["name"],
            "alias": self.alias,
            "paused": self.paused,
            "numTasks": len(tasks_of(data)),
            "storageProvider": self.storage.provider,
            "repository": self.storage.repository,
            "yamlPath": self.storage.yaml_path or "",
            "defaultBranch": self.storage.default_branch,
            "createdAt": stamp(self.created),
            "updatedAt": stamp(self.updated),
            "inputs": data.get("inputs") or {},
            "schedule": json.dumps(data.get("schedule") or []),
            "triggerEvents": json.dumps(data.get("trigger_events") or []),
            "sensors": json.dumps(data.get("sensors") or {}),
            "webhook": json.dumps(data.get("webhook") or {"enabled": False}),
            "latestVersionNumber": len(self.versions),
            "publishedVersionNumber": self.published,
        }
        if latest is not None:
            shown |= {
                "latestRunId": latest["id"],
                "latestRunStatus": latest["runStatus"],
                "latestRunMessage": latest["message"],
                "latestRunCreatedAt": latest["createdAt"],
                "latestRunStartedAt": latest["startedAt"],
                "latestRunCompletedAt": latest["completedAt"],
            }
        return shown


def read(text: str) -> dict[str, Any]:
    """Return a definition that is YAML; not to be changed."""
    return _parsed(text)


def tasks_of(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks of a definition by id."""
    return {name: task for group in groups_of(definition).values() for name, task in group["tasks"].items()}


def groups_of(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the groups of a definition by id; a task that stands alone is a group of its own."""
    return {
        name: node
        if "tasks" in node
        else {"tasks": {name: {**node, "depends_on": []}}, "depends_on": node.get("depends_on")}
        for name, node in definition["pipeline"].items()
    }
