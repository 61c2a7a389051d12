"""Headers of which a line changed: a header's own time does not tell that, so its lines are asked.

In OData 4 one condition asks both (URL Conventions 5.1.1.13, lambda operators). OData 2 has none: the keys of changed
lines are read, then their headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors.api import Page
from connectors.odata import literals
from connectors.odata.edm import EntitySet, Model, Navigation
from connectors.odata.reading import Request, by_key, by_links, has_order
from connectors.odata.service import Service
from runner.source import Window

# So many headers in one condition: addresses have a longest length.
_AT_ONCE = 15


@dataclass(frozen=True)
class Lines:
    """Lines of a header.

    Attributes:
        cursor: Their own time of change, and its type.
        pairs: Properties of the header's key, and those of the lines that hold the same.
    """

    navigation: Navigation
    set: EntitySet
    cursor: str
    kind: str
    pairs: tuple[tuple[str, str], ...]


def lines_of(owner: EntitySet, names: Iterable[str], model: Model, cursor: str) -> list[Lines]:
    """Return the expanded lines that say when they changed, by a property that is called as the header's."""
    found = []
    for name in names:
        navigation = owner.type.navigation.get(name)
        target = model.set_of(navigation.target) if navigation is not None else None
        if navigation is None or target is None or not navigation.many:
            continue
        prop = target.type.properties.get(cursor)
        # Without a constraint the lines' key begins as the header's does.
        pairs = navigation.pairs or tuple((key, key) for key in owner.type.key if key in target.type.properties)
        if prop is not None and {ours for ours, _ in pairs} >= set(owner.type.key) and has_order(target):
            found.append(Lines(navigation, target, prop.name, prop.type, pairs))
    return found


def condition(lines: Lines, window: Window, version: int) -> str | None:
    """Return the condition, in OData 4, that a line of a header is of a window."""
    inside = literals.window(
        replace(window, nulls=False), lines.kind, version, nullable=False, path=f"i/{lines.cursor}"
    )
    return f"{lines.navigation.name}/any(i:{inside})" if inside else None


async def changed(
    service: Service, lines: Lines, header: Request, where: str | None, window: Window, bounds: Mapping[str, Any]
) -> AsyncIterator[Page]:
    """Yield, in OData 2, the headers of the lines of a window, page by page of the lines."""
    inside = literals.window(replace(window, nulls=False), lines.kind, 2, nullable=False, path=lines.cursor)
    own = tuple(dict.fromkeys([*(theirs for _, theirs in lines.pairs), *lines.set.type.key]))
    asked = Request(lines.set, 2, own, inside)
    kinds = [header.set.type.properties[ours].type for ours, _ in lines.pairs]
    names = [ours for ours, _ in lines.pairs]
    linked = "next" in bounds or service.config.paging == "server"
    async for page in (by_links if linked else by_key)(service, asked, bounds):
        keys = list(dict.fromkeys(tuple(row[theirs] for _, theirs in lines.pairs) for row in page.rows))
        rows: list[Any] = []
        for at in range(0, len(keys), _AT_ONCE):
            each = [literals.equal(names, kinds, key, 2) for key in keys[at : at + _AT_ONCE]]
            some = replace(header, condition=literals.joined([where, literals.joined(each, "or")]))
            async for found in by_links(service, some, {}):
                rows += found.rows
        yield Page(rows, rest=None if page.rest is None else {"lines": lines.navigation.name, **page.rest})
