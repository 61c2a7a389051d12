"""The files of a server that is reached by SFTP (draft-ietf-secsh-filexfer), through asyncssh."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from connectors.files.config import FilesConfig
from connectors.files.listing import FileInfo, moment
from connectors.files.walk import walk
from runner.errors import (
    CredentialsRejected,
    PermissionMissing,
    RunnerError,
    SourceDown,
    SourceError,
    SourceRefused,
    Unreachable,
    UsageError,
)
from runner.secrets import redact

try:
    import asyncssh
except ImportError as missing:
    raise UsageError(
        "SFTP needs the package 'asyncssh'.", guidance="Install it: pip install 'orchestra-blueprints[sftp]'."
    ) from missing

_CONNECT = 15.0
_ANSWER = 30.0
_CLOSE = 5.0
_KEEPALIVE = 15
_LOST = (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, ConnectionError)
FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    name: bytes
    attributes: Any = None


@contextlib.asynccontextmanager
async def connect(host: str, port: int, config: FilesConfig) -> AsyncIterator[Server]:
    """Sign in to a server, and leave in the end.

    Raises:
        UsageError: A key that is none.
        Unreachable: Nobody answers.
        CredentialsRejected: It does not let us in.
        SourceRefused: It is not the server that is trusted.
    """
    server = Server(host, port, await anyio.to_thread.run_sync(_options, host, port, config))
    try:
        await server.session()
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await server.close()


class Server:
    """Lists folders of a server; implements ``Lister``. A connection that is gone is opened again."""

    def __init__(self, host: str, port: int, options: asyncssh.SSHClientConnectionOptions) -> None:
        self._name = f"sftp://{host}" if port == 22 else f"sftp://{host}:{port}"
        self._address = (host, port)
        self._options = options
        self._turn = anyio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._contacted = False

    async def pages(self, folder: str = "", start_after: str | None = None) -> AsyncGenerator[list[FileInfo], None]:
        try:
            async with contextlib.aclosing(walk(_Tree(self, folder), start_after)) as pages:
                async for page in pages:
                    yield page
        except FileNotFoundError:
            shown = f"{self._name}{folder}" if folder.startswith("/") else f"{self._name}/~/{folder}"
            raise SourceRefused(f"There is no such folder: {shown}.", guidance="Make it, or check `url`.") from None

    async def session(self) -> asyncssh.SFTPClient:
        """Return the session that is open, or a new one.

        Raises:
            RunnerError: There is none to be had.
        """
        async with self._turn:
            if self._client is None or self._connection is None or self._connection.is_closed():
                await self.close()
                try:
                    with anyio.fail_after(_CONNECT + _ANSWER):
                        self._connection = await asyncssh.connect(*self._address, config=None, options=self._options)
                        self._client = await self._connection.start_sftp_client()
                except (asyncssh.Error, OSError, TimeoutError) as error:
                    await self.close()
                    raise self._refusal(error) from None
                self._contacted = True
            return self._client

    async def close(self) -> None:
        """Leave."""
        connection, self._connection, self._client = self._connection, None, None
        if connection is None:
            return
        connection.close()
        with anyio.move_on_after(_CLOSE):
            await connection.wait_closed()
            return
        connection.abort()

    async def ask(
        self, path: bytes, call: Callable[[asyncssh.SFTPClient, anyio.CancelScope], Awaitable[FoundT]]
    ) -> FoundT:
        """Ask something that may be asked twice; a connection that ended meanwhile is opened again, once.

        Raises:
            FileNotFoundError: It asked for what is not there.
            RunnerError: There is no answer, or it is a refusal.
        """
        for again in (True, False):
            client = await self.session()
            try:
                with anyio.fail_after(_ANSWER) as scope:
                    return await call(client, scope)
            except _LOST as error:
                await self._drop(client)
                if not again:
                    raise self._refusal(error) from None
            except TimeoutError:
                await self._drop(client)
                raise SourceDown(f"{self._name} did not answer within {_ANSWER:.0f} seconds.") from None
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory):
                raise FileNotFoundError from None
            except asyncssh.SFTPPermissionDenied:
                shown = path.decode("utf-8", "backslashreplace")
                raise PermissionMissing(f"{self._name}: {shown} may not be read.", guidance="Grant it.") from None
            except asyncssh.Error as error:
                raise self._refusal(error) from None
        raise AssertionError

    async def _drop(self, client: asyncssh.SFTPClient) -> None:
        async with self._turn:
            if self._client is client:
                if self._connection is not None:
                    self._connection.abort()
                await self.close()

    def _refusal(self, error: Exception) -> RunnerError:
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return SourceRefused(
                f"{self._name} has a host key that is not trusted: it may be another server.",
                guidance="Ask its owner for its key, and write it as `host_key:` or into the file of known_hosts.",
            )
        if isinstance(error, asyncssh.PermissionDenied):
            return CredentialsRejected(f"{self._name} rejected the user, the password or the key.")
        if isinstance(error, (*_LOST, OSError, TimeoutError)):
            reason = "it hung up" if isinstance(error, asyncssh.Error) else _reason(error)
            words = f"{self._name} does not answer: {reason}."
            return SourceDown(words) if self._contacted else Unreachable(words)
        words = redact(str(getattr(error, "reason", error))).rstrip(".")
        return (SourceError if self._contacted else SourceRefused)(f"{self._name} refuses: {words}.")


class _Tree:
    def __init__(self, server: Server, root: str) -> None:
        self._server = server
        self._root = root.encode()

    def _path(self, folder: bytes) -> bytes:
        # An empty path is where one signed in.
        return b"/".join(part for part in (self._root.rstrip(b"/"), folder.rstrip(b"/")) if part) or (
            self._root or b"."
        )

    async def first(self, folder: bytes, after: bytes, count: int) -> Sequence[_Entry]:
        path = self._path(folder)

        async def read(client: asyncssh.SFTPClient, scope: anyio.CancelScope) -> list[_Entry]:
            found: list[_Entry] = []
            async with contextlib.aclosing(_entries(client, path)) as entries:
                async for entry in entries:
                    # A folder may be as large as it likes, as long as it goes on.
                    scope.deadline = anyio.current_time() + _ANSWER
                    if entry.name > after:
                        found.append(entry)
                        if len(found) >= 2 * count:
                            found = heapq.nsmallest(count, found, key=_name)
            return heapq.nsmallest(count, found, key=_name)

        return await self._server.ask(path, read)

    async def files(self, folder: bytes, found: Sequence[_Entry]) -> list[FileInfo]:
        infos = []
        for entry in found:
            attributes = entry.attributes
            if attributes.type != asyncssh.FILEXFER_TYPE_REGULAR:
                attributes = await self._resolved(self._path(folder + entry.name))
            if attributes is not None:
                size, modified = attributes.size or 0, attributes.mtime
                tag = f"{size}-{int(modified or 0):x}{f'.{attributes.mtime_ns:x}' if attributes.mtime_ns else ''}"
                infos.append(
                    FileInfo((folder + entry.name).decode("utf-8", "surrogateescape"), size, moment(modified), tag)
                )
        return infos

    async def _resolved(self, path: bytes) -> Any:
        """Return what a link leads to, if that is a file; the server may also not have said what something is."""

        async def read(client: asyncssh.SFTPClient, _: anyio.CancelScope) -> asyncssh.SFTPAttrs:
            return await client.stat(path)

        try:
            attributes = await self._server.ask(path, read)
        except (SourceDown, PermissionMissing):
            raise
        except (FileNotFoundError, SourceError):  # a link that leads nowhere, or to itself
            return None
        return (
            attributes if attributes.type in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN) else None
        )


async def _entries(client: asyncssh.SFTPClient, path: bytes) -> AsyncGenerator[_Entry, None]:
    async for entry in client.scandir(path):
        name = entry.filename if isinstance(entry.filename, bytes) else entry.filename.encode()
        kind = entry.attrs.type
        if name in (b".", b"..") or kind == asyncssh.FILEXFER_TYPE_SPECIAL:
            continue
        yield _Entry(name + b"/" if kind == asyncssh.FILEXFER_TYPE_DIRECTORY else name, entry.attrs)


def _name(entry: _Entry) -> bytes:
    return entry.name


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT:.0f} seconds"
    return getattr(error, "strerror", None) or type(error).__name__


def _options(host: str, port: int, config: FilesConfig) -> asyncssh.SSHClientConnectionOptions:
    """Return what a connection takes; reads files."""
    keys: Any = ()
    if config.private_key:
        try:
            keys = [asyncssh.import_private_key(config.private_key, config.passphrase)]
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            raise UsageError("`private_key` is no private key, or its passphrase is wrong.") from None
    elif config.password:
        keys = None
    more = {"username": config.user} if config.user else {}
    return asyncssh.SSHClientConnectionOptions(
        host=host,
        port=port,
        config=[],
        known_hosts=_trusted(config),
        password=config.password,
        client_keys=keys,
        agent_path=None if config.private_key or config.password else (),
        x509_trusted_certs=None,
        connect_timeout=_CONNECT,
        login_timeout=_CONNECT,
        keepalive_interval=_KEEPALIVE,
        keepalive_count_max=2,
        **more,
    )


def _trusted(config: FilesConfig) -> Any:
    if config.known_hosts is False:
        return None
    if config.host_key is not None:
        # ssh-keyscan writes the host before the key.
        for line in (config.host_key, config.host_key.partition(" ")[2]):
            with contextlib.suppress(asyncssh.KeyImportError):
                return [asyncssh.import_public_key(line)], [], []
        raise UsageError(
            "`host_key` is no public key.", guidance="Write it as ssh-keyscan prints it: ssh-ed25519 AAAA…"
        )
    file = Path(config.known_hosts or "~/.ssh/known_hosts").expanduser()
    try:
        return asyncssh.import_known_hosts(file.read_text("utf-8"))
    except OSError as error:
        if config.known_hosts is None and isinstance(error, FileNotFoundError):
            return asyncssh.import_known_hosts("")
        raise UsageError(f"`known_hosts`: {file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"`known_hosts`: {file}: {error}.") from None
