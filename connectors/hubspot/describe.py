"""Which tables an account has, and their columns.

Facts: developers.hubspot.com, "Properties" (GET /crm/v3/properties/{object}), "Custom objects" (GET /crm/v3/schemas),
"Search the CRM" (contacts keep their last change in lastmodifieddate, all others in hs_lastmodifieddate).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pyarrow as pa

from connectors.http import Http
from connectors.hubspot.config import HubSpotConfig
from connectors.hubspot.values import TIME, column
from connectors.patterns import own_names, pattern
from runner.errors import PermissionMissing, TableMissing, UsageError
from runner.job import is_exact, matches
from runner.source import Column, Table
from runner.tasks import task_group

SCHEMA = "hubspot"
OBJECTS = ("contacts", "companies", "deals", "tickets", "products", "line_items", "orders")
# What every object has beside its properties.
ID = Column("id", pa.string(), nullable=False, native="id")
OWN = {
    "createdAt": Column("createdAt", TIME, native="datetime"),
    "updatedAt": Column("updatedAt", TIME, native="datetime"),
    "archived": Column("archived", pa.bool_(), nullable=False, native="bool"),
    "archivedAt": Column("archivedAt", TIME, native="datetime"),
}
CHANGED = "objectUpdatedAt"
_HISTORY = (
    ID,
    Column("property", pa.string(), nullable=False, native="string"),
    Column("timestamp", TIME, nullable=False, native="datetime"),
    # Two values of one millisecond are told apart by it.
    Column("ordinal", pa.int64(), nullable=False, native="int"),
    Column("value", pa.string(), native="string"),
    Column("sourceType", pa.string(), native="string"),
    Column("sourceId", pa.string(), native="string"),
    Column("sourceLabel", pa.string(), native="string"),
    Column("updatedByUserId", pa.int64(), native="int"),
    Column(CHANGED, TIME, nullable=False, native="datetime"),
    OWN["archived"],
)
_LINKS = (
    Column("from_id", pa.string(), nullable=False, native="id"),
    Column("to_id", pa.string(), nullable=False, native="id"),
    Column("category", pa.string(), nullable=False, native="string"),
    Column("type_id", pa.int64(), nullable=False, native="int"),
    Column("label", pa.string(), native="string"),
)
Count = Callable[[str], Awaitable[int]]
_LINK_NAME = re.compile(r"(.+)_to_(.+)")


async def discover(http: Http, config: HubSpotConfig, patterns: Sequence[str], count: Count) -> list[Table]:
    """Return what the patterns name; associations and objects of other kinds where they are named outright.

    Args:
        count: Returns how many records an object has.
    """
    wanted = [name for name in _named(config, patterns) if _is_wanted(name, patterns)]
    paths: dict[str, str] = {name: name for name in OBJECTS}
    custom_refused: PermissionMissing | None = None
    if any(not is_exact(pattern) for pattern in patterns) or not _bases(wanted) <= set(OBJECTS):
        try:
            reply = await http.get("/crm/v3/schemas")
            custom = {str(one["name"]): str(one["objectTypeId"]) for one in reply.data["results"]}
        except PermissionMissing as error:
            custom, custom_refused = {}, error
        paths.update(custom)
        wanted += [name for name in custom if name not in wanted and _is_wanted(name, patterns)]
    for word, name in own_names(SCHEMA, patterns).items():
        paths.setdefault(word, name)
    found: dict[str, Table] = {}

    async def describe(name: str) -> None:
        try:
            table = await _table(http, config, name, paths, count)
        except PermissionMissing as error:
            table = Table(SCHEMA, name, (), readable=False, comment=error.message)
        except TableMissing:
            # It may be a custom object that we may not see.
            if custom_refused is None:
                return
            table = Table(SCHEMA, name, (), readable=False, comment=custom_refused.message)
        found[name] = table

    async with task_group() as group:
        for name in wanted:
            group.start_soon(describe, name)
    return [found[name] for name in wanted if name in found]


def _named(config: HubSpotConfig, patterns: Sequence[str]) -> list[str]:
    """Return the names that are known before anybody is asked."""
    exact = [pattern.removeprefix(f"{SCHEMA}.") for pattern in patterns if is_exact(pattern)]
    histories = [f"{one.partition('.')[0]}_history" for one in config.history]
    return list(dict.fromkeys([*OBJECTS, *config.associations, *histories, *exact]))


def _is_wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(matches(pattern, f"{SCHEMA}.{name}") for pattern in patterns)


def _bases(names: Sequence[str]) -> set[str]:
    """Return the objects that tables are made of."""
    bases: set[str] = set()
    for name in names:
        link = _LINK_NAME.fullmatch(name)
        bases.update(link.groups() if link else [name.removesuffix("_history")])
    return bases


async def _table(http: Http, config: HubSpotConfig, name: str, paths: dict[str, str], count: Count) -> Table:
    """Describe a table.

    Raises:
        TableMissing: The account has no such object.
    """
    link = _LINK_NAME.fullmatch(name)
    if name not in paths and link:
        ends = [paths.get(one, one) for one in link.groups()]
        for one in ends:
            if one not in paths.values():
                await _properties(http, one)
        key = ("from_id", "to_id", "category", "type_id")
        return Table(SCHEMA, name, _LINKS, key, detail={"part": "links", "object": ends[0], "to": ends[1]})
    base = name.removesuffix("_history")
    history = [one.partition(".")[2] for one in config.history if one.partition(".")[0] == base]
    if name in paths or base == name or not history:
        return await _object(http, config, name, paths.get(name, name), count)
    path = paths.get(base, base)
    natives = await _properties(http, path)
    if unknown := [one for one in history if one not in natives]:
        raise UsageError(
            f"history: {base} has no property {unknown[0]!r}.", guidance="Correct `history:` of the source."
        )
    known = _defaults(path, set(natives))
    return Table(
        SCHEMA,
        name,
        _HISTORY,
        ("id", "property", "timestamp", "ordinal"),
        indexed=(CHANGED,),
        detail={"part": "history", "object": path, "modified": known.get("cursor"), "history": history},
        defaults={"cursor": CHANGED, **({"lag": known["lag"]} if "lag" in known else {})},
    )


async def _object(http: Http, config: HubSpotConfig, name: str, path: str, count: Count) -> Table:
    described = await _properties(http, path)
    defaults = _defaults(path, {ID.name, *OWN, *described})
    if not config.archived:
        defaults.pop("deletes", None)
    modified, created = defaults.get("cursor"), _created(described)
    columns, renamed = [ID], {}
    for one in described.values():
        own = one["name"] if one["name"] not in (ID.name, *OWN) else f"property_{one['name']}"
        if own != one["name"]:
            renamed[own] = one["name"]
        native, required = str(one.get("type") or "string"), one["name"] in (modified, created)
        label = one.get("label") or None
        columns.append(column(own, native, numbers=config.numbers, label=label, required=required))
    detail = {"part": "object", "object": path, "modified": modified, "created": created, "renamed": renamed}
    if config.children and modified:
        detail["children"] = await _children(http, path)
    return Table(
        SCHEMA,
        name,
        (*columns, *OWN.values()),
        (ID.name,),
        rows=await count(path),
        indexed=tuple(one for one in (modified, created) if one),
        detail=detail,
        defaults=defaults,
    )


async def _properties(http: Http, path: str) -> dict[str, Any]:
    reply = await http.get(f"/crm/v3/properties/{path}")
    return {str(one["name"]): one for one in reply.data["results"] if not one.get("archived")}


def _defaults(path: str, columns: set[str]) -> dict[str, Any]:
    """Return the keys of a table entry that are right for an object."""
    return pattern(SCHEMA, path).defaults(columns)


async def _children(http: Http, path: str) -> dict[str, str]:
    """Return the objects whose changes are changes of this one, and by which property each is searched."""
    found: dict[str, str] = {}
    for child in pattern(SCHEMA, path).children:
        # Who may not read the lines may still read the header.
        with contextlib.suppress(PermissionMissing, TableMissing):
            natives = await _properties(http, child)
            if cursor := _defaults(child, set(natives)).get("cursor"):
                found[child] = str(cursor)
    return found


def _created(properties: dict[str, Any]) -> str | None:
    return next((one for one in ("hs_createdate", "createdate") if one in properties), None)
