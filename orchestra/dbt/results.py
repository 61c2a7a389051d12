"""Outcomes out of dbt's artifacts: run_results.json or sources.json, with manifest.json where there is one.

Facts: dbt docs, "Run results JSON file" (schema v6), "Sources JSON file" (v3), "Manifest JSON file" (v12). Of other
versions nothing is asked but results with a unique_id and a status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestra.dbt.outcome import SEVERITIES, Outcome, channels_of, cleaned, known, whole
from runner.errors import UsageError

_NODES = ("nodes", "sources", "unit_tests")


def read_outcomes(results: bytes, manifest: bytes | None = None, *, what: str = "run_results.json") -> list[Outcome]:
    """Return the nodes that failed or warn, in the order in which they ended; blocks on a large manifest.

    Args:
        manifest: Gives channels, descriptions and what a test looks at.
        what: The name of the results, for messages.

    Raises:
        UsageError: It is no such file.
    """
    document = _document(results, what)
    found = document.get("results")
    if not isinstance(found, list):
        raise UsageError(f"{what} holds no results of dbt.", guidance="Name a run_results.json or sources.json.")
    nodes = {} if manifest is None else _nodes(_document(manifest, "manifest.json"))
    about, asked = _mapping(document.get("metadata")), _mapping(document.get("args"))
    invocation = str(about.get("invocation_id") or about.get("generated_at") or "")
    facts = {"command": f"dbt {asked['which']}"} if asked.get("which") else {}
    outcomes: dict[str, Outcome] = {}
    for result in found:
        outcome = _outcome(_mapping(result), nodes, invocation, facts)
        if outcome is not None:
            outcomes.setdefault(outcome.key, outcome)
    return list(outcomes.values())


def _outcome(
    result: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], invocation: str, facts: Mapping[str, str]
) -> Outcome | None:
    status, unique_id = known(result.get("status")), result.get("unique_id")
    if status not in SEVERITIES or not isinstance(unique_id, str):
        return None
    node = nodes.get(unique_id, {})
    return Outcome(
        unique_id,
        status,
        SEVERITIES[status],
        invocation,
        failures=whole(result.get("failures")),
        reason=cleaned(result.get("message") or result.get("error")),
        description=cleaned(node.get("description")),
        # meta is a config since dbt 1.10, and stays where it was, too; which of both is filled differs by node.
        channels=channels_of(_mapping(node.get("config")).get("meta")) or channels_of(node.get("meta")),
        model=str(node.get("attached_node") or node.get("tested_node_unique_id") or ""),
        facts={**facts, "file": str(node.get("original_file_path") or "")},
    )


def _nodes(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: _mapping(node) for part in _NODES for name, node in _mapping(manifest.get(part)).items()}


def _document(text: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        raise UsageError(f"{what} is no JSON: was it cut off?") from None
    if not isinstance(document, Mapping):
        raise UsageError(f"{what} is no artifact of dbt.")
    return document


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
