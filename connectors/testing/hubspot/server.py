"""The server: paths of HubSpot's CRM API, and in which order a request is looked at.

Facts: developers.hubspot.com, "CRM API reference" v3 and v4. Stricter than HubSpot in two things, so that a misspelt
request is seen: a query parameter or a key of a body that nothing reads is refused, where HubSpot ignores it.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from connectors.testing.hubspot import associations, objects, searching
from connectors.testing.hubspot.gates import CLIENT_ID, CLIENT_SECRET, PRIVATE_TOKEN, REFRESH_TOKEN, Gate
from connectors.testing.hubspot.refusals import Refusal, invalid, unknown_kind
from connectors.testing.hubspot.store import Kind, Store, stamp

_LIST = {"limit", "after", "properties", "propertiesWithHistory", "associations", "archived"}
_Handler = Callable[[web.Request], Awaitable[web.Response]]


def _now() -> datetime:
    return datetime.now(UTC)


class HubSpotDouble(Double):
    """HubSpot's CRM API on the loopback.

    Args:
        now: The time, for stamps, tokens and limits.
        url_limit: The longest path and query. HubSpot publishes none; what stands before it answers 414 somewhere.
        search_lag: Seconds until the search index shows a change.
        cap: Search shows no result beyond this one; 10,000 at HubSpot.
        association_page: How many ends of one record a batch shows at once; 500 at HubSpot.
        more: Keys of Gate: scopes, lifetime, burst, daily, searches.
    """

    token, client_id, client_secret, refresh_token = PRIVATE_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _now,
        url_limit: int = 8_000,
        search_lag: float = 0.0,
        cap: int = searching.CAP,
        association_page: int = 500,
        latency: float = 0.0,
        port: int = 0,
        **more: Any,
    ) -> None:
        super().__init__(latency=latency, port=port)
        self.now = now
        self.store = Store(now)
        self.gate = Gate(now, **more)
        self.url_limit = url_limit
        self.search_lag = search_lag
        self.cap = cap
        self.association_page = association_page

    def routes(self) -> Iterable[web.RouteDef]:
        objects_path = "/crm/v3/objects/{type}"
        return [
            web.post("/oauth/v1/token", self._grant),
            web.get(objects_path, self._open(self._list)),
            web.get(objects_path + "/{id}", self._open(self._one)),
            web.post(objects_path + "/batch/read", self._open(self._batch)),
            web.post(objects_path + "/search", self._open(self._search, search=True)),
            web.get("/crm/v3/properties/{type}", self._open(self._properties)),
            web.get("/crm/v3/properties/{type}/{name}", self._open(self._property)),
            web.get("/crm/v3/schemas", self._open(self._schemas)),
            web.get("/crm/v3/schemas/{type}", self._open(self._schema)),
            # The same under the name that HubSpot's own clients use.
            web.get("/crm-object-schemas/v3/schemas", self._open(self._schemas)),
            web.get("/crm-object-schemas/v3/schemas/{type}", self._open(self._schema)),
            web.get("/crm/v4/objects/{type}/{id}/associations/{to}", self._open(self._ends)),
            web.post("/crm/v4/associations/{type}/{to}/batch/read", self._open(self._links)),
        ]

    def unknown(self, request: web.Request, status: int) -> web.Response:
        message = "HTTP 405 Method Not Allowed" if status == 405 else "resource not found"
        return Refusal(status, None, message).response()

    def _open(self, handler: _Handler, *, search: bool = False) -> _Handler:
        """Return a handler behind what every request passes: length, token, limits."""

        async def handle(request: web.Request) -> web.Response:
            headers: dict[str, str] = {}
            try:
                if len(str(request.rel_url)) > self.url_limit:
                    return answer("<html><title>414 Request-URI Too Large</title></html>", status=414)
                private = self.gate.authenticate(request.headers.get("Authorization"))
                counted = self.gate.count(private=private)
                if search:
                    self.gate.count_search()
                else:
                    headers = counted
                if request.method == "POST" and request.content_type != "application/json":
                    raise Refusal(415, None, "HTTP 415 Unsupported Media Type")
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response()
            response.headers.update(headers)
            response.headers["X-HubSpot-Correlation-Id"] = str(uuid.uuid4())
            return response

        return handle

    def _kind(self, request: web.Request, part: str = "type") -> Kind:
        kind = self.store.find(request.match_info[part])
        if kind is None:
            raise unknown_kind(request.match_info[part])
        self.gate.require(kind.scopes)
        return kind

    @staticmethod
    def _query(request: web.Request, known: set[str]) -> dict[str, str]:
        if unknown := set(request.query) - known:
            raise invalid(f"Unknown parameter {sorted(unknown)[0]}.", "UNKNOWN_PARAMETER")
        # A client may write properties=a&properties=b for properties=a,b.
        return {name: ",".join(request.query.getall(name)) for name in request.query}

    def _here(self, request: web.Request) -> str:
        return f"{self.url}{request.path}"

    async def _grant(self, request: web.Request) -> web.Response:
        try:
            if request.content_type != "application/x-www-form-urlencoded":
                raise Refusal(415, None, "HTTP 415 Unsupported Media Type")
            form = await request.post()
            return answer(self.gate.grant({name: str(value) for name, value in form.items()}))
        except Refusal as refusal:
            return refusal.response()

    async def _list(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        return answer(objects.page(self.store, kind, self._query(request, _LIST), self._here(request)))

    async def _one(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        query = self._query(request, (_LIST - {"limit", "after"}) | {"idProperty"})
        return answer(objects.one(self.store, kind, request.match_info["id"], query))

    async def _batch(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        query = self._query(request, {"archived"})
        status, body = objects.batch(self.store, kind, await request.read(), query)
        return answer(body, status=status)

    async def _search(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        self._query(request, set())
        body = searching.validate(kind, await request.read(), cap=self.cap)
        settled = self.now() - timedelta(seconds=self.search_lag)
        matches = searching.matcher(kind, body.get("filterGroups", []))
        found = []
        for record in kind.records.values():
            # What the index holds: the record as it was before a change that it has not caught up with.
            properties = record.properties if record.updated <= settled else record.before
            gone = record.archived is not None and record.archived <= settled
            if properties is not None and not gone and matches(properties):
                found.append((record, properties))
        for one in body.get("sorts") or [{"propertyName": kind.created}]:
            name = one["propertyName"] if isinstance(one, dict) else one.lstrip("-")
            down = one.get("direction") == "DESCENDING" if isinstance(one, dict) else one.startswith("-")

            def place(pair: Any, name: str = name) -> Any:
                value = pair[1].get(name)
                compared = None if value in (None, "") else searching.comparable(kind, name, value)
                return (compared is not None, compared if compared is not None else 0)

            found.sort(key=place, reverse=down)
        start, end = body["after"], body["after"] + body["limit"]
        asked = body.get("properties") or ()
        results = [objects.shown(kind, record, asked, properties=properties) for record, properties in found[start:end]]
        reply: dict[str, Any] = {"total": len(found), "results": results}
        if len(found) > end:
            reply["paging"] = {"next": {"after": str(end), "link": f"?after={end}"}}
        return answer(reply)

    async def _properties(self, request: web.Request) -> web.Response:
        kind = self._kind(request)
        archived = objects.flag(self._query(request, {"archived", "properties", "dataSensitivity", "locale"}))
        made = stamp(datetime(2020, 1, 1, tzinfo=UTC))
        return answer(
            {"results": [one.described(made) for one in kind.properties.values() if one.archived == archived]}
        )

    async def _property(self, request: web.Request) -> web.Response:
        kind, name = self._kind(request), request.match_info["name"]
        if name not in kind.properties:
            raise Refusal(404, "OBJECT_NOT_FOUND", f"Property {name} does not exist")
        return answer(kind.properties[name].described(stamp(datetime(2020, 1, 1, tzinfo=UTC))))

    async def _schemas(self, request: web.Request) -> web.Response:
        self.gate.require(("crm.schemas.custom.read",))
        self._query(request, {"archived", "includeAssociationDefinitions", "includePropertyDefinitions"})
        return answer({"results": [self._described(kind) for kind in self.store.kinds.values() if kind.custom]})

    async def _schema(self, request: web.Request) -> web.Response:
        self.gate.require(("crm.schemas.custom.read",))
        return answer(self._described(self._kind(request)))

    @staticmethod
    def _described(kind: Kind) -> dict[str, Any]:
        made = stamp(datetime(2020, 1, 1, tzinfo=UTC))
        return {
            "id": kind.type_id.partition("-")[2],
            "name": kind.name,
            "objectTypeId": kind.type_id,
            "fullyQualifiedName": kind.aliases[0] if kind.aliases else kind.name,
            "labels": {"singular": kind.name.title(), "plural": kind.name.title()},
            "archived": False,
            "createdAt": made,
            "updatedAt": made,
            "requiredProperties": [],
            "searchableProperties": [],
            "secondaryDisplayProperties": [],
            "primaryDisplayProperty": next(iter(kind.properties)),
            "properties": [one.described(made) for one in kind.properties.values()],
            "associations": [],
        }

    async def _ends(self, request: web.Request) -> web.Response:
        near, far = self._kind(request), self._kind(request, "to")
        query = self._query(request, {"limit", "after"})
        return answer(associations.of_one(self.store, near, far, request.match_info["id"], query, self._here(request)))

    async def _links(self, request: web.Request) -> web.Response:
        near, far = self._kind(request), self._kind(request, "to")
        self._query(request, set())
        status, body = associations.batch(self.store, near, far, await request.read(), self.association_page)
        return answer(body, status=status)
