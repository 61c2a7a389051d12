"""Where the next page is: each way keeps a state that is JSON, so that any page can be gone on from.

The rules are those of dlt 1.31 (https://dlthub.com/docs/general-usage/http/rest-client#paginators).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from connectors.rest.jsonpaths import compiled
from connectors.rest.options import (
    HeaderCursor,
    HeaderLink,
    JsonCursor,
    JsonLink,
    Offset,
    PageNumber,
    PaginatorModel,
    SinglePage,
)
from connectors.rest.request import Request
from runner.errors import RequestRefused

State = dict[str, Any]
_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_LINK = re.compile(r"<([^>]*)>([^<]*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;,]+))", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What came: parsed, with its headers, and the address that it came from."""

    data: Any
    headers: Mapping[str, str]
    url: str = ""
    body: bytes = b""

    def links(self) -> dict[str, str]:
        """Return the addresses of the Link header by what they are (RFC 8288)."""
        many = getattr(self.headers, "getall", None)
        lines = many("Link", []) if many is not None else [self.headers.get("Link") or self.headers.get("link") or ""]
        found = {}
        for address, rest in _LINK.findall(", ".join(lines)):
            names = _REL.search(rest)
            if names:
                found[names[1] or names[2] or names[3]] = address
        return found


class Paginator(Protocol):
    """Leads from page to page."""

    def first(self) -> State | None:
        """Return the state of the first page; None leaves the request as it is."""
        ...

    def apply(self, request: Request, state: State) -> Request:
        """Return the request for the page of a state."""
        ...

    def next(self, state: State | None, answer: Answer, rows: int) -> State | None:
        """Return the state of the page after this one; None after the last."""
        ...


class Single:
    """There is one page."""

    def first(self) -> State | None:
        return None

    def apply(self, request: Request, state: State) -> Request:
        return request

    def next(self, state: State | None, answer: Answer, rows: int) -> State | None:
        return None


class Link:
    """An address of the next page, in the body or in a header."""

    def __init__(self, model: JsonLink | HeaderLink) -> None:
        self._model = model

    def first(self) -> State | None:
        return None

    def apply(self, request: Request, state: State) -> Request:
        return request.at(state["link"])

    def next(self, state: State | None, answer: Answer, rows: int) -> State | None:
        if isinstance(self._model, JsonLink):
            link = compiled(self._model.next_url_path).first(answer.data)
        else:
            link = answer.links().get(self._model.links_next_key)
        if link is None or link == "" or link is False:
            return None
        if not isinstance(link, str):
            raise RequestRefused(f"The next page's address is {link!r}, which is none.")
        # A relative one starts at the page that it is on.
        before = state["link"] if state else ""
        return {"link": Request("GET", before).at(link).url if before else link}


class Reference:
    """Something that names the next page, in the body or in a header."""

    def __init__(self, model: JsonCursor | HeaderCursor) -> None:
        self._model = model

    def first(self) -> State | None:
        return None

    def apply(self, request: Request, state: State) -> Request:
        model = self._model
        if isinstance(model, JsonCursor) and model.cursor_body_path:
            return request.with_field(model.cursor_body_path, state["cursor"])
        return request.with_param(model.cursor_param or "cursor", state["cursor"])

    def next(self, state: State | None, answer: Answer, rows: int) -> State | None:
        model = self._model
        if isinstance(model, HeaderCursor):
            found = answer.headers.get(model.cursor_key)
            return None if found is None else {"cursor": found}
        found = compiled(model.cursor_path).first(answer.data) or None
        if model.stop_after_empty_page and not rows:
            return None
        more = model.has_more_path is None or _has_more(model.has_more_path, answer)
        return {"cursor": found} if found is not None and more else None


class Counted:
    """Pages by number, or by how many rows come before them.

    Args:
        begin: Of the first request; None leaves it as it is, and counts from the base.
    """

    def __init__(self, model: Offset | PageNumber, *, begin: bool = True) -> None:
        self.model = self._model = model
        self._begin = begin
        if isinstance(model, Offset):
            self.step, self.base, self.start, self.maximum = model.limit, 0, model.offset, model.maximum_offset
            self._param, self._field = model.offset_param or "offset", model.offset_body_path
        else:
            self.step, self.base, self.maximum = 1, model.base_page, model.maximum_page
            self.start = model.base_page if model.page is None else model.page
            self._param, self._field = model.page_param or "page", model.page_body_path

    def first(self) -> State | None:
        return {"at": self.start} if self._begin else None

    def apply(self, request: Request, state: State) -> Request:
        model = self._model
        if isinstance(model, Offset):
            if model.limit_body_path:
                request = request.with_field(model.limit_body_path, model.limit)
            else:
                request = request.with_param(model.limit_param or "limit", model.limit)
        if self._field:
            return request.with_field(self._field, state["at"])
        return request.with_param(self._param, state["at"])

    def next(self, state: State | None, answer: Answer, rows: int) -> State | None:
        model = self._model
        if model.stop_after_empty_page and not rows:
            return None
        total = self.total(answer)
        at = (self.start if state is None else state["at"]) + self.step
        if total is not None and at >= total + self.base:
            return None
        if self.maximum is not None and at >= self.maximum:
            return None
        if model.has_more_path is not None and not _has_more(model.has_more_path, answer):
            return None
        return {"at": at}

    def total(self, answer: Answer) -> int | None:
        """Return how many pages, or rows, there are.

        Raises:
            RequestRefused: The answer does not say, and should.
        """
        path = self._model.total_path
        if path is None:
            return None
        found = compiled(path).first(answer.data)
        try:
            return int(found)
        except (ValueError, TypeError):
            raise RequestRefused(
                f"The paginator looks for a total at {path!r}, and the answer has {found!r} there.",
                guidance="Set total_path of the paginator to where it is, or to null where there is none.",
            ) from None


def make_paginator(model: PaginatorModel, *, begin: bool = True) -> Paginator:
    """Return what follows the pages as a model says; ``auto`` has to be decided before.

    Args:
        begin: Whether the first request names its page too.
    """
    if isinstance(model, JsonLink | HeaderLink):
        return Link(model)
    if isinstance(model, JsonCursor | HeaderCursor):
        return Reference(model)
    if isinstance(model, Offset | PageNumber):
        return Counted(model, begin=begin)
    assert isinstance(model, SinglePage)
    return Single()


def _has_more(path: str, answer: Answer) -> bool:
    found = compiled(path).first(answer.data)
    if isinstance(found, bool):
        return found
    if isinstance(found, str) and found.strip().lower() in (*_TRUE, *_FALSE):
        return found.strip().lower() in _TRUE
    raise RequestRefused(
        f"The paginator looks for true or false at {path!r}, and the answer has {found!r} there.",
        guidance="Set has_more_path of the paginator to where it is.",
    )
