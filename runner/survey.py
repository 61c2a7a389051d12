"""A look at source and destination that changes neither: what ``plan`` shows and ``doctor`` asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from runner.errors import SourceError, at_first_contact
from runner.jobfile import SettledJob
from runner.load import DatasetState, Destination
from runner.plan import Plan, TablePlan, make_plan, patterns, windowed
from runner.runs import StateFolder
from runner.source import Position, Source

_USUAL_SPEED = 100_000.0
_PER_TABLE = 0.02
_CATALOG_REQUESTS = 8


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        chunks: Chunks by table.
        requests: Statements to the source.
        seconds: How long, by the speed of earlier runs; measured says whether there were any.
    """

    chunks: dict[str, int]
    rows: int
    bytes: int
    requests: int
    seconds: float
    measured: bool


@dataclass(frozen=True)
class Survey:
    """A plan with what it will meet."""

    plan: Plan
    state: DatasetState
    position: Position
    estimate: Estimate

    def effect(self, table: TablePlan) -> str:
        """Return what will happen at the destination, in words."""
        exists = table.target.name in self.state.existing
        owner = self.state.tables.get(table.target.name)
        ours = owner is not None and (owner.source, owner.source_table) == (table.target.source, table.name)
        if exists and not ours and not table.entry.adopt:
            return "refused: made by somebody else"
        if not exists:
            return "create"
        if table.mode == "full" or owner is None or (owner.mark is None and table.cursor):
            return "replace"
        if table.mode == "append":
            return f"append after {owner.mark}" if table.cursor else "append all"
        return f"merge from {owner.mark}"


async def survey(
    settled: SettledJob,
    source: Source,
    destination: Destination,
    state: StateFolder,
    *,
    only: Sequence[str] = (),
) -> Survey:
    """Plan a job without changing anything.

    Raises:
        UsageError: The job cannot be planned.
        ContactError: A system refused us.
    """
    async with source.session(1) as session:
        try:
            tables = await session.discover(patterns(settled.job))
        except SourceError as error:
            raise at_first_contact(error) from error
        plan = make_plan(settled, tables, max_name=destination.max_name, promises=destination.promises, only=only)
        writer = destination.writer(plan.dataset)
        try:
            found = await anyio.to_thread.run_sync(writer.read_state, None)
        finally:
            await anyio.to_thread.run_sync(writer.close)
        limits = settled.limits
        chunks, rows = {}, 0
        for table in plan.tables:
            state_row = found.tables.get(table.target.name)
            mark = state_row.mark if state_row and state_row.cursor == table.cursor else None
            scan = windowed(table, mark, None).scan
            merges = state_row is not None and mark is not None and table.mode != "full"
            # What an increment brings is not in the catalog; the last one is the best guess.
            rows += min(state_row.rows, table.scan.table.rows) if merges and state_row else table.scan.table.rows
            large = scan.table.rows > limits.chunk_rows or scan.table.bytes > limits.chunk_bytes
            chunks[table.name] = len(await session.chunks(scan, limits.chunk_rows, limits.chunk_bytes)) if large else 1
        position = session.position
    return Survey(plan, found, position, await anyio.to_thread.run_sync(_estimate, settled, plan, chunks, rows, state))


def _estimate(settled: SettledJob, plan: Plan, chunks: dict[str, int], rows: int, state: StateFolder) -> Estimate:
    speed = _measured_speed(settled, state)
    seconds = rows / (speed or _USUAL_SPEED) + _PER_TABLE * len(plan.tables)
    return Estimate(
        chunks=chunks,
        rows=rows,
        bytes=sum(table.scan.table.bytes for table in plan.tables),
        requests=_CATALOG_REQUESTS + len(plan.tables) + 2 * sum(chunks.values()),
        seconds=seconds,
        measured=speed is not None,
    )


def _measured_speed(settled: SettledJob, state: StateFolder) -> float | None:
    """Return rows a second of the newest ended run of the job on this machine."""
    from datetime import datetime

    from runner.ledger import LedgerReader

    newest = state.newest(job=settled.job.name, source=settled.source_name, state="finished")
    if newest is None:
        return None
    folder, record = newest
    with LedgerReader(folder.ledger) as ledger:
        rows = sum(row["rows"] or 0 for row in ledger.tables())
    span = datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])
    return rows / span.total_seconds() if rows > 10_000 and span.total_seconds() > 0 else None
