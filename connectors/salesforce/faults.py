"""What Salesforce's errors mean.

Facts: developer.salesforce.com, REST API Developer Guide, "Status Codes and Error Responses"; SOAP API Developer Guide,
"ExceptionCode" (QUERY_TIMEOUT, REQUEST_LIMIT_EXCEEDED …); Bulk API 2.0 Developer Guide, "Bulk API 2.0 Query"
(what it does not support); REST API Developer Guide, "Limit Info Header".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from connectors.http import Reply, Usage
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
from runner.secrets import redact

_USED = re.compile(r"api-usage=(\d+)/(\d+)")
_JOB = re.compile(r"/jobs/query/[A-Za-z0-9]{15,18}")
_QUERY = re.compile(r"/data/v[\d.]+/query(All)?(/|$)")
_CURSOR = re.compile(r"/query(All)?/[A-Za-z0-9]{15,18}-\d+")
# Results of a job, and what a base64 field leads to.
_NO_JSON = re.compile(r"/results$|/sobjects/\w+/[A-Za-z0-9]{15,18}/\w+$")
# The calls of a day are counted over the last 24 hours: some come back within an hour.
_WAIT = 3600.0
_UNSUPPORTED = ("not supported by the bulk api", "not supported in bulk query", "bulk queries", "binary fields")
_PERMISSIONS = ("INSUFFICIENT_ACCESS", "INSUFFICIENT_ACCESS_OR_READONLY", "FUNCTIONALITY_NOT_ENABLED")


class CursorGone(TableChanged):
    """A query's cursor is not there any more."""


class BulkUnsupported(RequestRefused):
    """The Bulk API does not read this object or field."""


class FieldMissing(RequestRefused):
    """A field that was asked for is not there, or may not be read."""


def judge(reply: Reply) -> RunnerError | None:
    """Return the error that an answer means; None leaves it to its status."""
    code, message = _said(reply.data)
    path = reply.url.partition("?")[0]
    in_job = _JOB.search(path) is not None
    if not code:
        if reply.status == 404 and in_job:
            return TableChanged("The job of the Bulk API is gone: it was deleted, or older than seven days.")
        if 200 <= reply.status < 300 and reply.data is None and reply.body and not _NO_JSON.search(path):
            return SourceDown(f"{reply.where} answered with something that is no JSON.")
        if reply.status == 200 and _QUERY.search(path) and not _is_page(reply.data):
            return SourceDown(f"{reply.where} answered with something that is no page of records.")
        return None
    words = f"Salesforce: {message} ({code})"
    if in_job and (reply.status in (404, 409) or "LOCATOR" in code or "locator" in message.lower()):
        return TableChanged(f"The job of the Bulk API cannot be read on: {message} ({code})")
    return _by_code(reply, code, message, words)


def _by_code(reply: Reply, code: str, message: str, words: str) -> RunnerError | None:
    lower = message.lower()
    if code == "INVALID_SESSION_ID":
        advice = "The connected app needs the scope `api`, and its user the permission “API Enabled”."
        return CredentialsRejected(words, guidance=advice)
    if code.startswith("API_DISABLED") or code == "API_CURRENTLY_DISABLED":
        return PermissionMissing(words, guidance="The edition or the user has no API: enable “API Enabled”.")
    if code == "REQUEST_LIMIT_EXCEEDED":
        # Too many at once passes by itself; the calls of a day do not.
        return Throttled(words, retry_after=None if "concurrent" in lower else _WAIT)
    if code == "LIMIT_EXCEEDED":
        return Throttled(words, retry_after=_WAIT)
    if code in ("INVALIDENTITY", "API_ERROR", "FUNCTIONALITY_NOT_ENABLED") and any(
        one in lower for one in _UNSUPPORTED
    ):
        return BulkUnsupported(words)
    if code == "INVALID_QUERY_LOCATOR" or (reply.status == 404 and _CURSOR.search(reply.url)):
        return CursorGone(words)
    if code == "INVALID_TYPE" or "INVALID_TYPE" in message[:40]:
        advice = "The object is not there, or its user may not read it: grant Read on it by a permission set."
        return TableMissing(words, guidance=advice)
    if (code == "INVALID_FIELD" or "INVALID_FIELD" in message[:40]) and "no such column" in lower:
        return FieldMissing(words, guidance="The field is not there, or field-level security hides it.")
    if code == "QUERY_TIMEOUT":
        return StatementTooLong(words, guidance="Read the object by jobs (bulk: always), or narrow it with where.")
    if code == "UNSUPPORTED_API_VERSION":
        return RequestRefused(words, guidance="Set api_version of the source to one that Salesforce still answers.")
    if code in _PERMISSIONS:
        return PermissionMissing(words, guidance="Grant it to the user of the source by a permission set.")
    if 200 <= reply.status < 300:
        return SourceDown(words)
    if reply.status in (400, 414, 415, 431):
        return RequestRefused(words)
    return None


def usage(reply: Reply) -> Iterable[Usage]:
    """Return the calls of the day that an answer counts."""
    found = _USED.search(reply.header("Sforce-Limit-Info") or "")
    if found:
        yield Usage(int(found[1]), int(found[2]), None)


def _is_page(data: Any) -> bool:
    """Tell whether an answer has records, and says whether and where there are more."""
    if not isinstance(data, Mapping) or not isinstance(data.get("records"), list):
        return False
    return data.get("done") is True or (data.get("done") is False and isinstance(data.get("nextRecordsUrl"), str))


def _said(data: Any) -> tuple[str, str]:
    """Return code and message of an error's body."""
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, Mapping) or not isinstance(first.get("errorCode"), str):
        return "", ""
    # What was asked stands before a line of carets; the words come after it.
    message = str(first.get("message", "")).rpartition("\n")[2] or str(first.get("message", ""))
    return str(first["errorCode"]), redact(" ".join(message.split()))[:500]
