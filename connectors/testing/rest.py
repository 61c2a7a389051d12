"""An API of no vendor: objects in pages of every style, children, filters, every way to authenticate."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from connectors.testing.double import Double, answer

Row = dict[str, Any]
_PARAMS = frozenset(
    {"page", "offset", "limit", "size", "cursor", "since", "until", "desc", "api_key", "tag", "shape", "after", "p"}
)
STYLES = frozenset(
    {"link", "relative", "header", "named", "offset", "page", "numbers", "more", "empty", "cursor", "single", "search"}
)


class RestDouble(Double):
    """Serves ``/STYLE/NAME`` and ``/STYLE/NAME/ID/CHILD``; a child's rows are those of the table ``NAME.CHILD``.

    Attributes:
        tables: Rows by name.
        size: Rows of a page unless the request says it.
        guard: Looks at a request and tells whether it is authenticated; None lets everybody in.
        tokens: Those that the token endpoint gave and that still hold; lives: how many requests each is good for.
        before: Called before each page with its table: what happens between two requests.
    """

    def __init__(self, *, latency: float = 0.0, port: int = 0, size: int = 10) -> None:
        super().__init__(latency=latency, port=port)
        self.tables: dict[str, list[Row]] = {}
        self.size = size
        self.guard: Callable[[web.Request], bool] | None = None
        self.tokens: dict[str, int] = {}
        self.lives = 10**9
        self.given = 0
        self.before: Callable[[str], None] = lambda _: None

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/oauth/token", self._token),
            web.get("/one/{name}/{id}", self._one),
            web.get("/{style}/{name}", self._list),
            web.post("/{style}/{name}", self._list),
            web.get("/{style}/{name}/{id}/{child}", self._list),
            web.post("/{style}/{name}/{id}/{child}", self._list),
        ]

    # Who may ask.

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("client_id") != "me" or form.get("client_secret") != "s3cret!" or not form.get("grant_type"):
            return answer({"error": "invalid_client"}, status=401)
        self.given += 1
        token = f"token-{self.given}"
        self.tokens[token] = self.lives
        return answer({"access_token": token, "expires_in": 3600, "scope": form.get("scope", "")})

    def by_token(self, request: web.Request) -> bool:
        """Let in who has a token of the endpoint that is not worn out."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        left = self.tokens.get(token, 0)
        self.tokens[token] = left - 1
        return left > 0

    # What there is.

    async def _one(self, request: web.Request) -> web.Response:
        refused = self._refusal(request)
        if refused is not None:
            return refused
        rows = self.tables.get(request.match_info["name"], [])
        found = next((row for row in rows if str(row["id"]) == request.match_info["id"]), None)
        return answer({"error": "no such object"}, status=404) if found is None else answer(found)

    async def _list(self, request: web.Request) -> web.Response:
        refused = self._refusal(request)
        if refused is not None:
            return refused
        style, name = request.match_info["style"], request.match_info["name"]
        child = request.match_info.get("child")
        table = f"{name}.{child}" if child else name
        if style not in STYLES or table not in self.tables:
            return answer({"error": f"nothing at {request.path}"}, status=404)
        self.before(table)
        rows = self.tables[table]
        if child:
            rows = [row for row in rows if str(row["parent_id"]) == request.match_info["id"]]
        rows = _within(rows, request.query.get("since"), request.query.get("until"))
        rows = rows[::-1] if request.query.get("desc") else rows
        page: Callable[[web.Request, Sequence[Row]], Any] = getattr(self, f"_{style}")
        try:
            found = page(request, rows)
        except (ValueError, KeyError, TypeError) as error:
            return answer({"error": f"malformed: {error}"}, status=400)
        return await found if not isinstance(found, web.Response) else found

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.guard is not None and not self.guard(request):
            return answer({"error": "who are you?"}, status=401)
        unknown = sorted(set(request.query) - _PARAMS)
        return answer({"error": f"unknown parameter {unknown[0]}"}, status=400) if unknown else None

    # Pages, by style.

    def _size(self, request: web.Request) -> int:
        return int(request.query.get("size") or self.size)

    def _again(self, request: web.Request, **more: Any) -> str:
        query = {**{name: value for name, value in request.query.items() if name != "api_key"}, **more}
        return f"{request.path}?{urlencode(query)}"

    def _link(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        at, size = int(request.query.get("after", 0)), self._size(request)
        following = f"{self.url}{self._again(request, after=at + size)}" if at + size < len(rows) else None
        return answer({"count": len(rows), "results": rows[at : at + size], "paging": {"next": following}})

    def _relative(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        at, size = int(request.query.get("after", 0)), self._size(request)
        following = self._again(request, after=at + size) if at + size < len(rows) else None
        return answer({"data": {"list": rows[at : at + size]}, "next": following})

    def _header(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        at, size = int(request.query.get("after", 0)), self._size(request)
        links = [f'<{self.url}{self._again(request, after=0)}>; rel="first"']
        if at + size < len(rows):
            links.append(f'<{self.url}{self._again(request, after=at + size)}>; rel="next"')
        return answer(rows[at : at + size], headers={"Link": ", ".join(links)})

    def _named(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        at, size = int(request.query.get("cursor", 0)), self._size(request)
        headers = {"X-Next": str(at + size)} if at + size < len(rows) else {}
        return answer(rows[at : at + size], headers=headers)

    def _offset(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        at, size = int(request.query.get("offset", 0)), int(request.query.get("limit", self.size))
        return answer({"items": rows[at : at + size], "total": len(rows)})

    def _page(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        number, size = int(request.query.get("page", 1)), self._size(request)
        if number < 1:
            raise ValueError("pages begin at 1")
        at = (number - 1) * size
        return answer({"items": rows[at : at + size], "total_pages": -(-len(rows) // size), "page": number})

    def _numbers(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        number, size = int(request.query.get("p", 0)), self._size(request)
        return answer({"rows": rows[number * size :][:size], "info": {"pages": -(-len(rows) // size)}})

    def _more(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        number, size = int(request.query.get("page", 0)), self._size(request)
        return answer({"items": rows[number * size :][:size], "has_more": (number + 1) * size < len(rows)})

    def _empty(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        number, size = int(request.query.get("page", 0)), self._size(request)
        return answer({"items": rows[number * size :][:size]})

    def _cursor(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        given = request.query.get("cursor")
        at, size = int(base64.b64decode(given)) if given else 0, self._size(request)
        following = base64.b64encode(str(at + size).encode()).decode() if at + size < len(rows) else None
        return answer({"records": rows[at : at + size], "cursors": {"next": following}})

    def _single(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        return answer({"meta": {"asked": request.query.get("tag", "")}, "entries": list(rows)})

    async def _search(self, request: web.Request, rows: Sequence[Row]) -> web.Response:
        """Take everything from a JSON body: by offset, by page or by cursor, and conditions of equality."""
        body = json.loads(await request.read() or b"{}")
        for name, value in (body.get("match") or {}).items():
            rows = [row for row in rows if row.get(name) == value]
        paging = body.get("paging") or {}
        size = int(paging.get("limit") or self.size)
        at = int(paging.get("offset") or paging.get("cursor") or int(paging.get("page") or 0) * size)
        following = str(at + size) if at + size < len(rows) else None
        whole = {"hits": {"total": len(rows), "pages": -(-len(rows) // size), "hits": rows[at : at + size]}}
        return answer({**whole, "after": following})


def _within(rows: Sequence[Row], since: str | None, until: str | None) -> list[Row]:
    found = list(rows)
    if since:
        found = [row for row in found if _time(row["updated_at"]) >= _time(since)]
    if until:
        found = [row for row in found if _time(row["updated_at"]) < _time(until)]
    return found


def _time(text: Any) -> Any:
    if isinstance(text, int) or str(text).isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
