"""What is known about objects that everybody has: ``patterns.yml``, by system.

An object goes by the system's own name (Account, A_Customer) and, where a pattern says ``object``, by the word that
people use for it (Customer, Shipment): so that SOURCE and OBJECT alone are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runner.job import is_exact
from runner.units import Lag

_ANY = "*"


class Pattern(BaseModel):
    """How an object is best moved; the keys are those of a table entry of a job file.

    Attributes:
        object: The system's own name, where the pattern goes by another word.
        cursor: Of these the first that the object has.
        deletes: The column that marks deleted rows.
        children: Objects whose changes are changes of this one, and by which field they name it: a changed line
            re-reads its header.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    object: str | None = None
    key: list[str] = Field(default_factory=list)
    cursor: list[str] = Field(default_factory=list)
    lag: Lag | None = None
    deletes: str | None = None
    children: dict[str, str] = Field(default_factory=dict)

    @field_validator("cursor", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("deletes", mode="before")
    @classmethod
    def _column(cls, value: Any) -> Any:
        return value.get("column") if isinstance(value, dict) else value

    def defaults(self, columns: set[str]) -> dict[str, Any]:
        """Return the keys of a table entry, as far as the object has the columns."""
        found: dict[str, Any] = {}
        if self.key and set(self.key) <= columns:
            found["key"] = list(self.key)
        cursor = next((one for one in self.cursor if one in columns), None)
        if cursor is not None:
            found["cursor"] = cursor
            if self.lag is not None:
                # As a job file has it: defaults are kept as JSON.
                found["lag"] = self.lag if isinstance(self.lag, int) else f"{int(self.lag.total_seconds())}s"
        if self.deletes in columns:
            found["deletes"] = {"column": self.deletes}
        return found


def pattern(system: str, name: str) -> Pattern:
    """Return what is known of an object: by its name, or of all objects of the system."""
    known = _known(system)
    found = known.get(name)
    if found is None:
        found = next((one for one in known.values() if one.object == name), None)
    return found or known.get(_ANY) or Pattern()


def own_names(system: str, patterns: Sequence[str]) -> dict[str, str]:
    """Return what job files call objects by another word: that word to the system's own name.

    Args:
        patterns: Of the job file, with or without ``system.`` before them.
    """
    known = _known(system)
    words = [one.removeprefix(f"{system}.") for one in patterns if is_exact(one)]
    return {word: name for word in words if word in known and (name := known[word].object) is not None}


@cache
def _known(system: str) -> dict[str, Pattern]:
    sections = yaml.safe_load(files("connectors").joinpath("patterns.yml").read_text("utf-8")) or {}
    section = sections.get(system) or {}
    whole = section.get(_ANY) or {}
    return {name: Pattern.model_validate({**whole, **(said or {})}) for name, said in section.items()}
