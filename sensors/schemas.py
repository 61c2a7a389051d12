"""The JSON Schema of sensor files for editors: ``python -m sensors.schemas FOLDER [--check]``."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel

from runner.plugins import Group, load_plugins
from runner.schemas import apart, specialise, write
from sensors.sensorfile import SensorFile


def sensor_schema() -> dict[str, Any]:
    """Return the schema of a sensor file, installed types of sensors, actions and sources included."""
    schema = SensorFile.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    specialise(definitions, "SourceSpec", "runner.sources")
    _one_of(definitions, "SensorEntry", "runner.sensors")
    for name in ("ActionEntry", "AlertEntry"):
        _one_of(definitions, name, "runner.actions")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Orchestra Blueprints: sensors",
    }


def _one_of(definitions: dict[str, Any], name: str, group: Group) -> None:
    """Replace an open model by one alternative for each plug-in."""
    base = definitions[name]
    alternatives = []
    for kind, plugin in sorted(load_plugins(group).items()):
        config: type[BaseModel] = plugin.config_model
        own = apart(config.model_json_schema(by_alias=True), definitions, f"{group.removeprefix('runner.')}.{kind}")
        definitions.update(own.pop("$defs", {}))
        required = {*base["required"], *own.get("required", ())}
        if name == "SensorEntry" and plugin.takes_source:
            required.add("source")
        alternatives.append(
            {
                "type": "object",
                "title": kind,
                "properties": {**base["properties"], **own.get("properties", {}), "type": {"const": kind}},
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    definitions[name] = {"description": base.get("description", ""), "anyOf": alternatives}


if __name__ == "__main__":
    sys.exit(write({"sensors.schema.json": sensor_schema()}, sys.argv[1:]))
