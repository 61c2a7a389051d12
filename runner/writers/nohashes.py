"""Destinations where rows are not hashed: whoever asks for it is told."""

from __future__ import annotations

from collections.abc import Mapping

from runner.errors import DestinationError
from runner.rowhash import Dialect, Field


class NoHashes(Dialect):
    """A dialect that has no hash yet.

    Args:
        destination: The destination's name, as people write it.
    """

    def __init__(self, destination: str) -> None:
        self._destination = destination

    def argument(self, field: Field) -> str:
        raise self.refusal()

    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        raise self.refusal()

    def refusal(self) -> DestinationError:
        """Return the error that says so."""
        return DestinationError(
            f"Rows cannot be hashed in {self._destination} yet, so that they cannot be compared by value there.",
            guidance="Use --verify counts, which is the default.",
        )
