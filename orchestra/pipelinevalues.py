"""Values of a pipeline that may also be an expression, which nobody knows before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

_EXPRESSION = {"type": "string", "pattern": r"\$\{\{"}


def is_expression(value: Any) -> bool:
    """Tell whether a value holds an expression."""
    return isinstance(value, str) and "${{" in value


@dataclass(frozen=True)
class Whole:
    """A whole number, or an expression.

    Attributes:
        low: The least; so is ``high`` the greatest.
        unit: What it counts.
    """

    low: int
    high: int | None = None
    unit: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._check, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number: dict[str, Any] = {"type": "integer", "minimum": self.low}
        if self.high is not None:
            number["maximum"] = self.high
        return {"anyOf": [number, _EXPRESSION]}

    def _check(self, value: Any) -> int | str:
        if is_expression(value):
            return str(value)
        wanted = "should be a whole number" + (f" of {self.unit}" if self.unit else "")
        if isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise ValueError(f"{wanted}, not {value!r}") from None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ValueError(f"{wanted}, not {value if isinstance(value, float) else kind_of(value)}")
        if value < self.low or (self.high is not None and value > self.high):
            limit = f"at least {self.low}" if self.high is None else f"{self.low} to {self.high}"
            raise ValueError(f"should be {limit}{f' {self.unit}' if self.unit else ''}, not {int(value)}")
        return int(value)


def _flag(value: Any) -> Any:
    if isinstance(value, bool) or is_expression(value):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"should be true or false, not {repr(value) if isinstance(value, str) else kind_of(value)}")


Flag = Annotated[bool | str, BeforeValidator(_flag), WithJsonSchema({"anyOf": [{"type": "boolean"}, _EXPRESSION]})]


def kind_of(value: Any) -> str:
    """Return what a value of YAML is called."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "a flag", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
