"""From the plan, the ledger and the destination to tables at work: what goes on, what begins anew, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runner.clock import Clock
from runner.errors import JobFileError, NotOurs
from runner.events import SchemaChanged, Stream, TableReplanned, Warned
from runner.journal import Statement
from runner.load import DatasetState, TableState
from runner.plan import Plan, Rejected, TablePlan, mark_fits, not_ours, reaches_past, windowed
from runner.record import Item, restore, take_over
from runner.rowhash import Slice
from runner.spool import Spool

REFRESH = " --full-refresh"


@dataclass(frozen=True)
class Options:
    """What the command line asks of one run.

    Attributes:
        yes: Whether to do what asks for a confirmation.
        profile: Whether to measure where the time goes.
        run_key: What this run is the answer to: with the same one nothing is done twice.
        repair: Table to the slice of it that is read and replaced; None for the whole of it.
    """

    only: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    full_refresh: bool = False
    failed: bool = False
    verify: str = "counts"
    fail_fast: bool = False
    grace: float = 30.0
    yes: bool = False
    profile: bool = False
    run_key: str | None = None
    repair: Mapping[str, Slice | None] | None = None

    def command(self, name: str) -> str:
        """Return what makes a command the same one: a range, a refresh, or another run key, is a run of its own."""
        if self.repair is not None:
            return f"{name} repair"
        given = [("--since", self.since), ("--until", self.until), ("--run-key", self.run_key)]
        if self.run_key is not None and self.only:
            # Without a key any tables go on with the same run; with one they are what was asked for.
            given.append(("--tables", ",".join(sorted(self.only))))
        key = name + "".join(f" {option} {value}" for option, value in given if value is not None)
        return key + (REFRESH if self.full_refresh else "")


@dataclass
class Settled:
    """The tables of a run before it works on them.

    Attributes:
        waiting: Tables of the run that this command was not asked for, as the ledger has them.
        done: Tables that this run has published before this process.
        last_epoch: The largest epoch that anything of this run was read under.
    """

    items: list[Item] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[Item] = field(default_factory=list)
    last_epoch: int = 0


class Settling:
    """Settles the tables of one run.

    Args:
        state: What the destination knows.
        kept: What the ledger of an unfinished run knows, by table.
        hashes: Whether chunks need fingerprints.
        run: The run at work.
    """

    def __init__(
        self,
        options: Options,
        state: DatasetState,
        kept: Mapping[str, dict[str, Any]],
        spool: Spool,
        stream: Stream,
        clock: Clock,
        *,
        hashes: bool,
        run: str,
    ) -> None:
        self._run = run
        self._options = options
        self._state = state
        self._kept = kept
        self._spool = spool
        self._stream = stream
        self._clock = clock
        self._hashes = hashes

    def settle(self, plan: Plan, denied: list[Rejected], skipped: list[str]) -> tuple[Settled, list[Statement]]:
        """Return the tables at work, and what the ledger has to be told about tables that are done."""
        found = Settled(rejected=[*plan.rejected, *denied], skipped=skipped, last_epoch=self._last_epoch())
        left_out = {one.name for one in denied} | set(skipped)
        caught_up: list[Statement] = []
        for table in plan.tables:
            if table.name in left_out:
                continue
            row = self._kept.get(table.name)
            try:
                self._check_owner(table)
                item = self._item(table, row)
            except (NotOurs, JobFileError) as error:
                found.rejected.append(Rejected(table.name, error))
                continue
            if item.state == "published":
                found.skipped.append(table.name)
                found.done.append(item)
                if row is not None and row["state"] != "published":
                    caught_up += item.published_at(self._clock.now())
            elif not (self._options.failed and row is None):
                found.items.append(item)
        selected = {one.name for one in plan.tables}
        if self._options.only:
            # Tables of the run that this command was not asked for wait as they are.
            found.waiting = {
                name: row
                for name, row in self._kept.items()
                if name not in selected and row["state"] not in ("published", "failed")
            }
        return found, caught_up

    def _item(self, table: TablePlan, row: dict[str, Any] | None) -> Item:
        """Return a table at work: as far as an earlier process came, here or elsewhere, or from the start."""
        if row is not None and self._fits(row, table):
            return restore(row, table, self._state, self._spool, hashes=self._hashes, run=self._run)
        if row is not None:
            self._stream.emit(TableReplanned(table.name, "its definition or its basis changed"))
        fresh = self.fresh_item(table)
        if self._options.full_refresh:
            return fresh
        return take_over(fresh, self._state, self._spool, hashes=self._hashes) or fresh

    def _check_owner(self, table: TablePlan) -> None:
        if table.target.name not in self._state.existing or table.entry.adopt:
            return
        owner = self._state.tables.get(table.target.name)
        if owner is None or (owner.source, owner.source_table) != (table.target.source, table.name):
            raise not_ours(table.target.name, (owner.source, owner.source_table) if owner else None)

    def _fits(self, row: dict[str, Any], table: TablePlan) -> bool:
        """Tell whether a table of an earlier process may go on: same definition, same basis."""
        stored = json.loads(row["plan"])
        base = self._state.tables.get(table.target.name)
        newest = base.load_id if base else None
        if row["digest"] != table.digest():
            return False
        if newest is not None and newest == row["load_id"]:
            return True
        dropped = not stored["replace"] and base is not None and table.target.name not in self._state.existing
        return bool(stored["base"] == newest and not dropped)

    def fresh_item(self, table: TablePlan) -> Item:
        """Return a table at work from the start."""
        base = self._state.tables.get(table.target.name)
        published = self._published(table, base)
        if self._options.repair is not None:
            return self._repair_item(table, base, self._options.repair.get(table.name))
        self._keep_history(table, base)
        mark = self._mark(table, published)
        if table.mode == "append" and table.range is not None and mark is not None:
            column = table.scan.table.column(str(table.cursor))
            if column is None or reaches_past(table.range[1], mark, column.type):
                raise JobFileError(
                    f"{table.name}: the range reaches past the mark {mark}, and the next run would append it again.",
                    guidance="Give an --until at or before the mark, or run without a range first.",
                )
        appends = table.mode == "append" and table.cursor is None and published is not None
        adds = appends or (table.mode == "snapshot" and published is not None)
        replaces = table.range is None and (mark is None or table.mode in ("full", "snapshot")) and not adds
        return Item(
            windowed(table, mark, published.token if published else None),
            digest=table.digest(),
            replace=replaces,
            fresh=True,
            base=base.load_id if base else None,
        )

    def _keep_history(self, table: TablePlan, base: TableState | None) -> None:
        """Refuse to lose the versions that mode snapshot has kept.

        Raises:
            JobFileError: The table holds them, and this run would not keep them.
        """
        if base is None or base.mode != "snapshot" or table.target.name not in self._state.existing:
            return
        if self._options.full_refresh and self._options.yes:
            return
        if self._options.full_refresh or table.mode != "snapshot":
            raise JobFileError(
                f"{table.name}: the table holds the history that mode snapshot has kept, and this would end it.",
                guidance="Give the table another name with `as:`; or say --full-refresh --yes to drop the history.",
            )

    def _published(self, table: TablePlan, base: TableState | None) -> TableState | None:
        """Return the newest history row if this run goes on from it."""
        ours = base is not None and (base.source, base.source_table) == (table.target.source, table.name)
        there = table.target.name in self._state.existing
        return base if ours and there and not self._options.full_refresh else None

    def _mark(self, table: TablePlan, published: TableState | None) -> str | None:
        """Return the mark to go on from; None reads the table as a whole."""
        if published is None or published.cursor != table.cursor:
            return None
        column = table.scan.table.column(str(table.cursor))
        if published.mark is None or column is None:
            return published.mark
        if not mark_fits(published.mark, column.type):
            change = f"the cursor {table.cursor} is {column.native} now, and the mark {published.mark} is none of it"
            self._stream.emit(SchemaChanged(table.name, f"{change}: the table is read as a whole"))
            return None
        key = ",".join(table.target.key)
        if table.mode == published.mode == "incremental" and published.key is not None and published.key != key:
            change = f"the key changed from ({published.key}) to ({key})"
            self._stream.emit(SchemaChanged(table.name, f"{change}: the table is read as a whole"))
            return None
        if table.entry.late == "scan" and published.token is None:
            reason = "late: scan has no picture of the last run to compare with"
            self._stream.emit(Warned(table.name, f"{reason}: the table is read as a whole"))
            return None
        if table.mode != "full" and published.digest != table.definition() and table.range is None:
            self._stream.emit(
                Warned(
                    table.name,
                    "its definition changed since the last run: rows loaded before keep the old one "
                    "(--full-refresh reads them again)",
                )
            )
        return published.mark

    def _repair_item(self, table: TablePlan, base: TableState | None, part: Slice | None) -> Item:
        """Return a table of which only a slice is read and replaced; its mark stays where it is."""
        scan = replace(table.scan, slice=part)
        if base is not None and base.mark is not None and table.mode == "append":
            # Rows past the mark are the next run's.
            window = table.scan.window
            scan = replace(scan, window=replace(window, end=base.mark, nulls=False) if window else None)
        # The keys of a slice say nothing about the others: what is gone is found by an ordinary run.
        plan = replace(table, scan=scan, deletion=None if table.deletion == "compare" else table.deletion)
        # Rows that the job does not delete stay: all that come are merged by key.
        merges = table.mode == "incremental" and table.deletion is None
        return Item(
            plan,
            digest=plan.digest(),
            replace=part is None and not merges,
            fresh=True,
            base=base.load_id if base else None,
        )

    def _last_epoch(self) -> int:
        """Return the largest epoch on record: an epoch's number is never used twice in a run."""
        chunks = [chunk["epoch"] or 0 for row in self._kept.values() for chunk in row["chunks"]]
        tables = [row["epoch"] or 0 for row in self._kept.values()]
        return max([*chunks, *tables, *(one.epoch for one in self._state.chunks.values())], default=0)


def vanished(plan: Plan, state: DatasetState, job: str) -> list[str]:
    """Return the tables that the job loaded before and that are not in its plan any more."""
    planned = {one.target.name for one in plan.tables} | {one.name for one in plan.rejected}
    return sorted(
        one.source_table
        for name, one in state.tables.items()
        if one.job == job and name in state.existing and name not in planned and one.source_table not in planned
    )
