"""The paginators and the ways to authenticate of dlt's REST API source, as models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from connectors.rest.jsonpaths import compiled
from connectors.rest.objects import function, refuse_object
from runner.document import nearest


def known_keys(model: type[BaseModel], data: Any) -> Any:
    """Return data whose keys a model knows.

    Raises:
        PydanticCustomError: One is unknown; it names the nearest.
    """
    if isinstance(data, Mapping):
        known = [field.alias or name for name, field in model.model_fields.items()]
        for key in data:
            if key not in known:
                near = nearest(str(key), known)
                hint = f" Did you mean {near!r}?" if near else ""
                raise PydanticCustomError("extra_forbidden", "{words}", {"words": f"unknown key {key!r}.{hint}"})
    return data


def without_session(data: Any) -> Any:
    """Return data without the key for a session of dlt's own client.

    Raises:
        ValueError: There is one.
    """
    if not isinstance(data, Mapping):
        return data
    if data.get("session") is not None:
        raise ValueError(
            "session: an object of requests works with dlt's own client alone: say headers, auth, and here ca_file and "
            "the timeouts instead"
        )
    return {key: value for key, value in data.items() if key != "session"}


class Strict(BaseModel):
    """A model that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        return known_keys(cls, data)


def _path(value: Any) -> Any:
    text = value if value is None else str(value)
    if text:
        compiled(text)
    return text


Function = Annotated[
    Callable[..., Any],
    BeforeValidator(function),
    WithJsonSchema({"type": "string", "description": "package.module:function"}),
]
# Also the objects that jsonpath-ng makes of one.
PathText = Annotated[str, BeforeValidator(_path)]


# Paginators.


class Automatic(Strict):
    """What the first answer looks like decides."""

    type: Literal["auto"] = "auto"


class SinglePage(Strict):
    """There is one page."""

    type: Literal["single_page"] = "single_page"


class JsonLink(Strict):
    """The address of the next page is in the body."""

    type: Literal["json_link", "json_response"] = "json_link"
    next_url_path: PathText = "next"


class HeaderLink(Strict):
    """The address of the next page is in the Link header (RFC 8288)."""

    type: Literal["header_link"] = "header_link"
    links_next_key: str = "next"


class HeaderCursor(Strict):
    """A header has what names the next page."""

    type: Literal["header_cursor"] = "header_cursor"
    cursor_key: str = "next"
    cursor_param: str = "cursor"


def _one_place(first: Any, second: Any, names: tuple[str, str]) -> None:
    if first and second:
        raise ValueError(f"{names[0]} or {names[1]}, not both")


class JsonCursor(Strict):
    """The body has what names the next page."""

    type: Literal["cursor"] = "cursor"
    cursor_path: PathText = "cursors.next"
    cursor_param: str | None = None
    cursor_body_path: str | None = None
    stop_after_empty_page: bool = False
    has_more_path: PathText | None = None

    @model_validator(mode="after")
    def _place(self) -> JsonCursor:
        _one_place(self.cursor_param, self.cursor_body_path, ("cursor_param", "cursor_body_path"))
        return self


class _Counted(Strict):
    total_path: PathText | None = "total"
    stop_after_empty_page: bool = True
    has_more_path: PathText | None = None

    def _ends(self, most: int | None) -> None:
        if self.total_path is None and most is None and self.has_more_path is None and not self.stop_after_empty_page:
            raise ValueError("nothing says where it ends: total_path, has_more_path, a maximum, stop_after_empty_page")


class Offset(_Counted):
    """Pages begin after so many rows."""

    type: Literal["offset"] = "offset"
    limit: int = Field(ge=1)
    offset: int = 0
    offset_param: str | None = None
    offset_body_path: str | None = None
    limit_param: str | None = None
    limit_body_path: str | None = None
    maximum_offset: int | None = None

    @model_validator(mode="after")
    def _place(self) -> Offset:
        _one_place(self.offset_param, self.offset_body_path, ("offset_param", "offset_body_path"))
        _one_place(self.limit_param, self.limit_body_path, ("limit_param", "limit_body_path"))
        self._ends(self.maximum_offset)
        return self


class PageNumber(_Counted):
    """Pages have numbers."""

    type: Literal["page_number"] = "page_number"
    base_page: int = 0
    page: int | None = None
    page_param: str | None = None
    page_body_path: str | None = None
    maximum_page: int | None = None

    @model_validator(mode="after")
    def _place(self) -> PageNumber:
        _one_place(self.page_param, self.page_body_path, ("page_param", "page_body_path"))
        self._ends(self.maximum_page)
        return self


# Ways to authenticate.


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


def _typed(what: str, usual: str, kinds: tuple[type[Strict], ...]) -> Callable[[Any], Any]:
    """Return what turns a shorthand into a dictionary with a type."""
    types = [name for kind in kinds for name in kind.model_fields["type"].annotation.__args__]  # type: ignore[union-attr]

    def normalise(value: Any) -> Any:
        if isinstance(value, Strict):
            return value
        refuse_object(value, f"the {what}")
        if value is None:
            return None
        whole = {"type": value} if isinstance(value, str) else {**value, "type": value.get("type") or usual}
        if whole["type"] not in types:
            near = nearest(str(whole["type"]), types)
            hint = f" Did you mean {near!r}?" if near else f" Known: {', '.join(types)}."
            raise ValueError(f"there is no {what} of type {whole['type']!r}.{hint}")
        return whole

    return normalise


def _tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return "type:json_link" if kind == "json_response" else f"type:{kind}"


PaginatorModel = Automatic | SinglePage | JsonLink | HeaderLink | HeaderCursor | JsonCursor | Offset | PageNumber
AuthModel = BearerToken | Key | UserPassword | ClientCredentials


def remade(dumped: Mapping[str, Any]) -> PaginatorModel:
    """Return the paginator that was detected before."""
    kinds = {kind().type: kind for kind in (SinglePage, JsonLink, HeaderLink, JsonCursor, PageNumber)}
    return kinds[dumped["type"]](**dumped)


_Paginators = Annotated[
    Annotated[Automatic, Tag("type:auto")]
    | Annotated[SinglePage, Tag("type:single_page")]
    | Annotated[JsonLink, Tag("type:json_link")]
    | Annotated[HeaderLink, Tag("type:header_link")]
    | Annotated[HeaderCursor, Tag("type:header_cursor")]
    | Annotated[JsonCursor, Tag("type:cursor")]
    | Annotated[Offset, Tag("type:offset")]
    | Annotated[PageNumber, Tag("type:page_number")],
    Discriminator(_tag),
]
_Auths = Annotated[
    Annotated[BearerToken, Tag("type:bearer")]
    | Annotated[Key, Tag("type:api_key")]
    | Annotated[UserPassword, Tag("type:http_basic")]
    | Annotated[ClientCredentials, Tag("type:oauth2_client_credentials")],
    Discriminator(_tag),
]
_PAGINATORS = (Automatic, SinglePage, JsonLink, HeaderLink, HeaderCursor, JsonCursor, Offset, PageNumber)
_AUTHS = (BearerToken, Key, UserPassword, ClientCredentials)
Paginator = Annotated[
    _Paginators | None,
    BeforeValidator(_typed("paginator", "auto", _PAGINATORS), json_schema_input_type=_Paginators | str | None),
]
Auth = Annotated[_Auths | None, BeforeValidator(_typed("auth", "bearer", _AUTHS))]
