"""Google Sheets on the loopback: the reading half of the API's version 4.

Facts: developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/get, .../spreadsheets.values/get and
.../spreadsheets.values/batchGet (what is left out at the end of rows and ranges), .../api/limits (60 reads a minute and
user), and cloud.google.com/apis/docs/system-parameters.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from aiohttp import web

from connectors.testing.double import Double, answer
from connectors.testing.sheets.a1 import Area, resolve
from connectors.testing.sheets.answers import described, grid, named, value_range
from connectors.testing.sheets.document import Mask, Method, find, select
from connectors.testing.sheets.grid import Spreadsheet
from connectors.testing.sheets.refusals import (
    Refused,
    exhausted,
    info,
    nobody,
    page,
    scopes_missing,
    unauthenticated,
)
from connectors.testing.sheets.tokens import Tokens

PROJECT = "123456789012"


class SheetsDouble(Double):
    """The API and its token endpoint.

    Args:
        now: The time in seconds since 1970.

    Attributes:
        files: What there is, by id.
        tokens: Accounts and their tokens.
        per_minute: How many requests an account may send in a minute; None is any number.
        enabled: Whether the project has the API enabled.
        between: Told of each request after it was answered, so that a test may change something then.
        sizes: How many bytes each answer had.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, latency: float = 0.0, port: int = 0) -> None:
        super().__init__(latency=latency, port=port)
        self.now = now
        self.files: dict[str, Spreadsheet] = {}
        self.tokens = Tokens(now)
        self.per_minute: int | None = None
        self.enabled = True
        self._counted: Counter[tuple[str, int]] = Counter()
        self.between: Callable[[str], None] | None = None
        self.sizes: list[int] = []

    @property
    def token_url(self) -> str:
        """The address of the token endpoint."""
        return f"{self.url}/token"

    def account(self, email: str = "loader@acme.iam.gserviceaccount.com", key_id: str = "k1") -> dict[str, str]:
        """Make a service account and return its key file."""
        return {**self.tokens.account(email, key_id), "token_uri": self.token_url}

    def add(self, id: str, title: str, *accounts: str) -> Spreadsheet:  # noqa: A002
        """Add a spreadsheet that is shared with these accounts."""
        made = Spreadsheet(id, title, shared=set(accounts))
        self.files[id] = made
        return made

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/token", self._token), web.route("*", "/v4/{rest:.*}", self._api)]

    def unknown(self, request: web.Request, status: int) -> web.Response:
        return page(404)

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        return self.tokens.grant(form, self.token_url)

    async def _api(self, request: web.Request) -> web.Response:
        query = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        verb = request.method
        if verb == "POST" and request.headers.get("X-HTTP-Method-Override", "").upper() == "GET":
            verb = "GET"
            query += parse_qsl(await request.text(), keep_blank_values=True)
        found = find(verb, request.rel_url.raw_path)
        if found is None:
            return page(404)
        name, about, path = found
        method = Method(name, about, {key: unquote(text) for key, text in path.items()})
        try:
            return self._answered(method, query, request.headers.get("Authorization", ""))
        except Refused as refused:
            return refused.response()

    def _answered(self, method: Method, query: list[tuple[str, str]], authorization: str) -> web.Response:
        asked = method.parameters(query)
        account = self._account(method, asked, authorization)
        self._count(account)
        mask = method.mask(asked["fields"]) if "fields" in asked else None
        file = self._file(method.path["spreadsheetId"], account)
        body = {"get": self._get, "values.get": self._values, "values.batchGet": self._batch}[
            method.name.removeprefix("spreadsheets.")
        ](file, method, asked, mask)
        response = answer(body if mask is None else select(body, mask))
        self.sizes.append(len(response.body) if isinstance(response.body, bytes) else 0)
        if self.between is not None:
            self.between(f"{method.name}?{urlencode(query)}")
        return response

    def _account(self, method: Method, asked: dict[str, Any], authorization: str) -> str:
        text = authorization.removeprefix("Bearer ") if authorization else asked.get("access_token")
        text = text or asked.get("oauth_token")
        if text is None and "key" in asked:
            detail = info("API_KEY_INVALID")
            raise Refused(400, "API key not valid. Please pass a valid API key.", detail)
        if text is None:
            raise nobody()
        token = self.tokens.find(text)
        if token is None or (authorization and not authorization.startswith("Bearer ")):
            raise unauthenticated()
        scopes = list(method.described["scopes"])
        if not token.scopes & set(scopes):
            raise scopes_missing(method.rpc, scopes)
        if not self.enabled:
            message = (
                f"Google Sheets API has not been used in project {PROJECT} before or it is disabled. Enable it by "
                f"visiting https://console.developers.google.com/apis/api/sheets.googleapis.com/overview?project="
                f"{PROJECT} then retry."
            )
            raise Refused(403, message, info("SERVICE_DISABLED", consumer=f"projects/{PROJECT}"))
        return token.account

    def _count(self, account: str) -> None:
        minute = (account, int(self.now() // 60))
        self._counted[minute] += 1
        if self.per_minute is not None and self._counted[minute] > self.per_minute:
            raise exhausted(self.per_minute, PROJECT)

    def _file(self, key: str, account: str) -> Spreadsheet:
        file = self.files.get(key)
        if file is None:
            raise Refused(404, "Requested entity was not found.")
        if account not in file.shared:
            raise Refused(403, "The caller does not have permission")
        if file.office:
            message = "This operation is not supported for this document"
            raise Refused(400, message, status="FAILED_PRECONDITION")
        return file

    def _values(self, file: Spreadsheet, method: Method, asked: dict[str, Any], mask: Mask | None) -> dict[str, Any]:
        return value_range(grid(resolve(file, method.path["range"])), asked)

    def _batch(self, file: Spreadsheet, method: Method, asked: dict[str, Any], mask: Mask | None) -> dict[str, Any]:
        if not asked.get("ranges"):
            raise Refused(400, "Must specify at least one range.")
        areas = [grid(resolve(file, text)) for text in asked["ranges"]]
        return {"spreadsheetId": file.id, "valueRanges": [value_range(area, asked) for area in areas]}

    def _get(self, file: Spreadsheet, method: Method, asked: dict[str, Any], mask: Mask | None) -> dict[str, Any]:
        areas = [resolve(file, text) for text in asked.get("ranges", ())]
        if mask is not None:
            sheets = mask.get("sheets", mask.get("*"))
            data = sheets is not None and (not sheets or "data" in sheets or "*" in sheets)
        else:
            data = asked.get("includeGridData", False)
        found: dict[str, Any] = {
            "spreadsheetId": file.id,
            "properties": {
                "title": file.title,
                "locale": file.locale,
                "autoRecalc": "ON_CHANGE",
                "timeZone": file.time_zone,
            },
            "sheets": [],
            "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{file.id}/edit",
        }
        for index, sheet in enumerate(file.sheets):
            chosen = [area for area in areas if area.sheet is sheet]
            if areas and not chosen:
                continue
            if not areas and sheet.kind == "GRID":
                chosen = [Area(sheet, 0, 0, sheet.rows, sheet.columns)]
            found["sheets"].append(described(sheet, index, chosen, data))
        if file.named:
            found["namedRanges"] = [named(file, name, text) for name, text in file.named.items()]
        return found
