"""The server: log-on, CSRF tokens, entity sets, pages, deltas, function imports."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from aiohttp import web

from connectors.testing.double import Double, answer
from connectors.testing.odp import encode, query
from connectors.testing.odp.metadata import document
from connectors.testing.odp.refusals import Refused
from connectors.testing.odp.sets import CHANGE_MODE, COUNTER, Clock, EntitySet, Row, Service

ROOT = "/sap/opu/odata/sap"
TOKEN = "/sap/bc/sec/oauth2/token"  # noqa: S105 the path, not a token
_OPTIONS = ("$filter", "$select", "$orderby", "$top", "$skip", "$expand", "$inlinecount", "$format", "$skiptoken")
_LANGUAGES = ("EN", "DE", "FR", "ES")
_CALL = re.compile(r"(?P<name>\w+)(?:\((?P<key>.*)\))?")


@dataclass
class _Pages:
    """The rest of an answer that is sent page by page."""

    owner: EntitySet
    rows: list[Row]
    size: int | None
    names: list[str] | None
    expanded: list[str]
    count: int | None
    delta: str | None


class Gateway(Double):
    """SAP Gateway with one client.

    Args:
        users: Passwords by user.
        now: The time: of tokens, and of access tokens that end.
        applications: Secrets of OAuth clients, by id.
        token_lifetime: Seconds that an access token lives.

    Attributes:
        host: What its own links name as host; by default what the request named. A system behind a proxy does not know.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        users: Mapping[str, str] | None = None,
        client: str = "100",
        now: Clock = lambda: datetime.now(UTC),
        applications: Mapping[str, str] | None = None,
        token_lifetime: float = 3600,
        latency: float = 0.0,
    ) -> None:
        super().__init__(latency=latency)
        self.services = {one.name: one for one in services}
        self.users = dict(users or {"EXTRACT": "secret"})
        self.client = client
        self.now = now
        self.applications = dict(applications or {"app": "hush"})
        self.token_lifetime = token_lifetime
        self.host: str | None = None
        self.access: dict[str, datetime] = {}
        self._csrf: dict[str, str] = {}
        self._held: dict[str, _Pages] = {}

    def service_url(self, name: str) -> str:
        """Return where a service is."""
        return f"{self.url}{ROOT}/{name}"

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post(TOKEN, self._token), web.route("*", "/{rest:.*}", self._any)]

    def forget_pages(self) -> None:
        """Drop every result of which only a part was sent."""
        self._held.clear()

    async def _token(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl((await request.read()).decode()))
        user, password = _basic(request) or (form.get("client_id", ""), form.get("client_secret", ""))
        if self.applications.get(user) != password:
            return answer({"error": "invalid_client"}, status=401)
        if form.get("grant_type") != "client_credentials":
            return answer({"error": "unsupported_grant_type"}, status=400)
        token = secrets.token_urlsafe(16)
        self.access[token] = self.now() + timedelta(seconds=self.token_lifetime)
        return answer({"access_token": token, "token_type": "Bearer", "expires_in": int(self.token_lifetime)})

    async def _any(self, request: web.Request) -> web.Response:
        parts = unquote(request.rel_url.raw_path).removeprefix(ROOT).strip("/").split("/")
        service = self.services.get(parts[0])
        options = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        language = dict(options).get("sap-language", "EN")
        try:
            user = self._log_on(request, dict(options))
            if user is None:
                return _logon_failed(self.client)
            if not request.path.startswith(ROOT) or service is None:
                message = f"No service found for namespace '/SAP/', name '{parts[0]}', version '0001'"
                raise Refused(403, "/IWFND/MED/170", message)
            if user in service.refused_to:
                message = f"No authorization to access Service '{service.name}_0001'"
                raise Refused(403, "/IWFND/CM_CONSUMER/101", message)
            if language not in _LANGUAGES:
                raise Refused(400, "/IWBEP/CM_MGW_RT/176", f"Language '{language}' not in system")
            return self._csrf_token(request, self._service(request, service, parts[1:], options))
        except Refused as refused:
            return refused.reply(parts[0], language)

    def _log_on(self, request: web.Request, options: dict[str, str]) -> str | None:
        if (options.get("sap-client") or request.headers.get("sap-client") or self.client) != self.client:
            return None  # a user of another client is no user here
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            return "app" if self.access.get(rest, self.now()) > self.now() else None
        user, password = _basic(request) or ("", "")
        return user if user in self.users and self.users[user] == password else None

    def _csrf_token(self, request: web.Request, response: web.Response) -> web.Response:
        if request.headers.get("X-CSRF-Token", "").lower() == "fetch":
            session = request.cookies.get("SAP_SESSIONID") or secrets.token_urlsafe(12)
            self._csrf.setdefault(session, secrets.token_urlsafe(12))
            response.headers["X-CSRF-Token"] = self._csrf[session]
            response.set_cookie("SAP_SESSIONID", session)
        return response

    def _service(
        self, request: web.Request, service: Service, path: list[str], options: list[tuple[str, str]]
    ) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            own = self._csrf.get(request.cookies.get("SAP_SESSIONID", ""))
            if own is None or request.headers.get("X-CSRF-Token") != own:
                return web.Response(
                    status=403, text="CSRF token validation failed", headers={"x-csrf-token": "Required"}
                )
            raise Refused(405, "/IWBEP/CM_MGW_RT/096", f"Method '{request.method}' not allowed for this resource.")
        if path in ([], [""]):
            return answer({"d": {"EntitySets": sorted(service.sets)}}, headers={"DataServiceVersion": "1.0"})
        if path == ["$metadata"]:
            return web.Response(text=document(service), content_type="application/xml", charset="utf-8")
        given = _checked(options)
        _negotiate(request, given.get("$format"))
        call = _CALL.fullmatch(path[0])
        name, key = (call["name"], call["key"]) if call else (path[0], None)
        for prefix in ("SubscribedTo", "TerminateDeltasFor", "DeltaLinksOf"):
            owner = service.sets.get(name.removeprefix(prefix))
            if name.startswith(prefix) and owner is not None and owner.tracked:
                return self._odp(request, service, owner, prefix, key, path[1:], given)
        owner = service.sets.get(name)
        if owner is None:
            raise Refused.segment(name)
        if key is not None:
            return _one(service, owner, key, self._root(request, service))
        if path[1:] == ["$count"]:
            test = query.condition(given.get("$filter"), owner)
            return web.Response(text=str(sum(map(test, owner.rows.values()))))
        if path[1:]:
            raise Refused.segment(path[1])
        return self._set(request, service, owner, given)

    def _root(self, request: web.Request, service: Service) -> str:
        return f"http://{self.host or request.host}{ROOT}/{service.name}"

    def _odp(
        self,
        request: web.Request,
        service: Service,
        owner: EntitySet,
        prefix: str,
        key: str | None,
        rest: list[str],
        given: dict[str, str],
    ) -> web.Response:
        if prefix == "SubscribedTo":
            flag = {"SubscribedFlag": owner.subscription is not None}
            return answer({"d": {f"SubscribedTo{owner.name}": flag}})
        if prefix == "TerminateDeltasFor":
            return answer({"d": {f"TerminateDeltasFor{owner.name}": {"ResultFlag": owner.terminate()}}})
        for option in given:
            if option not in ("$format",):
                raise Refused.not_implemented(option)
        if key is not None:
            if rest != ["ChangesAfter"]:
                raise Refused.segment(rest[0] if rest else owner.name)
            return self._set(request, service, owner, {"!deltatoken": key})
        created = owner.subscription.created if owner.subscription else {}
        root = self._root(request, service)
        links = [
            {
                "__metadata": {"uri": f"{root}/DeltaLinksOf{owner.name}('{token}')"},
                "DeltaToken": token,
                "CreatedAt": encode.value(at, "Edm.DateTimeOffset"),
                "IsInitialLoad": initial,
                "ChangesAfter": {"__deferred": {"uri": f"{root}/DeltaLinksOf{owner.name}('{token}')/ChangesAfter"}},
            }
            for token, (at, initial) in created.items()
        ]
        return answer({"d": {"results": links}})

    def _set(self, request: web.Request, service: Service, owner: EntitySet, given: dict[str, str]) -> web.Response:
        preferences = dict(
            (part.strip().partition("=")[::2]) for part in request.headers.get("Prefer", "").split(",") if part.strip()
        )
        applied = []
        size = owner.page
        if preferences.get("odata.maxpagesize", "").isdigit():
            size = int(preferences["odata.maxpagesize"])
            applied.append(f"odata.maxpagesize={size}")
        token = given.get("$skiptoken")
        if owner.tracked and token is not None:
            pages, start = self._held_page(token)
        else:
            track = "odata.track-changes" in preferences and owner.tracked and not owner.without_tracking
            if track and "!deltatoken" not in given:
                applied.append("odata.track-changes")
            pages, start = self._begin(owner, given, size, "odata.track-changes" in applied), 0
            if token is not None:
                if not token.isdigit():
                    raise Refused.dead_page(token)
                start = int(token)
        return self._page(request, service, given, pages, start, applied)

    def _held_page(self, token: str) -> tuple[_Pages, int]:
        name, _, start = token.rpartition(",")
        if name not in self._held or not start.isdigit():
            raise Refused.dead_page(token)
        return self._held[name], int(start)

    def _begin(self, owner: EntitySet, given: dict[str, str], size: int | None, track: bool) -> _Pages:
        if "!deltatoken" in given:
            if not owner.tracked:
                raise Refused.malformed("Invalid system query option specified")
            for option in given:
                if option not in ("!deltatoken", "$format"):
                    raise Refused.malformed(f"System query option '{option}' cannot be combined with a delta token")
            rows, following = owner.changes(given["!deltatoken"].strip("'"), self.now())
            return _Pages(owner, rows, size, None, [], None, following)
        if owner.tracked:
            for option in ("$orderby", "$skip", "$expand"):
                if option in given:
                    raise Refused.not_implemented(option)
        expanded = [part.strip() for part in given["$expand"].split(",")] if "$expand" in given else []
        for name in expanded:
            if name not in owner.children:
                raise Refused.property(name, owner.name)
        names = query.selected(given.get("$select"), owner, expanded)
        mode = {CHANGE_MODE: "C", COUNTER: "1"} if owner.tracked else {}
        test = query.condition(given.get("$filter"), owner)
        rows = [row for row in ({**one, **mode} for one in owner.rows.values()) if test(row)]
        for name, down in reversed(query.ordering(given.get("$orderby"), owner)):
            rows.sort(key=lambda row: query.plain(row[name]), reverse=down)
        counted = given.get("$inlinecount", "none")
        if counted not in ("none", "allpages"):
            raise Refused.malformed(f"Invalid value '{counted}' for system query option '$inlinecount'.")
        count = len(rows) if counted == "allpages" else None
        rows = rows[query.number(given.get("$skip", "0"), "$skip") :]
        if "$top" in given:
            rows = rows[: query.number(given["$top"], "$top")]
        delta = owner.subscribe(self.now()) if track else None
        return _Pages(owner, rows, size, names, expanded, count, delta)

    def _page(
        self,
        request: web.Request,
        service: Service,
        given: dict[str, str],
        pages: _Pages,
        start: int,
        applied: list[str],
    ) -> web.Response:
        owner = pages.owner
        end = len(pages.rows) if not pages.size else start + pages.size
        root = self._root(request, service)
        results = [
            encode.entity(service, owner, row, root, pages.names, pages.expanded) for row in pages.rows[start:end]
        ]
        body: Row = {"results": results}
        if pages.count is not None:
            body["__count"] = str(pages.count)
        if end < len(pages.rows):
            rest = {name: text for name, text in given.items() if name not in ("$skiptoken", "!deltatoken")}
            if owner.tracked:
                name = next((one for one, held in self._held.items() if held is pages), None)
                if name is None:
                    name = f"D{self.now():%Y%m%d%H%M%S}_{len(self._held):06d}"
                    self._held[name] = pages
                rest = {"$skiptoken": f"{name},{end}"}
            else:
                rest["$skiptoken"] = str(end)
            body["__next"] = f"{root}/{owner.name}?{urlencode(rest, quote_via=quote, safe='$,')}"
        elif pages.delta is not None:
            body["__delta"] = f"{root}/{owner.name}?!deltatoken='{pages.delta}'"
        headers = {"DataServiceVersion": "2.0"}
        if applied:
            headers["Preference-Applied"] = ", ".join(applied)
        return answer({"d": body}, headers=headers)


def _basic(request: web.Request) -> tuple[str, str] | None:
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
    except ValueError:
        return None
    return user, password


def _logon_failed(client: str) -> web.Response:
    realm = f'Basic realm="SAP NetWeaver Application Server [S4H/{client}]"'
    text = "<html><head><title>Logon Error Message</title></head><body>Logon failed</body></html>"
    return web.Response(status=401, text=text, content_type="text/html", headers={"WWW-Authenticate": realm})


def _checked(options: list[tuple[str, str]]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, text in options:
        if name.startswith("sap-"):
            continue
        if name in given:
            raise Refused.malformed(f"System query option '{name}' is specified more than once")
        if name.startswith("$") and name not in _OPTIONS:
            raise Refused.malformed("Invalid system query option specified")
        if name.startswith("$") or name == "!deltatoken":
            given[name] = text
    return given


def _negotiate(request: web.Request, asked: str | None) -> None:
    if asked is not None and asked != "json":
        if asked in ("atom", "xml", "xlsx"):
            raise Refused(415, "/IWFND/CM_MGW/415", f"Format '{asked}' is not served by this double")
        raise Refused(400, "/IWFND/CM_MGW/416", f"Invalid format '{asked}'")
    accept = request.headers.get("Accept", "*/*")
    if asked is None and not re.search(r"json|\*/\*|application/\*", accept):
        raise Refused(406, "/IWFND/CM_MGW/406", "The requested media type is not supported")


def _one(service: Service, owner: EntitySet, key: str, root: str) -> web.Response:
    values: list[Any] = []
    for part in re.findall(r"(?:[^,']|'(?:[^']|'')*')+", key):
        name, sign, text = part.partition("=")
        if sign and name not in owner.key:
            raise Refused.property(name, owner.name)
        values.append(query.literal(text if sign else part)[1])
    if len(values) != len(owner.key):
        raise Refused.malformed(f"Invalid key predicate for {owner.name}")
    row = owner.rows.get(tuple(values))
    if row is None:
        raise Refused(404, "/IWBEP/CM_MGW_RT/022", f"Entity of {owner.name} does not exist")
    return answer({"d": encode.entity(service, owner, row, root, None, ())})
