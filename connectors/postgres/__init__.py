"""PostgreSQL as a source: COPY out of one exported snapshot, straight into Arrow."""

from connectors.postgres.source import PostgresSource

__all__ = ["PostgresSource"]
