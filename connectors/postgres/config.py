"""How to reach a PostgreSQL server, as libpq users expect to say it."""

from __future__ import annotations

import os
import shlex
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runner.units import Duration

_KEYWORDS = {
    "host": "host",
    "port": "port",
    "dbname": "database",
    "user": "user",
    "password": "password",
    "passfile": "passfile",
    "service": "service",
    "sslmode": "ssl",
}
Include = Literal["views", "materialized_views", "foreign_tables"]


class PostgresConfig(BaseModel):
    """The keys of a source of type postgres.

    What is not given is taken from PGHOST, PGSERVICE, ~/.pgpass and the rest of libpq's environment
    (https://www.postgresql.org/docs/current/libpq-envars.html).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsn: str | None = Field(None, description="URI, or keyword=value pairs", repr=False)
    host: str | None = None
    port: int | None = None
    database: str | None = None
    user: str | None = None
    password: str | None = Field(None, repr=False)
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    service: str | None = Field(None, description="section of the service file")
    include: list[Include] = Field(default_factory=list, description="kinds that a wildcard takes too")
    schemas: list[str] | None = Field(None, description="only these schemas")
    pooler: Literal["auto", "none", "transaction"] = Field("auto", description="pgbouncer between us")
    statement_timeout: Duration = timedelta(hours=1)
    lock_timeout: Duration = timedelta(seconds=10)
    connect_timeout: Duration = timedelta(seconds=10)
    row_security: bool = Field(False, description="accept that policies hide rows from this user")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of asyncpg.connect()."""
        found: dict[str, Any] = {}
        if self.dsn and "://" in self.dsn:
            found["dsn"] = self.dsn
        elif self.dsn and "=" not in self.dsn:
            raise ValueError("neither a URI nor keyword=value pairs")
        elif self.dsn:
            pairs = (part.partition("=") for part in shlex.split(self.dsn))
            found = {_KEYWORDS[key]: value for key, _, value in pairs if key in _KEYWORDS}
        own = {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "service": self.service,
            "ssl": self.sslmode,
        }
        found |= {key: value for key, value in own.items() if value is not None}
        service = found.get("service") or os.environ.get("PGSERVICE")
        if service:
            # asyncpg reads the service file only beside a URI, and does not know PGSERVICE.
            found = {"dsn": "postgresql://", **found, "service": service}
        return found
