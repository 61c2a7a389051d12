"""What several rows lead to, read at once and handed on in the rows' order, in bounded memory."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from connectors.rest.paginators import Answer
from runner.errors import SourceDown


@dataclass(frozen=True)
class Leaf:
    """Rows of a resource.

    Attributes:
        rest: Where to go on after them; None at the end, and where nobody can begin.
        answer: The answer that they are of; elements: how many it had before any step.
    """

    rows: list[dict[str, Any]]
    rest: dict[str, Any] | None = None
    answer: Answer | None = None
    elements: int = 0


async def in_order(
    group: TaskGroup,
    rows: Iterable[dict[str, Any]],
    read: Callable[[dict[str, Any]], AsyncGenerator[Leaf, None]],
    width: int,
) -> AsyncGenerator[Leaf, None]:
    """Read of several rows at once, and yield in the rows' order.

    Args:
        group: Where they are read; it outlives whoever stops in the middle.
        width: How many at once.
    """
    waiting: deque[MemoryObjectReceiveStream[Leaf | Exception | None]] = deque()
    left = iter(rows)

    def begin() -> bool:
        for row in left:
            send, receive = anyio.create_memory_object_stream[Leaf | Exception | None](1)
            waiting.append(receive)
            group.start_soon(_work, read, row, send)
            return True
        return False

    try:
        while len(waiting) < width and begin():
            pass
        while waiting:
            async for message in _until_end(waiting[0]):
                yield message
            waiting.popleft().close()
            begin()
    finally:
        for receive in waiting:
            receive.close()


async def _work(
    read: Callable[[dict[str, Any]], AsyncGenerator[Leaf, None]],
    row: dict[str, Any],
    send: MemoryObjectSendStream[Leaf | Exception | None],
) -> None:
    """Read the children of one row; an error goes to whoever waits for them."""
    with send:
        try:
            async with contextlib.aclosing(read(row)) as leaves:
                async for leaf in leaves:
                    await send.send(leaf)
            await send.send(None)
        except anyio.BrokenResourceError:
            return  # nobody waits any more
        except Exception as error:
            with contextlib.suppress(anyio.BrokenResourceError):
                await send.send(error)


async def _until_end(receive: MemoryObjectReceiveStream[Leaf | Exception | None]) -> AsyncGenerator[Leaf, None]:
    async for message in receive:
        if message is None:
            return
        if isinstance(message, Exception):
            raise message
        yield message
    raise SourceDown("The session was closed while children were read.")
