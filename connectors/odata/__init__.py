"""OData services, versions 2.0 and 4.0, and SAP's of them."""

from connectors.odata.source import ODataSource, SapSource

__all__ = ["ODataSource", "SapSource"]
