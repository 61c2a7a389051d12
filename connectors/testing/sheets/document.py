"""What the API's discovery document says: methods, parameters, scopes, and the fields of answers.

``discovery.json`` is an extract of the document that google-api-python-client carries; a test compares the two.
Facts of its meaning: developers.google.com/discovery/v1/reference, and for masks
developers.google.com/workspace/sheets/api/guides/field-masks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from connectors.testing.sheets.refusals import Refused, invalid

Mask = dict[str, "Mask"]  # {} is the whole field

_TOKEN = re.compile(r"[A-Za-z_$][\w$]*|\*|[(),/.]")


@cache
def extract() -> dict[str, Any]:
    """Return the extract."""
    text = (resources.files("connectors.testing.sheets") / "discovery.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@dataclass(frozen=True)
class Method:
    """A method of the API and what a request asked of it."""

    name: str
    described: Mapping[str, Any]
    path: Mapping[str, str]

    @property
    def rpc(self) -> str:
        """Its name as errors say it."""
        names = {
            "spreadsheets.get": "GetSpreadsheet",
            "spreadsheets.values.get": "GetValues",
            "spreadsheets.values.batchGet": "BatchGetValues",
        }
        return f"google.apps.sheets.v4.SpreadsheetsService.{names[self.name]}"

    def parameters(self, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return the parameters of a query.

        Raises:
            Refused: One is unknown, is no value of its type or enumeration, or is given too often.
        """
        known = {**extract()["parameters"], **self.described["parameters"]}
        found: dict[str, Any] = {}
        for name, text in query:
            one = known.get(name) or known.get(_camel(name))
            if one is None or one["location"] != "query":
                raise _unknown(name)
            name = name if name in known else _camel(name)
            value = _value(name, one, text)
            if one.get("repeated"):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise invalid(
                    f"Invalid value at '{_snake(name)}' (oneof), oneof field is already set. Cannot set \"{name}\""
                    if name in extract()["parameters"]
                    else f'Invalid JSON payload received. Unknown name "{name}": Proto field is not repeating, '
                    "cannot start list."
                )
            else:
                found[name] = value
        if found.get("alt", "json") != "json" or "callback" in found:
            raise invalid("Unsupported Output Format", "alt", "Unsupported Output Format")
        return found

    def mask(self, text: str) -> Mask:
        """Return the mask that a text means.

        Raises:
            Refused: It is malformed or names a field that the answer does not have.
        """
        return _Masks(text, self.described["response"]).parse()


def find(method: str, raw_path: str) -> tuple[str, Mapping[str, Any], dict[str, str]] | None:
    """Return the method of a path: its name, its description, and what stands in the path, still encoded."""
    for name, described in extract()["methods"].items():
        parts = re.split(r"\{(\w+)\}", described["path"])
        pattern = "/"
        for position, part in enumerate(parts):
            pattern += re.escape(part) if position % 2 == 0 else f"(?P<{part}>[^/]+)"
        hit = re.fullmatch(pattern, raw_path)
        if hit and described["httpMethod"] == method and ":" not in hit["spreadsheetId"]:
            return name, described, hit.groupdict()
    return None


def select(value: Any, mask: Mask) -> Any:
    """Return the part of an answer that a mask selects."""
    if not mask or ("*" in mask and not mask["*"]):
        return value
    if isinstance(value, list):
        return [select(one, mask) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, one in value.items():
        inner = mask.get(name, mask.get("*"))
        if inner is not None:
            kept[name] = select(one, inner)
    return kept


class _Masks:
    """Parses ``a,b/c,d(e,f.g),*`` over the schemas."""

    def __init__(self, text: str, root: str) -> None:
        self._text, self._root = text, root
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        if "".join(self._tokens) != text.replace(" ", "") or not text:
            raise self._refused(text)

    def parse(self) -> Mask:
        mask: Mask = {}
        self._list(mask, self._root)
        if self._at != len(self._tokens):
            raise self._refused(self._text)
        return mask

    def _list(self, mask: Mask, schema: str) -> None:
        while True:
            self._one(mask, schema)
            if self._peek() != ",":
                return
            self._at += 1

    def _one(self, mask: Mask, schema: str, path: str = "") -> None:
        name = self._peek()
        if name is None or name in "(),/.":
            raise self._refused(self._text)
        self._at += 1
        fields = extract()["schemas"].get(schema, {})
        inner = ""
        if name != "*":
            found = fields.get(name) or fields.get(_camel(name))
            if found is None:
                raise self._refused(path + name)
            name = name if name in fields else _camel(name)
            inner = found.strip("[]")
        whole = name in mask and not mask[name]
        below: Mask = {} if whole else mask.setdefault(name, {})
        following = self._peek()
        if following in ("/", "."):
            self._at += 1
            self._one(below, inner, f"{path}{name}.")
        elif following == "(":
            self._at += 1
            self._list(below, inner)
            if self._peek() != ")":
                raise self._refused(self._text)
            self._at += 1
        else:
            mask[name] = {}

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _refused(self, path: str) -> Refused:
        return invalid(
            f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'.",
            self._text,
            "Request contains an invalid argument.",
        )


def _unknown(name: str) -> Refused:
    return invalid(
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message."
    )


def _value(name: str, described: Mapping[str, Any], text: str) -> Any:
    if described["type"] == "boolean":
        if text.lower() not in ("true", "false", "1", "0"):
            raise invalid(f"Invalid value at '{_snake(name)}' (TYPE_BOOL), \"{text}\"", _snake(name))
        return text.lower() in ("true", "1")
    if "enum" in described and text not in described["enum"]:
        kind = ["DateTimeRenderOption", "Dimension", "ValueRenderOption", "CommentsViewMode"]
        type_name = next((one for one in kind if one.lower() in name.lower()), name)
        raise invalid(
            f"Invalid value at '{_snake(name)}' (type.googleapis.com/google.apps.sheets.v4.{type_name}), \"{text}\"",
            _snake(name),
        )
    return text


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", lambda hit: "_" + hit[1].lower(), name)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda hit: hit[1].upper(), name)
