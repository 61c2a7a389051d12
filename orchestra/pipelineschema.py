"""The JSON Schema of pipelines for editors: ``python -m orchestra.pipelineschema FOLDER [--check]``."""

from __future__ import annotations

import sys
from typing import Any

from orchestra.pipeline import Pipeline
from orchestra.validation.names import INTEGRATIONS, JOBS
from orchestra.validation.parameters import NAMES, PARAMETERS
from runner.schemas import apart, write


def pipeline_schema() -> dict[str, Any]:
    """Return the schema of a pipeline: parameters are shown where we know them, and any others are taken."""
    schema = Pipeline.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    task = definitions["Task"]
    cases = []
    for job, model in PARAMETERS.items():
        own = apart(model.model_json_schema(), definitions, job)
        definitions.update(own.pop("$defs", {}))
        names = {name: key for key, name in NAMES.items()}
        properties = {names.get(key, key): one for key, one in own["properties"].items()}
        cases.append(
            {
                "if": {"properties": {"integration_job": {"const": job}}, "required": ["integration_job"]},
                "then": {"properties": {"parameters": {"type": "object", "properties": properties}}},
            }
        )
    task["allOf"] = cases
    known = sorted(job for jobs in JOBS.values() for job in jobs)
    for key, values in (("integration", sorted(INTEGRATIONS)), ("integration_job", known)):
        # Offered by editors, and nothing else is refused.
        task["properties"][key]["examples"] = values
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Orchestra Blueprints: pipeline",
    }


if __name__ == "__main__":
    sys.exit(write({"pipeline.schema.json": pipeline_schema()}, sys.argv[1:]))
