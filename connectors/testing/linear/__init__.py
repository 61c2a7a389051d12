"""A double of Linear's GraphQL API, driven by an extract of the schema that Linear publishes."""

from connectors.testing.linear.records import Records, stamp
from connectors.testing.linear.server import API_KEY, Linear

__all__ = ["API_KEY", "Linear", "Records", "stamp"]
