"""What a source that sends many requests in one read is given: limits, retries, quota, and what it learned before."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from runner.clock import Clock
from runner.errors import RunnerError
from runner.events import Retried, Stream, Warned
from runner.job import Retry
from runner.jobfile import SettledJob
from runner.limits import SourceLimits
from runner.retry import retrying

ResultT = TypeVar("ResultT")
_UNKNOWN_RESET = 3600.0

# The table that is worked on, for events about requests that it caused.
working_on: ContextVar[str] = ContextVar("working_on", default="")


@dataclass(frozen=True)
class Usage:
    """What a server says about a long-term quota.

    Attributes:
        used: Requests of it that are used.
        limit: How many there are.
        resets: Seconds until they are given back; None where the server does not say.
    """

    used: int
    limit: int
    resets: float | None = None


class Shapes:
    """What a source learned about the columns of its tables: to lose it costs a second reading, never a row.

    Args:
        path: The file it is kept in; None keeps it for this process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        self._turn = threading.Lock()
        if path is not None and path.is_file():
            try:
                self._known = json.loads(path.read_text("utf-8"))
            except ValueError:
                self._known = {}

    def get(self, table: str) -> Any:
        """Return what was kept of a table, or None."""
        return self._known.get(table)

    def put(self, table: str, shape: Any) -> None:
        """Keep what was learned of a table."""
        self._known[table] = shape

    def save(self) -> None:
        """Write it down; blocks. Several threads may ask for it at once."""
        if self._path is not None:
            with self._turn:
                # Others learn on while this one writes.
                known = dict(self._known)
                temporary = self._path.with_suffix(f".{os.getpid()}")
                temporary.write_text(json.dumps(known, indent=1), "utf-8")
                temporary.replace(self._path)


class Requests:
    """Lets each request of a source wait its turn, and tries it again where that can help.

    Args:
        limits: The limits that all of the source's work shares.
        retry: How often and how long.
        quota: The share of the source's own quota that may be used.
        retried: Told of each retry: table, attempt, seconds until it, error.
        again: Which errors are worth another attempt here at all: who asks again anyway leaves some to that.
        warned: Told what a table's reader has to know: table, words.
    """

    def __init__(
        self,
        limits: SourceLimits,
        clock: Clock,
        *,
        retry: Retry | None = None,
        quota: float | None = None,
        retried: Callable[[str, int, float, RunnerError], None] = lambda *_: None,
        shapes: Shapes | None = None,
        again: Callable[[RunnerError], bool] = lambda _: True,
        warned: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.shapes = shapes or Shapes()
        self._retry = retry or Retry()
        self._quota = quota
        self._retried = retried
        self._again = again
        self._warned = warned

    async def send(
        self,
        once: Callable[[], Awaitable[ResultT]],
        *,
        within: bool = False,
        may_retry: Callable[[RunnerError], bool] = lambda error: error.retriable,
    ) -> ResultT:
        """Send a request when it is its turn, and again where its errors say that this can help.

        Args:
            within: Whether it is sent on behalf of a request that holds a slot already and waits for it.

        Raises:
            RunnerError: The last error; it is not worth another attempt.
            Parked: The source asked for a pause that is too long to wait for.
        """

        async def attempt() -> ResultT:
            if within:
                return await once()
            async with self.limits.single():
                return await once()

        return await retrying(
            attempt,
            policy=self._retry,
            clock=self.clock,
            limits=self.limits,
            noticed=lambda number, wait, error: self._retried(working_on.get(), number, wait, error),
            may_retry=lambda error: self._again(error) and may_retry(error),
        )

    def warn(self, words: str) -> None:
        """Say what the reader of the table at work has to know."""
        self._warned(working_on.get(), words)

    def note(self, usages: Iterable[Usage]) -> None:
        """Look at the server's own counters: past our share of them the source is paused until they are reset."""
        if self._quota is None:
            return
        for usage in usages:
            if usage.limit > 0 and usage.used >= self._quota * usage.limit:
                self.limits.pause.request(
                    _UNKNOWN_RESET if usage.resets is None else usage.resets,
                    f"The source's quota: {usage.used:,} of {usage.limit:,} requests are used, and limits.quota "
                    f"leaves what is over {self._quota:.0%} to others.",
                )


@runtime_checkable
class Governed(Protocol):
    """A source that sends many requests in one read: it asks for each."""

    def govern(self, requests: Requests) -> None:
        """Use these limits from now on."""
        ...


def govern(
    source: object,
    settled: SettledJob,
    limits: SourceLimits,
    clock: Clock,
    *,
    stream: Stream | None = None,
    path: Path | None = None,
) -> None:
    """Give a source that sends many requests in one read what its job says about them.

    Args:
        stream: Told of retries.
        path: Where what it learns about its tables is kept.
    """

    def retried(table: str, attempt: int, wait: float, error: RunnerError) -> None:
        if stream is not None:
            stream.emit(Retried(table, attempt, round(wait, 3), error.message))

    def warned(table: str, words: str) -> None:
        if stream is not None:
            stream.emit(Warned(table, words))

    if isinstance(source, Governed):
        source.govern(
            Requests(
                limits,
                clock,
                retry=settled.job.retry,
                quota=settled.limits.quota,
                retried=retried,
                shapes=Shapes(path),
                warned=warned,
            )
        )
