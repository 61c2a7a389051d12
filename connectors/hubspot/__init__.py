"""HubSpot's CRM: objects, custom objects, associations and property histories."""

from connectors.hubspot.source import HubSpotSource

__all__ = ["HubSpotSource"]
