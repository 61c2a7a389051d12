"""How to reach a workspace of Linear."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from connectors.http import ApiKey, Bearer, HttpConfig, OAuth2
from connectors.http.auth import Auth

MOST_ROWS = 250


class LinearConfig(HttpConfig):
    """The keys of a source of type linear.

    Source: https://linear.app/developers/graphql#authentication,
    https://linear.app/developers/oauth-2-0-authentication
    """

    api_key: str | None = Field(None, repr=False, description="a personal API key, lin_api_…")
    access_token: str | None = Field(None, repr=False, description="an OAuth access token")
    client_id: str | None = Field(None, description="of an OAuth application that may use client credentials")
    client_secret: str | None = Field(None, repr=False)
    scope: str = Field("read", description="what client credentials ask for")
    base_url: str = Field("https://api.linear.app", description="where /graphql and /oauth/token are")
    page_size: int | Literal["auto"] = Field(
        "auto", description="rows of a page at most, 1 to 250; auto: what the limit of complexity allows"
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> LinearConfig:
        ways = [self.api_key, self.access_token, self.client_id]
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of api_key, access_token, or client_id with client_secret")
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("client_id and client_secret belong together")
        if self.page_size != "auto" and not 1 <= self.page_size <= MOST_ROWS:
            raise ValueError(f"page_size is 1 to {MOST_ROWS}, or auto")
        return self

    def auth(self) -> Auth:
        """Return what authenticates requests: a key goes as it is, a token as a bearer token."""
        if self.api_key is not None:
            return ApiKey("Authorization", self.api_key)
        if self.access_token is not None:
            return Bearer(self.access_token)
        assert self.client_id is not None
        assert self.client_secret is not None
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": self.scope,
        }
        return OAuth2("/oauth/token", form)
