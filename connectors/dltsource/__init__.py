"""Sources written for dlt, run through our ledger, limits and writers."""

from connectors.dltsource.source import DltSource

__all__ = ["DltSource"]
