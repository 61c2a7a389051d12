"""A double of HubSpot's CRM API: objects, properties, associations, search, tokens and limits."""

from connectors.testing.hubspot.server import HubSpotDouble
from connectors.testing.hubspot.store import Kind, Property, Record

__all__ = ["HubSpotDouble", "Kind", "Property", "Record"]
