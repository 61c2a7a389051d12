"""The state folder: one folder a run, one process a job."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from runner.errors import Busy, LedgerDamaged, UsageError
from runner.ledger import LedgerReader
from runner.naming import fingerprint

_KEEP = timedelta(days=30)
_ENDED = ("finished", "failed", "abandoned")


def project_root(start: Path) -> Path:
    """Return the nearest folder with a pyproject.toml or .git, or the start itself."""
    start = start.resolve()
    folder = start if start.is_dir() else start.parent
    for place in (folder, *folder.parents):
        if (place / "pyproject.toml").exists() or (place / ".git").exists():
            return place
    return folder


def state_dir(start: Path, asked: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the state folder: --state-dir, RUNNER_STATE_DIR, else .runner beside the project's root."""
    chosen = asked or (Path(environ["RUNNER_STATE_DIR"]) if environ.get("RUNNER_STATE_DIR") else None)
    return (chosen or project_root(start) / ".runner").absolute()


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / "ledger.sqlite"

    @property
    def spool(self) -> Path:
        """The folder of spooled chunks."""
        return self.path / "spool"

    @property
    def plan(self) -> Path:
        """The plan that the run works by."""
        return self.path / "plan.json"

    @property
    def report(self) -> Path:
        """The report, one HTML page."""
        return self.path / "report.html"

    @property
    def proof(self) -> Path:
        """The proof of a run that was verified by value."""
        return self.path / "proof.json"

    @property
    def events(self) -> Path:
        """Every event of the run, a JSON object a line."""
        return self.path / "events.jsonl"

    def record(self) -> dict[str, Any] | None:
        """Return the run's row of the ledger; None where there is no readable ledger."""
        try:
            with LedgerReader(self.ledger) as ledger:
                return ledger.run()
        except LedgerDamaged:
            return None


class StateFolder:
    """All runs of a project on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the folder, private to its owner.

        Raises:
            UsageError: It cannot be made.
        """
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "jobs").mkdir(exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"The state folder {self.path} cannot be made: {error.strerror}.",
                guidance="Point --state-dir or RUNNER_STATE_DIR at a folder that can be written.",
            ) from error

    def runs(self) -> list[RunFolder]:
        """Return every run, newest first."""
        folder = self.path / "runs"
        names = sorted((entry.name for entry in folder.iterdir()), reverse=True) if folder.is_dir() else []
        return [RunFolder(folder / name) for name in names if (folder / name / "ledger.sqlite").exists()]

    def find(self, run: str) -> RunFolder:
        """Return a run by its id, by the beginning of it, or by ``latest``.

        Raises:
            UsageError: There is no such run, or several.
        """
        runs = self.runs()
        hits = runs[:1] if run == "latest" else [one for one in runs if one.run.startswith(run)]
        if len(hits) == 1:
            return hits[0]
        problem = "matches several runs" if hits else "is not a run"
        raise UsageError(f"{run!r} {problem} under {self.path}.", guidance="`runner runs` lists them.")

    def newest(self, **same: str) -> tuple[RunFolder, dict[str, Any]] | None:
        """Return the newest run whose record has these values, with the record."""
        for folder in self.runs():
            record = folder.record()
            if record and all(record[key] == value for key, value in same.items()):
                return folder, record
        return None

    def new(self, now: datetime, suffix: str) -> RunFolder:
        """Make the folder of a new run."""
        # To the millisecond: the names sort by age, also of two runs in one second, or where the clock went back.
        newest = next(iter(self.runs()), None)
        if newest is not None and (last := _stamp(newest.run)) is not None:
            now = max(now, last + timedelta(milliseconds=1))
        folder = RunFolder(self.path / "runs" / f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{suffix}")
        folder.path.mkdir(mode=0o700)
        return folder

    def state(self, record: Mapping[str, Any]) -> str:
        """Return a run's state; one that says it is running, while nobody owns its job, was killed."""
        if record["state"] != "running":
            return str(record["state"])
        command = str(record["command"])
        table = command.removeprefix("task ").partition(" --")[0]
        owned = f"{record['job']}.{table}" if command.startswith("task ") else str(record["job"])
        return "running" if self._is_owned(owned) else "killed"

    def abandon(self, folder: RunFolder) -> None:
        """End an unfinished run that was started over: nothing goes on with it, and its spool is deleted."""
        with contextlib.closing(sqlite3.connect(folder.ledger)) as connection, connection:
            connection.execute("update run set state = 'abandoned'")
        shutil.rmtree(folder.spool, ignore_errors=True)

    def prune(self, now: datetime) -> None:
        """Delete ended runs older than thirty days."""
        for folder in self.runs():
            record = folder.record()
            if record and record["state"] in _ENDED and now - datetime.fromisoformat(record["started"]) > _KEEP:
                shutil.rmtree(folder.path, ignore_errors=True)

    def _lock_file(self, job: str) -> Path:
        # The name of a table may hold anything; the digest keeps two that look alike apart.
        plain = re.sub(r"[^\w.-]", "_", job)
        file = plain if plain == job and len(job) < 200 else f"{plain[:150]}-{fingerprint(job)}"
        return self.path / "jobs" / f"{file}.lock"

    def _is_owned(self, job: str) -> bool:
        try:
            descriptor = os.open(self._lock_file(job), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextlib.contextmanager
    def own(self, job: str) -> Iterator[None]:
        """Own a job on this machine until the block ends.

        Raises:
            Busy: Another process runs it; the message names its pid.
        """
        descriptor = os.open(self._lock_file(job), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
                raise Busy(f"The job {job!r} is already running on this machine (pid {pid}).", pid=pid) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _stamp(run: str) -> datetime | None:
    """Return when a run was begun, by its name."""
    try:
        return datetime.strptime(f"{run[:18]}000+0000", "%Y%m%dT%H%M%S%f%z")
    except ValueError:
        return None


def is_unfinished(record: Mapping[str, Any]) -> bool:
    """Tell whether the same command goes on with this run."""
    return record["state"] not in _ENDED
