"""How records are shown: one, a page, a batch, with history and associations.

Facts: developers.hubspot.com, "Object APIs: CRM objects": 100 a page and a batch, 50 with history; properties that an
object type does not have are left out in silence; archived records come only where ``archived=true`` asks for them.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from connectors.testing.hubspot.refusals import Refusal, invalid, unknown_kind
from connectors.testing.hubspot.searching import number, parsed
from connectors.testing.hubspot.store import Kind, Record, Store, stamp

_PAGE, _PAGE_WITH_HISTORY = 100, 50


def names(text: str | None) -> list[str]:
    """Return a comma-separated parameter."""
    return [one for one in (text or "").split(",") if one]


def limit_of(query: Mapping[str, str]) -> int:
    """Return the page size that a query asks for, or refuse it."""
    limit = number(query.get("limit", "10"), "limit")
    most = _PAGE_WITH_HISTORY if query.get("propertiesWithHistory") else _PAGE
    if not 1 <= limit <= most:
        raise invalid(f"The limit of {limit} is not between 1 and {most}.", "INVALID_LIMIT", limit=[str(limit)])
    return limit


def flag(query: Mapping[str, str], name: str = "archived") -> bool:
    """Return a boolean parameter, or refuse it."""
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise invalid(f"{name} must be true or false.", "INVALID_BOOLEAN", **{name: [value]})
    return value == "true"


def shown(
    kind: Kind,
    record: Record,
    asked: Collection[str],
    *,
    history: Sequence[str] = (),
    properties: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Return a record as every answer holds it: the properties asked for, or the default ones, and three always."""
    have = record.properties if properties is None else properties
    wanted = list(asked) or list(kind.shown)
    keys = [one for one in (*wanted, *history, kind.created, kind.modified, "hs_object_id") if one in kind.properties]
    body: dict[str, Any] = {
        "id": str(record.id),
        "properties": {key: have.get(key) for key in sorted(set(keys))},
        "createdAt": stamp(record.created),
        "updatedAt": stamp(record.updated),
        "archived": record.archived is not None,
    }
    if record.archived is not None:
        body["archivedAt"] = stamp(record.archived)
    if history:
        body["propertiesWithHistory"] = {
            name: [one.described() for one in record.history.get(name, [])]
            for name in history
            if name in kind.properties
        }
    return body


def associated(store: Store, kind: Kind, record: Record, others: Sequence[str]) -> dict[str, Any]:
    """Return the associations of a record as ``?associations=`` shows them; kinds without any are left out."""
    body: dict[str, Any] = {}
    for name in others:
        other = store.find(name)
        if other is None:
            raise unknown_kind(name)
        ends = store.links.get((kind.name, other.name), {}).get(record.id, {})
        results = [
            {"id": str(end), "type": label or f"{kind.name}_to_{other.name}"}
            for end, types in sorted(ends.items())
            for _, _, label in types
        ]
        if results:
            body[other.name] = {"results": results}
    return body


def page(store: Store, kind: Kind, query: Mapping[str, str], url: str) -> dict[str, Any]:
    """Answer a list: records by id from ``after`` on."""
    limit, archived = limit_of(query), flag(query)
    after = number(query.get("after") or "0", "after")
    history = names(query.get("propertiesWithHistory"))
    ids = kind.ids()
    alive = (kind.records[one] for one in itertools.islice(ids, bisect.bisect_left(ids, after), None))
    found = list(itertools.islice((one for one in alive if (one.archived is not None) == archived), limit + 1))
    results = []
    for record in found[:limit]:
        body = shown(kind, record, names(query.get("properties")), history=history)
        if linked := associated(store, kind, record, names(query.get("associations"))):
            body["associations"] = linked
        results.append(body)
    answer: dict[str, Any] = {"results": results}
    if len(found) > limit:
        cursor = str(found[limit - 1].id + 1)
        answer["paging"] = {"next": {"after": cursor, "link": f"{url}?after={cursor}"}}
    return answer


def one(store: Store, kind: Kind, text: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Answer a request for one record."""
    record = kind.records.get(int(text)) if text.isdigit() else None
    if record is None or (record.archived is not None) != flag(query):
        raise Refusal(404, "OBJECT_NOT_FOUND", "Object not found.  objectId are usually numeric.")
    history = names(query.get("propertiesWithHistory"))
    body = shown(kind, record, names(query.get("properties")), history=history)
    if linked := associated(store, kind, record, names(query.get("associations"))):
        body["associations"] = linked
    return body


def batch(store: Store, kind: Kind, raw: bytes, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Answer POST batch/read: 200, or 207 where some are not there."""
    body = parsed(raw, {"inputs", "properties", "propertiesWithHistory", "idProperty"})
    if "inputs" not in body or not isinstance(body["inputs"], list):
        raise invalid("Invalid input JSON on line 1, column 2. Some required fields were not set: [inputs]")
    history = body.get("propertiesWithHistory") or []
    most = _PAGE_WITH_HISTORY if history else _PAGE
    if not 1 <= len(body["inputs"]) <= most:
        raise invalid(f"The number of inputs is not between 1 and {most}.", "INVALID_BATCH_SIZE")
    archived, results, missing = flag(query), [], []
    for item in body["inputs"]:
        if not isinstance(item, dict) or set(item) != {"id"}:
            raise invalid("Invalid input JSON: an input is an object with an id.")
        record = kind.records.get(int(item["id"])) if str(item["id"]).isdigit() else None
        if record is None or (record.archived is not None) != archived:
            missing.append(str(item["id"]))
        else:
            results.append(shown(kind, record, body.get("properties") or (), history=history))
    errors = [
        {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": f"Could not get some {kind.name.upper()} objects, they may be deleted or not exist. "
            "Check that ids are valid.",
            "context": {"ids": missing},
        }
    ]
    return complete(store, results, errors if missing else [])


def complete(store: Store, results: list[Any], errors: list[Any]) -> tuple[int, dict[str, Any]]:
    """Return the body of a batch; with errors it is a 207."""
    now = stamp(store.now())
    body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
    if errors:
        body |= {"numErrors": len(errors), "errors": errors}
    return (207 if errors else 200), body
