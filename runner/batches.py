"""Small tables that share one task: the same names for whoever writes the tasks and for the task itself."""

from __future__ import annotations

import re

from runner.errors import UsageError
from runner.lockfile import LockFile

_STEM = "small"


def make_batches(lock: LockFile, size: int) -> dict[str, tuple[str, ...]]:
    """Return the batches of a lock file: ``small_1``, ``small_2`` …, and the tables in each.

    Args:
        size: So many tables in one; a single table that is left over stays by itself.
    """
    small = [name for name, entry in lock.tables.items() if entry.get("small")]
    stem = _stem(lock)
    parts = [small[start : start + size] for start in range(0, len(small), size)]
    return {f"{stem}_{number}": tuple(part) for number, part in enumerate(parts, 1) if len(part) > 1}


def _stem(lock: LockFile) -> str:
    """Return what no table is called: with its schema, without it, or at the destination."""
    taken = {part for name in lock.tables for part in (name, name.partition(".")[2])}
    taken |= {str(entry.get("destination")) for entry in lock.tables.values()}
    stem = _STEM
    while any(re.fullmatch(rf"{stem}_\d+", name) for name in taken):
        stem += "_batch"
    return stem


def tables_of(name: str, size: str, lock: LockFile | None) -> tuple[str, ...]:
    """Return the tables that a task is told to move by one name.

    Args:
        name: A table, or a batch.
        size: BATCH_SMALL as it is set; empty where no tables share a task.

    Raises:
        UsageError: The size is no number, or there is no lock file to find the batches in.
    """
    if not size.strip():
        return (name,)
    if not size.strip().isdecimal() or int(size) < 2:
        raise UsageError(f"BATCH_SMALL is {size!r}.", guidance="Set it to a number from 2 on, or leave it empty.")
    if lock is None:
        raise UsageError("BATCH_SMALL is set, and the job has no lock file.", guidance="Run: runner plan JOB --lock")
    return make_batches(lock, int(size)).get(name, (name,))
