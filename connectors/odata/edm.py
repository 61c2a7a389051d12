"""What a service's $metadata declares: entity sets, types, properties, navigation.

After OData CSDL 4.01 (sections 4 to 8) and the CSDL of OData 2.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Property:
    """A property.

    Attributes:
        type: With its namespace, what collections are of: Edm.String.
        scale: As it is written: a number, variable or floating.
        label: What people call it.
        dated: Whether it is a time of which only the date counts (sap:display-format).
        usable: Whether it may be filtered and sorted by.
    """

    name: str
    type: str
    nullable: bool = True
    precision: int | None = None
    scale: str | None = None
    length: str | None = None
    collection: bool = False
    label: str | None = None
    dated: bool = False
    usable: bool = True


@dataclass(frozen=True)
class Navigation:
    """A navigation property.

    Attributes:
        target: The entity type it leads to.
        pairs: Properties here and those there that hold the same.
    """

    name: str
    target: str
    many: bool
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class EntityType:
    """An entity type, with what it inherits."""

    name: str
    key: tuple[str, ...]
    properties: dict[str, Property]
    navigation: dict[str, Navigation]
    label: str | None = None


@dataclass(frozen=True)
class EntitySet:
    """An entity set.

    Attributes:
        tracked: Whether the service offers its changes.
    """

    name: str
    type: EntityType
    tracked: bool = False
    label: str | None = None


@dataclass(frozen=True)
class Model:
    """A service.

    Attributes:
        version: Of the protocol: 2 or 4.
        plain: Named types that are primitive ones: enumerations, definitions.
    """

    version: int
    sets: dict[str, EntitySet]
    types: dict[str, EntityType] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)

    def set_of(self, type_name: str) -> EntitySet | None:
        """Return an entity set of a type."""
        return next((one for one in self.sets.values() if one.type.name == type_name), None)
