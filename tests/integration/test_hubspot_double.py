"""The double of HubSpot answers as the reference says, refuses what it refuses, and HubSpot's own client agrees."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.testing.hubspot import HubSpotDouble, Property
from tests.environments import NotInstalled, environment

_SERVERS = Path(__file__).parent.parent / "servers"
_START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_CONTACTS = "/crm/v3/objects/contacts"


class Clock:
    def __init__(self) -> None:
        self.moment = _START

    def __call__(self) -> datetime:
        return self.moment

    def go(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def double(clock: Clock) -> Iterator[HubSpotDouble]:
    with HubSpotDouble(now=clock) as server:
        for number in range(5):
            server.store.add("contacts", {"email": f"c{number}@example.com"})
            clock.go(1)
        yield server


class Answer:
    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status, self.headers, self.text = status, headers, text

    @property
    def data(self) -> Any:
        return json.loads(self.text)


def ask(
    double: HubSpotDouble, path: str, body: Any = None, *, token: str | None = HubSpotDouble.token, **more: Any
) -> Answer:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers["Content-Type"] = more.pop("content", "application/json")
    request = urllib.request.Request(f"{double.url}{path}", data=data, headers=headers, **more)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return Answer(reply.status, reply.headers, reply.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


def _filters(count: int) -> dict[str, Any]:
    return {"filters": [{"propertyName": "email", "operator": "EQ", "value": "x"}] * count}


def _search(**one: Any) -> dict[str, Any]:
    return {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "x", **one}]}]}


_SEARCH = f"{_CONTACTS}/search"
_READ = f"{_CONTACTS}/batch/read"
_LINKS = "/crm/v4/associations/contacts/companies/batch/read"
# path, body, status, what names the reason: category, or code of the detail.
_REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "page of none": (f"{_CONTACTS}?limit=0", None, 400, "INVALID_LIMIT"),
    "page of 101": (f"{_CONTACTS}?limit=101", None, 400, "INVALID_LIMIT"),
    "page of 51 with history": (f"{_CONTACTS}?limit=51&propertiesWithHistory=email", None, 400, "INVALID_LIMIT"),
    "limit in words": (f"{_CONTACTS}?limit=all", None, 400, "VALIDATION_ERROR"),
    "cursor of another endpoint": (f"{_CONTACTS}?after=https%3A%2F%2Fexample.com", None, 400, "VALIDATION_ERROR"),
    "unknown parameter": (f"{_CONTACTS}?fields=email", None, 400, "UNKNOWN_PARAMETER"),
    "archived in words": (f"{_CONTACTS}?archived=maybe", None, 400, "INVALID_BOOLEAN"),
    "unknown kind": ("/crm/v3/objects/widgets", None, 400, "Unable to infer object type from: widgets"),
    "unknown associated kind": (f"{_CONTACTS}?associations=widgets", None, 400, "Unable to infer object type"),
    "unknown record": (f"{_CONTACTS}/999", None, 404, "OBJECT_NOT_FOUND"),
    "live record as archived": (f"{_CONTACTS}/101?archived=true", None, 404, "OBJECT_NOT_FOUND"),
    "unknown property": ("/crm/v3/properties/contacts/nope", None, 404, "OBJECT_NOT_FOUND"),
    "properties of an unknown kind": ("/crm/v3/properties/widgets", None, 400, "Unable to infer object type"),
    "unknown schema": ("/crm/v3/schemas/widgets", None, 400, "Unable to infer object type"),
    "unknown path": ("/crm/v9/objects/contacts", None, 404, "resource not found"),
    "wrong method": (_SEARCH, "DELETE", 405, "Method Not Allowed"),
    "no JSON": (_SEARCH, b"{", 400, "VALIDATION_ERROR"),
    "an array": (_SEARCH, [], 400, "VALIDATION_ERROR"),
    "unknown key of a search": (_SEARCH, {"filter": []}, 400, "Unrecognized field filter"),
    "search page of 201": (_SEARCH, {"limit": 201}, 400, "INVALID_LIMIT"),
    "search past 10,000": (_SEARCH, {"limit": 100, "after": "9901"}, 400, "PAGING_LIMIT_EXCEEDED"),
    "search cursor in words": (_SEARCH, {"after": "next"}, 400, "VALIDATION_ERROR"),
    "six groups": (_SEARCH, {"filterGroups": [_filters(1)] * 6}, 400, "MAX_FILTER_GROUPS_EXCEEDED"),
    "seven filters": (_SEARCH, {"filterGroups": [_filters(7)]}, 400, "MAX_FILTERS_PER_GROUP_EXCEEDED"),
    "19 filters": (_SEARCH, {"filterGroups": [_filters(5)] * 3 + [_filters(4)]}, 400, "MAX_FILTERS_EXCEEDED"),
    "two sorts": (_SEARCH, {"sorts": ["email", "phone"]}, 400, "MAX_SORTS_EXCEEDED"),
    "unknown direction": (_SEARCH, {"sorts": [{"propertyName": "email", "direction": "UP"}]}, 400, "INVALID_DIRECTION"),
    "sort by what is not": (_SEARCH, {"sorts": ["nope"]}, 400, "PROPERTY_DOESNT_EXIST"),
    "filter of what is not": (_SEARCH, _search(propertyName="nope"), 400, "PROPERTY_DOESNT_EXIST"),
    "unknown operator": (_SEARCH, _search(operator="LIKE"), 400, "is not one of the operators"),
    "unknown key of a filter": (_SEARCH, _search(negate=True), 400, "Unrecognized field negate"),
    "filter without value": (_SEARCH, _search(value=""), 400, "value must be non-empty"),
    "IN without values": (_SEARCH, _search(operator="IN"), 400, "values must be non-empty"),
    "BETWEEN without end": (_SEARCH, _search(operator="BETWEEN"), 400, "highValue must be set"),
    "time in words": (_SEARCH, _search(propertyName="createdate", value="today"), 400, "INVALID_FILTER_VALUE"),
    "search too long": (_SEARCH, {"properties": ["p" * 100] * 30}, 400, "REQUEST_TOO_LARGE"),
    "search as a form": (_SEARCH, b"a=b", 415, "Unsupported Media Type"),
    "batch without inputs": (_READ, {"properties": []}, 400, "Some required fields were not set"),
    "empty batch": (_READ, {"inputs": []}, 400, "INVALID_BATCH_SIZE"),
    "batch of 101": (_READ, {"inputs": [{"id": "1"}] * 101}, 400, "INVALID_BATCH_SIZE"),
    "batch of 51 with history": (
        _READ,
        {"inputs": [{"id": "1"}] * 51, "propertiesWithHistory": ["email"]},
        400,
        "INVALID_BATCH_SIZE",
    ),
    "batch of bare ids": (_READ, {"inputs": ["1"]}, 400, "VALIDATION_ERROR"),
    "batch with more keys": (_READ, {"inputs": [{"id": "1"}], "limit": 5}, 400, "Unrecognized field limit"),
    "1,001 associations": (_LINKS, {"inputs": [{"id": "1"}] * 1001}, 400, "INVALID_BATCH_SIZE"),
    "associations of words": (_LINKS, {"inputs": [{"id": "one"}]}, 400, "VALIDATION_ERROR"),
    "associations with an unknown kind": (
        "/crm/v4/associations/contacts/widgets/batch/read",
        {"inputs": [{"id": "1"}]},
        400,
        "Unable to infer object type",
    ),
    "501 ends": ("/crm/v4/objects/contacts/101/associations/companies?limit=501", None, 400, "INVALID_LIMIT"),
    "ends of nobody": ("/crm/v4/objects/contacts/999/associations/companies", None, 404, "OBJECT_NOT_FOUND"),
    "address too long": (f"{_CONTACTS}?properties=" + "p" * 8000, None, 414, "Too Large"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_it_refuses(double: HubSpotDouble, case: str) -> None:
    path, body, status, reason = _REFUSED[case]
    more: dict[str, Any] = {}
    if body == "DELETE":
        body, more = None, {"method": "DELETE"}
    if case == "search as a form":
        more["content"] = "application/x-www-form-urlencoded"
    answer = ask(double, path, body, **more)
    assert answer.status == status, answer.text
    assert reason in answer.text
    if status != 414:
        assert answer.data["status"] == "error"
        assert answer.data["correlationId"]


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("grant_type", "password", "BAD_GRANT_TYPE"),
        ("client_id", "other", "BAD_CLIENT_ID"),
        ("client_secret", "wrong", "BAD_CLIENT_SECRET"),
        ("refresh_token", "old", "BAD_REFRESH_TOKEN"),
    ],
)
def test_the_token_endpoint_refuses(double: HubSpotDouble, key: str, value: str, status: str) -> None:
    form = {
        "grant_type": "refresh_token",
        "client_id": double.client_id,
        "client_secret": double.client_secret,
        "refresh_token": double.refresh_token,
        key: value,
    }
    body = urllib.parse.urlencode(form).encode()
    answer = ask(double, "/oauth/v1/token", body, token=None, content="application/x-www-form-urlencoded")
    assert (answer.status, answer.data["status"]) == (400, status)
    assert ask(double, "/oauth/v1/token", form, token=None).status == 415


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_is_let_in_without_a_token(double: HubSpotDouble, token: str | None) -> None:
    answer = ask(double, _CONTACTS, token=token)
    assert (answer.status, answer.data["category"]) == (401, "INVALID_AUTHENTICATION")


def test_a_token_of_oauth_expires(double: HubSpotDouble, clock: Clock) -> None:
    double.gate.tokens["t"] = clock() + timedelta(minutes=30)
    reply = ask(double, _CONTACTS, token="t")
    assert reply.status == 200
    assert reply.headers["X-HubSpot-RateLimit-Remaining"]
    assert reply.headers["X-HubSpot-RateLimit-Daily"] is None, "apps with OAuth have no daily limit"
    clock.go(1801)
    answer = ask(double, _CONTACTS, token="t")
    assert (answer.status, answer.data["category"]) == (401, "EXPIRED_AUTHENTICATION")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (_CONTACTS, "crm.objects.contacts.read"),
        ("/crm/v3/objects/tickets", "tickets"),
        ("/crm/v3/objects/orders", "crm.objects.orders.read"),
        ("/crm/v3/properties/deals", "crm.objects.deals.read"),
        ("/crm/v3/schemas", "crm.schemas.custom.read"),
    ],
)
def test_a_scope_is_missing(double: HubSpotDouble, path: str, scope: str) -> None:
    double.gate.scopes = {"crm.objects.companies.read"}
    answer = ask(double, path)
    assert (answer.status, answer.data["category"]) == (403, "MISSING_SCOPES")
    assert scope in answer.data["errors"][0]["context"]["requiredGranularScopes"]
    double.gate.scopes = {scope}
    assert ask(double, path).status == 200


def test_the_burst_limit_is_a_rolling_window(double: HubSpotDouble, clock: Clock) -> None:
    double.gate.burst = 3
    left = [ask(double, _CONTACTS).headers["X-HubSpot-RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    answer = ask(double, _CONTACTS)
    assert (answer.status, answer.data["policyName"], answer.data["errorType"]) == (
        429,
        "TEN_SECONDLY_ROLLING",
        "RATE_LIMIT",
    )
    clock.go(10)
    assert ask(double, _CONTACTS).status == 200


def test_the_day_ends_and_begins_again(double: HubSpotDouble, clock: Clock) -> None:
    double.gate.daily = 2
    assert ask(double, _CONTACTS).headers["X-HubSpot-RateLimit-Daily-Remaining"] == "1"
    ask(double, _CONTACTS)
    clock.go(3600)
    answer = ask(double, _CONTACTS)
    assert (answer.status, answer.data["policyName"]) == (429, "DAILY")
    clock.go(86_400)
    assert ask(double, _CONTACTS).status == 200


def test_search_has_a_limit_of_its_own_and_no_headers(double: HubSpotDouble, clock: Clock) -> None:
    answers = [ask(double, _SEARCH, {}) for _ in range(6)]
    assert [one.status for one in answers] == [200] * 5 + [429]
    assert answers[0].headers["X-HubSpot-RateLimit-Remaining"] is None
    assert answers[5].data["policyName"] == "SECONDLY"
    clock.go(1)
    assert ask(double, _SEARCH, {}).status == 200


def test_pages_follow_the_cursor_and_leave_unknown_properties_out(double: HubSpotDouble) -> None:
    seen, after = [], ""
    while True:
        page = ask(double, f"{_CONTACTS}?limit=2&properties=email,nope{after}").data
        seen += [one["properties"]["email"] for one in page["results"]]
        assert "nope" not in page["results"][0]["properties"]
        if "paging" not in page:
            break
        after = f"&after={page['paging']['next']['after']}"
    assert seen == [f"c{number}@example.com" for number in range(5)]


def test_a_deleted_record_is_read_as_archived_only(double: HubSpotDouble) -> None:
    double.store.archive("contacts", 102)
    assert [one["id"] for one in ask(double, _CONTACTS).data["results"]] == ["101", "103", "104", "105"]
    gone = ask(double, f"{_CONTACTS}?archived=true").data["results"]
    assert [(one["id"], one["archived"], one["archivedAt"][:4]) for one in gone] == [("102", True, "2026")]
    batch = ask(double, _READ, {"inputs": [{"id": "101"}, {"id": "102"}]})
    assert (batch.status, batch.data["errors"][0]["context"]["ids"]) == (207, ["102"])
    assert [one["id"] for one in ask(double, _SEARCH, {}).data["results"]] == ["101", "103", "104", "105"]


def test_search_shows_a_change_when_the_index_has_it(double: HubSpotDouble, clock: Clock) -> None:
    clock.go(60)
    double.search_lag = 30
    double.store.change("contacts", 101, email="new@example.com")
    double.store.add("contacts", {"email": "new@example.com"})
    body = _search(value="NEW@example.com")
    assert ask(double, _SEARCH, body).data["total"] == 0
    assert ask(double, _SEARCH, _search(value="c0@example.com")).data["total"] == 1
    clock.go(30)
    assert ask(double, _SEARCH, body).data["total"] == 2


@pytest.mark.parametrize(
    ("one", "ids"),
    [
        ({"operator": "BETWEEN", "value": "1767268801000", "highValue": "1767268802000"}, ["102", "103"]),
        ({"operator": "GT", "value": "2026-01-01T12:00:02.000Z"}, ["104", "105"]),
        ({"operator": "LTE", "value": "1767268800000"}, ["101"]),
        ({"propertyName": "hs_object_id", "operator": "IN", "values": ["101", "105"]}, ["101", "105"]),
        ({"propertyName": "phone", "operator": "HAS_PROPERTY"}, []),
        ({"propertyName": "email", "operator": "CONTAINS_TOKEN", "value": "c3*"}, ["104"]),
        ({"propertyName": "email", "operator": "NEQ", "value": "c0@example.com"}, ["102", "103", "104", "105"]),
    ],
)
def test_search_finds(double: HubSpotDouble, one: dict[str, Any], ids: list[str]) -> None:
    body = {"filterGroups": [{"filters": [{"propertyName": "createdate", **one}]}], "sorts": ["hs_object_id"]}
    assert [found["id"] for found in ask(double, _SEARCH, body).data["results"]] == ids


def test_associations_are_paged_for_each_record(double: HubSpotDouble) -> None:
    double.association_page = 2
    companies = [double.store.add("companies", {"name": f"{number}"}) for number in range(3)]
    for company in companies:
        double.store.link("contacts", 101, "companies", company)
    first = ask(double, _LINKS, {"inputs": [{"id": "101"}, {"id": "102"}]})
    assert first.status == 207
    assert first.data["errors"][0]["subCategory"] == "crm.associations.NO_ASSOCIATIONS_FOUND"
    (one,) = first.data["results"]
    assert [end["toObjectId"] for end in one["to"]] == companies[:2]
    rest = ask(double, _LINKS, {"inputs": [{"id": "101", "after": one["paging"]["next"]["after"]}]}).data
    assert [end["toObjectId"] for end in rest["results"][0]["to"]] == companies[2:]
    alone = ask(double, "/crm/v4/objects/contacts/101/associations/companies").data
    assert [end["toObjectId"] for end in alone["results"]] == companies


def test_the_clients_of_others_read_it(double: HubSpotDouble) -> None:
    try:
        python = environment(_SERVERS / "hubspot_client.txt")
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    double.store.define("cars", Property("colour"))
    double.store.add("cars", {"colour": "red"})
    company = double.store.add("companies", {"name": "Acme"})
    double.store.link("contacts", 101, "companies", company, label="Boss")
    double.store.change("contacts", 101, email="boss@example.com")
    double.store.archive("contacts", 103)
    done = subprocess.run(
        [
            python,
            _SERVERS / "hubspot_client.py",
            double.url,
            double.token,
            double.client_id,
            double.client_secret,
            double.refresh_token,
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    types = said.pop("types")
    assert types["phone"] == "phone_number"
    assert types["lastmodifieddate"] == "datetime"
    assert said == {
        "token": ["bearer", double.refresh_token, 1800],
        "all": ["101", "102", "104", "105"],
        "pages": [2, 2],
        "first": ["101", "boss@example.com", False, "2026-01-01T12:00:00+00:00"],
        "associated": [str(company)],
        "archived": [["103", "2026-01-01T12:00:05+00:00"]],
        "search": [3, ["105", "104", "102"]],
        "history": [["boss@example.com", "INTEGRATION"], ["c0@example.com", "INTEGRATION"]],
        "links": [[str(company), [["USER_DEFINED", 1, "Boss"]]]],
        "one": "boss@example.com",
        "schemas": [["cars", "2-4711"]],
        "custom": ["red"],
        "refused": {
            "limit": [400, "VALIDATION_ERROR"],
            "kind": [400, "error"],
            "token": [401, "INVALID_AUTHENTICATION"],
        },
    }
