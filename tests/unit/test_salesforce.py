"""The source salesforce without a server: SOQL, ranges of ids, configuration, describes, errors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from connectors.http import Reply
from connectors.salesforce import ranges, soql
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.describe import make_table
from connectors.salesforce.faults import BulkUnsupported, CursorGone, FieldMissing, judge, usage
from runner.errors import (
    CredentialsRejected,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    StatementTooLong,
    TableChanged,
    TableMissing,
    Throttled,
)
from runner.jobfile import load_job
from runner.source import Column, Scan, Table, Window

_STAMP = Column("SystemModstamp", pa.timestamp("us", "UTC"), nullable=False)
_CLOSED = Column("CloseDate", pa.date32())
_TABLE = Table(
    "salesforce", "Order", (Column("Id", pa.string(), nullable=False), _STAMP, _CLOSED), detail={"object": "Order"}
)


def _scan(window: Window | None = None, where: str | None = None) -> Scan:
    return Scan(_TABLE, _TABLE.columns, where, window)


@pytest.mark.parametrize(
    ("window", "where", "said"),
    [
        (None, None, []),
        (None, "Status = 'x' OR Status = 'y'", ["(Status = 'x' OR Status = 'y')"]),
        (Window("SystemModstamp"), None, []),
        (Window("SystemModstamp", "2024-03-01 12:00:00+00"), None, ["SystemModstamp > 2024-03-01T12:00:00.000Z"]),
        (
            Window(
                "SystemModstamp",
                "2024-03-01 12:00:00.25+00",
                "2024-03-02 00:00:00+00",
                from_start=True,
                before_end=True,
            ),
            "A = 1",
            ["(A = 1)", "SystemModstamp >= 2024-03-01T12:00:00.250Z", "SystemModstamp < 2024-03-02T00:00:00.000Z"],
        ),
        (Window("CloseDate", end="2024-03-01"), None, ["(CloseDate <= 2024-03-01 OR CloseDate = null)"]),
        (Window("CloseDate", "2024-03-01", nulls=False), None, ["CloseDate > 2024-03-01", "CloseDate != null"]),
        (
            Window("CloseDate", "2024-03-01", "2024-04-01"),
            None,
            ["((CloseDate > 2024-03-01 AND CloseDate <= 2024-04-01) OR CloseDate = null)"],
        ),
    ],
)
def test_conditions(window: Window | None, where: str | None, said: list[str]) -> None:
    assert soql.make_conditions(_scan(window, where)) == said


def test_statements() -> None:
    window = Window("SystemModstamp", "2024-03-01 12:00:00+00", from_start=True)
    assert soql.make_query(_scan(window), {"after": "801A", "until": "801B"}, ordered=True) == (
        "SELECT Id, SystemModstamp, CloseDate FROM Order WHERE SystemModstamp >= 2024-03-01T12:00:00.000Z "
        "AND Id > '801A' AND Id <= '801B' ORDER BY Id"
    )
    assert soql.make_query(_scan(window), {"child": ["OrderItem", "OrderId"]}, ordered=False) == (
        "SELECT Id, SystemModstamp, CloseDate FROM Order WHERE Id IN "
        "(SELECT OrderId FROM OrderItem WHERE SystemModstamp >= 2024-03-01T12:00:00.000Z)"
    )
    few = Scan(_TABLE, (_CLOSED,))
    assert soql.make_query(few, {}, ordered=False) == "SELECT Id, CloseDate FROM Order"


def test_texts_and_marks() -> None:
    assert soql.text("it's \\ a\nline") == "'it\\'s \\\\ a\\nline'"
    assert soql.as_mark("2024-03-01T13:00:00.000+0100") == "2024-03-01 12:00:00+00"


@pytest.mark.parametrize("parts", [2, 5, 64])
def test_ranges_cover_everything_evenly(parts: int) -> None:
    first, last = "0015g00000000001AA", "0015g0000002zzzAAA"
    cuts = ranges.split(first, last, parts)
    assert len(cuts) == parts - 1
    assert all(len(one) == 15 for one in cuts)
    edges = [first[:15], *cuts, last[:15]]
    assert edges == sorted(edges)
    spans = [ranges._number(b) - ranges._number(a) for a, b in itertools.pairwise(edges)]
    assert max(spans) - min(spans) <= 1


@pytest.mark.parametrize(("first", "last"), [("001A", "001A"), ("001-", "001z"), ("001B", "001A")])
def test_ranges_that_cannot_be_split(first: str, last: str) -> None:
    assert ranges.split(first, last, 4) == []


_GOOD = {"domain": "acme.my", "client_id": "c", "client_secret": "s"}


@pytest.mark.parametrize(
    ("changed", "url", "login"),
    [
        ({}, "https://acme.my.salesforce.com", "https://login.salesforce.com"),
        (
            {"domain": "acme--dev.sandbox.my.salesforce.com"},
            "https://acme--dev.sandbox.my.salesforce.com",
            "https://test.salesforce.com",
        ),
        (
            {"domain": None, "instance_url": "https://crm.example.com/"},
            "https://crm.example.com",
            "https://login.salesforce.com",
        ),
        ({"audience": "https://x.example.com"}, "https://acme.my.salesforce.com", "https://x.example.com"),
    ],
)
def test_where_an_organisation_is(changed: dict[str, Any], url: str, login: str) -> None:
    config = SalesforceConfig.model_validate({**_GOOD, **changed})
    assert (config.url, config.login) == (url, login)
    assert "client_secret" not in repr(config)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"instance_url": "https://x"}, "either domain or instance_url"),
        ({"domain": None}, "either domain or instance_url"),
        ({"client_id": None}, "client_id is missing"),
        ({"client_secret": None}, "refresh_token, or client_secret"),
        ({"private_key": "k"}, "needs username"),
        ({"api_version": "v62.0"}, "pattern"),
        ({"batch_size": 2001}, "2000"),
        ({"bulk": "sometimes"}, "auto"),
        ({"nope": 1}, "Extra"),
    ],
)
def test_refuses_a_configuration(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SalesforceConfig.model_validate({**_GOOD, **changed})


def test_the_job_file_to_start_from() -> None:
    path = Path(__file__).parents[2] / "orchestra" / "jobs" / "salesforce.yml"
    environ = {"SALESFORCE_DOMAIN": "acme.my", "SALESFORCE_CLIENT_ID": "c", "SALESFORCE_CLIENT_SECRET": "s"}
    settled = load_job(path, environ=environ)
    config = SalesforceConfig.model_validate(settled.source.options)
    assert config.url == "https://acme.my.salesforce.com"
    assert {"Account", "Contact", "Opportunity", "Order", "OrderItem"} == set(settled.job.tables)


def _field(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nillable": False, "length": 0, "precision": 0, "scale": 0, **more}


def test_a_describe_becomes_columns() -> None:
    fields = [
        _field("Id", "id", length=18),
        _field("Amount", "currency", precision=18, scale=2),
        _field("Formula__c", "double", precision=18, scale=2, calculated=True),
        _field("Share__c", "percent", precision=5, scale=2),
        _field("Count__c", "int"),
        _field("WhatId", "reference", referenceTo=["Account", "Order"]),
        _field("Secret__c", "encryptedstring", length=40),
        _field("At__c", "time"),
        _field("MailingAddress", "address"),
        _field("Place__c", "location"),
        _field("Body", "base64"),
        _field("Future__c", "somethingNew"),
    ]
    config = SalesforceConfig.model_validate(_GOOD)
    table = make_table(config, {"name": "Thing__c", "queryable": True, "fields": fields}, 5, word="Thing")
    types = {column.name: str(column.type) for column in table.columns}
    assert types == {
        "Id": "string", "Amount": "decimal128(18, 2)", "Formula__c": "double", "Share__c": "decimal128(5, 2)",
        "Count__c": "int32", "WhatId": "string", "Secret__c": "string", "At__c": "time64[us]", "Future__c": "string",
    }  # fmt: skip
    assert table.column("WhatId").note == "the id of one of Account, Order"  # type: ignore[union-attr]
    assert [column.name for column in table.columns if not column.nullable] == ["Id"]
    assert table.comment is not None
    assert all(one in table.comment for one in ("MailingAddress (address", "Place__c (location", "Body (base64"))
    assert (table.qualified, table.detail["object"], table.rows) == ("salesforce.Thing", "Thing__c", 5)
    assert table.defaults == {"key": ["Id"]}
    double = SalesforceConfig.model_validate({**_GOOD, "numbers": "double", "binary": ["Thing__c.Body"]})
    again = make_table(double, {"name": "Thing__c", "fields": fields}, 5, word="Thing")
    assert str(again.column("Amount").type) == "double"  # type: ignore[union-attr]
    assert str(again.column("Body").type) == "binary"  # type: ignore[union-attr]


def _reply(status: int, body: Any, path: str = "/services/data/v62.0/query", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply("GET", f"https://acme.my.salesforce.com{path}", status, headers, data)


_JOB = "/services/data/v62.0/jobs/query/7505g0000000001AAA"


@pytest.mark.parametrize(
    ("status", "code", "message", "path", "kind"),
    [
        (401, "INVALID_SESSION_ID", "Session expired or invalid", "/query", CredentialsRejected),
        (
            403,
            "INVALID_SESSION_ID",
            "This session is not valid for use with the REST API",
            "/query",
            CredentialsRejected,
        ),
        (403, "API_DISABLED_FOR_ORG", "not enabled", "/query", PermissionMissing),
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", "/query", Throttled),
        (
            403,
            "REQUEST_LIMIT_EXCEEDED",
            "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
            "/query",
            Throttled,
        ),
        (400, "LIMIT_EXCEEDED", "Max bulk v2 query jobs", "/jobs/query", Throttled),
        (400, "INVALID_TYPE", "sObject type 'X' is not supported.", "/query", TableMissing),
        (400, "API_ERROR", "INVALID_TYPE: sObject type 'X' is not supported.", "/jobs/query", TableMissing),
        (
            400,
            "INVALID_FIELD",
            "\nSELECT X\n^\nERROR at Row:1\nNo such column 'X' on entity 'Y'.",
            "/query",
            FieldMissing,
        ),
        (400, "INVALID_FIELD", "field 'X' can not be filtered in a query call", "/query", RequestRefused),
        (400, "MALFORMED_QUERY", "unexpected token: ','", "/query", RequestRefused),
        (400, "INVALID_QUERY_LOCATOR", "invalid query locator", "/query/01g-2000", CursorGone),
        (404, "NOT_FOUND", "The requested resource does not exist", "/query/01g5g0000000001AAA-2000", CursorGone),
        (400, "QUERY_TIMEOUT", "Your query request was running for too long.", "/query", StatementTooLong),
        (400, "INVALIDENTITY", "Entity 'X' is not supported by the Bulk API.", "/jobs/query", BulkUnsupported),
        (
            400,
            "API_ERROR",
            "FUNCTIONALITY_NOT_ENABLED: Selecting compound data not supported in Bulk Query",
            "/jobs/query",
            BulkUnsupported,
        ),
        (403, "INSUFFICIENT_ACCESS", "no access", "/query", PermissionMissing),
        (410, "UNSUPPORTED_API_VERSION", "retired", "/query", RequestRefused),
        (200, "UNKNOWN_EXCEPTION", "An unexpected error occurred.", "/query", SourceDown),
        (404, "NOT_FOUND", "gone", _JOB, TableChanged),
        (409, "API_VERSION_MISMATCH", "another version", f"{_JOB}/results", TableChanged),
        (400, "INVALIDLOCATOR", "Invalid locator", f"{_JOB}/results", TableChanged),
    ],
)
def test_errors(status: int, code: str, message: str, path: str, kind: type[RunnerError]) -> None:
    whole = path if path.startswith("/services") else f"/services/data/v62.0{path}"
    error = judge(_reply(status, [{"errorCode": code, "message": message}], whole))
    assert type(error) is kind
    assert code in str(error) or status in (404,)
    assert "SELECT" not in str(error)


def test_the_calls_of_a_day_are_waited_for_and_too_many_at_once_are_not() -> None:
    spent, busy = (
        judge(_reply(403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": f"{what} Limit exceeded."}]))
        for what in ("TotalRequests", "ConcurrentRequests (Concurrent API Requests)")
    )
    assert isinstance(spent, Throttled)
    assert isinstance(busy, Throttled)
    assert (spent.retry_after, busy.retry_after) == (3600.0, None)


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ({"totalSize": 1, "done": True, "records": []}, True),
        ({"done": False, "records": [], "nextRecordsUrl": "/x"}, True),
        ({"done": False, "records": []}, False),
        ({"records": []}, False),
        ({"done": True}, False),
        ([], False),
        (b"<html>", False),
    ],
)
def test_a_page_says_whether_there_are_more(body: Any, good: bool) -> None:
    error = judge(_reply(200, body))
    assert (error is None) == good
    assert good or isinstance(error, SourceDown)


def test_usage_is_that_of_the_whole_organisation() -> None:
    both = "api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)"
    found = list(usage(_reply(200, {}, **{"Sforce-Limit-Info": both})))
    assert [(one.used, one.limit) for one in found] == [(25, 5000)]
    assert not list(usage(_reply(200, {})))
