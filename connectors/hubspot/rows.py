"""Records of HubSpot as rows: of an object's table, and of its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.hubspot.describe import CHANGED, OWN
from connectors.hubspot.values import convert
from runner.source import Column, Scan


class Rows:
    """What is asked of records for a scan, and the rows that they become.

    Attributes:
        properties: The properties to ask for.
        history: Those whose former values to ask for.
    """

    def __init__(self, scan: Scan) -> None:
        detail = scan.table.detail
        self._modified: str | None = detail["modified"]
        self._created: str | None = detail.get("created")
        renamed: Mapping[str, str] = detail.get("renamed") or {}
        self.history: Sequence[str] = detail.get("history") or ()
        self._columns: list[tuple[Column, str]] = [
            (one, renamed.get(one.name, one.name)) for one in scan.columns if one.name != "id" and one.name not in OWN
        ]
        asked = [] if self.history else [name for _, name in self._columns]
        self.properties = list(dict.fromkeys([*asked, *([self._modified] if self._modified else [])]))

    def of(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a record's rows."""
        return list(self._history(record)) if self.history else [self._row(record)]

    def changed(self, record: Mapping[str, Any]) -> str | None:
        """Return when a record was last changed."""
        found = (record.get("properties") or {}).get(self._modified) if self._modified else None
        return found or record.get("updatedAt")

    def _row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        properties = record.get("properties") or {}
        row = {one.name: convert(one.native, properties.get(name)) for one, name in self._columns}
        # Both are of the record itself, wherever its property is empty.
        for name, own in ((self._modified, "updatedAt"), (self._created, "createdAt")):
            if name in row and row[name] is None:
                row[name] = record.get(own)
        row |= {name: record.get(name) for name in OWN}
        row |= {"id": str(record["id"]), "archived": bool(record.get("archived"))}
        return row

    def _history(self, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        changed = convert("datetime", self.changed(record))
        for name, versions in (record.get("propertiesWithHistory") or {}).items():
            seen: Counter[str] = Counter()
            # The newest comes first; counted from the oldest, an ordinal stays what it is.
            for one in reversed(versions):
                when = str(one["timestamp"])
                yield {
                    "id": str(record["id"]),
                    "property": name,
                    "timestamp": convert("datetime", when),
                    "ordinal": seen[when],
                    "value": one.get("value"),
                    "sourceType": one.get("sourceType"),
                    "sourceId": one.get("sourceId"),
                    "sourceLabel": one.get("sourceLabel"),
                    "updatedByUserId": one.get("updatedByUserId"),
                    CHANGED: changed,
                    "archived": bool(record.get("archived")),
                }
                seen[when] += 1
