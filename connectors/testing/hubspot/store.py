"""What an account holds: object types, their properties, records with history, associations.

Facts: developers.hubspot.com, "Object APIs: CRM objects" and "Understanding the CRM" (object type ids), "Properties"
(types and field types), "Associations v4" (type ids, categories, labels), "Scopes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TYPES = ("string", "number", "date", "datetime", "enumeration", "bool", "phone_number", "object_coordinates", "json")


def stamp(moment: datetime) -> str:
    """Return a time as HubSpot writes it: UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Property:
    """A property of an object type; ``type`` is one of TYPES."""

    name: str
    type: str = "string"
    label: str = ""
    calculated: bool = False
    archived: bool = False
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(self.type)

    def described(self, moment: str) -> dict[str, Any]:
        """Return it as GET /crm/v3/properties does."""
        fields = {"number": "number", "date": "date", "datetime": "date", "enumeration": "select"}
        fields |= {"bool": "booleancheckbox", "phone_number": "phonenumber"}
        return {
            "updatedAt": moment,
            "createdAt": moment,
            "name": self.name,
            "label": self.label or self.name,
            "type": self.type,
            "fieldType": fields.get(self.type, "text"),
            "description": "",
            "groupName": "information",
            "options": [{"label": one, "value": one, "displayOrder": -1, "hidden": False} for one in self.options],
            "displayOrder": -1,
            "calculated": self.calculated,
            "externalOptions": False,
            "archived": self.archived,
            "hasUniqueValue": False,
            "hidden": False,
            "hubspotDefined": True,
            "modificationMetadata": {"archivable": True, "readOnlyDefinition": False, "readOnlyValue": False},
            "formField": False,
        }


@dataclass(frozen=True)
class Version:
    """One value that a property had."""

    value: str | None
    timestamp: datetime
    source: str = "INTEGRATION"

    def described(self) -> dict[str, Any]:
        """Return it as propertiesWithHistory does."""
        return {
            "value": self.value or "",
            "timestamp": stamp(self.timestamp),
            "sourceType": self.source,
            "sourceId": "app",
        }


@dataclass
class Record:
    """One object. ``before`` is what search shows until the index has caught up; None is nothing."""

    id: int
    created: datetime
    updated: datetime
    properties: dict[str, str | None]
    history: dict[str, list[Version]] = field(default_factory=dict)
    archived: datetime | None = None
    before: dict[str, str | None] | None = None


@dataclass
class Kind:
    """An object type and its records."""

    name: str
    type_id: str
    scopes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    modified: str = "hs_lastmodifieddate"
    created: str = "hs_createdate"
    shown: tuple[str, ...] = ()
    custom: bool = False
    properties: dict[str, Property] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)

    _ids: list[int] = field(default_factory=list)

    def ids(self) -> list[int]:
        """Return the ids of all records in their order."""
        if len(self._ids) != len(self.records):
            self._ids = sorted(self.records)
        return self._ids

    def declare(self, *properties: Property) -> None:
        """Give it properties."""
        self.properties.update((one.name, one) for one in properties)


# name: type id, singular, scopes, property of the creation, shown by default, "type: names" of the rest.
_STANDARD: dict[str, tuple[str, str, tuple[str, ...], str, str, str]] = {
    "contacts": (
        "0-1",
        "contact",
        ("crm.objects.contacts.read",),
        "createdate",
        "firstname lastname email",
        "string: firstname lastname email; enumeration: lifecyclestage; phone_number: phone; date: date_of_birth; "
        "bool: hs_is_unworked; number: num_notes",
    ),
    "companies": (
        "0-2",
        "company",
        ("crm.objects.companies.read",),
        "createdate",
        "name domain",
        "string: name domain; number: annualrevenue",
    ),
    "deals": (
        "0-3",
        "deal",
        ("crm.objects.deals.read",),
        "createdate",
        "dealname amount closedate pipeline dealstage",
        "string: dealname; number: amount; datetime: closedate; enumeration: dealstage pipeline",
    ),
    "tickets": (
        "0-5",
        "ticket",
        ("tickets",),
        "createdate",
        "subject content",
        "string: subject content; enumeration: hs_pipeline_stage",
    ),
    "products": (
        "0-7",
        "product",
        ("e-commerce", "crm.objects.products.read"),
        "createdate",
        "name price",
        "string: name hs_sku; number: price",
    ),
    "line_items": (
        "0-8",
        "line_item",
        ("e-commerce", "crm.objects.line_items.read"),
        "createdate",
        "quantity price",
        "string: name; number: quantity price amount",
    ),
    "orders": (
        "0-123",
        "order",
        ("crm.objects.orders.read",),
        "hs_createdate",
        "hs_order_name",
        "string: hs_order_name; number: hs_total_price",
    ),
}


def _standard() -> Iterable[Kind]:
    for name, (type_id, singular, scopes, created, shown, rest) in _STANDARD.items():
        modified = "lastmodifieddate" if name == "contacts" else "hs_lastmodifieddate"
        kind = Kind(name, type_id, scopes, (singular,), modified, created, tuple(shown.split()))
        for part in rest.split("; "):
            type_, _, names = part.partition(": ")
            kind.declare(*(Property(one, type_) for one in names.split()))
        kind.declare(Property("hs_object_id", "number"))
        kind.declare(Property(created, "datetime"), Property(modified, "datetime"))
        yield kind


class Store:
    """An account: what a test fills and changes, and what the server shows.

    Args:
        now: The time; what is made or changed is stamped with it.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.kinds = {kind.name: kind for kind in _standard()}
        # (from kind, to kind) -> from id -> to id -> [(type id, category, label)]
        self.links: dict[tuple[str, str], dict[int, dict[int, list[tuple[int, str, str | None]]]]] = {}
        self._last = 100

    def find(self, name: str) -> Kind | None:
        """Return an object type by plural, singular, fully qualified name or type id."""
        wanted = name.lower()
        for kind in self.kinds.values():
            if wanted in (kind.name, kind.type_id, *kind.aliases):
                return kind
        return None

    def define(self, name: str, *properties: Property, type_id: str = "2-4711") -> Kind:
        """Make a custom object."""
        kind = Kind(
            name,
            type_id,
            ("crm.objects.custom.read", f"crm.objects.{name}.read"),
            (f"p1_{name}",),
            custom=True,
            created="hs_createdate",
        )
        kind.declare(*properties, Property("hs_object_id", "number"))
        kind.declare(Property(kind.created, "datetime"), Property(kind.modified, "datetime"))
        self.kinds[name] = kind
        return kind

    def add(self, name: str, properties: Mapping[str, str | None] | None = None, *, id: int | None = None) -> int:  # noqa: A002
        """Make a record and return its id; ids only grow."""
        kind, now = self.kinds[name], self.now()
        self._last = max(self._last + 1, id or 0)
        own = id or self._last
        record = Record(own, now, now, {})
        kind.records[own] = record
        self._write(kind, record, {kind.created: stamp(now), "hs_object_id": str(own), **(properties or {})})
        record.before = None
        return own

    def change(self, name: str, id: int, **properties: str | None) -> None:  # noqa: A002
        """Change a record's properties, at this time."""
        kind = self.kinds[name]
        record = kind.records[id]
        record.before = dict(record.properties)
        record.updated = self.now()
        self._write(kind, record, properties)

    def archive(self, name: str, id: int) -> None:  # noqa: A002
        """Delete a record; it stays to be read as archived."""
        self.kinds[name].records[id].archived = self.now()

    def restore(self, name: str, id: int) -> None:  # noqa: A002
        """Bring a deleted record back."""
        self.kinds[name].records[id].archived = None

    def purge(self, name: str, id: int) -> None:  # noqa: A002
        """Delete a record for good, as GDPR asks."""
        del self.kinds[name].records[id]
        self.kinds[name]._ids = []

    def link(
        self, near: str, near_id: int, far: str, far_id: int, *, type_id: int = 1, label: str | None = None
    ) -> None:
        """Associate two records, in both directions."""
        category = "USER_DEFINED" if label else "HUBSPOT_DEFINED"
        for one, one_id, other, other_id, number in (
            (near, near_id, far, far_id, type_id),
            (far, far_id, near, near_id, type_id + 1),
        ):
            ends = self.links.setdefault((one, other), {}).setdefault(one_id, {})
            ends.setdefault(other_id, []).append((number, category, label))

    def unlink(self, near: str, near_id: int, far: str, far_id: int) -> None:
        """Take all associations of two records away."""
        self.links[near, far][near_id].pop(far_id)
        self.links[far, near][far_id].pop(near_id)

    def _write(self, kind: Kind, record: Record, properties: Mapping[str, str | None]) -> None:
        for name, value in {**properties, kind.modified: stamp(record.updated)}.items():
            if name not in kind.properties:
                raise KeyError(f"{kind.name} has no property {name}")
            record.properties[name] = value
            record.history.setdefault(name, []).insert(0, Version(value, record.updated))
