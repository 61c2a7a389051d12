"""``runner orchestra validate``: files, folders, the standard input; what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from orchestra import pipelineschema
from orchestra.api.records import SchemaProblem
from orchestra.pipeline import load_pipeline
from orchestra.validation.files import placed
from orchestra.validation.locations import Located
from runner.errors import JobFileError
from runner.schemas import write
from tests.unit.test_pipelinecheck import document

GOOD = document()
WRONG = document(task="tags: a", report="condition: ${{ x }}")
DOUBTED = document(task="connection: default")


@pytest.fixture
def files(project):
    for name, text in {"good.yml": GOOD, "deep/wrong.yaml": WRONG, "deep/er/doubted.oml": DOUBTED,
                       "deep/job.yml": "source: {type: postgres}\n", "deep/broken.yml": "version: v1\npipeline: [\n",
                       "deep/.hidden/wrong.yml": WRONG, "deep/notes.txt": "pipeline:\n"}.items():  # fmt: skip
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return project.folder


def test_a_good_file(cli, files):
    answer = cli("orchestra", "validate", "good.yml")
    assert (answer.code, answer.out, answer.err) == (0, "", "1 pipeline, no mistakes, no warnings\n")


def test_folders_are_looked_through_and_each_file_is_checked_once(cli, files):
    answer = cli("orchestra", "validate", "deep", "good.yml", "deep/wrong.yaml")
    assert answer.code == 1
    assert [line.split(": ")[0] for line in answer.out.splitlines()] == [
        "deep/broken.yml:3:1",
        "deep/er/doubted.oml:14:21",
        "deep/wrong.yaml:14:15",
        "deep/wrong.yaml:35:20",
    ]
    assert answer.err == "4 pipelines, 3 mistakes, 1 warning\n"


def test_warnings_fail_with_strict_only(cli, files):
    assert cli("orchestra", "validate", "deep/er/doubted.oml").code == 0
    assert cli("orchestra", "validate", "deep/er/doubted.oml", "--quiet").out == ""
    answer = cli("orchestra", "validate", "--strict", "--quiet", "deep/er/doubted.oml")
    assert answer.code == 1
    assert answer.out.startswith("deep/er/doubted.oml:14:21: warning: 'default' is no id of a connection")


def test_json_for_machines(cli, files):
    answer = cli("orchestra", "validate", "--json", "deep/wrong.yaml", "good.yml")
    assert answer.code == 1
    record = json.loads(answer.out)
    assert {key: record[key] for key in ("ok", "files", "errors", "warnings")} == {
        "ok": False, "files": 2, "errors": 2, "warnings": 0,
    }  # fmt: skip
    assert record["problems"][0] == {
        "file": "deep/wrong.yaml", "line": 14, "column": 15, "severity": "error", "hint": "",
        "message": "pipeline.load.tasks.pull.tags should be a list, not a text.",
    }  # fmt: skip


def test_the_standard_input(cli, files, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + WRONG.encode())))
    answer = cli("orchestra", "validate", "-")
    assert answer.code == 1
    assert answer.out.splitlines()[0].startswith("-:14:15: ")


def test_what_cannot_be_checked_is_an_error_of_the_command(cli, files):
    assert cli("orchestra", "validate", "good.yml", "nothing.yml").code == 2
    assert "no such file" in cli("orchestra", "validate", "nothing.yml").err
    assert cli("orchestra", "validate").code == 2
    (files / "empty").mkdir()
    assert cli("orchestra", "validate", "empty").code == 2
    (files / "empty" / "job.yml").write_text("source: {}")
    assert "There is no pipeline in empty" in cli("orchestra", "validate", "empty").err


def test_a_named_file_that_is_no_pipeline_is_told(cli, files):
    answer = cli("orchestra", "validate", "deep/job.yml")
    assert (answer.code, answer.out.split(": ")[0]) == (1, "deep/job.yml:1:1")
    (files / "latin.yml").write_bytes("version: v1\nname: Bücher".encode("latin-1"))
    assert cli("orchestra", "validate", "latin.yml").out == "latin.yml:2:8: this file is no UTF-8. Save it as UTF-8.\n"


def test_loading_names_every_mistake_of_the_form():
    assert load_pipeline(GOOD, Path("good.yml")).name == "Load orders"
    text = document(task="tags: a\nx: 1", top="anomalies: [{type: x, more: 1}]")
    with pytest.raises(JobFileError) as caught:
        load_pipeline(text, Path("wrong.yml"))
    assert [line.split(": ")[0] for line in caught.value.message.splitlines()] == ["wrong.yml:14:15", "wrong.yml:15:9"]
    # What is only doubted is left out.
    anomalies = load_pipeline(document(top="anomalies: [{type: x, more: 1}]"), Path("x.yml")).anomalies
    assert anomalies is not None
    assert anomalies[0].type == "x"


def test_what_orchestra_says_is_placed():
    located = Located(GOOD)
    said = [
        SchemaProblem(
            loc=("body", "pipeline", "load", "TaskGroupModel", "tags"), msg="Extra inputs", type="extra_forbidden"
        ),
        SchemaProblem(
            loc=("pipeline", "load", "tasks", "pull", "PythonTask", "parameters", "command"), msg="Bad.", type="x"
        ),
        SchemaProblem(loc=("pipeline", "report", "tasks", "tell", "name"), msg="Field required", type="missing"),
        SchemaProblem(loc=(), msg="No", type=None),
    ]
    assert [str(problem) for problem in placed(said, Path("good.yml"), located)] == [
        "good.yml:1:1: Orchestra says of the pipeline: No.",
        "good.yml:4:3: Orchestra says of pipeline.load.tags: Extra inputs.",
        "good.yml:12:20: Orchestra says of pipeline.load.tasks.pull.parameters.command: Bad.",
        "good.yml:30:15: Orchestra says of pipeline.report.tasks.tell.name: Field required.",
    ]


def test_the_schema_for_editors_is_up_to_date(tmp_path):
    schemas = {"pipeline.schema.json": pipelineschema.pipeline_schema()}
    folder = Path(pipelineschema.__file__).parent / "schemas"
    assert write(schemas, [str(folder), "--check"]) == 0
    task = schemas["pipeline.schema.json"]["$defs"]["Task"]
    python = next(
        case for case in task["allOf"] if case["if"]["properties"]["integration_job"]["const"].startswith("PYTHON")
    )
    parameters = python["then"]["properties"]["parameters"]
    assert "environment_variables" in parameters["properties"]
    assert "additionalProperties" not in parameters
