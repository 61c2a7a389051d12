"""Fields that ought to be there: what is missing is hidden by field-level security.

Facts: developer.salesforce.com, Object Reference: Account, Contact, Opportunity, Order, OrderItem, Task, "System
Fields"; SOAP API Developer Guide, "describeSObjects()" (a describe shows the fields that its user may read).
"""

from __future__ import annotations

from collections.abc import Mapping

_SYSTEM = ("Id", "SystemModstamp")
_WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "Account": ("Name", "Type", "ParentId", "OwnerId", "BillingCity", "BillingCountry", "AnnualRevenue"),
    "Contact": ("AccountId", "FirstName", "LastName", "Email", "OwnerId"),
    "Opportunity": ("AccountId", "Name", "StageName", "Amount", "CloseDate", "IsClosed", "OwnerId"),
    "Order": ("AccountId", "OrderNumber", "EffectiveDate", "Status", "TotalAmount"),
    "OrderItem": ("OrderId", "Quantity", "UnitPrice"),
    "Task": ("WhoId", "WhatId", "Subject", "ActivityDate", "OwnerId"),
}


def missing_fields(name: str, columns: set[str]) -> list[str]:
    """Return the well-known fields that an object lacks."""
    return [one for one in (*_SYSTEM, *_WELL_KNOWN.get(name, ())) if one not in columns]
