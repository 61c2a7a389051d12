"""YAML with the line and the column of every key and every value.

The loader reads what PyYAML's safe loader reads, as orchestra-cli does before it sends a pipeline, except that dates
stay text. It goes over events rather than nodes: a mistake in one place does not hide those after it, and neither
depth nor aliases make it run away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from runner.document import Path_

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TEXTS = {f"{_TAG}{kind}" for kind in ("str", "timestamp", "binary", "value", "merge")}
DEEPEST = 100
MOST_VALUES = 200_000


@dataclass(frozen=True, order=True)
class Place:
    """A place in a file; both count from 1."""

    line: int
    column: int


class Located:
    """A parsed YAML document.

    Attributes:
        text: The document.
        data: Plain mappings, lists and scalars; of a key that stands twice, the first value.
        mistakes: What is wrong with it as YAML: place, message, hint.
        broken: Whether it could not be read to its end.
    """

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix("\ufeff")
        self.data: Any = None
        self.mistakes: list[tuple[Place, str, str]] = []
        self.broken = False
        self._keys: dict[Path_, Place] = {}
        self._values: dict[Path_, Place] = {(): Place(1, 1)}
        self._spans: dict[Path_, tuple[int, int]] = {}
        _Builder(self).build()

    def knows(self, path: Path_) -> bool:
        """Tell whether something stands at a path."""
        return path in self._values

    def key(self, path: Path_) -> Place:
        """Return where a key stands, or an item of a list; else what is around it."""
        while path not in self._keys and path not in self._values:
            path = path[:-1]
        return self._keys.get(path) or self._values[path]

    def value(self, path: Path_) -> Place:
        """Return where a value begins; else what is around it."""
        while path not in self._values:
            path = path[:-1]
        return self._values[path]

    def inside(self, path: Path_, mark: str, number: int, following: str) -> Place:
        """Return a place inside a text.

        Args:
            mark: A part of the text that YAML never writes in another way.
            number: The how manieth mark it is, from 0.
            following: What comes between the beginning of the mark and the place; where the file writes it in another
                way (folded lines, escapes), the mark is the place.
        """
        if path not in self._spans:
            return self.value(path)
        begin, end = self._spans[path]
        found = begin - 1
        for _ in range(number + 1):
            found = self.text.find(mark, found + 1, end)
            if found < 0:
                return self.value(path)
        return self._place(found + len(following) if self.text.startswith(following, found) else found)

    def _place(self, index: int) -> Place:
        before = self.text[:index]
        return Place(before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)

    def note(self, mark: Any, message: str, hint: str = "") -> None:
        """Keep a mistake."""
        self.mistakes.append((place_of(mark), message, hint))


class _Stop(Exception):
    """It cannot be read any further."""


class _Builder:
    def __init__(self, located: Located) -> None:
        self._located = located
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._scalars: Any = yaml.SafeLoader("")
        self._count = 0

    def build(self) -> None:
        located = self._located
        try:
            self._events = iter(yaml.parse(located.text, Loader=_LOADER))
            self._document()
        except yaml.MarkedYAMLError as error:
            located.broken = True
            mark = error.problem_mark or error.context_mark
            located.note(mark, _said(error), _advice(error, located.text, mark))
        except yaml.YAMLError as error:
            located.broken = True
            located.note(None, f"not valid YAML: {str(error).splitlines()[0]}.")
        except _Stop:
            located.broken = True

    def _document(self) -> None:
        located = self._located
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
            if documents > 1:
                located.note(event.start_mark, "a second document begins here.", "A pipeline is a file of its own.")
                raise _Stop
            if isinstance(event, yaml.NodeEvent):
                located.data = self._value(event, (), 0)

    def _value(self, event: Any, path: Path_, depth: int) -> Any:
        located = self._located
        located._values[path] = place_of(event.start_mark)
        self._count += 1
        if depth > DEEPEST:
            located.note(event.start_mark, f"this is nested more than {DEEPEST} deep.")
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            located._spans[path] = _span(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._count - before + 1)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            self._located.note(event.start_mark, f"there is no anchor &{event.anchor} before this.")
            return None
        known = self._anchors[event.anchor]
        if known is None:
            self._located.note(event.start_mark, f"*{event.anchor} holds itself.")
            raise _Stop
        value, size = known
        self._count += size
        if self._count > MOST_VALUES:
            self._located.note(event.start_mark, f"with its aliases the file holds more than {MOST_VALUES:,} values.")
            raise _Stop
        return value

    def _list(self, path: Path_, depth: int) -> list[Any]:
        items: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path_, depth: int) -> dict[str, Any]:
        located = self._located
        mapping: dict[str, Any] = {}
        merged: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                located.note(event.start_mark, "a key must be a text.")
                self._value(event, (*path, "?"), depth + 1)
                self._value(next(self._events), (*path, "?"), depth + 1)
                continue
            key = event.value
            if key == "<<" and event.implicit[0]:
                merged.append(self._value(next(self._events), (*path, "<<"), depth + 1))
                continue
            place = place_of(event.start_mark)
            if key in mapping:
                first = located._keys[*path, key].line
                located.mistakes.append((place, f"the key {key!r} stands twice; it is in line {first} too.", ""))
                # Its mistakes are told all the same, but the first one counts.
                self._value(next(self._events), (*path, f"{key} (again)"), depth + 1)
                continue
            located._keys[*path, key] = place
            mapping[key] = self._value(next(self._events), (*path, key), depth + 1)
        for more in merged:
            for one in more if isinstance(more, list) else [more]:
                if isinstance(one, dict):
                    mapping = {**one, **mapping}
        return mapping

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._scalars.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag in _TEXTS:
            return event.value
        try:
            value = self._scalars.construct_object(yaml.ScalarNode(tag, event.value), deep=True)
        except (ValueError, KeyError, yaml.YAMLError):
            self._located.note(event.start_mark, f"this is no {tag.removeprefix(_TAG)}.", "Quote it to make it a text.")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._located.note(event.start_mark, "JSON has no such number.", "Quote it to make it a text.")
            return None
        return value


def _span(event: Any) -> tuple[int, int]:
    return event.start_mark.index, event.end_mark.index


def place_of(mark: Any) -> Place:
    """Return the place of a mark of PyYAML; the beginning where there is none."""
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _said(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not valid YAML"
    context = f" {error.context}" if error.context else ""
    return f"{problem}{context}."


def _advice(error: yaml.MarkedYAMLError, text: str, mark: Any) -> str:
    lines = text.split("\n")
    line = lines[min(mark.line, len(lines) - 1)] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "\\t" in (error.problem or ""):
        return "Indent with spaces; YAML takes no tabs there."
    if "mapping values are not allowed" in (error.problem or ""):
        return "Quote a text that holds a colon, and look at the indentation."
    return ""
