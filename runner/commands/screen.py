"""Standard output for people: as wide as the terminal, and wide enough for every column in a pipe."""

from __future__ import annotations

import sys

from rich.console import Console

_PIPE_WIDTH = 240


def screen() -> Console:
    """Return a console on standard output; NO_COLOR is honoured by rich."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, width=width)
