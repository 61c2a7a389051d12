"""The objects of the sample organisation.

Facts: developer.salesforce.com, Object Reference: Account, Contact, Opportunity, Order, OrderItem, Task, User (key
prefixes, fields and their types); "System Fields" (CreatedDate, LastModifiedDate, SystemModstamp, IsDeleted).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.testing.salesforce.fields import Field, address, money, number, reference, text


@dataclass(frozen=True)
class SObject:
    """An object: its key prefix and its fields."""

    name: str
    prefix: str
    fields: tuple[Field, ...]
    queryable: bool = True
    bulk: bool = True
    by_name: dict[str, Field] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {one.name.lower(): one for one in self.fields})

    @property
    def deletable(self) -> bool:
        """Whether its rows go to the recycle bin."""
        return "isdeleted" in self.by_name


_DELETED = Field("IsDeleted", "boolean", nillable=False)
_SYSTEM = (
    Field("CreatedDate", "datetime", nillable=False),
    reference("CreatedById", "User", nillable=False),
    Field("LastModifiedDate", "datetime", nillable=False),
    reference("LastModifiedById", "User", nillable=False),
    Field("SystemModstamp", "datetime", nillable=False),
)


def make_object(name: str, prefix: str, *fields: Field, deletable: bool = True, bulk: bool = True) -> SObject:
    """Return an object with the fields that every one has around its own."""
    first = (Field("Id", "id", nillable=False), *((_DELETED,) if deletable else ()))
    return SObject(name, prefix, (*first, *fields, *_SYSTEM), bulk=bulk)


def _name(length: int = 255, **more: bool) -> Field:
    return text("Name", length, nillable=False, name_field=True, **more)


_USER = make_object("User", "005", _name(121), Field("Email", "email"), text("Username", 80), deletable=False)
_ACCOUNT = make_object(
    "Account",
    "001",
    _name(),
    Field("Type", "picklist", values=("Customer", "Partner")),
    *address("Billing"),
    Field("Phone", "phone"),
    Field("Website", "url"),
    money("AnnualRevenue", 18, 0),
    Field("NumberOfEmployees", "int"),
    Field("Description", "textarea", 32000),
    reference("ParentId", "Account"),
    reference("OwnerId", "User", nillable=False),
    Field("Rating__c", "percent", precision=5, scale=2),
    Field("Tags__c", "multipicklist", values=("a", "b", "c")),
    number("Site__Latitude__s", 9, 6, compound="Site__c"),
    number("Site__Longitude__s", 9, 6, compound="Site__c"),
    Field("Site__c", "location"),
)
_CONTACT = make_object(
    "Contact",
    "003",
    reference("AccountId", "Account"),
    text("LastName", 80, nillable=False, compound="Name"),
    text("FirstName", 40, compound="Name"),
    Field("Salutation", "picklist", values=("Mr.", "Ms."), compound="Name"),
    _name(121),
    *address("Mailing"),
    Field("Email", "email"),
    Field("Birthdate", "date"),
    Field("HasOptedOutOfEmail", "boolean", nillable=False),
    Field("NationalId__c", "encryptedstring", 40),
    reference("OwnerId", "User", nillable=False),
)
_OPPORTUNITY = make_object(
    "Opportunity",
    "006",
    reference("AccountId", "Account"),
    _name(120),
    Field("StageName", "picklist", nillable=False, values=("Prospecting", "Closed Won", "Closed Lost")),
    money("Amount"),
    Field("Probability", "percent", precision=3),
    Field("ExpectedRevenue", "currency", precision=18, scale=2, calculated=True),
    Field("CloseDate", "date", nillable=False),
    Field("IsClosed", "boolean", nillable=False),
    reference("OwnerId", "User", nillable=False),
)
_ORDER = make_object(
    "Order",
    "801",
    reference("AccountId", "Account"),
    text("OrderNumber", 30, nillable=False, name_field=True),
    Field("EffectiveDate", "date", nillable=False),
    Field("Status", "picklist", nillable=False, values=("Draft", "Activated")),
    *address("Shipping"),
    money("TotalAmount", nillable=False),
    reference("OwnerId", "User", "Group", nillable=False),
)
_ORDER_ITEM = make_object(
    "OrderItem",
    "802",
    reference("OrderId", "Order", nillable=False),
    text("OrderItemNumber", 30, nillable=False, name_field=True),
    number("Quantity", 18, 2, nillable=False),
    money("UnitPrice", nillable=False),
    Field("ServiceDate", "date"),
    text("Description"),
)
_TASK = make_object(
    "Task",
    "00T",
    reference("WhoId", "Contact", "Lead"),
    reference("WhatId", "Account", "Opportunity", "Order", "Shipment__c"),
    Field("Subject", "combobox", name_field=True),
    Field("ActivityDate", "date"),
    Field("Description", "textarea", 32000),
    reference("OwnerId", "User", "Group", nillable=False),
)
_SHIPMENT = make_object(
    "Shipment__c",
    "a01",
    _name(80),
    reference("Order__c", "Order"),
    text("Tracking__c", 40),
    Field("PickupAt__c", "datetime"),
    Field("Window__c", "time"),
    Field("Pieces__c", "double", precision=8),
    number("Weight__c", 12, 3),
    Field("Delivered__c", "boolean", nillable=False),
    Field("Notes__c", "textarea", 32768),
)
_ATTACHMENT = make_object(
    "Attachment", "00P", reference("ParentId", "Account"), _name(), Field("Body", "base64", nillable=False), bulk=False
)

OBJECTS = (_USER, _ACCOUNT, _CONTACT, _OPPORTUNITY, _ORDER, _ORDER_ITEM, _TASK, _SHIPMENT, _ATTACHMENT)
