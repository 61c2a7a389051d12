"""Errors of the client as ours, and how far a request went before: what may have arrived is not sent again."""

from __future__ import annotations

import aiohttp
from yarl import URL

from runner.errors import RequestRefused, RunnerError, SourceDown, Unreachable
from runner.secrets import redact


class Sent:
    """One request and how far it went.

    Attributes:
        left: Whether it may have arrived.
    """

    def __init__(self, method: str, idempotent: bool) -> None:
        self.method = method
        self.left = False
        self._idempotent = idempotent

    def may_retry(self, error: RunnerError) -> bool:
        """Tell whether another attempt can help and cannot harm."""
        return error.retriable and (self._idempotent or not self.left)


class Translated:
    """Turns errors of the client into ours; where it was is written down only then."""

    def __init__(self, method: str, address: URL, sent: Sent | None = None) -> None:
        self._method, self._address, self._sent = method, address, sent

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientError | OSError):
            raise _translate(error, where_of(self._method, self._address), self._sent) from error


def _translate(error: Exception, where: str, sent: Sent | None) -> RunnerError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Unreachable(
            f"{where}: the server's certificate is not trusted: {error.certificate_error}.",
            guidance="Set ca_file of the source to the certificates of who issued it.",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return Unreachable(f"{where}: there is no TLS connection: {error}.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return SourceDown(f"{where}: no connection: {error.strerror or error}.")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return SourceDown(f"{where}: no answer in time.")
    if isinstance(error, aiohttp.InvalidURL):
        return RequestRefused(f"{where}: this is not an address.")
    if sent is not None:
        sent.left = True
    if isinstance(error, aiohttp.ServerTimeoutError):
        return SourceDown(f"{where}: no answer in time.")
    return SourceDown(f"{where}: the connection was lost ({type(error).__name__}).")


def where_of(method: str, url: URL) -> str:
    """Return what was asked, for messages."""
    # Not the query: it may hold a key.
    port = f":{url.explicit_port}" if url.explicit_port else ""
    return redact(f"{method} {url.host}{port}{url.path}")
