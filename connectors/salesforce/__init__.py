"""Salesforce as a source: objects over the REST API, large ones over the Bulk API 2.0."""

from connectors.salesforce.source import SalesforceSource

__all__ = ["SalesforceSource"]
