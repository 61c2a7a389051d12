"""Pages of an entity set: after the last key, by the server's links, or counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

from connectors.api import Page
from connectors.odata import literals
from connectors.odata.columns import Decode, decoder
from connectors.odata.columns import column as as_column
from connectors.odata.edm import EntitySet, Model
from connectors.odata.service import Answer, Options, Service
from runner.errors import RequestRefused, TableChanged, TableMissing
from runner.source import Scan

# Kinds of keys of which we know the order as well as the server does.
_COUNTED = ("Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32")


@dataclass(frozen=True)
class Request:
    """What is asked of an entity set, whatever the way of paging.

    Attributes:
        condition: The filter: the table's own and the window of the cursor.
        expanded: Navigation properties that come along.
        decode: What turns values of JSON into what the core converts, by column.
    """

    set: EntitySet
    version: int
    select: tuple[str, ...] | None
    condition: str | None
    expanded: tuple[str, ...] = ()
    decode: Mapping[str, Decode] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key's properties."""
        return self.set.type.key

    @property
    def kinds(self) -> list[str]:
        """The types of the key's properties."""
        return [self.set.type.properties[name].type for name in self.key]

    def options(self, *more: tuple[str, str], condition: str | None = None) -> Options:
        """Return the query options."""
        whole = literals.joined([self.condition, condition])
        found = [("$filter", whole)] if whole else []
        if self.select is not None:
            found.append(("$select", ",".join([*self.select, *(self.expanded if self.version == 2 else ())])))
        if self.expanded:
            found.append(("$expand", ",".join(self.expanded)))
        return [*found, *more]

    def rows(self, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return entities as rows."""
        decode = self.decode
        return [
            {name: decode[name](value) if name in decode else value for name, value in one.items()} for one in found
        ]

    def key_of(self, row: Mapping[str, Any]) -> list[Any]:
        """Return the key of a row."""
        try:
            values = [row[name] for name in self.key]
        except KeyError as error:
            raise RequestRefused(
                f"{self.set.name}: an entity came without its key property {error.args[0]}."
            ) from error
        return [str(value) if isinstance(value, Decimal) else value for value in values]


def make_request(scan: Scan, entity_set: EntitySet, model: Model, condition: str | None) -> Request:
    """Return what a scan asks of an entity set: its columns and the key, no others."""
    kind = entity_set.type
    names = [column.name for column in scan.columns]
    plain = [name for name in names if name in kind.properties]
    select = tuple(dict.fromkeys([*plain, *kind.key]))
    streams = any(prop.type == "Edm.Stream" for prop in kind.properties.values())
    # Long lists of names make addresses longer than servers take.
    whole = not streams and len(select) == len(kind.properties) and not entity_set.tracked
    decode = {column.name: found for column in scan.columns if (found := decoder(column, model.version)) is not None}
    for name in kind.key:
        if name not in decode and name in kind.properties:
            own = as_column(kind.properties[name], model)
            found = decoder(own, model.version) if own is not None else None
            if found is not None:
                decode[name] = found
    expanded = tuple(name for name in names if name in kind.navigation)
    return Request(entity_set, model.version, None if whole else select, condition, expanded, decode)


def has_order(entity_set: EntitySet) -> bool:
    """Tell whether the key of a set can be compared and sorted by."""
    kind = entity_set.type
    found = [kind.properties.get(name) for name in kind.key]
    return bool(found) and all(one is not None and one.type in literals.ORDERED and one.usable for one in found)


async def by_key(service: Service, request: Request, bounds: Mapping[str, Any]) -> AsyncIterator[Page]:
    """Yield pages of what is after the last key: rows that come and go elsewhere do not shift them."""
    after, upto = bounds.get("after"), bounds.get("upto")
    order = ("$orderby", ",".join(request.key))
    top = ("$top", str(service.config.page_size))
    prefer = [f"odata.maxpagesize={service.config.page_size}"]
    while True:
        low = literals.beyond(request.key, request.kinds, after, request.version) if after is not None else None
        high = literals.until(request.key, request.kinds, upto, request.version) if upto is not None else None
        options = request.options(order, top, condition=literals.joined([low, high]))
        answer = await service.entities(request.set.name, options, prefer=prefer)
        if not answer.rows:
            # The server may send fewer than we ask for and not say so: only nothing is the end.
            return
        await service.complete(answer.rows, request.expanded)
        rows = request.rows(answer.rows)
        _refuse_disorder(request, rows, after)
        after = request.key_of(rows[-1])
        yield Page(rows, rest={"after": after, **({"upto": upto} if upto is not None else {})})


def _refuse_disorder(request: Request, rows: Sequence[Mapping[str, Any]], after: Any) -> None:
    """Notice a server that does not sort or filter as it was asked to: what follows would lose rows."""
    keys = [request.key_of(row) for row in rows]
    wrong = after is not None and keys[-1] == after
    if len(request.key) == 1 and request.kinds[0] in _COUNTED:
        numbers = [one[0] for one in ([after] if after is not None else []) + keys]
        wrong = wrong or any(a >= b for a, b in pairwise(numbers))
    if wrong:
        raise RequestRefused(
            f"{request.set.name}: the service does not sort and filter by the key as it was asked to.",
            guidance="Set paging: server for this source.",
            table=request.set.name,
        )


async def by_links(service: Service, request: Request, bounds: Mapping[str, Any]) -> AsyncIterator[Page]:
    """Yield pages as the server's links lead from one to the next.

    Raises:
        TableChanged: The server does not know any more where to go on.
    """
    following = bounds.get("next")
    while True:
        answer = await follow(service, request, following)
        await service.complete(answer.rows, request.expanded)
        following = answer.following
        yield Page(request.rows(answer.rows), rest=None if following is None else {"next": following})
        if following is None:
            return


async def follow(service: Service, request: Request, link: str | None) -> Answer:
    """Return the first page, or the one that a link leads to."""
    prefer = [f"odata.maxpagesize={service.config.page_size}"]
    if link is None:
        return await service.entities(request.set.name, request.options(), prefer=prefer)
    try:
        return await service.entities(link, prefer=prefer)
    except (RequestRefused, TableMissing) as error:
        raise TableChanged(
            f"{request.set.name}: the service does not know any more where its pages go on: {error.message}",
            table=request.set.name,
        ) from error


async def by_count(service: Service, request: Request, bounds: Mapping[str, Any]) -> AsyncIterator[Page]:
    """Yield pages by $skip and $top: for services that neither compare keys nor have links."""
    skip, until = int(bounds.get("skip", 0)), bounds.get("until")
    while until is None or skip < until:
        top = service.config.page_size if until is None else min(service.config.page_size, until - skip)
        more = [("$skip", str(skip)), ("$top", str(top))]
        if has_order(request.set):
            more.append(("$orderby", ",".join(request.key)))
        answer = await service.entities(request.set.name, request.options(*more))
        if not answer.rows:
            return
        await service.complete(answer.rows, request.expanded)
        skip += len(answer.rows)
        ended = until is not None and skip >= until
        yield Page(request.rows(answer.rows), rest=None if ended else {**bounds, "skip": skip})
