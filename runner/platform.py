"""The port of a platform: what an orchestrator that starts our tasks holds for them, and takes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# Set for a process that is started by another one, which tells the platform itself.
TOLD_BY_PARENT = "RUNNER_TOLD_BY_PARENT"


@dataclass(frozen=True)
class TableReport:
    """How one table of a run ended.

    Attributes:
        name: As the source calls it.
        destination: Dataset and table.
        state: planned, running, published, failed, parked, or skipped.
        mark: The high-water mark after the run; None where the table has none.
        error: What happened; advice: what to do about it. Without secrets.
    """

    name: str
    destination: str
    state: str
    mode: str = ""
    rows: int = 0
    chunks: int = 0
    mark: str | None = None
    error: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class RunReport:
    """How a run ended, or why it could not start.

    Attributes:
        command: backfill, or task.
        run: Its id; empty where nothing could start.
        exit_code: 0 done, 1 something failed, 2 nothing could start, 3 not finished.
        drift: Table to what differs from the lock file, in words.
        error: Why nothing could start, or what failed beside the tables.
    """

    job: str
    command: str
    exit_code: int
    run: str = ""
    seconds: float = 0.0
    tables: Sequence[TableReport] = ()
    drift: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    advice: str | None = None


class Platform(Protocol):
    """An orchestrator; an entry point of the group ``runner.platforms``, an object or a module."""

    def linked_options(
        self, kind: str, keys: frozenset[str], environ: Mapping[str, str], *, wanted: str = ""
    ) -> dict[str, Any]:
        """Return the options of a source or destination that the platform hands to the task; empty for none.

        Args:
            kind: The type, as in a job file.
            keys: The keys that the type takes.
            wanted: Which of several connections.

        Raises:
            UsageError: It cannot be told which one is meant.
        """
        ...

    async def set_outputs(self, outputs: Mapping[str, Any], environ: Mapping[str, str]) -> Sequence[str]:
        """Hand values to the tasks that come later; nothing happens where the platform did not start this process.

        Returns:
            What went wrong, in words. None of it makes the task fail.
        """
        ...

    def listens(self, environ: Mapping[str, str]) -> bool:
        """Tell whether anybody wants to know how this process fares: the platform started it, or alerts are set up."""
        ...

    async def begin(self, environ: Mapping[str, str]) -> Sequence[str]:
        """Tell the platform that the task is at work; returns as ``set_outputs`` does."""
        ...

    async def end(self, report: RunReport, environ: Mapping[str, str]) -> Sequence[str]:
        """Tell the platform how a run ended: outputs first, then the status; returns as ``set_outputs`` does."""
        ...
