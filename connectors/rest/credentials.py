"""The ways to authenticate of dlt's REST API source, as models."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from connectors import http
from connectors.rest.strict import Strict, tag, typed, without_session


class BearerToken(Strict):
    """A token in the Authorization header."""

    type: Literal["bearer"] = "bearer"
    token: str = Field(repr=False)


class Key(Strict):
    """A key in a header, in the query or in a cookie."""

    type: Literal["api_key"] = "api_key"
    name: str = "Authorization"
    api_key: str = Field(repr=False)
    location: Literal["header", "query", "param", "cookie"] = "header"

    @field_validator("location", "name", mode="before")
    @classmethod
    def _defaults(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value


class UserPassword(Strict):
    """User and password."""

    type: Literal["http_basic"] = "http_basic"
    username: str
    password: str = Field(repr=False)


class ClientCredentials(Strict):
    """A token of an OAuth 2.0 token endpoint, for the client itself."""

    type: Literal["oauth2_client_credentials"] = "oauth2_client_credentials"
    access_token_url: str
    client_id: str
    client_secret: str = Field(repr=False)
    access_token: str | None = Field(None, repr=False, description="taken and not used, as dlt does")
    access_token_request_data: dict[str, Any] | None = Field(None, repr=False)
    default_token_expiration: int = 3600

    @model_validator(mode="before")
    @classmethod
    def _no_session(cls, data: Any) -> Any:
        return without_session(data)


_Auths = Annotated[
    Annotated[BearerToken, Tag("type:bearer")]
    | Annotated[Key, Tag("type:api_key")]
    | Annotated[UserPassword, Tag("type:http_basic")]
    | Annotated[ClientCredentials, Tag("type:oauth2_client_credentials")],
    Discriminator(tag),
]
_AUTHS = (BearerToken, Key, UserPassword, ClientCredentials)
AuthModel = BearerToken | Key | UserPassword | ClientCredentials
Auth = Annotated[_Auths | None, BeforeValidator(typed("auth", "bearer", _AUTHS))]


def make_auth(model: AuthModel) -> http.Auth:
    """Return what authenticates as a model says."""
    if isinstance(model, BearerToken):
        return http.Bearer(model.token)
    if isinstance(model, UserPassword):
        return http.Basic(model.username, model.password)
    if isinstance(model, Key):
        place = "query" if model.location == "param" else model.location
        return http.ApiKey(model.name, model.api_key, place)
    assert isinstance(model, ClientCredentials)
    form = {
        "client_id": model.client_id,
        "client_secret": model.client_secret,
        "grant_type": "client_credentials",
        **{name: str(value) for name, value in (model.access_token_request_data or {}).items()},
    }
    return http.OAuth2(model.access_token_url, form, lifetime=timedelta(seconds=model.default_token_expiration))
