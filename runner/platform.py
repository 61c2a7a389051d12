"""The port of a platform: what an orchestrator that starts our tasks holds for them, and takes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Platform(Protocol):
    """An orchestrator; an entry point of the group ``runner.platforms``, an object or a module."""

    def linked_options(
        self, kind: str, keys: frozenset[str], environ: Mapping[str, str], *, wanted: str = ""
    ) -> dict[str, Any]:
        """Return the options of a source or destination that the platform hands to the task; empty for none.

        Args:
            kind: The type, as in a job file.
            keys: The keys that the type takes.
            wanted: Which of several connections.

        Raises:
            UsageError: It cannot be told which one is meant.
        """
        ...

    async def set_outputs(self, outputs: Mapping[str, Any], environ: Mapping[str, str]) -> Sequence[str]:
        """Hand values to the tasks that come later; nothing happens where the platform did not start this process.

        Returns:
            What went wrong, in words. None of it makes the task fail.
        """
        ...
