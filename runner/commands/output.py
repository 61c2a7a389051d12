"""How a command speaks, and the loop that it runs on."""

from __future__ import annotations

import gc
import signal
import sys
import threading
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
    """Run a coroutine on uvloop where it exists; what a SIGTERM does afterwards is what it did before."""
    if not gc.isenabled():
        # What the console script has loaded by now stays: it is never looked through for garbage.
        gc.freeze()
        gc.enable()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return anyio.run(work, backend_options={"use_uvloop": sys.platform != "win32"})
    finally:
        # A loop that listened for signals leaves the default behind.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
