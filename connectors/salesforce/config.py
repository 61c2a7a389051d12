"""How to reach an organisation of Salesforce.

Facts: help.salesforce.com, "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" (the audience is the login
server: login.salesforce.com, or test.salesforce.com for a sandbox), "OAuth 2.0 Client Credentials Flow" and "OAuth 2.0
Refresh Token Flow" (both at the organisation's own domain), "My Domain URL Formats".
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from connectors.http import HttpConfig

_SUFFIX = ".salesforce.com"


class SalesforceConfig(HttpConfig):
    """The keys of a source of type salesforce.

    Which ones are given decides how to sign in: private_key and username (JWT bearer), refresh_token, or client_secret
    alone (client credentials).
    """

    domain: str | None = Field(None, description="My Domain, such as acme.my or acme--dev.sandbox.my.salesforce.com")
    instance_url: str | None = Field(None, description="the whole address, instead of domain")
    client_id: str | None = Field(None, description="consumer key of the connected app")
    client_secret: str | None = Field(None, repr=False)
    username: str | None = Field(None, description="who the private key signs in as")
    private_key: str | None = Field(None, repr=False, description="PEM, of the certificate in the connected app")
    refresh_token: str | None = Field(None, repr=False)
    audience: str | None = Field(None, description="for the private key; by default as the domain says")
    api_version: str = Field("62.0", pattern=r"^\d\d\.0$")
    batch_size: int = Field(2000, ge=200, le=2000, description="records in one answer of a query")
    bulk: Literal["auto", "always", "never"] = Field("auto", description="whether to read by jobs of the Bulk API 2.0")
    bulk_from: int = Field(50_000, ge=1, description="auto: how many records make a job worth its while")
    bulk_rows: int = Field(10_000, ge=1, le=1_000_000, description="records in one set of a job's results")
    binary: tuple[str, ...] = Field((), description="base64 fields to read all the same: Attachment.Body")
    numbers: Literal["decimal", "double"] = Field("decimal", description="what currency, percent and number become")

    @model_validator(mode="after")
    def _settle(self) -> SalesforceConfig:
        if (self.domain is None) == (self.instance_url is None):
            raise ValueError("give either domain or instance_url")
        if not self.client_id:
            raise ValueError("client_id is missing: the consumer key of the connected app")
        if self.private_key and not self.username:
            raise ValueError("private_key needs username: who it signs in as")
        if not (self.private_key or self.refresh_token or self.client_secret):
            raise ValueError("give private_key and username, refresh_token, or client_secret")
        return self

    @property
    def url(self) -> str:
        """Where the organisation is, without a slash at the end."""
        if self.instance_url:
            return self.instance_url.rstrip("/")
        name = (self.domain or "").removeprefix("https://").rstrip("/")
        return f"https://{name if name.endswith(_SUFFIX) else name + _SUFFIX}"

    @property
    def login(self) -> str:
        """The audience of a signed assertion."""
        if self.audience:
            return self.audience
        sandbox = ".sandbox." in self.url or "--" in self.url or self.url == "https://test.salesforce.com"
        return f"https://{'test' if sandbox else 'login'}.salesforce.com"
