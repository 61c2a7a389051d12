"""JSONPath as jsonpath-ng reads it; names with dots are followed without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# What jsonpath-ng takes as plain names, quoted or not, but for the words of its grammar.
_NAME = r'(?:[A-Za-z_][A-Za-z0-9_\-]*|"[^"\\]+")'
_PLAIN = re.compile(rf"{_NAME}(\.{_NAME})*")
_WORDS = frozenset({"parent", "where", "wherenot"})


class JsonPath:
    """A compiled path.

    Args:
        text: The path.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._names: tuple[str, ...] | None = None
        self._compiled: Any = None
        if text == "$":
            self._names = ()
        elif _PLAIN.fullmatch(text) and not _WORDS & set(names := re.findall(_NAME, text)):
            self._names = tuple(name.strip('"') for name in names)
        else:
            self._compiled = _parsed(text)

    @property
    def field(self) -> str | None:
        """The name, where the path is one name and no more."""
        return self._names[0] if self._names is not None and len(self._names) == 1 else None

    @property
    def plain(self) -> bool:
        """Whether it is names with dots between them, so that it finds one value or none."""
        return self._names is not None

    @property
    def column(self) -> str:
        """The column of what it finds: a field's own, or for anything deeper one that no object has."""
        return self.field or "cursor_" + "_".join(re.findall(r"[A-Za-z0-9]+", self.text))

    def find(self, data: Any) -> list[Any]:
        """Return every value at the path."""
        if self._names is None:
            return [match.value for match in self._compiled.find(data)]
        for name in self._names:
            if not isinstance(data, Mapping) or name not in data:
                return []
            data = data[name]
        return [data]

    def first(self, data: Any) -> Any:
        """Return the first value at the path, or None."""
        found = self.find(data)
        return found[0] if found else None


@lru_cache(maxsize=1024)
def compiled(text: str) -> JsonPath:
    """Return a path, compiled once."""
    return JsonPath(text)


def _parsed(text: str) -> Any:
    # Its grammar takes a moment to load, and most configurations do without it.
    from jsonpath_ng.ext.parser import parse

    try:
        return parse(text)
    except Exception as error:  # its lexer and its parser have errors of their own
        raise ValueError(f"{text!r} is no JSONPath: {error}") from error


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Set a value in nested dictionaries, at names joined by dots; what is missing is made."""
    *parts, last = path.split(".")
    for part in parts:
        body = body.setdefault(part, {})
    body[last] = value
