"""PostgreSQL as a source: COPY out of one exported snapshot, straight into Arrow (``connectors.postgres.source``).

Who only asks questions (``connectors.sql``) takes its connections and its errors from here, without Arrow.
"""
