"""What the live page shows: sensors worst first, a page at a time, and the board around them; JSON-ready."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from runner import __version__
from runner.clock import Clock
from runner.errors import LedgerDamaged
from runner.secrets import redact
from sensors.board import Board, Minute, summarize
from sensors.status import STANDINGS, Outgoing, Standing, Status
from sensors.store import StoreReader

_SORTS = ("worst", "name", "event", "due")
_MOST_ROWS, _MOST_LISTED, _LONGEST = 200, 50, 600
# The outbox is read that often at most, however many look.
_FRESH = 2.0


@dataclass(frozen=True)
class Query:
    """Which sensors, in which order.

    Attributes:
        text: Words that must all stand somewhere in what is shown of it.
        standing: Only those that are doing so.
        sort: worst first, by name, by the newest event, or by when they poll next.
        page: From 1. ``size``: rows of a page.
    """

    text: str = ""
    standing: Standing | None = None
    sort: str = "worst"
    page: int = 1
    size: int = 50

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> Query:
        """Read it from an address.

        Raises:
            ValueError: A wrong value, in words.
        """
        standing, sort = values.get("state") or None, values.get("sort") or "worst"
        if standing is not None and standing not in STANDINGS:
            raise ValueError(f"state: {standing!r} is none of {', '.join(STANDINGS)}")
        if sort not in _SORTS:
            raise ValueError(f"sort: {sort!r} is none of {', '.join(_SORTS)}")
        numbers = {}
        for key, most in (("page", 10**6), ("size", _MOST_ROWS)):
            text = values.get(key)
            if text is not None:
                if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
                    raise ValueError(f"{key}: {text!r} is no number from 1 to {most}")
                numbers[key] = int(text)
        return cls(values.get("q", "")[:200].lower(), standing, sort, **numbers)


class View:
    """All sensors at one moment. It is made and asked in a thread, from copies of the board's lists."""

    def __init__(self, board: Board, statuses: Sequence[Status], minutes: Sequence[Minute], now: datetime) -> None:
        self._now = now
        self._summary = summarize(statuses, minutes, now)
        self._minutes = minutes
        self._worst = sorted(statuses, key=lambda one: one.rank(now))
        self._common = {"now": round(now.timestamp(), 3)}

    def sensors(self, query: Query) -> dict[str, Any]:
        """Return a page of sensors."""
        found = self._worst
        if query.standing is not None:
            found = [one for one in found if one.standing(self._now) == query.standing]
        if words := query.text.split():
            found = [one for one in found if all(word in _text(one) for word in words)]
        if query.sort == "name":
            found = sorted(found, key=lambda one: one.name)
        elif query.sort == "event":
            found = sorted(found, key=lambda one: (-(one.last_event or 0.0), one.name))
        elif query.sort == "due":
            found = sorted(found, key=lambda one: (one.next_due or float("inf"), one.name))
        pages = max(1, -(-len(found) // query.size))
        page = min(query.page, pages)
        rows = found[(page - 1) * query.size : page * query.size]
        return {
            **self._common,
            "sensors": [self._row(one) for one in rows],
            "matching": len(found),
            "total": len(self._worst),
            "page": page,
            "pages": pages,
        }

    def _row(self, status: Status) -> dict[str, Any]:
        # Its name as it is: it is what the page knows it by.
        row = {name: value if name == "name" else _short(value) for name, value in asdict(status).items()}
        return {**row, "standing": status.standing(self._now), "lag": _short(status.lag)}

    def board(self, lists: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is around them."""
        return {
            **self._common,
            **{key: _short(value) for key, value in asdict(self._summary).items()},
            **{key: [_short_all(one) for one in value] if isinstance(value, list) else value
               for key, value in lists.items()},
            "minutes": [[one.polls, one.events, one.failures] for one in self._minutes],
        }  # fmt: skip

    @staticmethod
    def lists(board: Board) -> dict[str, Any]:
        """Return copies of what the engine goes on writing: taken on its loop."""
        return {
            "file": board.name,
            "path": board.path,
            "refused": board.refused,
            "version": __version__,
            "started_at": round(board.started_at, 3),
            "polls": board.polls,
            "events": board.events,
            "failures": board.failures,
            "recent": list(board.recent)[: -_MOST_LISTED - 1 : -1],
            "troubles": list(board.troubles)[: -_MOST_LISTED - 1 : -1],
            "stalls": list(board.stalls)[::-1],
            "stall_count": board.stall_count,
        }


class Held:
    """The outbox as it is on disk, where a person may have decided meanwhile.

    Args:
        path: The file of the sensors' state; None where there is none.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = anyio.Lock()
        self._read_at = float("-inf")
        self._held: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}

    async def counts(self) -> dict[str, int]:
        """Return how many are in each state that is not over."""
        return (await self.look())[1]

    async def look(self) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return what waits for a person, and how many are in each state that is not over."""
        async with self._lock:
            if self._path is not None and self._clock.monotonic() - self._read_at >= _FRESH:
                self._held, self._counts = await anyio.to_thread.run_sync(self._read, self._path)
                self._read_at = self._clock.monotonic()
        return self._held, self._counts

    @staticmethod
    def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
        try:
            with StoreReader(path) as reader:
                return [_short_all(_outgoing(one)) for one in reader.held(_MOST_LISTED)], reader.open_counts()
        except (LedgerDamaged, sqlite3.Error):
            # The engine says so itself, louder; the board still counts what it saw.
            return [], {}


def _outgoing(one: Outgoing) -> dict[str, Any]:
    return {
        key: value
        for key, value in asdict(one).items()
        if key in ("sensor", "action", "run_key", "state", "attempts", "found_at", "error")
    }


def _text(status: Status) -> str:
    words = (status.name, status.kind, status.watches, status.does, status.note, status.error or "")
    return "\n".join(words).lower()


def _short_all(one: Any) -> Any:
    if isinstance(one, dict):
        return {key: _short(value) for key, value in one.items()}
    return [_short(value) for value in one]


def _short(value: Any) -> Any:
    """Return a value as it is shown: without secrets, and no longer than a person reads."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple):
        return [_short(one) for one in value]
    if not isinstance(value, str):
        return value
    value = redact(value)
    return value if len(value) <= _LONGEST else value[:_LONGEST] + " …"
