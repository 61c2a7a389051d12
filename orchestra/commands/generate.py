"""``runner orchestra generate``."""

from __future__ import annotations


def command() -> int:
    """Write the production pipeline of a job."""
    raise NotImplementedError
