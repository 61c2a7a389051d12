"""From a job to production and back: plan, generate, check, validate; and the task of the pipeline really runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.lockfile import LockFile
from tests.conftest import Cli, Database, Project

_ROOT = Path(__file__).parents[2]
_DEMO = _ROOT / "orchestra" / "jobs" / "demo.yml"


@pytest.fixture
def demo(project: Project, shop_database: Database) -> Path:
    """The demo job in a project of its own, whose production is DuckDB."""
    jobs = project.folder / "orchestra" / "jobs"
    jobs.mkdir(parents=True)
    for name in ("demo.yml", "demo.lock.yml"):
        (jobs / name).write_text((_DEMO.parent / name).read_text())
    (jobs.parent / "connections.yml").write_text(
        'sources: {shop: {type: postgres, dsn: "${SHOP_DSN}"}}\n'
        "destinations:\n"
        "  warehouse: {type: duckdb, path: nobody.duckdb}\n"
        "  snowflake: {type: duckdb, path: warehouse.duckdb}\n"
    )
    project.environ["SHOP_DSN"] = shop_database.dsn
    return jobs / "demo.yml"


def substituted(text: str, **given: Any) -> str:
    """Return a text as the platform hands it on: each expression replaced by the text of its value, nothing escaped."""

    def value(found: re.Match[str]) -> str:
        return str(given[found[1].strip().rpartition(".")[2]])

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def play(document: dict[str, Any], cli: Cli, monkeypatch: pytest.MonkeyPatch, table: str, **inputs: Any) -> Any:
    """Run the repeated task of a pipeline for one value, with these inputs."""
    defaults = {name: one["default"] for name, one in document["inputs"].items()}
    parameters = document["pipeline"]["load"]["tasks"]["table"]["parameters"]
    given = {**defaults, **inputs, "table": table}
    for name, text in json.loads(substituted(parameters["environment_variables"], **given)).items():
        monkeypatch.setenv(name, text)
    words = shlex.split(parameters["command"])
    assert words[0] == "runner"
    return cli(*words[1:], "--json")


def test_the_generated_task_runs_one_table_and_a_batch(
    demo: Path, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = cli("orchestra", "generate", demo, "--batch-small", "3", "--json")
    assert answer.code == 0, answer.err
    document = yaml.safe_load(Path(json.loads(answer.out)["pipeline"]).read_text())
    elements = document["inputs"]["tables"]["default"]
    assert {"shop.customers", "small_1"} <= set(elements)
    assert "Back Office.staff" not in elements
    one = play(document, cli, monkeypatch, "shop.customers")
    assert one.code == 0, one.err
    assert project.query("select distinct source_table from raw_shop._runner_state") == [("shop.customers",)]
    several = play(document, cli, monkeypatch, "small_1")
    assert several.code == 0, several.err
    loaded = {name for (name,) in project.query("select source_table from raw_shop._runner_state")}
    lock = LockFile.read(LockFile.path(demo))
    assert lock is not None
    small = [name for name, entry in lock.tables.items() if entry.get("small")]
    assert loaded == {"shop.customers", *small[:3]}
    # One of a batch by its own name, all of it once more.
    again = play(document, cli, monkeypatch, "Back Office.staff", full_refresh=True)
    assert again.code == 0, again.err
    runs = "select count(*) from raw_shop._runner_state where source_table = 'Back Office.staff'"
    assert project.query(runs) == [(2,)]
    ranged = play(document, cli, monkeypatch, "shop.customers", since="2001-01-01", until="2001-02-01")
    assert ranged.code == 0, ranged.err
    assert (
        "--since 2001-01-01" in project.query("select command from raw_shop._runner_runs order by started desc")[0][0]
    )


def test_a_changed_job_is_locked_generated_checked_and_valid(demo: Path, project: Project, cli: Cli) -> None:
    assert cli("orchestra", "check").code == 1
    assert cli("orchestra", "generate", demo).code == 0
    assert cli("orchestra", "check").code == 0
    text = demo.read_text()
    demo.write_text(text.replace('exclude: ["*_bak"]', 'exclude: ["*_bak", "ops.*"]'))
    old = cli("orchestra", "check", demo)
    assert old.code == 2
    assert "is older than the job: not selected any more: ops.store_001" in old.err
    assert "--lock --env production" in old.err
    assert cli("plan", demo, "--lock", "--env", "production", "--quiet").code == 0
    red = cli("orchestra", "check")
    assert "-      - ops.store_001" in red.out
    assert "run: runner orchestra generate orchestra/jobs/demo.yml" in red.out
    answer = cli("orchestra", "generate", demo)
    assert answer.code == 0
    assert "verify" in answer.out
    assert cli("orchestra", "check").code == 0
    valid = cli("orchestra", "validate", "--strict", "orchestra/pipelines/demo.yml")
    assert valid.code == 0, valid.out
    pipeline = project.folder / "orchestra" / "pipelines" / "demo.yml"
    pipeline.write_text(pipeline.read_text().replace("timeout: 3600", "timeout: 36"))
    red = cli("orchestra", "check", "--json")
    assert red.code == 1
    assert "+          timeout: 3600" in json.loads(red.out)[0]["diff"]
    demo.unlink()
    gone = cli("orchestra", "check")
    assert gone.code == 1
    assert "which is gone" in gone.out


def test_without_a_lock_it_says_what_to_run(demo: Path, cli: Cli) -> None:
    LockFile.path(demo).unlink()
    answer = cli("orchestra", "generate", demo)
    assert answer.code == 2
    assert "runner plan" in answer.err
    assert "--lock" in answer.err


def test_the_committed_lock_is_that_of_the_shop(demo: Path, project: Project, cli: Cli) -> None:
    """One row in a hundred, and otherwise the database of ``make demo``: whatever differs is told in ``drift``."""
    answer = cli("plan", demo, "--env", "production", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["drift"] == {}


@pytest.mark.parametrize("option", [["--style", "matirx"], ["--batch-small", "1"]])
def test_a_wrong_option(demo: Path, cli: Cli, option: list[str]) -> None:
    assert cli("orchestra", "generate", demo, *option).code == 2


def test_it_can_be_printed(demo: Path, project: Project, cli: Cli) -> None:
    answer = cli("orchestra", "generate", demo, "--output", "-", "--style", "tasks")
    assert answer.code == 0
    assert yaml.safe_load(answer.out)["pipeline"]["wave_1"]["tasks"]
    assert not (project.folder / "orchestra" / "pipelines").exists()


def test_the_pipeline_of_a_single_table_runs_without_a_job_file(
    project: Project, shop_database: Database, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load((_ROOT / "orchestra" / "pipelines" / "single_table.yml").read_text())
    inputs = {name: one["default"] for name, one in document["inputs"].items()}
    parameters = document["pipeline"]["load"]["tasks"]["load_table"]["parameters"]
    variables = json.loads(substituted(parameters["environment_variables"], **inputs))
    assert variables["DESTINATION"] == "snowflake"
    secrets = {"SOURCE_CREDS": shop_database.dsn, "DESTINATION": "duckdb", "DEST_CREDS": '{"path": "warehouse.duckdb"}'}
    for name, text in {**variables, **secrets}.items():
        monkeypatch.setenv(name, text)
    answer = cli(*shlex.split(parameters["command"])[1:])
    assert answer.code == 0, answer.err
    assert project.query("select mode from raw_shop._runner_state") == [("incremental",)]
