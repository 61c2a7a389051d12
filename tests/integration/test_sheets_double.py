"""The double of Google Sheets: what it answers, what it refuses, and that clients written by others agree with it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from connectors.testing.sheets import Cell, SheetsDouble, error
from connectors.testing.sheets.document import extract
from connectors.testing.sheets.grid import ERRORS
from connectors.testing.sheets.tokens import JWT_BEARER, READ_SCOPE
from tests.environments import NotInstalled, environment

_SERVERS = Path(__file__).parent.parent / "servers"
_LOADER = "loader@acme.iam.gserviceaccount.com"
_DRIVE_FILES = "https://www.googleapis.com/auth/drive.file"


class Clock:
    def __init__(self) -> None:
        self.time = 1_770_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def double(clock: Clock) -> Iterator[SheetsDouble]:
    with SheetsDouble(now=clock) as server:
        _fill(server)
        yield server


def _fill(server: SheetsDouble) -> None:
    book = server.add("book1", "Budget", _LOADER, "user@acme.com")
    book.add(
        "People",
        [
            ["name", "age", "paid", "born", "seen"],
            ["Ann", 41, True, dt.date(1984, 2, 29), dt.datetime(2026, 1, 2, 3, 4, 5)],
            ["Bob", 1.5, False],
            [],
            [None, Cell(42, formula="=B2+1"), None, error("#N/A")],
        ],
        rows=20,
        columns=6,
    )
    second = book.add("My 'sheet'", [["top", "x"], ["a"], ["b"], ["c"]])
    second.merge(0, 0, 1, 2)
    second.merge(1, 0, 3, 1)
    second.put(0, 1, None)
    book.add("Secret", [["hidden"]], hidden=True)
    book.add("Chart", kind="OBJECT")
    book.named["rates"] = "People!B2:B3"
    server.add("foreign", "Foreign", "somebody@else.com")
    server.add("office", "old.xlsx", _LOADER).office = True


def _token(server: SheetsDouble, *scopes: str, account: str = _LOADER) -> str:
    made = server.tokens.consent(account, "client", "secret", *scopes)
    form = {"grant_type": "refresh_token", "refresh_token": made, "client_id": "client", "client_secret": "secret"}
    answer: str = _send(server, "/token", form=form)[1]["access_token"]
    return answer


def _send(
    server: SheetsDouble,
    path: str,
    *,
    token: str | None = None,
    method: str | None = None,
    form: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    data = urlencode(form, doseq=True).encode() if form is not None else None
    request = urllib.request.Request(server.url + path, data=data, method=method, headers=headers or {})
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        with refused:
            text = refused.read().decode()
            json_body = refused.headers.get_content_type() == "application/json"
            return refused.code, json.loads(text) if json_body else text


_PEOPLE = "/v4/spreadsheets/book1/values/People"
_BATCH = "/v4/spreadsheets/book1/values:batchGet"
_BOOK = "/v4/spreadsheets/book1"


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        (f"{_PEOPLE}?foo=1", 400, "INVALID_ARGUMENT", 'Unknown name "foo": Cannot bind query parameter'),
        (f"{_PEOPLE}?ranges=A1", 400, "INVALID_ARGUMENT", 'Unknown name "ranges"'),
        (f"{_PEOPLE}?range=A1", 400, "INVALID_ARGUMENT", 'Unknown name "range"'),
        (f"{_BATCH}?ranges=A1&includeGridData=true", 400, "INVALID_ARGUMENT", 'Unknown name "includeGridData"'),
        (f"{_BOOK}?valueRenderOption=FORMULA", 400, "INVALID_ARGUMENT", 'Unknown name "valueRenderOption"'),
        (f"{_PEOPLE}?valueRenderOption=RAW", 400, "INVALID_ARGUMENT", "Invalid value at 'value_render_option'"),
        (f"{_PEOPLE}?valueRenderOption=formula", 400, "INVALID_ARGUMENT", "Invalid value at 'value_render_option'"),
        (f"{_PEOPLE}?dateTimeRenderOption=ISO", 400, "INVALID_ARGUMENT", "Invalid value at 'date_time_render_option'"),
        (f"{_PEOPLE}?majorDimension=CELLS", 400, "INVALID_ARGUMENT", "Invalid value at 'major_dimension'"),
        (f"{_PEOPLE}?majorDimension=ROWS&majorDimension=ROWS", 400, "INVALID_ARGUMENT", "Proto field is not repeating"),
        (f"{_BOOK}?includeGridData=yes", 400, "INVALID_ARGUMENT", "Invalid value at 'include_grid_data' (TYPE_BOOL)"),
        (f"{_BOOK}?commentsViewMode=ALL", 400, "INVALID_ARGUMENT", "Invalid value at 'comments_view_mode'"),
        (f"{_BOOK}?alt=xml", 400, "INVALID_ARGUMENT", "Invalid value at 'alt'"),
        (f"{_BOOK}?alt=media", 400, "INVALID_ARGUMENT", "Unsupported Output Format"),
        (f"{_BOOK}?fields=sheets.name", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_BOOK}?fields=rows", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_BOOK}?fields=", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_BOOK}?fields=sheets(properties", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_BOOK}?fields=sheets,,properties", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_BOOK}?fields=spreadsheetId.x", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (f"{_PEOPLE}?fields=valueRanges", 400, "INVALID_ARGUMENT", "Request contains an invalid argument"),
        (_BATCH, 400, "INVALID_ARGUMENT", "at least one range"),
        (f"{_BOOK}/values/Nobody%21A1", 400, "INVALID_ARGUMENT", "Unable to parse range: Nobody!A1"),
        (f"{_BOOK}/values/Nobody", 400, "INVALID_ARGUMENT", "Unable to parse range: Nobody"),
        (f"{_BOOK}/values/People%21A0", 400, "INVALID_ARGUMENT", "Unable to parse range: People!A0"),
        (f"{_BOOK}/values/People%21A1%3AB2%3AC3", 400, "INVALID_ARGUMENT", "Unable to parse range"),
        (f"{_BOOK}/values/People%21A1%2CB2", 400, "INVALID_ARGUMENT", "Unable to parse range"),
        (f"{_BOOK}/values/People%21", 400, "INVALID_ARGUMENT", "Unable to parse range"),
        (f"{_BATCH}?ranges=People&ranges=No%21A1", 400, "INVALID_ARGUMENT", "Unable to parse range: No!A1"),
        (f"{_BOOK}?ranges=No", 400, "INVALID_ARGUMENT", "Unable to parse range: No"),
        (f"{_PEOPLE}%21A21", 400, "INVALID_ARGUMENT", "Range (People!A21) exceeds grid limits. Max rows: 20, max col"),
        (f"{_PEOPLE}%21G1%3AH2", 400, "INVALID_ARGUMENT", "exceeds grid limits. Max rows: 20, max columns: 6"),
        (f"{_BOOK}/values/Chart%21A1", 400, "INVALID_ARGUMENT", "Chart"),
        ("/v4/spreadsheets/missing", 404, "NOT_FOUND", "Requested entity was not found."),
        ("/v4/spreadsheets/foreign", 403, "PERMISSION_DENIED", "The caller does not have permission"),
        ("/v4/spreadsheets/office", 400, "FAILED_PRECONDITION", "not supported for this document"),
        (f"{_BOOK}?key=AIza", 400, "INVALID_ARGUMENT", "API key not valid"),
    ],
)
def test_it_refuses_as_google_does(double: SheetsDouble, path: str, status: int, code: str, words: str) -> None:
    token = None if "key=" in path else _token(double)
    found, body = _send(double, path, token=token)
    assert (found, body["error"]["code"], body["error"]["status"]) == (status, status, code)
    assert words in body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v4/spreadsheets"),
        ("GET", "/v5/spreadsheets/book1"),
        ("DELETE", _BOOK),
        ("POST", _PEOPLE),
        ("GET", f"{_BOOK}/values/People/x"),
        ("GET", f"{_BOOK}/rows"),
        ("GET", f"{_BOOK}:copy"),
        ("GET", "/token"),
    ],
)
def test_what_is_no_method_is_a_page(double: SheetsDouble, method: str, path: str) -> None:
    status, body = _send(double, path, token=_token(double), method=method)
    assert status == 404
    assert isinstance(body, str)
    assert "<!DOCTYPE html>" in body


def test_a_mask_that_names_no_field_is_told_which(double: SheetsDouble) -> None:
    _, body = _send(double, f"{_BOOK}?fields=sheets(properties.title,data.cells)", token=_token(double))
    (violation,) = body["error"]["details"][0]["fieldViolations"]
    assert violation["field"] == "sheets(properties.title,data.cells)"
    assert "Cannot find matching fields for path" in violation["description"]
    assert "data.cells" in violation["description"]


def test_a_token_ends_at_its_time(double: SheetsDouble, clock: Clock) -> None:
    token = _token(double)
    clock.time += 3598
    assert _send(double, _PEOPLE, token=token)[0] == 200
    clock.time += 2
    status, body = _send(double, _PEOPLE, token=token)
    assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("token", ["ya29.unknown", ""])
def test_an_unknown_token_is_refused(double: SheetsDouble, token: str) -> None:
    status, body = _send(double, _PEOPLE, token=token)
    assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_nobody_is_refused(double: SheetsDouble) -> None:
    status, body = _send(double, _PEOPLE)
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert "unregistered callers" in body["error"]["message"]


def test_a_scope_of_another_api_is_too_little(double: SheetsDouble) -> None:
    status, body = _send(double, _PEOPLE, token=_token(double, "https://www.googleapis.com/auth/calendar"))
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert body["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_an_api_that_is_not_enabled(double: SheetsDouble) -> None:
    double.enabled = False
    status, body = _send(double, _PEOPLE, token=_token(double))
    assert (status, body["error"]["details"][0]["reason"]) == (403, "SERVICE_DISABLED")


def test_the_quota_of_a_minute_is_full_again_with_the_next(double: SheetsDouble, clock: Clock) -> None:
    double.per_minute = 2
    token = _token(double)
    assert [_send(double, _PEOPLE, token=token)[0] for _ in range(2)] == [200, 200]
    status, body = _send(double, _PEOPLE, token=token)
    assert (status, body["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert body["error"]["details"][0]["metadata"]["quota_limit_value"] == "2"
    assert _send(double, _PEOPLE, token=_token(double, account="user@acme.com"))[0] == 200, "another user's own"
    clock.time += 60
    assert _send(double, _PEOPLE, token=token)[0] == 200


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"grant_type": None}, 400, "invalid_request", "grant_type"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", "password"),
        ({"client_id": None}, 400, "invalid_request", "client_id"),
        ({"refresh_token": None}, 400, "invalid_request", "refresh_token"),
        ({"client_id": "other"}, 401, "invalid_client", "not found"),
        ({"client_secret": "wrong"}, 401, "invalid_client", "Unauthorized"),
        ({"refresh_token": "1//gone"}, 400, "invalid_grant", "expired or revoked"),
        ({"scope": _DRIVE_FILES}, 400, "invalid_scope", "Bad Request"),
    ],
)
def test_a_refresh_token_is_refused(
    double: SheetsDouble, change: dict[str, str | None], status: int, code: str, words: str
) -> None:
    made = double.tokens.consent(_LOADER, "client", "secret")
    form = {"grant_type": "refresh_token", "refresh_token": made, "client_id": "client", "client_secret": "secret"}
    changed = {name: value for name, value in {**form, **change}.items() if value is not None}
    found, body = _send(double, "/token", form=changed)
    assert (found, body["error"]) == (status, code)
    assert words in body["error_description"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"iss": "stranger@acme.iam.gserviceaccount.com"}, "invalid_grant", "account not found"),
        ({"aud": "https://sheets.googleapis.com/"}, "invalid_grant", "Failed audience check"),
        ({"exp": 7201}, "invalid_grant", "short-lived token"),
        ({"iat": -7200, "exp": -3600}, "invalid_grant", "short-lived token"),
        ({"iat": 3600, "exp": 7200}, "invalid_grant", "short-lived token"),
        ({"scope": None}, "invalid_scope", "Invalid OAuth scope"),
        ({"scope": "spreadsheets"}, "invalid_scope", "Invalid OAuth scope"),
        ({"sub": "boss@acme.com"}, "unauthorized_client", "unauthorized to retrieve"),
        ({"key": "other"}, "invalid_grant", "Invalid JWT Signature"),
        ({"key": "symmetric"}, "invalid_grant", "Invalid JWT Signature"),
        ({"kid": "k9"}, "invalid_grant", "Invalid JWT Signature"),
        ({"assertion": "nonsense"}, "invalid_grant", "Bad Request"),
        ({"assertion": ""}, "invalid_request", "assertion"),
    ],
)
def test_an_assertion_is_refused(
    double: SheetsDouble, clock: Clock, change: dict[str, Any], code: str, words: str
) -> None:
    account = double.account()
    other = double.account("other@acme.iam.gserviceaccount.com")
    claims: dict[str, Any] = {"iss": _LOADER, "aud": double.token_url, "scope": READ_SCOPE, "iat": 0, "exp": 3600}
    claims.update({name: value for name, value in change.items() if name not in ("key", "kid", "assertion")})
    for name in ("iat", "exp"):
        claims[name] += int(clock.time)
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": change.get("kid", account["private_key_id"])}
    if change.get("key") == "symmetric":
        assertion = jwt.encode(claims, "x" * 64, "HS256", headers=headers)
    else:
        signer = other if "key" in change else account
        assertion = jwt.encode(claims, signer["private_key"], "RS256", headers=headers)
    form = {"grant_type": JWT_BEARER, "assertion": change.get("assertion", assertion)}
    status, body = _send(double, "/token", form=form)
    assert (status, body["error"]) == (401 if code == "unauthorized_client" else 400, code)
    assert words in body["error_description"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("People", "People!A1:F20"),
        ("People!A2:C", "People!A2:C20"),
        ("People!A:B", "People!A1:B20"),
        ("People!2:3", "People!A2:F3"),
        ("People!B3:A1", "People!A1:B3"),
        ("People!A19:Z99", "People!A19:F20"),
        ("People!B2", "People!B2"),
        ("People!R2C1:R3C2", "People!A2:B3"),
        ("b2:c2", "People!B2:C2"),
        ("rates", "People!B2:B3"),
        ("'My ''sheet'''!A1:B", "'My ''sheet'''!A1:B1000"),
        ("My 'sheet'!A1", "'My ''sheet'''!A1"),
    ],
)
def test_ranges_are_read_and_written_as_documented(double: SheetsDouble, text: str, whole: str) -> None:
    status, body = _send(double, f"{_BATCH}?{urlencode({'ranges': text})}", token=_token(double))
    assert status == 200, body
    assert body["valueRanges"][0]["range"] == whole


def test_faults_are_answered_in_place(double: SheetsDouble) -> None:
    double.fail("status", "values/People", status=503, body={"error": {"code": 503, "status": "UNAVAILABLE"}})
    token = _token(double)
    assert [_send(double, _PEOPLE, token=token)[0] for _ in range(2)] == [503, 200]


def test_errors_have_the_types_of_the_document() -> None:
    assert set(ERRORS.values()) == set(extract()["enums"]["ErrorValue.type"]) - {"ERROR_TYPE_UNSPECIFIED"}


def _client() -> Path:
    try:
        return environment(_SERVERS / "sheets_client.txt")
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _run(script: str, *arguments: str, said: str = "") -> Any:
    command = [_client(), _SERVERS / script, *arguments]
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_extract_is_what_the_document_of_the_client_says() -> None:
    assert extract() == _run("sheets_extract.py")


def test_clients_written_by_others_agree() -> None:
    with SheetsDouble() as double:  # their tokens are made at the time of the wall
        _fill(double)
        settings = {
            "account": double.account(),
            "stranger": double.account("stranger@acme.iam.gserviceaccount.com"),
            "refresh_token": double.tokens.consent("user@acme.com", "client", "secret"),
            "client_id": "client",
            "client_secret": "secret",
            "spreadsheet": "book1",
        }
        del double.tokens.keys["stranger@acme.iam.gserviceaccount.com"]
        found = _run("sheets_client.py", double.url, said=json.dumps(settings))
    formatted = [
        ["name", "age", "paid", "born", "seen"],
        ["Ann", "41", "TRUE", "2/29/1984", "1/2/2026 3:04:05"],
        ["Bob", "1.5", "FALSE"],
        [],
        ["", "42", "", "#N/A"],
    ]
    google = found["google"]
    assert google["values"] == {"range": "People!A1:F20", "majorDimension": "ROWS", "values": formatted}
    assert found["user"] == google["values"]
    assert google["get"] == {
        "properties": {"title": "Budget"},
        "namedRanges": [
            {
                "name": "rates",
                "range": {"startRowIndex": 1, "endRowIndex": 3, "startColumnIndex": 1, "endColumnIndex": 2},
            }
        ],
        "sheets": [
            {"properties": {"title": "People"}},
            {
                "properties": {"title": "My 'sheet'"},
                "merges": [
                    {"sheetId": 1001, "startRowIndex": a, "endRowIndex": b, "startColumnIndex": c, "endColumnIndex": d}
                    for a, c, b, d in [(0, 0, 1, 2), (1, 0, 3, 1)]
                ],
            },
            {"properties": {"title": "Secret", "hidden": True}},
            {"properties": {"title": "Chart"}},
        ],
    }
    (data,) = google["cells"]["sheets"][0]["data"]
    ann, bob = (row["values"] for row in data["rowData"])
    assert data["startRow"] == 1
    assert [cell["effectiveValue"] for cell in ann] == [
        {"stringValue": "Ann"},
        {"numberValue": 41},
        {"boolValue": True},
        {"numberValue": 30741},
        {"numberValue": pytest.approx(46024.12783564815)},
    ]
    assert [cell.get("effectiveFormat", {}).get("numberFormat", {}).get("type") for cell in ann[2:]] == [
        None,
        "DATE",
        "DATE_TIME",
    ]
    assert len(bob) == 3
    (cell,) = google["grid"]["sheets"][0]["data"][0]["rowData"][0]["values"]
    assert cell == {
        "userEnteredValue": {"numberValue": 41},
        "effectiveValue": {"numberValue": 41},
        "formattedValue": "41",
    }
    assert google["columns"]["values"] == [
        ["Ann", "Bob"],
        [41, 1.5, "", 42],
        [True, False],
        [30741, "", "", "#N/A"],
        [pytest.approx(46024.12783564815)],
    ]
    assert google["strings"]["valueRanges"][0]["values"] == [["2/29/1984", "1/2/2026 3:04:05"]]
    batch = google["batch"]["valueRanges"]
    assert [one["range"] for one in batch] == ["People!A1:C3", "'My ''sheet'''!A1:B1000", "People!B2:B3"]
    assert batch[1]["values"] == [["top"], ["a"], [], ["c"]]
    assert batch[2]["values"] == [[41], [1.5]]
    assert google["long"] == 199
    assert (google["nothing"]["status"], google["nothing"]["reason"]) == (400, "Unable to parse range: Nobody!A1")
    assert (google["missing"]["status"], google["missing"]["reason"]) == (404, "Requested entity was not found.")
    assert (google["foreign"]["status"], google["foreign"]["reason"]) == (403, "The caller does not have permission")
    assert found["stranger"]["refresh"]["error"] == "invalid_grant"
    spread = found["gspread"]
    assert spread["titles"] == ["People", "My 'sheet'", "Secret", "Chart"]
    assert spread["records"][0] == {
        "name": "Ann",
        "age": 41,
        "paid": "TRUE",
        "born": "2/29/1984",
        "seen": "1/2/2026 3:04:05",
    }
    assert spread["unformatted"][1][:4] == ["Ann", 41, True, 30741]
    assert spread["cell"] is None
    assert spread["named"] == [["41"], ["1.5"]]
    assert spread["merged"] == [["top"], ["a"], ["a"], ["c"]], "filled where an answer has cells"
    assert spread["outside"]["status"] == 400
