"""$metadata of a service, as SAP Gateway writes it for OData 2.0, with SAP's annotations of ODP."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from connectors.testing.odp.sets import EntitySet, Service

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx" '
    'xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata" '
    'xmlns:sap="http://www.sap.com/Protocols/SAPData">'
    '<edmx:DataServices m:DataServiceVersion="2.0">'
)


def document(service: Service) -> str:
    """Return the document."""
    space = service.name
    types, associations, sets, bonds, functions = [], [], [], [], []
    for one in service.sets.values():
        types.append(_type(one, space))
        tracked = ' sap:change-tracking="true"' if one.tracked else ""
        sets.append(
            f'<EntitySet Name={quoteattr(one.name)} EntityType="{space}.{one.name}Type" sap:creatable="false" '
            f'sap:updatable="false" sap:deletable="false"{tracked} sap:content-version="1"/>'
        )
        if one.tracked:
            types.append(_links(one, space))
            sets.append(f'<EntitySet Name="DeltaLinksOf{one.name}" EntityType="{space}.DeltaLinksOf{one.name}"/>')
            associations.append(_association(f"DeltaLinksOf{one.name}", one.name, space, f"DeltaLinksOf{one.name}"))
            functions.append(
                f'<FunctionImport Name="SubscribedTo{one.name}" ReturnType="{space}.ChangeTrackingDetails" '
                f'm:HttpMethod="GET"/><FunctionImport Name="TerminateDeltasFor{one.name}" '
                f'ReturnType="{space}.SubscriptionTerminationDetails" m:HttpMethod="GET"/>'
            )
        for name, (target, _) in one.children.items():
            associations.append(_association(f"{one.name}_{name}", target, space, f"{one.name}Type", f"{target}Type"))
            bonds.append(
                f'<AssociationSet Name="{one.name}_{name}Set" Association="{space}.{one.name}_{name}">'
                f'<End EntitySet="{one.name}" Role="From"/><End EntitySet="{target}" Role="To"/></AssociationSet>'
            )
    complexes = (
        '<ComplexType Name="ChangeTrackingDetails"><Property Name="SubscribedFlag" Type="Edm.Boolean"/></ComplexType>'
        '<ComplexType Name="SubscriptionTerminationDetails">'
        '<Property Name="ResultFlag" Type="Edm.Boolean"/></ComplexType>'
    )
    return (
        f'{_HEAD}<Schema Namespace="{space}" xml:lang="en" sap:schema-version="1" '
        f'xmlns="http://schemas.microsoft.com/ado/2008/09/edm">{"".join(types)}{complexes}{"".join(associations)}'
        f'<EntityContainer Name="{space}_Entities" m:IsDefaultEntityContainer="true" '
        f'sap:supported-formats="atom json xlsx">{"".join(sets)}{"".join(bonds)}{"".join(functions)}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    )


def _type(one: EntitySet, space: str) -> str:
    keys = "".join(f"<PropertyRef Name={quoteattr(name)}/>" for name in one.key)
    parts = []
    for prop in one.properties.values():
        facets = dict(prop.facets)
        if prop.name in one.key:
            facets["Nullable"] = "false"
        parts.append(
            f'<Property Name="{prop.name}" Type="{prop.type}"'
            + "".join(f" {name}={quoteattr(value)}" for name, value in facets.items())
            + "/>"
        )
    parts += [
        f'<NavigationProperty Name="{name}" Relationship="{space}.{one.name}_{name}" FromRole="From" ToRole="To"/>'
        for name in one.children
    ]
    return f'<EntityType Name="{one.name}Type"><Key>{keys}</Key>{"".join(parts)}</EntityType>'


def _links(one: EntitySet, space: str) -> str:
    return (
        f'<EntityType Name="DeltaLinksOf{one.name}"><Key><PropertyRef Name="DeltaToken"/></Key>'
        '<Property Name="DeltaToken" Type="Edm.String" Nullable="false"/>'
        '<Property Name="CreatedAt" Type="Edm.DateTimeOffset"/><Property Name="IsInitialLoad" Type="Edm.Boolean"/>'
        f'<NavigationProperty Name="ChangesAfter" Relationship="{space}.DeltaLinksOf{one.name}" FromRole="From" '
        'ToRole="To"/></EntityType>'
    )


def _association(name: str, target: str, space: str, start: str, end: str | None = None) -> str:
    return (
        f'<Association Name="{name}"><End Type="{space}.{start}" Multiplicity="1" Role="From"/>'
        f'<End Type="{space}.{end or target + "Type"}" Multiplicity="*" Role="To"/></Association>'
    )
