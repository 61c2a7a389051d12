"""A bucket of an object store as the place of files: S3, Google Cloud Storage, Azure, through obstore.

What orders writers are conditional puts (RFC 9110, If-Match and If-None-Match).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner.errors import (
    DestinationDown,
    DestinationError,
    DestinationRefused,
    DiskFull,
    RunnerError,
    Unreachable,
)
from runner.objectstore import NO_BUCKET, error_code, open_store, read_fault
from runner.secrets import redact
from runner.writers.folder import Changed, Document, FoundT, ItemT, blocks

_PART = 8 * 2**20
_WIDTH = 8
_NEEDED = "It needs to list, read, write and delete objects (S3: ListBucket, GetObject, PutObject, DeleteObject)."


class Objects:
    """A prefix in a bucket. A put replaces an object, its ETag orders writers; leases go by the store's clock.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://container/prefix``.
        config: What obstore takes; the environment's variables where it says nothing.
    """

    def __init__(self, url: str, config: dict[str, Any], *, allow_http: bool = False) -> None:
        self._url = redact(url)
        self._contacted = False
        opened = open_store(url, config, allow_http=allow_http)
        self._api, self._store = opened.api, opened.store
        self._failed, self._beaten = opened.errors, opened.beaten

    def prepare(self) -> None:
        self.probe()

    def probe(self) -> str:
        """Write twice and see that a write over the first one is refused: all that is promised rests on that.

        Raises:
            DestinationRefused: The store takes it.
        """
        path = f"_runner/probe-{secrets.token_hex(8)}"
        self.write(path, [b"first"])
        first = self.read(path)
        self.write(path, [b"second"])
        try:
            for before in (first, None):
                with contextlib.suppress(Changed):
                    self.replace(path, b"third", before)
                    raise DestinationRefused(
                        f"{self._url} ignores conditional writes, so that two runs could overwrite each other.",
                        guidance="Use a store that keeps If-Match and If-None-Match of a PUT.",
                    )
        finally:
            self.delete([path])
        return f"{self._url} can be written, and refuses to overwrite what changed"

    def now(self) -> float:
        with self._translated():
            self._api.put(self._store, "_runner/clock", b"")
            return float(self._api.head(self._store, "_runner/clock")["last_modified"].timestamp())

    def read(self, path: str) -> Document | None:
        with self._translated():
            try:
                found = self._api.get(self._store, path)
            except FileNotFoundError as error:
                if error_code(error) in NO_BUCKET:
                    raise
                return None
            return Document(bytes(found.bytes()), _version(found.meta))

    def replace(self, path: str, data: bytes, before: Document | None) -> Document:
        with self._translated():
            try:
                put = self._api.put(self._store, path, data, mode="create" if before is None else before.version)
            except self._beaten:
                # A put whose answer was lost is sent again and meets itself.
                now = self.read(path)
                if now is None or now.data != data:
                    raise Changed from None
                return now
            return Document(data, _version(put))

    def write(self, path: str, parts: Iterable[bytes]) -> int:
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                size += len(part)
                yield part

        stream = counted()
        head = b""
        for part in stream:
            head += part
            if len(head) >= _PART:
                break
        with self._translated():
            if len(head) < _PART:
                self._api.put(self._store, path, head)
            else:
                self._api.put(self._store, path, itertools.chain([head], stream), chunk_size=_PART, max_concurrency=4)
        return size

    def copy(self, path: str, source: Path) -> int:
        return self.write(path, blocks(source))

    def open(self, path: str) -> io.IOBase:
        with self._translated(but=FileNotFoundError):
            size = self._api.head(self._store, path)["size"]
        return _ObjectFile(self, path, size)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return some bytes of a file."""
        with self._translated(but=FileNotFoundError):
            return bytes(self._api.get_range(self._store, path, start=start, end=end))

    def folders(self) -> list[str]:
        with self._translated():
            return sorted(self._api.list_with_delimiter(self._store)["common_prefixes"])

    def files(self, folder: str, *, deep: bool = False) -> list[str]:
        with self._translated():
            if deep:
                found = self._api.list(self._store, folder).collect()
            else:
                found = self._api.list_with_delimiter(self._store, folder)["objects"]
            return sorted(meta["path"] for meta in found)

    def delete(self, paths: Sequence[str]) -> None:
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._api.delete(self._store, list(paths))

    def each(self, function: Callable[[ItemT], FoundT], items: Iterable[ItemT]) -> list[FoundT]:
        with ThreadPoolExecutor(_WIDTH) as pool:
            return list(pool.map(function, items))

    def close(self) -> None:
        """Nothing to do: the store is asked one request at a time."""

    @contextlib.contextmanager
    def _translated(self, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        try:
            yield
        except but:
            raise
        except self._failed as error:
            raise self._refusal(error) from None
        self._contacted = True

    def _refusal(self, error: Exception) -> RunnerError:
        """Return what an error means; its own text holds requests and answers, and is never shown."""
        fault = read_fault(error, self._url)
        if fault.error is not None:
            return fault.error
        if fault.kind == "refused":
            return DestinationRefused(f"{self._url} refuses these credentials ({fault.answer}).", guidance=_NEEDED)
        if fault.kind == "full":
            return DiskFull(f"{self._url} is full ({fault.answer}).")
        if fault.kind in ("down", "slow"):
            words = f"{self._url} does not answer: {fault.answer}."
            return DestinationDown(words) if self._contacted else Unreachable(words)
        return DestinationError(f"{self._url} answered {fault.answer}.")


class _ObjectFile(io.RawIOBase):
    """An object, read by ranges."""

    def __init__(self, objects: Objects, path: str, size: int) -> None:
        self._objects = objects
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        found = self._objects.read_range(self._path, self._at, end)
        self._at = end
        return found


def _version(meta: Any) -> dict[str, str]:
    return {key: meta[key] for key in ("e_tag", "version") if meta[key] is not None}
