"""A bucket of an object store as the place of files: S3, Google Cloud Storage, Azure, through obstore.

What orders writers are conditional puts (RFC 9110, If-Match and If-None-Match).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    DestinationDown,
    DestinationError,
    DestinationRefused,
    DiskFull,
    RunnerError,
    Unreachable,
    UsageError,
)
from runner.secrets import redact
from runner.writers.folder import Changed, Document, FoundT, ItemT, blocks

_PART = 8 * 2**20
_WIDTH = 8
_RETRIES = 3
_RETRY_SECONDS = 20
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|Account must be specified|MissingAccount")
_UNKNOWN = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
_NEEDED = "It needs to list, read, write and delete objects (S3: ListBucket, GetObject, PutObject, DeleteObject)."


class Objects:
    """A prefix in a bucket. A put replaces an object, its ETag orders writers; leases go by the store's clock.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://container/prefix``.
        config: What obstore takes; the environment's variables where it says nothing.
    """

    def __init__(self, url: str, config: dict[str, Any], *, allow_http: bool = False) -> None:
        try:
            import obstore
            from obstore import exceptions as errors
            from obstore import store as stores
        except ImportError as error:
            raise UsageError(
                "Object stores need the package 'obstore'.",
                guidance="Install it: pip install 'orchestra-blueprints[files]'.",
            ) from error
        self._url = redact(url)
        self._api: Any = obstore
        self._contacted = False
        self._failed = errors.BaseError
        self._beaten = (errors.AlreadyExistsError, errors.PreconditionError)
        try:
            # Any: the overloads tell the stores' options apart, which come from a job file here.
            from_url: Any = stores.from_url
            self._store: Any = from_url(
                url,
                config=config,
                client_options={"allow_http": allow_http, "connect_timeout": "5s", "timeout": "60s"},
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
            )
        except (errors.UnknownConfigurationKeyError, ValueError) as error:
            raise UsageError(f"{self._url}: {_first_line(error)}.") from None
        except errors.BaseError as error:
            raise self._refusal(error) from None

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
                if _code(str(error)) in _NO_BUCKET:
                    raise
                return None
            meta = found.meta
            version = {key: meta[key] for key in ("e_tag", "version") if meta[key] is not None}
            return Document(bytes(found.bytes()), version)

    def replace(self, path: str, data: bytes, before: Document | None) -> None:
        with self._translated():
            try:
                self._api.put(self._store, path, data, mode="create" if before is None else before.version)
            except self._beaten:
                # A put whose answer was lost is sent again and meets itself.
                now = self.read(path)
                if now is None or now.data != data:
                    raise Changed from None

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
        except (self._failed, FileNotFoundError) as error:
            raise self._refusal(error) from None
        self._contacted = True

    def _refusal(self, error: Exception) -> RunnerError:
        """Return what an error means; its own text holds requests and answers, and is never shown."""
        text = str(error)
        status, code = _status(text), _code(text)
        answer = " ".join(part for part in (status, code) if part)
        if _NO_CREDENTIALS.search(text):
            return CredentialsRejected(
                f"There are no credentials for {self._url}.",
                guidance="Set those of the store in the environment (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).",
            )
        if code in _UNKNOWN or status == "401":
            return CredentialsRejected(f"{self._url} rejected the credentials ({answer}).")
        if status == "403":
            return DestinationRefused(f"{self._url} refuses these credentials ({answer}).", guidance=_NEEDED)
        if code in _NO_BUCKET or status == "404":
            return DatabaseMissing(f"There is no such bucket: {self._url}.", guidance="Create it, or check its name.")
        if code in _FULL or status == "507":
            return DiskFull(f"{self._url} is full ({answer}).")
        if not status or status.startswith("5") or status in ("408", "429"):
            words = f"{self._url} does not answer: {answer or _first_line(error)}."
            return DestinationDown(words) if self._contacted else Unreachable(words)
        return DestinationError(f"{self._url} answered {answer}.")


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


def _status(text: str) -> str:
    found = re.search(r"status code: (\d{3})", text)
    return found[1] if found else ""


def _code(text: str) -> str:
    found = re.search(r"<Code>(\w+)</Code>", text)
    return found[1] if found else ""


def _first_line(error: Exception) -> str:
    """Return the end of an error's first line: what went wrong, after which request it was."""
    line = str(error).partition("\n")[0].rpartition(" - ")[2]
    return redact(line).rstrip(".")
