"""What HubSpot's answers mean, and the pace that they ask for.

Facts: developers.hubspot.com, "Error handling" (categories; 423 a locked record, 477 a migration), "API usage
guidelines" (limits, headers, the body of a 429; the daily limit is reset at midnight of the account's time zone).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from connectors.http import Reply, Requests, Usage
from runner.errors import (
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    TableMissing,
    Throttled,
)

# Which midnight is not said: after an hour there is another look.
_UNTIL_MIDNIGHT = 3600.0
_PAUSES = {"DAILY": _UNTIL_MIDNIGHT, "SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0}
# A batch names what it did not find among its errors: that is an answer, not a failure.
_NOT_THERE = ("OBJECT_NOT_FOUND", "NO_ASSOCIATIONS_FOUND")
# So few requests of a burst are left alone that those under way fit in.
_RESERVE = 0.1


def judge(reply: Reply) -> RunnerError | None:
    """Return the error that an answer means; None leaves it to its status."""
    data = reply.data if isinstance(reply.data, Mapping) else {}
    where, said = reply.where, f": {reply.message}" if reply.message else ""
    category = str(data.get("category") or "")
    if reply.status == 429:
        after = reply.header("Retry-After")
        known = float(after) if after is not None and after.isdigit() else None
        policy = str(data.get("policyName") or "")
        return Throttled(
            f"{where}: HubSpot asks us to slow down ({policy or 429}){said}",
            retry_after=known if known is not None else _PAUSES.get(policy, 10.0),
        )
    if reply.status in (423, 477):
        return SourceDown(f"{where}: HubSpot holds this back for now ({reply.status}){said}")
    if category == "MISSING_SCOPES":
        scopes = " or ".join(missing_scopes(data)) or "a scope"
        return PermissionMissing(
            f"{where} needs {scopes}.", guidance="Give the app that scope in HubSpot, then run the same command again."
        )
    if reply.status == 400 and "infer object type" in reply.message:
        return TableMissing(f"{where}: HubSpot has no such object{said}")
    if reply.status == 414:
        return RequestRefused(f"{where}: the address is too long for HubSpot.")
    if 200 <= reply.status < 300:
        return _judge_good(reply, data, said)
    return None


def _judge_good(reply: Reply, data: Mapping[str, Any], said: str) -> RunnerError | None:
    if data.get("status") == "error":
        return SourceDown(f"{reply.where} answered {reply.status} with an error{said}")
    for one in data.get("errors") or ():
        category = str(one.get("category") if isinstance(one, Mapping) else one)
        if category not in _NOT_THERE:
            return SourceDown(f"{reply.where} answered in part: {category}")
    if not isinstance(data.get("results"), list):
        return SourceDown(f"{reply.where} answered {reply.status} without results.")
    return None


def missing_scopes(data: Mapping[str, Any]) -> list[str]:
    """Return the scopes that an error body asks for, any of which is enough."""
    found: list[str] = []
    for one in data.get("errors") or ():
        context = one.get("context") or {}
        found += context.get("requiredGranularScopes") or context.get("requiredScopes") or []
    return found


def usage(reply: Reply) -> Iterable[Usage]:
    """Return what an answer says about the daily limit; apps with OAuth have none."""
    limit, left = _number(reply, "Daily"), _number(reply, "Daily-Remaining")
    if limit and left is not None:
        yield Usage(limit - left, limit, _UNTIL_MIDNIGHT)


class Pace:
    """Pauses the source before a burst is used up: a 429 counts against the app.

    Args:
        requests: The requests of the source; the pause is shared by all of them.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._answered: deque[float] = deque()

    def judge(self, reply: Reply) -> RunnerError | None:
        """Look at an answer's headers, then judge it; search has no such headers."""
        now = self._requests.clock.monotonic()
        self._answered.append(now)
        most, left = _number(reply, "Max"), _number(reply, "Remaining")
        if most and left is not None:
            interval = (_number(reply, "Interval-Milliseconds") or 10_000) / 1000
            while self._answered[0] <= now - interval:
                self._answered.popleft()
            under_way = self._requests.limits.concurrency.limit
            if left <= max(most * _RESERVE, under_way):
                # The window rolls: it is waited until a part of what we sent is forgotten, and not all of it.
                freed = min(len(self._answered), max(1, most // 4))
                self._requests.limits.pause.request(self._answered[freed - 1] + interval - now)
        return judge(reply)


def _number(reply: Reply, name: str) -> int | None:
    text = reply.header(f"X-HubSpot-RateLimit-{name}")
    return int(text) if text is not None and text.isdigit() else None
