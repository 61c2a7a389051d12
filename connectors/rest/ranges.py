"""Which pages can be read at once: where they are counted and it is known how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from connectors.rest.detect import find_rows
from connectors.rest.incremental import Span
from connectors.rest.options import Offset, PageNumber
from connectors.rest.paginators import Answer, Counted
from connectors.rest.resources import Resource
from connectors.rest.selectors import select
from connectors.rest.walk import Walk, digest

# What a kill costs at most, in pages; and what a plan costs at most, in chunks.
_PAGES = 20
_CHUNKS = 1000
# Fewer would not show whether rows were pushed from one to the next.
_LEAST = 3


@dataclass(frozen=True)
class First:
    """What the first page showed.

    Attributes:
        total: What the paginator counts: pages or rows; None where the answer does not say.
        digest: What tells the page apart from others.
        rows: How many rows there are, estimated.
    """

    total: int | None
    digest: str | None
    rows: int


def first_page(resource: Resource, answer: Answer, elements: int) -> First:
    """Return what is to be remembered of a first page."""
    model = resource.paginator
    if not isinstance(model, Offset | PageNumber):
        return First(None, None, elements)
    items = select(resource.selector or find_rows(answer.data), answer.data)
    total = Counted(model).total(answer) if items else 0
    rows = elements if total is None else total if isinstance(model, Offset) else total * elements
    return First(total, digest(items) if items else None, rows)


async def ranges(walk: Walk, resource: Resource, span: Span, first: First | None, width: int) -> list[dict[str, Any]]:
    """Return bounds that cover all pages of a resource, apart from each other.

    Args:
        first: What its first page showed a moment ago; None asks for it where it is needed.
        width: How many may be read at once.
    """
    parent = walk.parent(resource)
    if parent is not None:
        found = await ranges(walk, parent, walk.whole(parent), None, width)
        return [{"parent": bounds} if bounds else {} for bounds in found]
    model = resource.paginator
    if not isinstance(model, Offset | PageNumber) or span.bounded:
        return [{}]
    pager, known = Counted(model), dict[str, Any]()
    if model.total_path is not None:
        if first is None:
            request = pager.apply(walk.request(resource, span, {}), {"at": pager.start})
            answer = await walk.ask(resource, request)
            if answer is None:
                return [{}]
            first = first_page(resource, answer, 0)
        if first.total is None:
            return [{}]
        end = first.total + pager.base
        end = end if pager.maximum is None else min(end, pager.maximum)
        known = {"total": first.total, **({"first": first.digest} if first.digest is not None else {})}
    elif pager.maximum is not None and model.has_more_path is None:
        end = pager.maximum
    else:
        return [{}]
    walk.planned.add(resource.name)
    return _split(pager, end, known, width)


def _split(pager: Counted, end: int, known: dict[str, Any], width: int) -> list[dict[str, Any]]:
    pages = math.ceil((end - pager.start) / pager.step)
    size = max(min(_PAGES, math.ceil(pages / (2 * width))), math.ceil(pages / _CHUNKS), _LEAST)
    found: list[dict[str, Any]] = []
    for begin in range(0, pages, size):
        bounds = dict(known) if pages > size else {}
        if begin:
            bounds["at"] = {"at": pager.start + begin * pager.step}
        if begin + size < pages:
            bounds["to"] = pager.start + (begin + size) * pager.step
        # The last one goes on as long as there are pages: rows may come meanwhile.
        found.append(bounds)
    return found or [{}]
