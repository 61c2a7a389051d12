"""Epochs: one consistent picture of the source after the other, each shared by all who read it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
from anyio.abc import TaskGroup, TaskStatus

from runner.clock import Clock
from runner.errors import SnapshotLost
from runner.events import EpochBegan, Stream, Warned
from runner.source import Session, Source
from runner.tasks import task_group
from runner.units import format_seconds

_ADVICE = "VACUUM keeps what it may show; a smaller limits.chunk_rows ends each read sooner"


class Epoch:
    """One picture, open as long as somebody reads it or it is the newest."""

    def __init__(self, number: int, session: Session, began: float) -> None:
        self.number = number
        self.session = session
        self.began = began
        self.users = 0
        self.over = False
        self.closed = anyio.Event()

    def close_if_unused(self) -> None:
        """Let the session end once it is over and nobody reads it."""
        if self.over and not self.users:
            self.closed.set()


class Epochs:
    """Hands out the current epoch, and begins a new one when the snapshot is too old or lost.

    Args:
        group: Runs the task that holds each session: it must be closed where it was opened.
        longest: The longest life of one snapshot.
    """

    def __init__(
        self,
        source: Source,
        group: TaskGroup,
        clock: Clock,
        stream: Stream,
        *,
        longest: timedelta,
    ) -> None:
        self._source = source
        self._group = group
        self._clock = clock
        self._stream = stream
        self._number = 0
        self._longest = longest.total_seconds()
        self._current: Epoch | None = None
        self._turn = anyio.Lock()
        self._reason = "first read"

    @contextlib.asynccontextmanager
    async def current(self) -> AsyncIterator[Epoch]:
        """Lend the current epoch.

        Raises:
            ContactError: The source refused the first connection.
            SourceDown: It cannot be reached now; a retry can help.
        """
        epoch = await self._fresh()
        epoch.users += 1
        try:
            yield epoch
        except SnapshotLost:
            self.end(epoch, "the snapshot was lost")
            raise
        finally:
            epoch.users -= 1
            epoch.close_if_unused()

    def start_after(self, last: int) -> None:
        """Number the epochs after those of an earlier process; nothing may have been read yet."""
        self._number += last
        if self._current is not None:
            self._current.number += last

    def end(self, epoch: Epoch, reason: str) -> None:
        """Lend this epoch to nobody any more; those who read it finish."""
        if not epoch.over:
            epoch.over = True
            self._reason = reason
        if self._current is epoch:
            self._current = None
        epoch.close_if_unused()

    def end_idle(self, reason: str) -> None:
        """End the current epoch if nobody reads it: a snapshot is held no longer than it is needed."""
        if self._current is not None and not self._current.users:
            self.end(self._current, reason)

    def close(self) -> None:
        """End the current epoch."""
        if self._current is not None:
            self.end(self._current, "the run ends")

    async def _fresh(self) -> Epoch:
        async with self._turn:
            current = self._current
            if current is not None and self._clock.monotonic() - current.began > self._longest:
                self.end(current, "the snapshot grew old")
            if self._current is None:
                self._current = await self._begin()
            return self._current

    async def _begin(self) -> Epoch:
        self._number += 1
        epoch: Epoch = await self._group.start(self._keep, self._number)
        position = epoch.session.position
        self._stream.emit(EpochBegan(epoch.number, position.consistent, position.lsn, self._reason))
        return epoch

    async def _keep(self, number: int, *, task_status: TaskStatus[Epoch]) -> None:
        async with self._source.session(number) as session:
            epoch = Epoch(number, session, self._clock.monotonic())
            task_status.started(epoch)
            async with task_group() as group:
                group.start_soon(self._watch, epoch)
                await epoch.closed.wait()
                group.cancel_scope.cancel()

    async def _watch(self, epoch: Epoch) -> None:
        """End a snapshot that grew old unread; warn of one that is read for too long."""
        while True:
            await self._clock.sleep(self._longest)
            if not epoch.users:
                self.end(epoch, "the snapshot grew old")
                return
            age = format_seconds(self._clock.monotonic() - epoch.began)
            self._stream.emit(Warned("", f"a snapshot is {age} old and still read: {_ADVICE}"))
