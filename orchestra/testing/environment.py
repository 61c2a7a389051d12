"""Environments of a workspace, and which of them is the default.

Facts: Orchestra docs, API, "Environments" (the first is the default; a new default takes the place of the old one; the
default is not deleted while there are others).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from orchestra.testing.pipeline import stamp

KINDS = ("string", "int", "bool", "integration_credential")


class Environment(BaseModel):
    """An environment: values by name, each ``{type, value}``."""

    model_config = ConfigDict(extra="forbid")

    name: str
    created: datetime
    updated: datetime
    default: bool = False
    values: dict[str, dict[str, Any]] = Field(default_factory=dict)
    id: str = Field(default_factory=lambda: str(uuid4()))

    def shown(self, account: str) -> dict[str, Any]:
        """Return it as a list does."""
        return {"accountId": account, "environmentId": self.id, "name": self.name, "defaultEnv": self.default}

    def shown_alone(self, account: str) -> dict[str, Any]:
        """Return all of it."""
        more = {"values": self.values, "createdAt": stamp(self.created), "updatedAt": stamp(self.updated)}
        return self.shown(account) | more
