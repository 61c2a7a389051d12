"""The keys of sources of type odata and sap."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from connectors.http import ApiKey, Auth, Basic, Bearer, HttpConfig, NoAuth, OAuth2


class ODataConfig(HttpConfig):
    """How to reach one OData service.

    Paging: ``key`` asks for what comes after the last key (nothing is lost when rows come and go meanwhile), ``server``
    follows the links of the server, ``skip`` counts. ``auto`` takes key where the keys can be compared, else server.
    """

    url: str = Field(description="address of the service, where $metadata is beneath")
    version: Literal["auto", 2, 4] = "auto"
    user: str | None = None
    password: str | None = Field(None, repr=False)
    token: str | None = Field(None, repr=False, description="a bearer token")
    api_key: str | None = Field(None, repr=False)
    api_key_header: str = "APIKey"
    token_url: str | None = Field(None, description="OAuth 2 client credentials: the token endpoint")
    client_id: str | None = None
    client_secret: str | None = Field(None, repr=False)
    scope: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="sent with every request")
    page_size: int = Field(1000, ge=1, le=100_000)
    paging: Literal["auto", "key", "server", "skip"] = "auto"
    delta: Literal["auto", "off"] = Field("auto", description="read changes by delta links where they are offered")
    expand: dict[str, list[str]] = Field(
        default_factory=dict, description="by entity set: navigation properties that arrive as JSON columns"
    )
    children: bool = Field(False, description="expand what is known to be a part of its header")

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        if "?" in url or "#" in url:
            raise ValueError("the address of the service without a query; sap_client and headers are keys of their own")
        return url.rstrip("/").removesuffix("/$metadata")

    @model_validator(mode="after")
    def _one_way(self) -> ODataConfig:
        ways = [name for name in ("user", "token", "api_key", "token_url") if getattr(self, name) is not None]
        # Gateways in front of a service ask for a key of their own.
        if len([name for name in ways if name != "api_key"]) > 1:
            raise ValueError(f"one way to sign in, not {' and '.join(ways)}")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.token_url and not (self.client_id and self.client_secret):
            raise ValueError("token_url needs client_id and client_secret")
        return self

    def auth(self) -> Auth:
        """Return what authenticates requests."""
        if self.user is not None and self.password is not None:
            return Basic(self.user, self.password)
        if self.token is not None:
            return Bearer(self.token)
        if self.token_url is not None:
            form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
            return OAuth2(self.token_url, form, basic=(str(self.client_id), str(self.client_secret)))
        if self.api_key is not None:
            return ApiKey(self.api_key_header, self.api_key)
        return NoAuth()

    def sent(self) -> dict[str, str]:
        """Return the headers of every request."""
        other = self.user is not None or self.token is not None or self.token_url is not None
        key = {self.api_key_header: self.api_key} if self.api_key is not None and other else {}
        return {**key, **self.headers}

    def options(self, version: int) -> dict[str, str]:
        """Return the query options of every request."""
        return {}


class SapConfig(ODataConfig):
    """How to reach one service of SAP Gateway.

    The client and the language are given as SAP's own query options (SAP Help, "SAP Gateway Foundation
    Developer Guide", SAP URL parameters).
    """

    sap_client: str | None = Field(None, pattern=r"\d{3}", description="three digits; by default the system's")
    language: str | None = Field(None, description="of texts: EN, DE …")
    page_size: int = Field(5000, ge=1, le=100_000)

    def options(self, version: int) -> dict[str, str]:
        found = {"sap-client": self.sap_client, "sap-language": self.language}
        # SAP Gateway answers V2 with Atom unless it is told otherwise.
        found["$format"] = "json" if version == 2 else None
        return {name: text for name, text in found.items() if text is not None}
