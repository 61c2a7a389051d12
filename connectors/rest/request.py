"""A request as a resource asks it, before it is sent."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from connectors.rest.jsonpaths import put

# RFC 3986, 2.2: what a path may hold as it is; a percent sign was put there on purpose.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        params: For the query; None values are left out, lists are repeated.
        data: The body: a form, or text.
    """

    method: str
    url: str
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    json: Any = None
    data: Any = None

    def with_param(self, name: str, value: Any) -> Request:
        """Return it with a parameter of the query."""
        return replace(self, params={**(self.params or {}), name: value})

    def with_field(self, path: str, value: Any) -> Request:
        """Return it with a value somewhere in its JSON body."""
        body = copy.deepcopy(self.json) if self.json is not None else {}
        put(body, path, value)
        return replace(self, json=body)

    def at(self, link: str) -> Request:
        """Return it for the address of another page, which has the query already."""
        return replace(self, url=urljoin(self.url, link), params=None)

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query, as they are sent."""
        return list(_pairs(self.params))

    @property
    def sent_headers(self) -> dict[str, str]:
        """The headers, as they are sent."""
        own = {str(name): str(value) for name, value in (self.headers or {}).items() if value is not None}
        if self.body is not None and not isinstance(self.data, str | bytes):
            own.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return own

    @property
    def body(self) -> bytes | None:
        """The body that ``data`` stands for."""
        if self.data is None or isinstance(self.data, bytes):
            return self.data
        if isinstance(self.data, str):
            return self.data.encode()
        return urlencode(list(_pairs(self.data)), quote_via=quote).encode()


def join(base: str, path: str) -> str:
    """Return the address of a path below a base; a whole address stays."""
    if urlsplit(path).scheme in ("http", "https"):
        return quote(path, safe=_SAFE)
    return quote(f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base, safe=_SAFE)


def _pairs(given: Mapping[str, Any] | Sequence[Any] | None) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in given.items() if isinstance(given, Mapping) else given or ():
        many = value if isinstance(value, list | tuple) else [value]
        pairs += [(str(name), str(one)) for one in many if one is not None]
    return pairs
