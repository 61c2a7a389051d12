"""The composition: source, spool, loader and ledger as one run. The only file that knows them all."""

from __future__ import annotations

import json
import os
import secrets
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from runner import __version__
from runner.clock import Clock
from runner.columns import HASH_KEY, Protector
from runner.epochs import Epoch, Epochs
from runner.errors import (
    Busy,
    Interrupted,
    LockDrift,
    NotOurs,
    Parked,
    RunnerError,
    SnapshotLost,
    SpoolFull,
    TableChanged,
    TryAgain,
    UsageError,
)
from runner.events import (
    ChunkLoaded,
    ChunkSpooled,
    Draining,
    Drifted,
    LimitChanged,
    Retried,
    RunFinished,
    RunStarted,
    SchemaChanged,
    SourcePaused,
    Stream,
    TableFailed,
    TableParked,
    TablePublished,
    TableReplanned,
    TableStarted,
    TableVerified,
    Warned,
)
from runner.executor import Executor, LocalExecutor
from runner.fanout import FanOut
from runner.jobfile import SettledJob
from runner.ledger import Ledger, LedgerReader, Statement, delete, insert, update
from runner.limits import Budget, SourceLimits
from runner.load import ChunkLoad, DatasetState, Destination, Lease, Loader, Publication, TableWork, Writer
from runner.lockfile import LockFile
from runner.plan import Plan, Rejected, TablePlan, bounded, make_plan, patterns, target_range, windowed
from runner.retry import retrying
from runner.runs import RunFolder, StateFolder, is_unfinished
from runner.secrets import redact
from runner.source import Chunk, Source, Window
from runner.spool import Spool, SpooledChunk
from runner.tasks import task_group

_CHUNK_MEMORY = 64 * 2**20
_MIN_RESERVE = 2**20
_REPLANS = 3
_ROUNDS = 5


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


@dataclass
class ChunkState:
    """A chunk and how far it came."""

    chunk: Chunk
    state: str = "planned"
    epoch: int = 0
    token: str | None = None
    rows: int = 0
    spooled: SpooledChunk | None = None
    reserve_more: int = 0


@dataclass
class Item:
    """A table at work."""

    plan: TablePlan
    chunks: list[ChunkState] = field(default_factory=list)
    state: str = "planned"
    replace: bool = True
    fresh: bool = False
    mark: str | None = None
    mark_epoch: int = 0
    load_id: str | None = None
    base: str | None = None
    resume_at: str | None = None
    error: RunnerError | None = None
    began: float | None = None

    @property
    def name(self) -> str:
        """The table's name at the source."""
        return self.plan.name

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return sum(chunk.rows for chunk in self.chunks)


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
        self._executor: Executor = LocalExecutor(
            hash_key=environ.get(HASH_KEY),
            width=max(1, limits.memory // 2 // _CHUNK_MEMORY),
            verify=options.verify != "none",
        )
        self._fan: FanOut[Item] = FanOut(
            self._table, width=limits.tables, clock=clock, patience=limits.park
        )
        self._slots = list(range(limits.tables, 0, -1))
        self._draining = False
        self._scope: anyio.CancelScope
        self._last_load_id = 0.0
        self._ledger: Ledger
        self._loader: Loader
        self._epochs: Epochs
        self._spool: Spool
        self._lease: Lease
        self._writer: Writer

    # Stopping.

    def drain(self) -> None:
        """Begin nothing new; what is at work has the grace time to end."""
        if not self._draining:
            self._draining = True
            self._stream.emit(Draining(self._options.grace))
            self._fan.drain()
            self._scope.deadline = anyio.current_time() + self._options.grace

    def abort(self) -> None:
        """Stop now; what is durable stays."""
        self._draining = True
        self._fan.drain()
        self._scope.cancel()

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
        self._state.create()
        with self._state.own(self._owned):
            self._state.prune(self._clock.now())
            async with task_group() as group:
                self._epochs = Epochs(
                    self._source, group, self._clock, self._stream, longest=self._settled.limits.snapshot_age
                )
                try:
                    return await self._run(began)
                finally:
                    self._epochs.close()
                    group.cancel_scope.cancel()

    async def _run(self, began: float) -> Result:
        plan = await self._first_contact()
        folder, resumed = self._choose_folder(plan)
        self._ledger = Ledger(folder.ledger)
        self._opened(folder)
        self._spool = Spool(folder.spool, self.disk)
        self._lease = Lease(
            self._settled.job.name, folder.run, secrets.token_hex(8), socket.gethostname(), os.getpid()
        )
        self._loader = Loader(self._writer, self._lease, self._clock)
        try:
            state = await self._loader.call(lambda: self._writer.read_state(folder.run))
            items, skipped, rejected = await self._settle(plan, folder, state, resumed=resumed)
            return await self._work(folder, plan, items, skipped, rejected, began, resumed=resumed)
        finally:
            with anyio.CancelScope(shield=True):
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
        drift = self._lock.compare(plan)
        for table, change in drift.items():
            self._stream.emit(Drifted(table, change))
        policy = self._settled.job.new_tables
        if policy == "ignore":
            known = self._lock.tables
            plan = replace(plan, tables=tuple(one for one in plan.tables if one.name in known))
        if self._command != "backfill" and drift:
            raise LockDrift("\n".join(f"{table}: {change}" for table, change in drift.items()))
        return plan

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
        kept = _read_ledger(folder) if resumed else {}
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
                item = self._restore(row, table, state)
                if item.state == "published":
                    skipped.append(table.name)
                    if row["state"] != "published":
                        caught_up.append(self._published_row(item))
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
        items = [item for item in items if item.name not in names]
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
            made = f"was made from {owner.source} {owner.source_table}" if owner else "was not made by this tool"
            raise NotOurs(f"The table {table.target.name} exists at the destination and {made}.", table=table.name)

    def _fits(self, row: dict[str, Any], table: TablePlan, base: Any) -> bool:
        stored = json.loads(row["plan"])
        same_base = stored["base"] == (base.load_id if base else None) or (
            base is not None and base.load_id == row["load_id"]
        )
        return bool(row["digest"] == table.digest() and same_base)

    def _fresh_item(self, table: TablePlan, base: Any, state: DatasetState) -> Item:
        mark = None
        usable = base is not None and table.target.name in state.existing and base.source_table == table.name
        if usable and base.cursor == table.cursor and not self._options.full_refresh:
            mark = base.mark
        if mark is not None and table.mode != "full" and base.digest != table.digest() and table.range is None:
            self._stream.emit(
                Warned(
                    table.name,
                    "its definition changed since the last run: rows loaded before keep the old one "
                    "(--full-refresh reads them again)",
                )
            )
        appends = table.mode == "append" and table.cursor is None and usable and not self._options.full_refresh
        plan = windowed(table, mark)
        replaces = table.range is None and mark is None and not appends
        return Item(plan, replace=replaces, fresh=True, base=base.load_id if base else None)

    def _restore(self, row: dict[str, Any], table: TablePlan, state: DatasetState) -> Item:
        """Return a table as far as ledger and destination agree that it came (L5)."""
        stored = json.loads(row["plan"])
        window = Window(**stored["window"]) if stored["window"] else None
        item = Item(
            replace(table, scan=replace(table.scan, window=window)),
            replace=stored["replace"],
            state=row["state"],
            mark=row["mark"],
            mark_epoch=row["epoch"] or 0,
            load_id=row["load_id"],
            base=stored["base"],
        )
        published = state.tables.get(table.target.name)
        if row["load_id"] and published and published.load_id == row["load_id"]:
            # Committed there, and we were killed before our own row: the destination is the truth.
            item.state = "published"
        staged = any(key[0] == table.target.name for key in state.chunks)
        item.fresh = not staged
        for one in row["chunks"]:
            item.chunks.append(_restore_chunk(one, state, table.target.name, self._spool))
        return item

    async def _take_leases(self, items: list[Item]) -> list[Rejected]:
        waits = {item.plan.target.name: item for item in items}
        denied: list[Rejected] = []
        deadline = self._clock.monotonic() + 75
        while waits:
            held = await self._loader.call(lambda: self._writer.acquire(self._lease, list(waits)))
            waiting = {}
            for other in held:
                item = waits[other.table]
                policy = item.plan.entry.on_busy or "wait"
                if policy == "wait" and self._clock.monotonic() < deadline:
                    waiting[other.table] = item
                    continue
                error: RunnerError = Busy(
                    f"Run {other.run} on {other.host} (pid {other.pid}) holds the table.", table=item.name
                )
                if policy == "fail":
                    error = RunnerError(error.message, guidance=error.advice, table=item.name)
                denied.append(Rejected(item.name, error))
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
                statements += self._forget(item)
        for one in rejected:
            statements.append(_rejected_row(one))
        await self._ledger.write(*statements)
        text = json.dumps([_plan_row(item) for item in items], indent=1, default=str)
        await anyio.to_thread.run_sync(folder.plan.write_text, text)

    def _forget(self, item: Item) -> list[Statement]:
        """Return the statements that plan a table anew."""
        return [
            delete("chunks", table_name=item.name),
            insert(
                "tables",
                {
                    "name": item.name,
                    "destination": item.plan.target.name,
                    "mode": item.plan.mode,
                    "digest": item.plan.digest() if item.plan.range else _base_digest(item.plan),
                    "state": "planned",
                    "plan": json.dumps(_stored_plan(item)),
                },
            ),
        ]

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
            self._stream.emit(_failed(one.name, one.error))
        left = items
        with self._scope:
            async with task_group() as group:
                group.start_soon(self._loader.run)
                group.start_soon(self._loader.renew)
                left = await self._fan.run(items)
                group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            return await self._finish(folder, items, skipped, rejected, left, began)

    async def _finish(
        self,
        folder: RunFolder,
        items: list[Item],
        skipped: list[str],
        rejected: list[Rejected],
        left: list[Item],
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
        state = "failed" if exit_code == 1 and not (unfinished or parked) else "finished" if not exit_code else "interrupted"
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
                bytes=sum(item.plan.scan.table.bytes for item in published),
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

    async def _table(self, item: Item) -> None:
        """Move one table; whatever happens to it is a record (L6)."""
        slot = self._slots.pop()
        try:
            for _ in range(_REPLANS):
                try:
                    await self._move(item, slot)
                    return
                except TableChanged as changed:
                    await self._replan(item, changed)
            await self._move(item, slot)
        except Parked as parked:
            await self._record_parked(item, parked)
            raise
        except Interrupted:
            pass
        except RunnerError as error:
            await self._record_failure(item, error)
        except Exception as error:  # a defect of ours must not stop the other tables either
            trace = redact("".join(traceback.format_exception(error)))
            await anyio.to_thread.run_sync(_note_defect, self._spool.folder.parent, f"{item.name}\n{trace}\n")
            await self._record_failure(
                item,
                RunnerError(
                    f"An unexpected {type(error).__name__}: {redact(str(error))}",
                    guidance="This is a defect of the runner; defects.log in the run's folder has the details.",
                ),
            )
        finally:
            self._slots.append(slot)

    async def _move(self, item: Item, slot: int) -> None:
        item.began = item.began or self._clock.monotonic()
        item.state = "running"
        if not item.chunks:
            await self._plan_chunks(item)
        await self._ledger.write(
            update("tables", {"name": item.name}, state="running", started=self._clock.now().isoformat())
        )
        rows = item.plan.scan.table.rows
        self._stream.emit(TableStarted(item.name, slot, item.plan.mode, len(item.chunks), rows))
        pending = [state for state in item.chunks if state.state in ("planned", "reading", "spooled")]
        await self._each(item, pending)
        epoch = await self._agree(item)
        await self._publish(item, epoch)

    async def _plan_chunks(self, item: Item) -> None:
        """Split the table and store the list before the first read; it is never computed again."""

        async def once() -> None:
            async with self._epochs.current() as epoch:
                if _appends_by_cursor(item.plan) or not epoch.session.position.consistent:
                    # Without one snapshot the mark comes first: rows written meanwhile are read again.
                    await self._note_mark(item, epoch)
                plan = bounded(item.plan, item.mark) if _appends_by_cursor(item.plan) else item.plan
                limits = self._settled.limits
                size = min(limits.chunk_bytes, max(_MIN_RESERVE, limits.disk // 4))
                chunks = await epoch.session.chunks(plan.scan, limits.chunk_rows, size)
                item.plan = plan
                item.chunks = [ChunkState(chunk) for chunk in chunks]

        await self._tried(item, once)
        await self._ledger.write(
            update("tables", {"name": item.name}, plan=json.dumps(_stored_plan(item)), mark=item.mark,
                   epoch=item.mark_epoch),
            *(_chunk_row(item.name, state) for state in item.chunks),
        )  # fmt: skip

    async def _note_mark(self, item: Item, epoch: Epoch) -> None:
        """Take the high-water mark in the picture that the rows come from (L8)."""
        if not self._lacks_mark(item, epoch.number):
            return
        mark = await epoch.session.high_water(item.plan.scan)
        item.mark, item.mark_epoch = (mark.value if mark else None), epoch.number
        if mark is not None and not mark.exact and not item.plan.entry.lag and item.plan.mode != "full":
            self._stream.emit(
                Warned(item.name, "rows committed late may be missed: give the table a lag, or the user pg_monitor")
            )

    def _lacks_mark(self, item: Item, epoch: int) -> bool:
        if item.plan.cursor is None or item.plan.range is not None:
            return False
        # The end of what append reads is its mark, whatever epoch reads it.
        return item.mark_epoch != epoch and not (item.mark_epoch and _appends_by_cursor(item.plan))

    async def _each(self, item: Item, states: Sequence[ChunkState]) -> None:
        """Read and load chunks, a bounded number of them at once."""
        width = anyio.CapacityLimiter(max(2, self._settled.limits.connections))
        alone = len(item.chunks) == 1

        async def one(state: ChunkState, holder: object) -> None:
            try:
                if state.state != "spooled":
                    await self._read(item, state)
                if not alone:
                    await self._load(item, state)
            finally:
                width.release_on_behalf_of(holder)

        async with task_group() as group:
            for state in states:
                holder = object()
                await width.acquire_on_behalf_of(holder)
                if self._draining:
                    width.release_on_behalf_of(holder)
                    break
                group.start_soon(one, state, holder)
        if any(state.state in ("planned", "reading") for state in item.chunks):
            raise Interrupted

    async def _read(self, item: Item, state: ChunkState, under: Epoch | None = None) -> None:
        began = self._clock.monotonic()
        chunk, scan = state.chunk, item.plan.scan

        async def once() -> tuple[SpooledChunk, Epoch]:
            amount = await self.disk.reserve(max(chunk.bytes, _MIN_RESERVE) + state.reserve_more)
            given = False
            try:
                async with self.limits.request(), self._epochs.current() as current:
                    epoch = under or current
                    given = True
                    try:
                        return await self._executor.read(epoch.session, scan, chunk, self._spool, amount), epoch
                    except SnapshotLost:
                        self._epochs.end(epoch, "the snapshot was lost")
                        raise
                    except SpoolFull:
                        state.reserve_more = max(state.reserve_more, chunk.bytes, _MIN_RESERVE) * 2
                        raise
            finally:
                if not given:
                    self.disk.release(amount)

        def may_retry(error: RunnerError) -> bool:
            lost = isinstance(error, SnapshotLost) and under is not None
            hopeless = isinstance(error, SpoolFull) and state.reserve_more > 4 * self.disk.total
            return error.retriable and not lost and not hopeless

        spooled, epoch = await self._tried(item, once, chunk=chunk.id, may_retry=may_retry)
        token = epoch.session.position.token
        seconds = self._clock.monotonic() - began
        await self._ledger.write(
            update(
                "chunks",
                {"table_name": item.name, "id": chunk.id},
                state="spooled",
                epoch=epoch.number,
                token=token,
                rows=spooled.rows,
                bytes=spooled.bytes,
                files=json.dumps(spooled.files),
                seconds=seconds,
            )
        )
        state.state, state.epoch, state.token = "spooled", epoch.number, token
        state.rows, state.spooled = spooled.rows, spooled
        self._stream.emit(ChunkSpooled(item.name, chunk.id, spooled.rows, spooled.bytes, round(seconds, 4)))

    async def _tried(
        self,
        item: Item,
        once: Callable[[], Any],
        *,
        chunk: str | None = None,
        may_retry: Callable[[RunnerError], bool] = lambda error: error.retriable,
    ) -> Any:
        waiting: list[Statement] = []

        def noticed(attempt: int, wait: float, error: RunnerError) -> None:
            self._stream.emit(Retried(item.name, attempt, round(wait, 3), error.message))
            waiting.append(
                insert(
                    "attempts",
                    {
                        "at": self._clock.now().isoformat(),
                        "table_name": item.name,
                        "chunk": chunk,
                        "attempt": attempt,
                        "wait": wait,
                        "error": type(error).__name__,
                        "message": error.message,
                    },
                )
            )

        try:
            return await retrying(
                once,
                policy=self._settled.job.retry,
                clock=self._clock,
                limits=self.limits,
                noticed=noticed,
                may_retry=may_retry,
            )
        finally:
            if waiting:
                await self._ledger.write(*waiting)

    def _chunk_load(self, state: ChunkState) -> ChunkLoad:
        assert state.spooled is not None
        files = tuple(self._spool.folder / name for name in state.spooled.files)
        return ChunkLoad(state.chunk.id, state.epoch, files, state.rows, state.spooled.bytes)

    async def _load(self, item: Item, state: ChunkState) -> None:
        fresh, item.fresh = item.fresh, False
        work = TableWork(item.plan.target, [self._chunk_load(state)], fresh=fresh)
        await self._loader.load(work)
        await self._note_loaded(item, [state])

    async def _note_loaded(self, item: Item, states: Sequence[ChunkState], state_name: str = "loaded") -> None:
        await self._ledger.write(
            *(
                update("chunks", {"table_name": item.name, "id": state.chunk.id}, state=state_name)
                for state in states
            )
        )
        for state in states:
            if state.spooled is not None:
                await anyio.to_thread.run_sync(self._spool.remove, state.spooled)
                state.spooled = None
            if state.state != state_name:
                state.state = state_name
                if state_name == "loaded":
                    self._stream.emit(ChunkLoaded(item.name, state.chunk.id, state.rows))

    async def _agree(self, item: Item) -> int:
        """See to it that every chunk is from one epoch, or proved equal under one (L3)."""
        for _ in range(_ROUNDS):
            first = item.chunks[0].epoch
            if all(state.epoch == first for state in item.chunks) and not self._lacks_mark(item, first):
                return first
            try:
                async with self._epochs.current() as epoch:
                    if not epoch.session.position.consistent:
                        return first
                    await self._agree_under(item, epoch)
                    return epoch.number
            except SnapshotLost:
                continue
        raise SnapshotLost(table=item.name)

    async def _agree_under(self, item: Item, epoch: Epoch) -> None:
        await self._note_mark(item, epoch)
        old = [state for state in item.chunks if state.epoch != epoch.number]
        width = anyio.CapacityLimiter(max(2, self._settled.limits.connections // 2))

        async def one(state: ChunkState) -> None:
            async with width:
                await self._tried(item, lambda: self._renew_chunk(item, state, epoch), chunk=state.chunk.id)

        async with task_group() as group:
            for state in old:
                group.start_soon(one, state)

    async def _renew_chunk(self, item: Item, state: ChunkState, epoch: Epoch) -> None:
        async with self.limits.request():
            same = await epoch.session.unchanged(item.plan.scan, state.chunk, state.rows, state.token)
        if same:
            state.epoch, state.token = epoch.number, epoch.session.position.token
            return
        if state.spooled is not None:
            await anyio.to_thread.run_sync(self._spool.remove, state.spooled)
            state.spooled = None
        await self._read(item, state, under=epoch)
        if len(item.chunks) > 1:
            await self._load(item, state)

    async def _publish(self, item: Item, epoch: int) -> None:
        plan = item.plan
        if item.load_id is None:
            item.load_id = self._new_load_id()
            # Written before the commit: a repeat finds the same id in _dlt_loads and does nothing.
            await self._ledger.write(
                update("tables", {"name": item.name}, load_id=item.load_id, mark=item.mark, epoch=epoch)
            )
        waiting = [state for state in item.chunks if state.state == "spooled"]
        publication = Publication(
            load_id=item.load_id,
            mode=plan.mode,
            replace=item.replace,
            chunks={state.chunk.id: state.rows for state in item.chunks},
            digest=_base_digest(plan),
            cursor=plan.cursor,
            mark=item.mark if plan.range is None else None,
            range=target_range(plan),
            schema=self._settled.job.schema_,
            check_key=bool(plan.target.key) and plan.key_from != "primary key",
            verify=self._options.verify != "none",
            adopt=bool(plan.entry.adopt),
        )
        loads = [self._chunk_load(state) for state in waiting]
        outcome = await self._loader.load(TableWork(plan.target, loads, publication, fresh=item.fresh))
        rows = item.rows
        await self._ledger.write(self._published_row(item))
        await self._note_loaded(item, waiting)
        await self._note_loaded(item, item.chunks, "verified" if publication.verify else "loaded")
        item.state = "published"
        for change in outcome.changes:
            self._stream.emit(SchemaChanged(item.name, change))
        if publication.verify:
            self._stream.emit(TableVerified(item.name, "counts", len(item.chunks), rows))
        seconds = self._clock.monotonic() - (item.began or 0)
        self._stream.emit(
            TablePublished(
                item.name, plan.target.name, rows, plan.scan.table.bytes, round(seconds, 4), publication.mark
            )
        )

    def _published_row(self, item: Item) -> Statement:
        return update(
            "tables",
            {"name": item.name},
            state="published",
            rows=item.rows,
            bytes=item.plan.scan.table.bytes,
            finished=self._clock.now().isoformat(),
            error=None,
            resume_at=None,
        )

    def _new_load_id(self) -> str:
        """Return an id in dlt's form, seconds since 1970, unique beyond one process by its last digits."""
        now = max(self._clock.now().timestamp(), self._last_load_id + 1e-6)
        self._last_load_id = now
        return f"{now:.6f}{secrets.randbelow(10**9):09d}"

    async def _replan(self, item: Item, changed: TableChanged) -> None:
        """Begin a table again in a new epoch after its storage changed under us.

        Raises:
            TableChanged: Its columns changed: the plan no longer fits (L9).
        """
        self._stream.emit(TableReplanned(item.name, changed.message))
        async with self._epochs.current() as epoch:
            self._epochs.end(epoch, f"{item.name} changed")
        async with self._epochs.current() as epoch:
            found = await epoch.session.discover([item.name])
        table = next((one for one in found if one.qualified == item.name), None)
        if table is None:
            raise RunnerError(f"{item.name} was dropped while it was read.", table=item.name)
        before = item.plan.scan.table
        if table.shape() != before.shape():
            raise RunnerError(
                f"{item.name} was altered while it was read: {_shape_difference(before.shape(), table.shape())}.",
                guidance=changed.guidance,
                table=item.name,
            )
        for state in item.chunks:
            if state.spooled is not None:
                await anyio.to_thread.run_sync(self._spool.remove, state.spooled)
        item.plan = replace(item.plan, scan=item.plan.scan.over(table))
        item.chunks, item.fresh, item.load_id = [], True, None
        item.mark, item.mark_epoch = None, 0
        await self._ledger.write(*self._forget(item))

    async def _record_failure(self, item: Item, error: RunnerError) -> None:
        item.state, item.error = "failed", error
        await self._ledger.write(
            update(
                "tables",
                {"name": item.name},
                state="failed",
                finished=self._clock.now().isoformat(),
                error=json.dumps(error.record()),
            )
        )
        self._stream.emit(_failed(item.name, error))
        if self._options.fail_fast:
            self.drain()

    async def _record_parked(self, item: Item, parked: Parked) -> None:
        item.state, item.error = "parked", parked
        resume_at = parked.resume_at.isoformat()
        await self._ledger.write(
            update(
                "tables",
                {"name": item.name},
                state="parked",
                resume_at=resume_at,
                error=json.dumps(parked.record()),
            )
        )
        self._stream.emit(TableParked(item.name, resume_at, parked.message))
        self._epochs.end_idle()


def _note_defect(folder: Path, text: str) -> None:
    with (folder / "defects.log").open("a", encoding="utf-8") as file:
        file.write(text)


def _appends_by_cursor(plan: TablePlan) -> bool:
    return plan.mode == "append" and plan.cursor is not None and plan.range is None


def _failed(name: str, error: RunnerError) -> TableFailed:
    return TableFailed(name, type(error).__name__, error.message, error.advice)


def _base_digest(plan: TablePlan) -> str:
    """Return the digest of a plan without the window that this run gave it."""
    if plan.range is not None:
        return plan.digest()
    window = Window(plan.cursor) if plan.cursor else None
    return replace(plan, scan=replace(plan.scan, window=window)).digest()


def _stored_plan(item: Item) -> dict[str, Any]:
    window = item.plan.scan.window
    return {
        "window": window.__dict__ if window else None,
        "replace": item.replace,
        "base": item.base,
        "why": item.plan.why,
        "rows": item.plan.scan.table.rows,
        "bytes": item.plan.scan.table.bytes,
    }


def _plan_row(item: Item) -> dict[str, Any]:
    return {
        "table": item.name,
        "destination": item.plan.target.name,
        "mode": item.plan.mode,
        "columns": item.plan.scan.table.shape(),
        "key": item.plan.target.key,
        **_stored_plan(item),
    }


def _chunk_row(table: str, state: ChunkState) -> Statement:
    chunk = state.chunk
    return insert(
        "chunks",
        {
            "table_name": table,
            "id": chunk.id,
            "position": chunk.index,
            "bounds": json.dumps(chunk.bounds),
            "storage": chunk.storage,
            "rows_estimate": chunk.rows,
            "bytes_estimate": chunk.bytes,
            "state": state.state,
        },
    )


def _rejected_row(one: Rejected) -> Statement:
    return insert(
        "tables",
        {
            "name": one.name,
            "destination": "",
            "mode": "",
            "digest": "",
            "state": "failed",
            "plan": json.dumps({"window": None, "replace": True, "base": None, "why": "", "rows": 0, "bytes": 0}),
            "error": json.dumps(one.error.record()),
        },
    )


def _read_ledger(folder: RunFolder) -> dict[str, dict[str, Any]]:
    with LedgerReader(folder.ledger) as ledger:
        tables = {row["name"]: {**row, "chunks": []} for row in ledger.tables()}
        for chunk in ledger.chunks():
            tables[chunk["table_name"]]["chunks"].append(chunk)
    return tables


def _restore_chunk(row: dict[str, Any], state: DatasetState, table: str, spool: Spool) -> ChunkState:
    chunk = Chunk(
        row["id"], row["position"], row["bounds"], row["storage"], row["rows_estimate"], row["bytes_estimate"]
    )
    found = ChunkState(chunk)
    if row["epoch"] is None:
        return found
    found.epoch, found.token, found.rows = row["epoch"], row["token"], row["rows"]
    spooled = SpooledChunk(tuple(json.loads(row["files"] or "[]")), row["rows"], row["bytes"])
    if (table, chunk.id, row["epoch"]) in state.chunks:
        found.state = "loaded"
    elif row["state"] == "spooled" and spool.holds(spooled):
        found.state, found.spooled = "spooled", spooled
        spool.disk.grow(spooled.bytes)
    return found


def _shape_difference(before: list[list[Any]], after: list[list[Any]]) -> str:
    old, new = {row[0]: row[1:] for row in before}, {row[0]: row[1:] for row in after}
    parts = [f"{name} was added" for name in new if name not in old]
    parts += [f"{name} was dropped" for name in old if name not in new]
    parts += [f"{name} changed from {old[name][0]} to {new[name][0]}" for name in new if name in old and old[name] != new[name]]
    return ", ".join(parts) or "the order of its columns"
