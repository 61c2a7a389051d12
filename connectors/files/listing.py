"""The port of everything that lists files, and what it says about one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

PAGE = 1000


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file, as a listing shows it.

    Attributes:
        path: From the folder that is listed, with forward slashes.
        modified: In UTC.
        tag: Another one as soon as the file is written again: ETag and time in a store, else size and time.
    """

    path: str
    size: int
    modified: datetime
    tag: str


class Lister(Protocol):
    """Lists the files of one bucket, server or folder; it serves many at once and connects again by itself."""

    def pages(self, folder: str = "", start_after: str | None = None) -> AsyncGenerator[list[FileInfo], None]:
        """Return the files in a folder and in those below it, at most a thousand at a time.

        They come in the order of the UTF-8 bytes of their paths, unless the store has another order. Close it
        (``contextlib.aclosing``) when you leave it in the middle.

        Args:
            folder: From the root, without slashes at its ends.
            start_after: Only files that come after this path, which begins at the folder.

        Raises:
            RunnerError: It cannot be listed, in words.
        """
        ...


def in_order(path: str) -> bytes:
    """Return what paths are sorted by; a name that is no UTF-8 keeps its bytes."""
    return path.encode("utf-8", "surrogateescape")


def moment(seconds: float | None) -> datetime:
    """Return a time of a file system, whatever nonsense it is."""
    try:
        return datetime.fromtimestamp(seconds or 0.0, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC) if (seconds or 0) > 0 else datetime.min.replace(tzinfo=UTC)
