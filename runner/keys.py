"""The keys that a source has now: what ``deletes: compare`` compares the destination with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from runner.epochs import Epoch
from runner.executor import Executor
from runner.limits import SourceLimits
from runner.plan import TablePlan
from runner.source import Chunk, following
from runner.spool import Spool, SpooledChunk
from runner.tasks import task_group

_MIN_RESERVE = 2**20


async def read_keys(
    plan: TablePlan,
    epoch: Epoch,
    *,
    executor: Executor,
    source: SourceLimits,
    spool: Spool,
    rows: int,
    size: int,
    width: int,
) -> list[SpooledChunk]:
    """Read the keys of all rows of a table into the spool, chunk by chunk and all under one picture.

    Where there is no picture, they are read twice: together they are what was seen at one of two times.

    Args:
        rows: About so many rows a chunk; size: about so many bytes.
        width: How many chunks are read at once.

    Raises:
        SnapshotLost: The picture went away: keys of two pictures could lack a row that moved in between.
    """
    names = {column.source for column in plan.target.columns if column.name in plan.target.key}
    columns = tuple(column for column in plan.scan.columns if column.name in names)
    scan = replace(plan.scan, columns=columns, window=None, slice=None)
    async with source.request():
        chunks = await epoch.session.chunks(scan, rows, size)
    # A key that moves to a page that was read already is not seen: what is gone has to be missing twice.
    looks = ("", "-again") if epoch.session.position.paged else ("",)
    found: list[SpooledChunk] = []
    slots = anyio.CapacityLimiter(width)

    async def one(chunk: Chunk, look: str) -> None:
        async with slots, source.request():
            part: Chunk | None = chunk
            seen: set[str] = set()
            while part is not None:
                seen.add(part.id)
                # From here on the executor gives it back.
                amount = await spool.disk.reserve(_MIN_RESERVE)
                named = replace(part, id=part.id + look)
                spooled = await executor.read(epoch.session, scan, named, spool, amount)
                found.append(spooled)
                rest = spooled.rest
                part = None if rest is None else following(scan, part, part.index + 1, rest, seen)

    try:
        for look in looks:
            async with task_group() as group:
                for chunk in chunks:
                    group.start_soon(one, chunk, look)
    except BaseException:
        for spooled in found:
            await spool.remove(spooled)
        raise
    return found


def key_files(spool: Spool, chunks: Sequence[SpooledChunk]) -> tuple[Path, ...]:
    """Return the files of spooled keys."""
    return tuple(spool.folder / name for chunk in chunks for name in chunk.files)
