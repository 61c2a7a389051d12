"""Destinations where rows are not hashed: whoever asks for it is told."""

from __future__ import annotations

from collections.abc import Mapping

from runner.errors import DestinationError
from runner.rowhash import Dialect, Field


class NoHashes(Dialect):
    """Refuses, in words.

    Args:
        place: The destination's name, as people say it.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def argument(self, field: Field) -> str:
        raise self._refusal()

    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        raise self._refusal()

    def _refusal(self) -> DestinationError:
        return DestinationError(
            f"Rows cannot be hashed in {self._place} yet, so that they cannot be compared by value there.",
            guidance="Use --verify counts, which is the default.",
        )
