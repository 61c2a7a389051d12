"""Drivers that block, each question in a thread that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import to_thread

from runner.errors import StatementTooLong

FoundT = TypeVar("FoundT")

_PATIENCE = 5.0
SLOW = "Add an index on the column, select less, or raise statement_timeout of the source."


async def run(
    work: Callable[[], FoundT],
    stop: Callable[[], None],
    *,
    threads: anyio.CapacityLimiter,
    seconds: float | None,
    again: float = 0.05,
) -> FoundT:
    """Run a question in a thread; cancelled or too long, it is stopped and its end waited for.

    Args:
        stop: Makes ``work`` end soon; called from another thread, again and again until it has ended.
        threads: How many of them are at work at once.
        seconds: How long it may take once it has begun.
        again: Seconds between two calls of ``stop``.

    Raises:
        StatementTooLong: It took longer.
    """
    ended = threading.Event()

    def whole() -> FoundT:
        try:
            return work()
        finally:
            ended.set()

    def halt() -> None:
        for _ in range(int(_PATIENCE / again)):
            # What has not begun yet cannot be interrupted.
            stop()
            if ended.wait(again):
                return

    async with threads:
        try:
            with anyio.fail_after(seconds):
                try:
                    return await to_thread.run_sync(whole, abandon_on_cancel=True, limiter=_unbounded())
                except anyio.get_cancelled_exc_class():
                    with anyio.CancelScope(shield=True):
                        await to_thread.run_sync(halt, limiter=_unbounded())
                    raise
        except TimeoutError:
            raise StatementTooLong(f"There was no answer within {seconds:g} s.", guidance=SLOW) from None


def _unbounded() -> anyio.CapacityLimiter:
    """Return a limiter of this call alone: the bound is ``threads``, and to stop must never wait for a thread."""
    return anyio.CapacityLimiter(1)
