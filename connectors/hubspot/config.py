"""The keys of a HubSpot source in the job file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from connectors.http import HttpConfig

BASE = "https://api.hubapi.com"


class HubSpotConfig(HttpConfig):
    """An account of HubSpot, and who asks: a private app's token, or an app's refresh token.

    Facts: developers.hubspot.com, "Private apps", "OAuth tokens", "Search the CRM" (5 searches a second and account).
    """

    access_token: str | None = Field(None, repr=False, description="of a private app")
    client_id: str | None = Field(None, description="of an app with OAuth; with client_secret and refresh_token")
    client_secret: str | None = Field(None, repr=False)
    refresh_token: str | None = Field(None, repr=False)
    base_url: str = Field(BASE, description="another address of the API")
    history: tuple[str, ...] = Field((), description="OBJECT.PROPERTY: read its former values, as OBJECT_history")
    associations: tuple[str, ...] = Field((), description="OBJECT_to_OBJECT: tables of associations")
    archived: bool = Field(True, description="read deleted records too, marked in the column archived")
    numbers: Literal["decimal", "double", "text"] = Field("decimal", description="how number properties arrive")
    window: int = Field(10_000, ge=1, le=10_000, description="changed records that are read as one part")
    children: bool = Field(True, description="read a deal or an order again whose line items changed")
    search_rate: float = Field(5.0, gt=0, description="searches a second")

    @model_validator(mode="after")
    def _one_login(self) -> HubSpotConfig:
        oauth = (self.client_id, self.client_secret, self.refresh_token)
        if (self.access_token is None) == (None in oauth) or (self.access_token and any(oauth)):
            raise ValueError("give access_token, or client_id, client_secret and refresh_token")
        for one in self.history:
            if not all(one.partition(".")):
                raise ValueError(f"history: {one!r} is not of the form OBJECT.PROPERTY")
        for one in self.associations:
            if not all(one.partition("_to_")):
                raise ValueError(f"associations: {one!r} is not of the form OBJECT_to_OBJECT")
        return self
