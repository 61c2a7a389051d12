"""What Linear's answers mean: errors come in the body, whatever the status."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.http import Reply, Usage
from runner.clock import Clock
from runner.errors import (
    CredentialsRejected,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    TableChanged,
    Throttled,
)

_POINTS = re.compile(r"Complexity: (\d+(?:\.\d+)?)\. Maximum allowed complexity: (\d+)")
# Types of errors that another attempt can help with; the names are those of Linear's SDK.
_PASSING = frozenset({"internal error", "lock timeout", "network error", "bootstrap error"})
# Some fields of Query have a limit of their own.
_BUCKETS = ("Requests", "Endpoint-Requests", "Complexity")
_FORBIDDEN = frozenset({"forbidden", "feature not accessible"})


class TooComplex(RequestRefused):
    """A query costs more than a single one may.

    Attributes:
        points: What it costs as the server counts; most: what it may cost; None where the server does not say.
    """

    guidance = "Set page_size of the source, or leave columns out."

    def __init__(self, message: str, *, points: float | None, most: float | None) -> None:
        self.points, self.most = points, most
        super().__init__(message)


class EntityGone(RequestRefused):
    """Something that the request names is not there any more."""


class Faults:
    """Reads answers.

    Source: https://linear.app/developers/graphql#errors, https://linear.app/developers/rate-limiting
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def judge(self, reply: Reply) -> RunnerError | None:
        """Return the error that an answer means; None where it means none, or its status says it."""
        data = reply.data
        if not isinstance(data, Mapping):
            return SourceDown(f"{reply.where}: the answer is no JSON object.") if reply.status == 200 else None
        errors = data.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], Mapping):
            return self._meaning(errors[0], reply)
        if reply.status == 200 and not isinstance(data.get("data"), Mapping):
            return SourceDown(f"{reply.where}: the answer has neither data nor errors.")
        return None

    def usage(self, reply: Reply) -> Iterator[Usage]:
        """Return what is used of the requests and of the points of this hour."""
        for bucket in ("Requests", "Complexity"):
            limit, left = (_number(reply, f"X-RateLimit-{bucket}-{part}") for part in ("Limit", "Remaining"))
            if limit is not None and left is not None:
                yield Usage(int(limit - left), int(limit), self._until(reply, bucket))

    def _meaning(self, error: Mapping[str, Any], reply: Reply) -> RunnerError:
        extensions = error.get("extensions")
        more: Mapping[str, Any] = extensions if isinstance(extensions, Mapping) else {}
        kind, code = str(more.get("type", "")).lower(), str(more.get("code", ""))
        words = str(error.get("message") or "an error without a message")
        shown = str(more.get("userPresentableMessage") or words)
        path = ".".join(str(part) for part in error.get("path") or () if not isinstance(part, int))
        where = f"Linear ({path})" if path else "Linear"
        if code == "RATELIMITED" or kind == "ratelimited":
            return Throttled(f"Linear: {shown}", retry_after=self._pause(reply))
        if kind == "authentication error" or code == "AUTHENTICATION_ERROR":
            return CredentialsRejected(
                f"Linear: {shown}", guidance="Check the key or the token of the source; it may be revoked or expired."
            )
        if kind in _FORBIDDEN or code == "FORBIDDEN":
            return PermissionMissing(
                f"{where}: {shown}",
                guidance="Give the key or the application that right, or leave the column out: columns: {name: drop}.",
            )
        if words.lower().startswith("query too complex"):
            found = _POINTS.search(shown)
            points, most = (float(found[1]), float(found[2])) if found else (None, None)
            return TooComplex(f"Linear: {shown}", points=points, most=most)
        if words.lower().startswith("entity not found"):
            return EntityGone(f"{where}: {words}")
        if code == "GRAPHQL_VALIDATION_FAILED" and words.startswith("Cannot query field"):
            return TableChanged(f"Linear: {words}")
        if kind in _PASSING or reply.status >= 500:
            return SourceDown(f"{where}: {shown}")
        return RequestRefused(f"{where}: {shown}")

    def _pause(self, reply: Reply) -> float | None:
        """Return the seconds until what ran out is there again."""
        told = _number(reply, "Retry-After")
        if told is not None:
            return told
        empty = [one for one in _BUCKETS if (_number(reply, f"X-RateLimit-{one}-Remaining") or 0.0) < 1]
        known = {one: self._until(reply, one) for one in _BUCKETS}
        # Points can be too few without being none.
        waits = [known[one] for one in empty if known[one] is not None] or [known["Complexity"]]
        return max((one for one in waits if one is not None), default=None)

    def _until(self, reply: Reply, bucket: str) -> float | None:
        resets = _number(reply, f"X-RateLimit-{bucket}-Reset")
        return None if resets is None else max(0.0, resets / 1000 - self._clock.now().timestamp())


def _number(reply: Reply, header: str) -> float | None:
    try:
        return float(reply.header(header) or "")
    except ValueError:
        return None
