"""What is wrong with a pipeline, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestra.validation.locations import Located, Place
from runner.document import Path_, nearest

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake, or one doubt.

    Attributes:
        line: From 1; so is the column.
        hint: What to do about it, where that is known.
        severity: An error is what Orchestra refuses, or cannot run once it comes there; a warning is what it takes
            and is most likely not meant.
    """

    path: Path
    line: int
    column: int
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        warning = "warning: " if self.severity == "warning" else ""
        return f"{self.path}:{self.line}:{self.column}: {warning}{self.message}" + (
            f" {self.hint}" if self.hint else ""
        )

    def record(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "file": str(self.path),
            "line": self.line,
            "column": self.column,
            "severity": self.severity,
            "message": self.message,
            "hint": self.hint,
        }


class Findings:
    """The problems of one file, as they are found.

    Args:
        path: What the file is called in messages.
    """

    def __init__(self, path: Path, located: Located) -> None:
        self.path = path
        self.located = located
        self._found: dict[Problem, None] = {}

    def add(self, place: Place, message: str, hint: str = "", severity: Severity = "error") -> None:
        """Keep a problem of a place."""
        self._found[Problem(self.path, place.line, place.column, message, hint, severity)] = None

    def error(self, at: Path_, message: str, hint: str = "") -> None:
        """Keep a mistake in a value."""
        self.add(self.located.value(at), message, hint)

    def warn(self, at: Path_, message: str, hint: str = "") -> None:
        """Keep a doubt about a value."""
        self.add(self.located.value(at), message, hint, "warning")

    def error_of_key(self, at: Path_, message: str, hint: str = "") -> None:
        """Keep a mistake in a key."""
        self.add(self.located.key(at), message, hint)

    def warn_of_key(self, at: Path_, message: str, hint: str = "") -> None:
        """Keep a doubt about a key."""
        self.add(self.located.key(at), message, hint, "warning")

    def problems(self) -> list[Problem]:
        """Return what was found, in the order of the file."""
        return sorted(self._found)


def near(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint with the nearest known word."""
    names = sorted(known)
    found = nearest(word, names) or next((name for name in names if name.lower() == word.lower()), None)
    return f"Did you mean {found!r}?" if found else otherwise


def mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is, and anything else as an empty one: that mistake is told elsewhere."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as an empty one: that mistake is told elsewhere."""
    return value if isinstance(value, list) else []
