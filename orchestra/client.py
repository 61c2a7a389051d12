"""A client of Orchestra's API: reads and changes are tried again, a start or a new pipeline is sent once.

Each group of endpoints has a module in ``orchestra.api``: pipelines and their definitions (``catalog``), runs
(``runs``), their logs and artifacts (``logs``), the rest of a workspace (``inventory``).
Facts: Orchestra docs, API; where its pages and the official clients differ, both readings work.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from orchestra.api.catalog import Catalog, is_id
from orchestra.api.inventory import Inventory
from orchestra.api.logs import TaskFiles
from orchestra.api.workspace import Workspace
from runner.clock import Clock
from runner.job import Limits
from runner.limits import SourceLimits
from sensors.room import Room

__all__ = ["OrchestraClient", "connected", "is_id", "open_client"]


class OrchestraClient(Catalog, TaskFiles, Inventory):
    """One workspace; ``async with`` opens and closes it.

    Args:
        limits: What everybody who asks this workspace shares: concurrency, rate, and one pause.
        more: Keys of Transport: time-outs, retries.

    Attributes:
        transport: What requests go through.
    """

    async def __aenter__(self) -> OrchestraClient:
        await self.transport.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.transport.__aexit__(*error)


@contextlib.asynccontextmanager
async def open_client(
    workspace: Workspace, clock: Clock, limits: Limits | None = None, **more: Any
) -> AsyncIterator[OrchestraClient]:
    """Open a client of its own for a command, which waits when it is asked to slow down.

    Args:
        limits: At most so many requests at once and so many a second; 8 at once by default.
        more: Keys of Transport: time-outs, retries.
    """
    shared = SourceLimits.of(limits or Limits(), clock)
    shared.each = True
    async with OrchestraClient(workspace, clock, shared, **{"patient": True, **more}) as client:
        yield client


async def connected(room: Room, workspace: Workspace, **more: Any) -> OrchestraClient:
    """Return the client of a workspace, which everybody in the room shares, with its limits and its pause.

    Args:
        more: Keys of OrchestraClient; those of the first who asks count.
    """

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[OrchestraClient]:
        limits = room.limits(workspace.system)
        # The client asks for each request: a look holds no slot that its own requests would wait for.
        limits.each = True
        async with OrchestraClient(workspace, room.clock, limits, **more) as client:
            yield client

    return await room.connection(("client", *workspace.system), connect)
