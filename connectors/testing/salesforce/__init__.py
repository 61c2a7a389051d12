"""A double of Salesforce."""

from connectors.testing.salesforce.org import Sundial
from connectors.testing.salesforce.server import Salesforce

__all__ = ["Salesforce", "Sundial"]
