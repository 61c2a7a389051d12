"""Fields of objects, and how a describe shows them.

Facts: developer.salesforce.com, SOAP API Developer Guide, "DescribeSObjectResult" (the properties of a field), Object
Reference, "Field Types" and "Compound Fields" (the parts name their compound in ``compoundFieldName``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SOAP = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "long": "xsd:long",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "time": "xsd:time",
    "base64": "xsd:base64Binary",
    "address": "urn:address",
    "location": "urn:location",
}
NUMBERS = ("double", "currency", "percent")
COMPOUND = ("address", "location")
_LENGTHS = {"id": 18, "reference": 18, "email": 80, "phone": 40, "url": 255, "picklist": 255, "multipicklist": 4099}


@dataclass(frozen=True)
class Field:
    """A field of an object.

    Attributes:
        length: Characters of a text; by default what the type has.
        precision: All digits of a number; scale: those behind the point.
        references: The objects whose ids it holds; several make it polymorphic.
        relationship: By which name a query follows it.
        compound: The compound field that it is a part of.
        calculated: Whether a formula computes it.
    """

    name: str
    type: str = "string"
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    references: tuple[str, ...] = ()
    relationship: str | None = None
    values: tuple[str, ...] = ()
    compound: str | None = None
    calculated: bool = False
    name_field: bool = False

    @property
    def custom(self) -> bool:
        """Whether the organisation made it."""
        return self.name.endswith("__c")

    @property
    def filterable(self) -> bool:
        """Whether WHERE takes it."""
        return self.type not in ("base64", "encryptedstring", *COMPOUND) and not self.is_long

    @property
    def sortable(self) -> bool:
        """Whether ORDER BY takes it."""
        return self.filterable and self.type != "multipicklist"

    @property
    def groupable(self) -> bool:
        """Whether GROUP BY takes it."""
        return self.sortable and self.type not in (*NUMBERS, "datetime", "time")

    @property
    def aggregatable(self) -> bool:
        """Whether COUNT, MAX and MIN take it."""
        return self.sortable and self.type != "boolean"

    @property
    def is_long(self) -> bool:
        """Whether it is a long text area."""
        return self.type == "textarea" and self.width > 255

    @property
    def width(self) -> int:
        """How many characters it holds."""
        return self.length or _LENGTHS.get(self.type, 255 if self.soap == "xsd:string" else 0)

    @property
    def soap(self) -> str:
        """The type that the API sends it as."""
        return _SOAP.get(self.type, "xsd:string")

    def describe(self) -> dict[str, Any]:
        """Return the field as a describe shows it."""
        whole = self.type in ("int", "long")
        return {
            "aggregatable": self.aggregatable,
            "aiPredictionField": False,
            "autoNumber": False,
            "byteLength": self.width * 3 if self.soap == "xsd:string" else self.width,
            "calculated": self.calculated,
            "calculatedFormula": "formula" if self.calculated else None,
            "cascadeDelete": False,
            "caseSensitive": False,
            "compoundFieldName": self.compound,
            "controllerName": None,
            "createable": not self.calculated and self.type not in ("id", *COMPOUND),
            "custom": self.custom,
            "defaultValue": False if self.type == "boolean" else None,
            "defaultValueFormula": None,
            "defaultedOnCreate": self.type in ("id", "boolean"),
            "dependentPicklist": False,
            "deprecatedAndHidden": False,
            "digits": 9 if self.type == "int" else 18 if self.type == "long" else 0,
            "displayLocationInDecimal": self.type == "location",
            "encrypted": self.type == "encryptedstring",
            "externalId": False,
            "extraTypeInfo": "plaintextarea" if self.is_long else None,
            "filterable": self.filterable,
            "filteredLookupInfo": None,
            "formulaTreatNullNumberAsZero": False,
            "groupable": self.groupable,
            "highScaleNumber": False,
            "htmlFormatted": False,
            "idLookup": self.type == "id",
            "inlineHelpText": None,
            "label": self.name.removesuffix("__c").replace("_", " "),
            "length": self.width,
            "mask": None,
            "maskType": "all" if self.type == "encryptedstring" else None,
            "name": self.name,
            "nameField": self.name_field,
            "namePointing": len(self.references) > 1,
            "nillable": self.nillable,
            "permissionable": self.nillable,
            "picklistValues": [
                {"active": True, "defaultValue": False, "label": value, "validFor": None, "value": value}
                for value in self.values
            ],
            "polymorphicForeignKey": len(self.references) > 1,
            "precision": 0 if whole else self.precision,
            "queryByDistance": self.type == "location",
            "referenceTargetField": None,
            "referenceTo": list(self.references),
            "relationshipName": self.relationship,
            "relationshipOrder": None,
            "restrictedDelete": False,
            "restrictedPicklist": False,
            "scale": self.scale,
            "searchPrefilterable": self.type == "reference",
            "soapType": self.soap,
            "sortable": self.sortable,
            "type": self.type,
            "unique": False,
            "updateable": not self.calculated and self.type not in ("id", *COMPOUND),
            "writeRequiresMasterRead": False,
        }


def text(name: str, length: int = 255, **more: Any) -> Field:
    """Return a field of text."""
    return Field(name, "string", length, **more)


def money(name: str, precision: int = 18, scale: int = 2, **more: Any) -> Field:
    """Return a field of currency."""
    return Field(name, "currency", precision=precision, scale=scale, **more)


def number(name: str, precision: int = 18, scale: int = 0, **more: Any) -> Field:
    """Return a field of numbers."""
    return Field(name, "double", precision=precision, scale=scale, **more)


def reference(name: str, *targets: str, relationship: str | None = None, **more: Any) -> Field:
    """Return a field that holds ids of other records."""
    if relationship is None:
        relationship = f"{name.removesuffix('__c')}__r" if name.endswith("__c") else name.removesuffix("Id")
    return Field(name, "reference", references=targets, relationship=relationship, **more)


def address(prefix: str) -> tuple[Field, ...]:
    """Return the parts of an address, and the address itself."""
    compound = f"{prefix}Address"
    widths = {"Street": 255, "City": 40, "State": 80, "PostalCode": 20, "Country": 80}
    parts = [
        Field(f"{prefix}{part}", "textarea" if part == "Street" else "string", width, compound=compound)
        for part, width in widths.items()
    ]
    coordinates = [
        Field(f"{prefix}{part}", "double", precision=18, scale=15, compound=compound)
        for part in ("Latitude", "Longitude")
    ]
    return (*parts, *coordinates, Field(compound, "address"))
