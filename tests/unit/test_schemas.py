"""The JSON Schemas that editors complete job files by."""

import json

import pytest

from runner.schemas import apart, json_schemas, write


@pytest.fixture(scope="module")
def schemas():
    return json_schemas()


def test_one_schema_a_file(schemas):
    assert set(schemas) == {"job.schema.json", "connections.schema.json"}
    json.dumps(schemas)


def test_aliases_and_strictness(schemas):
    entry = schemas["job.schema.json"]["$defs"]["TableEntry"]
    assert {"as", "schema", "mode"} <= set(entry["properties"])
    assert not {"as_", "schema_"} & set(entry["properties"])
    assert entry["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "SourceSpec",
            [
                *["dlt", "duckdb", "hubspot", "linear", "odata", "orchestra", "postgres", "rest", "salesforce", "sap"],
                "sheets",
                "snowflake",
            ],
        ),
        (
            "DestinationSpec",
            ["bigquery", "databricks", "duckdb", "fabric", "filesystem", "motherduck", "postgres", "snowflake"],
        ),
    ],
)
def test_installed_plug_ins_are_alternatives(schemas, name, kinds):
    alternatives = schemas["connections.schema.json"]["$defs"][name]["anyOf"]
    titles = [one["title"] for one in alternatives if "title" in one]
    assert titles == kinds
    postgres = next(one for one in alternatives if one.get("title") == "postgres")
    assert postgres["properties"]["type"] == {"const": "postgres"}
    assert "host" in postgres["properties"] or "dsn" in postgres["properties"]


def test_check_tells_what_is_out_of_date(tmp_path, capsys):
    folder = str(tmp_path)
    assert write(json_schemas(), [folder, "--check"]) == 1
    assert "job.schema.json" in capsys.readouterr().err
    assert write(json_schemas(), [folder]) == 0
    assert write(json_schemas(), [folder, "--check"]) == 0
    (tmp_path / "job.schema.json").write_text("{}\n")
    assert write(json_schemas(), [folder, "--check"]) == 1


def test_definitions_of_one_name_in_two_plug_ins_stay_apart() -> None:
    taken = {"Client": {"type": "object"}, "Same": {"type": "string"}}
    own = {"$ref": "#/$defs/Client", "$defs": {"Client": {"type": "array"}, "Same": {"type": "string"}}}
    assert apart(own, taken, "rest") == {
        "$ref": "#/$defs/rest.Client",
        "$defs": {"rest.Client": {"type": "array"}, "Same": {"type": "string"}},
    }
