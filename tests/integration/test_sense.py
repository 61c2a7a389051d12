"""``runner sense`` as a task: exit codes, what it prints, what it hands to the platform."""

import json

import pytest

from connectors.testing.double import Double
from orchestra.testing.double import OrchestraDouble
from tests.conftest import Cli, Project

_FILE = """
name: waiting
sensors:
  - {name: due, type: cron, cron: "* * * * *", cursor: "2026-01-01T00:00:00+00:00", every: 1s}
  - {name: far, type: cron, cron: "0 0 29 2 *", every: 1s}
"""


@pytest.fixture(autouse=True)
def _file(project: Project) -> None:
    project.job(_FILE, "sensors.yml")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--once", "--only", "due"], 0, ""),
        (["--once"], 3, "No event has come: far"),
        (["--once", "--any"], 0, ""),
        (["--once", "--soft"], 0, "(--soft)"),
        (["--for", "1s", "--only", "far"], 3, "No event has come within 1.0 s: far"),
        (["--once", "--only", "nobody"], 2, "no sensor of sensors.yml is called so"),
        (["--for", "soon"], 2, "is not a duration"),
        (["--soft"], 2, "belong to --once or --for"),
    ],
    ids=["fired", "one missing", "any", "soft", "for", "only", "duration", "soft alone"],
)
def test_exit_codes(cli: Cli, options: list[str], code: int, says: str) -> None:
    answer = cli("sense", "sensors.yml", *options)
    assert (answer.code, says in answer.err) == (code, True), answer.err


def test_sensors_may_fire_in_different_attempts(cli: Cli, project: Project) -> None:
    assert cli("sense", "sensors.yml", "--once").code == 3
    project.job(_FILE.replace('"0 0 29 2 *"', '"* * * * *", cursor: "2026-01-01T00:00:00+00:00"'), "sensors.yml")
    answer = cli("sense", "sensors.yml", "--once", "--json")
    assert answer.code == 0
    events = json.loads(answer.out.splitlines()[-1])["events"]
    assert sorted(one["sensor"] for one in events) == ["due", "far"]


def test_outputs_are_set_inside_orchestra(cli: Cli, project: Project) -> None:
    with OrchestraDouble() as orchestra:
        assert isinstance(orchestra, Double)
        project.environ |= {
            "ORCHESTRA_WEBHOOK_URL": orchestra.url,
            "ORCHESTRA_API_KEY": orchestra.key,
            "ORCHESTRA_TASK_RUN_ID": "11111111-1111-1111-1111-111111111111",
        }
        assert cli("sense", "sensors.yml", "--once", "--only", "due").code == 0
        told = [json.loads(one.body) for one in orchestra.seen if one.method == "POST"]
    outputs = {one["output_name"]: one["output_value"] for one in told if one["event_type"] == "SET_OUTPUT"}
    assert outputs["run_key"].startswith("due:2026-")
    assert outputs["events"][0]["sensor"] == "due"
