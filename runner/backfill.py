"""The composition: source, spool, loader and ledger as one run. The only file that knows them all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from runner import __version__
from runner.clock import Clock
from runner.columns import HASH_KEY, Protector
from runner.costs import of_hashing
from runner.crash import crash_point
from runner.epochs import Epochs
from runner.errors import (
    Busy,
    DestinationBusy,
    DestinationError,
    DestinationRefused,
    Interrupted,
    RunnerError,
    SourceError,
    TryAgain,
    UsageError,
    at_first_contact,
)
from runner.events import (
    AlreadyDone,
    Draining,
    Drifted,
    LimitChanged,
    RunFinished,
    RunStarted,
    SourcePaused,
    Stream,
    TimeSpent,
    Warned,
)
from runner.executor import LocalExecutor
from runner.fanout import FanOut
from runner.jobfile import SettledJob
from runner.journal import Statement, insert, update
from runner.ledger import Ledger
from runner.limits import Budget, SourceLimits
from runner.load import DatasetState, Destination, Lease, RunRecord, Writer
from runner.loader import Loader, patiently
from runner.lockfile import LockFile, hold_to
from runner.mover import Mover, failure
from runner.plan import Plan, Rejected, TablePlan, make_plan, patterns
from runner.profile import Profile, profiled, stage
from runner.proof import make_proof
from runner.recall import recalled
from runner.record import Item, plan_row, read_tables, rejected_row, spooled_files
from runner.requests import govern
from runner.runs import RunFolder, StateFolder, is_unfinished
from runner.secrets import redact
from runner.settling import REFRESH, Options, Settled, Settling, vanished
from runner.source import Source, Table
from runner.spool import Spool
from runner.tasks import task_group
from runner.verify import Verifier

_CHUNK_MEMORY = 64 * 2**20
_PAGES_MEMORY = 16 * 2**20
_LEASE_WAIT = 75.0
_PATIENCE = 60.0


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
    verified: str = "counts"
    stages: Mapping[str, float] = field(default_factory=dict)
    dataset: str = ""


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
        self.limits = SourceLimits.of(
            limits,
            clock,
            limit_changed=lambda limit: stream.emit(LimitChanged(limit)),
            paused=lambda seconds: stream.emit(SourcePaused(round(seconds, 3))),
        )
        shapes = state.path / f"{settled.job.name}.shapes.json"
        govern(source, settled, self.limits, clock, stream=stream, path=shapes)
        self.disk = Budget(limits.disk)
        self._executor = LocalExecutor(
            hash_key=environ.get(HASH_KEY),
            width=max(1, limits.memory // 2 // (_PAGES_MEMORY if self.limits.each else _CHUNK_MEMORY)),
            verify=options.verify != "none",
            hashes=self._hashes,
        )
        self._mover: Mover | None = None
        self._fan: FanOut[Item] | None = None
        self._stopping = False
        self._profile: Profile | None = None
        self._scope: anyio.CancelScope
        self._ledger: Ledger
        self._loader: Loader
        self._epochs: Epochs
        self._spool: Spool
        self._lease: Lease
        self._writer: Writer
        self._record: RunRecord
        self._settling: Settling
        self._dataset: str

    @property
    def _hashes(self) -> bool:
        return self._options.verify in ("hash", "source")

    # Stopping.

    def drain(self, grace: float | None = None) -> None:
        """Begin nothing new; what is at work has the grace time, in seconds, to end."""
        if not self._stopping:
            self._stop()
            grace = self._options.grace if grace is None else grace
            self._stream.emit(Draining(grace))
            self._scope.deadline = anyio.current_time() + grace

    def abort(self) -> None:
        """Stop now; what is durable stays."""
        self._stop()
        self._scope.cancel()
        if self._mover is not None:
            self._loader.interrupt()

    def _stop(self) -> None:
        self._stopping = True
        if self._mover is not None:
            self._mover.draining = True
        if self._fan is not None:
            self._fan.drain()

    async def run(self) -> Result:
        """Bring every selected table up to date.

        Raises:
            UsageError: Nothing could start.
            ContactError: A system refused the first contact.
            Busy: The job is already running on this machine.
            Interrupted: It was told to stop before any table was at work.
        """
        began = self._clock.monotonic()
        self._scope = anyio.CancelScope()
        self._profile = Profile(self._clock.monotonic) if self._options.profile else None
        with contextlib.ExitStack() as stack:
            stack.enter_context(profiled(self._profile))
            await anyio.to_thread.run_sync(self._own, stack)
            async with task_group() as group:
                self._epochs = Epochs(
                    self._source, group, self._clock, self._stream, longest=self._settled.limits.snapshot_age
                )
                try:
                    with self._scope:
                        return await self._run(began)
                    raise Interrupted
                finally:
                    self._epochs.close()
                    group.cancel_scope.cancel()

    def _own(self, stack: contextlib.ExitStack) -> None:
        self._state.create()
        stack.enter_context(self._state.own(self._owned))
        self._state.prune(self._clock.now())

    async def _run(self, began: float) -> Result:
        if self._options.run_key is not None:
            done = self._state.newest(job=self._settled.job.name, command=self._command_key())
            if done is not None and done[1]["state"] == "finished":
                self._stream.emit(AlreadyDone(done[0].run, self._options.run_key))
                return Result(done[0].run, 0, done[0], (), (), (), 0.0)
        with stage("plan"):
            plan = await self._first_contact()
        folder, resumed = await anyio.to_thread.run_sync(self._open_folder, plan)
        self._lease = Lease(self._settled.job.name, folder.run, secrets.token_hex(8), socket.gethostname(), os.getpid())
        self._loader = Loader(self._writer, self._lease, self._clock, patience=self._patience(), stream=self._stream)
        try:
            # Marks and owners are read under the leases: nobody publishes these tables from here on.
            with stage("plan"):
                denied, skipped = await self._take_leases(plan)
                crash_point("lease-taken")
                self._record = RunRecord(
                    run=folder.run,
                    job=self._settled.job.name,
                    command=self._command_key(),
                    source=self._settled.source_name,
                    host=self._lease.host,
                    version=__version__,
                    started=self._clock.now().isoformat(),
                )
                state = await self._loader.call(self._begin_record)
            plan = await recalled(plan, state, self._source, self._epochs, self._make_plan)
            settled = await self._settle(plan, folder, state, denied, skipped, resumed=resumed)
            return await self._work(folder, settled, began, resumed=resumed)
        finally:
            with anyio.CancelScope(shield=True):
                self._loader.close()
                await anyio.to_thread.run_sync(self._ledger.close)
                await anyio.to_thread.run_sync(self._writer.close)

    def _begin_record(self) -> DatasetState:
        with self._writer.held():
            state = self._writer.read_state(self._record.run)
            self._writer.record_run(self._record)
            return state

    def _end_record(self) -> None:
        with self._writer.held():
            self._writer.record_run(self._record)
            self._writer.release(self._lease)

    def _patience(self) -> float:
        """Return how long a busy destination is waited for, in seconds."""
        return 0.0 if self._stopping else min(_PATIENCE, self._settled.job.retry.deadline.total_seconds())

    async def _first_contact(self) -> Plan:
        """Meet both systems and plan; nothing is written before this succeeded."""
        try:
            async with self._epochs.current() as epoch:
                tables = await epoch.session.discover(patterns(self._settled.job))
        except SourceError as error:
            raise at_first_contact(error) from error
        if self._destination.unproved and not self._settled.destination.allow_unproved:
            raise UsageError(
                f"The destination is unproved: {self._destination.unproved}.",
                guidance="Try it on a dataset of its own: set allow_unproved: true in the destination.",
            )
        plan = self._make_plan(tables, self._options.only)
        Protector(plan.hashed, self._environ.get(HASH_KEY))
        plan = self._check_lock(plan)
        if plan.rejected and not plan.tables:
            first = plan.rejected[0].error
            raise UsageError("\n".join(one.error.message for one in plan.rejected), guidance=first.advice)
        self._dataset = plan.dataset
        self._writer = self._destination.writer(plan.dataset)
        try:
            # Another program may have the file open for a moment.
            await patiently(lambda: anyio.to_thread.run_sync(self._writer.prepare), self._clock, self._patience)
        except DestinationBusy as error:
            raise Busy(error.message, guidance=error.advice) from error
        except DestinationError as error:
            raise DestinationRefused(error.message, guidance=error.advice) from error
        return plan

    def _make_plan(self, tables: Sequence[Table], only: Sequence[str]) -> Plan:
        return make_plan(
            self._settled,
            tables,
            max_name=self._destination.max_name,
            promises=self._destination.promises,
            since=self._options.since,
            until=self._options.until,
            only=only,
        )

    def _plan_again(self, table: Table) -> Item:
        """Plan a table whose columns turned out to be others than those it was planned with."""
        plan = self._make_plan([table], [table.qualified])
        for one in plan.rejected:
            raise one.error
        return self._settling.fresh_item(plan.tables[0])

    def _check_lock(self, plan: Plan) -> Plan:
        return hold_to(
            self._lock,
            plan,
            self._settled.job.new_tables,
            partly=bool(self._options.only),
            strict=self._command != "backfill",
            drifted=lambda table, change: self._stream.emit(Drifted(table, f"differs from the lock file: {change}")),
        )

    def _open_folder(self, plan: Plan) -> tuple[RunFolder, bool]:
        folder, resumed = self._choose_folder(plan)
        self._ledger = Ledger(folder.ledger)
        self._opened(folder)
        self._spool = Spool(folder.spool, self.disk)
        return folder, resumed

    def _choose_folder(self, plan: Plan) -> tuple[RunFolder, bool]:
        same = {
            "job": self._settled.job.name,
            "source": self._settled.source_name,
            "dataset": plan.dataset,
            "destination": self._destination.describe(),
        }
        key, full_refresh = self._command_key(), self._options.full_refresh
        newest = self._state.newest(**same, command=key)
        if newest and is_unfinished(newest[1]) and self._options.repair is None:
            return newest[0], True
        if self._options.failed:
            if newest and newest[1]["state"] == "failed":
                return newest[0], True
            raise UsageError("Nothing failed in the last run.", guidance="`runner runs` shows it.")
        # A refresh starts over what a plain run left unfinished, and the other way round.
        plain = key.removesuffix(REFRESH)
        other = self._state.newest(**same, command=plain if full_refresh else f"{plain}{REFRESH}")
        if other and is_unfinished(other[1]):
            self._state.abandon(other[0])
        return self._state.new(self._clock.now(), f"{self._clock.random.getrandbits(16):04x}"), False

    def _command_key(self) -> str:
        return self._options.command(self._command)

    # From the plan, the ledger and the destination to tables at work.

    async def _settle(
        self,
        plan: Plan,
        folder: RunFolder,
        state: DatasetState,
        denied: list[Rejected],
        skipped: list[str],
        *,
        resumed: bool,
    ) -> Settled:
        kept = await anyio.to_thread.run_sync(read_tables, folder) if resumed else {}
        self._settling = Settling(
            self._options, state, kept, self._spool, self._stream, self._clock, hashes=self._hashes, run=folder.run
        )
        found, caught_up = self._settling.settle(plan, denied, skipped)
        for name in vanished(plan, state, self._settled.job.name) if not self._options.only else ():
            self._stream.emit(
                Drifted(name, "it was loaded before and is not at the source now: dropped, renamed or excluded")
            )
        await self._write_plan(plan, folder, found, resumed=resumed)
        await self._ledger.write(*caught_up)
        claimed = {name for item in found.items for chunk in item.chunks for name in chunk.files}
        claimed |= {file for row in found.waiting.values() for one in row["chunks"] for file in spooled_files(one)}
        await anyio.to_thread.run_sync(self._spool.sweep, claimed)
        for item in found.items:
            self.disk.take(sum(chunk.spooled.bytes for chunk in item.chunks if chunk.spooled is not None))
        return found

    async def _take_leases(self, plan: Plan) -> tuple[list[Rejected], list[str]]:
        """Take the leases of all tables; return who was denied one, and who is skipped for it.

        Raises:
            Interrupted: A signal came while we waited for another run.
        """
        tables = {one.target.name: one for one in plan.tables}
        deadline = self._clock.monotonic() + _LEASE_WAIT
        while True:
            held = await self._loader.call(partial(self._writer.acquire, self._lease, list(tables)))
            patient = [one for one in held if (tables[one.table].entry.on_busy or "wait") == "wait"]
            if not patient or self._clock.monotonic() > deadline:
                break
            # Who waits holds nothing: two who wait for each other's tables would wait for ever.
            await self._loader.call(partial(self._writer.release, self._lease))
            await self._clock.sleep(1 + self._clock.random.random())
            if self._stopping:
                raise Interrupted
        denied: list[Rejected] = []
        skipped: list[str] = []
        for other in held:
            name, policy = tables[other.table].name, tables[other.table].entry.on_busy
            message = f"Run {other.run} on {other.host} (pid {other.pid}) holds the table."
            if policy == "skip":
                skipped.append(name)
                self._stream.emit(Warned(name, f"{message} It is skipped."))
            elif policy == "fail":
                denied.append(Rejected(name, RunnerError(message, guidance=Busy.guidance, table=name)))
            else:
                denied.append(Rejected(name, Busy(message, table=name)))
        return denied, skipped

    async def _write_plan(self, plan: Plan, folder: RunFolder, found: Settled, *, resumed: bool) -> None:
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
        for item in found.items:
            if item.taken:
                statements += item.adopt()
            elif item.fresh and not item.chunks:
                statements += item.forget()
        # What another run holds keeps the row, and with it the progress, that it has.
        statements += [rejected_row(one) for one in found.rejected if not (resumed and isinstance(one.error, Busy))]
        await self._ledger.write(*statements)
        text = json.dumps([plan_row(item) for item in found.items], indent=1, default=str)
        await anyio.to_thread.run_sync(folder.plan.write_text, text)

    # The work.

    async def _work(self, folder: RunFolder, found: Settled, began: float, *, resumed: bool) -> Result:
        items, rejected = found.items, found.rejected
        self._epochs.start_after(found.last_epoch)
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
        if self._hashes and self._destination.metered:
            self._stream.emit(Warned("", of_hashing(item.plan.scan.table for item in items)))
        if position.paged and "incremental" not in self._destination.promises:
            self._stream.emit(
                Warned("", "rows that shift between pages while they are read may be there twice in files")
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
            verifier=Verifier(
                self._options.verify,
                executor=self._executor,
                source=self.limits,
                epochs=self._epochs,
                loader=self._loader,
                width=max(1, self._settled.limits.connections // 2),
            ),
            paged=position.paged,
            replanned=self._plan_again,
            tables=[item.name for item in items],
            may_delete=self._options.yes,
            on_failure=self._stop if self._options.fail_fast else lambda: None,
        )
        limits = self._settled.limits
        self._fan = FanOut(self._mover.move, width=limits.tables, clock=self._clock, patience=limits.park)
        if self._stopping:
            self._stop()
        # From here on what ends for a signal is the work alone: how it went is still written down.
        planning, self._scope = self._scope, anyio.CancelScope(deadline=self._scope.deadline)
        planning.deadline = math.inf
        with self._scope:
            async with task_group() as group:
                group.start_soon(self._loader.run)
                group.start_soon(self._loader.renew)
                await self._fan.run(items)
                group.cancel_scope.cancel()
        # Nothing here waits for the source: a signal may come again, and the records are still written.
        return await self._finish(folder, found, began)

    async def _finish(self, folder: RunFolder, found: Settled, began: float) -> Result:
        items, skipped, rejected = found.items, found.skipped, found.rejected
        published = [item for item in items if item.state == "published"]
        failed = [item for item in items if item.state == "failed"]
        parked = [item for item in items if item.state == "parked"]
        unfinished = [item for item in items if item.state in ("planned", "running")]
        busy = [one for one in rejected if isinstance(one.error, TryAgain)]
        wrong = len(failed) + len(rejected) - len(busy)
        exit_code = 1 if wrong else 3 if unfinished or parked or busy else 0
        await self._register([item.plan for item in published])
        seconds = self._clock.monotonic() - began
        stages = self._profile.seconds() if self._profile is not None else {}
        # The run's own record counts what an earlier process of it published, too.
        complete = [*found.done, *published]
        self._record = replace(
            self._record,
            finished=self._clock.now().isoformat(),
            exit_code=exit_code,
            published=len(complete),
            failed=wrong,
            rows=sum(item.rows for item in complete),
            verified=self._options.verify,
        )
        try:
            # Leases expire by themselves: a destination that is down is not waited for once more.
            await self._loader.call(self._end_record, patience=0.0)
        except RunnerError as error:
            self._stream.emit(Warned("", f"The leases were not given back and will expire: {error.message}"))
        # A run with tables left is gone on with by the same command; what failed waits for --failed.
        left = unfinished or parked or busy or found.waiting
        state = "interrupted" if left else "failed" if exit_code else "finished"
        await self._ledger.write(
            update(
                "run",
                {"run": folder.run},
                state=state,
                finished=self._clock.now().isoformat(),
                exit_code=exit_code,
            )
        )
        if self._hashes and (published or found.done):
            proof = make_proof(self._settled, folder.run, self._dataset, self._options.verify, published + found.done)
            await anyio.to_thread.run_sync(folder.proof.write_text, json.dumps(proof, indent=1))
        if state != "interrupted":
            await anyio.to_thread.run_sync(self._spool.close)
        if stages:
            self._stream.emit(TimeSpent(stages))
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
        named = tuple(items), tuple(rejected), tuple(skipped)
        return Result(folder.run, exit_code, folder, *named, seconds, self._options.verify, stages, self._dataset)

    async def _register(self, plans: Sequence[TablePlan]) -> None:
        """Tell dlt's schema about new tables; their rows are published whatever comes of it."""
        if not plans:
            return
        targets = [plan.target for plan in plans]
        try:
            with stage("register"):
                await self._loader.call(lambda: self._writer.register(targets))
        except Exception as error:  # dlt raises what its destinations raise
            self._stream.emit(Warned("", redact(f"dlt's schema was not updated: {error}")))
