"""Time, sleep and randomness, injected so that tests never sleep and failures replay from a seed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Protocol

OFFSET = "RUNNER_CLOCK_OFFSET"


class Clock(Protocol):
    """What the core asks of time."""

    random: random.Random

    def now(self) -> datetime:
        """Return the wall-clock time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait for that many seconds."""
        ...


class SystemClock:
    """The machine's clock.

    ``RUNNER_CLOCK_OFFSET`` moves its wall-clock time by so many seconds, for tests of clocks that jump.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.random = random.Random(seed)  # noqa: S311 - jitter, not cryptography
        self._offset = timedelta(seconds=float(os.environ.get(OFFSET) or 0))

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> Awaitable[None]:
        # What anyio comes to, without its two coroutines around: thousands wait at once.
        return asyncio.sleep(seconds)
