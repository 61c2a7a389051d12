"""APIs that a configuration of dlt's REST API source describes."""

from connectors.rest.source import RestSource

__all__ = ["RestSource"]
