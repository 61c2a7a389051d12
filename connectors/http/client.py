"""One pooled session to one system: each request waits its turn, is authenticated, judged, and tried again."""

from __future__ import annotations

import contextlib
import json as jsonlib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import aiohttp
import anyio
from yarl import URL

from connectors.http.answers import Judge, Reply, judged
from connectors.http.auth import Auth
from connectors.http.config import HttpConfig
from connectors.http.encodings import Decoder, accepted
from connectors.http.faults import Sent, Translated, where_of
from connectors.http.trust import trusted
from runner.clock import Clock
from runner.errors import RequestRefused, SourceDown, Throttled, UsageError
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

    def __init__(self, response: aiohttp.ClientResponse, method: str) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._method = method

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = Decoder(self._response.headers.get("Content-Encoding", ""))
        with Translated(self._method, self._response.url):
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
        self.move(base)
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
        parts = urlsplit(base)
        self._root = f"{parts.scheme}://{parts.netloc}"

    async def __aenter__(self) -> Http:
        config = self._config
        try:
            context = await anyio.to_thread.run_sync(trusted, config.ca_file)
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

    async def get(
        self,
        url: str,
        *,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
        expected: Container[int] = (),
    ) -> Reply:
        """Get an answer as a whole.

        Args:
            expected: Statuses that are answers here and no errors: 304 to who asked with a validator.

        Raises:
            RunnerError: As ``judge`` and ``judged`` read the answer.
        """
        return await self.request("GET", url, params=params, headers=headers, expected=expected)

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
        expected: Container[int] = (),
    ) -> Reply:
        """Send a request and read its answer as a whole."""
        data, own = _encoded(json, form, body)
        sent = Sent(method, idempotent if idempotent is not None else method in _SAFE_METHODS)

        async def once() -> Reply:
            response = await self._answer(sent, url, params, {**own, **(headers or {})}, data)
            try:
                return await self._judged(response, sent, expected)
            finally:
                _leave(response)

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
        sent = Sent(method, idempotent=True)
        with contextlib.ExitStack() as stack:

            async def once() -> aiohttp.ClientResponse:
                response = await self._answer(sent, url, params, {**own, **(headers or {})}, data)
                try:
                    if not 200 <= response.status < 300:
                        await self._judged(response, sent)
                except BaseException:
                    _leave(response)
                    raise
                stack.callback(_leave, response)
                return response

            response = await self.requests.send(once)
            yield Body(response, method)

    async def exchange(self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str], json: bool) -> Reply:
        """Ask a token endpoint, which may be on a host of its own.

        Raises:
            CredentialsRejected: It refused.
        """
        data, own = _encoded(dict(form) if json else None, None if json else form, None)
        sent = Sent("POST", idempotent=True)

        async def once() -> Reply:
            address = URL(urljoin(self.base, url), encoded=True)
            response = await self._open(sent, address, {**own, "Accept": "application/json", **headers}, data)
            try:
                reply = await self._read(response, sent)
                error = judged(reply, now=self.clock.now())
                if error is not None:
                    raise error
                return reply
            finally:
                _leave(response)

        return await self.requests.send(once, within=True)

    # One attempt.

    async def _answer(
        self, sent: Sent, url: str, params: Params, headers: Mapping[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send one request with credentials; once more with new ones where they are refused; follow it at its host.

        Returns:
            An answer that the caller leaves (``_leave``).
        """
        renewed = redirects = 0
        target, given = url, params
        while True:
            whole = {**self._headers, **headers}
            query = list(given.items() if isinstance(given, Mapping) else given or ())
            await self._auth.apply(self, whole, query)
            response = await self._open(sent, self._address(target, query), whole, data)
            wanted = False
            try:
                if response.status == 401 and not renewed:
                    renewed += 1
                    if await self._auth.renew(self, whole):
                        continue
                moved = response.headers.get("Location") if response.status in _REDIRECTS else None
                if moved is not None and sent.method in ("GET", "HEAD") and redirects < _MOST_REDIRECTS:
                    redirects += 1
                    target, given = urljoin(str(response.url), moved), None
                    continue
                wanted = True
                return response
            finally:
                if not wanted:
                    _leave(response)

    def _address(self, url: str, params: Sequence[tuple[str, str]]) -> URL:
        """Return an absolute address of the host that credentials are for; a space is %20, never + (RFC 3986)."""
        if url[:1] == "/" and url[:2] != "//" and "/." not in url:
            whole = self._root + url  # as urljoin has it, of what most requests ask for
        else:
            whole = urljoin(self.base if self.base.endswith("/") else f"{self.base}/", url)
            if _origin(whole) != _origin(self.base):
                raise RequestRefused(
                    f"The source leads to another host ({urlsplit(whole).hostname}): "
                    "its credentials are not for that one."
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

    async def _open(
        self, sent: Sent, address: URL, headers: Mapping[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        sent.left = False
        with Translated(sent.method, address, sent):
            response = await self._session.request(
                sent.method,
                address,
                headers=headers,
                data=data,
                allow_redirects=False,
                proxy=self._proxy(address),
            )
        sent.left = True
        return response

    async def _judged(self, response: aiohttp.ClientResponse, sent: Sent, expected: Container[int] = ()) -> Reply:
        reply = await self._read(response, sent)
        error = None
        if reply.status not in expected:
            error = self._judge(reply) or judged(reply, now=self.clock.now())
        self.requests.note(self._usage(reply))
        if error is not None:
            # What was throttled was not done, whatever its method.
            sent.left = not isinstance(error, Throttled)
            raise error
        return reply

    async def _read(self, response: aiohttp.ClientResponse, sent: Sent) -> Reply:
        most = self._config.max_response if response.status < 300 else min(self._config.max_response, 2**20)
        encoding = response.headers.get("Content-Encoding")
        with Translated(sent.method, response.url):
            if response.content.is_eof() and not encoding:
                body = response.content.read_nowait()  # it came with its headers: nothing is waited for
                if len(body) > most:
                    raise _too_large(response, sent.method, most)
            else:
                body = await self._pieces(response, sent, most)
        reply = Reply(sent.method, str(response.url), response.status, response.headers, body)
        if len(reply.body) > _SMALL:
            await anyio.to_thread.run_sync(lambda: reply.data)
        is_json = "json" in response.headers.get("Content-Type", "") and response.status < 300
        if is_json and reply.data is None and reply.body.strip() not in (b"", b"null"):
            where = where_of(sent.method, response.url)
            raise SourceDown(f"{where}: the answer says it is JSON and is not: it was cut off, or damaged.")
        return reply

    async def _pieces(self, response: aiohttp.ClientResponse, sent: Sent, most: int) -> bytes:
        """Return a body that is still on its way, or compressed."""
        parts: list[bytes] = []
        size = 0
        decoder = Decoder(response.headers.get("Content-Encoding", ""))
        with anyio.move_on_after(self._config.timeout.total_seconds()) as scope:
            async for data in response.content.iter_chunked(_READ):
                for piece in decoder.feed(data):
                    size += len(piece)
                    if size > most:
                        raise _too_large(response, sent.method, most)
                    parts.append(piece)
        if scope.cancelled_caught:
            where = where_of(sent.method, response.url)
            raise SourceDown(f"{where}: no whole answer within {self._config.timeout}.")
        if sent.method != "HEAD" and response.status not in (204, 304):
            decoder.finish()
        return b"".join(parts)


def _leave(response: aiohttp.ClientResponse) -> None:
    """Give the connection back where the answer was read to its end; close it where it was not."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _too_large(response: aiohttp.ClientResponse, method: str, most: int) -> RequestRefused:
    return RequestRefused(
        f"{where_of(method, response.url)}: the answer is larger than max_response ({most:,} bytes).",
        guidance="Ask for smaller pages, or raise max_response of the source.",
    )


def _encoded(json: Any, form: Mapping[str, str] | None, body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if json is not None:
        return jsonlib.dumps(json).encode(), {"Content-Type": "application/json"}
    if form is not None:
        return urlencode(form, quote_via=quote).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    return body, {}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for an address."""
    if urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)
