"""Task groups whose single failure arrives as itself and not inside a group."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

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


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
