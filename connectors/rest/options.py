"""The paginators of dlt's REST API source, as models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from connectors.rest.strict import PathText, Strict, tag, typed


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


PaginatorModel = Automatic | SinglePage | JsonLink | HeaderLink | HeaderCursor | JsonCursor | Offset | PageNumber


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
    Discriminator(tag),
]
_PAGINATORS = (Automatic, SinglePage, JsonLink, HeaderLink, HeaderCursor, JsonCursor, Offset, PageNumber)
Paginator = Annotated[
    _Paginators | None,
    BeforeValidator(typed("paginator", "auto", _PAGINATORS), json_schema_input_type=_Paginators | str | None),
]
