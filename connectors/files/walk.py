"""A tree of folders, walked in the order in which stores list: by the UTF-8 bytes of whole paths.

A folder's name counts with its slash: ``a.txt`` comes before ``a/b``. Of each folder on the way only so many names are
held at once, however many it has: it is read again for those that follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from connectors.files.listing import PAGE, FileInfo, in_order

NAMES = 20_000


class Named(Protocol):
    """Something in a folder."""

    @property
    def name(self) -> bytes:
        """Its name; that of a folder ends with a slash."""
        ...


NamedT = TypeVar("NamedT", bound=Named)


class Tree(Protocol[NamedT]):
    """What a walk asks."""

    async def first(self, folder: bytes, after: bytes, count: int) -> Sequence[NamedT]:
        """Return the first names of a folder that come after one, in order; links are no folders.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        ...

    async def files(self, folder: bytes, found: Sequence[NamedT]) -> list[FileInfo]:
        """Return those that are files and still there, in the same order."""
        ...


@dataclass
class _Level(Generic[NamedT]):
    folder: bytes
    after: bytes = b""
    waiting: deque[NamedT] = field(default_factory=deque)
    more: bool = True


async def walk(
    tree: Tree[NamedT], start_after: str | None, *, names: int = NAMES
) -> AsyncGenerator[list[FileInfo], None]:
    """Return the files of a tree, page by page.

    Raises:
        FileNotFoundError: The tree itself is not there.
    """
    begins = in_order(start_after) if start_after else b""
    page: list[FileInfo] = []
    levels = [_Level[NamedT](b"")]
    while levels:
        level = levels[-1]
        if not level.waiting and level.more:
            await _fill(level, tree, names)
        files = _run(level, begins, PAGE - len(page))
        if files:
            page += await tree.files(level.folder, files)
            if len(page) >= PAGE:
                yield page
                page = []
        elif level.waiting:
            below = level.folder + level.waiting.popleft().name
            if below > begins or begins.startswith(below):
                levels.append(_Level(below))
        elif not level.more:
            levels.pop()
    if page:
        yield page


async def _fill(level: _Level[NamedT], tree: Tree[NamedT], names: int) -> None:
    try:
        found = await tree.first(level.folder, level.after, names)
    except FileNotFoundError:
        # A folder that went away meanwhile has no files; where all began there must be one.
        if not level.folder:
            raise
        found = ()
    level.waiting.extend(found)
    level.more = len(found) == names
    if found:
        level.after = found[-1].name


def _run(level: _Level[NamedT], begins: bytes, most: int) -> list[NamedT]:
    """Take the files that come before the next folder."""
    files: list[NamedT] = []
    while level.waiting and len(files) < most and not level.waiting[0].name.endswith(b"/"):
        found = level.waiting.popleft()
        if level.folder + found.name > begins:
            files.append(found)
    return files
