"""``make demo-sensors``: what a newcomer sees is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import NotInstalled, environment

_ROOT = Path(__file__).parents[2]


def test_each_file_has_started_one_run_although_the_process_was_killed_meanwhile(tmp_path: Path) -> None:
    try:
        moto = environment(_ROOT / "tests" / "servers" / "moto.txt")
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    (tmp_path / "orchestra").symlink_to(_ROOT / "orchestra")
    command = [sys.executable, "-m", "orchestra.testing.demo", "--moto", str(moto), "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "monday.csv: 1 run" in done.stdout
    assert "tuesday.csv: 1 run" in done.stdout
    assert "SIGKILL" in done.stdout
