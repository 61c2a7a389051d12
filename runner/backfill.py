"""The composition: source, spool, loader and ledger as one run. The only file that knows them all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from runner import __version__
from runner.clock import Clock
from runner.columns import HASH_KEY, Protector
from runner.epochs import Epochs
from runner.errors import Busy, LockDrift, NotOurs, RunnerError, TryAgain, UsageError
from runner.events import (
    Draining,
    Drifted,
    LimitChanged,
    RunFinished,
    RunStarted,
    SourcePaused,
    Stream,
    TableReplanned,
    Warned,
)
from runner.executor import LocalExecutor
from runner.fanout import FanOut
from runner.jobfile import SettledJob
from runner.ledger import Ledger, Statement, insert, update
from runner.limits import Budget, SourceLimits
from runner.load import DatasetState, Destination, Lease, Loader, TableState, Writer
from runner.lockfile import LockFile
from runner.mover import Mover, failure
from runner.plan import Plan, Rejected, TablePlan, make_plan, not_ours, patterns, windowed
from runner.record import Item, plan_row, read_tables, rejected_row, restore
from runner.runs import RunFolder, StateFolder, is_unfinished
from runner.secrets import redact
from runner.source import Source
from runner.spool import Spool
from runner.tasks import task_group

_CHUNK_MEMORY = 64 * 2**20
_LEASE_WAIT = 75.0


@dataclass(frozen=True)
class Options:
    """What the command line asks of one run."""

    only: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    full_refresh: bool = False
    failed: bool = False
    verify: str = "counts"
    fail_fast: bool = False
    grace: float = 30.0


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run: str
    exit_code: int
    folder: RunFolder
    items: tuple[Item, ...]
    rejected: tuple[Rejected, ...]
    skipped: tuple[str, ...]
    seconds: float
    unregistered: str | None = None


class Backfill:
    """One run of a job.

    Args:
        settled: The job and all it refers to.
        destination: Where to; its writer is made here.
        environ: Where the key of hashed columns comes from.
        command: What the same command is recognised by when it resumes.
        owned: What one process of this machine owns meanwhile; the job by default.
        opened: Told of the run's folder as soon as there is one.
    """

    def __init__(
        self,
        settled: SettledJob,
        source: Source,
        destination: Destination,
        options: Options,
        *,
        clock: Clock,
        stream: Stream,
        state: StateFolder,
        environ: dict[str, str],
        lock: LockFile | None = None,
        command: str = "backfill",
        owned: str | None = None,
        opened: Callable[[RunFolder], None] = lambda _: None,
    ) -> None:
        self._settled = settled
        self._source = source
        self._destination = destination
        self._options = options
        self._clock = clock
        self._stream = stream
        self._state = state
        self._environ = environ
        self._lock = lock
        self._command = command
        self._opened = opened
        self._owned = owned or settled.job.name
        limits = settled.limits
        self.limits = SourceLimits(
            clock,
            connections=limits.connections,
            rate=limits.rate,
            park=limits.park,
            limit_changed=lambda limit: stream.emit(LimitChanged(limit)),
            paused=lambda seconds: stream.emit(SourcePaused(round(seconds, 3))),
        )
        self.disk = Budget(limits.disk)
        self._executor = LocalExecutor(
            hash_key=environ.get(HASH_KEY),
            width=max(1, limits.memory // 2 // _CHUNK_MEMORY),
            verify=options.verify != "none",
        )
        self._mover: Mover | None = None
        self._fan: FanOut[Item] | None = None
        self._stopping = False
        self._scope: anyio.CancelScope
        self._ledger: Ledger
        self._loader: Loader
        self._epochs: Epochs
        self._spool: Spool
        self._lease: Lease
        self._writer: Writer

    # Stopping.

    def drain(self) -> None:
        """Begin nothing new; what is at work has the grace time to end."""
        if not self._stopping:
            self._stop()
            self._stream.emit(Draining(self._options.grace))
            self._scope.deadline = anyio.current_time() + self._options.grace

    def abort(self) -> None:
        """Stop now; what is durable stays."""
        self._stop()
        self._scope.cancel()

    def _stop(self) -> None:
        self._stopping = True
        if self._mover is not None:
            self._mover.draining = True
        if self._fan is not None:
            self._fan.drain()

    # The run.

    async def run(self) -> Result:
        """Bring every selected table up to date.

        Raises:
            UsageError: Nothing could start.
            ContactError: A system refused the first contact.
            Busy: The job is already running on this machine.
        """
        began = self._clock.monotonic()
        self._scope = anyio.CancelScope()
        with contextlib.ExitStack() as stack:
            await anyio.to_thread.run_sync(self._own, stack)
            async with task_group() as group:
                self._epochs = Epochs(
                    self._source, group, self._clock, self._stream, longest=self._settled.limits.snapshot_age
                )
                try:
                    return await self._run(began)
                finally:
                    self._epochs.close()
                    group.cancel_scope.cancel()

    def _own(self, stack: contextlib.ExitStack) -> None:
        self._state.create()
        stack.enter_context(self._state.own(self._owned))
        self._state.prune(self._clock.now())

    async def _run(self, began: float) -> Result:
        plan = await self._first_contact()
        folder, resumed = await anyio.to_thread.run_sync(self._open_folder, plan)
        self._lease = Lease(self._settled.job.name, folder.run, secrets.token_hex(8), socket.gethostname(), os.getpid())
        self._loader = Loader(self._writer, self._lease, self._clock)
        try:
            state = await self._loader.call(lambda: self._writer.read_state(folder.run))
            items, skipped, rejected = await self._settle(plan, folder, state, resumed=resumed)
            return await self._work(folder, plan, items, skipped, rejected, began, resumed=resumed)
        finally:
            with anyio.CancelScope(shield=True):
                self._loader.close()
                await anyio.to_thread.run_sync(self._ledger.close)
                await anyio.to_thread.run_sync(self._writer.close)

    async def _first_contact(self) -> Plan:
        """Meet both systems and plan; nothing is written before this succeeded."""
        async with self._epochs.current() as epoch:
            tables = await epoch.session.discover(patterns(self._settled.job))
        options = self._options
        plan = make_plan(
            self._settled,
            tables,
            max_name=self._destination.max_name,
            promises=self._destination.promises,
            since=options.since,
            until=options.until,
            only=options.only,
        )
        if any(column.rule == "hash" for one in plan.tables for column in one.scan.columns):
            Protector(tuple(c for one in plan.tables for c in one.scan.columns), self._environ.get(HASH_KEY))
        plan = self._check_lock(plan)
        self._writer = self._destination.writer(plan.dataset)
        await anyio.to_thread.run_sync(self._writer.prepare)
        return plan

    def _check_lock(self, plan: Plan) -> Plan:
        """Report drift against the lock file; new tables follow ``new_tables:``."""
        if self._lock is None:
            return plan
        drift = self._lock.compare(plan, partly=bool(self._options.only))
        policy = self._settled.job.new_tables
        if policy == "ignore":
            drift = {table: change for table, change in drift.items() if table in self._lock.tables}
        for table, change in drift.items():
            self._stream.emit(Drifted(table, change))
        if policy != "load":
            known = self._lock.tables
            plan = replace(plan, tables=tuple(one for one in plan.tables if one.name in known))
        if self._command != "backfill" and drift:
            raise LockDrift("\n".join(f"{table}: {change}" for table, change in drift.items()))
        return plan

    def _open_folder(self, plan: Plan) -> tuple[RunFolder, bool]:
        folder, resumed = self._choose_folder(plan)
        self._ledger = Ledger(folder.ledger)
        self._opened(folder)
        self._spool = Spool(folder.spool, self.disk)
        return folder, resumed

    def _choose_folder(self, plan: Plan) -> tuple[RunFolder, bool]:
        newest = self._state.newest(
            job=self._settled.job.name,
            source=self._settled.source_name,
            dataset=plan.dataset,
            destination=self._destination.describe(),
            command=self._command_key(),
        )
        if newest and not self._options.full_refresh and (self._options.failed or is_unfinished(newest[1])):
            return newest[0], True
        if newest and is_unfinished(newest[1]):
            self._state.abandon(newest[0])
        if self._options.failed:
            raise UsageError("There is no run whose failed tables could be run again.")
        return self._state.new(self._clock.now(), f"{self._clock.random.getrandbits(16):04x}"), False

    def _command_key(self) -> str:
        """Return what makes the command the same one: a range is a run of its own."""
        range_ = [self._options.since, self._options.until]
        return self._command if range_ == [None, None] else f"{self._command} {json.dumps(range_)}"

    # From the plan, the ledger and the destination to tables at work.

    async def _settle(
        self, plan: Plan, folder: RunFolder, state: DatasetState, *, resumed: bool
    ) -> tuple[list[Item], list[str], list[Rejected]]:
        rejected = list(plan.rejected)
        kept = await anyio.to_thread.run_sync(read_tables, folder) if resumed else {}
        items: list[Item] = []
        skipped: list[str] = []
        caught_up: list[Statement] = []
        for table in plan.tables:
            try:
                self._check_owner(table, state)
            except NotOurs as error:
                rejected.append(Rejected(table.name, error))
                continue
            row = kept.get(table.name)
            base = state.tables.get(table.target.name)
            if row is not None and self._fits(row, table, base):
                item = restore(row, table, state, self._spool)
                if item.state == "published":
                    skipped.append(table.name)
                    if row["state"] != "published":
                        caught_up += item.published_at(self._clock.now())
                    continue
            else:
                if row is not None:
                    self._stream.emit(TableReplanned(table.name, "its definition or its basis changed"))
                item = self._fresh_item(table, base, state)
            if self._options.failed and (row is None or row["state"] == "published"):
                continue
            items.append(item)
        denied = await self._take_leases(items)
        rejected += denied
        names = {one.name for one in rejected}
        skipped += [item.name for item in items if item.state == "skipped"]
        items = [item for item in items if item.name not in names and item.state != "skipped"]
        await self._write_plan(plan, folder, items, rejected, resumed=resumed)
        await self._ledger.write(*caught_up)
        claimed = {name for item in items for chunk in item.chunks if chunk.spooled for name in chunk.spooled.files}
        await anyio.to_thread.run_sync(self._spool.sweep, claimed)
        return items, skipped, rejected

    def _check_owner(self, table: TablePlan, state: DatasetState) -> None:
        if table.target.name not in state.existing or table.entry.adopt:
            return
        owner = state.tables.get(table.target.name)
        if owner is None or (owner.source, owner.source_table) != (table.target.source, table.name):
            raise not_ours(table.target.name, (owner.source, owner.source_table) if owner else None)

    def _fits(self, row: dict[str, Any], table: TablePlan, base: TableState | None) -> bool:
        stored = json.loads(row["plan"])
        same_base = stored["base"] == (base.load_id if base else None) or (
            base is not None and base.load_id == row["load_id"]
        )
        return bool(row["digest"] == table.digest() and same_base)

    def _fresh_item(self, table: TablePlan, base: TableState | None, state: DatasetState) -> Item:
        mark = None
        refresh = self._options.full_refresh
        ours = base is not None and (base.source, base.source_table) == (table.target.source, table.name)
        base_now = base if ours and table.target.name in state.existing and not refresh else None
        if base_now is not None and base_now.cursor == table.cursor:
            mark = base_now.mark
        changed = base_now is not None and base_now.digest != table.digest()
        if mark is not None and table.mode != "full" and changed and table.range is None:
            self._stream.emit(
                Warned(
                    table.name,
                    "its definition changed since the last run: rows loaded before keep the old one "
                    "(--full-refresh reads them again)",
                )
            )
        appends = table.mode == "append" and table.cursor is None and base_now is not None
        replaces = table.range is None and (mark is None or table.mode == "full") and not appends
        return Item(
            windowed(table, mark),
            digest=table.digest(),
            replace=replaces,
            fresh=True,
            base=base.load_id if base else None,
        )

    async def _take_leases(self, items: list[Item]) -> list[Rejected]:
        waits = {item.plan.target.name: item for item in items}
        denied: list[Rejected] = []
        deadline = self._clock.monotonic() + _LEASE_WAIT
        while waits:
            wanted = list(waits)
            held = await self._loader.call(partial(self._writer.acquire, self._lease, wanted))
            waiting: dict[str, Item] = {}
            for other in held:
                item = waits[other.table]
                policy = item.plan.entry.on_busy or "wait"
                if policy == "wait" and self._clock.monotonic() < deadline:
                    waiting[other.table] = item
                    continue
                message = f"Run {other.run} on {other.host} (pid {other.pid}) holds the table."
                if policy == "skip":
                    item.state = "skipped"
                    self._stream.emit(Warned(item.name, f"{message} It is skipped."))
                elif policy == "fail":
                    denied.append(Rejected(item.name, RunnerError(message, guidance=Busy.guidance, table=item.name)))
                else:
                    denied.append(Rejected(item.name, Busy(message, table=item.name)))
            if not waiting:
                return denied
            waits = waiting
            await self._clock.sleep(2)
        return denied

    async def _write_plan(
        self, plan: Plan, folder: RunFolder, items: list[Item], rejected: list[Rejected], *, resumed: bool
    ) -> None:
        statements: list[Statement] = []
        job = self._settled
        if resumed:
            statements.append(update("run", {"run": folder.run}, state="running", finished=None, exit_code=None))
        else:
            statements.append(
                insert(
                    "run",
                    {
                        "run": folder.run,
                        "job": job.job.name,
                        "source": job.source_name,
                        "destination": self._destination.describe(),
                        "dataset": plan.dataset,
                        "environment": job.environment,
                        "command": self._command_key(),
                        "state": "running",
                        "started": self._clock.now().isoformat(),
                        "version": __version__,
                    },
                )
            )
        for item in items:
            if item.fresh and not item.chunks:
                statements += item.forget()
        for one in rejected:
            statements.append(rejected_row(one))
        await self._ledger.write(*statements)
        text = json.dumps([plan_row(item) for item in items], indent=1, default=str)
        await anyio.to_thread.run_sync(folder.plan.write_text, text)

    # The work.

    async def _work(
        self,
        folder: RunFolder,
        plan: Plan,
        items: list[Item],
        skipped: list[str],
        rejected: list[Rejected],
        began: float,
        *,
        resumed: bool,
    ) -> Result:
        last = max((chunk.epoch for item in items for chunk in item.chunks), default=0)
        self._epochs.start_after(last)
        async with self._epochs.current() as epoch:
            position = epoch.session.position
        self._stream.emit(
            RunStarted(
                folder.run,
                self._settled.job.name,
                len(items) + len(rejected),
                sum(item.plan.scan.table.rows for item in items),
                sum(item.plan.scan.table.bytes for item in items),
                resumed,
                position.consistent,
                position.note,
            )
        )
        for one in rejected:
            self._stream.emit(failure(one.name, one.error))
        self._mover = Mover(
            self._settled,
            clock=self._clock,
            stream=self._stream,
            source=self.limits,
            epochs=self._epochs,
            executor=self._executor,
            spool=self._spool,
            ledger=self._ledger,
            loader=self._loader,
            verify=self._options.verify != "none",
            on_failure=self.drain if self._options.fail_fast else lambda: None,
        )
        limits = self._settled.limits
        self._fan = FanOut(self._mover.move, width=limits.tables, clock=self._clock, patience=limits.park)
        if self._stopping:
            self._stop()
        with self._scope:
            async with task_group() as group:
                group.start_soon(self._loader.run)
                group.start_soon(self._loader.renew)
                await self._fan.run(items)
                group.cancel_scope.cancel()
        # Nothing here waits for the source: a signal may come again, and the records are still written.
        return await self._finish(folder, items, skipped, rejected, began)

    async def _finish(
        self,
        folder: RunFolder,
        items: list[Item],
        skipped: list[str],
        rejected: list[Rejected],
        began: float,
    ) -> Result:
        published = [item for item in items if item.state == "published"]
        failed = [item for item in items if item.state == "failed"]
        parked = [item for item in items if item.state == "parked"]
        unfinished = [item for item in items if item.state in ("planned", "running")]
        busy = [one for one in rejected if isinstance(one.error, TryAgain)]
        wrong = len(failed) + len(rejected) - len(busy)
        exit_code = 1 if wrong else 3 if unfinished or parked or busy else 0
        unregistered = await self._register([item.plan for item in published])
        try:
            await self._loader.call(lambda: self._writer.release(self._lease))
        except RunnerError as error:
            self._stream.emit(Warned("", f"The leases were not given back and will expire: {error.message}"))
        # A run with tables left is gone on with by the same command; what failed waits for --failed.
        state = "interrupted" if unfinished or parked or busy else "failed" if exit_code else "finished"
        seconds = self._clock.monotonic() - began
        await self._ledger.write(
            update(
                "run",
                {"run": folder.run},
                state=state,
                finished=self._clock.now().isoformat(),
                exit_code=exit_code,
            )
        )
        if state != "interrupted":
            await anyio.to_thread.run_sync(self._spool.close)
        self._stream.emit(
            RunFinished(
                run=folder.run,
                exit_code=exit_code,
                published=len(published),
                failed=wrong,
                parked=len(parked),
                unfinished=len(unfinished) + len(busy),
                skipped=len(skipped),
                rows=sum(item.rows for item in published),
                bytes=sum(item.bytes for item in published),
                seconds=round(seconds, 3),
            )
        )
        return Result(
            folder.run, exit_code, folder, tuple(items), tuple(rejected), tuple(skipped), seconds, unregistered
        )

    async def _register(self, plans: Sequence[TablePlan]) -> str | None:
        """Tell dlt's schema about new tables; their rows are published whatever comes of it."""
        if not plans:
            return None
        targets = [plan.target for plan in plans]
        try:
            await self._loader.call(lambda: self._writer.register(targets))
        except Exception as error:  # dlt raises what its destinations raise
            message = redact(f"dlt's schema was not updated: {error}")
            self._stream.emit(Warned("", message))
            return message
        return None
