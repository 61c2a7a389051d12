"""The real command as a process of its own, forked from one that has imported what a backfill needs.

To import duckdb, pyarrow and all that takes longer than to move a small table, and tests start and kill hundreds of
processes. Each of them has an environment, a folder and files of its own, and begins where ``python -m runner`` does.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner import crash

_CONTEXT = multiprocessing.get_context("forkserver")
_NEEDED = """
connectors.postgres.source duckdb obstore psycopg2 rich.markup runner.commands.assembly runner.commands.backfill
runner.commands.summary runner.commands.task runner.report runner.writers.duckdb runner.writers.filesystem
runner.writers.objects runner.writers.postgres typer uvloop
"""
_CONTEXT.set_forkserver_preload(_NEEDED.split())


class Command:
    """A command that was started; it is asked as ``subprocess.Popen`` is.

    Args:
        arguments: What follows ``runner``.
        folder: Its working directory.
        environ: All of its environment.
        disk: How many bytes a file of it may have.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], *, disk: int | None = None
    ) -> None:
        self._said = [_file(), _file()]
        self._unlink = weakref.finalize(self, _unlink, self._said)
        self._arguments = tuple(arguments)
        given = (self._arguments, str(folder), dict(environ), self._said, disk)
        self._process = _CONTEXT.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None
        self._told: tuple[str, str] | None = None

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends and return its exit code; a signal that ended it is negative.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        if self.returncode is None:
            self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it ends; return what it wrote to its output and what it said of errors."""
        self.wait(timeout)
        if self._told is None:
            out, err = (Path(path).read_text("utf-8") for path in self._said)
            self._told = out, err
            self._process.close()
            self._unlink()
        return self._told

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it ended."""
        if self.returncode is None and self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def _file() -> str:
    descriptor, path = tempfile.mkstemp(prefix="said-")
    os.close(descriptor)
    return path


def _unlink(paths: Sequence[str]) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)


def _run(
    arguments: Sequence[str], folder: str, environ: Mapping[str, str], said: Sequence[str], disk: int | None
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.path.insert(0, folder)
    for number, path in enumerate(said, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if disk is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    # The one module that reads the environment as it is imported.
    importlib.reload(crash)
    sys.argv = ["runner", *arguments]
    runpy.run_module("runner", run_name="__main__", alter_sys=True)
