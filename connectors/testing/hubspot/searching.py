"""POST /crm/v3/objects/{type}/search: what it takes and which records match.

Facts: developers.hubspot.com, "Search the CRM": 5 filter groups of 6 filters, 18 in all; 200 results a page; one sort;
no result beyond the 10,000th; a body of 3,000 characters; words match without regard to case.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from connectors.testing.hubspot.refusals import Refusal, invalid
from connectors.testing.hubspot.store import Kind

CAP = 10_000
_LONGEST = 3_000
_ONE = ("EQ", "NEQ", "LT", "LTE", "GT", "GTE", "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN")
_MANY = ("IN", "NOT_IN")
_NONE = ("HAS_PROPERTY", "NOT_HAS_PROPERTY")
_KEYS = {"query", "limit", "after", "sorts", "properties", "filterGroups"}


def validate(kind: Kind, raw: bytes, *, cap: int = CAP) -> dict[str, Any]:
    """Return a search's body, with limit and after as numbers, or refuse it."""
    if len(raw.decode("utf-8", "replace")) > _LONGEST:
        raise invalid(f"The request body exceeds the limit of {_LONGEST} characters.", "REQUEST_TOO_LARGE")
    body = parsed(raw, _KEYS)
    limit, after = number(body.get("limit", 10), "limit"), number(body.get("after") or 0, "after")
    if not 1 <= limit <= 200:
        raise invalid(f"The limit of {limit} is not between 1 and 200.", "INVALID_LIMIT")
    if after + limit > cap:
        raise invalid(f"Paging past {cap} results is not supported.", "PAGING_LIMIT_EXCEEDED", after=[str(after)])
    groups = body.get("filterGroups", [])
    if not isinstance(groups, list) or not all(isinstance(one, dict) for one in groups):
        raise invalid("Invalid input JSON: filterGroups must be an array of objects.")
    if len(groups) > 5:
        raise invalid("The maximum number of filter groups is 5.", "MAX_FILTER_GROUPS_EXCEEDED")
    filters = [one for group in groups for one in group.get("filters", [])]
    if any(len(group.get("filters", [])) > 6 for group in groups):
        raise invalid("The maximum number of filters in a group is 6.", "MAX_FILTERS_PER_GROUP_EXCEEDED")
    if len(filters) > 18:
        raise invalid("The maximum number of filters is 18.", "MAX_FILTERS_EXCEEDED")
    for one in filters:
        _validate_filter(kind, one)
    sorts = body.get("sorts", [])
    if len(sorts) > 1:
        raise invalid("Only one sort is supported.", "MAX_SORTS_EXCEEDED")
    for one in sorts:
        _named(kind, one["propertyName"] if isinstance(one, dict) else str(one).lstrip("-"))
        if isinstance(one, dict) and one.get("direction", "ASCENDING") not in ("ASCENDING", "DESCENDING"):
            raise invalid(f"Unknown direction {one['direction']}.", "INVALID_DIRECTION")
    return {**body, "limit": limit, "after": after}


def parsed(raw: bytes, keys: set[str]) -> dict[str, Any]:
    """Return a body's object; what is no JSON object or has unknown keys is refused."""
    try:
        body = json.loads(raw or b"{}")
    except ValueError as error:
        raise invalid(f"Invalid input JSON on line 1, column 1: {type(error).__name__}") from None
    if not isinstance(body, dict):
        raise invalid("Invalid input JSON on line 1, column 1: Cannot deserialize value from Array value")
    if unknown := set(body) - keys:
        raise invalid(f"Invalid input JSON on line 1, column 2: Unrecognized field {sorted(unknown)[0]}")
    return body


def number(value: Any, name: str) -> int:
    """Return a whole number, or refuse it."""
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", str(value)):
        raise invalid(f"Invalid input JSON: Cannot deserialize value of type `int` from String {value!r} ({name})")
    return int(value)


def _named(kind: Kind, name: Any) -> None:
    if name not in kind.properties:
        raise invalid("There was a problem with the request.", "PROPERTY_DOESNT_EXIST", propertyName=[str(name)])


def _validate_filter(kind: Kind, one: Any) -> None:
    if not isinstance(one, dict) or "propertyName" not in one or "operator" not in one:
        raise invalid("Invalid input JSON: Some required fields were not set: [propertyName, operator]")
    if unknown := set(one) - {"propertyName", "operator", "value", "values", "highValue"}:
        raise invalid(f"Invalid input JSON: Unrecognized field {sorted(unknown)[0]}")
    operator, name = one["operator"], one["propertyName"]
    if operator not in (*_ONE, *_MANY, *_NONE, "BETWEEN"):
        raise Refusal(400, "VALIDATION_ERROR", f"Invalid input JSON: {operator!r} is not one of the operators")
    _named(kind, name)
    if operator in _ONE and one.get("value") in (None, ""):
        raise invalid(f"value must be non-empty and non-blank, if specified {{propertyName: '{name}'}}")
    if operator in _MANY and not one.get("values"):
        raise invalid(f"values must be non-empty for {operator} {{propertyName: '{name}'}}")
    if operator == "BETWEEN" and (one.get("value") is None or one.get("highValue") is None):
        raise invalid(f"value and highValue must be set for BETWEEN {{propertyName: '{name}'}}")
    for value in (one.get("value"), one.get("highValue"), *(one.get("values") or ())):
        if value is not None and operator not in _NONE:
            comparable(kind, name, str(value), strict=True)


def comparable(kind: Kind, name: str, value: str, *, strict: bool = False) -> Any:
    """Return a value as it is compared: numbers and times by size, words without regard to case."""
    type_ = kind.properties[name].type
    try:
        return _compared(type_, value)
    except (ValueError, InvalidOperation):
        if strict:
            raise invalid(f"{value!r} is not a {type_}.", "INVALID_FILTER_VALUE", propertyName=[name]) from None
        return None


@functools.lru_cache(2**17)
def _compared(type_: str, value: str) -> Any:
    if type_ == "number":
        return Decimal(value)
    if type_ in ("date", "datetime"):
        if value.removeprefix("-").isdigit():
            return Decimal(value)
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return Decimal(round(moment.timestamp() * 1000))
    return value.lower()


Properties = Mapping[str, str | None]


def matcher(kind: Kind, groups: list[dict[str, Any]]) -> Callable[[Properties], bool]:
    """Return the test whether a record is in any group, which means in all filters of it."""
    tests = [[_test(kind, one) for one in group.get("filters", [])] for group in groups]
    return lambda properties: not tests or any(all(test(properties) for test in group) for group in tests)


def _test(kind: Kind, one: Mapping[str, Any]) -> Callable[[Properties], bool]:
    name, operator = one["propertyName"], one["operator"]
    if operator in _NONE:
        return lambda properties: bool(properties.get(name)) is (operator == "HAS_PROPERTY")
    if operator in _MANY:
        listed = [comparable(kind, name, str(value)) for value in one["values"]]
        compare: Callable[[Any], Any] = lambda has: (has in listed) is (operator == "IN")  # noqa: E731
    else:
        asked = comparable(kind, name, str(one["value"]))
        high = comparable(kind, name, str(one["highValue"])) if operator == "BETWEEN" else None
        token = str(asked).strip("*")
        compare = {
            "BETWEEN": lambda has: asked <= has <= high,
            "CONTAINS_TOKEN": lambda has: token in str(has),
            "NOT_CONTAINS_TOKEN": lambda has: token not in str(has),
            "EQ": lambda has: has == asked,
            "NEQ": lambda has: has != asked,
            "LT": lambda has: has < asked,
            "LTE": lambda has: has <= asked,
            "GT": lambda has: has > asked,
            "GTE": lambda has: has >= asked,
        }[operator]
    without = operator in ("NEQ", "NOT_IN", "NOT_CONTAINS_TOKEN")

    def test(properties: Properties) -> bool:
        text = properties.get(name)
        return bool(compare(comparable(kind, name, text))) if text else without

    return test
