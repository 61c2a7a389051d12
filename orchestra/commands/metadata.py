"""``runner orchestra metadata``."""

from __future__ import annotations


def command() -> int:
    """Load runs, tasks, operations and assets of a workspace into a destination."""
    raise NotImplementedError
