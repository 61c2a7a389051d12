"""The watch over the loop: it measures the machine, so these tests are of real time."""

import time

import anyio

from sensors.stall import watched_loop


def block_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def test_what_blocks_the_loop_is_named():
    stalls: list[tuple[float, list[str]]] = []
    async with watched_loop(lambda seconds, frames: stalls.append((seconds, frames))):
        await anyio.sleep(0.1)
        block_the_loop(0.5)
        await anyio.sleep(0.2)
    longest = max(stalls)
    assert longest[0] >= 0.3
    assert "block_the_loop" in longest[1][-1]


async def test_it_ends_with_its_block():
    async with watched_loop(lambda *_: None):
        pass
