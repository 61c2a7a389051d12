"""Source against destination, by value, before a table is published (L3)."""

from __future__ import annotations

import anyio

from runner.differences import Difference, Side, compare
from runner.epochs import Epoch, Epochs
from runner.errors import RunnerError, VerifyFailed
from runner.executor import Executor
from runner.limits import SourceLimits
from runner.load import Target
from runner.loader import Loader
from runner.plan import TablePlan
from runner.profile import stage
from runner.record import ChunkState, Item
from runner.rowhash import Digest, by_prefix, total
from runner.source import Chunk, Scan, Session
from runner.tasks import task_group

WAYS = ("none", "counts", "hash", "source")


def comparison_key(plan: TablePlan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns that rows are told apart by, as the source and as the destination name them; or none."""
    names = {column.source: column.name for column in plan.target.columns}
    masked = {column.name for column in plan.scan.columns if column.rule == "mask"}
    key = tuple(plan.entry.key or plan.scan.table.primary_key)
    if not key or any(name not in names or name in masked for name in key):
        return (), ()
    return key, tuple(names[name] for name in key)


def range_column(plan: TablePlan) -> str | None:
    """Return the destination's name of the key's first column, where every database can order its values."""
    _, key = comparison_key(plan)
    column = next((one for one in plan.target.columns if key and one.name == key[0]), None)
    hidden = {one.name for one in plan.scan.columns if one.rule is not None}
    kinds = ("int", "date", "timestamp", "decimal", "string")
    if column is None or column.source in hidden:
        return None
    return column.name if not column.json and str(column.type).startswith(kinds) else None


def source_side(executor: Executor, session: Session, plan: TablePlan, scan: Scan, chunk: Chunk) -> Side:
    """Return the source's side of a comparison."""
    key, _ = comparison_key(plan)
    return Side(
        key,
        tuple(column.name for column in scan.columns),
        lambda ask: executor.digest(session, scan, chunk, ask),
    )


class Verifier:
    """Verifies the tables of one run as its options ask.

    Args:
        how: One of WAYS: nothing, counts, the hash of what was streamed, or an independent look at the source.
        width: How many looks at the source there are at once.
    """

    def __init__(
        self, how: str, *, executor: Executor, source: SourceLimits, epochs: Epochs, loader: Loader, width: int
    ) -> None:
        self.how = how
        self._executor = executor
        self._source = source
        self._epochs = epochs
        self._loader = loader
        self._width = width

    @property
    def counts(self) -> bool:
        """Whether rows are counted."""
        return self.how != "none"

    @property
    def hashes(self) -> bool:
        """Whether rows are hashed as they stream by."""
        return self.how in ("hash", "source")

    @property
    def looks_again(self) -> bool:
        """Whether the source is asked a second time, independently of what was streamed."""
        return self.how == "source"

    async def look_again(self, item: Item, epoch: Epoch) -> None:
        """Hash every chunk in the source itself and compare it with what was streamed (--verify source).

        Raises:
            VerifyFailed: The rows that were decoded are not those that the source has.
            SnapshotLost: The picture is gone.
        """
        if not self.looks_again:
            return
        width = anyio.CapacityLimiter(self._width)
        wrong: list[ChunkState] = []

        async def one(state: ChunkState) -> None:
            async with width, self._source.request():
                rows = await self._executor.digest(epoch.session, item.plan.scan, state.chunk, Digest())
            if total(by_prefix(rows).values()) != state.fingerprint:
                wrong.append(state)

        with stage("verify"):
            async with task_group() as group:
                for state in item.chunks:
                    group.start_soon(one, state)
        if wrong:
            first = min(wrong, key=lambda state: state.chunk.index)
            raise VerifyFailed(
                f"{len(wrong)} of {len(item.chunks)} chunks were not decoded as the source has them; "
                f"the first is {first.chunk.id}.",
                table=item.name,
                chunks=",".join(state.chunk.id for state in wrong),
            )

    async def located(self, item: Item, error: VerifyFailed) -> VerifyFailed:
        """Return the error with the rows that differ, as far as source and staging can still be asked."""
        wrong = str(error.context.get("chunks", "")).split(",")
        state = next((one for one in item.chunks if one.chunk.id == wrong[0]), None)
        if state is None or not self.hashes:
            return error
        try:
            async with self._epochs.current() as epoch, self._source.request():
                found = await compare(
                    source_side(self._executor, epoch.session, item.plan, item.plan.scan, state.chunk),
                    self._staged_side(item.plan, item.plan.target, state.chunk.id),
                )
        except RunnerError:
            return error
        return _with_rows(error, found)

    def _staged_side(self, plan: TablePlan, target: Target, chunk: str) -> Side:
        _, key = comparison_key(plan)

        async def ask(digest: Digest) -> list[tuple[object, ...]]:
            rows: list[tuple[object, ...]] = await self._loader.call(
                lambda: self._loader.writer.digest(target, digest, chunk=chunk)
            )
            return rows

        return Side(key, tuple(column.name for column in target.columns), ask)


def _with_rows(error: VerifyFailed, found: Difference | None) -> VerifyFailed:
    if found is None:
        # What was streamed is wrong, and what is there now is right: the source's own second look says so.
        return error
    return VerifyFailed(f"{error.message} {found.sentence()}", **error.context)
