"""Reads $metadata: XML of a server that we do not trust.

The parser is expat. A document type is refused before anything in it is looked at, so there are no entities: none from
outside (XXE) and none that grow. Depth and number of elements are bounded, the size by ``max_response``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from xml.parsers import expat

from connectors.odata.edm import EntitySet, EntityType, Model, Navigation, Property
from runner.errors import RequestRefused

# The aliases that services give to the vocabularies, which they declare outside of their own schemas.
_VOCABULARIES = {
    "Common": "com.sap.vocabularies.Common.v1",
    "Core": "Org.OData.Core.V1",
    "Capabilities": "Org.OData.Capabilities.V1",
}
_DEEPEST = 64
_MOST = 2_000_000
_SAP = "http://www.sap.com/Protocols/SAPData"
_DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"
_LABELS = ("com.sap.vocabularies.Common.v1.Label", "Org.OData.Core.V1.Description")
_TRACKING = "Org.OData.Capabilities.V1.ChangeTracking"
_FILTERS = ("Org.OData.Capabilities.V1.FilterRestrictions", "Org.OData.Capabilities.V1.SortRestrictions")


@dataclass
class Element:
    """An element without its namespace; attributes of SAP's and Microsoft's keep theirs as a prefix."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> Iterator[Element]:
        """Return the children of a name."""
        return (child for child in self.children if child.name == name)

    def get(self, name: str, default: str = "") -> str:
        """Return an attribute."""
        return self.attributes.get(name, default)


def parse_xml(document: bytes) -> Element:
    """Return a document's elements.

    Raises:
        RequestRefused: It is no XML, has a document type, or is deeper or longer than any service's.
    """
    root = Element("", {})
    open_: list[Element] = [root]
    count = 0
    # It refuses to read a file where an entity would begin; the document type comes first.
    parser = expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(open_) > _DEEPEST or count > _MOST:
            raise RequestRefused("$metadata is deeper or longer than any service's.")
        element = Element(_local(name), {_local(key): value for key, value in attributes.items()})
        open_[-1].children.append(element)
        open_.append(element)

    def refuse(*_: object) -> int:
        raise RequestRefused(
            "$metadata has a document type, which OData does not have.",
            guidance="Check the address of the source: this is not an OData service, or somebody is in between.",
        )

    def characters(text: str) -> None:
        open_[-1].text += text.strip()

    parser.StartElementHandler = start
    parser.CharacterDataHandler = characters
    parser.EndElementHandler = lambda _: open_.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise RequestRefused(
            f"$metadata is no XML: {error}.", guidance="Check the address of the source: it ends before $metadata."
        ) from error
    return root


def _local(name: str) -> str:
    space, _, local = name.rpartition(" ")
    prefix = {_SAP: "sap:", _DATA: "m:"}.get(space, "")
    return prefix + local


def read_model(document: bytes) -> Model:
    """Return what $metadata declares.

    Raises:
        RequestRefused: It is not the metadata of a version that we speak.
    """
    root = next(iter(parse_xml(document).children))
    services = next(root.all("DataServices"), None)
    if root.name != "Edmx" or services is None:
        raise RequestRefused("The answer is not $metadata.", guidance="Check the address of the source.")
    version = 4 if root.get("Version").startswith("4") else 2
    if services.get("m:DataServiceVersion", "2.0") > "2.0" and services.get("m:MaxDataServiceVersion") > "2.0":
        raise RequestRefused("The service speaks OData 3.0 alone.", guidance="Versions 2.0 and 4.0 can be read.")
    return _Reader(list(services.all("Schema")), version).model()


class _Reader:
    """Puts the schemas of one service together."""

    def __init__(self, schemas: list[Element], version: int) -> None:
        self.version = version
        self.schemas = schemas
        self.aliases = {schema.get("Alias"): schema.get("Namespace") for schema in schemas if schema.get("Alias")}
        self.entities: dict[str, Element] = {}
        self.associations: dict[str, Element] = {}
        self.plain: dict[str, str] = {}
        self.annotations: dict[str, list[Element]] = {}
        self.types: dict[str, EntityType] = {}
        for schema in schemas:
            space = schema.get("Namespace")
            for one in schema.children:
                name = f"{space}.{one.get('Name')}"
                if one.name == "EntityType":
                    self.entities[name] = one
                elif one.name == "Association":
                    self.associations[name] = one
                elif one.name == "EnumType":
                    self.plain[name] = "Edm.String"
                elif one.name == "TypeDefinition":
                    self.plain[name] = one.get("UnderlyingType")
                elif one.name == "Annotations":
                    self.annotations.setdefault(self._full(one.get("Target")), []).extend(one.all("Annotation"))

    def model(self) -> Model:
        for name in self.entities:
            self._type(name)
        sets: dict[str, EntitySet] = {}
        for schema in self.schemas:
            for container in schema.all("EntityContainer"):
                place = f"{schema.get('Namespace')}.{container.get('Name')}"
                for one in container.all("EntitySet"):
                    kind = self.types.get(self._full(one.get("EntityType")))
                    if kind is not None:
                        sets[one.get("Name")] = self._set(one, kind, f"{place}/{one.get('Name')}")
        for name in sets:
            if f"DeltaLinksOf{name}" in sets:  # ODP lists its delta tokens there
                sets[name] = replace(sets[name], tracked=True)
        return Model(self.version, sets, self.types, self.plain)

    def _set(self, one: Element, kind: EntityType, place: str) -> EntitySet:
        notes = [*one.all("Annotation"), *self.annotations.get(place, ())]
        tracked = one.get("sap:change-tracking") == "true"
        refused: set[str] = set()
        for note in notes:
            term = self._full(note.get("Term"))
            if term == _TRACKING:
                values = {part.get("Property"): part.get("Bool") for part in _records(note)}
                tracked = values.get("Supported", "true") != "false"
            elif term in _FILTERS:
                refused |= {path for part in _records(note) for path in _paths(part)}
                if any(part.get("Bool") == "false" and part.get("Property") in ("Filterable", "Sortable")
                       for part in _records(note)):  # fmt: skip
                    refused |= set(kind.properties)
        if refused & set(kind.properties):
            properties = kind.properties.items()
            kept = {name: replace(prop, usable=prop.usable and name not in refused) for name, prop in properties}
            kind = replace(kind, properties=kept)
        return EntitySet(one.get("Name"), kind, tracked, one.get("sap:label") or self._label(notes) or kind.label)

    def _type(self, name: str, below: frozenset[str] = frozenset()) -> EntityType | None:
        if name in self.types:
            return self.types[name]
        element = self.entities.get(name)
        if element is None or name in below:
            return None
        parent = self._type(self._full(element.get("BaseType")), below | {name}) if element.get("BaseType") else None
        key = tuple(ref.get("Name") for one in element.all("Key") for ref in one.all("PropertyRef"))
        properties = dict(parent.properties) if parent else {}
        navigation = dict(parent.navigation) if parent else {}
        own_key = key or (parent.key if parent else ())
        for one in element.all("Property"):
            properties[one.get("Name")] = self._property(one, name, required=one.get("Name") in own_key)
        for one in element.all("NavigationProperty"):
            found = self._navigation(one)
            if found is not None:
                navigation[found.name] = found
        label = element.get("sap:label") or self._label([*element.all("Annotation"), *self.annotations.get(name, ())])
        self.types[name] = EntityType(name, own_key, properties, navigation, label)
        return self.types[name]

    def _property(self, one: Element, owner: str, *, required: bool) -> Property:
        declared = one.get("Type")
        collection = declared.startswith("Collection(")
        name = one.get("Name")
        notes = [*one.all("Annotation"), *self.annotations.get(f"{owner}/{name}", ())]
        precision = one.get("Precision")
        return Property(
            name,
            self._full(declared.removeprefix("Collection(").removesuffix(")")),
            nullable=one.get("Nullable", "true") != "false" and not required,
            precision=int(precision) if precision.isdigit() else None,
            scale=one.get("Scale") or None,
            length=one.get("MaxLength") or None,
            collection=collection,
            label=one.get("sap:label") or self._label(notes),
            dated=one.get("sap:display-format") == "Date",
            usable=one.get("sap:filterable") != "false" and one.get("sap:sortable") != "false",
        )

    def _navigation(self, one: Element) -> Navigation | None:
        name = one.get("Name")
        if one.get("Type"):
            target = one.get("Type")
            many = target.startswith("Collection(")
            target = self._full(target.removeprefix("Collection(").removesuffix(")"))
            own = [(ref.get("Property"), ref.get("ReferencedProperty")) for ref in one.all("ReferentialConstraint")]
            if not own and one.get("Partner") and target in self.entities:
                # The other side says which of its properties hold the key of this one.
                back = next((nav for nav in self.entities[target].all("NavigationProperty")
                             if nav.get("Name") == one.get("Partner")), None)  # fmt: skip
                refs = back.all("ReferentialConstraint") if back is not None else ()
                own = [(ref.get("ReferencedProperty"), ref.get("Property")) for ref in refs]
            return Navigation(name, target, many, tuple(own))
        association = self.associations.get(self._full(one.get("Relationship")))
        ends = {end.get("Role"): end for end in association.all("End")} if association is not None else {}
        end = ends.get(one.get("ToRole"))
        if association is None or end is None:
            return None
        pairs: tuple[tuple[str, str], ...] = ()
        for constraint in association.all("ReferentialConstraint"):
            sides = {
                side.get("Role"): [ref.get("Name") for ref in side.all("PropertyRef")] for side in constraint.children
            }
            pairs = tuple(zip(sides.get(one.get("FromRole"), []), sides.get(one.get("ToRole"), []), strict=False))
        return Navigation(name, self._full(end.get("Type")), end.get("Multiplicity") == "*", pairs)

    def _label(self, notes: list[Element]) -> str | None:
        texts = {self._full(note.get("Term")): note.get("String") for note in notes if note.get("String")}
        return next((texts[term] for term in _LABELS if term in texts), None)

    def _full(self, name: str) -> str:
        """Return a name with the namespace that its alias stands for."""
        space, dot, local = name.rpartition(".")
        return f"{self.aliases.get(space) or _VOCABULARIES.get(space, space)}{dot}{local}"


def _records(note: Element) -> list[Element]:
    return [part for record in note.all("Record") for part in record.all("PropertyValue")]


def _paths(part: Element) -> Iterator[str]:
    """Return the properties of NonFilterableProperties and NonSortableProperties."""
    if part.get("Property").startswith("Non"):
        for listed in part.all("Collection"):
            yield from (one.text for one in listed.all("PropertyPath"))
