"""A watch over the loop: when it is late, the frames that block it are named (as Airflow's triggerer does)."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable

import anyio

from runner.tasks import task_group

_BEAT = 0.05
_LATE = 0.2
_FRAMES = 30


class _Watcher:
    """A thread that looks whether the loop's heart beats, and at what it does when it does not."""

    def __init__(self, loop_thread: int) -> None:
        self.beat = time.monotonic()
        self.frames: list[str] | None = None
        self._loop_thread = loop_thread
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stall", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(_BEAT):
            if self.frames is None and time.monotonic() - self.beat > _LATE:
                frame = sys._current_frames().get(self._loop_thread)
                self.frames = traceback.format_stack(frame)[-_FRAMES:] if frame else []


@contextlib.asynccontextmanager
async def watched_loop(stalled: Callable[[float, list[str]], None]) -> AsyncIterator[None]:
    """Watch the loop meanwhile.

    Real time and not the injected clock: what it measures is the machine.

    Args:
        stalled: Told, once the loop moves again, for how many seconds it did not, and what blocked it.
    """
    watcher = _Watcher(threading.get_ident())

    async def beat() -> None:
        while True:
            before = time.monotonic()
            watcher.beat = before
            await anyio.sleep(_BEAT)
            late = time.monotonic() - before - _BEAT
            if watcher.frames is not None:
                frames, watcher.frames = watcher.frames, None
                stalled(late, frames)

    async with task_group() as group:
        watcher.start()
        group.start_soon(beat)
        try:
            yield
        finally:
            group.cancel_scope.cancel()
            watcher.stop()
