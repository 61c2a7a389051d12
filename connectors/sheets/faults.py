"""What Google's errors mean here.

Facts: cloud.google.com/apis/design/errors (the body; ErrorInfo's reason among the details),
developers.google.com/workspace/sheets/api/limits (quotas of a minute; their answer names no time to wait),
developers.google.com/workspace/sheets/api/troubleshoot-api-errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connectors.http import Reply
from runner.errors import (
    CredentialsRejected,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    TableChanged,
    TableMissing,
    Throttled,
)

_MOVED = ("Unable to parse range", "exceeds grid limits")


def judge(reader: str, pause: float) -> Callable[[Reply], RunnerError | None]:
    """Return what tells the error that an answer means, whatever its status: an error may come with 200.

    Args:
        reader: Who reads, for the advice to share a spreadsheet with.
        pause: Seconds to wait after a quota was used up.
    """

    def judged(reply: Reply) -> RunnerError | None:
        error = reply.data.get("error") if isinstance(reply.data, Mapping) else None
        if not isinstance(error, Mapping):
            found = reply.data if isinstance(reply.data, Mapping) else {}
            # Every question asks for one of them, and neither is ever empty.
            if 200 <= reply.status < 300 and not found.keys() & {"sheets", "valueRanges"}:
                return SourceDown(f"{reply.where} was answered without what was asked for.")
            return None
        if reply.status == 429 and reply.header("Retry-After"):
            return None
        code = error.get("code") if isinstance(error.get("code"), int) else reply.status
        words = f"{reply.where} was refused: {reply.message}"
        return _meaning(int(code or 0), str(error.get("message", "")), _reason(error), words, reader, pause)

    return judged


def _meaning(code: int, message: str, reason: str, words: str, reader: str, pause: float) -> RunnerError:
    if code == 429 or reason in ("RATE_LIMIT_EXCEEDED", "rateLimitExceeded"):
        return Throttled(f"{words} (the quota of reads a minute)", retry_after=pause)
    if code == 401:
        return CredentialsRejected(words, guidance="Check the key of the service account, or consent once more.")
    if code == 403 and reason == "SERVICE_DISABLED":
        return PermissionMissing(words, guidance="Enable the Google Sheets API in the project of the key.")
    if code == 403 and reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
        return PermissionMissing(words, guidance="Consent again, to the scope spreadsheets.readonly.")
    if code == 403:
        return PermissionMissing(words, guidance=f"Share the spreadsheet with {reader}; to read is enough.")
    if code == 404:
        return TableMissing(words, guidance="Check the id of the spreadsheet.")
    if code == 400 and any(one in message for one in _MOVED):
        return TableChanged(f"{words}; a sheet was renamed, deleted or made smaller.")
    if code == 400 and "not supported for this document" in message:
        return RequestRefused(words, guidance="It is a file of another program: save it as Google Sheets first.")
    if code >= 500:
        return SourceDown(words)
    return RequestRefused(words)


def _reason(error: Mapping[str, Any]) -> str:
    """Return the reason of an error: of ErrorInfo, or of the older form."""
    for key in ("details", "errors"):
        for one in error.get(key) or ():
            if isinstance(one, Mapping) and one.get("reason"):
                return str(one["reason"])
    return ""
