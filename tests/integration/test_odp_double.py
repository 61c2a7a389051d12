"""The double of SAP Gateway, and SAP's own server: what they give, what they refuse, what another client reads there."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, Request, build_opener

import pytest

from connectors.testing.odp import EntitySet, Gateway, Property, Service
from tests.environments import NotInstalled, environment
from tests.servers.sap import Cap, cap_process, cap_server

__all__ = ["cap_process", "cap_server"]

_CLIENT = Path(__file__).parents[1] / "servers" / "odata_client.py"
_TYPES = (
    Property("Id", "Edm.String", {"MaxLength": "10", "sap:label": "Document"}),
    Property("Line", "Edm.Int32"),
    Property("Amount", "Edm.Decimal", {"Precision": "15", "Scale": "2"}),
    Property("Changed", "Edm.DateTimeOffset", {"Precision": "7"}),
    Property("Day", "Edm.DateTime", {"sap:display-format": "Date"}),
    Property("Clock", "Edm.Time"),
    Property("Guid", "Edm.Guid"),
    Property("Raw", "Edm.Binary"),
    Property("Big", "Edm.Int64"),
    Property("Float", "Edm.Double"),
    Property("Flag", "Edm.Boolean"),
)


class Asked:
    """An answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.text = body.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        try:
            return str(self.data["error"]["code"])
        except ValueError:
            return self.text[:80]


class _Quiet(HTTPErrorProcessor):
    def http_response(self, request: Any, response: Any) -> Any:
        return response


def ask(
    gateway: Gateway, path: str, *, user: str | None = "EXTRACT:secret", method: str = "GET", **headers: str
) -> Asked:
    request = Request(path if path.startswith("http") else f"{gateway.url}{path}", method=method)
    if user is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    with build_opener(_Quiet).open(request, timeout=20) as reply:
        return Asked(reply.status, reply.headers, reply.read())


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "Id": f"{number:010d}",
        "Line": number % 7,
        "Amount": f"{number}.50",
        "Changed": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        "Day": datetime(2024, 2, 29),
        "Clock": timedelta(hours=23, minutes=59, seconds=58),
        "Guid": f"00000000-0000-4000-8000-{number:012d}",
        "Raw": b"\x00\xff",
        "Big": 2**63 - 1,
        "Float": 0.1,
        "Flag": number % 2 == 0,
        **more,
    }


@pytest.fixture
def extracted() -> EntitySet:
    made = EntitySet("EntityOfZORDERS", _TYPES, ("Id",), tracked=True, page=50)
    made.put(*(row(number) for number in range(1, 121)))
    return made


@pytest.fixture
def gateway(extracted: EntitySet) -> Iterator[Gateway]:
    plain = EntitySet("A_Document", _TYPES, ("Id", "Line"), page=50)
    plain.put(*(row(number) for number in range(1, 121)))
    now = datetime(2024, 6, 1, tzinfo=UTC)
    services = [Service("ZODP_SRV", [extracted, plain]), Service("CLOSED_SRV", [], refused_to=["EXTRACT"])]
    with Gateway(services, now=lambda: now) as running:
        yield running


_SET = "/sap/opu/odata/sap/ZODP_SRV/EntityOfZORDERS"
_PLAIN = "/sap/opu/odata/sap/ZODP_SRV/A_Document"
_LIBRARY = "005056A509B11EE1B9A8FEC11C21578E"
_SEGMENT = "005056A509B11EE1B9A8FEC11C21D78E"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{_PLAIN}?sap-client=200", 401, "<html>"),
        ("/sap/opu/odata/sap/NO_SRV/X", 403, "/IWFND/MED/170"),
        ("/sap/opu/odata/sap/CLOSED_SRV/X", 403, "/IWFND/CM_CONSUMER/101"),
        ("/somewhere/else", 403, "/IWFND/MED/170"),
        ("/sap/opu/odata/sap/ZODP_SRV/Nothing", 404, _SEGMENT),
        (f"{_PLAIN}/Nothing", 404, _SEGMENT),
        ("/sap/opu/odata/sap/ZODP_SRV/SubscribedToA_Document", 404, _SEGMENT),
        ("/sap/opu/odata/sap/ZODP_SRV/DeltaLinksOfA_Document", 404, _SEGMENT),
        (f"{_PLAIN}?$unknown=1", 400, _LIBRARY),
        (f"{_PLAIN}?$count=true", 400, _LIBRARY),
        (f"{_PLAIN}?$top=1&$top=2", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Line%20gtt%201", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Line%20gt", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=(Line%20gt%201", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Line%20gt%201%20Line", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Line%20gt%20'1'", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Changed%20gt%20'2024-01-01'", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Changed%20gt%20datetime'2024-01-01T00:00:00'", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Changed%20gt%20datetimeoffset'yesterday'", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Day%20gt%20datetime'2024-01-01T00:00:00Z'", 400, _LIBRARY),
        (f"{_PLAIN}?$filter=Nothing%20eq%201", 400, "/IWBEP/CM_MGW_RT/021"),
        (f"{_PLAIN}?$select=Id,Nothing", 400, "/IWBEP/CM_MGW_RT/021"),
        (f"{_PLAIN}?$orderby=Nothing", 400, "/IWBEP/CM_MGW_RT/021"),
        (f"{_PLAIN}?$orderby=Id%20upwards", 400, _LIBRARY),
        (f"{_PLAIN}?$expand=Nothing", 400, "/IWBEP/CM_MGW_RT/021"),
        (f"{_PLAIN}?$top=-1", 400, _LIBRARY),
        (f"{_PLAIN}?$skip=many", 400, _LIBRARY),
        (f"{_PLAIN}?$inlinecount=some", 400, _LIBRARY),
        (f"{_PLAIN}?$format=yaml", 400, "/IWFND/CM_MGW/416"),
        (f"{_PLAIN}?$format=xlsx", 415, "/IWFND/CM_MGW/415"),
        (f"{_PLAIN}?$skiptoken=abc", 400, "/IWBEP/CM_MGW_RT/108"),
        (f"{_PLAIN}?sap-language=XX", 400, "/IWBEP/CM_MGW_RT/176"),
        (f"{_PLAIN}?!deltatoken='D1'", 400, _LIBRARY),
        (f"{_PLAIN}('1')", 400, _LIBRARY),
        (f"{_PLAIN}(Id='1',Line=1)", 404, "/IWBEP/CM_MGW_RT/022"),
        (f"{_SET}?$orderby=Id", 501, "/IWBEP/CM_MGW_RT/097"),
        (f"{_SET}?$skip=1", 501, "/IWBEP/CM_MGW_RT/097"),
        (f"{_SET}?$skiptoken=D1,50", 400, "/IWBEP/CM_MGW_RT/108"),
        (f"{_SET}?!deltatoken='D1'", 410, "/IWBEP/CM_MGW_RT/110"),
        ("/sap/opu/odata/sap/ZODP_SRV/DeltaLinksOfEntityOfZORDERS?$orderby=CreatedAt", 501, "/IWBEP/CM_MGW_RT/097"),
        ("/sap/opu/odata/sap/ZODP_SRV/DeltaLinksOfEntityOfZORDERS('D1')/ChangesAfter", 410, "/IWBEP/CM_MGW_RT/110"),
    ],
)
def test_what_the_gateway_refuses(gateway: Gateway, path: str, status: int, code: str) -> None:
    said = ask(gateway, path)
    assert said.status == status, said.text
    assert said.code.startswith(code), said.text
    if code.startswith("/"):
        assert said.data["error"]["message"]["lang"]
        assert said.data["error"]["message"]["value"]


@pytest.mark.parametrize("user", [None, "EXTRACT:wrong", "NOBODY:secret", "EXTRACT"])
def test_who_may_not_log_on(gateway: Gateway, user: str | None) -> None:
    said = ask(gateway, _PLAIN, user=user)
    assert said.status == 401
    assert said.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_a_media_type_that_it_does_not_have(gateway: Gateway) -> None:
    assert ask(gateway, _PLAIN, Accept="text/csv").status == 406


def test_whoever_writes_needs_a_token_and_may_not(gateway: Gateway) -> None:
    assert ask(gateway, _PLAIN, method="POST").headers["x-csrf-token"] == "Required"
    fetched = ask(gateway, f"{_PLAIN}?$top=1", X_CSRF_Token="Fetch")
    cookie = fetched.headers["Set-Cookie"].partition(";")[0]
    token = fetched.headers["X-CSRF-Token"]
    assert ask(gateway, _PLAIN, method="POST", X_CSRF_Token=token).status == 403
    assert ask(gateway, _PLAIN, method="POST", X_CSRF_Token=token, Cookie=cookie).status == 405


def test_an_access_token_ends(gateway: Gateway) -> None:
    def token(secret: str) -> Asked:
        request = Request(f"{gateway.url}/sap/bc/sec/oauth2/token", method="POST")
        request.data = f"grant_type=client_credentials&client_id=app&client_secret={secret}".encode()
        with build_opener(_Quiet).open(request, timeout=20) as reply:
            return Asked(reply.status, reply.headers, reply.read())

    assert token("wrong").status == 401
    bearer = f"Bearer {token('hush').data['access_token']}"
    assert ask(gateway, _PLAIN, user=None, Authorization=bearer).status == 200
    gateway.access = dict.fromkeys(gateway.access, gateway.now())
    assert ask(gateway, _PLAIN, user=None, Authorization=bearer).status == 401


def _all(gateway: Gateway, path: str, **headers: str) -> tuple[list[dict[str, Any]], str | None, list[Asked]]:
    rows: list[dict[str, Any]] = []
    said = [ask(gateway, path, **headers)]
    while True:
        assert said[-1].status == 200, said[-1].text
        body = said[-1].data["d"]
        rows += body["results"]
        if "__next" not in body:
            return rows, body.get("__delta"), said
        said.append(ask(gateway, body["__next"]))


def test_the_initial_load_and_its_deltas_have_no_gap(gateway: Gateway, extracted: EntitySet) -> None:
    first = ask(gateway, _SET, Prefer="odata.track-changes, odata.maxpagesize=40")
    assert first.headers["Preference-Applied"] == "odata.maxpagesize=40, odata.track-changes"
    # Changes while the pages of the initial load are read are in the first delta, not in those pages.
    extracted.put(row(200), row(1, Amount="9.99"))
    _, link, said = _all(gateway, first.data["d"]["__next"])
    assert [len(one.data["d"]["results"]) for one in [first, *said]] == [40, 40, 40]
    assert link is not None
    extracted.delete("0000000002")
    changes, following, _ = _all(gateway, link)
    seen = [(one["Id"], one["ODQ_CHANGEMODE"], one["Amount"]) for one in changes]
    assert seen == [("0000000200", "C", "200.50"), ("0000000001", "U", "9.99"), ("0000000002", "D", None)]
    assert following is not None
    # Asked again, it says the same, whatever happened since; the token that follows confirms it, and it is gone.
    extracted.put(row(201))
    assert _all(gateway, link)[:2] == (changes, following)
    assert [one["Id"] for one in _all(gateway, following)[0]] == ["0000000201"]
    assert ask(gateway, link).code == "/IWBEP/CM_MGW_RT/110"


def test_a_new_initial_load_ends_what_was_subscribed(gateway: Gateway) -> None:
    _, link, _ = _all(gateway, _SET, Prefer="odata.track-changes")
    assert link is not None
    service = "/sap/opu/odata/sap/ZODP_SRV"
    flag = ask(gateway, f"{service}/SubscribedToEntityOfZORDERS").data["d"]["SubscribedToEntityOfZORDERS"]
    assert flag == {"SubscribedFlag": True}
    listed = ask(gateway, f"{service}/DeltaLinksOfEntityOfZORDERS").data["d"]["results"]
    assert [(one["DeltaToken"] in link, one["IsInitialLoad"]) for one in listed] == [(True, True)]
    changes = ask(gateway, f"{service}/DeltaLinksOfEntityOfZORDERS('{listed[0]['DeltaToken']}')/ChangesAfter")
    assert changes.data["d"]["results"] == []
    _all(gateway, _SET, Prefer="odata.track-changes")
    assert ask(gateway, link).status == 410
    ended = ask(gateway, f"{service}/TerminateDeltasForEntityOfZORDERS").data["d"]
    assert ended == {"TerminateDeltasForEntityOfZORDERS": {"ResultFlag": True}}
    assert ask(gateway, f"{service}/DeltaLinksOfEntityOfZORDERS").data["d"]["results"] == []


def test_without_the_preference_nothing_is_subscribed(gateway: Gateway) -> None:
    rows, link, said = _all(gateway, _SET)
    assert (len(rows), link, said[0].headers["Preference-Applied"]) == (120, None, None)


def test_links_may_name_a_host_that_only_the_gateway_knows(gateway: Gateway) -> None:
    gateway.host = "internal:8000"
    assert urlsplit(ask(gateway, _PLAIN).data["d"]["__next"]).netloc == "internal:8000"


def _client(url: str, user: str, password: str, client: str) -> dict[str, Any]:
    try:
        python = environment(_CLIENT.with_suffix(".txt"))
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    ran = subprocess.run(
        [python, _CLIENT, url, user, password, client], capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_another_client_reads_the_double(gateway: Gateway) -> None:
    found = _client(gateway.service_url("ZODP_SRV"), "EXTRACT", "secret", "100")
    known = found["sets"]["EntityOfZORDERS"]
    assert known["key"] == ["Id"]
    assert known["types"]["Changed"] == "Edm.DateTimeOffset"
    assert known["types"]["ODQ_CHANGEMODE"] == "Edm.String"
    assert found["labels"]["A_Document"]["Id"] == "Document"
    assert found["counts"] == {"A_Document": 120, "EntityOfZORDERS": 120}
    first = next(one for one in found["rows"]["A_Document"] if one["Id"] == "0000000007")
    assert (first["Amount"], first["Day"], first["Changed"]) == (
        "7.50",
        "2024-02-29 00:00:00+00:00",
        "2024-01-01 00:00:07+00:00",
    )
    assert len(found["rows"]["EntityOfZORDERS"]) == 120
    assert found["functions"]["SubscribedToEntityOfZORDERS"] is not None


def test_another_client_reads_the_real_server(cap_server: Cap) -> None:
    """What pyodata makes of V2 is what the connector has to make of it."""
    # Its links name this host, whatever the request named.
    found = _client(cap_server.v2.replace("127.0.0.1", "localhost"), cap_server.user, cap_server.password, "-")
    assert found["sets"]["Items"]["key"] == ["order_ID", "line"]
    assert found["sets"]["Orders"]["navigation"] == ["customer", "items"]
    assert found["sets"]["Zoo"]["types"]["moment"] == "Edm.DateTimeOffset"
    assert found["counts"]["Movements"] == len(found["rows"]["Movements"]) == 1234
    zoo = {one["ID"]: one for one in found["rows"]["Zoo"]}
    assert (zoo["1"]["long"], zoo["1"]["money"]) == ("9223372036854775807", "0.10")
    assert zoo["1"]["stamp"].startswith("2024-02-29 23:59:59.123")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("shop/Movements?$filter=ID+gt+1", 400),
        ("shop/Movements?$filter=nope%20gt%201", 400),
        ("shop/Movements?$foo=1", 400),
        ("shop/Movements?$format=xml", 501),
        ("shop/Movements('a')", 400),
        ("shop/Nothing", 404),
        ("closed/Customers", 403),
        ("odata/v2/shop/Movements?$filter=ID%20gtt%201", 400),
        ("odata/v2/shop/Nothing", 404),
    ],
)
def test_what_the_real_server_refuses(cap_server: Cap, path: str, status: int) -> None:
    assert cap_server.send("GET", path)[0] == status
