"""Windows of time that Orchestra takes, and lists that do not shift while they are read.

Facts: Orchestra docs, API, "Pagination" (``total`` counts items), "List pipeline runs" (time_from and time_to together,
at most 7 days apart). Not written anywhere: whether the ends belong to a window, which of a row's times it is about,
and how rows are sorted. So windows share a second, their ends are fixed before the first page, and a list that changed
between its pages is read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestra.api.transport import Transport
from runner.errors import RequestRefused, SourceDown

# Nothing is older than Orchestra. The hour is odd because runs are scheduled at even ones: few lie on a border.
FIRST = datetime(2020, 1, 1, 3, 17, 23, tzinfo=UTC)
# A second less than the longest would do; whole days make no plan depend on the time of day.
SPAN = timedelta(days=6)
OVERLAP = timedelta(seconds=1)
_READINGS = 5

Span = tuple[datetime, datetime]


def floor(moment: datetime) -> datetime:
    """Return the whole second at or before a time: a server may keep no more of it."""
    return moment.replace(microsecond=0)


def ceiling(moment: datetime) -> datetime:
    """Return the whole second at or after a time."""
    return floor(moment + timedelta(seconds=1, microseconds=-1))


def spans(begin: datetime, end: datetime) -> list[Span]:
    """Return the windows that are a time together, oldest first.

    They meet at borders that depend on no run's time, so that a plan that is made again has the same ones.
    """
    found = []
    begin = floor(begin)
    while begin < end:
        border = FIRST + ((begin - FIRST) // SPAN + 1) * SPAN
        found.append((begin, min(border, end)))
        begin = border
    return found


def back(end: datetime) -> Iterator[Span]:
    """Return windows from a time on backwards, newest first, as far as there is Orchestra."""
    while end > FIRST:
        begin = FIRST + -((FIRST - end) // SPAN + 1) * SPAN
        yield begin, end
        end = begin


def asked(begin: datetime, end: datetime) -> dict[str, str]:
    """Return the parameters of a window: a second more, so that it matters to nobody whether its ends belong to it."""
    return {"time_from": (begin - OVERLAP).isoformat(), "time_to": end.isoformat()}


def half(begin: datetime, end: datetime) -> datetime | None:
    """Return the whole second in the middle of a window; None where there is none."""
    middle = floor(begin + (end - begin) / 2)
    return middle if begin < middle < end else None


class Listing:
    """The lists of a workspace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def count(self, path: str, params: Mapping[str, str]) -> int:
        """Return how many rows a list has; of one without a total, those that came."""
        reply = await self._transport.read(path, {**params, "page": "1", "page_size": "1"})
        assert reply is not None
        total = reply.data.get("total") if isinstance(reply.data, Mapping) else None
        return total if isinstance(total, int) else len(self._results(reply.data, path))

    async def whole(self, path: str) -> list[Mapping[str, Any]]:
        """Return a list that comes without pages."""
        reply = await self._transport.read(path, {})
        assert reply is not None
        return self._results(reply.data, path)

    async def rows(
        self, path: str, params: Mapping[str, str], key: str, *, most: int | None = None
    ) -> list[Mapping[str, Any]] | None:
        """Return all rows of a list, as they were at one moment as far as that can be told.

        A row that comes or goes meanwhile moves others from page to page: then the total changes, or a row comes twice
        and another one not at all. The list is read again until neither happens, or the same rows came again.

        Args:
            key: The key of a row that makes it unique.
            most: Read no more than that.

        Returns:
            None where there are more.

        Raises:
            SourceDown: It changes faster than it is read.
        """
        before: list[Any] | None = None
        for _ in range(_READINGS):
            found: list[Mapping[str, Any]] = []
            totals: set[Any] = set()
            async with contextlib.aclosing(self._transport.pages(path, params)) as pages:
                async for reply, results in pages:
                    total = reply.data.get("total") if isinstance(reply.data, Mapping) else len(results)
                    if most is not None and isinstance(total, int) and total > most:
                        return None
                    totals.add(total)
                    found += self._results(results, path)
            keys = [row.get(key) for row in found]
            if totals <= {len(found)} and len(set(keys)) == len(keys):
                return found
            if keys == before:
                return found
            before = keys
        raise SourceDown(f"Orchestra: /{path} changed whenever it was read, {_READINGS} times.")

    def _results(self, data: Any, path: str) -> list[Mapping[str, Any]]:
        found = data.get("results") if isinstance(data, Mapping) else data
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise RequestRefused(f"Orchestra: /{path}: the answer holds no list of objects.")
        return found
