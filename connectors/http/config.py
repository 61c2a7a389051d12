"""The keys that every source over HTTP takes."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from runner.units import Duration, Size


class HttpConfig(BaseModel):
    """How to talk to a system over HTTP; proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_timeout: Duration = Field(timedelta(seconds=10), description="until there is a connection")
    read_timeout: Duration = Field(timedelta(seconds=60), description="without a byte of the answer")
    timeout: Duration = Field(timedelta(minutes=5), description="of one request as a whole; a stream has none")
    max_response: Size = Field(64 * 2**20, description="the largest answer that is held in memory")
    ca_file: str | None = Field(None, description="certificates to trust besides the system's")
