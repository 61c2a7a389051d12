"""Values and entities in the JSON of OData 2.0: dates as ``/Date(…)/``, wide numbers as text.

After OData 2.0, "JSON Format", section 4.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.testing.odp.sets import EntitySet, Row, Service

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def value(held: Any, declared: str) -> Any:
    """Return a value as JSON has it."""
    if held is None:
        return None
    if declared in ("Edm.DateTime", "Edm.DateTimeOffset"):
        aware = held if held.tzinfo else held.replace(tzinfo=UTC)
        milliseconds = (aware - _EPOCH) // timedelta(milliseconds=1)
        return f"/Date({milliseconds}{'+0000' if declared == 'Edm.DateTimeOffset' else ''})/"
    if declared == "Edm.Time":
        seconds = int(held.total_seconds())
        return f"PT{seconds // 3600:02d}H{seconds // 60 % 60:02d}M{seconds % 60:02d}S"
    if declared == "Edm.Binary":
        return base64.b64encode(held).decode()
    if declared in ("Edm.Int64", "Edm.Decimal", "Edm.Double", "Edm.Single"):
        return str(held)
    return held


def entity(
    service: Service, owner: EntitySet, row: Row, root: str, names: list[str] | None, expanded: Sequence[str]
) -> Row:
    """Return a row as an entity with its __metadata, its expanded children and links to the others."""
    place = f"{root}/{owner.name}({_key(owner, row)})"
    found: Row = {"__metadata": {"id": place, "uri": place, "type": f"{service.name}.{owner.name}Type"}}
    wanted = list(owner.properties) + list(owner.children) if names is None else [name.split("/")[0] for name in names]
    for name in wanted:
        if name in owner.properties:
            found[name] = value(row.get(name), owner.properties[name].type)
    for name, (target, pairs) in owner.children.items():
        if name in expanded:
            inner = service.sets[target]
            below = None if names is None else [one.partition("/")[2] for one in names if one.startswith(f"{name}/")]
            children = [
                entity(service, inner, child, root, below or None, ())
                for child in inner.rows.values()
                if all(child[theirs] == row[ours] for ours, theirs in pairs.items())
            ]
            found[name] = {"results": children}
        elif name in wanted:
            found[name] = {"__deferred": {"uri": f"{place}/{name}"}}
    return found


def _key(owner: EntitySet, row: Row) -> str:
    parts = [(name, "'" + str(row[name]).replace("'", "''") + "'") for name in owner.key]
    return parts[0][1] if len(parts) == 1 else ",".join(f"{name}={text}" for name, text in parts)
