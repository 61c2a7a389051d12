"""One connection of a SQL driver, behind the few calls that we need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Cursor(Protocol):
    """Statements, and what they answer; values stand for question marks."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None: ...

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...
