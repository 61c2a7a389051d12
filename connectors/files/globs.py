"""Which files are meant: patterns as shells know them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable


class Globs:
    """Patterns, of which one must match; letters are compared as they are.

    A pattern without a slash is about the name, in whatever folder; one with a slash about the whole path. ``*``, ``?``
    and ``[…]`` stay within one name, ``**`` stands for any number of folders.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_compile(pattern) for pattern in patterns]

    def match(self, path: str) -> bool:
        """Tell whether a pattern matches a path."""
        names = path.split("/")
        return any(_match(pattern, names) for pattern in self._patterns)


def _compile(pattern: str) -> list[re.Pattern[str] | None]:
    """Return one expression for each name of a path; None stands for any number of them."""
    parts = pattern.strip("/").split("/")
    if "/" not in pattern.rstrip("/"):
        parts.insert(0, "**")
    if pattern.endswith("/"):
        parts.append("**")
    if parts[-1] == "**":
        # All that is in a folder is not the folder.
        parts.append("*")
    return [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]


def _match(pattern: list[re.Pattern[str] | None], names: list[str]) -> bool:
    """Walk the pattern once, with every number of names that may have gone by."""
    reached = {0}
    for part in pattern:
        if part is None:
            reached = set(range(min(reached), len(names) + 1))
        else:
            reached = {place + 1 for place in reached if place < len(names) and part.match(names[place])}
        if not reached:
            return False
    return len(names) in reached
