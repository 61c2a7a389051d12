"""The report of a run."""

from runner.runs import RunFolder


def write_report(folder: RunFolder) -> None:
    """Write it."""
