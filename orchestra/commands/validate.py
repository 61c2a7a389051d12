"""``runner orchestra validate``."""

from __future__ import annotations


def command() -> int:
    """Check pipelines: each mistake with its file, line and column."""
    raise NotImplementedError
