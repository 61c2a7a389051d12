"""What all models of a configuration have in common: unknown keys are refused, objects of other packages too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    WithJsonSchema,
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


def typed(what: str, usual: str, kinds: tuple[type[Strict], ...]) -> Callable[[Any], Any]:
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


def tag(value: Any) -> str:
    """Return which member of a union a value is of, for ``Discriminator``."""
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return "type:json_link" if kind == "json_response" else f"type:{kind}"
