"""What an answer means: the default reading of status codes, messages and Retry-After."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cached_property
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from runner.errors import (
    CredentialsRejected,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    TableMissing,
    Throttled,
)
from runner.secrets import redact

_LONGEST_MESSAGE = 300
# Of a longer text secrets would be looked for very long.
_LOOKED_AT = 4_000
# Numbers of so many characters have no more than the 15 digits that a double always keeps.
_SAFE_DIGITS = 15


@dataclass(frozen=True)
class Reply:
    """An answer, read as a whole.

    Attributes:
        headers: By name, in any case.
        url: What was asked, without secrets.
        body: As it came, decompressed.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @cached_property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8-sig", "replace")

    @cached_property
    def data(self) -> Any:
        """The body as JSON, numbers exact; None where it is none."""
        try:
            return parse_json(self.body)
        except ValueError:
            return None

    @property
    def where(self) -> str:
        """Method and path, for messages."""
        return f"{self.method} {urlsplit(self.url).path}"

    @cached_property
    def message(self) -> str:
        """The server's own words, as far as they can be found."""
        found = _message(self.data) or (self.text if not self.text.lstrip().startswith("<") else "")
        return redact(" ".join(found[:_LOOKED_AT].split()))[:_LONGEST_MESSAGE]

    def header(self, name: str) -> str | None:
        """Return a header."""
        return self.headers.get(name)


Judge = Callable[[Reply], RunnerError | None]


def judged(reply: Reply, *, now: datetime) -> RunnerError | None:
    """Return the error that an answer means by its status alone; None for a good one."""
    status = reply.status
    if 200 <= status < 300:
        return None
    where = reply.where
    words = f": {reply.message}" if reply.message else ""
    if status == 401:
        return CredentialsRejected(f"{where} was refused, the credentials are not accepted (401){words}")
    if status == 403:
        return PermissionMissing(
            f"{where} is not allowed (403){words}",
            guidance="Give the user or the token of the source the right to read this.",
        )
    if status in (404, 410):
        return TableMissing(
            f"{where} does not exist ({status}){words}", guidance="Check the name and the address of the source."
        )
    if status == 429 or (status == 503 and reply.header("Retry-After")):
        return Throttled(
            f"{where}: the source asked us to slow down ({status}){words}",
            retry_after=retry_after(reply.header("Retry-After"), now),
        )
    if status >= 500 or status in (408, 425):
        return SourceDown(f"{where} failed at the source ({status}){words}")
    return RequestRefused(f"{where} was refused ({status}){words}")


def retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that Retry-After names, as a number or as a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def parse_json(body: bytes | str) -> Any:
    """Return JSON whose numbers are what was written: those that a double would round are Decimal.

    Raises:
        ValueError: It is no JSON.
    """
    text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
    return _EXACTLY.decode(text)


def exact(text: str) -> float | Decimal:
    """Return a number as it was written: Decimal where a double would round it."""
    value = float(text)
    if len(text) <= _SAFE_DIGITS and isfinite(value):
        return value
    number = Decimal(text)
    return value if isfinite(value) and Decimal(repr(value)) == number else number


_EXACTLY = json.JSONDecoder(parse_float=exact)


def _message(data: Any) -> str:
    """Return the text of an error body: the forms of OAuth, OData, Google, Salesforce, RFC 9457 and the rest."""
    if isinstance(data, list):
        return "; ".join(filter(None, (_message(one) for one in data[:3])))
    if isinstance(data, str):
        return data
    if not isinstance(data, Mapping):
        return ""
    for key in ("error_description", "message", "detail", "value", "title", "error", "errors"):
        found = _message(data.get(key))
        if found:
            code = data.get("errorCode") or data.get("code")
            return f"{found} ({code})" if isinstance(code, str) else found
    return ""
