"""Changes of an entity set by delta links: the initial load, what changed since, what was deleted.

After OData 4.01, Protocol 11.3 ("Requesting Changes") and JSON Format 15; for SAP after SAP Help, "ODP-Based Data
Extraction via OData": the change mode and the entity counter of each record, delta tokens, repeated requests.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from connectors.api import Page
from connectors.odata.edm import EntitySet
from connectors.odata.reading import Request, follow
from connectors.odata.service import Answer, Service
from runner.errors import RequestRefused, TableMissing
from runner.source import Column

CHANGE_MODE = "ODQ_CHANGEMODE"
COUNTER = "ODQ_ENTITYCNTR"
# Changes of one key within so many records become one row here; beyond, where the table is published.
_COLLAPSED = 50_000
_AGAIN = "Run it once with --full-refresh: that starts the tracking anew."


def deleted_column(entity_set: EntitySet) -> Column:
    """Return the column that says whether a record was deleted at the source."""
    name = "is_deleted"
    while name in entity_set.type.properties:
        name += "_"
    return Column(name, pa.bool_(), False, "deleted", comment="whether the record was deleted at the source")


async def initial(service: Service, request: Request, deleted: str) -> AsyncIterator[Page]:
    """Yield all entities; the last page has the link to what changes from the first request on as its mark."""
    prefer = ["odata.track-changes", f"odata.maxpagesize={service.config.page_size}"]
    answer = await service.entities(request.set.name, request.options(), prefer=prefer)
    if "odata.track-changes" not in answer.applied.lower() and answer.delta is None:
        raise RequestRefused(
            f"{request.set.name}: the service offers changes and did not begin to track them.",
            guidance="Set delta: off for this source, or ask SAP's ODQMON whether the user may subscribe.",
            table=request.set.name,
        )
    async for page in _on(service, request, answer, deleted, phase="initial"):
        yield page


async def since(service: Service, request: Request, mark: str, deleted: str) -> AsyncIterator[Page]:
    """Yield what changed since a mark."""
    try:
        answer = await service.entities(mark, prefer=[f"odata.maxpagesize={service.config.page_size}"])
    except (RequestRefused, TableMissing) as error:
        raise RequestRefused(
            f"{request.set.name}: the service does not know the last delta token any more: {error.message}",
            guidance=_AGAIN,
            table=request.set.name,
        ) from error
    async for page in _on(service, request, answer, deleted, phase="delta"):
        yield page


async def go_on(service: Service, request: Request, bounds: Mapping[str, Any], deleted: str) -> AsyncIterator[Page]:
    """Yield pages from one on.

    Raises:
        TableChanged: The service does not know it any more.
    """
    answer = await follow(service, request, str(bounds["next"]))
    async for page in _on(service, request, answer, deleted, phase=str(bounds["phase"])):
        yield page


async def _on(service: Service, request: Request, answer: Answer, deleted: str, *, phase: str) -> AsyncIterator[Page]:
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    while True:
        rows = _records(request, answer, deleted)
        rest = {"next": answer.following, "phase": phase} if answer.following is not None else None
        if rest is None and answer.delta is None:
            raise RequestRefused(
                f"{request.set.name}: the last page has no delta link, so that nobody could go on from it.",
                guidance="Set delta: off for this source.",
                table=request.set.name,
            )
        if phase == "delta":
            for row in rows:
                key = tuple(request.key_of(row))
                latest.pop(key, None)
                latest[key] = row
            if rest is None or len(latest) >= _COLLAPSED:
                yield Page(list(latest.values()), rest, mark=answer.delta if rest is None else None)
                latest = {}
        else:
            yield Page(rows, rest, mark=answer.delta if rest is None else None)
        if rest is None:
            return
        answer = await follow(service, request, str(answer.following))


def _records(request: Request, answer: Answer, deleted: str) -> list[dict[str, Any]]:
    return _odp(request, answer.rows, deleted) if request.version == 2 else _removed(request, answer.rows, deleted)


def _odp(request: Request, found: Sequence[Mapping[str, Any]], deleted: str) -> list[dict[str, Any]]:
    """Return records of ODP. An update may come as two: how the row was (counter -1), and how it is."""
    kept = [one for one in found if not (one.get(CHANGE_MODE) == "U" and str(one.get(COUNTER)).startswith("-"))]
    rows = request.rows(kept)
    for row, one in zip(rows, kept, strict=True):
        row[deleted] = one.get(CHANGE_MODE) == "D"
    return rows


def _removed(request: Request, found: Sequence[Mapping[str, Any]], deleted: str) -> list[dict[str, Any]]:
    """Return entities of a delta of OData 4; those that say that they were removed have nothing but their key."""
    rows = []
    for one in found:
        context = str(one.get("@odata.context") or one.get("@context") or "")
        if context.endswith(("/$link", "/$deletedLink")):
            continue
        gone = "@removed" in one or "@odata.removed" in one or context.endswith("/$deletedEntity")
        if not gone:
            missing = [name for name in request.select or request.set.type.properties if name not in one]
            missing = [name for name in missing if request.set.type.properties[name].type != "Edm.Stream"]
            if missing:
                raise RequestRefused(
                    f"{request.set.name}: a change came without {', '.join(missing[:3])}: the service sends parts of "
                    "entities, which cannot be merged by key.",
                    guidance="Set delta: off for this source.",
                    table=request.set.name,
                )
            rows += [{**row, deleted: False} for row in request.rows([one])]
            continue
        key = _key_of_removed(request, one)
        rows.append({**request.rows([key])[0], deleted: True})
    return rows


def _key_of_removed(request: Request, one: Mapping[str, Any]) -> dict[str, Any]:
    if all(name in one for name in request.key):
        return {name: one[name] for name in request.key}
    address = str(one.get("@odata.id") or one.get("@id") or one.get("id") or "")
    match = re.search(r"[\w.]+\((.*)\)$", unquote(address), re.DOTALL)
    parts = re.findall(r"(?:(\w+)=)?('(?:[^']|'')*'|[^,']+)", match[1]) if match else []
    found = {name or request.key[0]: _unquoted(text) for name, text in parts}
    if set(found) != set(request.key):
        raise RequestRefused(
            f"{request.set.name}: a deleted entity came without its key.",
            guidance="Set delta: off for this source.",
            table=request.set.name,
        )
    return found


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'") if text.startswith("'") else text
