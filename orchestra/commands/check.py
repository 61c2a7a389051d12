"""``runner orchestra check``."""

from __future__ import annotations


def command() -> int:
    """Fail where a committed pipeline is not what its job file generates."""
    raise NotImplementedError
