"""The files of a local folder, or of one that is mounted."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from connectors.files.listing import FileInfo, moment
from connectors.files.walk import walk
from runner.errors import PermissionMissing, SourceDown, SourceError, SourceRefused

_SECONDS = 60.0
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes


@contextlib.asynccontextmanager
async def connect(root: Path) -> AsyncIterator[Folder]:
    """Open a folder: there is nothing to open."""
    yield Folder(root)


class Folder:
    """Lists a folder; implements ``Lister``.

    Threads cannot be stopped: one that hangs in a mount that is gone keeps the only turn, and is no danger to others.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._turn = anyio.CapacityLimiter(1)

    async def pages(self, folder: str = "", start_after: str | None = None) -> AsyncGenerator[list[FileInfo], None]:
        root = self._root / folder
        try:
            async with contextlib.aclosing(walk(_Tree(self, root), start_after)) as pages:
                async for page in pages:
                    yield page
        except FileNotFoundError:
            raise SourceRefused(
                f"There is no such folder: {root}.",
                guidance="Make it, or check `url`; a relative path begins at the file.",
            ) from None

    async def ask(self, root: Path, function: Callable[[], FoundT]) -> FoundT:
        """Call something that waits for the disk.

        Raises:
            FileNotFoundError: It looked for what is not there.
        """
        try:
            with anyio.fail_after(_SECONDS):
                return await anyio.to_thread.run_sync(function, limiter=self._turn, abandon_on_cancel=True)
        except TimeoutError:
            raise SourceDown(f"{root} did not answer within {_SECONDS:.0f} seconds.") from None
        except PermissionError as error:
            where = os.fsdecode(error.filename) if error.filename else root
            raise PermissionMissing(f"{where} may not be read.", guidance="Let this process read it.") from None
        except OSError as error:
            if error.errno in _GONE:
                raise FileNotFoundError from None
            raise SourceError(f"{root} cannot be listed: {error.strerror}.") from None


class _Tree:
    def __init__(self, folder: Folder, root: Path) -> None:
        self._folder = folder
        self._root = root

    def _path(self, folder: bytes) -> bytes:
        return os.path.join(os.fsencode(self._root), folder)

    async def first(self, folder: bytes, after: bytes, count: int) -> Sequence[_Entry]:
        def names() -> Iterator[bytes]:
            with os.scandir(self._path(folder)) as found:
                for entry in found:
                    name = entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name
                    if name > after:
                        yield name

        def read() -> list[_Entry]:
            return [_Entry(name) for name in heapq.nsmallest(count, names())]

        return await self._folder.ask(self._root, read)

    async def files(self, folder: bytes, found: Sequence[_Entry]) -> list[FileInfo]:
        def read() -> list[FileInfo]:
            path = self._path(folder)
            return [info for entry in found if (info := _info(path, folder, entry.name)) is not None]

        return await self._folder.ask(self._root, read)


def _info(path: bytes, folder: bytes, name: bytes) -> FileInfo | None:
    try:
        status = os.stat(os.path.join(path, name))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    tag = f"{status.st_size}-{status.st_mtime_ns:x}"
    return FileInfo(os.fsdecode(folder + name), status.st_size, moment(status.st_mtime), tag)
