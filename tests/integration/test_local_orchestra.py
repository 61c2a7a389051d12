"""``python -m orchestra.testing``: pipelines of a folder, runs to a scripted end, a state that outlives the process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.testing.__main__ import main
from orchestra.testing.local import local_orchestra, serve
from orchestra.testing.request import PREFIX
from runner.errors import UsageError
from tests.orchestraapi import LOAD


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[str]:
    """Start it and give its address; end it as a person does."""
    command = [sys.executable, "-m", "orchestra.testing", "--port", "0", "--state", "state.db", *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("address:").strip()
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def ask(url: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(f"{url}{PREFIX}{path}", data=None if body is None else json.dumps(body).encode())
    request.add_header("Authorization", "Bearer local")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_what_it_was_told_is_there_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "load_orders.yml").write_text(LOAD)
    (folder / "load_orders.script.yml").write_text("otherwise: {attempts: [{seconds: 0.05, status: WARNING}]}\n")
    with served(tmp_path, "--pipelines", "pipelines", "--history", "20") as url:
        run = ask(url, "/pipelines/load_orders/start", {"runInputs": {"file": "a"}})["id"]
        deadline = time.monotonic() + 20
        while (status := ask(url, f"/pipeline_runs/{run}/status")["runStatus"]) == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status == "WARNING"
        before = ask(url, f"/pipeline_runs/{run}/task_runs")
    (folder / "load_orders.yml").write_text(LOAD.replace("Load orders", "Load all orders"))
    with served(tmp_path, "--pipelines", "pipelines") as url:
        assert ask(url, f"/pipeline_runs/{run}/task_runs") == before
        (pipeline,) = ask(url, "/pipelines")
        assert (pipeline["name"], pipeline["publishedVersionNumber"]) == ("Load all orders", 2)
        assert pipeline["latestRunId"] == run


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yml", LOAD.replace("version: v1", "version: v2"), "a.yml: version: Input should be 'v1'"),
        ("a.yml", "- 1", "a.yml is no pipeline"),
        ("a.yml", "a: [", "a.yml is no YAML"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        local_orchestra(port=0, key="local", pipelines=tmp_path)


def test_our_own_pipelines_are_taken() -> None:
    folder = Path(__file__).parents[2] / "orchestra" / "pipelines"
    double = local_orchestra(port=0, key="local", pipelines=folder)
    assert {one.alias for one in double.workspace.pipelines.values()} == {path.stem for path in folder.glob("*.yml")}


def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["orchestra.testing", "--port", "99999"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --port 99999: a port is 0 to 65535.\n"
    with pytest.raises(OverflowError):
        local_orchestra(port=99999, key="local").__enter__()


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        local_orchestra(port=0, key="local", pipelines=tmp_path / "none")
    (tmp_path / "state.db").write_text("no database " * 100)
    with pytest.raises(UsageError, match="holds no state"):
        local_orchestra(port=0, key="local", state=tmp_path / "state.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        double = local_orchestra(port=taken.getsockname()[1], key="local")
        with pytest.raises(UsageError, match="cannot listen"):
            serve(double, lambda: None)
