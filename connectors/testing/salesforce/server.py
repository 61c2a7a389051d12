"""A server that answers as the REST API and the Bulk API 2.0 of Salesforce do.

Facts: developer.salesforce.com, REST API Developer Guide: "Resource Reference", "Query" and "QueryAll" (cursors),
"Query Options Header" (200 to 2,000), "Limit Info Header", "Limits", "Record Count", "API End-of-Life" (versions to
30.0 are retired and answer 410); SOAP API Developer Guide, "QueryLocator" (a cursor is good for fifteen minutes without
use; of ten that one user has open the oldest is released).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from connectors.testing.salesforce.bulk import Jobs
from connectors.testing.salesforce.oauth import Sessions
from connectors.testing.salesforce.objects import SObject
from connectors.testing.salesforce.org import Org, long_id
from connectors.testing.salesforce.query import Found, Runner
from connectors.testing.salesforce.refusal import OAuthRefused, Refused, malformed, not_found
from connectors.testing.salesforce.rendering import as_group, as_record
from connectors.testing.salesforce.soql import parse

_VERSIONS = [f"{number}.0" for number in range(31, 67)]
_LONGEST_URI = 16_384
_CURSOR_LIFE = timedelta(minutes=15)
_LIMIT_NAMES = ("DailyApiRequests", "DailyBulkV2QueryJobs", "DailyBulkV2QueryFileStorageMB", "DailyBulkApiBatches")
_Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]


@dataclass
class _Cursor:
    """An open query: the ids that it found."""

    found: Found
    batch: int
    used: datetime
    call: str
    done: bool = False


class Salesforce(Double):
    """An organisation on the loopback.

    Args:
        now: The time, in UTC; the machine's by default.

    Attributes:
        org: Its records.
        sessions: Its token endpoint.
        jobs: Its query jobs.
        calls: How many calls were made today, of ``most_calls``.
        concurrent: How many calls may run at once; None is any number.
        cursors: How many queries may be open at once; the oldest is forgotten.
        elsewhere: Where tokens are for, if that is another server: this one is the login server then.
    """

    def __init__(self, *, now: Callable[[], datetime] | None = None, latency: float = 0.0, port: int = 0) -> None:
        super().__init__(latency=latency, port=port)
        self.now = now or (lambda: datetime.now(UTC))
        self.org = Org(self.now)
        self.sessions = Sessions(self.now)
        self.runner = Runner(self.org)
        self.jobs = Jobs(self.org, self.runner, self.now)
        self.calls = 0
        self.most_calls = 100_000
        self.concurrent: int | None = None
        self.cursors = 10
        self.enabled = True
        self.elsewhere: str | None = None
        self._running = 0
        self._open: dict[str, _Cursor] = {}
        self._opened = 0

    def forget_cursors(self) -> None:
        """Close every open query."""
        self._open.clear()

    def routes(self) -> Iterable[web.RouteDef]:
        base = "/services/data/{version:v[0-9.]+}"
        named: list[tuple[str, str, _Handler]] = [
            ("GET", "", self._resources),
            ("GET", "/limits", self._limits),
            ("GET", "/limits/recordCount", self._counts),
            ("GET", "/sobjects", self._objects),
            ("GET", "/sobjects/{name}", self._object),
            ("GET", "/sobjects/{name}/describe", self._describe),
            ("GET", "/sobjects/{name}/{id}", self._record),
            ("GET", "/sobjects/{name}/{id}/{field}", self._blob),
            ("GET", "/query", self._query),
            ("GET", "/queryAll", self._query),
            ("GET", "/query/{locator}", self._more),
            ("GET", "/queryAll/{locator}", self._more),
            ("POST", "/jobs/query", self._make_job),
            ("GET", "/jobs/query", self._list_jobs),
            ("GET", "/jobs/query/{id}", self._job),
            ("PATCH", "/jobs/query/{id}", self._abort_job),
            ("DELETE", "/jobs/query/{id}", self._delete_job),
            ("GET", "/jobs/query/{id}/results", self._results),
            ("GET", "/jobs/query/{id}/resultPages", self._pages),
        ]
        yield web.route("*", "/services/oauth2/token", self._token)
        yield web.get("/services/data", self._versions)
        yield web.get("/services/data/", self._versions)
        for method, path, handler in named:
            yield web.route(method, base + path, self._guarded(handler))
            if not path.endswith("results"):
                yield web.route(method, f"{base}{path}/", self._guarded(handler))

    def unknown(self, request: web.Request, status: int) -> web.Response:
        if not request.path.startswith("/services/data"):
            return web.Response(status=404, text="<html>URL No Longer Exists</html>", content_type="text/html")
        try:
            self.sessions.check(request.headers.get("Authorization", ""))
        except Refused as error:
            return error.response()
        if status == 405:
            return Refused("METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed.", 405).response()
        return not_found().response()

    def _guarded(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def run(request: web.Request) -> web.StreamResponse:
            try:
                version = self._admit(request)
            except Refused as error:
                return error.response()
            self._running += 1
            try:
                response = await handler(request, version)
            except Refused as error:
                response = error.response()
            finally:
                self._running -= 1
            response.headers["Sforce-Limit-Info"] = f"api-usage={self.calls}/{self.most_calls}"
            return response

        return run

    def _admit(self, request: web.Request) -> str:
        """Return the version that a request is for, and count it."""
        if len(request.rel_url.raw_path_qs) > _LONGEST_URI:
            raise Refused("URI_TOO_LONG", "The length of the URI exceeds the 16,384 byte limit.", 414)
        version = request.match_info["version"][1:]
        self.sessions.check(request.headers.get("Authorization", ""))
        if version in (f"{number}.0" for number in range(20, 31)):
            raise Refused("UNSUPPORTED_API_VERSION", f"API version {version} is retired.", 410)
        if version not in _VERSIONS:
            raise not_found()
        if not self.enabled:
            raise Refused("API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.", 403)
        if self.calls >= self.most_calls:
            raise Refused("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", 403)
        if self.concurrent is not None and self._running >= self.concurrent:
            message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
            raise Refused("REQUEST_LIMIT_EXCEEDED", message, 403)
        self.calls += 1
        return version

    async def _token(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.method != "POST":
                raise OAuthRefused("invalid_request", "must use HTTP POST")
            form = {key: str(value) for key, value in (await request.post()).items()}
            return answer(
                self.sessions.grant(form, request.headers.get("Authorization", ""), self.elsewhere or self.url)
            )
        except OAuthRefused as error:
            return error.response()

    async def _versions(self, request: web.Request) -> web.StreamResponse:
        found = [{"label": one, "url": f"/services/data/v{one}", "version": one} for one in _VERSIONS]
        return answer(found)

    async def _resources(self, request: web.Request, version: str) -> web.StreamResponse:
        names = ("jobs", "limits", "query", "queryAll", "sobjects")
        return answer({name: f"/services/data/v{version}/{name}" for name in names})

    async def _limits(self, request: web.Request, version: str) -> web.StreamResponse:
        left = (self.most_calls - self.calls, self.jobs.daily, 976_562, 15_000)
        most = (self.most_calls, 10_000, 976_562, 15_000)
        return answer(
            {name: {"Max": top, "Remaining": rest} for name, top, rest in zip(_LIMIT_NAMES, most, left, strict=True)}
        )

    async def _counts(self, request: web.Request, version: str) -> web.StreamResponse:
        asked = [one for one in request.query.get("sObjects", "").split(",") if one]
        kinds = [one for one in self.org.objects.values() if not asked or one.name in asked]
        shown = [one for one in kinds if self.org.object_named(one.name)]
        return answer(
            {"sObjects": [{"count": len(self.org.rows(one, deleted=False)), "name": one.name} for one in shown]}
        )

    async def _objects(self, request: web.Request, version: str) -> web.StreamResponse:
        shown = [one for one in self.org.objects.values() if self.org.object_named(one.name)]
        described = [self._summary(one, version) for one in shown]
        return answer({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": described})

    async def _object(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer({"objectDescribe": self._summary(self._kind(request), version), "recentItems": []})

    async def _describe(self, request: web.Request, version: str) -> web.StreamResponse:
        kind = self._kind(request)
        fields = [one.describe() for one in self.org.readable(kind)]
        more = {"fields": fields, "childRelationships": [], "recordTypeInfos": [], "supportedScopes": []}
        return answer({**self._summary(kind, version), **more})

    def _kind(self, request: web.Request) -> SObject:
        kind = self.org.object_named(request.match_info["name"])
        if kind is None:
            raise not_found()
        return kind

    def _summary(self, kind: SObject, version: str) -> dict[str, Any]:
        base = f"/services/data/v{version}/sobjects/{kind.name}"
        label = kind.name.removesuffix("__c")
        flags = {"activateable": False, "createable": True, "custom": kind.name.endswith("__c"), "customSetting": False}
        flags |= {"deepCloneable": False, "deletable": kind.deletable, "deprecatedAndHidden": False}
        flags |= {"feedEnabled": True, "hasSubtypes": False, "isInterface": False, "isSubtype": False}
        flags |= {"layoutable": True, "mergeable": False, "mruEnabled": True, "queryable": kind.queryable}
        flags |= {"replicateable": True, "retrieveable": True, "searchable": True, "triggerable": True}
        flags |= {"undeletable": kind.deletable, "updateable": True}
        urls = {"describe": f"{base}/describe", "rowTemplate": f"{base}/{{ID}}", "sobject": base}
        more = {"keyPrefix": kind.prefix, "label": label, "labelPlural": f"{label}s", "name": kind.name, "urls": urls}
        return {**flags, **more}

    async def _record(self, request: web.Request, version: str) -> web.StreamResponse:
        kind = self._kind(request)
        found = self.org.get(request.match_info["id"])
        if found is None or found[0] != kind:
            message = "Provided external ID field does not exist or is not accessible: " + request.match_info["id"]
            raise Refused("NOT_FOUND", message, 404)
        if found[1].get("IsDeleted"):
            raise Refused("ENTITY_IS_DELETED", "entity is deleted", 404)
        names = request.query.get("fields") or ",".join(one.name for one in self.org.readable(kind))
        query = parse(f"SELECT {names} FROM {kind.name}", self.now())
        selected = self.runner.check(query)[1]
        return answer(as_record(self.runner, kind, found[1], selected, version))

    async def _blob(self, request: web.Request, version: str) -> web.StreamResponse:
        kind = self._kind(request)
        found = self.org.get(request.match_info["id"])
        field = kind.by_name.get(request.match_info["field"].lower())
        value = found[1].get(field.name) if found and field and field.type == "base64" else None
        if not isinstance(value, bytes):
            raise not_found()
        return answer(value, headers={"Content-Type": "application/octetstream"})

    async def _query(self, request: web.Request, version: str) -> web.StreamResponse:
        if "q" not in request.query:
            raise malformed("A query string has to be specified")
        batch = _batch_size(request.headers.get("Sforce-Query-Options", ""))
        call = "queryAll" if "/queryAll" in request.path else "query"
        found = self.runner.run(parse(request.query["q"], self.now()), deleted=call == "queryAll")
        if found.count is not None:
            return answer({"totalSize": found.count, "done": True, "records": []})
        if found.groups is not None:
            rows = [as_group(one) for one in found.groups[:2000]]
            return answer({"totalSize": len(rows), "done": True, "records": rows})
        self._opened += 1
        name = long_id(f"01g5g00000{self._opened:05d}")
        self._open[name] = _Cursor(found, batch, self.now(), call)
        while sum(not one.done for one in self._open.values()) > self.cursors:
            self._open.pop(next(key for key, one in self._open.items() if not one.done))
        return self._batch(name, 0, version)

    async def _more(self, request: web.Request, version: str) -> web.StreamResponse:
        found = re.fullmatch(r"([A-Za-z0-9]{15,18})-(\d+)", request.match_info["locator"])
        if found is None:
            raise Refused("INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._batch(found[1], int(found[2]), version)

    def _batch(self, name: str, start: int, version: str) -> web.Response:
        cursor = self._open.get(name)
        if cursor is None or cursor.used + _CURSOR_LIFE <= self.now() or start > len(cursor.found.ids):
            raise Refused("INVALID_QUERY_LOCATOR", "invalid query locator")
        cursor.used = self.now()
        end = start + cursor.batch
        kind, selected = cursor.found.kind, cursor.found.selected
        rows = [self.org.get(one) for one in cursor.found.ids[start:end]]
        records = [
            as_record(self.runner, kind, one[1], selected, version)
            for one in rows
            if one is not None and (cursor.call == "queryAll" or not one[1].get("IsDeleted"))
        ]
        done = end >= len(cursor.found.ids)
        body: dict[str, Any] = {"totalSize": len(cursor.found.ids), "done": done}
        cursor.done = done
        if not done:
            body["nextRecordsUrl"] = f"/services/data/v{version}/{cursor.call}/{name}-{end}"
        return answer({**body, "records": records})

    async def _make_job(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer(self.jobs.create(await _body(request), version))

    async def _list_jobs(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer(self.jobs.list(dict(request.query)))

    async def _job(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer(self.jobs.info(request.match_info["id"]))

    async def _abort_job(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer(self.jobs.abort(request.match_info["id"], await _body(request)))

    async def _delete_job(self, request: web.Request, version: str) -> web.StreamResponse:
        self.jobs.delete(request.match_info["id"])
        return web.Response(status=204)

    async def _results(self, request: web.Request, version: str) -> web.StreamResponse:
        body, headers = self.jobs.results(request.match_info["id"], version, dict(request.query))
        response = answer(body.encode(), headers=headers)
        response.enable_compression()
        return response

    async def _pages(self, request: web.Request, version: str) -> web.StreamResponse:
        return answer(self.jobs.pages(request.match_info["id"], version, dict(request.query)))


async def _body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        message = f"Content type {request.content_type} is not supported."
        raise Refused("UNSUPPORTED_MEDIA_TYPE", message, 415)
    try:
        return json.loads(await request.read())
    except ValueError:
        raise Refused("JSON_PARSER_ERROR", "The request body is no JSON.") from None


def _batch_size(header: str) -> int:
    for part in filter(None, (one.strip() for one in header.split(","))):
        name, _, value = part.partition("=")
        if name.strip().lower() == "batchsize":
            if not value.strip().isdigit() or not 200 <= int(value) <= 2000:
                raise Refused("INVALID_BATCH_SIZE", "batchSize must be between 200 and 2000")
            return int(value)
    return 2000
