"""What Orchestra keeps beside pipelines and runs: operations, assets, connections, environments, accounts, dbt's state.

Facts: Orchestra docs, API, "List operations", "List assets", "List integration connections", "Environments", "Get
integration state", "Validate pipeline schema", and for accounts the platform API's "List workspaces".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_serializer

from orchestra.api.models import Answer, Moment


def _values(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {}


class Operation(Answer):
    """Something that a task did: a model of dbt, a query, a test.

    Attributes:
        operation_duration: Seconds.
        dependencies: External ids of other operations.
    """

    id: str
    account_id: str | None = None
    pipeline_run_id: str | None = None
    task_run_id: str | None = None
    inserted_at: Moment = None
    message: str | None = None
    operation_name: str | None = None
    operation_status: str
    operation_type: str | None = None
    external_status: str | None = None
    external_detail: str | None = None
    external_id: str | None = None
    integration: str | None = None
    integration_job: str | None = None
    started_at: Moment = None
    completed_at: Moment = None
    dependencies: list[str] | None = None
    operation_duration: float | None = None
    rows_affected: int | None = None


class Asset(Answer):
    """A table, a view, a dashboard that Orchestra knows of."""

    asset_id: str
    integration: str | None = None
    account_id: str | None = None
    asset_name: str | None = None
    asset_type: str | None = None
    external_id: str | None = None
    database_name: str | None = None
    schema_name: str | None = None
    status: str | None = None
    created_at: Moment = None
    updated_at: Moment = None


class Connection(Answer):
    """A connection of the workspace to another system, without its secrets."""

    connection_id: str
    connection_name: str | None = None
    integration: str | None = None
    auth_status: str | None = None
    is_default: bool | None = None
    created_at: Moment = None
    updated_at: Moment = None


class EnvironmentValue(Answer):
    """A variable of an environment."""

    type: Literal["string", "int", "bool", "integration_credential"]
    value: str | bool | int | float = Field(repr=False)


class Environment(Answer):
    """An environment; its values come only with one that was asked for by its id."""

    environment_id: str = Field(validation_alias=AliasChoices("environmentId", "id", "environment_id"))
    account_id: str | None = None
    name: str
    default_env: bool = False
    values: Annotated[dict[str, EnvironmentValue], BeforeValidator(_values)] = Field(default_factory=dict)
    created_at: Moment = None
    updated_at: Moment = None


class Account(Answer):
    """A workspace that the key or the token may use."""

    id: str
    name: str


class FederatedCredentials(Answer):
    """What an app registration in Azure must trust, for compute of one's own there."""

    subject_id: str
    audience: str


class DbtAsset(Answer):
    """What dbt's state orchestration knows of one model; its keys are spelled as in Python.

    Attributes:
        sources: When each source of it was loaded.
    """

    last_updated: datetime = Field(validation_alias="last_updated")
    checksum: str
    sources: dict[str, datetime] | None = None

    @field_serializer("last_updated", "sources", when_used="json")
    def _as_text(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _text(moment) for key, moment in value.items()}
        return None if value is None else _text(value)


class DbtState(Answer):
    """What dbt's state orchestration knows, by the external id of an asset."""

    state: dict[str, DbtAsset] = Field(default_factory=dict)


class SchemaProblem(Answer):
    """Something wrong with a definition.

    Attributes:
        loc: Where: keys and positions from the top of the request; some parts are names of models, not of keys.
        type: What kind, as pydantic calls it; extra_forbidden for a key that is not known.
    """

    loc: tuple[str | int, ...] = ()
    msg: str
    type: str | None = None


def _text(moment: datetime) -> str:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
