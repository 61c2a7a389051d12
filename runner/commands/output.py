"""How a command speaks, and the loop that it runs on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Output:
    """How a command speaks."""

    json: bool = False
    quiet: bool = False
    debug: bool = False


def run_async(work: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Run a coroutine on uvloop where it exists."""
    if not gc.isenabled():
        # What the console script has loaded by now stays: it is never looked through for garbage.
        gc.freeze()
        gc.enable()
    return anyio.run(work, backend_options={"use_uvloop": sys.platform != "win32"})
