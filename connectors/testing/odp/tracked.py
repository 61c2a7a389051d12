"""A double of an OData 4 service that tracks changes, which SAP's own server does not do.

After OData 4.01, Protocol 11.3 ("Requesting Changes"), 8.2.8.6 (track-changes) and JSON Format 15 ("Delta Payload").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from connectors.testing.double import Double, answer

_METADATA = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.01" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="Track" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EntityType Name="Thing"><Key><PropertyRef Name="ID"/></Key><Property Name="ID" Type="Edm.Int32" Nullable="false"/>
<Property Name="name" Type="Edm.String" Nullable="false"/>
<Property Name="size" Type="Edm.Decimal" Precision="9" Scale="2"/>
</EntityType>
<EntityContainer Name="C"><EntitySet Name="Things" EntityType="Track.Thing">
<Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record><PropertyValue Property="Supported" Bool="true"/>
</Record></Annotation></EntitySet></EntityContainer></Schema></edmx:DataServices></edmx:Edmx>"""
_OPTIONS = ("$select", "$skiptoken", "$deltatoken", "$top", "$filter", "$orderby")


class Tracking(Double):
    """One entity set, Things.

    Attributes:
        rows: What there is now, by ID.
        style: How removals are written: 4.01 with @removed and an @id, 4.0 with a context and an id, or key properties.
        parts: Whether changed entities come with what changed alone.
    """

    def __init__(self, *, page: int = 10) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, Any]] = {}
        self.page = page
        self.style = "4.01"
        self.parts = False
        self.expired: set[int] = set()
        self._log: list[tuple[int, dict[str, Any] | None]] = []

    def put(self, *rows: dict[str, Any]) -> None:
        """Create or change rows."""
        for row in rows:
            self.rows[row["ID"]] = row
            self._log.append((row["ID"], row))

    def delete(self, number: int) -> None:
        """Delete a row."""
        del self.rows[number]
        self._log.append((number, None))

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/s/$metadata", self._metadata),
            web.get("/s/Things", self._things),
            web.get("/s/Things/$count", self._count),
        ]

    def unknown(self, request: web.Request, status: int) -> web.Response:
        return _refused(status, "ResourceNotFound", f"{request.path} was not found.")

    async def _metadata(self, request: web.Request) -> web.Response:
        return web.Response(text=_METADATA, content_type="application/xml")

    async def _count(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(self.rows)))

    async def _things(self, request: web.Request) -> web.Response:
        given = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        for name in given:
            if name.startswith("$") and name not in _OPTIONS:
                return _refused(400, "InvalidQueryOption", f"The query option {name} is not supported.")
        tracked = "odata.track-changes" in request.headers.get("Prefer", "")
        if "$deltatoken" in given:
            return self._delta(int(given["$deltatoken"]))
        # What is shown is what was there when the first page was asked for; its place in the log is in the links.
        start, _, place = given.get("$skiptoken", f"0.{len(self._log) if tracked else -1}").partition(".")
        numbers = sorted(self.rows)
        end = int(start) + self.page
        names = given["$select"].split(",") if "$select" in given else None
        body: dict[str, Any] = {
            "@odata.context": "$metadata#Things",
            "value": [_entity(self.rows[number], names) for number in numbers[int(start) : end]],
        }
        if end < len(numbers):
            body["@odata.nextLink"] = f"Things?$skiptoken={end}.{place}"
        elif int(place) >= 0:
            body["@odata.deltaLink"] = f"Things?$deltatoken={place}"
        headers = {"OData-Version": "4.0"} | ({"Preference-Applied": "odata.track-changes"} if tracked else {})
        return answer(body, headers=headers)

    def _delta(self, place: int) -> web.Response:
        if place in self.expired or place > len(self._log):
            return _refused(410, "ResourceGone", "The delta link is no longer valid.")
        last = dict(self._log[place:])
        found = [self._gone(number) if row is None else self._changed(row) for number, row in last.items()]
        body = {
            "@odata.context": "$metadata#Things/$delta",
            "value": [*found, {"@odata.context": "$metadata#Things/$link", "source": "Things(1)", "relationship": "x"}],
            "@odata.deltaLink": f"Things?$deltatoken={len(self._log)}",
        }
        return answer(body, headers={"OData-Version": "4.0"})

    def _changed(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if not self.parts or name != "size"}

    def _gone(self, number: int) -> dict[str, Any]:
        if self.style == "4.0":
            return {"@odata.context": "$metadata#Things/$deletedEntity", "id": f"Things({number})", "reason": "deleted"}
        if self.style == "key":
            return {"@removed": {"reason": "deleted"}, "ID": number}
        return {"@removed": {"reason": "deleted"}, "@id": f"{self.url}/s/Things({number})"}


def _entity(row: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    return {name: value for name, value in row.items() if names is None or name in names}


def _refused(status: int, code: str, message: str) -> web.Response:
    return answer({"error": {"code": code, "message": message}}, status=status)
