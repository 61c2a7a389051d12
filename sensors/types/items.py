"""The items of a JSON answer: parsed once for all who look together, selected, named by a key, put in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import anyio

from connectors.http.answers import exact
from connectors.rest.jsonpaths import JsonPath
from runner.errors import SensorError

# Working on more than that would hold up the loop.
_SMALL = 2**17
_LONGEST_KEY = 200

Rank = tuple[int, Any]


class Answer:
    """What an endpoint answered. Several sensors look at the same one: nobody changes what it holds.

    Args:
        body: As it came, decompressed.
        unchanged: Whether the server said that it is what was seen before (304).

    Attributes:
        digest: Of the body.
        etag: The server's validators (RFC 9110, 8.8): ``modified`` only where it tells every change.
    """

    def __init__(self, body: bytes, *, etag: str | None, modified: str | None, unchanged: bool = False) -> None:
        self.body = body
        self.etag, self.modified, self.unchanged = etag, modified, unchanged
        self.digest = hashlib.blake2b(body, digest_size=12).hexdigest()
        self._turn: anyio.Lock | None = None
        self._data: Any = None
        self._parsed = False

    @property
    def large(self) -> bool:
        """Whether what is done with it belongs into a thread."""
        return len(self.body) > _SMALL

    async def data(self) -> Any:
        """Return it as JSON that can be written again: numbers that a double would round are texts.

        Raises:
            SensorError: It is none.
        """
        if self._parsed:
            return self._data
        if not self.large:
            self._data, self._parsed = _parse(self.body), True
            return self._data
        self._turn = self._turn or anyio.Lock()
        async with self._turn:
            if not self._parsed:
                self._data = await anyio.to_thread.run_sync(_parse, self.body)
                self._parsed = True
        return self._data


def select(path: JsonPath | None, data: Any) -> list[Any] | None:
    """Return what lies at a path: a list as it is, anything else as the only element of one; None where nothing is."""
    if path is None:
        rows = data
    else:
        found = path.find(data)
        if not found:
            return None
        rows = found[0] if len(found) == 1 else found
    if rows is None:
        return []
    return rows if isinstance(rows, list) else [rows]


def named(items: Sequence[Any], paths: Sequence[JsonPath]) -> dict[str, Any]:
    """Return items by their keys: of several with the same key the first.

    Args:
        paths: Where the parts of the key are; without any, an item's key is its digest.

    Raises:
        SensorError: An item has no key.
    """
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(_key(item, paths), item)
    return found


def rank(item: Any, path: JsonPath) -> Rank:
    """Return where an item stands among the others.

    Raises:
        SensorError: It does not say.
    """
    return ranked(ordering(item, path), path.text)


def ordering(item: Any, path: JsonPath) -> Any:
    """Return the value that orders an item."""
    found = path.find(item)
    return found[0] if found else None


def ranked(value: Any, name: str) -> Rank:
    """Return a value so that it can be compared: numbers, points in time or texts."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, value
    if not isinstance(value, str):
        raise SensorError(
            f"order: {name} is {json.dumps(value)[:50]} in one of the items, which orders nothing.",
            guidance="Name a field with a number, a time or a text in every item, or leave `order` out.",
        )
    try:
        return 0, Decimal(value)
    except InvalidOperation:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return 2, value
    return 1, moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def digest(value: Any) -> str:
    """Return what tells a JSON value from every other one, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _key(item: Any, paths: Sequence[JsonPath]) -> str:
    if not paths:
        return digest(item)
    parts = []
    for path in paths:
        found = path.find(item)
        if not found or found[0] is None:
            raise SensorError(
                f"key: an item has no {path.text}: {json.dumps(item)[:100]}",
                guidance="Name what every item has, or leave `key` out: then its whole content is its key.",
            )
        parts.append(found[0])
    value = parts[0] if len(parts) == 1 else parts
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    # Half of a surrogate pair is JSON, and nothing that could be stored.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_KEY else digest(text)


def _parse(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode("utf-8-sig")) if body.strip() else None
    except ValueError as error:
        raise SensorError(
            "The answer is no JSON.", guidance="Check the url: a page for people, a log-on page perhaps, is no data."
        ) from error


def _number(text: str) -> float | str:
    value = exact(text)
    return value if isinstance(value, float) else text


# NaN and Infinity are no JSON (RFC 8259, 6), and are sent all the same.
_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=str)
