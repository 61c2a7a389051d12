"""A double of the XML API that S3 and Google Cloud Storage share: put, get, delete, list.

Amazon S3 API reference, "ListObjectsV2" and "Error responses"; Cloud Storage, "XML API reference", "List objects".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from aiohttp import web

from connectors.testing.double import Double, answer

_PAGE = 1000


@dataclass(frozen=True)
class Object:
    """What was put under a key."""

    data: bytes
    modified: datetime

    @property
    def etag(self) -> str:
        """What tells its bytes from others."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Buckets(Double):
    """Buckets by their names.

    Args:
        now: The server's clock.
        keys: The access keys that it knows; it checks no signature.
        ordered: Whether it lists in order, as general purpose buckets do.

    Attributes:
        buckets: Objects by bucket and key.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        keys: Iterable[str] = (),
        ordered: bool = True,
    ) -> None:
        super().__init__()
        self.buckets: dict[str, dict[str, Object]] = {}
        self._now = now
        self._keys = frozenset(keys)
        self._ordered = ordered

    def put(self, bucket: str, *keys: str, data: bytes = b"x") -> None:
        """Put objects."""
        self.buckets.setdefault(bucket, {}).update({key: Object(data, self._now()) for key in keys})

    def service_account(self) -> str:
        """Return the JSON of an account with which a client of Cloud Storage comes here, without signing in."""
        keys = {"client_email": "", "private_key": "", "private_key_id": ""}
        return json.dumps({"gcs_base_url": self.url, "disable_oauth": True, **keys})

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/{bucket}", self._list),
            web.put("/{bucket}/{key:.+}", self._put),
            web.get("/{bucket}/{key:.+}", self._get),
            web.delete("/{bucket}/{key:.+}", self._delete),
        ]

    def _objects(self, request: web.Request) -> dict[str, Object] | web.Response:
        signer = re.search(r"Credential=([^/]+)/", request.headers.get("Authorization", ""))
        if self._keys and (signer is None or signer[1] not in self._keys):
            return _error(403, "InvalidAccessKeyId")
        found = self.buckets.get(request.match_info["bucket"])
        return _error(404, "NoSuchBucket") if found is None else found

    async def _list(self, request: web.Request) -> web.Response:
        objects = self._objects(request)
        if isinstance(objects, web.Response):
            return objects
        asked = request.query
        prefix, after = asked.get("prefix", ""), asked.get("continuation-token") or asked.get("start-after", "")
        keys = [key for key in objects if key.startswith(prefix)]
        if self._ordered:
            keys = [key for key in sorted(keys, key=str.encode) if key.encode() > after.encode()]
        elif after:
            keys = keys[keys.index(after) + 1 :]
        page, more = keys[:_PAGE], len(keys) > _PAGE
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_time(objects[key].modified)}</LastModified>"
            f"<ETag>{escape(objects[key].etag)}</ETag><Size>{len(objects[key].data)}</Size></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return _xml(
            f"<ListBucketResult><Name>{request.match_info['bucket']}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        )

    async def _put(self, request: web.Request) -> web.Response:
        objects = self._objects(request)
        if isinstance(objects, web.Response):
            return objects
        made = objects[request.match_info["key"]] = Object(await request.read(), self._now())
        return answer(b"", headers={"ETag": made.etag})

    async def _get(self, request: web.Request) -> web.Response:
        objects = self._objects(request)
        if isinstance(objects, web.Response):
            return objects
        found = objects.get(request.match_info["key"])
        if found is None:
            return _error(404, "NoSuchKey")
        modified = found.modified.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return answer(found.data, headers={"ETag": found.etag, "Last-Modified": modified})

    async def _delete(self, request: web.Request) -> web.Response:
        objects = self._objects(request)
        if isinstance(objects, web.Response):
            return objects
        objects.pop(request.match_info["key"], None)
        return answer(b"", status=204)


def _error(status: int, code: str) -> web.Response:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


def _xml(body: str, status: int = 200) -> web.Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>{body}'
    return answer(text.encode(), status=status, headers={"Content-Type": "application/xml"})


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
