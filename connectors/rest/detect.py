"""What an answer looks like: where its rows are, and how it leads to the next page; the rules are those of dlt 1.31."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.rest.options import HeaderLink, JsonCursor, JsonLink, PageNumber, PaginatorModel, SinglePage
from connectors.rest.paginators import Answer

_ROWS = frozenset(
    (
        *("data", "items", "results", "entries", "records", "rows"),
        *("entities", "payload", "content", "objects", "values"),
    )
)
_TOTAL = re.compile(r"total_pages$|pages$|totalpages$")
_DEEPEST = 3
_Found = tuple[tuple[str, ...], Any]


def find_rows(data: Any) -> str:
    """Return the path of the rows in an answer: the list whose name says so, else the first that is found."""
    if not isinstance(data, Mapping):
        return "$"
    lists = list(_lists(data))
    if not lists:
        return "$"
    named = (path for path in lists if path[-1] in _ROWS)
    return _path(next(named, lists[0]))


def find_paginator(answer: Answer) -> PaginatorModel:
    """Return the paginator that an answer asks for.

    A Link header comes first, then an address in the body, then a number of pages, then anything called next.
    """
    if answer.links().get("next"):
        return HeaderLink()
    following = _next(answer.data)
    if following is not None and isinstance(following[1], str) and following[1].startswith(("http", "/")):
        return JsonLink(next_url_path=_path(following[0]))
    pages = _pages(answer.data)
    if pages is not None:
        try:
            int(pages[1])
            return PageNumber(total_path=_path(pages[0]))
        except ValueError:
            pass
    if following is not None:
        return JsonCursor(cursor_path=_path(following[0]))
    return SinglePage()


def _lists(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if len(path) >= _DEEPEST:
        return
    for name, value in data.items():
        if isinstance(value, list):
            yield (*path, name)
        elif isinstance(value, Mapping):
            yield from _lists(value, (*path, name))


def _next(data: Any, path: tuple[str, ...] = ()) -> _Found | None:
    """Find what is called next, or its href or url."""
    if not isinstance(data, Mapping):
        return None
    for name, value in data.items():
        if name.lower().startswith("next"):
            if isinstance(value, Mapping):
                for key, one in value.items():
                    if key.lower().startswith(("href", "url")) and isinstance(one, str | int | float):
                        return (*path, name, key), one
            elif isinstance(value, str | int | float):
                return (*path, name), value
        found = _next(value, (*path, name))
        if found is not None:
            return found
    return None


def _pages(data: Any, path: tuple[str, ...] = ()) -> _Found | None:
    """Find how many pages there are."""
    if not isinstance(data, Mapping):
        return None
    for name, value in data.items():
        if _TOTAL.match(name.lower()) and isinstance(value, str | int | float):
            return (*path, name), value
        found = _pages(value, (*path, name))
        if found is not None:
            return found
    return None


def _path(names: tuple[str, ...]) -> str:
    """Return names as a path; those that would mean something else are quoted."""
    return ".".join(name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_\-]*", name) else f'"{name}"' for name in names)
