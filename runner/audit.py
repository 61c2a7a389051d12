"""Published tables against the record of the run that made them, and against the source as it is now.

The record says whether the destination is as it was left; the source says whether it is still right. So a
difference has a name: somebody changed the destination (damaged), or the source has moved on (changed since).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from runner.clock import Clock
from runner.columns import HASH_KEY
from runner.differences import Difference, Side, compare
from runner.epochs import Epochs
from runner.errors import DestinationError, DestinationRefused, RunnerError
from runner.events import Stream
from runner.executor import LocalExecutor
from runner.jobfile import SettledJob
from runner.limits import SourceLimits
from runner.load import Destination, TableState, Writer
from runner.plan import TablePlan, make_plan, patterns
from runner.rowhash import Digest, Fingerprint, Slice, by_prefix, total
from runner.source import Chunk, Session, Source, Window
from runner.tasks import task_group
from runner.verify import comparison_key

_CHUNK_MEMORY = 64 * 2**20
# More than that of the parts to be read again, and the whole table is.
_MOST_PARTS = 0.5
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

    plan: TablePlan
    state: str
    rows: int = 0
    run: str | None = None
    difference: Difference | None = None
    error: RunnerError | None = None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with the destination."""
        return self.state in ("equal", "changed since")

    @property
    def repair(self) -> Slice | None:
        """The slice to read again; None where it has to be the whole table."""
        found = self.difference
        if found is None or found.slice is None or len(found.slice.prefixes) > _MOST_PARTS * found.parts:
            return None
        return found.slice

    def record(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        found = self.difference
        return {
            "table": self.plan.name,
            "destination": self.plan.target.name,
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
    ) -> None:
        self._settled = settled
        self._source = source
        self._destination = destination
        self._clock = clock
        self._only = only
        self._values = values
        self._wanted = wanted
        limits = settled.limits
        self._limits = SourceLimits(clock, connections=limits.connections, rate=limits.rate, park=limits.park)
        self._executor = LocalExecutor(
            hash_key=environ.get(HASH_KEY), width=max(1, limits.memory // 2 // _CHUNK_MEMORY), verify=False
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
            async with epochs.current() as epoch:
                tables = await epoch.session.discover(patterns(self._settled.job))
                plan = make_plan(
                    self._settled,
                    tables,
                    max_name=self._destination.max_name,
                    promises=self._destination.promises,
                    only=self._only,
                )
                writer = self._destination.writer(plan.dataset)
                try:
                    state = await self._ask(lambda: writer.read_state(None))
                    for table in plan.tables:
                        base = state.tables.get(table.target.name)
                        if self._wanted is None or (base is not None and base.run.startswith(self._wanted)):
                            there = table.target.name in state.existing
                            findings.append(await self._compare(epoch.session, writer, table, base if there else None))
                except DestinationError as error:
                    raise DestinationRefused(error.message, guidance=error.advice) from error
                finally:
                    await anyio.to_thread.run_sync(writer.close)
            epochs.close()
            group.cancel_scope.cancel()
        return findings

    async def _ask(self, blocking: Any) -> Any:
        async with self._turn:
            return await anyio.to_thread.run_sync(blocking)

    async def _compare(self, session: Session, writer: Writer, plan: TablePlan, base: TableState | None) -> Finding:
        if base is None:
            return Finding(plan, "missing")
        try:
            own = total(by_prefix(await self._ask(lambda: writer.digest(plan.target, Digest()))).values())
            kept = Fingerprint.parse(base.hash) if base.hash and base.digest == plan.definition() else None
            here = await self._source_side(session, plan, base)
            found = await compare(here, self._published_side(writer, plan, base), values=self._values)
        except DestinationError:
            raise
        except RunnerError as error:
            return Finding(plan, "failed", run=base.run, error=error)
        if kept is not None and own != kept:
            state = "damaged"
        elif found is None:
            state = "equal"
        else:
            state = "changed since" if kept is not None else "different"
        return Finding(plan, state, own.rows, base.run, found)

    async def _source_side(self, session: Session, plan: TablePlan, base: TableState) -> Side:
        scan = plan.scan
        if base.mark is not None and base.cursor == plan.cursor and plan.cursor is not None:
            # Rows past the mark are the next run's.
            scan = plan.scan.within(Window(plan.cursor, end=base.mark))
        limits = self._settled.limits
        async with self._limits.request():
            chunks = await session.chunks(scan, limits.chunk_rows, limits.chunk_bytes)
        width = anyio.CapacityLimiter(max(1, limits.connections))

        async def ask(digest: Digest) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []

            async def one(chunk: Chunk) -> None:
                async with width, self._limits.request():
                    rows.extend(await self._executor.digest(session, scan, chunk, digest))

            async with task_group() as group:
                for chunk in chunks:
                    group.start_soon(one, chunk)
            return rows

        key, _ = comparison_key(plan)
        return Side(key, tuple(column.name for column in scan.columns), ask)

    def _published_side(self, writer: Writer, plan: TablePlan, base: TableState) -> Side:
        _, key = comparison_key(plan)
        cursor = next((column.name for column in plan.target.columns if column.source == plan.cursor), None)
        limited = cursor if base.cursor == plan.cursor else None

        async def ask(digest: Digest) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = await self._ask(
                lambda: writer.digest(plan.target, digest, cursor=limited, until=base.mark)
            )
            return found

        return Side(key, tuple(column.name for column in plan.target.columns), ask)
