"""The JSON Schemas for editors, generated from the models: ``python -m runner.schemas FOLDER [--check]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runner.job import Connections, Job
from runner.plugins import Group, load_plugins


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas of job file and connections.yml by file name, installed plug-ins included."""
    schemas = {}
    for name, model in (("job", Job), ("connections", Connections)):
        schema = model.model_json_schema(by_alias=True)
        definitions = schema["$defs"]
        specialise(definitions, "SourceSpec", "runner.sources")
        specialise(definitions, "DestinationSpec", "runner.destinations")
        schemas[f"{name}.schema.json"] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "title": f"Orchestra Blueprints: {name}",
        }
    return schemas


def specialise(definitions: dict[str, Any], name: str, group: Group) -> None:
    """Replace the open model of a source or destination by one alternative for each plug-in."""
    base = definitions[name]
    alternatives = []
    plugins = load_plugins(group)
    if group == "runner.sources":
        # Databases that sensors ask and nobody moves tables from.
        plugins = {**load_plugins("runner.databases"), **plugins}
    for kind, plugin in sorted(plugins.items()):
        config: type[BaseModel] = plugin.config_model
        own = apart(config.model_json_schema(by_alias=True), definitions, kind)
        definitions.update(own.pop("$defs", {}))
        properties = {**base["properties"], **own["properties"], "type": {"const": kind}}
        alternatives.append({"type": "object", "title": kind, "properties": properties, "additionalProperties": False})
    if name == "DestinationSpec":
        # Without a type: a connection is named, or the default is meant.
        properties = {key: value for key, value in base["properties"].items() if key != "type"}
        alternatives.append({"type": "object", "properties": properties, "not": {"required": ["type"]}})
    definitions[name] = {"description": base.get("description", ""), "anyOf": alternatives}


def apart(schema: dict[str, Any], taken: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a plug-in's schema without definitions that have a name of another plug-in's and are others."""
    own = schema.get("$defs", {})
    clashes = [name for name, one in own.items() if taken.get(name, one) != one]
    text = json.dumps(schema)
    for name in clashes:
        text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{kind}.{name}"')
    renamed: dict[str, Any] = json.loads(text)
    for name in clashes:
        renamed["$defs"][f"{kind}.{name}"] = renamed["$defs"].pop(name)
    return renamed


def write(schemas: dict[str, dict[str, Any]], arguments: list[str]) -> int:
    """Write schemas into a folder, or with --check compare them with what is there."""
    folder = Path(arguments[0])
    stale = []
    for name, schema in schemas.items():
        text = json.dumps(schema, indent=2) + "\n"
        file = folder / name
        if "--check" not in arguments:
            file.write_text(text, "utf-8")
        elif not file.exists() or file.read_text("utf-8") != text:
            stale.append(str(file))
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run `make generate`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(write(json_schemas(), sys.argv[1:]))
