"""What a production pipeline is made from: a job file and its lock, as they are on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.batches import make_batches
from runner.document import Document
from runner.errors import UsageError
from runner.job import Job, is_exact, matches
from runner.jobfile import SettledJob, load_job
from runner.lockfile import LockFile
from runner.naming import fingerprint
from runner.production import Production
from runner.runs import project_root

# What ends the JSON text that a name is put into as it is, or makes it a pattern for whoever reads it.
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f*?\[\]]|\$\{\{|\}\}')

_NAMED = 5


@dataclass(frozen=True)
class Recipe:
    """All that a pipeline is made from.

    Attributes:
        root: The folder of the repository's project; job: the job file in it, as POSIX.
        elements: What is moved, in order: tables, and batches of small ones.
        batch_small: How many small tables share a task; None where none do.
        digest: Of the job file's content and the lock's, without comments.
    """

    root: Path
    job: str
    settled: SettledJob
    production: Production
    lock: LockFile
    elements: tuple[str, ...]
    style: str
    batch_small: int | None
    digest: str

    @property
    def pipeline(self) -> Path:
        """Where the pipeline is kept."""
        return self.root / "orchestra" / "pipelines" / f"{Path(self.job).stem}.yml"

    @property
    def at_once(self) -> int:
        """How many tasks run at once: no more than the source takes connections."""
        return min(self.production.max_parallel, self.settled.limits.connections)

    @property
    def share(self) -> dict[str, Any]:
        """The limits of one task, so that all of them together keep to those of the source."""
        limits = self.settled.limits
        share: dict[str, Any] = {"connections": limits.connections // self.at_once}
        if limits.rate is not None:
            share["rate"] = f"{max(1, int(limits.rate * 86400 / self.at_once))}/d"
        return share

    def literal(self, key: str) -> str | None:
        """Return an option of the destination that is no reference to a variable."""
        value = self.settled.destination.options.get(key)
        return value if isinstance(value, str) and value and "$" not in value else None


def read_recipe(path: Path, *, style: str | None = None, batch_small: int | None = None) -> Recipe:
    """Read a job file and its lock.

    Args:
        path: The job file.
        style: matrix or tasks, instead of what the job file says; batch_small: likewise.

    Raises:
        UsageError: The job says nothing of production, has no lock file, or has tables that no pipeline can name.
    """
    document = Document(path)
    settled = load_job(path, environ={}, secrets=False)
    if settled.job.production is None:
        raise UsageError(
            f"{path} does not say how it runs in production.",
            guidance="Add to it, for example: production: {schedule: '30 5 * * ? *', timezone: UTC}",
        )
    if settled.job.production.environment:
        settled = load_job(path, env=settled.job.production.environment, environ={}, secrets=False)
    production = settled.job.production
    assert production is not None
    lock = LockFile.read(LockFile.path(path))
    renew = f"Run: runner plan {path} --lock" + (f" --env {production.environment}" if production.environment else "")
    if lock is None or not lock.tables:
        raise UsageError(f"{path} has no lock file, which says what its tables are.", guidance=renew)
    style, batch_small = style or production.style, batch_small or production.batch_small
    _refuse_names(lock, style)
    if old := _older(settled.job, lock):
        raise UsageError(f"The lock file of {path} is older than the job: {old}.", guidance=renew)
    batches = make_batches(lock, batch_small) if batch_small else {}
    batched = {name for names in batches.values() for name in names}
    root = project_root(path)
    return Recipe(
        root,
        path.resolve().relative_to(root).as_posix(),
        settled,
        production,
        lock,
        (*(name for name in lock.tables if name not in batched), *batches),
        style,
        batch_small,
        fingerprint([document.data, lock.tables]),
    )


def _refuse_names(lock: LockFile, style: str) -> None:
    for name in lock.tables:
        found = _UNSAFE.search(name) or (style == "tasks" and "'" in name and re.search("'", name))
        if found:
            raise UsageError(
                f"The table {name!r} cannot be named in a pipeline: {found[0]!r} would end the text it is put into.",
                guidance="Exclude it and load it by a job and a task of its own, or rename it at the source.",
            )


def _older(job: Job, lock: LockFile) -> str:
    """Return what a job says that its lock does not know, in words; empty where it knows all."""
    entries = {name: job.entry(name) for name in lock.tables}
    gone = [name for name, entry in entries.items() if entry is None]
    other = [
        name
        for name, entry in entries.items()
        if entry is not None and entry.mode not in (None, "auto", lock.tables[name]["mode"])
    ]
    new = [
        pattern
        for pattern, entry in job.tables.items()
        if is_exact(pattern)
        and not (entry and entry.disabled)
        and not any(matches(pattern, name) for name in lock.tables)
        and not any(matches(excluded, pattern) for excluded in job.exclude)
    ]
    return "; ".join(
        f"{words}: {', '.join(names[:_NAMED])}{' …' if len(names) > _NAMED else ''}"
        for words, names in (("not selected any more", gone), ("in another mode now", other), ("new", new))
        if names
    )
