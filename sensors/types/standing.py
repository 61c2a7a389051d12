"""A session to a source that stays open between polls, and the objects that sensors look at through it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio

from runner.clock import Clock
from runner.errors import RunnerError, SensorError, TableMissing, Throttled
from runner.job import Limits, Retry
from runner.limits import SourceLimits
from runner.requests import Governed, Requests
from runner.retry import retrying
from runner.source import Session, Source, Table, Watchable

# A poll comes again by itself: here only what a lost connection costs is made good.
_RETRY = Retry(attempts=2, max_wait=timedelta(seconds=1), deadline=timedelta(seconds=20))
_HOUR = 3600.0


class Standing:
    """One source, opened once for all sensors that look at it.

    Its session is one that may live for hours: over HTTP every request is authenticated by itself, and an expired token
    is renewed; one of a database holds no snapshot. Of any other source a session is opened for every look.
    """

    def __init__(self, source: Source, session: Session | None, limits: SourceLimits, clock: Clock) -> None:
        self._source, self._session = source, session
        self._limits, self._clock = limits, clock
        self._tables: dict[str, tuple[Table, float]] = {}
        self._turns: dict[str, anyio.Lock] = {}

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend the session."""
        if self._session is not None:
            yield self._session
            return
        async with self._source.session(0) as session:
            yield session

    async def table(self, session: Session, name: str) -> Table:
        """Return an object: discovered once, again after an hour, and after an error.

        Raises:
            TableMissing: There is none of that name.
            SensorError: There are several, or it cannot be read.
        """
        async with self._turns.setdefault(name, anyio.Lock()):
            known = self._tables.get(name)
            if known is not None and self._clock.monotonic() - known[1] < _HOUR:
                return known[0]
            found = await session.discover([name])
            if not found:
                raise TableMissing(
                    f"The source has no object {name!r}.",
                    guidance="Write it as `runner plan` lists it; check what the user of the source may see.",
                )
            if len(found) > 1:
                names = ", ".join(one.qualified for one in found[:5])
                raise SensorError(
                    f"object: {name!r} names {len(found)} objects: {names}.", guidance="Name one of them."
                )
            if found[0].problem is not None or not found[0].readable:
                raise SensorError(f"{found[0].qualified} cannot be read{_because(found[0].problem)}")
            self._tables[name] = (found[0], self._clock.monotonic())
            return found[0]

    def forget(self, name: str) -> None:
        """Discover an object anew when it is looked at next."""
        self._tables.pop(name, None)

    async def again(self, work: Any) -> Any:
        """Do something, and once more where a connection was lost; sources that ask request by request do it inside."""
        if isinstance(self._source, Governed):
            return await work()
        return await retrying(
            work, policy=_RETRY, clock=self._clock, limits=self._limits, noticed=lambda *_: None, may_retry=_may_retry
        )


@contextlib.asynccontextmanager
async def standing(source: Source, limits: SourceLimits, said: Limits, clock: Clock) -> AsyncIterator[Standing]:
    """Open a source for sensors.

    Args:
        said: What the limits were made of.
    """
    if isinstance(source, Governed):
        source.govern(Requests(limits, clock, retry=_RETRY, quota=said.quota, again=_may_retry))
        opened = source.session(0)
    elif isinstance(source, Watchable):
        opened = source.watching()
    else:
        yield Standing(source, None, limits, clock)
        return
    async with opened as session:
        yield Standing(source, session, limits, clock)


def _may_retry(error: RunnerError) -> bool:
    # A pause is for all of the system: the next poll waits it out, not this one.
    return error.retriable and not isinstance(error, Throttled)


def _because(problem: str | None) -> str:
    return f": {problem}" if problem else ": the user of the source may not read it."
