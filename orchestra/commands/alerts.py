"""``runner orchestra alerts``."""

from __future__ import annotations


def command() -> int:
    """Tell about failures of dbt: live from a task's log, or from run_results.json."""
    raise NotImplementedError
