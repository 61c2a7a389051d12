"""Associations of version 4: of one record, or of up to 1,000 in a batch.

Facts: developers.hubspot.com, "Associations v4": ``POST /crm/v4/associations/{from}/{to}/batch/read`` takes 1,000
inputs, each with a cursor of its own; a record without any is an error of a 207, with subCategory
``crm.associations.NO_ASSOCIATIONS_FOUND``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.testing.hubspot.objects import complete
from connectors.testing.hubspot.refusals import Refusal, invalid
from connectors.testing.hubspot.searching import number, parsed
from connectors.testing.hubspot.store import Kind, Store

_BATCH, _PAGE = 1_000, 500


def _ends(store: Store, near: Kind, far: Kind, id_: int, after: int, limit: int) -> tuple[list[Any], str | None]:
    """Return associations from a cursor on, and the next cursor."""
    alive = far.records
    ends = store.links.get((near.name, far.name), {}).get(id_, {})
    found = sorted(one for one in ends if one >= after and one in alive and alive[one].archived is None)
    results = [
        {
            "toObjectId": end,
            "associationTypes": [
                {"category": category, "typeId": type_id, "label": label} for type_id, category, label in ends[end]
            ],
        }
        for end in found[:limit]
    ]
    return results, str(found[limit]) if len(found) > limit else None


def of_one(store: Store, near: Kind, far: Kind, text: str, query: Mapping[str, str], url: str) -> dict[str, Any]:
    """Answer GET /crm/v4/objects/{type}/{id}/associations/{to}."""
    limit = number(query.get("limit", str(_PAGE)), "limit")
    if not 1 <= limit <= _PAGE:
        raise invalid(f"The limit of {limit} is not between 1 and {_PAGE}.", "INVALID_LIMIT")
    record = near.records.get(int(text)) if text.isdigit() else None
    if record is None or record.archived is not None:
        raise Refusal(404, "OBJECT_NOT_FOUND", f"{near.name} {text} was not found.")
    results, after = _ends(store, near, far, record.id, number(query.get("after") or "0", "after"), limit)
    body: dict[str, Any] = {"results": results}
    if after is not None:
        body["paging"] = {"next": {"after": after, "link": f"{url}?after={after}"}}
    return body


def batch(store: Store, near: Kind, far: Kind, raw: bytes, page: int) -> tuple[int, dict[str, Any]]:
    """Answer POST batch/read; ``page`` is how many ends of one record come at once."""
    body = parsed(raw, {"inputs"})
    inputs = body.get("inputs")
    if not isinstance(inputs, list):
        raise invalid("Invalid input JSON on line 1, column 2. Some required fields were not set: [inputs]")
    if not 1 <= len(inputs) <= _BATCH:
        raise invalid(f"The number of inputs is not between 1 and {_BATCH}.", "INVALID_BATCH_SIZE")
    results, errors = [], []
    for item in inputs:
        if not isinstance(item, dict) or "id" not in item or set(item) - {"id", "after"}:
            raise invalid("Invalid input JSON: an input is an object with id and after.")
        id_ = number(item["id"], "id")
        record = near.records.get(id_)
        found: list[Any] = []
        after = None
        if record is not None and record.archived is None:
            found, after = _ends(store, near, far, id_, number(item.get("after") or "0", "after"), page)
        if found:
            one: dict[str, Any] = {"from": {"id": str(id_)}, "to": found}
            if after is not None:
                one["paging"] = {"next": {"after": after, "link": f"?after={after}"}}
            results.append(one)
        else:
            errors.append(
                {
                    "status": "error",
                    "category": "OBJECT_NOT_FOUND",
                    "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                    "message": f"No {far.name} is associated with {near.name} {id_}.",
                    "context": {"fromObjectId": [str(id_)], "toObjectType": [far.name]},
                }
            )
    return complete(store, results, errors)
