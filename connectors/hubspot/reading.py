"""Pages of records: of a list, of a window of changes, of associations.

Facts: developers.hubspot.com, "Object APIs: CRM objects" (100 records a page and a batch, 50 with history; a batch
tells what it did not find), "Associations v4" (1,000 records a batch, each with a cursor of its own).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from connectors.api import Page
from connectors.http import Http
from connectors.hubspot.rows import Rows
from connectors.hubspot.searches import ID, Searches, between, bounds, condition, is_long, page_body
from connectors.hubspot.values import milliseconds
from runner.errors import RequestRefused, TableChanged
from runner.source import Scan

_LIST, _WITH_HISTORY = 100, 50
# HubSpot publishes no bound of an address; servers that stand before others take 8 KiB.
_LONGEST_PROPERTIES = 6_000
_LINKS = 1_000


class Records:
    """Reads the records of one scan.

    Args:
        archived: Whether deleted records are read too.
    """

    def __init__(self, http: Http, searches: Searches, scan: Scan, *, archived: bool) -> None:
        self._http = http
        self._searches = searches
        self._scan = scan
        self._rows = Rows(scan)
        self._archived = archived
        self._path = str(scan.table.detail["object"])

    async def listed(self, position: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Yield a list's pages: all records that are there, then those that are deleted.

        In that order: what is deleted while the first part is read is in the second.
        """
        archived, after = position["part"] == "archived", position.get("after")
        while True:
            records, after = await self._list(after, archived=archived)
            rest: dict[str, Any] | None = None
            if after is not None:
                rest = {"part": "archived" if archived else "listed", "after": after}
            elif not archived and self._archived:
                rest = {"part": "archived", "after": None}
            yield Page(self._all(one for one in records if self._belongs(one)), rest)
            if rest is None:
                return
            archived, after = rest["part"] == "archived", rest["after"]

    async def changed(self, position: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Yield a search's pages: what matches in a window, by id."""
        low, high, last = position["low"], position["high"], position.get("last")
        cursor = self._scan.window.cursor if self._scan.window else ""
        fixed = [*condition(self._scan), *between(searched(self._scan, cursor), low, high)]
        while True:
            above = [{"propertyName": ID, "operator": "GT", "value": str(last)}] if last is not None else []
            body = page_body([*fixed, *above], self._rows.properties)
            whole = not self._rows.history and not is_long(body)
            if not whole:
                body = page_body([*fixed, *above], [ID])
            reply = await self._searches.send(self._path, body)
            records = reply.data["results"]
            self._advance(records, last)
            if not whole:
                records = await self._read([str(one["id"]) for one in records])
            rest = None
            if reply.data["results"] and (reply.data.get("paging") or {}).get("next"):
                last = str(reply.data["results"][-1]["id"])
                rest = {**position, "last": last}
            yield Page(self._all(one for one in records if self._inside(one)), rest)
            if rest is None:
                return

    async def headers(self, position: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Yield the records whose children changed: a page of children at a time, by id."""
        child, last = str(position["child"]), position.get("last")
        cursor = self._scan.table.detail["children"][child]
        while True:
            above = [{"propertyName": ID, "operator": "GT", "value": str(last)}] if last is not None else []
            body = page_body([*between(cursor, position["low"], None), *above], [ID])
            reply = await self._searches.send(child, body)
            children = reply.data["results"]
            self._advance(children, last)
            ids = await self._headers_of(child, [str(one["id"]) for one in children])
            rest = None
            if children and (reply.data.get("paging") or {}).get("next"):
                last = str(children[-1]["id"])
                rest = {**position, "last": last}
            yield Page(self._all(await self._read(ids)), rest)
            if rest is None:
                return

    async def _headers_of(self, child: str, ids: Sequence[str]) -> list[str]:
        """Return the records that children are associated with."""
        found: set[str] = set()
        pending = [{"id": one} for one in ids]
        while pending:
            path = f"/crm/v4/associations/{child}/{self._path}/batch/read"
            data = (await self._http.post(path, json={"inputs": pending[:_LINKS]}, idempotent=True)).data
            found.update(row["to_id"] for one in data["results"] for row in _links(one))
            pending = [*_follow(data), *pending[_LINKS:]]
        return sorted(found, key=int)

    def _advance(self, records: Sequence[Mapping[str, Any]], last: str | None) -> None:
        """Refuse a page that is not in the order of its ids: what comes next would leave records out."""
        ids = [int(one["id"]) for one in records]
        if any(one >= other for one, other in itertools.pairwise(ids)) or (
            ids and last is not None and ids[0] <= int(last)
        ):
            raise TableChanged("A search's page is not in the order of the ids.", table=self._scan.table.qualified)

    async def _list(self, after: str | None, *, archived: bool) -> tuple[list[Any], str | None]:
        """Return a page of a list and where the next one begins."""
        properties = ",".join(self._rows.properties)
        direct = len(quote(properties)) <= _LONGEST_PROPERTIES
        size = _WITH_HISTORY if self._rows.history else _LIST
        params = [("limit", str(size)), ("archived", "true" if archived else "false")]
        if direct:
            params.append(("properties", properties))
            if self._rows.history:
                params.append(("propertiesWithHistory", ",".join(self._rows.history)))
        elif self._rows.properties:
            params.append(("properties", self._rows.properties[-1]))
        if after is not None:
            params.append(("after", after))
        try:
            data = (await self._http.get(f"/crm/v3/objects/{self._path}", params=params)).data
        except RequestRefused as error:
            if after is None:
                raise
            # All but the cursor was good for the first page.
            raise TableChanged(error.message, table=self._scan.table.qualified) from error
        records = data["results"]
        if not direct:
            records = await self._read([str(one["id"]) for one in records], archived=archived)
        follows = (data.get("paging") or {}).get("next") or {}
        return records, follows.get("after")

    async def _read(self, ids: Sequence[str], *, archived: bool = False) -> list[Any]:
        """Return records by id, all properties of each from one moment; what is gone since is left out."""
        size = _WITH_HISTORY if self._rows.history else _LIST
        found: list[Any] = []
        for start in range(0, len(ids), size):
            body: dict[str, Any] = {
                "inputs": [{"id": one} for one in ids[start : start + size]],
                "properties": self._rows.properties,
            }
            if self._rows.history:
                body["propertiesWithHistory"] = list(self._rows.history)
            params = {"archived": "true"} if archived else None
            reply = await self._http.post(
                f"/crm/v3/objects/{self._path}/batch/read", json=body, params=params, idempotent=True
            )
            found += reply.data["results"]
        return found

    def _all(self, records: Any) -> list[dict[str, Any]]:
        return [row for one in records for row in self._rows.of(one)]

    def _belongs(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a listed record is of the scan's window: also what was deleted since it began."""
        window = self._scan.window
        if window is None or (window.start is None and window.end is None) or self._inside(record):
            return True
        deleted = record.get("archivedAt")
        if deleted is None or not window.from_start or window.end is not None:
            return False
        low, _ = bounds(self._scan)
        return low is None or milliseconds(deleted) >= low

    def _inside(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record is in the scan's window now: a search shows what its index holds."""
        low, high = bounds(self._scan)
        if low is None and high is None:
            return True
        assert self._scan.window is not None
        cursor = searched(self._scan, self._scan.window.cursor)
        text = (record.get("properties") or {}).get(cursor) or self._rows.changed(record)
        if text is None:
            return False
        moment = int(text) if text.isdigit() else milliseconds(text)
        # Later than the window's open end is a change that the next run looks for as well.
        return (low is None or moment >= low) and (high is None or moment <= high)


def searched(scan: Scan, cursor: str) -> str:
    """Return the property that a cursor is searched by."""
    detail = scan.table.detail
    if detail["part"] == "history" or cursor == "updatedAt":
        return str(detail["modified"])
    return str((detail.get("renamed") or {}).get(cursor, cursor))


async def linked(http: Http, scan: Scan, position: Mapping[str, Any]) -> AsyncIterator[Page]:
    """Yield the associations of all records of an object, a batch of them at a time."""
    near, far = scan.table.detail["object"], scan.table.detail["to"]
    pending: list[dict[str, str]] = list(position.get("pending") or ())
    after, more = position.get("after"), position.get("more", True)
    while True:
        while more and len(pending) <= _LINKS - _LIST:
            params = {"limit": str(_LIST), "properties": ID, **({"after": after} if after else {})}
            data = (await http.get(f"/crm/v3/objects/{near}", params=params)).data
            pending += [{"id": str(one["id"])} for one in data["results"]]
            after = ((data.get("paging") or {}).get("next") or {}).get("after")
            more = after is not None
        rows: list[dict[str, Any]] = []
        follow: list[dict[str, str]] = []
        if pending:
            path = f"/crm/v4/associations/{near}/{far}/batch/read"
            data = (await http.post(path, json={"inputs": pending[:_LINKS]}, idempotent=True)).data
            rows += [row for one in data["results"] for row in _links(one)]
            follow = _follow(data)
        pending = [*follow, *pending[_LINKS:]]
        rest = {"part": "links", "after": after, "more": more, "pending": pending} if pending or more else None
        yield Page(rows, rest)
        if rest is None:
            return


def _follow(data: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what a batch has not shown yet of its records."""
    cursors = ((one, ((one.get("paging") or {}).get("next") or {}).get("after")) for one in data["results"])
    return [{"id": str(one["from"]["id"]), "after": str(after)} for one, after in cursors if after is not None]


def _links(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "from_id": str(one["from"]["id"]),
            "to_id": str(end["toObjectId"]),
            "category": kind["category"],
            "type_id": kind["typeId"],
            "label": kind.get("label"),
        }
        for end in one["to"]
        for kind in end["associationTypes"]
    ]
