"""A double of SAP Gateway: OData services, of which some extract data by Operational Data Provisioning (ODP).

After SAP's help on ODP-based data extraction via OData (artefacts: entity sets, DeltaLinksOf…, SubscribedTo…,
TerminateDeltasFor…) and on error responses of SAP Gateway. What SAP does not publish was left out or is refused.
"""

from connectors.testing.odp.gateway import Gateway
from connectors.testing.odp.sets import CHANGE_MODE, COUNTER, EntitySet, Property, Service
from connectors.testing.odp.tracked import Tracking

__all__ = ["CHANGE_MODE", "COUNTER", "EntitySet", "Gateway", "Property", "Service", "Tracking"]
