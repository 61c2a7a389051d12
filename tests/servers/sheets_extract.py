"""Prints what the double of Google Sheets needs of the API's discovery document, as the client carries it.

Written to connectors/testing/sheets/discovery.json: ``PYTHON tests/servers/sheets_extract.py > discovery.json``.
"""

import importlib.resources
import json

METHODS = ("spreadsheets.get", "spreadsheets.values.get", "spreadsheets.values.batchGet")
ROOTS = ("Spreadsheet", "ValueRange", "BatchGetValuesResponse")


def reference(prop):
    """Return the name of the schema or of the type that a property has; a list of it in brackets."""
    if "$ref" in prop:
        return prop["$ref"]
    if prop["type"] == "array":
        return f"[{reference(prop['items'])}]"
    return prop["type"]


def parameters(found):
    kept = ("type", "enum", "location", "repeated", "required")
    return {name: {key: one[key] for key in kept if key in one} for name, one in sorted(found.items())}


def main():
    place = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents" / "sheets.v4.json"
    document = json.loads(place.read_text("utf-8"))
    methods = {}
    for name in METHODS:
        *path, last = name.split(".")
        place = document
        for part in path:
            place = place["resources"][part]
        method = place["methods"][last]
        methods[name] = {
            "httpMethod": method["httpMethod"],
            "path": method["path"],
            "parameters": parameters(method["parameters"]),
            "response": method["response"]["$ref"],
            "scopes": method["scopes"],
        }
    schemas = {}
    todo = list(ROOTS)
    while todo:
        name = todo.pop()
        if name in schemas:
            continue
        properties = document["schemas"][name].get("properties", {})
        schemas[name] = {key: reference(prop) for key, prop in sorted(properties.items())}
        todo += [one.strip("[]") for one in schemas[name].values() if one.strip("[]") in document["schemas"]]
    extract = {
        "id": document["id"],
        "scopes": sorted(document["auth"]["oauth2"]["scopes"]),
        "parameters": parameters(document["parameters"]),
        "methods": methods,
        "enums": {
            "NumberFormat.type": document["schemas"]["NumberFormat"]["properties"]["type"]["enum"],
            "ErrorValue.type": document["schemas"]["ErrorValue"]["properties"]["type"]["enum"],
        },
        "schemas": dict(sorted(schemas.items())),
    }
    lines = []
    for key, value in extract.items():
        if isinstance(value, dict):
            parts = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{parts}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    print("{\n" + ",\n".join(lines) + "\n}")


main()
