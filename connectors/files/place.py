"""From a URL to what lists its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from connectors.files.config import FilesConfig
from connectors.files.listing import Lister
from runner.errors import UsageError
from runner.secrets import hide, redact


@dataclass(frozen=True)
class Place:
    """A folder with files.

    Attributes:
        url: What people call it; without secrets.
        folder: The folder, from the root of what lists it.
        system: Equal for places that one lister serves: same server, same credentials. It is never printed.
        connect: Opens the lister.
    """

    url: str
    folder: str
    system: Hashable
    connect: Callable[[], AbstractAsyncContextManager[Lister]]

    def file_url(self, path: str) -> str:
        """Return what a file is called: names of stores as they are, those of servers and disks as URLs have them."""
        path = path if self.url.startswith(_RAW) else quote(path)
        return f"{self.url.rstrip('/')}/{path}"


_RAW = ("s3://", "gs://", "az://", "abfs://", "abfss://")


def locate(config: FilesConfig, base: Path) -> Place:
    """Return the place that the keys name; nothing is opened yet.

    Args:
        base: Where a relative folder begins.

    Raises:
        UsageError: The URL makes no sense.
    """
    if config.scheme == "file":
        return _local(config, base)
    if config.scheme == "sftp":
        return _server(config)
    root, _, folder = config.url.removeprefix(f"{config.scheme}://").partition("/")
    if not root:
        raise UsageError(f"{redact(config.url)} names no bucket.")
    options = config.store_options()
    root = f"{config.scheme}://{root}"

    def connect() -> AbstractAsyncContextManager[Lister]:
        from connectors.files.objects import connect as opened

        return opened(root, options, allow_http=config.allow_http)

    system = ("files", root, config.allow_http, _digest(options))
    return Place(redact(config.url), folder.strip("/"), system, connect)


def _local(config: FilesConfig, base: Path) -> Place:
    parts = urlsplit(config.url) if "://" in config.url else None
    if parts is not None and parts.netloc not in ("", "localhost"):
        raise UsageError(f"{config.url} names another host.", guidance="Write file:///path, with three slashes.")
    root = (base / config.url).absolute() if parts is None else Path(unquote(parts.path))

    def connect() -> AbstractAsyncContextManager[Lister]:
        from connectors.files.local import connect as opened

        return opened(root)

    return Place(root.as_uri(), "", ("files", root), connect)


def _server(config: FilesConfig) -> Place:
    try:
        parts = urlsplit(config.url)
        host, port = parts.hostname, parts.port or 22
    except ValueError as error:
        raise UsageError(f"{redact(config.url)}: {error}.") from None
    if not host:
        raise UsageError(f"{redact(config.url)} names no host.")
    user = config.user or (unquote(parts.username) if parts.username else None)
    password = config.password or (unquote(parts.password) if parts.password else None)
    if password:
        hide(password)
    whole = config.model_copy(update={"user": user, "password": password})
    # Where one signs in is the folder that ~ stands for.
    path = unquote(parts.path)
    folder = path.removeprefix("/~").strip("/") if path == "/~" or path.startswith("/~/") else f"/{path.strip('/')}"

    def connect() -> AbstractAsyncContextManager[Lister]:
        from connectors.files.sftp import connect as opened

        return opened(host, port, whole)

    keys = ("password", "private_key", "passphrase", "host_key", "known_hosts")
    system = ("files", "sftp", host, port, user, _digest({key: getattr(whole, key) for key in keys}))
    shown = f"[{host}]" if ":" in host else host
    return Place(f"sftp://{shown}{'' if port == 22 else f':{port}'}{parts.path}", folder, system, connect)


def _digest(options: dict[str, object]) -> str:
    return hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()
