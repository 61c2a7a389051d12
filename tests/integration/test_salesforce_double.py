"""The double of Salesforce: what it answers, what it refuses, and that clients by others can work with it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.testing.salesforce import Salesforce, Sundial
from tests.environments import NotInstalled, environment, modules

_START = datetime(2024, 3, 1, 12, tzinfo=UTC)
_SERVERS = Path(__file__).parent.parent / "servers"
_V = "/services/data/v60.0"
_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """A private key and its public one, as PEM."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = made.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class Answered:
    status: int
    headers: Any
    text: str

    @property
    def data(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        found = self.data
        return str(found[0]["errorCode"] if isinstance(found, list) else found["error"])


@dataclass
class World:
    double: Salesforce
    clock: Sundial
    token: str

    def send(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Answered:
        sent = {
            "Authorization": f"Bearer {token or self.token}",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        data = None
        if isinstance(body, dict | list):
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        elif body is not None:
            data = body.encode()
        request = urllib.request.Request(self.double.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return Answered(response.status, response.headers, response.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answered(error.code, error.headers, error.read().decode())

    def get(self, path: str, **headers: str) -> Answered:
        return self.send("GET", path if path.startswith("/services") else _V + path, **headers)

    def query(self, soql: str, call: str = "query", **headers: str) -> Answered:
        return self.get(f"/{call}?q={urllib.parse.quote(soql)}", **headers)

    def found(self, soql: str, call: str = "query") -> list[Any]:
        """The first column of what a query finds."""
        answered = self.query(soql, call)
        assert answered.status == 200, answered.text
        return [next(v for k, v in one.items() if k != "attributes") for one in answered.data["records"]]

    def job(self, soql: str, operation: str = "query", **more: str) -> str:
        made = self.send("POST", f"{_V}/jobs/query", {"operation": operation, "query": soql, **more})
        assert made.status == 200, made.text
        return str(made.data["id"])

    def token_for(self, **form: str) -> Answered:
        body = urllib.parse.urlencode(form)
        headers = {"Content_Type": "application/x-www-form-urlencoded"}
        return self.send("POST", "/services/oauth2/token", body, token="none", **headers)


@pytest.fixture
def world() -> Iterator[World]:
    clock = Sundial(_START)
    with Salesforce(now=clock) as double:
        yield World(double, clock, double.sessions.open())


def _fill(double: Salesforce, count: int = 5) -> list[str]:
    at = _START - timedelta(days=1)
    return [
        double.org.insert("Account", Name=f"A{number:04d}", Type=("Customer", "Partner")[number % 2], at=at)
        for number in range(count)
    ]


# What it refuses: a request, the status, the code.
_QUERIES: list[tuple[str, str, str]] = [
    ("", "MALFORMED_QUERY", "an empty query"),
    ("SELECT Id, FROM Account", "MALFORMED_QUERY", "a comma too many"),
    ("SELECT Id Account", "MALFORMED_QUERY", "no FROM"),
    ("SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'", "MALFORMED_QUERY", "AND and OR mixed"),
    ("SELECT Id FROM Account WHERE Name = 'open", "MALFORMED_QUERY", "a text that does not end"),
    ("SELECT Id FROM Account WHERE Name = 'a\\x'", "MALFORMED_QUERY", "an unknown escape"),
    ("SELECT Id FROM Account LIMIT x", "MALFORMED_QUERY", "a limit that is no number"),
    ("SELECT Id FROM Account; DROP", "MALFORMED_QUERY", "a semicolon"),
    ("SELECT Id, Id FROM Account", "MALFORMED_QUERY", "a field twice"),
    ("SELECT Name, COUNT(Id) FROM Account", "MALFORMED_QUERY", "a field that is not grouped"),
    ("SELECT Name n FROM Account", "MALFORMED_QUERY", "an alias of a field"),
    ("SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY", "FIELDS without LIMIT"),
    ("SELECT MAX(Description) FROM Account", "MALFORMED_QUERY", "an aggregate of a long text"),
    ("SELECT Id FROM Account ORDER BY Description", "MALFORMED_QUERY", "sorted by a long text"),
    ("SELECT COUNT(Id) FROM Account GROUP BY CreatedDate", "MALFORMED_QUERY", "grouped by a time"),
    ("SELECT Id FROM Account WHERE Id IN (SELECT Name FROM Contact)", "MALFORMED_QUERY", "a semi-join by name"),
    (
        "SELECT Id FROM Account WHERE Name = 'a' OR Id IN (SELECT AccountId FROM Contact)",
        "MALFORMED_QUERY",
        "a semi-join beside OR",
    ),
    (
        "SELECT Id FROM Account WHERE Name = 'a' AND (NOT Id IN (SELECT AccountId FROM Contact))",
        "MALFORMED_QUERY",
        "a semi-join within NOT",
    ),
    (
        "SELECT Id FROM Account WHERE Id IN (SELECT AccountId FROM Contact) AND Id IN (SELECT AccountId FROM Order) "
        "AND Id NOT IN (SELECT AccountId FROM Opportunity)",
        "MALFORMED_QUERY",
        "three semi-joins",
    ),
    ("SELECT Id FROM Nope", "INVALID_TYPE", "an unknown object"),
    ("SELECT Nope FROM Account", "INVALID_FIELD", "an unknown field"),
    ("SELECT Nobody.Name FROM Account", "INVALID_FIELD", "an unknown relationship"),
    ("SELECT Id FROM Account WHERE SystemModstamp > '2024-01-01T00:00:00Z'", "INVALID_FIELD", "a time in quotes"),
    ("SELECT Id FROM Account WHERE SystemModstamp > 2024-01-01", "INVALID_FIELD", "a date for a time"),
    ("SELECT Id FROM Account WHERE Name = 5", "INVALID_FIELD", "a number for a text"),
    ("SELECT Id FROM Account WHERE AnnualRevenue = '5'", "INVALID_FIELD", "a text for a number"),
    ("SELECT Id FROM Account WHERE Description = 'x'", "INVALID_FIELD", "a condition on a long text"),
    ("SELECT Id FROM Account WHERE BillingAddress = 'x'", "INVALID_FIELD", "a condition on a compound field"),
    ("SELECT Id FROM Contact WHERE NationalId__c = 'x'", "INVALID_FIELD", "a condition on an encrypted field"),
    ("SELECT Id FROM Account WHERE Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR", "an id that is none"),
    ("SELECT Id FROM Account WHERE OwnerId LIKE '005%'", "INVALID_QUERY_FILTER_OPERATOR", "LIKE on an id"),
    ("SELECT Id FROM Account WHERE Name INCLUDES ('x')", "INVALID_QUERY_FILTER_OPERATOR", "INCLUDES on a text"),
    ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "an offset too far"),
]


@pytest.mark.parametrize(("soql", "code"), [one[:2] for one in _QUERIES], ids=[one[2] for one in _QUERIES])
def test_refuses_a_query(world: World, soql: str, code: str) -> None:
    answered = world.query(soql)
    assert (answered.status, answered.code) == (400, code)


_BULK: list[tuple[str, dict[str, str], str, str]] = [
    ("no operation", {"query": "SELECT Id FROM Account"}, "INVALIDJOB", "Operation"),
    ("an insert", {"operation": "insert", "query": "SELECT Id FROM Account"}, "INVALIDJOB", "Operation"),
    ("no query", {"operation": "query"}, "INVALIDJOB", "No query"),
    ("JSON", {"operation": "query", "query": "SELECT Id FROM Account", "contentType": "JSON"}, "INVALIDJOB", "JSON"),
    (
        "a delimiter",
        {"operation": "query", "query": "SELECT Id FROM Account", "columnDelimiter": ";"},
        "INVALIDJOB",
        ";",
    ),
    (
        "a line ending",
        {"operation": "query", "query": "SELECT Id FROM Account", "lineEnding": "CR"},
        "INVALIDJOB",
        "CR",
    ),
    ("an unknown key", {"operation": "query", "query": "SELECT Id FROM Account", "x": "y"}, "JSON_PARSER_ERROR", "x"),
    ("a count", {"operation": "query", "query": "SELECT COUNT() FROM Account"}, "API_ERROR", "Aggregate"),
    ("groups", {"operation": "query", "query": "SELECT Type FROM Account GROUP BY Type"}, "API_ERROR", "Aggregate"),
    ("an offset", {"operation": "query", "query": "SELECT Id FROM Account OFFSET 5"}, "API_ERROR", "Aggregate"),
    ("a compound", {"operation": "query", "query": "SELECT BillingAddress FROM Account"}, "API_ERROR", "compound"),
    ("a place", {"operation": "query", "query": "SELECT Site__c FROM Account"}, "API_ERROR", "compound"),
    ("an unknown field", {"operation": "query", "query": "SELECT Nope FROM Account"}, "API_ERROR", "INVALID_FIELD"),
    ("no SOQL", {"operation": "query", "query": "SELECT"}, "API_ERROR", "MALFORMED_QUERY"),
    ("an object", {"operation": "query", "query": "SELECT Id FROM Attachment"}, "INVALIDENTITY", "Attachment"),
]


@pytest.mark.parametrize(("body", "code", "says"), [one[1:] for one in _BULK], ids=[one[0] for one in _BULK])
def test_refuses_a_job(world: World, body: dict[str, str], code: str, says: str) -> None:
    answered = world.send("POST", f"{_V}/jobs/query", body)
    assert (answered.status, answered.code) == (400, code)
    assert says in answered.data[0]["message"]


_REQUESTS: list[tuple[str, str, str, int, str]] = [
    ("no query string", "GET", "/query", 400, "MALFORMED_QUERY"),
    ("an unknown path", "GET", "/nope", 404, "NOT_FOUND"),
    ("an unknown object", "GET", "/sobjects/Nope/describe", 404, "NOT_FOUND"),
    ("an unknown record", "GET", "/sobjects/Account/0015g0000000009AAA", 404, "NOT_FOUND"),
    ("an unknown job", "GET", "/jobs/query/7505g0000000009AAA", 404, "NOT_FOUND"),
    ("a method", "DELETE", "/limits", 405, "METHOD_NOT_ALLOWED"),
    ("a method of a query", "PUT", "/query", 405, "METHOD_NOT_ALLOWED"),
    ("an unknown locator", "GET", "/query/01g5g0000000009AAA-2000", 400, "INVALID_QUERY_LOCATOR"),
    ("no locator at all", "GET", "/query/hello", 400, "INVALID_QUERY_LOCATOR"),
    ("an address too long", "GET", "/query?q=SELECT+Id+FROM+Account" + "+" * 16384, 414, "URI_TOO_LONG"),
    ("a parameter of the jobs", "GET", "/jobs/query?nope=1", 400, "INVALIDJOB"),
    ("a version that is retired", "GET", "/services/data/v29.0/limits", 410, "UNSUPPORTED_API_VERSION"),
    ("a version that never was", "GET", "/services/data/v99.0/limits", 404, "NOT_FOUND"),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"), [one[1:] for one in _REQUESTS], ids=[one[0] for one in _REQUESTS]
)
def test_refuses_a_request(world: World, method: str, path: str, status: int, code: str) -> None:
    answered = world.send(method, path if path.startswith("/services") else _V + path)
    assert (answered.status, answered.code) == (status, code)


@pytest.mark.parametrize("size", ["199", "2001", "many"])
def test_refuses_a_batch_size(world: World, size: str) -> None:
    answered = world.query("SELECT Id FROM Account", Sforce_Query_Options=f"batchSize={size}")
    assert (answered.status, answered.code) == (400, "INVALID_BATCH_SIZE")


_TOKENS: list[tuple[str, dict[str, str], str]] = [
    ("no grant", {}, "unsupported_grant_type"),
    ("an unknown grant", {"grant_type": "implicit"}, "unsupported_grant_type"),
    ("a wrong app", {"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}, "invalid_client_id"),
    ("a wrong secret", {"grant_type": "client_credentials", "client_id": "3MVG9.app", "client_secret": "y"}, "invalid_client"),
    ("a wrong refresh token", {"grant_type": "refresh_token", "client_id": "3MVG9.app", "client_secret": "s3cret", "refresh_token": "x"}, "invalid_grant"),
    ("no refresh token", {"grant_type": "refresh_token", "client_id": "3MVG9.app", "client_secret": "s3cret"}, "invalid_request"),
    ("no assertion", {"grant_type": _JWT}, "invalid_grant"),
    ("an assertion that is none", {"grant_type": _JWT, "assertion": "a.b.c"}, "invalid_grant"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "error"), [one[1:] for one in _TOKENS], ids=[one[0] for one in _TOKENS])
def test_refuses_a_token(world: World, form: dict[str, str], error: str) -> None:
    answered = world.token_for(**form)
    assert (answered.status, answered.code) == (400, error)
    assert answered.data["error_description"]


_CLAIMS: list[tuple[str, dict[str, Any], str, str]] = [
    ("another app", {"iss": "other"}, "invalid_client_id", "client identifier"),
    ("another audience", {"aud": "https://example.com"}, "invalid_grant", "audience"),
    ("too late", {"exp": int(_START.timestamp()) - 1}, "invalid_grant", "expired"),
    ("a user who did not approve", {"sub": "x@example.com"}, "invalid_grant", "approved"),
]


@pytest.mark.parametrize(("claims", "error", "says"), [one[1:] for one in _CLAIMS], ids=[one[0] for one in _CLAIMS])
def test_refuses_an_assertion(
    world: World, key: tuple[str, str], claims: dict[str, Any], error: str, says: str
) -> None:
    world.double.sessions.app.certificate = key[1]
    good = {"iss": "3MVG9.app", "sub": "runner@example.com", "aud": "https://login.salesforce.com"}
    good |= {"exp": str(int(_START.timestamp()) + 180)}
    assert world.token_for(grant_type=_JWT, assertion=jwt.encode(good, key[0], "RS256")).status == 200
    refused = world.token_for(grant_type=_JWT, assertion=jwt.encode({**good, **claims}, key[0], "RS256"))
    assert (refused.status, refused.code) == (400, error)
    assert says in refused.data["error_description"]
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = world.token_for(grant_type=_JWT, assertion=jwt.encode(good, other, "RS256"))
    assert (forged.status, forged.code) == (400, "invalid_grant")


def test_the_token_endpoint_wants_post_and_the_flow_enabled(world: World) -> None:
    assert world.send("GET", "/services/oauth2/token").code == "invalid_request"
    world.double.sessions.app.run_as = None
    form = {"grant_type": "client_credentials", "client_id": "3MVG9.app", "client_secret": "s3cret"}
    assert world.token_for(**form).data["error_description"] == "no client credentials user enabled"
    world.double.sessions.logins = 0
    assert world.token_for(**form).data["error_description"] == "login rate exceeded"


def test_a_session_expires_and_needs_the_scope_of_the_api(world: World) -> None:
    assert world.get("/limits").status == 200
    world.clock.move(hours=2)
    late = world.get("/limits")
    assert (late.status, late.code) == (401, "INVALID_SESSION_ID")
    narrow = world.send("GET", f"{_V}/limits", token=world.double.sessions.open("id"))
    assert (narrow.status, narrow.code) == (403, "INVALID_SESSION_ID")
    nobody = world.send("GET", f"{_V}/limits", token="x")
    assert (nobody.status, nobody.code) == (401, "INVALID_SESSION_ID")


def test_counts_calls_and_refuses_when_they_are_spent(world: World) -> None:
    world.double.most_calls = 2
    assert world.get("/limits").headers["Sforce-Limit-Info"] == "api-usage=1/2"
    assert world.get("/services/data").headers["Sforce-Limit-Info"] is None
    assert world.get("/limits").data["DailyApiRequests"] == {"Max": 2, "Remaining": 0}
    spent = world.get("/limits")
    assert (spent.status, spent.code) == (403, "REQUEST_LIMIT_EXCEEDED")


def test_other_limits(world: World) -> None:
    world.double.concurrent = 0
    busy = world.get("/limits")
    assert (busy.status, busy.code) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert "Concurrent" in busy.text
    world.double.concurrent = None
    world.double.jobs.daily = 0
    full = world.send("POST", f"{_V}/jobs/query", {"operation": "query", "query": "SELECT Id FROM Account"})
    assert (full.status, full.code) == (400, "LIMIT_EXCEEDED")
    world.double.runner.most = 1
    assert world.query("SELECT Id, Name FROM Account").code == "QUERY_TOO_COMPLICATED"
    world.double.enabled = False
    assert world.get("/limits").code == "API_DISABLED_FOR_ORG"
    assert world.send("POST", f"{_V}/jobs/query", "text", Content_Type="text/plain").status == 403


def test_a_body_must_be_json(world: World) -> None:
    text = world.send("POST", f"{_V}/jobs/query", "x", Content_Type="text/plain")
    assert (text.status, text.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    broken = world.send("POST", f"{_V}/jobs/query", "{", Content_Type="application/json")
    assert (broken.status, broken.code) == (400, "JSON_PARSER_ERROR")


def test_a_field_without_permission_is_not_there(world: World) -> None:
    def names() -> set[str]:
        return {one["name"] for one in world.get("/sobjects/Account/describe").data["fields"]}

    assert "AnnualRevenue" in names()
    world.double.org.hide("Account", "AnnualRevenue")
    assert "AnnualRevenue" not in names()
    assert world.query("SELECT AnnualRevenue FROM Account").code == "INVALID_FIELD"
    world.double.org.hide("Contact")
    assert "Contact" not in world.get("/sobjects").text
    assert world.query("SELECT Id FROM Contact").code == "INVALID_TYPE"


def test_describes_fields_as_they_are(world: World) -> None:
    account = {one["name"]: one for one in world.get("/sobjects/Account/describe").data["fields"]}
    assert (account["BillingAddress"]["type"], account["BillingCity"]["compoundFieldName"]) == (
        "address",
        "BillingAddress",
    )
    assert (account["Site__c"]["type"], account["Site__Latitude__s"]["compoundFieldName"]) == ("location", "Site__c")
    assert (account["AnnualRevenue"]["precision"], account["AnnualRevenue"]["scale"]) == (18, 0)
    assert (account["NumberOfEmployees"]["type"], account["NumberOfEmployees"]["digits"]) == ("int", 9)
    task = {one["name"]: one for one in world.get("/sobjects/Task/describe").data["fields"]}
    assert task["WhoId"]["referenceTo"] == ["Contact", "Lead"]
    assert task["WhoId"]["polymorphicForeignKey"]
    types = {one["type"] for name in world.double.org.records for one in
             world.get(f"/sobjects/{name}/describe").data["fields"]}  # fmt: skip
    assert {"time", "base64", "encryptedstring", "multipicklist", "textarea", "percent", "date", "datetime"} <= types


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("Name = 'beta'", ["Beta"]),
        ("Name != 'Beta' AND Phone = null", ["Alpha", "Gamma"]),
        ("Phone != '1'", ["Alpha", "Beta", "Gamma"]),
        ("(Name = 'Alpha' OR Name = 'Beta') AND AnnualRevenue >= 20", ["Beta"]),
        ("NOT Name LIKE '%a%t%'", ["Alpha", "Beta", "Gamma"]),
        ("Name LIKE '_eta'", ["Beta"]),
        ("Name = 'Delta, \\'the\\' last'", ["Delta, 'the' last"]),
        ("Name IN ('Alpha', 'gamma')", ["Alpha", "Gamma"]),
        ("Name NOT IN ('Alpha', 'Gamma', 'Beta')", ["Delta, 'the' last"]),
        ("AnnualRevenue > 10 AND AnnualRevenue < 40", ["Beta", "Gamma"]),
        ("CreatedDate = TODAY AND NumberOfEmployees = null", ["Alpha", "Beta", "Delta, 'the' last", "Gamma"]),
        ("SystemModstamp > 2024-03-01T13:00:00+01:00", ["Gamma"]),
        ("SystemModstamp >= 2024-03-01T12:00:00Z AND SystemModstamp < 2024-03-01T12:00:01.500Z", ["Alpha", "Beta", "Delta, 'the' last"]),
        ("Owner.Name = 'integration'", ["Alpha", "Beta", "Delta, 'the' last", "Gamma"]),
        ("Tags__c INCLUDES ('b;c', 'x')", ["Beta"]),
        ("Id IN (SELECT AccountId FROM Order WHERE Status = 'Draft')", ["Beta"]),
        ("Id NOT IN (SELECT AccountId FROM Order)", ["Alpha", "Delta, 'the' last", "Gamma"]),
    ],
)  # fmt: skip
def test_finds_what_a_condition_says(world: World, where: str, names: list[str]) -> None:
    org = world.double.org
    org.insert("Account", Name="Alpha", AnnualRevenue=Decimal(10), Phone="")
    beta = org.insert("Account", Name="Beta", AnnualRevenue=Decimal(20), Phone="2", Tags__c="a;b;c")
    org.insert("Account", Name="Delta, 'the' last", AnnualRevenue=Decimal(40), Phone="1")
    gamma = org.insert("Account", Name="Gamma", AnnualRevenue=Decimal(30))
    org.update(gamma, at=_START + timedelta(seconds=2))
    org.insert("Order", AccountId=beta, OrderNumber="1", EffectiveDate=date(2024, 1, 1), Status="Draft", TotalAmount=1)
    assert world.found(f"SELECT Name FROM Account WHERE {where} ORDER BY Name") == names


def test_aggregates_and_ids(world: World) -> None:
    ids = _fill(world.double)
    assert world.query("SELECT COUNT() FROM Account").data == {"totalSize": 5, "done": True, "records": []}
    both = world.query("SELECT MAX(SystemModstamp) newest, MIN(Name), COUNT(Id) FROM Account").data["records"][0]
    assert both == {
        "attributes": {"type": "AggregateResult"},
        "newest": "2024-02-29T12:00:00.000+0000",
        "expr0": "A0000",
        "expr1": 5,
    }
    assert world.found("SELECT COUNT(Id) n FROM Account GROUP BY Type") == [3, 2]
    assert world.found("SELECT MAX(SystemModstamp) FROM Contact") == [None]
    assert world.found(f"SELECT Id FROM Account WHERE Id > '{ids[2]}' ORDER BY Id") == ids[3:]
    assert world.found(f"SELECT Id FROM Account WHERE Id = '{ids[2][:15]}'") == [ids[2]]
    assert world.found("SELECT Id FROM Account ORDER BY Id DESC LIMIT 2 OFFSET 1") == [ids[3], ids[2]]
    assert all(len(one) == 18 for one in ids)


def test_pages_by_its_cursor_and_forgets_the_oldest(world: World) -> None:
    ids = _fill(world.double, 450)
    soql = "SELECT Id, Name FROM Account ORDER BY Id"
    first = world.query(soql, Sforce_Query_Options="batchSize=200").data
    assert (first["totalSize"], first["done"], len(first["records"])) == (450, False, 200)
    # The ids are those of the query, the values are those of the page.
    world.double.org.update(ids[300], Name="changed")
    second = world.get(first["nextRecordsUrl"]).data
    assert second["records"][100]["Name"] == "changed"
    third = world.get(second["nextRecordsUrl"]).data
    assert third["done"]
    assert "nextRecordsUrl" not in third
    assert [one["Id"] for page in (first, second, third) for one in page["records"]] == ids
    assert world.get(second["nextRecordsUrl"]).data == third
    again = world.query(soql, Sforce_Query_Options="batchSize=200").data["nextRecordsUrl"]
    for _ in range(world.double.cursors):
        assert world.get(again).status == 200
        world.query(soql, Sforce_Query_Options="batchSize=200")
    assert world.get(again).code == "INVALID_QUERY_LOCATOR"
    last = world.query(soql, Sforce_Query_Options="batchSize=200").data["nextRecordsUrl"]
    world.clock.move(minutes=14)
    assert world.get(last).status == 200
    world.clock.move(minutes=14)
    assert world.get(last).status == 200
    world.clock.move(minutes=15)
    assert world.get(last).code == "INVALID_QUERY_LOCATOR"


def test_the_recycle_bin_is_in_query_all_alone(world: World) -> None:
    ids = _fill(world.double)
    world.double.org.delete(ids[0], at=_START)
    assert world.found("SELECT Id FROM Account ORDER BY Id") == ids[1:]
    assert world.found("SELECT Id FROM Account WHERE IsDeleted = true", "queryAll") == ids[:1]
    assert world.found(f"SELECT SystemModstamp FROM Account WHERE Id = '{ids[0]}'", "queryAll") == [
        "2024-03-01T12:00:00.000+0000"
    ]
    assert world.get(f"/sobjects/Account/{ids[0]}").code == "ENTITY_IS_DELETED"
    world.double.org.purge(ids[0])
    assert world.found("SELECT Id FROM Account WHERE IsDeleted = true", "queryAll") == []
    counted = world.get("/limits/recordCount?sObjects=Account,Nope").data
    assert counted == {"sObjects": [{"count": 4, "name": "Account"}]}


def test_values_in_json_and_in_csv(world: World) -> None:
    org = world.double.org
    account = org.insert(
        "Account", Name='a "quoted"\nname, and more', AnnualRevenue=Decimal(12_345_678), Rating__c=Decimal("12.5"),
        NumberOfEmployees=7, BillingCity="Rome", BillingLatitude=0.00012, Description="",
    )  # fmt: skip
    order = org.insert(
        "Order", OrderNumber="1", EffectiveDate=date(2024, 2, 29), Status="Draft", TotalAmount=Decimal("0.1")
    )
    org.insert(
        "Shipment__c", Name="S", Order__c=order, PickupAt__c=_START, Window__c=datetime(2024, 1, 1, 9, 30).time()
    )
    soql = (
        "SELECT Name, AnnualRevenue, Rating__c, NumberOfEmployees, BillingLatitude, Description, IsDeleted FROM Account"
    )
    row = world.query(soql).data["records"][0]
    assert row["attributes"] == {"type": "Account", "url": f"{_V}/sobjects/Account/{account}"}
    values = ['a "quoted"\nname, and more', 12345678.0, 12.5, 7, 0.00012, None, False]
    assert list(row.values())[1:] == values
    whole = world.query("SELECT BillingAddress, Owner.Name, Parent.Name FROM Account").data["records"][0]
    assert (whole["BillingAddress"]["city"], whole["Owner"]["Name"], whole["Parent"]) == ("Rome", "Integration", None)
    shipment = world.query("SELECT PickupAt__c, Window__c, Order__r.EffectiveDate FROM Shipment__c").data["records"][0]
    assert (shipment["PickupAt__c"], shipment["Window__c"]) == ("2024-03-01T12:00:00.000+0000", "09:30:00.000Z")
    assert shipment["Order__r"]["EffectiveDate"] == "2024-02-29"

    def sheet(soql: str) -> list[list[str]]:
        job = world.job(soql)
        while world.get(f"/jobs/query/{job}").data["state"] != "JobComplete":
            pass
        return list(csv.reader(io.StringIO(world.get(f"/jobs/query/{job}/results").text)))

    header, line = sheet(soql)
    assert header == soql.removeprefix("SELECT ").removesuffix(" FROM Account").split(", ")
    assert line == ['a "quoted"\nname, and more', "1.2345678E7", "12.5", "7", "1.2E-4", "", "false"]
    assert sheet("SELECT PickupAt__c, Window__c, Order__r.EffectiveDate FROM Shipment__c")[1] == [
        "2024-03-01T12:00:00.000Z", "09:30:00.000Z", "2024-02-29",
    ]  # fmt: skip


def test_a_job_from_its_creation_to_its_end(world: World) -> None:
    ids = _fill(world.double, 25)
    world.double.jobs.page = 10
    made = world.send("POST", f"{_V}/jobs/query", {"operation": "query", "query": "SELECT Id FROM Account ORDER BY Id"})
    assert (made.data["state"], made.data["apiVersion"], made.data["object"]) == ("UploadComplete", 60.0, "Account")
    job = f"/jobs/query/{made.data['id']}"
    early = world.get(f"{job}/results")
    assert (early.status, early.code) == (400, "INVALIDJOBSTATE")
    assert world.send("DELETE", _V + job).code == "INVALIDJOBSTATE"
    assert [world.get(job).data["state"] for _ in range(2)] == ["InProgress", "JobComplete"]
    assert world.get(job).data["numberRecordsProcessed"] == 25
    read: list[str] = []
    locator = ""
    while locator != "null":
        part = world.get(f"{job}/results" + (f"?locator={locator}" if locator else ""))
        lines = part.text.split("\n")[:-1]
        assert lines[0] == '"Id"'
        assert len(lines) - 1 == int(part.headers["Sforce-NumberOfRecords"])
        read += [line.strip('"') for line in lines[1:]]
        locator = part.headers["Sforce-Locator"]
    assert read == ids
    few = world.get(f"{job}/results?maxRecords=4")
    assert (few.headers["Sforce-NumberOfRecords"], few.text.count("\n")) == ("4", 5)
    for bad in ("maxRecords=0", "locator=nope", "locator=OTk5LzE", "page=1"):
        assert world.get(f"{job}/results?{bad}").status == 400
    other = world.get(f"/services/data/v61.0{job}/results")
    assert (other.status, other.code) == (409, "API_VERSION_MISMATCH")
    assert world.send("PATCH", _V + job, {"state": "Aborted"}).code == "INVALIDJOBSTATE"
    assert world.send("DELETE", _V + job).status == 204
    assert world.get(job).status == 404


def test_result_pages_five_at_a_time(world: World) -> None:
    _fill(world.double, 62)
    world.double.jobs.page = 10
    world.double.jobs.polls = 0
    job = world.job("SELECT Id FROM Account")
    world.get(f"/jobs/query/{job}")
    first = world.get(f"/jobs/query/{job}/resultPages").data
    second = world.get(first["nextRecordsUrl"]).data
    assert [len(first["resultPages"]), first["done"], len(second["resultPages"]), second["done"]] == [5, False, 2, True]
    sizes = [
        int(world.get(one["resultUrl"]).headers["Sforce-NumberOfRecords"])
        for page in (first, second)
        for one in page["resultPages"]
    ]
    assert sizes == [10] * 6 + [2]


def test_jobs_fail_are_stopped_and_die_of_age(world: World) -> None:
    world.double.jobs.fails = ["InternalServerError : Retried more than 15 times"]
    failing = world.job("SELECT Id FROM Account")
    world.get(f"/jobs/query/{failing}")
    assert world.get(f"/jobs/query/{failing}").data["errorMessage"].startswith("InternalServerError")
    stopped = world.job("SELECT Id FROM Account", "queryAll", columnDelimiter="PIPE", lineEnding="CRLF")
    assert world.send("PATCH", f"{_V}/jobs/query/{stopped}", {"state": "Open"}).code == "INVALIDJOBSTATE"
    assert world.send("PATCH", f"{_V}/jobs/query/{stopped}", {"state": "Aborted"}).data["state"] == "Aborted"
    assert [one["operation"] for one in world.get("/jobs/query").data["records"]] == ["query", "queryAll"]
    world.clock.move(days=7)
    world.token = world.double.sessions.open()
    assert world.get(f"/jobs/query/{stopped}").status == 404


def _run(command: list[str | Path], script: bytes = b"", folder: Path | None = None) -> Any:
    done = subprocess.run(command, input=script, capture_output=True, timeout=120, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def test_simple_salesforce_works_with_it(key: tuple[str, str]) -> None:
    try:
        python = environment(_SERVERS / "salesforce_client.txt")
    except NotInstalled as error:
        _missing(str(error))
    with Salesforce() as double:
        ids = _fill(double, 2300)
        double.org.delete(ids[0])
        double.sessions.app.certificate = key[1]
        app = double.sessions.app
        script = _SERVERS / "salesforce_client.py"
        found = _run([python, script, double.url, app.client_id, app.client_secret, key[0]])
        names = [f"A{number:04d}" for number in range(1, 2300)]
        assert found["instance"] == double.url.removeprefix("http://")
        assert found["by_key"] == 2299
        assert found["versions"] == 36
        assert {"Account", "Shipment__c"} <= set(found["objects"])
        assert (found["fields"]["MailingAddress"], found["fields"]["Birthdate"]) == ("address", "date")
        assert "Shipment__c" in found["references"]
        assert found["all"] == names
        assert found["owners"] == ["Integration", "Integration"]
        assert found["deleted"] == 1
        assert [one["n"] for one in found["group"]] == [1150, 1149]
        assert found["record"] == "A0001"
        rows = [one for part in found["bulk"] for one in csv.DictReader(io.StringIO(part))]
        assert [one["Name"] for one in rows] == names
        assert len(found["bulk"]) == 575
        assert [line for line in found["bulk_all"][0].splitlines() if ids[0] in line]
        assert found["limits"] == 100_000
        assert found["usage"][1] == 100_000
        assert found["refused"] == [
            ["SalesforceMalformedRequest", 400, "INVALID_FIELD"],
            ["SalesforceMalformedRequest", 400, "INVALID_TYPE"],
            ["SalesforceMalformedRequest", 400, "INVALID_QUERY_LOCATOR"],
            ["SalesforceMalformedRequest", 400, "API_ERROR"],
            ["SalesforceResourceNotFound", 404, "NOT_FOUND"],
        ]


@pytest.mark.timeout(600)
def test_jsforce_works_with_it() -> None:
    try:
        node, folder = modules(_SERVERS / "salesforce_client.json")
    except NotInstalled as error:
        _missing(str(error))
    script = (_SERVERS / "salesforce_client.js").read_bytes()
    with Salesforce() as double:
        ids = _fill(double, 450)
        double.org.delete(ids[0])
        # One set of results is enough: the stream that jsforce 3.10.16 writes them into ends with the first.
        app = double.sessions.app
        token = next(iter(app.refresh_tokens))
        found = _run([node, "-", double.url, app.client_id, app.client_secret, token], script, folder)
        assert found == {
            "all": 449,
            "first": "A0001",
            "compound": ["BillingAddress"],
            "bulk": 449,
            "bulkNames": ["string"],
            "bulkAll": 450,
            "global": len(double.org.objects),
            "usage": 100_000,
            "refused": ["MALFORMED_QUERY", "INVALID_FIELD", "INVALID_QUERY_LOCATOR", "API_ERROR", "invalid_grant"],
        }
        assert double.count("oauth2/token", status=200) == 1
