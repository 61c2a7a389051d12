"""Where files are kept, behind the few calls that a writer needs; and a local folder as one of those places.

A document is replaced only if nobody wrote it since it was read. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from runner.errors import DestinationDown, DestinationError, DiskFull, ReadOnly

ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")

_TEMPORARY = ".tmp"
_BLOCK = 2**20


class Changed(Exception):
    """Somebody else wrote the document since it was read."""


@dataclass(frozen=True)
class Document:
    """A small file as it was read.

    Attributes:
        version: What the store tells one write of it from the next by.
    """

    data: bytes
    version: Any = None


class Documents(Protocol):
    """Documents by their path from one root, with forward slashes."""

    def prepare(self) -> None:
        """See to it that documents can be written here, or say why not."""
        ...

    def probe(self) -> str:
        """Check the same and leave nothing behind; return what was found, in words."""
        ...

    def now(self) -> float:
        """Return the time that leases are measured by, in seconds since 1970."""
        ...

    def read(self, path: str) -> Document | None:
        """Return a document; None where there is none."""
        ...

    def replace(self, path: str, data: bytes, before: Document | None) -> None:
        """Write a document in place of what was read; None where there was none.

        Raises:
            Changed: Somebody else wrote it since.
        """
        ...

    def each(self, function: Callable[[ItemT], FoundT], items: Iterable[ItemT]) -> list[FoundT]:
        """Return what a function finds for each item, several at once where waiting is what takes the time."""
        ...

    def close(self) -> None:
        """Close what is kept open."""
        ...


class Store(Documents, Protocol):
    """Documents, and files that are written once."""

    def write(self, path: str, parts: Iterable[bytes]) -> int:
        """Write a file, whole or not at all, and return its size."""
        ...

    def copy(self, path: str, source: Path) -> int:
        """Write a local file that nobody changes any more, and return its size."""
        ...

    def open(self, path: str) -> io.IOBase:
        """Open a file to read it from any place on.

        Raises:
            FileNotFoundError: It is not there.
        """
        ...

    def folders(self) -> list[str]:
        """Return the names of the folders right under the root."""
        ...

    def files(self, folder: str, *, deep: bool = False) -> list[str]:
        """Return the paths of the files in a folder; deep: and in those below it."""
        ...

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files; what is gone already does not matter."""
        ...


class Folder:
    """A local folder. A rename replaces a file, a lock file orders writers; leases go by the local clock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = root / "_runner" / "lock"

    def prepare(self) -> None:
        with self._translated():
            self._make(self._lock.parent)
            self._try_file(self._lock.parent)

    def probe(self) -> str:
        folder = self._root
        while not folder.exists():
            folder = folder.parent
        with self._translated():
            self._try_file(folder)
        return f"{self._root} can be written"

    def _try_file(self, folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder):
            pass

    def now(self) -> float:
        return time.time()

    def read(self, path: str) -> Document | None:
        with self._translated():
            try:
                return Document((self._root / path).read_bytes())
            except (FileNotFoundError, NotADirectoryError):
                return None

    def replace(self, path: str, data: bytes, before: Document | None) -> None:
        with self._translated(), self._locked():
            if self.read(path) != before:
                raise Changed
            self._put(path, [data])

    def write(self, path: str, parts: Iterable[bytes]) -> int:
        with self._translated():
            return self._put(path, parts)

    def copy(self, path: str, source: Path) -> int:
        with self._translated():
            return self._link(path, source) or self._put(path, blocks(source))

    def open(self, path: str) -> io.IOBase:
        with self._translated(but=FileNotFoundError):
            return (self._root / path).open("rb")

    def folders(self) -> list[str]:
        with self._translated():
            return sorted(entry.name for entry in self._entries(self._root) if entry.is_dir())

    def files(self, folder: str, *, deep: bool = False) -> list[str]:
        with self._translated():
            return sorted(self._walk(folder, deep=deep))

    def _walk(self, folder: str, *, deep: bool) -> Iterator[str]:
        for entry in self._entries(self._root / folder):
            if not entry.is_dir():
                yield f"{folder}/{entry.name}"
            elif deep:
                yield from self._walk(f"{folder}/{entry.name}", deep=True)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, paths: Sequence[str]) -> None:
        with self._translated():
            for path in paths:
                (self._root / path).unlink(missing_ok=True)
            for parent in {(self._root / path).parent for path in paths}:
                with contextlib.suppress(OSError):  # it still holds something
                    parent.rmdir()

    def each(self, function: Callable[[ItemT], FoundT], items: Iterable[ItemT]) -> list[FoundT]:
        return [function(item) for item in items]

    def close(self) -> None:
        """Nothing to do: nothing is kept open."""

    def _put(self, path: str, parts: Iterable[bytes]) -> int:
        """Write under a temporary name, fsync, rename, fsync the folder (L1)."""
        final = self._root / path
        temporary = final.with_name(final.name + _TEMPORARY)
        self._make(final.parent)
        try:
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(final.parent)
        return size

    def _link(self, path: str, source: Path) -> int:
        """Give a file of the same disk, which is durable, a second name; return its size, or 0 where that cannot be."""
        final = self._root / path
        temporary = final.with_name(final.name + _TEMPORARY)
        self._make(final.parent)
        temporary.unlink(missing_ok=True)
        # Readable to whom any new file here is: the spool's are for nobody else.
        temporary.touch()
        mode, owners = temporary.stat().st_mode, _owners(temporary)
        temporary.unlink()
        if owners != _owners(source):
            return 0
        try:
            os.link(source, temporary)
            temporary.chmod(mode)
        except OSError:
            temporary.unlink(missing_ok=True)
            return 0
        temporary.replace(final)
        # Where both names are of one file already, a rename does nothing (rename(2)).
        temporary.unlink(missing_ok=True)
        _sync(final.parent)
        return final.stat().st_size

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._make(self._lock.parent)
        descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _translated(self, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        try:
            yield
        except but:
            raise
        except OSError as error:
            words = f"{error.filename or self._root}: {error.strerror or error}."
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ReadOnly(words) from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise DiskFull(words) from error
            if error.errno in (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN):
                raise DestinationDown(words) from error
            raise DestinationError(words) from error


def is_temporary(path: str) -> bool:
    """Tell whether a killed process left a file before it was whole."""
    return path.endswith(_TEMPORARY)


def _owners(file: Path) -> tuple[object, ...]:
    """Return what else decides who may read a file: owner, group, access lists, labels."""
    found = file.stat()
    names = os.listxattr(file) if hasattr(os, "listxattr") else []
    return found.st_uid, found.st_gid, {name: os.getxattr(file, name) for name in names}


def blocks(source: Path) -> Iterator[bytes]:
    """Return a file's bytes, some at a time."""
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
