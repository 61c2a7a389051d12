"""The committed pipelines: valid without a doubt, readable, and naming only what there is."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from orchestra.production.committed import check_pipelines

_ROOT = Path(__file__).parents[2]
_FILES = sorted((_ROOT / "orchestra" / "pipelines").glob("*.yml"))
_COMMANDS = {point.name for point in entry_points(group="runner.commands")}
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def tasks(document):
    return [task for group in document["pipeline"].values() for task in group["tasks"].values()]


def test_the_patterns_are_there():
    names = {path.stem for path in _FILES}
    assert names >= {
        "demo", "single_table", "backfill", "sensor_triggered", "dbt_after_load", "metadata_to_warehouse",
        "data_quality", "data_catalog", "alerts", "bauplan",
    }  # fmt: skip


def test_they_are_valid(cli):
    answer = cli("orchestra", "validate", "--strict", *_FILES)
    assert answer.code == 0, answer.out


def test_generated_ones_are_what_their_jobs_generate():
    found = check_pipelines(_ROOT, [])
    assert found
    assert [one for one in found if one.state != "same"] == []


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
class TestEach:
    def test_ids_are_readable_and_connections_are_of_the_environment(self, path):
        document = yaml.safe_load(path.read_text())
        ids = [*document["pipeline"], *(name for group in document["pipeline"].values() for name in group["tasks"])]
        assert all(re.fullmatch(r"[a-z][a-z0-9_]+", name) for name in ids)
        connections = re.findall(r"^\s*connection(?:_id)?: (.*)$", path.read_text(), re.MULTILINE)
        assert connections
        assert all(re.fullmatch(r"\$\{\{ ENV\.[A-Z0-9_]+ \}\}", one) for one in connections)

    def test_tasks_have_limits_and_python_tasks_are_tried_again(self, path):
        for task in tasks(yaml.safe_load(path.read_text())):
            assert task["configuration"]["timeout"] >= 60
            assert "set_outputs" not in task["parameters"]
            if task["integration"] == "PYTHON":
                assert task["configuration"]["retries"] >= 1

    def test_commands_are_ours_and_files_exist(self, path):
        for task in tasks(yaml.safe_load(path.read_text())):
            if task["integration"] != "PYTHON":
                continue
            parameters = task["parameters"]
            words = shlex.split(_EXPRESSION.sub("x", parameters["command"]))
            assert words[0] == "runner"
            assert {words[1], " ".join(words[1:3])} & _COMMANDS
            variables = json.loads(_EXPRESSION.sub("x", parameters.get("environment_variables", "{}")))
            json.loads(variables.get("PARAMS", "{}"))
            for name in [*words, variables.get("RUNNER_JOB", "")]:
                assert not name.endswith(".yml") or (_ROOT / name).is_file()

    def test_schedules_tell_the_truth(self, path):
        for one in yaml.safe_load(path.read_text()).get("schedule", []):
            minute, hour, *_ = one["cron"].split()
            assert f"{int(hour):02}:{int(minute):02} {one['timezone']}" in one["name"]
