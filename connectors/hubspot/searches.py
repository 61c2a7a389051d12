"""Searches: their filters, their own pace, and the windows of the cursor that are read at once.

Facts: developers.hubspot.com, "Search the CRM": 5 requests a second and account, 200 results a page, nothing beyond
the 10,000th, a body of 3,000 characters, times as milliseconds. Pages are asked for by ``hs_object_id`` above the last
one and never by ``after``: an offset would skip a record whenever one before it leaves the window, and it ends at the
10,000th.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio

from connectors.http import Http, Reply
from connectors.hubspot.values import milliseconds
from runner.errors import RequestRefused
from runner.source import Scan

PAGE = 200
LONGEST = 3_000
ID = "hs_object_id"
# Nothing in HubSpot is older than HubSpot.
_FIRST = 1_136_073_600_000
# No more windows than that: where one moment holds more records than fit, there is nothing to split.
_MOST = 500


class Searches:
    """The searches of one source, spaced as its account allows.

    Args:
        rate: How many a second.
        most: How many records a window holds; a search shows no more than 10,000.
    """

    def __init__(self, http: Http, rate: float, most: int = 10_000) -> None:
        self._http = http
        self._most = most
        self._space = 1.0 / rate
        self._turn = anyio.Lock()
        self._next = float("-inf")

    async def send(self, path: str, body: dict[str, Any]) -> Reply:
        """Search when it is this one's turn."""
        clock = self._http.clock
        async with self._turn:
            wait = self._next - clock.monotonic()
            if wait > 0:
                await clock.sleep(wait)
            self._next = clock.monotonic() + self._space
        return await self._http.post(f"/crm/v3/objects/{path}/search", json=body, idempotent=True)

    async def count(self, path: str, filters: Sequence[dict[str, Any]]) -> int:
        """Return how many records match."""
        body: dict[str, Any] = {"limit": 1, "properties": [ID]}
        if filters:
            body["filterGroups"] = [{"filters": list(filters)}]
        return int((await self.send(path, body)).data["total"])

    async def windows(
        self, path: str, cursor: str, low: int | None, high: int | None, now: int
    ) -> list[tuple[int | None, int | None, int]]:
        """Return the range of a cursor in parts that are small enough, and how many each holds.

        Both ends are in milliseconds and belong to their part. An open end stays open, so that what changes meanwhile
        is in the last part and not nowhere.
        """
        total = await self.count(path, between(cursor, low, high))
        floor = _FIRST if low is None else low
        # Split where a second look would split as well: not at what "now" happens to be.
        ceiling = floor + (1 << max(0, now - floor).bit_length()) if high is None else high
        todo = [(low, high, total)]
        parts: list[tuple[int | None, int | None, int]] = []
        while todo:
            start, end, total = todo.pop()
            first, last = floor if start is None else start, ceiling if end is None else end
            if total <= self._most or first >= last or len(parts) + len(todo) >= _MOST:
                parts.append((start, end, total))
                continue
            middle = (first + last) // 2
            below = await self.count(path, between(cursor, start, middle))
            todo += [(middle + 1, end, max(0, total - below)), (start, middle, below)]
        return [part for part in parts if part[2] or part[1] is None] or parts[:1]


def between(cursor: str, low: int | None, high: int | None) -> list[dict[str, Any]]:
    """Return the filters of a range, both ends included."""
    if low is not None and high is not None:
        return [{"propertyName": cursor, "operator": "BETWEEN", "value": str(low), "highValue": str(high)}]
    ends = (("GTE", low), ("LTE", high))
    return [
        {"propertyName": cursor, "operator": operator, "value": str(end)} for operator, end in ends if end is not None
    ]


def page_body(filters: Sequence[dict[str, Any]], properties: Sequence[str]) -> dict[str, Any]:
    """Return the body of a page's search."""
    return {
        "filterGroups": [{"filters": list(filters)}],
        "sorts": [{"propertyName": ID, "direction": "ASCENDING"}],
        "properties": list(properties),
        "limit": PAGE,
    }


def is_long(body: dict[str, Any]) -> bool:
    """Tell whether a body is longer than a search takes."""
    return len(json.dumps(body)) > LONGEST


def bounds(scan: Scan) -> tuple[int | None, int | None]:
    """Return a scan's window in whole milliseconds, both ends included; that is all the digits HubSpot has."""
    window = scan.window
    if window is None:
        return None, None
    low = high = None
    if window.start is not None:
        low = milliseconds(window.start, up=True) if window.from_start else milliseconds(window.start) + 1
    if window.end is not None:
        high = milliseconds(window.end, up=True) - 1 if window.before_end else milliseconds(window.end)
    return low, high


def condition(scan: Scan) -> list[dict[str, Any]]:
    """Return the filters that ``where:`` holds as JSON.

    Raises:
        RequestRefused: It is no list of filters.
    """
    if scan.where is None:
        return []
    try:
        filters = json.loads(scan.where)
    except ValueError:
        filters = None
    if not isinstance(filters, list) or not all(isinstance(one, dict) for one in filters):
        raise RequestRefused(
            f"{scan.table.qualified}: where: is not a list of HubSpot's filters.",
            guidance='Write it as JSON: [{"propertyName": "dealstage", "operator": "EQ", "value": "closedwon"}].',
        )
    return filters
