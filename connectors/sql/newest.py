"""The newest value of many tables, asked in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sql.client import Client
from runner.errors import RunnerError, SourceError

_TOGETHER = 50


async def newest(client: Client, selects: Sequence[str]) -> Mapping[str, Any]:
    """Return the value of each query that has one row of one column, by the query.

    One that is wrong does not spoil the others: its value is the error.

    Raises:
        RunnerError: The database does not answer.
    """
    found: dict[str, Any] = {}
    different = list(dict.fromkeys(selects))
    for start in range(0, len(different), _TOGETHER):
        some = different[start : start + _TOGETHER]
        try:
            found |= await _ask(client, some)
        except SourceError as error:
            if error.retriable:
                raise
            for select in some:
                found |= await _alone(client, select)
    return found


async def _alone(client: Client, select: str) -> Mapping[str, Any]:
    try:
        return await _ask(client, [select])
    except SourceError as error:
        if error.retriable:
            raise
        return {select: error}


async def _ask(client: Client, selects: Sequence[str]) -> Mapping[str, Any]:
    answer = await client.ask("select " + ", ".join(f"(\n{select}\n)" for select in selects), limit=1)
    return dict(zip(selects, answer.rows[0], strict=True))


def value_of(found: Mapping[str, Any], select: str) -> Any:
    """Return the value of a query.

    Raises:
        RunnerError: What was wrong with it.
    """
    value = found[select]
    if isinstance(value, RunnerError):
        raise value
    return value
