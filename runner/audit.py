"""Published tables against the record of the run that made them, and against the source as it is now.

The record says whether the destination is as it was left; the source says whether it is still right. So a
difference has a name: somebody changed the destination (damaged), or the source has moved on (changed since).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from runner.clock import Clock
from runner.columns import HASH_KEY
from runner.costs import of_hashing
from runner.differences import Difference, Side, compare
from runner.epochs import Epochs
from runner.errors import (
    DestinationBusy,
    DestinationDown,
    DestinationError,
    DestinationRefused,
    RunnerError,
    SourceError,
    TableChanged,
    UsageError,
    at_first_contact,
)
from runner.events import Stream
from runner.executor import LocalExecutor
from runner.jobfile import SettledJob
from runner.limits import SourceLimits
from runner.load import Destination, TableState, Writer
from runner.loader import patiently
from runner.plan import Plan, TablePlan, make_plan, patterns
from runner.recall import recalled
from runner.requests import govern
from runner.rowhash import Digest, Fingerprint, Slice, by_prefix, total
from runner.source import Chunk, Session, Source, Table, Window
from runner.tasks import task_group
from runner.verify import comparison_key

_CHUNK_MEMORY = 64 * 2**20
# More than that of the parts to be read again, and the whole table is.
_MOST_PARTS = 0.5
_ROUNDS = 3
_PATIENCE = 60.0
STATES = {
    "equal": "equal to the source, value by value",
    "changed since": "as its run left it; the source has changed since",
    "damaged": "not as its run left it",
    "different": "different from the source: changed since, or damaged (its run kept no hash)",
    "missing": "never loaded, or dropped",
    "failed": "could not be compared",
}


@dataclass(frozen=True)
class Finding:
    """What became of one table.

    Attributes:
        state: One of STATES.
        rows: Rows at the destination that were compared.
        run: The run that published it.
        difference: How it differs from the source.
    """

    name: str
    state: str
    plan: TablePlan | None = None
    rows: int = 0
    run: str | None = None
    difference: Difference | None = None
    error: RunnerError | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with the destination."""
        return self.state in ("equal", "changed since")

    @property
    def wrong(self) -> bool:
        """Whether the destination is not as it should be, so that reading again helps."""
        if self.state == "changed since" and self.plan is not None and self.difference is not None:
            # Late rows, or a new column: merging them by key takes nothing away.
            counts = self.difference.counts
            return self.plan.mode == "incremental" and bool(counts.get("missing") or counts.get("changed"))
        return self.state == "damaged" or (self.state == "different" and self.difference is not None)

    @property
    def repair(self) -> Slice | None:
        """The slice to read again; None where it has to be the whole table."""
        found = self.difference
        assert self.plan is not None
        # The source does not have the key of the HMAC: it cannot find the rows of a slice.
        hashed = any(column.rule == "hash" for column in self.plan.scan.columns)
        if hashed or found is None or found.slice is None or len(found.slice.prefixes) > _MOST_PARTS * found.parts:
            return None
        return found.slice

    @property
    def beyond_repair(self) -> str | None:
        """Why reading again would lose what the destination alone has; None where it would not."""
        assert self.plan is not None
        mode, found = self.plan.mode, self.difference
        if mode == "snapshot":
            return "mode snapshot keeps history, which cannot be read again"
        if mode == "append" and self.plan.cursor is None:
            return "mode append without a cursor adds everything each time"
        if mode == "append" and (found is None or not found.complete or found.counts.get("extra")):
            return "it holds rows that the source does not have, and mode append keeps those"
        return None

    def record(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        found = self.difference
        return {
            "table": self.name,
            "destination": self.plan.target.name if self.plan else None,
            "state": self.state,
            "rows": self.rows,
            "run": self.run,
            "difference": found.record() if found else None,
            "error": self.error.record() if self.error else None,
        }


class Audit:
    """Compares the tables of one job; changes nothing.

    Args:
        values: Whether values of differing rows are told.
        wanted: Only what this run published last; any by default.
        told: Called with what it will cost, in words, before it begins.
    """

    def __init__(
        self,
        settled: SettledJob,
        source: Source,
        destination: Destination,
        *,
        clock: Clock,
        environ: Mapping[str, str],
        only: tuple[str, ...] = (),
        values: bool = False,
        wanted: str | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._told = told
        self._settled = settled
        self._source = source
        self._destination = destination
        self._clock = clock
        self._only = only
        self._values = values
        self._wanted = wanted
        self._limits = SourceLimits.of(settled.limits, clock)
        govern(source, settled, self._limits, clock)
        self._executor = LocalExecutor(
            hash_key=environ.get(HASH_KEY), width=max(1, settled.limits.memory // 2 // _CHUNK_MEMORY), verify=False
        )
        self._turn = anyio.Lock()

    async def run(self) -> list[Finding]:
        """Compare every selected table.

        Raises:
            UsageError: Nothing is selected.
            ContactError: A system refused the first contact.
        """
        findings: list[Finding] = []
        async with task_group() as group:
            epochs = Epochs(
                self._source, group, self._clock, Stream(self._clock), longest=self._settled.limits.snapshot_age
            )
            try:
                async with epochs.current() as epoch:
                    tables = await epoch.session.discover(patterns(self._settled.job))
            except SourceError as error:
                raise at_first_contact(error) from error
            plan = self._make_plan(tables, self._only)
            if self._told is not None and self._destination.metered:
                self._told(of_hashing(table.scan.table for table in plan.tables))
            writer = self._destination.writer(plan.dataset)
            try:
                state = await self._ask(lambda: writer.read_state(None))
                plan = await recalled(plan, state, self._source, epochs, self._make_plan)
                if self._wanted is None:
                    findings += [Finding(one.name, "failed", error=one.error) for one in plan.rejected]
                for table in plan.tables:
                    base = state.tables.get(table.target.name)
                    if self._wanted is None or (base is not None and base.run.startswith(self._wanted)):
                        there = table.target.name in state.existing
                        findings.append(await self._look(epochs, writer, table, base if there else None))
            except DestinationError as error:
                raise DestinationRefused(error.message, guidance=error.advice) from error
            finally:
                await anyio.to_thread.run_sync(writer.close)
            epochs.close()
            group.cancel_scope.cancel()
        if not findings:
            raise UsageError(
                f"No table was published last by run {self._wanted!r}.", guidance="`runner runs` lists them."
            )
        return findings

    def _make_plan(self, tables: Sequence[Table], only: Sequence[str]) -> Plan:
        names, promises = self._destination.max_name, self._destination.promises
        return make_plan(self._settled, tables, max_name=names, promises=promises, only=only)

    async def _look(self, epochs: Epochs, writer: Writer, plan: TablePlan, base: TableState | None) -> Finding:
        """Compare a table; where it was published again meanwhile, or rewritten at the source, once more."""
        for _ in range(_ROUNDS):
            async with epochs.current() as epoch:
                found = await self._compare(epoch.session, writer, plan, base)
            if found.state == "equal":
                break
            if isinstance(found.error, TableChanged):
                epochs.end(epoch, f"{plan.name} changed")
                async with epochs.current() as epoch:
                    tables = {table.qualified: table for table in await epoch.session.discover([plan.name])}
                table = tables.get(plan.name)
                if table is None or table.shape() != plan.scan.table.shape():
                    break
                plan = replace(plan, scan=plan.scan.over(table))
                continue
            state = await self._ask(lambda: writer.read_state(None))
            now = state.tables.get(plan.target.name) if plan.target.name in state.existing else None
            if (now and now.load_id) == (base and base.load_id):
                break
            base = now
        return found

    async def _ask(self, blocking: Any) -> Any:
        async with self._turn:
            return await patiently(lambda: anyio.to_thread.run_sync(blocking), self._clock, lambda: _PATIENCE)

    async def _compare(self, session: Session, writer: Writer, plan: TablePlan, base: TableState | None) -> Finding:
        if base is None:
            return Finding(plan.name, "missing", plan)
        try:
            own = total(by_prefix(await self._ask(lambda: writer.digest(plan.target, Digest()))).values())
            kept = Fingerprint.parse(base.hash) if base.hash and base.digest == plan.definition() else None
            here = await self._source_side(session, plan, base)
            found = await compare(here, self._published_side(writer, plan, base), values=self._values)
            if found is not None and session.position.paged:
                found = replace(found, slice=None)  # pages cannot be narrowed to a slice of the keys
        except (DestinationBusy, DestinationDown):
            raise
        except RunnerError as error:
            return Finding(plan.name, "failed", plan, run=base.run, error=error)
        if found is None:
            # Also where the record says otherwise: the source has healed what was damaged.
            state = "equal"
        elif kept is None:
            state = "different"
        else:
            state = "changed since" if own == kept else "damaged"
        return Finding(plan.name, state, plan, own.rows, base.run, found)

    async def _source_side(self, session: Session, plan: TablePlan, base: TableState) -> Side:
        limited = self._limit(plan, base) is not None
        scan = plan.scan.within(Window(str(plan.cursor), end=base.mark) if limited else None)
        if plan.deletion not in (None, "compare") and plan.entry.on_delete == "hard":
            column = next(one for one in plan.target.columns if one.name == plan.deletion)
            scan = replace(scan, present=column.source)
        limits = self._settled.limits
        async with self._limits.request():
            chunks = await session.chunks(scan, limits.chunk_rows, limits.chunk_bytes)
        width = anyio.CapacityLimiter(max(1, limits.connections))

        async def ask(digest: Digest) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []

            async def one(chunk: Chunk) -> None:
                async with width, self._limits.request():
                    rows.extend(await self._executor.digest(session, scan, chunk, digest, whole=True))

            async with task_group() as group:
                for chunk in chunks:
                    group.start_soon(one, chunk)
            return rows

        key, _ = comparison_key(plan)
        return Side(key, tuple(column.name for column in scan.columns), ask)

    def _limit(self, plan: TablePlan, base: TableState) -> str | None:
        """Return the destination's name of the cursor, if rows past its mark are the next run's on both sides."""
        column = next((one for one in plan.scan.columns if one.name == plan.cursor), None)
        if base.mark is None or base.cursor != plan.cursor or column is None or column.rule is not None:
            return None
        return next(one.name for one in plan.target.columns if one.source == plan.cursor)

    def _published_side(self, writer: Writer, plan: TablePlan, base: TableState) -> Side:
        _, key = comparison_key(plan)
        limited = self._limit(plan, base)

        async def ask(digest: Digest) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = await self._ask(
                lambda: writer.digest(plan.target, digest, cursor=limited, until=base.mark)
            )
            return found

        return Side(key, tuple(column.name for column in plan.target.columns), ask)
