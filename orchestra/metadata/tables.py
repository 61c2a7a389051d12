"""The tables of a workspace's metadata: their columns, and how an answer's objects become rows.

Facts: Orchestra docs, API, "List pipeline runs", "List task runs", "List operations", "List assets", "List pipelines",
"List environments", "List connections" (names of keys). The columns are fixed; what an object holds beyond them, or
holds in another form than its column, is kept as JSON in ``other_keys``: a table's columns change with this file alone.
Left out is what may hold secrets: ``data`` of a run, its definition with the values of its environment, and everything
of environments and connections that has no column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pydantic.alias_generators import to_snake

from connectors.http.answers import parse_json
from connectors.records import json_text
from orchestra.api.models import UNFINISHED_RUNS, UNFINISHED_TASK_RUNS
from runner.source import Column, Table

SCHEMA = "orchestra"
OTHER = "other_keys"
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "json": pa.string(),
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6}0*)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class Resource:
    """What the API lists at one path.

    Attributes:
        path: After the base address.
        key: The column that makes a row unique.
        keys: Key of an answer to the kind of its column, but for the key itself, which is text.
        cursor: The column that windows of time are of; None for a list without them.
        unfinished: The statuses that its rows may still leave.
        paged: Whether the list comes in pages.
        order: What the list is asked to be sorted by, where its own order leaves many rows at the same place.
        left_out: Keys that may hold secrets.
        closed: Whether all other keys are left out: they may hold secrets.
    """

    name: str
    path: str
    key: str
    keys: Mapping[str, str]
    comment: str
    cursor: str | None = None
    unfinished: tuple[str, ...] = ()
    paged: bool = True
    order: str | None = None
    left_out: frozenset[str] = frozenset()
    closed: bool = False

    @property
    def column_of(self) -> dict[str, Column]:
        """The column of each key of an answer that has one."""
        native = {self.key: "text", **self.keys}
        return {
            key: Column(to_snake(key), _TYPES[kind], nullable=key != self.key, native=kind, json=kind == "json")
            for key, kind in native.items()
        }

    def table(self, lag: str) -> Table:
        """Return it as a table of a source.

        Args:
            lag: How far behind its mark it is read again, where it has a cursor.
        """
        columns = tuple(self.column_of.values())
        if not self.closed:
            columns += (Column(OTHER, pa.string(), native="json", json=True),)
        known = {"mode": "incremental", "cursor": self.cursor, "lag": lag} if self.cursor else {"mode": "full"}
        return Table(
            SCHEMA,
            self.name,
            columns,
            primary_key=(to_snake(self.key),),
            kind="object",
            indexed=(self.cursor,) if self.cursor else (),
            comment=self.comment,
            defaults=known,
        )

    def row(self, item: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
        """Return an object of an answer as a row.

        Args:
            columns: The columns by key, as ``column_of`` has them.
        """
        row: dict[str, Any] = {}
        other: dict[str, Any] = {}
        for key, value in item.items():
            column = columns.get(key)
            if column is None:
                if key not in self.left_out:
                    other[key] = value
                continue
            try:
                row[column.name] = None if value is None else _fitting(value, column.native)
            except ValueError:
                other[key] = value
        if not self.closed:
            row[OTHER] = other or None
        return row


def _fitting(value: Any, kind: str) -> Any:
    """Return a value as its column takes it.

    Raises:
        ValueError: It is none of that kind.
    """
    if kind == "json":
        return _decoded(value)
    if kind == "text":
        return value if isinstance(value, str) else json_text(value)
    if kind == "timestamp" and isinstance(value, str) and _MOMENT.fullmatch(value):
        datetime.fromisoformat(value)
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "integer" and type(value) in (int, float, Decimal) and value % 1 == 0 and abs(value) < 2**63:
        return int(value)
    if kind == "number" and type(value) is float:
        return value
    if (
        kind == "number"
        and type(value) in (int, Decimal)
        and abs(value) < 2**63
        and Decimal(repr(float(value))) == value
    ):
        return float(value)
    raise ValueError(value)


def _decoded(value: Any) -> Any:
    """Return the list or object that a text holds: some keys of a pipeline arrive that way."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return parse_json(value.encode())
    except ValueError:
        return value


_TIMES = {"createdAt": "timestamp", "updatedAt": "timestamp"}
_RUN = {"startedAt": "timestamp", "completedAt": "timestamp"}

RESOURCES: dict[str, Resource] = {
    one.name: one
    for one in (
        Resource(
            "pipelines",
            "pipelines",
            "id",
            {
                **dict.fromkeys(("name", "alias"), "text"),
                "paused": "boolean",
                "numTasks": "integer",
                **_TIMES,
                **dict.fromkeys(("storageProvider", "repository", "defaultBranch", "yamlPath"), "text"),
                **dict.fromkeys(("productId", "productName"), "text"),
                **dict.fromkeys(("inputs", "schedule", "sensors", "triggerEvents", "webhook"), "json"),
                **dict.fromkeys(("latestVersionNumber", "publishedVersionNumber"), "integer"),
                **dict.fromkeys(("latestRunId", "latestRunStatus", "latestRunMessage"), "text"),
                **dict.fromkeys(("latestRunCreatedAt", "latestRunStartedAt", "latestRunCompletedAt"), "timestamp"),
            },
            "Pipelines of the workspace as they are now",
        ),
        Resource(
            "pipeline_runs",
            "pipeline_runs",
            "id",
            {
                **dict.fromkeys(("pipelineId", "pipelineName", "accountId", "envId", "envName", "runStatus"), "text"),
                "message": "text",
                **_TIMES,
                **_RUN,
                **dict.fromkeys(("branch", "commit"), "text"),
                "gitLink": "text",
                "pipelineVersionNumber": "integer",
                "hasAnomalies": "boolean",
                **dict.fromkeys(("anomalies", "triggeredBy", "childPipelineRuns"), "json"),
            },
            "Runs of pipelines",
            cursor="created_at",
            unfinished=UNFINISHED_RUNS,
            left_out=frozenset({"data"}),
        ),
        Resource(
            "task_runs",
            "task_runs",
            "id",
            {
                **dict.fromkeys(("pipelineRunId", "pipelineId", "accountId", "taskId", "taskName"), "text"),
                **dict.fromkeys(("integration", "integrationJob", "connectionId", "computeResourceId"), "text"),
                **dict.fromkeys(("status", "message", "externalStatus", "externalMessage", "platformLink"), "text"),
                "numberOfAttempts": "integer",
                "matrixParent": "boolean",
                "matrixParentId": "text",
                **_TIMES,
                **_RUN,
                **dict.fromkeys(("taskParameters", "runParameters", "dependsOn"), "json"),
            },
            "Runs of tasks",
            cursor="created_at",
            unfinished=UNFINISHED_TASK_RUNS,
        ),
        Resource(
            "operations",
            "operations",
            "id",
            {
                **dict.fromkeys(("pipelineRunId", "taskRunId", "accountId"), "text"),
                **dict.fromkeys(("operationName", "operationType", "operationStatus", "message"), "text"),
                **dict.fromkeys(("externalId", "externalStatus", "externalDetail"), "text"),
                **dict.fromkeys(("integration", "integrationJob"), "text"),
                "insertedAt": "timestamp",
                **_RUN,
                "operationDuration": "number",
                "rowsAffected": "integer",
                **dict.fromkeys(("cost", "credits", "finalCostAmount", "rawCostAmount"), "number"),
                **dict.fromkeys(("creditsLabel", "currency", "finalCostCurrency", "rawCostLabel"), "text"),
                **dict.fromkeys(("rawCostIntegration", "rawCostUnits", "assetExternalId"), "text"),
                "canRerun": "boolean",
                **dict.fromkeys(("dependencies", "meta", "tags"), "json"),
            },
            "What tasks did: models, tests, queries",
            cursor="inserted_at",
        ),
        Resource(
            "assets",
            "assets",
            "assetId",
            {
                **dict.fromkeys(("accountId", "assetName", "assetType", "integration", "status"), "text"),
                **dict.fromkeys(("externalId", "connection", "connectionIntegration", "integrationAssetType"), "text"),
                **dict.fromkeys(("integrationAccountId", "workspaceId", "workspaceName"), "text"),
                **dict.fromkeys(("databaseName", "schemaName", "tableName", "description", "owner", "url"), "text"),
                **_TIMES,
                **dict.fromkeys(("createdInIntegration", "lastUpdatedInIntegration"), "timestamp"),
                **dict.fromkeys(("lastViewed", "viewCountFromTimestamp"), "timestamp"),
                "lastSuccessfulRun": "text",
                **dict.fromkeys(("rowCount", "bytes", "viewCount", "uniqueViewers"), "integer"),
                "usagePercentage": "number",
                **dict.fromkeys(("owners", "upstreamDependencies", "downstreamDependencies"), "json"),
                **dict.fromkeys(("freshnessConfig", "meta"), "json"),
            },
            "Tables, views, dashboards that tasks made or read",
            # By default it is sorted by when an asset was created elsewhere, which is known of few.
            order="asset_name",
        ),
        Resource(
            "environments",
            "environments",
            "environmentId",
            {**dict.fromkeys(("accountId", "name"), "text"), "defaultEnv": "boolean"},
            "Environments, without their values",
            paged=False,
            closed=True,
        ),
        Resource(
            "connections",
            "integrations/connections",
            "connectionId",
            {
                **dict.fromkeys(("connectionName", "integration", "authStatus"), "text"),
                "isDefault": "boolean",
                **_TIMES,
            },
            "Connections, without what they hold",
            paged=False,
            closed=True,
        ),
    )
}
