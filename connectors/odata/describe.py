"""An entity set as a table: its columns, key, and what is known of its changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa

from connectors.odata.changes import CHANGE_MODE, COUNTER, deleted_column
from connectors.odata.columns import column
from connectors.odata.config import ODataConfig
from connectors.odata.edm import EntitySet, Model
from connectors.patterns import Pattern, pattern
from runner.source import Column, Table


def describe(
    one: EntitySet, model: Model, config: ODataConfig, kind: str, rows: int | None, name: str | None = None
) -> Table:
    """Return the table of an entity set.

    Args:
        rows: How many there are; None where the user may not read it.
        name: The word that the job uses for it.
    """
    known = pattern(kind, one.name)
    tracked = one.tracked and config.delta == "auto" and bool(one.type.key)
    names = [each for each in config.expand.get(one.name, ()) if each in one.type.navigation]
    if config.children:
        names += [each for each in _children(one, model, known) if each not in names]
    columns = [found for prop in one.type.properties.values() if (found := column(prop, model)) is not None]
    columns += [_expanded(one, each) for each in names]
    detail: dict[str, Any] = {"set": one.name, "version": model.version}
    if one.tracked:
        columns = [each for each in columns if each.name not in (CHANGE_MODE, COUNTER)]
    if tracked:
        deleted = deleted_column(one)
        # A record that was deleted has its key and nothing else.
        columns = [each if each.name in one.type.key else replace(each, nullable=True) for each in columns]
        columns.append(deleted)
        detail["deleted"] = deleted.name
    return Table(
        schema=kind,
        name=name or one.name,
        columns=tuple(columns),
        primary_key=one.type.key,
        kind="entity_set",
        rows=rows or 0,
        bytes=(rows or 0) * 20 * len(columns),
        indexed=tuple(each.name for each in columns if _orders(each) and each.name in _usable(one)),
        readable=rows is not None,
        comment=one.label,
        detail=detail,
        defaults=_defaults(one, known, detail.get("deleted")),
        tracked=tracked,
    )


def _expanded(one: EntitySet, name: str) -> Column:
    target = one.type.navigation[name]
    return Column(name, pa.string(), True, f"Navigation({target.target})", json=True)


def _children(one: EntitySet, model: Model, known: Pattern) -> list[str]:
    """Return the navigation to what a pattern knows to be a part of this."""
    found = []
    for each in one.type.navigation.values():
        target = model.set_of(each.target)
        if each.many and target is not None and target.name in known.children:
            found.append(each.name)
    return found


def _usable(one: EntitySet) -> set[str]:
    """Return what can be filtered and sorted by. ODP does not sort, so nobody could tell how far it was read."""
    if CHANGE_MODE in one.type.properties:
        return set()
    return {name for name, prop in one.type.properties.items() if prop.usable}


def _orders(each: Column) -> bool:
    return bool(pa.types.is_timestamp(each.type) or pa.types.is_date(each.type))


def _defaults(one: EntitySet, known: Pattern, deleted: str | None) -> dict[str, Any]:
    if deleted is not None:
        # What was deleted has no values any more that could be kept.
        return {"deletes": {"column": deleted}, "on_delete": "hard"}
    found = known.defaults({*one.type.key, *_usable(one)})
    if "cursor" in found and (found.get("key") or one.type.key):
        # Services declare it as if it could be missing; rows without it are read in every run.
        found["mode"] = "incremental"
    if isinstance(found.get("lag"), timedelta):
        # A table has nothing that JSON does not have.
        found["lag"] = f"{found['lag'].total_seconds():.0f}s"
    return found
