"""The published schema, and the scalars of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema, build_schema

_DURATION = re.compile(
    r"(-?)P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_SHORT = re.compile(r"\d{4}(-\d{2})?")


def published() -> str:
    """Return the extract of the schema as text."""
    return files("connectors.testing").joinpath("linear.graphql").read_text("utf-8")


def make_schema(text: str, clock: Callable[[], datetime]) -> GraphQLSchema:
    """Build the schema; durations count from the clock."""
    schema = build_schema(text)

    def moment(value: Any) -> datetime:
        return _parse(value, clock)

    def day(value: Any) -> date:
        return _parse(value, clock).date()

    for name, parse in (("DateTime", moment), ("DateTimeOrDuration", moment), ("TimelessDateOrDuration", day)):
        scalar = schema.type_map.get(name)
        if isinstance(scalar, GraphQLScalarType):
            scalar.parse_value = scalar.coerce_input_value = parse  # type: ignore[method-assign]
    stringified = schema.type_map.get("JSON")
    if isinstance(stringified, GraphQLScalarType):
        stringified.serialize = stringified.coerce_output_value = json.dumps  # type: ignore[assignment,method-assign]
    return schema


def read_moment(text: str) -> datetime:
    """Read a time as records hold it."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _parse(value: Any, clock: Callable[[], datetime]) -> datetime:
    if not isinstance(value, str):
        raise GraphQLError(f"Invalid date: {value!r}")
    span = _DURATION.fullmatch(value)
    if span is not None and value.lstrip("-") not in ("P", "PT"):
        sign = -1 if span[1] else 1
        years, months, weeks, days, hours, minutes, seconds = (float(part or 0) for part in span.groups()[1:])
        distance = timedelta(
            days=365 * years + 30 * months + 7 * weeks + days, hours=hours, minutes=minutes, seconds=seconds
        )
        return clock() + sign * distance
    if _SHORT.fullmatch(value):
        value = f"{value}-01-01" if len(value) == 4 else f"{value}-01"
    try:
        return read_moment(value)
    except ValueError as error:
        raise GraphQLError(f"Invalid date: {value!r}") from error
