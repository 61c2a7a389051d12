"""Linear: issues, projects and what belongs to them, through its GraphQL API."""

from connectors.linear.config import LinearConfig
from connectors.linear.source import LinearSource

__all__ = ["LinearConfig", "LinearSource"]
