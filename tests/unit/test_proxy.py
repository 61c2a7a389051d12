"""The proxy does to connections what it is told, and nothing else."""

import asyncio
import contextlib
import http.client
import http.server
import socket
import threading
import time

import pytest

from runner.testing.proxy import Fault, FaultProxy, proxy_in_thread

BODY = bytes(range(256)) * 2**12


class Echo:
    """A server that sends back what it gets, and notes it."""

    def __init__(self):
        self.heard = b""
        self.resets = 0
        self.writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader, writer):
        self.writers.append(writer)
        try:
            while data := await reader.read(2**16):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionResetError:
            self.resets += 1
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def behind_a_proxy(fault=None):
    async with Echo() as echo, FaultProxy("127.0.0.1", echo.port) as proxy:
        proxy.fault = fault or Fault()
        yield echo, proxy


@contextlib.asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def eventually(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def hears_nothing(reader):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read(1)


class TestAnswers:
    async def test_it_forwards_both_ways_and_counts(self):
        async with behind_a_proxy() as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(BODY)
                assert await reader.readexactly(len(BODY)) == BODY
                assert echo.heard == BODY
                assert (proxy.opened, proxy.open) == (1, 1)
                assert proxy.passed == {"client": len(BODY), "server": len(BODY)}
            await eventually(lambda: proxy.open == 0)
            async with connected(proxy) as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            assert proxy.opened == 2

    async def test_who_stops_speaking_can_still_listen(self):
        async with behind_a_proxy() as (_, proxy), connected(proxy) as (reader, writer):
            writer.write(BODY)
            writer.write_eof()
            assert await reader.read() == BODY
            await eventually(lambda: proxy.open == 0)

    async def test_latency_is_that_of_each_direction(self):
        for latency, least in (((0.1, 0.0), 0.1), ((0.0, 0.1), 0.1), ((0.1, 0.1), 0.2)):
            async with behind_a_proxy(Fault(latency=latency)) as (_, proxy), connected(proxy) as (reader, writer):
                began = time.monotonic()
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                assert least <= time.monotonic() - began < least + 0.5

    async def test_a_slow_drip_is_slow_and_complete(self):
        async with behind_a_proxy(Fault(rate=10_000)) as (echo, proxy), connected(proxy) as (reader, writer):
            began = time.monotonic()
            writer.write(BODY[:4000])
            await reader.readexactly(1)
            assert len(echo.heard) < 4000
            assert await reader.readexactly(3999) == BODY[1:4000]
            assert 0.4 <= time.monotonic() - began < 2
            # The rest goes as fast as it can, once it may.
            proxy.fault = Fault()
            writer.write(BODY)
            async with asyncio.timeout(5):
                assert await reader.readexactly(len(BODY)) == BODY


class TestSilence:
    async def test_a_refused_connection_is_reset_and_the_server_hears_nothing(self):
        async with behind_a_proxy(Fault("refuse")) as (echo, proxy):
            async with connected(proxy) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert (proxy.opened, proxy.open, echo.writers) == (1, 0, [])

    @pytest.mark.parametrize("after", [0, 1, 1000, 70_000])
    async def test_a_cut_comes_at_its_byte_and_is_a_reset_to_both(self, after):
        async with behind_a_proxy(Fault("cut", after=after)) as (echo, proxy), connected(proxy) as (reader, writer):
            writer.write(BODY[: after + 1])
            got = b""
            with pytest.raises(ConnectionResetError):
                while data := await reader.read(2**16):
                    got += data
            assert got == BODY[:after]
            assert proxy.passed["server"] == after
            if after:
                await eventually(lambda: echo.resets)
            await eventually(lambda: proxy.open == 0)

    async def test_a_cut_can_count_the_clients_bytes(self):
        async with behind_a_proxy(Fault("cut", after=1000, counted="client")) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(BODY[:999])
                assert await reader.readexactly(999) == BODY[:999]
                writer.write(b"twenty bytes of more.")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            await eventually(lambda: echo.resets)
            assert echo.heard == BODY[:999] + b"t"

    async def test_a_fault_can_begin_at_certain_bytes(self):
        async with behind_a_proxy(Fault("cut", after=8, at=b"done")) as (_, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(b"done")
                assert await reader.readexactly(4) == b"done"
                writer.write(b"not yet done yet")
                assert await reader.readexactly(8) == b"not yet "
                with pytest.raises(ConnectionResetError):
                    await reader.read()

    async def test_half_open_at_certain_bytes_of_the_client(self):
        async with behind_a_proxy(Fault("half_open", at=b"hush", counted="client")) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                writer.write(b"hush")
                await hears_nothing(reader)
                writer.write(b"more")
                await hears_nothing(reader)
                assert echo.heard == b"pinghushmore"

    async def test_a_black_hole_takes_everything_and_answers_nothing(self):
        async with behind_a_proxy(Fault("black_hole")) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(BODY)
                await writer.drain()
                await hears_nothing(reader)
                assert (proxy.open, echo.writers, proxy.passed["client"]) == (1, [], 0)
            await eventually(lambda: proxy.open == 0)

    async def test_an_open_connection_can_fall_into_a_black_hole_and_stays_there(self):
        async with behind_a_proxy() as (echo, proxy), connected(proxy) as (reader, writer):
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            proxy.fault = Fault("black_hole")
            writer.write(b"lost")
            await hears_nothing(reader)
            proxy.fault = Fault()
            writer.write(b"lost too")
            await hears_nothing(reader)
            assert echo.heard == b"before"
            async with connected(proxy) as (other, writer):
                writer.write(b"another")
                assert await other.readexactly(7) == b"another"

    async def test_a_black_hole_can_begin_in_the_middle(self):
        async with behind_a_proxy(Fault("black_hole", after=6, counted="client")) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(b"before and after")
                await hears_nothing(reader)
                echo.writers[0].write(b"unasked")
                await hears_nothing(reader)
                assert echo.heard == b"before"
            await eventually(lambda: proxy.open == 0)

    async def test_half_open_the_server_is_heard_no_more_and_hears_everything(self):
        async with behind_a_proxy(Fault("half_open", after=4)) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                writer.write(BODY)
                await writer.drain()
                await hears_nothing(reader)
                await eventually(lambda: echo.heard == b"ping" + BODY)
                # That the server left is not said either.
                echo.writers[0].close()
                await hears_nothing(reader)
                assert proxy.open == 1
            await eventually(lambda: proxy.open == 0)

    async def test_half_open_counted_by_what_the_client_said(self):
        async with behind_a_proxy(Fault("half_open", after=8, counted="client")) as (echo, proxy):
            async with connected(proxy) as (reader, writer):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                writer.write(b"pong")
                await hears_nothing(reader)
                assert echo.heard == b"pingpong"
            await eventually(lambda: proxy.open == 0)


class TestWho:
    async def test_faults_of_the_next_connections_are_theirs_alone(self):
        async with behind_a_proxy() as (_, proxy):
            proxy.next_faults = [Fault("refuse"), Fault("cut", after=3)]
            async with connected(proxy) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            async with connected(proxy) as (first, writing), connected(proxy) as (second, writer):
                writer.write(b"whole")
                assert await second.readexactly(5) == b"whole"
                writing.write(b"part")
                assert await first.readexactly(3) == b"par"
                with pytest.raises(ConnectionResetError):
                    await first.read()
                writer.write(b"whole")
                assert await second.readexactly(5) == b"whole"
            assert proxy.opened == 3

    async def test_a_fault_befalls_all_until_it_is_changed(self):
        async with behind_a_proxy() as (_, proxy), connected(proxy) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            proxy.fault = Fault("cut")
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            async with connected(proxy) as (reader, writer):
                writer.write(b"x")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            proxy.fault = Fault()
            async with connected(proxy) as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"

    @pytest.mark.parametrize("fault", [Fault(), Fault("black_hole"), Fault("half_open")])
    async def test_it_hangs_up_on_all_that_are_open(self, fault):
        async with behind_a_proxy(fault) as (_, proxy):
            async with connected(proxy) as (first, one), connected(proxy) as (second, other):
                one.write(b"x")
                other.write(b"x")
                await eventually(lambda: proxy.open == 2)
                await asyncio.to_thread(proxy.hang_up)
                async with asyncio.timeout(5):
                    await first.read()
                    await second.read()
                await eventually(lambda: proxy.open == 0)

    async def test_a_server_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        async with FaultProxy("127.0.0.1", port) as proxy, connected(proxy) as (reader, _):
            assert await reader.read() == b""
            await eventually(lambda: proxy.open == 0)

    @pytest.mark.parametrize("fault", [Fault(), Fault("black_hole"), Fault("half_open"), Fault(rate=100)])
    async def test_nothing_is_left_behind(self, fault):
        before = asyncio.all_tasks()
        async with Echo() as echo:
            async with FaultProxy("127.0.0.1", echo.port) as proxy:
                proxy.fault = fault
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                writer.write(BODY)
                await asyncio.sleep(0.05)
                assert proxy.open == 1
            assert proxy.open == 0
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.transport.abort()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
        await eventually(lambda: asyncio.all_tasks() == before)


class TestInAThread:
    @pytest.fixture
    def web(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(BODY)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(BODY)

            def log_message(self, *_):
                pass

        threads = threading.active_count()
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            running.start()
            try:
                with proxy_in_thread("127.0.0.1", server.server_port) as proxy:
                    yield proxy
            finally:
                server.shutdown()
                running.join()
        assert threading.active_count() <= threads

    def get(self, proxy, patience=20.0):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=patience)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read()
        finally:
            connection.close()

    def test_a_blocking_client_gets_its_answer(self, web):
        assert self.get(web) == BODY
        assert web.opened == 1
        assert web.passed["server"] > len(BODY)

    def test_many_at_once(self, web):
        answers = []
        readers = [threading.Thread(target=lambda: answers.append(self.get(web))) for _ in range(20)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert answers == [BODY] * 20
        assert web.opened == 20

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault("refuse"), ConnectionResetError),
            (Fault("cut", after=1000), (ConnectionResetError, http.client.IncompleteRead)),
            (Fault("black_hole"), TimeoutError),
            (Fault("half_open", after=1000), TimeoutError),
        ],
        ids=lambda one: one.kind if isinstance(one, Fault) else "",
    )
    def test_a_fault_reaches_it_and_the_next_one_is_well(self, web, fault, error):
        web.next_faults = [fault]
        with pytest.raises(error):
            self.get(web, patience=0.3)
        assert self.get(web) == BODY

    def test_a_slow_answer(self, web):
        web.fault = Fault(latency=(0.0, 0.01), rate=2**22)
        began = time.monotonic()
        assert self.get(web) == BODY
        assert time.monotonic() - began > len(BODY) / 2**22
