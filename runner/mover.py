"""Moves one table: chunks, reading, loading, one picture of all of it, publishing; its failure is a record."""

from __future__ import annotations

import json
import os
import secrets
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from runner.clock import Clock
from runner.crash import crash_point
from runner.epochs import Epoch, Epochs
from runner.errors import (
    Busy,
    Interrupted,
    Parked,
    RunnerError,
    SnapshotLost,
    SpoolFull,
    TableChanged,
    TableWidened,
    VerifyFailed,
)
from runner.events import (
    ChunkLoaded,
    ChunkSpooled,
    Retried,
    RowsDeleted,
    SchemaChanged,
    Stream,
    TableFailed,
    TableParked,
    TablePublished,
    TableReplanned,
    TableStarted,
    TableVerified,
    Warned,
)
from runner.executor import Executor
from runner.jobfile import SettledJob
from runner.journal import Statement, insert, update
from runner.keys import key_files, read_keys
from runner.ledger import Ledger
from runner.limits import SourceLimits
from runner.load import ChunkLoad, Deletion, Publication, TableWork
from runner.loader import Loader
from runner.plan import TablePlan, bounded, target_range, target_slice
from runner.profile import stage
from runner.record import ChunkState, Item, chunk_row
from runner.requests import working_on
from runner.retry import retrying
from runner.secrets import redact
from runner.source import CHANGES, Chunk, Table, following
from runner.spool import Spool, SpooledChunk
from runner.tasks import task_group
from runner.verify import Verifier, comparison_key, range_column

_MIN_RESERVE = 2**20
_REPLANS = 3
# Columns only ever become wider, so this comes to an end by itself, unless a source breaks its word.
_WIDENINGS = 100
_LATE = {
    "incremental": "give the table a lag, or the user pg_monitor",
    "append": "give the user pg_monitor, and read from the primary",
}
_ROUNDS = 5


class Mover:
    """Moves the tables of one run, each from plan to published.

    Args:
        source: The limits that all reads of the source share.
        verifier: Compares each table with its source before it is published.
        paged: Whether a chunk may end before its rows do, and another one goes on.
        replanned: Plans a table anew whose columns turned out to be others.
        tables: The names of all tables of the run.
        may_delete: Whether more rows may be deleted than max_delete says (--yes).
        on_failure: Told of each failure after it is on record.
    """

    def __init__(
        self,
        settled: SettledJob,
        *,
        clock: Clock,
        stream: Stream,
        source: SourceLimits,
        epochs: Epochs,
        executor: Executor,
        spool: Spool,
        ledger: Ledger,
        loader: Loader,
        verifier: Verifier,
        paged: bool,
        replanned: Callable[[Table], Item],
        tables: Iterable[str],
        may_delete: bool,
        on_failure: Callable[[], None],
    ) -> None:
        self._limits = settled.limits
        self._retry = settled.job.retry
        self._schema = settled.job.schema_
        self._clock = clock
        self._stream = stream
        self._source = source
        self._epochs = epochs
        self._executor = executor
        self._spool = spool
        self._ledger = ledger
        self._loader = loader
        self._verifier = verifier
        self._paged = paged
        self._replanned = replanned
        # A table that was parked is added again when it comes back.
        self._unread = set(tables)
        self._may_delete = may_delete
        self._on_failure = on_failure
        self._slots = list(range(settled.limits.tables, 0, -1))
        self._last_load_id = 0.0
        self.draining = False

    async def move(self, item: Item) -> None:
        """Move one table; whatever happens to it is a record (L6)."""
        slot = self._slots.pop()
        working_on.set(item.name)
        try:
            changes = widenings = 0
            while True:
                try:
                    await self._attempt(item, slot)
                    return
                except TableWidened as widened:
                    widenings += 1
                    if widenings > _WIDENINGS:
                        raise
                    await self._widen(item, widened)
                except TableChanged as changed:
                    changes += 1
                    if changes > _REPLANS:
                        raise
                    await self._replan(item, changed)
        except Parked as parked:
            await self._record_parked(item, parked)
            raise
        except Interrupted:
            pass
        except Busy as busy:
            self._stream.emit(Warned(item.name, busy.message))
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
            self._note_read(item)

    def _note_read(self, item: Item) -> None:
        """Note that a table needs its source no more; the last of them gives the snapshot back."""
        self._unread.discard(item.name)
        if not self._unread:
            self._epochs.end_idle("all tables are read")

    async def _attempt(self, item: Item, slot: int) -> None:
        self._unread.add(item.name)
        item.began = item.began or self._clock.monotonic()
        item.state, item.paged = "running", self._paged
        planned = [] if item.chunks else await self._plan_chunks(item)
        started = update("tables", {"name": item.name}, state="running", started=self._clock.now().isoformat())
        await self._ledger.write(*planned, started)
        rows = item.plan.scan.table.rows
        self._stream.emit(TableStarted(item.name, slot, item.plan.mode, len(item.chunks), rows))
        pending = [state for state in item.chunks if state.state in ("planned", "spooled")]
        crash_point("plan-stored", item.name)
        await self._each(item, pending)
        keys: tuple[SpooledChunk, ...] = ()
        try:
            epoch, keys = await self._settle_epoch(item)
            self._note_read(item)
            crash_point("epoch-agreed", item.name)
            await self._publish(item, epoch, keys)
        except VerifyFailed as error:
            located = await self._verifier.located(item, error)
            await self._start_over(item)
            raise located from error
        finally:
            for one in keys:
                await self._spool.remove(one)

    async def _start_over(self, item: Item) -> None:
        """Forget what was read and staged: it is known to be wrong, and nobody may go on with it."""
        for state in item.chunks:
            await self._drop_spooled(state)
        item.chunks, item.fresh, item.load_id = [], True, None
        await self._loader.call(lambda: self._loader.writer.discard(item.plan.target))
        await self._ledger.write(*item.forget())

    async def _plan_chunks(self, item: Item) -> list[Statement]:
        """Split the table; return what stores the list before the first read: it is never computed again."""

        async def once() -> None:
            async with self._source.request(), self._epochs.current() as epoch:
                if _appends_by_cursor(item.plan) or not epoch.session.position.consistent:
                    # Without one snapshot the mark comes first: rows written meanwhile are read again.
                    await self._note_mark(item, epoch)
                told_by_rows = epoch.session.position.marks_rows or item.plan.cursor == CHANGES
                bound = _appends_by_cursor(item.plan) and not told_by_rows
                plan = bounded(item.plan, item.mark) if bound else item.plan
                limits = self._limits
                size = min(limits.chunk_bytes, max(_MIN_RESERVE, limits.disk // 4))
                chunks = await epoch.session.chunks(plan.scan, limits.chunk_rows, size)
                item.plan = plan
                item.chunks = [ChunkState(chunk) for chunk in chunks]

        with stage("plan"):
            await self._tried(item, once)
        return [
            update("tables", {"name": item.name}, plan=json.dumps(item.stored_plan()), mark=item.mark,
                   epoch=item.mark_epoch, token=item.mark_token),
            *(chunk_row(item.name, state) for state in item.chunks),
        ]  # fmt: skip

    async def _note_mark(self, item: Item, epoch: Epoch) -> None:
        """Take the high-water mark in the picture that the rows come from (L8)."""
        if not self._lacks_mark(item, epoch.number):
            return
        mark = await epoch.session.high_water(item.plan.scan)
        item.mark, item.mark_epoch = (mark.value if mark else None), epoch.number
        item.mark_token = epoch.session.position.token
        if mark is not None and not mark.exact and not item.plan.entry.lag and item.plan.mode != "full":
            self._stream.emit(Warned(item.name, f"rows committed late may be missed: {_LATE[item.plan.mode]}"))

    async def _mark_under(self, item: Item, epoch: Epoch) -> None:
        if self._lacks_mark(item, epoch.number):
            async with self._source.request():
                await self._note_mark(item, epoch)

    def _lacks_mark(self, item: Item, epoch: int) -> bool:
        if item.plan.cursor is None or item.plan.keeps_mark:
            return False
        # The end of what append reads is its mark, whatever epoch reads it.
        return item.mark_epoch != epoch and not (item.mark_epoch and _appends_by_cursor(item.plan))

    async def _each(self, item: Item, states: Sequence[ChunkState]) -> None:
        """Read chunks, a bounded number of them at once; each is loaded while others are read."""
        # One more than there are cores to decode them: the first is loaded before the last is read. Pages of an API
        # are waited for and hardly decoded.
        cores = self._limits.connections if self._paged else (os.cpu_count() or 1) + 1
        at_once = max(2, min(self._limits.connections, cores))
        reading = anyio.Semaphore(at_once)
        # What is read and not loaded yet takes disk from the other tables.
        ahead = anyio.Semaphore(4 * at_once)
        queue = deque(states)
        at_work = 0
        woken = anyio.Event()

        async def one(state: ChunkState) -> None:
            nonlocal at_work
            try:
                try:
                    if state.state != "spooled":
                        queue.extendleft(await self._read(item, state))
                finally:
                    at_work -= 1
                    woken.set()
                    reading.release()
                if len(item.chunks) > 1:
                    await self._load(item, state)
            finally:
                ahead.release()

        async with task_group() as group:
            while queue or at_work:
                if not queue:
                    # Where a chunk ends is known once it was read: another one may go on there.
                    woken = anyio.Event()
                    await woken.wait()
                    continue
                await ahead.acquire()
                await reading.acquire()
                if self.draining:
                    break
                at_work += 1
                group.start_soon(one, queue.popleft())
        if any(state.state == "planned" for state in item.chunks):
            raise Interrupted

    async def _read(self, item: Item, state: ChunkState, under: Epoch | None = None) -> list[ChunkState]:
        """Read a chunk into the spool; return the chunk that goes on where it ended, if there is one."""
        began = self._clock.monotonic()
        chunk, scan = state.chunk, item.plan.scan

        async def once() -> tuple[SpooledChunk, Epoch]:
            amount = await self._spool.disk.reserve(max(chunk.bytes, _MIN_RESERVE) + state.reserve_more)
            given = False
            try:
                async with self._source.request(), self._epochs.current() as current:
                    epoch = under or current
                    item.looked_at = epoch.number
                    given = True
                    try:
                        return await self._executor.read(epoch.session, scan, chunk, self._spool, amount), epoch
                    except SpoolFull:
                        state.reserve_more = max(state.reserve_more, chunk.bytes, _MIN_RESERVE) * 2
                        raise
            finally:
                if not given:
                    self._spool.disk.release(amount)

        def may_retry(error: RunnerError) -> bool:
            lost = isinstance(error, SnapshotLost) and under is not None
            hopeless = isinstance(error, SpoolFull) and state.reserve_more > 4 * self._spool.disk.total
            return error.retriable and not lost and not hopeless

        spooled, epoch = await self._tried(item, once, chunk=chunk.id, may_retry=may_retry)
        token = epoch.session.position.token
        seconds = self._clock.monotonic() - began
        try:
            after = _goes_on(item, state, spooled)
        except RunnerError:
            await self._spool.remove(spooled)
            raise
        more = [ChunkState(after)] if after is not None and after.id != state.next else []
        await self._ledger.write(
            *(chunk_row(item.name, one) for one in more),
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
                hash=spooled.hash,
                mark=spooled.mark,
                next=after.id if after is not None else None,
            ),
        )
        item.chunks += more
        state.next, state.mark = (after.id if after is not None else None), spooled.mark
        state.state, state.epoch, state.token = "spooled", epoch.number, token
        item.lsn = epoch.session.position.lsn
        state.rows, state.bytes, state.spooled, state.hash = spooled.rows, spooled.bytes, spooled, spooled.hash
        crash_point("chunk-recorded", item.name)
        self._stream.emit(ChunkSpooled(item.name, chunk.id, spooled.rows, spooled.bytes, round(seconds, 4)))
        return more

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
                policy=self._retry,
                clock=self._clock,
                limits=self._source,
                noticed=noticed,
                may_retry=may_retry,
            )
        finally:
            if waiting:
                await self._ledger.write(*waiting)

    def _chunk_load(self, state: ChunkState) -> ChunkLoad:
        assert state.spooled is not None
        files = tuple(self._spool.folder / name for name in state.spooled.files)
        return ChunkLoad(state.chunk.id, state.epoch, files, state.rows, state.spooled.bytes, state.hash, state.token)

    async def _load(self, item: Item, state: ChunkState) -> None:
        fresh, item.fresh = item.fresh, False
        plan = item.staged_plan() if fresh else None
        await self._loader.load(TableWork(item.plan.target, [self._chunk_load(state)], fresh=fresh, plan=plan))
        crash_point("load-committed", item.name)
        await self._ledger.write(update("chunks", {"table_name": item.name, "id": state.chunk.id}, state="loaded"))
        state.state = "loaded"
        crash_point("load-recorded", item.name)
        await self._drop_spooled(state)
        self._stream.emit(ChunkLoaded(item.name, state.chunk.id, state.rows))

    async def _drop_spooled(self, state: ChunkState) -> None:
        spooled, state.spooled = state.spooled, None
        if spooled is not None:
            await self._spool.remove(spooled)

    async def _settle_epoch(self, item: Item) -> tuple[int, tuple[SpooledChunk, ...]]:
        """Return one picture that all of the table is of, and the keys that it has there.

        Raises:
            SnapshotLost: Pictures went away faster than the table could be read.
            VerifyFailed: What was decoded is not what the source has.
        """
        for _ in range(_ROUNDS):
            first = item.chunks[0].epoch
            agreed = all(state.epoch == first for state in item.chunks) and not self._lacks_mark(item, first)
            if agreed and not self._verifier.looks_again and item.plan.deletion != "compare":
                return first, ()
            try:
                async with self._epochs.current() as epoch:
                    item.looked_at = epoch.number
                    if epoch.session.position.consistent:
                        await self._agree_under(item, epoch)
                    item.lsn = epoch.session.position.lsn
                    await self._verifier.look_again(item, epoch)
                    return epoch.number, await self._read_keys(item, epoch)
            except SnapshotLost:
                continue
        raise SnapshotLost(table=item.name)

    async def _read_keys(self, item: Item, epoch: Epoch) -> tuple[SpooledChunk, ...]:
        if item.plan.deletion != "compare":
            return ()
        limits = self._limits

        async def once() -> list[SpooledChunk]:
            return await read_keys(
                item.plan,
                epoch,
                executor=self._executor,
                source=self._source,
                spool=self._spool,
                rows=limits.chunk_rows,
                size=limits.chunk_bytes,
                width=max(1, limits.connections // 2),
            )

        return tuple(await self._tried(item, once, may_retry=_but_not_lost))

    async def _agree_under(self, item: Item, epoch: Epoch) -> None:
        """See to it that every chunk is from this epoch, or proved equal under it (L3)."""
        await self._tried(item, lambda: self._mark_under(item, epoch), may_retry=_but_not_lost)
        old = [state for state in item.chunks if state.epoch != epoch.number]
        width = anyio.CapacityLimiter(max(2, self._limits.connections // 2))

        async def one(state: ChunkState) -> None:
            async with width:
                await self._renew_chunk(item, state, epoch)

        async with task_group() as group:
            for state in old:
                group.start_soon(one, state)

    async def _renew_chunk(self, item: Item, state: ChunkState, epoch: Epoch) -> None:
        async def once() -> bool:
            async with self._source.request():
                return await epoch.session.unchanged(item.plan.scan, state.chunk, state.rows, state.token)

        same = await self._tried(item, once, chunk=state.chunk.id, may_retry=_but_not_lost)
        if same:
            state.epoch, state.token = epoch.number, epoch.session.position.token
            return
        await self._drop_spooled(state)
        await self._read(item, state, under=epoch)
        if len(item.chunks) > 1:
            await self._load(item, state)

    async def _publish(self, item: Item, epoch: int, keys: Sequence[SpooledChunk]) -> None:
        plan = item.plan
        item.mark = item.mark_of_rows() or item.mark
        if item.load_id is None:
            item.load_id = self._new_load_id()
            # Written before the commit: a repeat finds the same id in _dlt_loads and does nothing.
            await self._ledger.write(
                update(
                    "tables",
                    {"name": item.name},
                    load_id=item.load_id,
                    mark=item.mark,
                    token=item.mark_token,
                    epoch=epoch,
                )
            )
        crash_point("publish-named", item.name)
        waiting = [state for state in item.chunks if state.state == "spooled"]
        publication = Publication(
            load_id=item.load_id,
            mode=plan.mode,
            replace=item.replace,
            chunks={state.chunk.id: state.rows for state in item.chunks},
            digest=plan.definition(),
            base=item.base,
            cursor=plan.cursor,
            mark=None if plan.keeps_mark else item.mark,
            range=target_range(plan),
            schema=self._schema,
            # A primary key is one, unless values of it that cannot arrive become NULL.
            check_key=bool(plan.target.key) and (plan.key_from != "primary key" or plan.scan.special == "null"),
            verify=self._verifier.counts,
            adopt=bool(plan.entry.adopt),
            hashes=item.hashes if self._verifier.hashes else None,
            token=item.token,
            slice=target_slice(plan),
            deletion=self._deletion(plan, keys),
            key_column=range_column(plan),
            compares=plan.entry.deletes == "compare",
            collapse=comparison_key(plan)[1] if self._paged else (),
            parts=item.replace and len(item.chunks) > 1 and not all("key" in one.chunk.bounds for one in item.chunks),
        )
        loads = [self._chunk_load(state) for state in waiting]
        outcome = await self._loader.load(TableWork(plan.target, loads, publication, fresh=item.fresh))
        crash_point("publish-committed", item.name)
        rows = item.rows
        item.note(outcome)
        await self._ledger.write(*item.published_at(self._clock.now()))
        item.state = "published"
        crash_point("table-recorded", item.name)
        for state in item.chunks:
            state.state = "verified" if publication.verify else "loaded"
            await self._drop_spooled(state)
        for change in outcome.changes:
            self._stream.emit(SchemaChanged(item.name, change))
        if publication.verify and not outcome.still:
            self._stream.emit(TableVerified(item.name, self._verifier.how, len(item.chunks), rows))
        if outcome.collapsed:
            words = "rows came more than once while pages were read; the newest of each key was kept"
            self._stream.emit(Warned(item.name, f"{outcome.collapsed:,} {words}"))
        if outcome.lacking:
            words = "rows of the source have cursors behind the mark and are not at the destination"
            self._stream.emit(Warned(item.name, f"{outcome.lacking:,} {words}: runner verify --repair reads them"))
        if outcome.deleted:
            self._stream.emit(RowsDeleted(item.name, outcome.deleted, plan.entry.on_delete == "hard"))
        seconds = self._clock.monotonic() - (item.began or 0)
        self._stream.emit(
            TablePublished(
                item.name, plan.target.name, rows, item.bytes, round(seconds, 4), publication.mark, outcome.still
            )
        )

    def _deletion(self, plan: TablePlan, keys: Sequence[SpooledChunk]) -> Deletion | None:
        if plan.deletion is None:
            return None
        return Deletion(
            hard=plan.entry.on_delete == "hard",
            column=None if plan.deletion == "compare" else plan.deletion,
            keys=key_files(self._spool, keys),
            rows=sum(chunk.rows for chunk in keys),
            most=None if self._may_delete else plan.entry.max_delete if plan.entry.max_delete is not None else 0.1,
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
            # Another table that changed may have begun a new one meanwhile.
            if epoch.number <= item.looked_at:
                self._epochs.end(epoch, f"{item.name} changed")

        async def discover() -> list[Table]:
            async with self._source.request(), self._epochs.current() as epoch:
                return await epoch.session.discover([item.name])

        found = await self._tried(item, discover)
        table = next((one for one in found if one.qualified == item.name), None)
        if table is None:
            raise RunnerError(f"{item.name} was dropped while it was read.", table=item.name)
        before = item.plan.scan.table
        if table.shape() != before.shape():
            raise RunnerError(
                f"{item.name} was altered while it was read: {before.difference(table)}.",
                guidance=changed.guidance,
                table=item.name,
            )
        await self._begin_again(item, replace(item.plan, scan=item.plan.scan.over(table)))

    async def _widen(self, item: Item, widened: TableWidened) -> None:
        """Begin a table again whose columns were inferred from rows that did not show all of them."""
        self._stream.emit(TableReplanned(item.name, widened.message))

        async def discover() -> list[Table]:
            async with self._source.request(), self._epochs.current() as epoch:
                return await epoch.session.discover([item.name])

        found = await self._tried(item, discover)
        again = self._replanned(next(one for one in found if one.qualified == item.name))
        item.digest, item.replace = again.digest, again.replace
        await self._begin_again(item, again.plan)

    async def _begin_again(self, item: Item, plan: TablePlan) -> None:
        for state in item.chunks:
            await self._drop_spooled(state)
        item.plan = plan
        item.chunks, item.fresh, item.load_id = [], True, None
        item.mark, item.mark_epoch, item.mark_token = None, 0, None
        await self._ledger.write(*item.forget())

    async def _record_failure(self, item: Item, error: RunnerError) -> None:
        item.state, item.error = "failed", error
        for state in item.chunks:
            # The space is for tables that can still arrive.
            await self._drop_spooled(state)
        await self._ledger.write(item.failed_at(self._clock.now(), error))
        self._stream.emit(failure(item.name, error))
        self._on_failure()

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
        self._epochs.end_idle("tables were parked")


def _note_defect(folder: Path, text: str) -> None:
    with (folder / "defects.log").open("a", encoding="utf-8") as file:
        file.write(text)


def _goes_on(item: Item, state: ChunkState, spooled: SpooledChunk) -> Chunk | None:
    """Return the chunk that goes on where one ended, also where it is there already.

    Raises:
        TableChanged: The chunk was read before and ended elsewhere: what went on there is of other pages.
        SourceError: The paging leads back to where it has been.
    """
    known = {one.chunk.id for one in item.chunks} - {state.next}
    found = None
    if spooled.rest is not None:
        found = following(item.plan.scan, state.chunk, len(item.chunks), spooled.rest, known)
    if state.next is not None and (found is None or found.id != state.next):
        raise TableChanged("The pages are not those that were read before.", table=item.name)
    return found


def _but_not_lost(error: RunnerError) -> bool:
    """Tell whether to try again under the same epoch."""
    return error.retriable and not isinstance(error, SnapshotLost)


def _appends_by_cursor(plan: TablePlan) -> bool:
    return plan.mode == "append" and plan.cursor is not None and not plan.keeps_mark


def failure(name: str, error: RunnerError) -> TableFailed:
    """Return the event of a table's failure."""
    return TableFailed(name, type(error).__name__, error.message, error.advice)
