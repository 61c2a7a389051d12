"""The official clients of Orchestra work with its double: orchestra-cli and orchestra-sdk keep it honest."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestra.testing import OrchestraDouble
from orchestra.testing.script import Script
from orchestra.testing.state import Workspace
from tests.environments import NotInstalled, environment
from tests.orchestraapi import LOAD, Clock

_SERVERS = Path(__file__).parent.parent / "servers"
_INPUTS = ("--input", "file=a.csv", "--input", "run_key=k1")
_SLOW_LOG = {"pull": [{"text": "one"}, {"text": "two", "after": 4}, {"text": "three", "after": 8}]}


class Ticking(Clock):
    """A clock that goes on when it is read."""

    def __call__(self) -> datetime:
        self.go(seconds=1)
        return self.moment


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return environment(_SERVERS / "orchestra_client.txt")
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shell(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """One process for all commands."""
    home = tmp_path_factory.mktemp("home")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1", "COLUMNS": "400"}
    for role in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{role}_NAME": "Somebody", f"GIT_{role}_EMAIL": "somebody@example.com"}
    command = [str(python), str(_SERVERS / "orchestra_client.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def double() -> Iterator[OrchestraDouble]:
    with OrchestraDouble() as server:
        server.workspace.start_after = 0.0
        server.workspace.script = Script.model_validate({"otherwise": {"attempts": [{"seconds": 0.1}]}})
        yield server


class Cli:
    """The command line in a folder, at a double."""

    def __init__(self, shell: subprocess.Popen[str], double: OrchestraDouble, folder: Path) -> None:
        self.shell, self.double, self.folder = shell, double, folder
        (folder / "load.yml").write_text(LOAD)

    def __call__(self, *arguments: str, code: int = 0, said: str = "", typed: str = "", **environ: str) -> str:
        """Run a command; what it says holds some words."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        base = {"BASE_URL": self.double.url, "ORCHESTRA_API_KEY": self.double.key, "ORCHESTRA_ACCOUNT_ID": ""}
        asked = {"arguments": arguments, "input": typed, "environ": base | environ, "folder": str(self.folder)}
        self.shell.stdin.write(json.dumps(asked) + "\n")
        self.shell.stdin.flush()
        answer = json.loads(self.shell.stdout.readline())
        assert (answer["code"], said in answer["output"]) == (code, True), answer["output"]
        return str(answer["output"])


@pytest.fixture
def cli(shell: subprocess.Popen[str], double: OrchestraDouble, tmp_path: Path) -> Cli:
    return Cli(shell, double, tmp_path)


def test_definitions_come_and_go(cli: Cli, double: OrchestraDouble) -> None:
    load = str(cli.folder / "load.yml")
    cli("pipeline", "validate", load, said="Validation passed", ORCHESTRA_API_KEY="none")
    (cli.folder / "wrong.yml").write_text(LOAD.replace("integration_job:", "integration_jab:"))
    wrong = cli("pipeline", "validate", str(cli.folder / "wrong.yml"), code=1, said="YAML snippet")
    for key in ("integration_job", "integration_jab"):
        assert f"Error at: pipeline.load.TaskGroupModel.tasks.pull.{key}" in wrong
    cli("pipeline", "new", "-p", str(cli.folder / "wrong.yml"), "-a", "load", code=1)
    cli("pipeline", "new", "-p", load, "-a", "load", "--no-publish", said="created successfully")
    cli("pipeline", "new", "-p", load, "-a", "load", code=1, said="There is a pipeline load already")
    (pipeline,) = double.workspace.pipelines.values()
    assert (pipeline.published, pipeline.data["name"]) == (None, "Load orders")
    (cli.folder / "load.yml").write_text(LOAD.replace("Load orders", "Load more"))
    cli("pipeline", "update", "-p", load, "-a", "load", "--publish", said="updated successfully")
    assert (pipeline.published, pipeline.data["name"]) == (2, "Load more")
    assert [one["alias"] for one in json.loads(cli("pipeline", "list"))] == ["load"]
    cli("pipeline", "get", "-i", pipeline.id, said="Storage Provider: ORCHESTRA")
    cli("pipeline", "get", "-a", "other", code=1)
    double.keys_delete = False
    cli("pipeline", "delete", "-a", "load", typed="y\n", code=1, said="not by an API key")
    double.keys_delete = True
    cli("pipeline", "delete", "-a", "load", typed="n\n", code=1)
    cli("pipeline", "delete", "-a", "load", typed="y\n", said="deleted successfully")
    assert not double.workspace.pipelines


def test_runs_are_started_and_followed(cli: Cli, double: OrchestraDouble) -> None:
    pipeline = double.workspace.add("load", LOAD)
    run = ("pipeline", "run", "-a", "load")
    cli(
        *(*run, "--task", "Pull", *_INPUTS, "-e", "DEBUG=true", "--environment-name", "Dev", "--continue", "--wait"),
        said="SUCCEEDED",
    )
    assert double.workspace.starts == [
        {
            "runInputs": {"file": "a.csv", "run_key": "k1"},
            "environmentOverrides": {"DEBUG": {"type": "bool", "value": True}},
            "environment": "Dev",
            "taskIds": ["pull"],
            "continueDownstreamRun": True,
        }
    ]
    (first,) = double.workspace.runs.values()
    assert [one.task for one in first.tasks] == ["pull", "tell"]
    for form in ("data", "text", "yaml_key", "content", "document"):
        double.form = form
        cli(*run, "--task", "load", *_INPUTS, "--no-wait")
        assert double.workspace.starts[-1]["taskIds"] == ["pull"]
    for status, code in (("WARNING", 0), ("FAILED", 1), ("CANCELLED", 1)):
        pipeline.script = Script.model_validate({"otherwise": {"attempts": [{"seconds": 0, "status": status}]}})
        cli(*run, *_INPUTS, "--wait", code=code, said=status)
    cli(*run, "--no-wait", code=1, said="Missing required pipeline input: file")
    cli(*run, "--version", "7", "--no-wait", code=1, said="no such version")
    cli(*run, *_INPUTS, "--environment-name", "Nowhere", "--no-wait", code=1, said="Environment not found")
    pipeline.paused = True
    cli(*run, *_INPUTS, "--no-wait", code=1, said="paused")


def test_a_draft_is_built_and_run(cli: Cli, double: OrchestraDouble) -> None:
    path = cli.folder / "load.yml"
    path.write_text(LOAD.replace("file: {type: string}", "file: {type: string, optional: true}"))
    build = ("pipeline", "build", "-p", str(path), "-a", "built", "--force")
    cli(*build, "--wait", said="SUCCEEDED")
    cli(*build, "--no-wait", said="version 2")
    (pipeline,) = double.workspace.pipelines.values()
    assert (pipeline.published, [run.version for run in double.workspace.runs.values()]) == (None, [1, 2])


def test_a_log_is_watched_while_it_grows(cli: Cli, double: OrchestraDouble) -> None:
    # Time passes by the requests that are made.
    clock = Ticking()
    double.now = double.workspace.now = clock
    script = {"tasks": {"pull": {"attempts": [{"seconds": 12}], "log": _SLOW_LOG}}}
    run = double.workspace.start(double.workspace.add("load", LOAD, script=Script.model_validate(script)), {})
    said = cli("task", "logs", "-tr", run.tasks[0].id)
    assert said == "one\ntwo\nthree\n"
    asked = [one.headers.get("range") for one in double.seen if one.path.endswith("/download")]
    assert len(asked) > 5, "it was growing"
    assert {"bytes=0-", "bytes=4-", "bytes=8-"} <= set(asked)
    named = ("task", "logs", "-tr", run.tasks[0].id, "-f", "1/pull", "--no-watch")
    assert cli(*named) == said
    cli("task", "logs", "-tr", run.id, code=1, said="No task run found")
    cli("task", "logs", "-tr", run.tasks[0].id, "-f", "2/pull", code=1, said="Log file not found")


def test_a_definition_lives_in_git(cli: Cli, double: OrchestraDouble) -> None:
    def git(*arguments: str) -> None:
        environ = {"PATH": os.environ["PATH"], "HOME": str(cli.folder), "GIT_CONFIG_NOSYSTEM": "1"}
        who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
        subprocess.run(["git", *who, *arguments], cwd=cli.folder, env=environ, check=True, capture_output=True)

    git("init", "-q", "--bare", "-b", "main", "origin.git")
    git("init", "-q", "-b", "main")
    (cli.folder / ".gitignore").write_text("origin.git\n")
    git("add", ".")
    git("commit", "-qm", "A pipeline")
    git("remote", "add", "origin", "https://github.com/shop/pipelines.git")
    git("remote", "set-url", "--push", "origin", str(cli.folder / "origin.git"))
    git("push", "-q", "origin", "main")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    double.workspace.folder = cli.folder
    cli("pipeline", "import", "-p", str(cli.folder / "load.yml"), "-a", "imported", said="imported successfully")
    cli("pipeline", "get", "-p", str(cli.folder / "load.yml"), said="Storage Provider: GITHUB")
    double.workspace.add("moving", LOAD)
    cli("pipeline", "migrate", "-p", str(cli.folder / "moved.yml"), "-a", "moving", "--force", said="Migrated pipeline")
    moved = double.workspace.find("moving")
    assert moved is not None
    assert moved.storage.model_dump() == {
        "provider": "GITHUB",
        "repository": "shop/pipelines",
        "yaml_path": "moved.yml",
        "default_branch": "main",
        "working_branch": None,
    }
    assert (cli.folder / "moved.yml").read_text() == LOAD
    cli("pipeline", "migrate", "-p", str(cli.folder / "moved.yml"), "-a", "moving", "--force", code=1, said="already")


def test_accounts(cli: Cli, double: OrchestraDouble) -> None:
    (account,) = json.loads(cli("accounts", "list"))
    assert account == {"id": double.workspace.account, "name": "First", "default": False}
    cli("pipeline", "list", ORCHESTRA_ACCOUNT_ID=double.workspace.account)
    other = Workspace(double.now, name="Second")
    cli("pipeline", "list", code=1, said="another account", ORCHESTRA_ACCOUNT_ID=other.account)
    cli("pipeline", "list", code=1, said="Invalid or missing API key", ORCHESTRA_API_KEY="wrong")
    # To this client a token in the place of the key is a key; what it then says, it says to people with a login.
    double.logins["token"] = [double.workspace, other]
    assert len(json.loads(cli("accounts", "list", ORCHESTRA_API_KEY="token"))) == 2
    cli("pipeline", "list", code=1, said="Pick one with --account-id", ORCHESTRA_API_KEY="token")
    cli("pipeline", "list", ORCHESTRA_API_KEY="token", ORCHESTRA_ACCOUNT_ID=other.account)


_TASK = """
import logging
import os
import uuid
from orchestra_sdk.orchestra import OrchestraSDK

good, bad = os.environ["RUNS"].split()
os.environ["ORCHESTRA_TASK_RUN_ID"] = good
sdk = OrchestraSDK(os.environ["ORCHESTRA_API_KEY"], log_file="task.log", send_logs=True)

@sdk.run()
def work():
    open("task.log", "w").write("5 rows\\n")
    connection = sdk.get_linked_connection("snowflake")
    assert (connection.connection_id, connection["user"], connection["keys"]) == ("MINE_12345", "me", [1, 2]), connection
    assert sdk.set_output("Rows", {"orders": 5})
    return "done"

assert work() == "done"
# HTTP clients of the SDK belong to one task run.
sdk.task_run_id = uuid.UUID(bad)
sdk.send_logs = False

@sdk.run()
def fail():
    raise ValueError("no such table")

assert fail() is None
"""


def test_a_task_tells_of_itself_through_the_sdk(python: Path, double: OrchestraDouble, tmp_path: Path) -> None:
    held = Script.model_validate({"otherwise": {"attempts": [{"seconds": None}]}})
    pipeline = double.workspace.add("load", LOAD, script=held)
    good, bad = (double.workspace.start(pipeline, {}) for _ in range(2))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ORCHESTRA_API_KEY": double.key,
        "ORCHESTRA_WEBHOOK_URL": double.url,
        "RUNS": f"{good.tasks[0].id} {bad.tasks[0].id}",
        "SNOWFLAKE__MINE_12345__USER": "me",
        "SNOWFLAKE__MINE_12345__KEYS": "[1, 2]",
    }
    done = subprocess.run(
        [str(python), "-c", _TASK], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"its decorator swallows what goes wrong; {done.stderr}"
    now = double.now()
    task = good.tasks[0]
    assert (task.status(now), task.outputs, task.logs) == (
        "SUCCEEDED",
        {"rows": {"orders": 5}},
        {"task.log": "5 rows\n"},
    )
    failed = bad.tasks[0].shown(now, {})
    assert (failed["status"], failed["message"]) == ("FAILED", "fail failed. Error: no such table")
    assert (bad.status(now), good.status(now)) == ("FAILED", "RUNNING")
    kinds: list[Any] = [(one["event_type"], one.get("status")) for one in double.events]
    assert kinds == [
        ("UPDATE_STATUS", "RUNNING"),
        ("SET_OUTPUT", None),
        ("UPDATE_STATUS", "SUCCEEDED"),
        ("LOG", None),
        ("UPDATE_STATUS", "RUNNING"),
        ("UPDATE_STATUS", "FAILED"),
    ]
