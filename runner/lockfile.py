"""``<job>.lock.yml``: tables, columns, keys and modes as they were accepted; drift is what differs.

What production is generated from besides is in it too, and is no drift: whether a table is small, its cursor's name at
the destination where that is a time, and the columns that make its rows unique though nothing is merged by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from runner.document import Document, Path_
from runner.errors import JobFileError, LockDrift
from runner.plan import Plan, TablePlan

_SMALL = 10_000


class LockFile:
    """The lock of a job.

    Attributes:
        tables: By name: destination, mode, cursor, key and columns.
    """

    def __init__(self, tables: dict[str, dict[str, Any]]) -> None:
        self.tables = tables

    @classmethod
    def of(cls, plan: Plan) -> LockFile:
        """Return the lock of a plan."""
        return cls({one.name: _entry(one) for one in sorted(plan.tables, key=lambda one: one.name)})

    @classmethod
    def read(cls, path: Path) -> LockFile | None:
        """Read the lock beside a job file; None where there is none.

        Raises:
            JobFileError: It is no lock: somebody edited it.
        """
        if not path.exists():
            return None
        document = Document(path)
        tables = document.data.get("tables") or {}
        wrong: list[Path_] = [("tables",)]
        if isinstance(tables, dict):
            wrong = [("tables", name) for name, entry in tables.items() if not isinstance(entry, dict)]
        if wrong:
            line = document.lines[wrong[0]]
            message = f"{path}:{line}: {'.'.join(map(str, wrong[0]))} should be a mapping."
            raise JobFileError(message, guidance="Run: runner plan JOB --lock", line=line)
        return cls(tables)

    @staticmethod
    def path(job: Path) -> Path:
        """Return where the lock of a job file lies: shop.yml → shop.lock.yml."""
        return job.with_name(f"{job.stem}.lock.yml")

    def write(self, path: Path) -> None:
        """Write the lock."""
        header = "# Written by `runner plan JOB --lock`; what production is generated from and checked against.\n"
        text = yaml.safe_dump({"version": 1, "tables": self.tables}, sort_keys=False, allow_unicode=True, width=110)
        path.write_text(header + text, "utf-8")

    def compare(self, plan: Plan, *, partly: bool = False) -> dict[str, str]:
        """Return what differs, in words, by table.

        Args:
            partly: Whether the plan holds only some of the job's tables: the others are not gone.
        """
        now = LockFile.of(plan).tables
        drift = {}
        for name in sorted({*self.tables, *now}):
            if name not in now:
                if partly:
                    continue
                drift[name] = "gone, or no longer selected"
            elif name not in self.tables:
                drift[name] = "new"
            else:
                changes = _changes(self.tables[name], now[name])
                if changes:
                    drift[name] = ", ".join(changes)
        return drift


def _entry(plan: TablePlan) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "destination": plan.target.name,
        "mode": plan.mode,
        "cursor": plan.cursor,
        "key": list(plan.target.key),
        "columns": {
            column.name: column.native
            + ("" if column.nullable else " not null")
            + (f" ({column.rule})" if column.rule else "")
            for column in plan.scan.columns
        },
    }
    # Without an estimate, as that of a view, a table may have any size.
    if 0 < plan.scan.table.rows < _SMALL:
        entry["small"] = True
    cursor = next((column for column in plan.target.columns if column.source == plan.cursor), None)
    if cursor is not None and (pa.types.is_timestamp(cursor.type) or pa.types.is_date(cursor.type)):
        entry["time"] = cursor.name
    if plan.unique and not plan.target.key:
        entry["unique"] = list(plan.unique)
    return entry


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    changes = [
        f"{key} was {old.get(key)} and is {new[key]}"
        for key in ("destination", "mode", "cursor", "key")
        if (old.get(key) or None) != (new[key] or None)
    ]
    before, after = old.get("columns") or {}, new["columns"]
    changes += [f"column {name} is new" for name in after if name not in before]
    changes += [f"column {name} is gone" for name in before if name not in after]
    changes += [
        f"column {name} was {before[name]} and is {after[name]}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    return changes


def hold_to(
    lock: LockFile | None,
    plan: Plan,
    new_tables: str,
    *,
    partly: bool,
    strict: bool,
    drifted: Callable[[str, str], None],
) -> Plan:
    """Report what differs from a lock file, and leave out new tables where the job says so.

    Args:
        new_tables: load, alert or ignore.
        partly: Whether the plan has only some of the job's tables.
        strict: Whether a difference stops the run.
        drifted: Told of each table and its difference.

    Raises:
        LockDrift: Something differs, and a difference stops the run.
    """
    if lock is None:
        return plan
    drift = lock.compare(plan, partly=partly)
    if new_tables == "ignore":
        drift = {table: change for table, change in drift.items() if table in lock.tables}
    for table, change in drift.items():
        drifted(table, change)
    if new_tables != "load":
        plan = replace(plan, tables=tuple(one for one in plan.tables if one.name in lock.tables))
    if strict and drift:
        raise LockDrift("\n".join(f"{table}: {change}" for table, change in drift.items()))
    return plan
