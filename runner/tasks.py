"""Task groups whose single failure arrives as itself and not inside a group; waiting for the first of several."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from runner.errors import RunnerError


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Run tasks together; when one fails the others are cancelled and its error is raised.

    Of several failures the first that says what to do is raised: the rest are its consequences.
    """
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as failed:
        leaves = list(_leaves(failed))
        first = next((leaf for leaf in leaves if isinstance(leaf, RunnerError)), leaves[0])
        raise first from first.__cause__


def is_contained(error: BaseException) -> bool:
    """Tell whether an error belongs to the work that raised it, and not to whoever runs it.

    A library that was handed a cancelled future raises a cancellation that nobody asked of this task: it is an error
    like others. A real one, an interrupt or the end of the process is not.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(is_contained(one) for one in error.exceptions)
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Wait until one of several waits ends; the others are cancelled."""
    async with task_group() as group:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            group.cancel_scope.cancel()

        for one in waits:
            group.start_soon(wait, one)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
