"""What Orchestra's reference says of the objects of its answers: their keys and the types of these.

Facts: Orchestra docs, API, the OpenAPI document of its schemas. ``!`` behind a type: the key is always there and never
null; ``?``: it may be null or missing. No other keys are there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

_TEXTS: dict[str, dict[str, str]] = {
    "pipelines": {
        "text!": "id name yamlPath createdAt updatedAt",
        "text?": "triggerEvents webhook schedule sensors productId productName storageProvider repository defaultBranch "
        "alias latestRunId latestRunStatus latestRunMessage latestRunCreatedAt latestRunCompletedAt latestRunStartedAt",
        "boolean!": "paused",
        "integer?": "numTasks latestVersionNumber publishedVersionNumber",
        "object?": "inputs",
    },
    "pipeline_runs": {
        "text!": "id pipelineId accountId runStatus message createdAt updatedAt",
        "text?": "pipelineName envId envName completedAt startedAt branch commit gitLink",
        "boolean?": "hasAnomalies",
        "integer?": "pipelineVersionNumber",
        "object?": "anomalies data",
        "list?": "triggeredBy childPipelineRuns",
    },
    "task_runs": {
        "text!": "id pipelineRunId taskName taskId accountId pipelineId integration integrationJob status createdAt "
        "updatedAt",
        "text?": "message externalStatus externalMessage connectionId computeResourceId platformLink matrixParentId "
        "completedAt startedAt",
        "boolean?": "matrixParent",
        "integer?": "numberOfAttempts",
        "object?": "taskParameters runParameters",
        "list?": "dependsOn",
    },
    "operations": {
        "text!": "id accountId pipelineRunId insertedAt operationStatus operationType externalId",
        "text?": "taskRunId message operationName externalStatus externalDetail integration integrationJob startedAt "
        "completedAt creditsLabel currency rawCostLabel finalCostCurrency rawCostIntegration rawCostUnits "
        "assetExternalId",
        "boolean?": "canRerun",
        "integer?": "rowsAffected",
        "number?": "operationDuration cost credits finalCostAmount rawCostAmount",
        "object?": "meta",
        "list?": "dependencies tags",
    },
    "assets": {
        "text!": "assetId integration accountId assetName assetType integrationAccountId externalId status createdAt "
        "updatedAt",
        "text?": "databaseName schemaName workspaceName workspaceId connection connectionIntegration lastSuccessfulRun "
        "integrationAssetType owner createdInIntegration lastUpdatedInIntegration tableName description url lastViewed "
        "viewCountFromTimestamp",
        "integer?": "rowCount bytes uniqueViewers viewCount",
        "number?": "usagePercentage",
        "object?": "freshnessConfig meta",
        "list?": "upstreamDependencies downstreamDependencies owners",
    },
    "environments": {"text!": "accountId environmentId name", "boolean!": "defaultEnv"},
    "connections": {
        "text!": "integration authStatus connectionId connectionName createdAt updatedAt",
        "boolean!": "isDefault",
    },
}
REFERENCE: dict[str, dict[str, str]] = {
    name: {key: kind for kind, keys in kinds.items() for key in keys.split()} for name, kinds in _TEXTS.items()
}
_PYTHON: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "list": (list,),
}


def wrong_with(name: str, item: dict[str, Any]) -> list[str]:
    """Return the keys of an object that are not as the reference has them."""
    known = REFERENCE[name]
    wrong = [key for key in item if key not in known]
    for key, kind in known.items():
        value = item.get(key)
        if value is None:
            wrong += [key] if kind[-1] == "!" else []
        elif not isinstance(value, _PYTHON[kind[:-1]]) or (isinstance(value, bool) and kind[:-1] != "boolean"):
            wrong.append(key)
        elif key.endswith("At"):
            assert datetime.fromisoformat(value).tzinfo, key
    return wrong
