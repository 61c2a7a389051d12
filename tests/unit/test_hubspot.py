"""HubSpot without a server: times, windows, what a body means, what a source takes."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pydantic import ValidationError

from connectors.http import Reply
from connectors.hubspot import HubSpotSource
from connectors.hubspot.answers import judge, usage
from connectors.hubspot.searches import between, bounds
from connectors.hubspot.values import column, convert, mark, milliseconds
from runner.errors import PermissionMissing, RequestRefused, SourceDown, TableMissing, Throttled
from runner.source import Scan, Table, Window


def _reply(status: int, body: object, **headers: str) -> Reply:
    return Reply("GET", "https://api.hubapi.com/crm/v3/objects/deals", status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("native", "text", "value"),
    [
        ("string", "", ""),
        ("number", "", None),
        ("bool", "", None),
        ("date", "", None),
        ("enumeration", "a;b", "a;b"),
        ("number", "1.10", "1.10"),
        ("date", "2026-02-03", "2026-02-03"),
        ("date", "-86400000", "1969-12-31"),
        ("datetime", "2026-02-03T04:05:06.789Z", "2026-02-03T04:05:06.789Z"),
        ("datetime", "1572480000001", "2019-10-31T00:00:00.001000+00:00"),
        ("string", "1572480000001", "1572480000001"),
        ("datetime", None, None),
    ],
)
def test_values(native: str, text: str | None, value: str | None) -> None:
    assert convert(native, text) == value


@pytest.mark.parametrize(
    ("native", "numbers", "kind"),
    [
        ("number", "decimal", pa.decimal128(38, 18)),
        ("number", "double", pa.float64()),
        ("number", "text", pa.string()),
        ("phone_number", "decimal", pa.string()),
        ("something_new", "decimal", pa.string()),
    ],
)
def test_types(native: str, numbers: str, kind: pa.DataType) -> None:
    assert column("x", native, numbers=numbers).type == kind


def test_marks_are_exact_to_the_millisecond() -> None:
    assert mark("2026-01-01T12:00:00.001Z") == "2026-01-01 12:00:00.001000+00"
    assert mark("1767268800001") == mark("2026-01-01T12:00:00.001Z")
    assert milliseconds(mark("2262-04-11T23:47:16.855Z")) == 9_223_372_036_855


@pytest.mark.parametrize(
    ("window", "ends"),
    [
        (Window("c", "2026-01-01 12:00:00.001+00", from_start=True), (1767268800001, None)),
        (Window("c", "2026-01-01 12:00:00.0015+00", from_start=True), (1767268800002, None)),
        (Window("c", "2026-01-01 12:00:00.001+00"), (1767268800002, None)),
        (Window("c", "2026-01-01 12:00:00.0015+00"), (1767268800002, None)),
        (Window("c", end="2026-01-01 12:00:00.001+00"), (None, 1767268800001)),
        (Window("c", end="2026-01-01 12:00:00.0015+00"), (None, 1767268800001)),
        (Window("c", end="2026-01-01 12:00:00.001+00", before_end=True), (None, 1767268800000)),
        (Window("c", end="2026-01-01 12:00:00.0015+00", before_end=True), (None, 1767268800001)),
        (None, (None, None)),
    ],
)
def test_windows_in_whole_milliseconds(window: Window | None, ends: tuple[int | None, int | None]) -> None:
    assert bounds(Scan(Table("hubspot", "deals", ()), (), window=window)) == ends


def test_a_window_is_one_filter_for_each_open_side() -> None:
    assert [one["operator"] for one in between("c", 1, 2)] == ["BETWEEN"]
    assert [(one["operator"], one["value"]) for one in between("c", 1, None)] == [("GTE", "1")]
    assert [(one["operator"], one["value"]) for one in between("c", None, 2)] == [("LTE", "2")]
    assert between("c", None, None) == []


_SCOPES = {
    "status": "error",
    "category": "MISSING_SCOPES",
    "errors": [{"message": "One or more", "context": {"requiredGranularScopes": ["a.read", "b.read"]}}],
}


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (403, _SCOPES, PermissionMissing, "needs a.read or b.read"),
        (429, {"policyName": "DAILY"}, Throttled, "DAILY"),
        (423, {}, SourceDown, "423"),
        (477, {}, SourceDown, "477"),
        (414, "", RequestRefused, "too long"),
        (400, {"message": "Unable to infer object type from: x"}, TableMissing, "no such object"),
        (200, {"status": "error", "message": "no"}, SourceDown, "an error: no"),
        (200, {}, SourceDown, "without results"),
        (207, {"results": [], "errors": [{"category": "INTERNAL"}]}, SourceDown, "INTERNAL"),
    ],
)
def test_errors(status: int, body: object, error: type[Exception], words: str) -> None:
    found = judge(_reply(status, body))
    assert type(found) is error
    assert words in str(found)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"results": []}),
        (207, {"results": [], "errors": [{"category": "OBJECT_NOT_FOUND"}]}),
        (401, {"category": "INVALID_AUTHENTICATION"}),
        (500, {}),
    ],
)
def test_what_its_status_says(status: int, body: object) -> None:
    assert judge(_reply(status, body)) is None


@pytest.mark.parametrize(
    ("policy", "header", "seconds"),
    [("DAILY", None, 3600), ("SECONDLY", None, 1), ("TEN_SECONDLY_ROLLING", None, 10), ("SECONDLY", "7", 7)],
)
def test_how_long_to_wait(policy: str, header: str | None, seconds: float) -> None:
    headers = {"Retry-After": header} if header else {}
    found = judge(_reply(429, {"policyName": policy}, **headers))
    assert isinstance(found, Throttled)
    assert found.retry_after == seconds


def test_the_day() -> None:
    headers = {"X-HubSpot-RateLimit-Daily": "1000", "X-HubSpot-RateLimit-Daily-Remaining": "400"}
    (found,) = usage(_reply(200, {}, **headers))
    assert (found.used, found.limit) == (600, 1000)
    assert list(usage(_reply(200, {}))) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give access_token"),
        ({"access_token": "t", "client_id": "c"}, "give access_token"),
        ({"client_id": "c", "client_secret": "s"}, "give access_token"),
        ({"access_token": "t", "history": ["contacts"]}, "not of the form OBJECT.PROPERTY"),
        ({"access_token": "t", "associations": ["contacts"]}, "not of the form OBJECT_to_OBJECT"),
        ({"access_token": "t", "window": 10_001}, "less than or equal to 10000"),
        ({"access_token": "t", "search_rate": 0}, "greater than 0"),
    ],
)
def test_a_source_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        HubSpotSource(options)


def test_secrets_are_not_shown() -> None:
    source = HubSpotSource({"client_id": "c", "client_secret": "hidden-1", "refresh_token": "hidden-2"})
    assert "hidden" not in repr(source.config)
