"""One pooled session to one system: each request waits its turn, is authenticated, judged, and tried again."""

from __future__ import annotations

import contextlib
import json as jsonlib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import aiohttp
import anyio
from yarl import URL

from connectors.http.answers import Judge, Reply, judged
from connectors.http.auth import Auth
from connectors.http.config import HttpConfig
from connectors.http.encodings import Decoder, accepted
from runner.clock import Clock
from runner.errors import RequestRefused, RunnerError, SourceDown, Throttled, Unreachable, UsageError
from runner.requests import Requests, Usage
from runner.secrets import redact

_READ = 2**18
# Parsing more than that would hold up the loop.
_SMALL = 2**17
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")

Params = Mapping[str, str] | Sequence[tuple[str, str]] | None


class Body:
    """The body of an answer that is read piece by piece, decompressed; in bounded memory however long it is.

    Attributes:
        headers: The answer's headers.
    """

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._where = where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = Decoder(self._response.headers.get("Content-Encoding", ""))
        with _translated(self._where):
            async for data in self._response.content.iter_chunked(_READ):
                for piece in decoder.feed(data):
                    yield piece
        decoder.finish()


class Http:
    """A session; ``async with`` opens and closes it.

    Args:
        base: The address that relative ones start from; no other host is ever asked.
        headers: Sent with every request.
        judge: Looks at every answer and returns the error that it means; None leaves it to ``judged``.
        usage: Returns what an answer says about long-term quotas.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        base: str,
        auth: Auth,
        requests: Requests,
        headers: Mapping[str, str] | None = None,
        judge: Judge = lambda _: None,
        usage: Callable[[Reply], Iterable[Usage]] = lambda _: (),
    ) -> None:
        if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
            raise UsageError(f"{redact(base)!r} is not the address of a server.", guidance="Begin it with https://.")
        self.base = base
        self.requests = requests
        self._config = config
        self._auth = auth
        self._headers = dict(headers or {})
        self._judge = judge
        self._usage = usage
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str | None], str | None] = {}

    @property
    def clock(self) -> Clock:
        """The clock of the run."""
        return self.requests.clock

    def move(self, base: str) -> None:
        """Ask another host from now on: where the token endpoint says that the API is."""
        self.base = base

    async def __aenter__(self) -> Http:
        config = self._config
        try:
            context = await anyio.to_thread.run_sync(lambda: ssl.create_default_context(cafile=None))
            if config.ca_file:
                path = config.ca_file
                await anyio.to_thread.run_sync(lambda: context.load_verify_locations(path))
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"ca_file: {config.ca_file} cannot be read: {error}.") from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=config.connect_timeout.total_seconds(),
                sock_read=config.read_timeout.total_seconds(),
            ),
            headers={"Accept-Encoding": accepted(), "User-Agent": "orchestra-blueprints"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    # What connectors call.

    async def get(self, url: str, *, params: Params = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Get an answer as a whole.

        Raises:
            RunnerError: As ``judge`` and ``judged`` read the answer.
        """
        return await self.request("GET", url, params=params, headers=headers)

    async def post(
        self,
        url: str,
        *,
        idempotent: bool,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Post something.

        Args:
            idempotent: Whether to do it twice is as good as once: else it is not sent again once it may have arrived.
        """
        return await self.request(
            "POST", url, params=params, headers=headers, json=json, form=form, body=body, idempotent=idempotent
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        idempotent: bool | None = None,
    ) -> Reply:
        """Send a request and read its answer as a whole."""
        data, own = _encoded(json, form, body)
        sent = _Sent(method, idempotent if idempotent is not None else method in _SAFE_METHODS)

        async def once() -> Reply:
            async with self._answer(sent, url, params, {**own, **(headers or {})}, data) as response:
                return await self._judged(response, sent)

        return await self.requests.send(once, may_retry=sent.may_retry)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> AsyncIterator[Body]:
        """Send a request and read its answer piece by piece.

        To begin is tried again; when the connection is lost in the middle the error goes to whoever reads.
        """
        data, own = _encoded(json, None, None)
        sent = _Sent(method, idempotent=True)
        async with contextlib.AsyncExitStack() as stack:

            async def once() -> aiohttp.ClientResponse:
                opened = contextlib.AsyncExitStack()
                try:
                    answer = self._answer(sent, url, params, {**own, **(headers or {})}, data)
                    response = await opened.enter_async_context(answer)
                    if not 200 <= response.status < 300:
                        await self._judged(response, sent)
                except BaseException:
                    await opened.aclose()
                    raise
                stack.push_async_callback(opened.aclose)
                return response

            response = await self.requests.send(once)
            yield Body(response, _where(method, response.url))

    async def exchange(self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str], json: bool) -> Reply:
        """Ask a token endpoint, which may be on a host of its own.

        Raises:
            CredentialsRejected: It refused.
        """
        data, own = _encoded(dict(form) if json else None, None if json else form, None)
        sent = _Sent("POST", idempotent=True)

        async def once() -> Reply:
            address = URL(urljoin(self.base, url), encoded=True)
            async with self._open(sent, address, {**own, "Accept": "application/json", **headers}, data) as response:
                reply = await self._read(response, sent)
                error = judged(reply, now=self.clock.now())
                if error is not None:
                    raise error
                return reply

        return await self.requests.send(once, within=True)

    # One attempt.

    @contextlib.asynccontextmanager
    async def _answer(
        self, sent: _Sent, url: str, params: Params, headers: Mapping[str, str], data: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request with credentials; once more with new ones where they are refused; follow it at its host."""
        renewed = redirects = 0
        target, given = url, params
        while True:
            whole = {**self._headers, **headers}
            query = list(given.items() if isinstance(given, Mapping) else given or ())
            await self._auth.apply(self, whole, query)
            async with self._open(sent, self._address(target, query), whole, data) as response:
                if response.status == 401 and not renewed:
                    renewed += 1
                    if await self._auth.renew(self, whole):
                        continue
                moved = response.headers.get("Location") if response.status in _REDIRECTS else None
                if moved is not None and sent.method in ("GET", "HEAD") and redirects < _MOST_REDIRECTS:
                    redirects += 1
                    target, given = urljoin(str(response.url), moved), None
                    continue
                yield response
                return

    def _address(self, url: str, params: Sequence[tuple[str, str]]) -> URL:
        """Return an absolute address of the host that credentials are for; a space is %20, never + (RFC 3986)."""
        whole = urljoin(self.base if self.base.endswith("/") else f"{self.base}/", url)
        if _origin(whole) != _origin(self.base):
            raise RequestRefused(
                f"The source leads to another host ({urlsplit(whole).hostname}): its credentials are not for that one."
            )
        address = whole.partition("#")[0]
        if params:
            query = urlencode(params, quote_via=quote, safe="$")
            address += ("&" if "?" in address else "?") + query
        return URL(address.replace(" ", "%20"), encoded=True)

    def _proxy(self, address: URL) -> str | None:
        """Return the proxy for an address: the environment is looked through once a host."""
        place = (address.scheme, address.host)
        if place not in self._proxies:
            self._proxies[place] = _proxy(address)
        return self._proxies[place]

    @contextlib.asynccontextmanager
    async def _open(
        self, sent: _Sent, address: URL, headers: Mapping[str, str], data: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        where = _where(sent.method, address)
        sent.left = False
        with _translated(where, sent):
            response = await self._session.request(
                sent.method,
                address,
                headers=headers,
                data=data,
                allow_redirects=False,
                proxy=self._proxy(address),
            )
        sent.left = True
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _judged(self, response: aiohttp.ClientResponse, sent: _Sent) -> Reply:
        reply = await self._read(response, sent)
        error = self._judge(reply) or judged(reply, now=self.clock.now())
        self.requests.note(self._usage(reply))
        if error is not None:
            # What was throttled was not done, whatever its method.
            sent.left = not isinstance(error, Throttled)
            raise error
        return reply

    async def _read(self, response: aiohttp.ClientResponse, sent: _Sent) -> Reply:
        where, most = _where(sent.method, response.url), self._config.max_response
        if response.status >= 300:
            most = min(most, 2**20)
        parts: list[bytes] = []
        size = 0
        decoder = Decoder(response.headers.get("Content-Encoding", ""))
        with _translated(where), anyio.move_on_after(self._config.timeout.total_seconds()) as scope:
            async for data in response.content.iter_chunked(_READ):
                for piece in decoder.feed(data):
                    size += len(piece)
                    if size > most:
                        raise RequestRefused(
                            f"{where}: the answer is larger than max_response ({most:,} bytes).",
                            guidance="Ask for smaller pages, or raise max_response of the source.",
                        )
                    parts.append(piece)
        if scope.cancelled_caught:
            raise SourceDown(f"{where}: no whole answer within {self._config.timeout}.")
        if sent.method != "HEAD" and response.status not in (204, 304):
            decoder.finish()
        reply = Reply(sent.method, str(response.url), response.status, response.headers, b"".join(parts))
        if len(reply.body) > _SMALL:
            await anyio.to_thread.run_sync(lambda: reply.data)
        is_json = "json" in response.headers.get("Content-Type", "") and response.status < 300
        if is_json and reply.data is None and reply.body.strip() not in (b"", b"null"):
            raise SourceDown(f"{where}: the answer says it is JSON and is not: it was cut off, or damaged.")
        return reply


class _Sent:
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


@contextlib.contextmanager
def _translated(where: str, sent: _Sent | None = None) -> Any:
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise Unreachable(
            f"{where}: the server's certificate is not trusted: {error.certificate_error}.",
            guidance="Set ca_file of the source to the certificates of who issued it.",
        ) from error
    except aiohttp.ClientSSLError as error:
        raise Unreachable(f"{where}: there is no TLS connection: {error}.") from error
    except aiohttp.ClientConnectorError as error:
        raise SourceDown(f"{where}: no connection: {error.strerror or error}.") from error
    except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError) as error:
        if sent is not None and not isinstance(error, aiohttp.ConnectionTimeoutError):
            sent.left = True
        raise SourceDown(f"{where}: no answer in time.") from error
    except aiohttp.InvalidURL as error:
        raise RequestRefused(f"{where}: this is not an address.") from error
    except (aiohttp.ClientError, OSError) as error:
        if sent is not None:
            sent.left = True
        raise SourceDown(f"{where}: the connection was lost ({type(error).__name__}).") from error


def _encoded(json: Any, form: Mapping[str, str] | None, body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if json is not None:
        return jsonlib.dumps(json).encode(), {"Content-Type": "application/json"}
    if form is not None:
        return urlencode(form, quote_via=quote).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    return body, {}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _where(method: str, url: URL) -> str:
    # Not the query: it may hold a key.
    port = f":{url.explicit_port}" if url.explicit_port else ""
    return redact(f"{method} {url.host}{port}{url.path}")


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for an address."""
    if urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
