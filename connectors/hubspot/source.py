"""HubSpot as a source: sessions, marks and chunks.

How a table is read: a full load lists all records, then those that were deleted. An incremental one searches for what
changed in windows of the cursor, each of no more than 10,000 records, and looks through the list of deleted ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from connectors.api import ApiSession, ApiSource, Page
from connectors.http import Auth, Bearer, Http, OAuth2
from connectors.hubspot.answers import Pace, usage
from connectors.hubspot.config import HubSpotConfig
from connectors.hubspot.describe import discover
from connectors.hubspot.reading import Records, linked, searched
from connectors.hubspot.searches import Searches, bounds, condition
from connectors.hubspot.values import TIME, mark
from runner.errors import PermissionMissing, RequestRefused, TableMissing
from runner.source import NOTHING, Chunk, Mark, Position, Scan, Table, make_chunk

_NOTE = (
    "HubSpot shows each page as it is when it is asked; what changes while a table is read comes with the next run, "
    "which starts where this one began"
)


class HubSpotSource(ApiSource):
    """An account of HubSpot."""

    kind: ClassVar[str] = "hubspot"
    config_model = HubSpotConfig
    config: HubSpotConfig

    def make_http(self) -> Http:
        config = self.config
        auth: Auth
        if config.access_token is not None:
            auth = Bearer(config.access_token)
        else:
            form = {
                "grant_type": "refresh_token",
                "client_id": config.client_id or "",
                "client_secret": config.client_secret or "",
                "refresh_token": config.refresh_token or "",
            }
            auth = OAuth2("/oauth/v1/token", form)
        pace = Pace(self.requests)
        return Http(config, base=config.base_url, auth=auth, requests=self.requests, judge=pace.judge, usage=usage)

    async def examine(self, session: ApiSession, tables: Sequence[Table]) -> list[tuple[str, str, str]]:
        refused = [one for one in tables if not one.readable]
        return [
            ("ok", f"{len(tables) - len(refused)} tables can be read", ""),
            *(("warn", f"{one.qualified}: {one.comment}", PermissionMissing.guidance) for one in refused),
        ]

    def make_session(self, http: Http, epoch: int) -> HubSpotSession:
        return HubSpotSession(http, self.config)


class HubSpotSession(ApiSession):
    """One opened account."""

    position = Position(consistent=False, note=_NOTE, paged=True)

    def __init__(self, http: Http, config: HubSpotConfig) -> None:
        super().__init__(http)
        self._config = config
        self._searches = Searches(http, config.search_rate, config.window)

    async def discover(self, patterns: Sequence[str]) -> list[Table]:
        return await discover(self.http, self._config, patterns, self._count)

    async def _count(self, path: str) -> int:
        """Return about how many records an object has; some kinds cannot be searched."""
        with contextlib.suppress(RequestRefused, TableMissing, PermissionMissing):
            return await self._searches.count(path, [])
        return 0

    async def high_water(self, scan: Scan) -> Mark | None:
        assert scan.window is not None
        cursor = _checked(scan, scan.window.cursor)
        filters = condition(scan) or [{"propertyName": cursor, "operator": "HAS_PROPERTY"}]
        body = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": cursor, "direction": "DESCENDING"}],
            "properties": [cursor],
            "limit": 1,
        }
        found = (await self._searches.send(str(scan.table.detail["object"]), body)).data["results"]
        value = found[0]["properties"].get(cursor) if found else None
        # The index shows changes late, and not in their order.
        return None if not value else Mark(mark(value), exact=False)

    async def chunks(self, scan: Scan, rows: int, size: int) -> list[Chunk]:
        def one(index: int, position: dict[str, object], count: int = 0) -> Chunk:
            return make_chunk(scan, index, position, storage=None, rows=count, size=0)

        if scan.where == NOTHING:
            return [one(0, {"part": "nothing"})]
        if scan.table.detail["part"] == "links":
            if scan.where is not None:
                raise RequestRefused(f"{scan.table.qualified}: associations have no where:.")
            return [one(0, {"part": "links"})]
        low, high = bounds(scan)
        if scan.where is not None and self._archived(scan):
            raise RequestRefused(
                f"{scan.table.qualified}: HubSpot filters no deleted records, so where: would leave some unmarked.",
                guidance="Say `columns: {archived: drop}` and `deletes: ignore` for the table, or archived: false for "
                "the source.",
            )
        if low is None and high is None:
            # One walk by id, so that a record that changes meanwhile is neither missed nor met twice.
            walk: dict[str, object] = {"part": "listed"}
            if scan.where:
                walk = {"part": "changed", "low": None, "high": None}
            return [one(0, walk, scan.table.rows)]
        assert scan.window is not None
        cursor = _checked(scan, scan.window.cursor)
        now = int(self.http.clock.now().timestamp() * 1000)
        parts = await self._searches.windows(str(scan.table.detail["object"]), cursor, low, high, now)
        found = [
            one(index, {"part": "changed", "low": start, "high": end}, count)
            for index, (start, end, count) in enumerate(parts)
        ]
        if self._archived(scan):
            found.append(one(len(found), {"part": "archived", "after": None}))
        if low is not None and high is None and scan.where is None and cursor == scan.table.detail["modified"]:
            children = scan.table.detail.get("children") or {}
            found += [
                one(len(found) + number, {"part": "child", "child": child, "low": low})
                for number, child in enumerate(children)
            ]
        return found

    async def pages(self, scan: Scan, chunk: Chunk) -> AsyncIterator[Page]:
        position = chunk.bounds
        if position["part"] == "links":
            walk = linked(self.http, scan, position)
        else:
            records = Records(self.http, self._searches, scan, archived=self._archived(scan))
            parts = {"changed": records.changed, "child": records.headers}
            walk = parts.get(str(position["part"]), records.listed)(position)
        async for page in walk:
            yield page

    def _archived(self, scan: Scan) -> bool:
        """Tell whether deleted records are read: where there is a column to mark them."""
        if not self._config.archived or scan.present == "archived":
            return False
        return any(column.name == "archived" for column in scan.columns)


def _checked(scan: Scan, cursor: str) -> str:
    """Return the property to search by.

    Raises:
        RequestRefused: The cursor is none.
    """
    name = searched(scan, cursor)
    column = scan.table.column(cursor)
    if column is None or column.type != TIME or cursor in ("createdAt", "archivedAt"):
        raise RequestRefused(
            f"{scan.table.qualified}: {cursor!r} cannot be searched by.",
            guidance="Name a property that holds a date and time; by default it is that of the last change.",
        )
    return name
