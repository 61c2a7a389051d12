"""``runner orchestra trigger``."""

from __future__ import annotations


def command() -> int:
    """Start many pipelines, in many workspaces, over ranges too; follow them."""
    raise NotImplementedError
