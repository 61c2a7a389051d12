"""Where the time of a run goes: each moment is shared between the stages that are at work in it.

So the stages sum up to the wall time, whatever runs beside what. Without ``--profile`` nothing is measured.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

STAGES = {
    "plan": "contact, catalog, chunks, leases",
    "source": "waiting for the source and the wire",
    "decode": "text to Arrow",
    "hash": "hashing what streams by",
    "write": "spool files, fsync",
    "load": "the destination",
    "verify": "comparing",
    "register": "dlt's schema",
    "ledger": "our own record",
    "other": "none of these: waiting for a limit, the event loop, the end of the run",
}


class Profile:
    """Adds up the seconds of each stage; may be told of stages from any thread.

    Args:
        monotonic: The clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._active: Counter[str] = Counter()
        self._since = monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str, within: str | None = None) -> Iterator[None]:
        """Be at work on a stage; another one around it rests meanwhile."""
        self._change(name, within, 1)
        try:
            yield
        finally:
            self._change(name, within, -1)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage so far; they sum up to the wall time since the beginning."""
        with self._lock:
            self._settle()
            return {name: round(self._seconds[name], 4) for name in STAGES}

    def _change(self, name: str, within: str | None, by: int) -> None:
        with self._lock:
            self._settle()
            self._active[name] += by
            if within is not None:
                self._active[within] -= by

    def _settle(self) -> None:
        now = self._monotonic()
        passed, self._since = now - self._since, now
        at_work = +self._active
        everybody = at_work.total()
        if not everybody:
            self._seconds["other"] += passed
        for name, count in at_work.items():
            self._seconds[name] += passed * count / everybody


def stage(name: str, within: str | None = None) -> AbstractContextManager[None]:
    """Be at work on a stage of the run that is being profiled, if one is."""
    return _current.stage(name, within) if _current is not None else _NOTHING


@contextlib.contextmanager
def profiled(profile: Profile | None) -> Iterator[None]:
    """Profile whatever runs in this process meanwhile."""
    global _current
    before, _current = _current, profile
    try:
        yield
    finally:
        _current = before


_current: Profile | None = None
_NOTHING = contextlib.nullcontext()
