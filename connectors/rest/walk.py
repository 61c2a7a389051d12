"""From page to page, from parents to their children: rows in the parents' order, read ahead concurrently."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from anyio.abc import TaskGroup

from connectors.http import Http
from connectors.rest.actions import Settled
from connectors.rest.ahead import Leaf, in_order
from connectors.rest.auth import asking
from connectors.rest.cursors import Cursor
from connectors.rest.detect import find_paginator, find_rows
from connectors.rest.edges import Edge
from connectors.rest.incremental import Span
from connectors.rest.jsonpaths import compiled
from connectors.rest.options import remade
from connectors.rest.paginators import Answer, Paginator, State, make_paginator
from connectors.rest.placeholders import expanded, expanded_params
from connectors.rest.request import Request, join
from connectors.rest.resources import Resource
from connectors.rest.selectors import as_row, processed, select
from runner.errors import RequestRefused, SourceError, TableChanged, TableMissing
from runner.naming import fingerprint


class Walk:
    """Reads resources.

    Args:
        base: The address that paths are relative to.
        group: Where children are read ahead; it lives as long as the session.

    Attributes:
        planned: The resources whose ranges of pages were planned in this session.
    """

    def __init__(self, http: Http, base: str, resources: Mapping[str, Resource], group: TaskGroup) -> None:
        self._http = http
        self._base = base
        self._resources = resources
        self._group = group
        self.planned: set[str] = set()

    def parent(self, resource: Resource) -> Resource | None:
        """Return the resource whose rows fill in another's expressions."""
        return self._resources[resource.parent] if resource.parent is not None else None

    def whole(self, resource: Resource) -> Span:
        """Return all rows that a configuration wants of a resource, whatever was read before."""
        return Span(resource.name, resource.incremental, Cursor(None))

    async def leaves(
        self, resource: Resource, bounds: Mapping[str, Any], span: Span, *, width: int | None = None
    ) -> AsyncGenerator[Leaf, None]:
        """Read from some bounds on.

        Args:
            width: How many parents' children are read at once.
        """
        parent = self.parent(resource)
        if parent is None:
            async with contextlib.aclosing(self._own(resource, bounds, span, {})) as pages:
                async for leaf in pages:
                    yield leaf
            return
        parents = self.leaves(parent, bounds.get("parent") or {}, self.whole(parent), width=width)
        at_once = width or self._http.requests.limits.concurrency.ceiling

        def children(row: dict[str, Any]) -> AsyncGenerator[Leaf, None]:
            return self._own(resource, {}, span, row)

        async with contextlib.aclosing(parents) as pages:
            async for page in pages:
                async with contextlib.aclosing(in_order(self._group, page.rows, children, at_once)) as found:
                    async for leaf in found:
                        yield Leaf(leaf.rows, None, leaf.answer, leaf.elements)
                if page.rest is not None:
                    yield Leaf([], {**bounds, "parent": page.rest})

    async def _own(
        self, resource: Resource, bounds: Mapping[str, Any], span: Span, parent: dict[str, Any]
    ) -> AsyncGenerator[Leaf, None]:
        """Read the pages of one address."""
        request = self.request(resource, span, parent)
        added = _of_parent(resource, parent)
        async with contextlib.aclosing(self._pages(resource, request, bounds)) as pages:
            async for items, rest, answer in pages:
                elements = len(items)
                if added:
                    items = [{**as_row(item), **added} for item in items]
                found = [as_row(item) for item in processed(items, resource.steps, resource.name)]
                rows = span.kept(found)
                if span.closed:
                    rest = None
                yield Leaf(rows, rest, answer, elements)
                if rest is None:
                    return

    def request(self, resource: Resource, span: Span, parent: Mapping[str, Any]) -> Request:
        """Return the request for the first page."""
        values = {**span.values(), **_resolved(resource, parent)}
        return Request(
            resource.method,
            join(self._base, str(expanded(resource.path, values))),
            expanded_params(span.params(resource.params), values),
            expanded(resource.headers, values),
            expanded(resource.json, values, typed=True),
            expanded(resource.data, values),
        )

    async def _pages(
        self, resource: Resource, request: Request, bounds: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[list[Any], dict[str, Any] | None, Answer], None]:
        selector, model = bounds.get("selector") or resource.selector, resource.paginator
        detected: dict[str, Any] | None = bounds.get("paginator")
        if detected is not None:
            model = remade(detected)
        pager = make_paginator(model, begin=detected is None) if model is not None else None
        state: State | None = bounds["at"] if "at" in bounds else pager.first() if pager else None
        begun, before, edge = "at" in bounds, _Before(), Edge(pager, bounds)
        while True:
            page = pager.apply(request, state) if pager and state else request
            answer = await self._known(resource, page, begun=begun, later=begun or before.any)
            if answer is None:
                return
            selector = selector if selector is not None else find_rows(answer.data)
            items = select(selector, answer.data)
            whole = _tell_apart(resource, items)
            if begun and whole and digest(items) == bounds.get("first"):
                raise _same(resource)
            before.check(resource, items, answer, whole=whole)
            if whole:
                edge.see(items)
            if pager is None:
                found = find_paginator(answer)
                detected = found.model_dump()
                pager = make_paginator(found, begin=False)
            following = pager.next(state, answer, len(items))
            if following is not None and following == state:
                raise _same(resource)
            if following is not None and edge.reached(following):
                changed = await self._first_changed(resource, request, pager, selector, bounds)
                following = following if edge.moves(answer, changed=changed) else None
            rest = None
            if following is not None:
                known = {"selector": selector} if resource.selector is None else {}
                known |= {"paginator": detected} if detected is not None else {}
                rest = {**bounds, **edge.record(), **known, "at": following}
            yield items, rest, answer
            if rest is None:
                return
            state, begun = following, False

    async def _first_changed(
        self, resource: Resource, request: Request, pager: Paginator, selector: str, bounds: Mapping[str, Any]
    ) -> bool:
        """Tell whether the first page is another one than when ranges of pages were planned, in another session."""
        state = pager.first()
        if resource.name in self.planned or "first" not in bounds or state is None:
            return False
        answer = await self.ask(resource, pager.apply(request, state))
        return answer is None or digest(select(selector, answer.data)) != bounds["first"]

    async def _known(self, resource: Resource, request: Request, *, begun: bool, later: bool) -> Answer | None:
        """Ask for a page that was there a moment ago; where it is not any more, the table changed.

        Args:
            begun: Whether a chunk begins here: what it goes on from may have expired.
            later: Whether it is not the first page.
        """
        try:
            return await self.ask(resource, request)
        except (TableMissing, RequestRefused) as error:
            if not later or not (begun or isinstance(error, TableMissing)):
                raise
            raise TableChanged(f"The page where reading goes on is not there any more: {error.message}") from error

    async def ask(self, resource: Resource, request: Request) -> Answer | None:
        """Send a request; None where response_actions ignore what came."""
        token = asking.set(resource)
        try:
            reply = await self._http.request(
                request.method,
                request.url,
                params=request.query,
                headers=request.sent_headers,
                json=request.json,
                body=request.body,
                idempotent=True,
            )
        except Settled as settled:
            return settled.answer
        finally:
            asking.reset(token)
        if reply.data is None and reply.body.strip() not in (b"", b"null"):
            raise SourceError(f"{reply.where}: the answer is no JSON.", guidance="Check base_url and the path.")
        return Answer(reply.data, reply.headers, request.url, reply.body)


class _Before:
    """The page before this one."""

    def __init__(self) -> None:
        self.any = False
        self._items: Any = None
        self._data: Any = None

    def check(self, resource: Resource, items: list[Any], answer: Answer, *, whole: bool) -> None:
        self.any = True
        # Steps may change rows where they are.
        known = digest(items) if resource.steps else items
        if items and known == self._items and (whole or answer.data == self._data):
            raise _same(resource)
        self._items, self._data = known, None if resource.steps else answer.data


def _tell_apart(resource: Resource, items: list[Any]) -> bool:
    """Tell whether rows are whole objects, so that two pages of the same ones are one page twice."""
    whole = resource.selector is None or compiled(resource.selector).plain
    return whole and len(items) > 1 and isinstance(items[0], Mapping)


def _same(resource: Resource) -> SourceError:
    return SourceError(
        f"The pages of {resource.name} do not advance: two that follow each other are the same.",
        guidance="Check the paginator: the name of its parameter, where the next page is named, and base_page.",
    )


def digest(items: list[Any]) -> str:
    """Return what tells the rows of two pages apart."""
    return fingerprint(items)


def _resolved(resource: Resource, parent: Mapping[str, Any]) -> dict[str, Any]:
    values = {}
    for name, path in resource.resolved:
        found = path.find(parent)
        if not found:
            raise SourceError(
                f"{resource.name} needs the field {path.text!r} of each row of {resource.parent}, and one has none: "
                f"it has {', '.join(parent) or 'no fields'}."
            )
        values[name] = found[0]
    return values


def _of_parent(resource: Resource, parent: Mapping[str, Any]) -> dict[str, Any]:
    for name in resource.include:
        if name not in parent:
            raise SourceError(
                f"{resource.name} includes the field {name!r} of each row of {resource.parent}, and one has none: "
                f"it has {', '.join(parent)}."
            )
    return {f"_{resource.parent}_{name}": parent[name] for name in resource.include}
