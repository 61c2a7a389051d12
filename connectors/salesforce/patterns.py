"""What is known about objects that everybody has: the section ``salesforce`` of ``connectors/patterns.yml``.

Facts: developer.salesforce.com, Object Reference, "System Fields" (SystemModstamp is moved on by users and by automated
processes; what a formula shows is not a change); Apex Developer Guide, "Execution Governors and Limits" (a transaction
runs for ten minutes at most, so that no record appears with an older time).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# Fields that whoever moves these objects will look for; a describe without them means field-level security.
WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "Account": ("Name", "Type", "ParentId", "OwnerId", "BillingCity", "BillingCountry", "AnnualRevenue"),
    "Contact": ("AccountId", "FirstName", "LastName", "Email", "OwnerId"),
    "Opportunity": ("AccountId", "Name", "StageName", "Amount", "CloseDate", "IsClosed", "OwnerId"),
    "Order": ("AccountId", "OrderNumber", "EffectiveDate", "Status", "TotalAmount"),
    "OrderItem": ("OrderId", "Quantity", "UnitPrice"),
    "Task": ("WhoId", "WhatId", "Subject", "ActivityDate", "OwnerId"),
}
_SYSTEM = ("Id", "SystemModstamp")


@dataclass(frozen=True)
class Pattern:
    """How an object is best moved.

    Attributes:
        children: Objects whose changes are changes of this one, and by which field they name it.
    """

    key: tuple[str, ...] = ("Id",)
    cursor: tuple[str, ...] = ()
    lag: str | None = None
    deletes: str | None = None
    children: Mapping[str, str] = field(default_factory=dict)

    def defaults(self, columns: set[str]) -> dict[str, Any]:
        """Return the keys of a table entry, as far as the object has the fields."""
        found: dict[str, Any] = {}
        if set(self.key) <= columns:
            found["key"] = list(self.key)
        cursor = next((one for one in self.cursor if one in columns), None)
        if cursor:
            found["cursor"] = cursor
            if self.lag:
                found["lag"] = self.lag
        if self.deletes in columns:
            found["deletes"] = {"column": self.deletes}
        return found


def pattern(name: str) -> Pattern:
    """Return what is known of an object, or of all of them."""
    known = _known()
    return known.get(name) or known["*"]


def missing_fields(name: str, columns: set[str]) -> list[str]:
    """Return the well-known fields that an object lacks."""
    return [one for one in (*_SYSTEM, *WELL_KNOWN.get(name, ())) if one not in columns]


@cache
def _known() -> dict[str, Pattern]:
    text = files("connectors").joinpath("patterns.yml").read_text("utf-8")
    section: dict[str, dict[str, Any]] = yaml.safe_load(text)["salesforce"]
    return {name: _pattern({**section["*"], **(said or {})}) for name, said in section.items()}


def _pattern(said: Mapping[str, Any]) -> Pattern:
    cursor = said.get("cursor") or ()
    return Pattern(
        key=tuple(said["key"]),
        cursor=(cursor,) if isinstance(cursor, str) else tuple(cursor),
        lag=said.get("lag"),
        deletes=(said.get("deletes") or {}).get("column"),
        children=dict(said.get("children") or {}),
    )
