"""The files of a bucket: S3, Google Cloud Storage and Azure, through obstore.

S3 lists keys in the order of their UTF-8 bytes (API reference, "ListObjectsV2"; directory buckets do not), Cloud
Storage by name ("Objects: list"), Azure by name too ("List Blobs"), except where an account has a hierarchical
namespace.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import anyio.to_thread

from connectors.files.listing import PAGE, FileInfo, in_order
from runner.errors import (
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    SourceError,
    SourceRefused,
    Throttled,
    Unreachable,
)
from runner.objectstore import Opened, open_store, read_fault
from runner.secrets import redact

_REQUEST = "20s"
_PAGE_SECONDS = 60.0
_NEEDED = "It needs to list the bucket (S3: s3:ListBucket; Google: storage.objects.list; Azure: Blob Data Reader)."


@contextlib.asynccontextmanager
async def connect(root: str, options: dict[str, Any], *, allow_http: bool) -> AsyncIterator[Bucket]:
    """Open a bucket: ``s3://bucket``.

    Raises:
        UsageError: A wrong option, or the package is missing.
    """

    def opened() -> Opened:
        return open_store(root, options, allow_http=allow_http, timeout=_REQUEST)

    yield Bucket(redact(root), await anyio.to_thread.run_sync(opened))


class Bucket:
    """Lists a bucket; implements ``Lister``. Every listing is a request of its own, so nothing is ever lost."""

    def __init__(self, url: str, opened: Opened) -> None:
        self._url = url
        self._opened = opened
        self._contacted = False
        # Azure's startFrom is neither known to every endpoint nor ordered the same with a hierarchical namespace.
        self._skips = url.startswith(("s3://", "gs://"))

    async def pages(self, folder: str = "", start_after: str | None = None) -> AsyncGenerator[list[FileInfo], None]:
        prefix = f"{folder}/" if folder else ""
        offset = f"{prefix}{start_after}" if start_after and self._skips else None
        begins = in_order(start_after) if start_after else b""
        last = b""
        with self._translated():
            stream = self._opened.api.list(self._opened.store, folder or None, offset=offset, chunk_size=PAGE)
        while True:
            with self._translated():
                with anyio.fail_after(_PAGE_SECONDS):
                    found = await anext(stream, None)
                self._contacted = True
            if found is None:
                return
            page = []
            for meta in found:
                if not meta["path"].startswith(prefix):
                    continue  # the folder itself
                path = meta["path"].removeprefix(prefix)
                key = in_order(path)
                # What comes before is skipped until the first that does not: a store without order shows the rest.
                if not last and key <= begins:
                    continue
                # A key that ends with a slash is shown without it, where the slash would stand.
                if meta["size"] == 0 and key <= last < key + b"/":
                    continue
                last = key
                page.append(FileInfo(path, meta["size"], meta["last_modified"], _tag(meta)))
            if page:
                yield page

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except TimeoutError:
            raise SourceDown(f"{self._url} did not answer within {_PAGE_SECONDS:.0f} seconds.") from None
        except self._opened.errors as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Exception) -> RunnerError:
        if type(error).__name__ == "InvalidPathError":
            return SourceRefused(
                f"{self._url} has a name that cannot be listed: {redact(str(error)).partition(chr(10))[0]}.",
                guidance="Nothing, . and .. are no names between slashes. Rename it, or let `url` name another folder.",
            )
        fault = read_fault(error, self._url)
        if fault.error is not None:
            return fault.error
        if fault.kind == "refused":
            return PermissionMissing(f"{self._url} refuses these credentials ({fault.answer}).", guidance=_NEEDED)
        if fault.kind == "slow":
            return Throttled(f"{self._url} asks to slow down ({fault.answer}).")
        if fault.kind == "down":
            words = f"{self._url} does not answer: {fault.answer}."
            return SourceDown(words) if self._contacted else Unreachable(words)
        if fault.kind == "other":
            return RequestRefused(f"{self._url} answered {fault.answer}.", guidance="Check endpoint and region.")
        return SourceError(f"{self._url} answered {fault.answer}.")


def _tag(meta: Any) -> str:
    """Return the ETag with the time: the same bytes written again are another delivery."""
    version = (meta["version"] or meta["e_tag"] or str(meta["size"])).removeprefix("W/").strip('"')
    return f"{version}-{int(meta['last_modified'].timestamp() * 1000):x}"
