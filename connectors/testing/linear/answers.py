"""How each field of a query is answered from the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLList,
    GraphQLObjectType,
    GraphQLResolveInfo,
    get_named_type,
    get_nullable_type,
)

from connectors.testing.linear.complexity import PAGE
from connectors.testing.linear.filters import Filters
from connectors.testing.linear.records import Records
from connectors.testing.linear.refusals import missing, wrong_argument

MOST = 250
_SORTS = {"createdAt": "createdAt", "updatedAt": "updatedAt", "name": "name"}


class Answers:
    """The field resolver of the schema.

    Attributes:
        broken: Fields that fail, as (type, field): what they say; where the field may be null, the rest is answered.
        newest_first: The direction of pages: the reference does not name it, this is what the service does.
    """

    def __init__(self, records: Records, viewer: Callable[[], dict[str, Any] | None]) -> None:
        self.records = records
        self.broken: dict[tuple[str, str], GraphQLError] = {}
        self.newest_first = True
        self._viewer = viewer
        self._filters = Filters(records)

    def __call__(self, source: Any, info: GraphQLResolveInfo[Any], **given: Any) -> Any:
        kind = get_named_type(info.return_type)
        broken = self.broken.get((info.parent_type.name, info.field_name))
        if broken is not None:
            raise broken
        if kind.name.endswith("Connection"):
            return self._connection(source, info, kind.name.removesuffix("Connection"), given)
        if source is None:
            return self._root(info.field_name, kind.name, given)
        found = source.get(info.field_name)
        if isinstance(kind, GraphQLObjectType) and isinstance(found, str):
            return self.records.get(kind.name, found)
        if isinstance(get_nullable_type(info.return_type), GraphQLList) and isinstance(kind, GraphQLObjectType):
            return [self.records.get(kind.name, one) if isinstance(one, str) else one for one in found or ()]
        return found

    def _root(self, name: str, kind: str, given: Mapping[str, Any]) -> Any:
        if name == "viewer":
            return self._viewer()
        if name == "organization":
            return next(iter(self.records.all("Organization")), None)
        record = self.records.get(kind, given.get("id"))
        if record is None:
            raise missing(kind)
        return record

    def _connection(
        self, source: Any, info: GraphQLResolveInfo[Any], kind: str, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        _check(given)
        held = self.records.all(kind) if source is None else self.records.members(source, info.field_name, kind)
        rows = [one for one in held if given.get("includeArchived") or one.get("archivedAt") is None]
        if kind == "User" and not given.get("includeDisabled"):
            rows = [one for one in rows if one.get("active")]
        asked = given.get("filter")
        if asked:
            rows = [one for one in rows if self._filters.fits(kind, one, asked)]
        order = given.get("orderBy") or "createdAt"
        back = self.newest_first
        for one in given.get("sort") or ():
            order, how = next((_SORTS[name], how) for name, how in one.items() if name in _SORTS)
            back = how.get("order") != "Ascending"

        def place(one: Mapping[str, Any]) -> tuple[Any, Any]:
            return one.get(order) or "", one["id"]

        rows.sort(key=place, reverse=back)
        return self._page(rows, kind, given, place, back)

    def _page(
        self,
        rows: list[dict[str, Any]],
        kind: str,
        given: Mapping[str, Any],
        place: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        back: bool,
    ) -> dict[str, Any]:
        # A cursor names a record, and stands for where that record is now in the order that is asked for now.
        start, end = 0, len(rows)
        for name in ("after", "before"):
            if given.get(name) is None:
                continue
            anchor = self.records.get(kind, given[name])
            if anchor is None:
                raise missing(kind)
            at = place(anchor)
            ahead = [(place(one) >= at) if back else (place(one) <= at) for one in rows]
            if name == "after":
                start = sum(ahead)
            else:
                end = sum(ahead) - (anchor in rows)
        span = rows[start:end]
        size = given.get("first") or given.get("last") or PAGE
        backward = given.get("first") is None and given.get("last") is not None
        page = span[-size:] if backward else span[:size]
        more = len(span) > len(page)
        return {
            "nodes": page,
            "edges": [{"cursor": one["id"], "node": one} for one in page],
            "pageInfo": {
                "hasNextPage": end < len(rows) if backward else more,
                "hasPreviousPage": more if backward else start > 0,
                "startCursor": page[0]["id"] if page else None,
                "endCursor": page[-1]["id"] if page else None,
            },
        }


def _check(given: Mapping[str, Any]) -> None:
    # Source: https://linear.app/developers/pagination; the bounds are those of the service's own errors.
    for name in ("first", "last"):
        size = given.get(name)
        if size is not None and size > MOST:
            raise wrong_argument(name, "max", f"{name} must not be greater than {MOST}")
        if size is not None and size < 1:
            raise wrong_argument(name, "min", f"{name} must not be less than 1")
    for name in ("after", "before"):
        cursor = given.get(name)
        if cursor is not None and len(cursor) != 36:
            raise wrong_argument(name, "isUuid", f"{name} must be a UUID")
