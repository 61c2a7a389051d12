"""The HTTP core against a real server: what is tried again and what is not, sizes, encodings, tokens, secrets."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib
import json
import ssl
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.http import ApiKey, Auth, Basic, Bearer, Http, HttpConfig, NoAuth, OAuth2, Reply, Requests, Usage
from connectors.http.answers import parse_json, retry_after
from connectors.testing.double import Double, answer
from runner.errors import (
    CredentialsRejected,
    Parked,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    TableMissing,
    Throttled,
    Unreachable,
    UsageError,
)
from runner.job import Limits, Retry
from runner.limits import SourceLimits
from runner.testing.clock import ManualClock
from tests.conftest import binary

_ROWS = {"rows": [{"id": number, "name": f"name {number}"} for number in range(2000)]}


def _pack(encoding: str, body: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body[:100]) + gzip.compress(body[100:])  # of two members, as RFC 1952 allows
    if encoding == "deflate":
        return zlib.compress(body)
    if encoding == "br":
        packed: bytes = importlib.import_module("brotli").compress(body)
        return packed
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    frames: bytes = zstd.compress(body[:100]) + zstd.compress(body[100:])
    return frames


class Api(Double):
    """A small API with tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str] = []
        self.valid = ""
        self.at_once = self.most = 0
        self.streamed = 0

    def routes(self) -> Iterator[web.RouteDef]:
        yield web.get("/rows", self._rows)
        yield web.post("/rows", self._rows)
        yield web.get("/echo", self._echo)
        yield web.get("/packed/{encoding}", self._packed)
        yield web.get("/cut/{encoding}", self._packed)
        yield web.post("/token", self._token)
        yield web.get("/private", self._private)
        yield web.get("/large", self._large)
        yield web.get("/moved", self._moved)
        yield web.get("/away", self._away)
        yield web.get("/slow", self._slow)

    async def _rows(self, request: web.Request) -> web.Response:
        return answer(_ROWS)

    async def _echo(self, request: web.Request) -> web.Response:
        return answer({"query": request.rel_url.raw_query_string, "headers": dict(request.headers)})

    async def _packed(self, request: web.Request) -> web.Response:
        encoding = request.match_info["encoding"]
        packed = _pack(encoding, json.dumps(_ROWS).encode())
        if "cut" in request.path:
            packed = packed[:-5]
        headers = {"Content-Encoding": encoding, "Content-Type": "text/csv"}
        return web.Response(body=packed, headers=headers)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("client_secret") != "s3cr3t-of-client":
            return answer({"error": "invalid_client", "error_description": "no such client"}, status=400)
        self.valid = f"token-{len(self.tokens)}-abcdef"
        self.tokens.append(self.valid)
        return answer({"access_token": self.valid, "expires_in": 3600, "token_type": "Bearer"})

    async def _private(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return answer({"message": "expired"}, status=401)
        return answer({"ok": True})

    async def _large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        await response.prepare(request)
        for _ in range(int(request.query["megabytes"])):
            await response.write(b"x" * 2**20)
            self.streamed += 1
        return response

    async def _moved(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/rows"})

    async def _away(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://example.invalid/rows"})

    async def _slow(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.02)
        self.at_once -= 1
        return answer({})


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        yield server


class Made:
    """What makes sessions that share a clock."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.clock = ManualClock(auto=True)
        self.limits = SourceLimits.of(Limits(connections=4), self.clock)
        self.retries: list[str] = []

    def http(
        self,
        auth: Auth | None = None,
        *,
        quota: float | None = None,
        base: str | None = None,
        usage: Any = lambda _: (),
        judge: Any = lambda _: None,
        **options: Any,
    ) -> Http:
        requests = Requests(
            self.limits,
            self.clock,
            retry=Retry(attempts=4),
            quota=quota,
            retried=lambda _table, _number, _wait, error: self.retries.append(error.message),
        )
        config = HttpConfig.model_validate(options)
        return Http(
            config, base=base or self.api.url, auth=auth or NoAuth(), requests=requests, judge=judge, usage=usage
        )


@pytest.fixture
async def made(api: Api) -> Made:
    return Made(api)


@pytest.mark.parametrize("kind", ["reset", "cut", "truncated_gzip"])
async def test_a_lost_answer_is_asked_for_again(made: Made, kind: Any) -> None:
    made.api.fail(kind, "/rows", times=2)
    async with made.http() as http:
        assert (await http.get("rows")).data == _ROWS
    assert made.api.count("/rows") == 3
    # A connection that was kept open and died may be replaced before anybody is told.
    assert len(made.retries) >= 1


@pytest.mark.parametrize(("kind", "asked"), [("reset", 1), ("cut", 1)])
async def test_a_post_that_may_have_arrived_is_not_sent_again(made: Made, kind: Any, asked: int) -> None:
    made.api.fail(kind, "/rows", times=9)
    async with made.http() as http:
        with pytest.raises(SourceDown):
            await http.post("rows", json={}, idempotent=False)
        assert made.api.count("/rows") == asked
        with pytest.raises(SourceDown):
            await http.post("rows", json={}, idempotent=True)
        assert made.api.count("/rows") == asked + 4


async def test_a_post_that_was_throttled_is_sent_again_and_one_that_failed_is_not(made: Made) -> None:
    made.api.fail("status", "/rows", status=429, headers={"Retry-After": "7"}, body={})
    async with made.http() as http:
        assert (await http.post("rows", json={}, idempotent=False)).status == 200
        made.api.fail("status", "/rows", status=500, body={})
        with pytest.raises(SourceDown):
            await http.post("rows", json={}, idempotent=False)
    assert made.clock.monotonic() >= 7


async def test_a_pause_is_waited_out_by_all(made: Made) -> None:
    made.api.fail("status", "/echo", status=429, headers={"Retry-After": "30"}, body={})
    async with made.http() as http:
        await asyncio.gather(*(http.get("echo") for _ in range(10)))
    assert made.api.count("/echo", status=429) == 1
    assert 30 <= made.clock.monotonic() < 40


async def test_a_pause_that_is_too_long_parks(made: Made) -> None:
    made.api.fail("status", "/echo", status=503, headers={"Retry-After": "7200"}, body={})
    async with made.http() as http:
        with pytest.raises(Parked) as parked:
            await http.get("echo")
    assert (parked.value.resume_at - made.clock.now()).total_seconds() > 7000


async def test_the_quota_is_left_to_others(made: Made) -> None:
    def usage(reply: Reply) -> list[Usage]:
        return [Usage(used=800, limit=1000, resets=3600)]

    async with made.http(quota=0.8, usage=usage) as http:
        assert (await http.get("rows")).status == 200
        with pytest.raises(Parked, match=r"800 of 1,000 requests are used.*over 80%"):
            await http.get("rows")
    assert made.api.count("/rows") == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RequestRefused),
        (401, CredentialsRejected),
        (403, PermissionMissing),
        (404, TableMissing),
        (429, Throttled),
        (500, SourceDown),
    ],
)
async def test_errors_have_the_servers_words(made: Made, status: int, error: type[RunnerError]) -> None:
    made.api.fail("status", "/rows", status=status, body={"error": {"message": "because of this"}}, times=9)
    async with made.http() as http:
        with pytest.raises(error, match=f"{status}.*because of this"):
            await http.get("rows?key=hidden-key-value")
    assert made.api.count("/rows") == (4 if error.retriable else 1)


async def test_no_address_and_no_secret_in_an_error(made: Made) -> None:
    made.api.fail("status", "/rows", status=400, body={"message": "bad key hidden-key-value, Bearer abc-secret-abc"})
    async with made.http(ApiKey("key", "hidden-key-value", "query")) as http:
        with pytest.raises(RequestRefused) as refused:
            await http.get("rows")
    assert "hidden-key-value" not in f"{refused.value.message} {refused.value.context}"
    assert "hidden-key-value" not in made.api.seen[0].path
    assert "key=hidden-key-value" in made.api.seen[0].query


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_encodings(made: Made, encoding: str) -> None:
    async with made.http() as http:
        assert json.loads((await http.get(f"packed/{encoding}")).text) == _ROWS
        async with http.stream("GET", f"packed/{encoding}") as body:
            assert json.loads(b"".join([part async for part in body])) == _ROWS
        with pytest.raises(SourceDown):
            await http.get(f"cut/{encoding}")
        with pytest.raises(SourceDown):
            async with http.stream("GET", f"cut/{encoding}") as body:
                assert len([part async for part in body]) >= 0
    assert encoding in made.api.seen[0].headers["accept-encoding"]


async def test_a_long_stream_takes_little_memory(made: Made) -> None:
    async with made.http(max_response="1MiB") as http:
        tracemalloc.start()
        size = 0
        async with http.stream("GET", "large?megabytes=200") as body:
            async for part in body:
                size += len(part)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size == 200 * 2**20
        assert peak < 32 * 2**20
        with pytest.raises(RequestRefused, match="larger than max_response"):
            await http.get("large?megabytes=3")


async def test_who_stops_reading_a_stream_stops_the_server(made: Made) -> None:
    async with made.http() as http:
        async with http.stream("GET", "large?megabytes=500") as body:
            async for _ in body:
                break
        assert (await http.get("rows")).status == 200
    assert made.api.streamed < 400


async def test_a_token_is_renewed_once_however_many_notice(made: Made) -> None:
    form = {"grant_type": "client_credentials", "client_id": "c", "client_secret": "s3cr3t-of-client"}
    async with made.http(OAuth2("/token", form)) as http:
        await asyncio.gather(*(http.get("private") for _ in range(8)))
        assert len(made.api.tokens) == 1
        made.api.valid = "revoked"
        await asyncio.gather(*(http.get("private") for _ in range(8)))
        assert len(made.api.tokens) == 2
        await made.clock.sleep(3600)
        await http.get("private")
        assert len(made.api.tokens) == 3


async def test_wrong_credentials_of_a_token(made: Made) -> None:
    form = {"grant_type": "client_credentials", "client_secret": "another-secret-than-that"}
    async with made.http(OAuth2("/token", form)) as http:
        with pytest.raises(CredentialsRejected, match="no such client") as rejected:
            await http.get("private")
    assert "another-secret" not in rejected.value.message


@pytest.mark.parametrize(
    ("auth", "header"),
    [(Bearer("tok-en-value"), "Bearer tok-en-value"), (Basic("me", "secret-word"), "Basic bWU6c2VjcmV0LXdvcmQ=")],
)
async def test_headers_of_authentication(made: Made, auth: Auth, header: str) -> None:
    async with made.http(auth) as http:
        reply = await http.get("echo")
    assert reply.data["headers"]["Authorization"] == header


async def test_a_space_is_never_a_plus(made: Made) -> None:
    async with made.http() as http:
        reply = await http.get("echo", params={"$filter": "name eq 'a b+c'", "x": "ä&="})
    assert reply.data["query"] == "$filter=name%20eq%20%27a%20b%2Bc%27&x=%C3%A4%26%3D"


async def test_redirects_stay_at_home(made: Made) -> None:
    async with made.http() as http:
        assert (await http.get("moved")).data == _ROWS
        with pytest.raises(RequestRefused, match="another host"):
            await http.get("away")
        with pytest.raises(RequestRefused, match="another host"):
            await http.get("https://example.invalid/x")


async def test_no_more_requests_at_once_than_connections(made: Made) -> None:
    async with made.http() as http:
        await asyncio.gather(*(http.get("slow") for _ in range(20)))
    assert made.api.most == 4


async def test_a_server_that_is_not_there(made: Made) -> None:
    async with made.http(base="http://127.0.0.1:9") as http:
        with pytest.raises(SourceDown, match=r"GET 127\.0\.0\.1:9/rows: no connection"):
            await http.get("rows")
    with pytest.raises(UsageError, match="not the address"):
        made.http(base="example.com/rows")


@contextlib.asynccontextmanager
async def _serving(handler: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_only_a_certificate_that_is_trusted(made: Made, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([binary("openssl"), *command[1:], *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def hello(request: web.BaseRequest) -> web.Response:
        return answer({"secure": True})

    async with _serving(hello, context) as port:
        async with made.http(base=f"https://127.0.0.1:{port}") as http:
            with pytest.raises(Unreachable, match="not trusted"):
                await http.get("rows")
        async with made.http(base=f"https://127.0.0.1:{port}", ca_file=str(certificate)) as http:
            assert (await http.get("rows")).data == {"secure": True}
    with pytest.raises(UsageError, match="ca_file"):
        async with made.http(ca_file=str(tmp_path / "none.pem")):
            pass


async def test_a_proxy_of_the_environment(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def proxy(request: web.BaseRequest) -> web.Response:
        asked.append(str(request.url))
        return answer({"by": "proxy"})

    async with _serving(proxy) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")  # a setting of whoever runs it
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with made.http(base="http://api.example.test") as http:
            assert (await http.get("rows")).data == {"by": "proxy"}
        async with made.http() as http:
            assert (await http.get("rows")).data == _ROWS
    assert asked == ["http://api.example.test/rows"]


async def test_an_answer_with_an_error_in_it_is_judged(made: Made) -> None:
    made.api.fail("body", "/rows", body={"error": "try later"}, times=2)

    def judge(reply: Reply) -> RunnerError | None:
        return SourceDown(reply.message) if isinstance(reply.data, dict) and "error" in reply.data else None

    async with made.http(judge=judge) as http:
        assert (await http.get("rows")).data == _ROWS
    assert made.retries == ["try later", "try later"]


def test_numbers_are_what_was_written() -> None:
    found = parse_json(b"[1, 1.5, 12345678901234567890, 0.1, 1e400, 0.12345678901234567890123, 3.0]")
    assert [repr(one) for one in found] == [
        "1", "1.5", "12345678901234567890", "0.1", "Decimal('1E+400')", "Decimal('0.12345678901234567890123')", "3.0",
    ]  # fmt: skip


def test_retry_after() -> None:
    now = ManualClock().now()
    assert retry_after("120", now) == 120
    assert retry_after("Mon, 01 Jan 2024 00:01:00 GMT", now) == 60
    assert retry_after("soon", now) is None
