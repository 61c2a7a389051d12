"""The keys of a source of type sheets."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from connectors.http import HttpConfig
from runner.units import Duration

_URL = re.compile(r"https?://[^/]+/spreadsheets/d/([A-Za-z0-9_-]+)")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_REQUIRED = ("client_email", "private_key")
HeaderRow = Annotated[int, Field(ge=1)]
Spreadsheets = Annotated[
    list[str],
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Key = Annotated[dict[str, Any], WithJsonSchema({"type": ["object", "string"]})]
Header = Literal["first", "none"] | HeaderRow | list[str]


class RangeConfig(BaseModel):
    """How one table is read: a sheet, a named range, or any range under a name of its own.

    What is not given is as the source says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    range: str | None = Field(None, description="'My sheet'!B3:F; by default the sheet or named range of that name")
    spreadsheet: str | None = Field(None, description="id or URL, where the source has several")
    header: Header | None = Field(None, description="first | none | number of the row | names")
    merged: Literal["fill", "blank"] | None = Field(None, description="what merged cells hold besides the first")

    @field_validator("spreadsheet")
    @classmethod
    def _as_id(cls, value: str | None) -> str | None:
        return None if value is None else spreadsheet_id(value)


class SheetsConfig(HttpConfig):
    """Spreadsheets of Google Sheets, and who reads them.

    A service account reads what is shared with its address; OAuth reads what the user that consented may read
    (https://developers.google.com/workspace/sheets/api/scopes, spreadsheets.readonly).
    """

    spreadsheets: Spreadsheets = Field(min_length=1, description="ids or URLs; one may stand alone")
    service_account: Key | None = Field(
        None, repr=False, description="key of a service account: JSON, base64 of it, or a path"
    )
    client_id: str | None = None
    client_secret: str | None = Field(None, repr=False)
    refresh_token: str | None = Field(None, repr=False)
    ranges: dict[str, RangeConfig | str] = Field(default_factory=dict, description="tables that are read differently")
    header: Header = Field("first", description="first | none | number of the row | names")
    merged: Literal["fill", "blank"] = Field("blank", description="what merged cells hold besides the first")
    include_hidden: bool = Field(False, description="hidden sheets too")
    named_ranges: bool = Field(True, description="a table for each named range")
    cells: int = Field(50_000, ge=1, description="cells in one request, about")
    quota_pause: Duration = Field(timedelta(seconds=20), description="after 429, which names no time")
    api_url: str = "https://sheets.googleapis.com"
    token_url: str | None = Field(None, description="by default the key's own, or Google's")

    @field_validator("spreadsheets", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("spreadsheets")
    @classmethod
    def _as_ids(cls, value: list[str]) -> list[str]:
        ids = [spreadsheet_id(one) for one in value]
        if len(set(ids)) < len(ids):
            raise ValueError("a spreadsheet is named twice")
        return ids

    @field_validator("service_account", mode="before")
    @classmethod
    def _as_key(cls, value: Any) -> Any:
        # Nothing of what was given is repeated in an error: it may be the key.
        if not isinstance(value, str) or not value.strip():
            return value or None
        return _key(value.strip())

    @model_validator(mode="after")
    def _one_identity(self) -> SheetsConfig:
        given = [self.client_id, self.client_secret, self.refresh_token]
        if self.service_account is None and not all(given):
            raise ValueError("needs service_account, or client_id, client_secret and refresh_token")
        if self.service_account is not None and any(given):
            raise ValueError("has service_account and OAuth keys: give one of them")
        if self.service_account is not None:
            missing = [name for name in _REQUIRED if not isinstance(self.service_account.get(name), str)]
            if missing:
                raise ValueError(f"service_account is no key of a service account: it lacks {', '.join(missing)}")
        return self

    def of(self, name: str) -> RangeConfig:
        """Return how a table is read."""
        own = self.ranges.get(name, RangeConfig())
        return RangeConfig(range=own) if isinstance(own, str) else own


def spreadsheet_id(text: str) -> str:
    """Return the id that is meant by an id or a URL of a browser.

    Raises:
        ValueError: It is neither.
    """
    if hit := _URL.match(text.strip()):
        return hit[1]
    if not _ID.fullmatch(text.strip()):
        raise ValueError("neither the id nor the URL of a spreadsheet")
    return text.strip()


def _key(text: str) -> Any:
    if not text.startswith("{"):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            try:
                text = Path(text).expanduser().read_text("utf-8")
            except (OSError, ValueError) as error:
                raise ValueError("service_account is neither JSON, nor base64 of it, nor a file") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError("service_account is no JSON") from error
