"""What Orchestra refuses, and in which shape.

Facts: Orchestra docs, API, "Errors" (``detail``: a text, or for 422 a list of ``{loc, msg, type}``), "Pagination",
"List pipeline runs" (time_from and time_to together, at most 7 days).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from connectors.testing.double import answer
from orchestra.testing.environment import KINDS
from orchestra.testing.taskrun import RUN_STATUSES

_WEEK = timedelta(days=7)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "dict": (dict,),
    "list": (list,),
}
# What the body of a start may hold, and of which type.
_START: dict[str, tuple[type, ...]] = {
    "branch": (str,),
    "commit": (str,),
    "versionNumber": (int,),
    "environment": (str,),
    "environmentOverrides": (dict,),
    "runInputs": (dict,),
    "taskIds": (list,),
    "continueDownstreamRun": (bool,),
    "retryFromFailed": (bool,),
    "ciRunId": (str,),
    "data": (list,),
}
# Kind of event: the keys that it needs, and those that it may have.
_EVENTS: dict[str, tuple[set[str], set[str]]] = {
    "UPDATE_STATUS": ({"task_run_id", "status"}, {"message"}),
    "SET_OUTPUT": ({"task_run_id", "output_name", "output_value"}, set()),
    "LOG": ({"task_run_id", "log_name", "data"}, set()),
    "SENSOR_EVENT": ({"sensor_event_type", "sensor_event"}, set()),
}
_KINDS: dict[type, str] = {str: "string", int: "integer", bool: "boolean", dict: "dictionary", list: "list"}


class Refusal(Exception):
    """A request that is not served."""

    def __init__(self, status: int, detail: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(detail))
        self.status = status
        self.detail = detail
        self.headers = headers

    def response(self) -> web.Response:
        """Return it as an answer."""
        return answer({"detail": self.detail}, status=self.status, headers=self.headers)


def invalid(loc: Sequence[Any], message: str, kind: str = "value_error") -> Refusal:
    """Return the 422 about one part of a request."""
    return Refusal(422, [{"type": kind, "loc": list(loc), "msg": message}])


def query_of(request: web.Request, known: Collection[str]) -> dict[str, str]:
    """Return the query of a request that knows only these parameters, each at most once."""
    for name in request.query:
        if name not in known:
            raise invalid(["query", name], "Extra inputs are not permitted", "extra_forbidden")
        if len(request.query.getall(name)) > 1:
            raise invalid(["query", name], "Input should be given once")
    return dict(request.query)


def page_of(query: Mapping[str, str], size: str, default: int, most: int) -> tuple[int, int]:
    """Return which page, and how many there are on one.

    Args:
        size: How the second parameter is called: it has had two names.
    """
    found = []
    for name, usual, largest in (("page", 1, 2**31), (size, default, most)):
        try:
            value = int(query.get(name, usual))
        except ValueError:
            raise invalid(["query", name], "Input should be a valid integer", "int_parsing") from None
        if value < 1:
            raise invalid(["query", name], "Input should be greater than or equal to 1", "greater_than_equal")
        if value > largest:
            raise invalid(["query", name], f"Input should be less than or equal to {largest}", "less_than_equal")
        found.append(value)
    return found[0], found[1]


def window_of(query: Mapping[str, str], now: datetime, default: timedelta) -> tuple[datetime, datetime]:
    """Return time_from and time_to."""
    if ("time_from" in query) != ("time_to" in query):
        missing = "time_to" if "time_from" in query else "time_from"
        raise invalid(["query", missing], "time_from and time_to must be given together", "missing")
    if "time_from" not in query:
        return now - default, now
    ends = []
    for name in ("time_from", "time_to"):
        try:
            moment = datetime.fromisoformat(query[name])
        except ValueError:
            raise invalid(["query", name], "Input should be a valid datetime", "datetime_parsing") from None
        if moment.tzinfo is None:
            raise invalid(["query", name], "Input should have timezone info", "timezone_aware")
        ends.append(moment)
    if ends[0] > ends[1]:
        raise invalid(["query", "time_from"], "time_from must be before time_to")
    if ends[1] - ends[0] > _WEEK:
        raise invalid(["query", "time_to"], "The time range must not exceed 7 days")
    return ends[0], ends[1]


def statuses_of(query: Mapping[str, str], known: Sequence[str] = RUN_STATUSES) -> set[str]:
    """Return the statuses that are asked for; empty for all."""
    return words_of(query, "status", known)


def words_of(query: Mapping[str, str], name: str, known: Sequence[str] | None = None) -> set[str]:
    """Return the words of a list between commas; empty for all.

    Args:
        known: What they can be; None for anything.
    """
    asked = {part for part in query.get(name, "").split(",") if part}
    if known is not None and not asked <= set(known):
        raise invalid(["query", name], f"Input should be {' or '.join(map(repr, known))}", "enum")
    return asked


def word_of(query: Mapping[str, str], name: str, known: Sequence[str] | None = None) -> set[str]:
    """Return the one word that is asked for, as ``words_of``: commas part nothing here."""
    asked = {query[name]} if query.get(name) else set()
    if known is not None and not asked <= set(known):
        raise invalid(["query", name], f"Input should be {' or '.join(map(repr, known))}", "enum")
    return asked


def flag_of(query: Mapping[str, str], name: str) -> bool:
    """Return a parameter that is true or false; false by default."""
    if query.get(name, "false") not in ("true", "false"):
        raise invalid(["query", name], "Input should be a valid boolean", "bool_parsing")
    return query.get(name) == "true"


def ids_of(query: Mapping[str, str], name: str) -> set[str]:
    """Return the ids that are asked for; empty for all."""
    asked = [part for part in query.get(name, "").split(",") if part]
    return {uuid_of(part, ["query", name]) for part in asked}


def uuid_of(text: str, loc: Sequence[Any]) -> str:
    """Return an id."""
    try:
        return str(UUID(text))
    except ValueError:
        raise invalid(loc, "Input should be a valid UUID", "uuid_parsing") from None


def fields_of(
    data: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], needed: Collection[str] = ()
) -> dict[str, Any]:
    """Return a body that knows only these keys, each of its type; null is as good as nothing."""
    for name in needed:
        if name not in data:
            raise invalid(["body", name], "Field required", "missing")
    for name, value in data.items():
        if name not in known:
            raise invalid(["body", name], "Extra inputs are not permitted", "extra_forbidden")
        kinds = known[name]
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise invalid(["body", name], f"Input should be a valid {_KINDS[kinds[0]]}", f"{_KINDS[kinds[0]]}_type")
    return {name: value for name, value in data.items() if value is not None}


def start_of(body: bytes, content_type: str) -> dict[str, Any]:
    """Return the body of a start; none is as good as an empty one."""
    if not body:
        return {}
    data = object_of(body, content_type)
    fields_of(data, _START)
    for name, one in (data.get("environmentOverrides") or {}).items():
        if not isinstance(one, dict) or set(one) != {"type", "value"} or one["type"] not in KINDS:
            raise invalid(["body", "environmentOverrides", name], "Input should have a type and a value")
    if any(not isinstance(task, str) for task in data.get("taskIds") or ()):
        raise invalid(["body", "taskIds", 0], "Input should be a valid string", "string_type")
    return data


def inputs_of(declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a run: those that are given over the defaults."""
    found = {}
    for name in given:
        if name not in declared:
            raise invalid(["body", "runInputs", name], "Extra inputs are not permitted", "extra_forbidden")
    for name, one in declared.items():
        one = one or {}
        if name in given:
            kinds = _TYPES[one.get("type", "string")]
            if not isinstance(given[name], kinds) or (isinstance(given[name], bool) and bool not in kinds):
                raise invalid(["body", "runInputs", name], f"Input should be a valid {one.get('type', 'string')}")
            found[name] = given[name]
        elif "default" in one:
            found[name] = one["default"]
        elif not one.get("optional"):
            raise Refusal(400, f"Missing required pipeline input: {name}")
    return found


def event_of(body: bytes, content_type: str) -> dict[str, Any]:
    """Return an event of the webhook."""
    data = object_of(body, content_type)
    kind = data.get("event_type")
    if kind not in _EVENTS:
        raise invalid(["body", "event_type"], "Input should be a known event type", "enum")
    needed, more = _EVENTS[kind]
    for name in sorted(needed):
        if name not in data:
            raise invalid(["body", name], "Field required", "missing")
    for name in sorted(set(data) - needed - more - {"event_type", "metadata"}):
        raise invalid(["body", name], "Extra inputs are not permitted", "extra_forbidden")
    if "task_run_id" in needed:
        uuid_of(str(data["task_run_id"]), ["body", "task_run_id"])
    return data


def object_of(body: bytes, content_type: str) -> dict[str, Any]:
    """Return the body of a request that is an object."""
    if content_type != "application/json":
        raise invalid(["body"], "Input should be a valid dictionary or object", "model_attributes_type")
    try:
        data = json.loads(body)
    except ValueError:
        raise invalid(["body", 0], "JSON decode error", "json_invalid") from None
    if not isinstance(data, dict):
        raise invalid(["body"], "Input should be a valid dictionary or object", "model_attributes_type")
    return data
