"""A TCP proxy that does to connections what networks do, at a known byte and for a known time."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import anyio
from anyio.from_thread import start_blocking_portal

_BLOCK = 2**16
_STEPS = 20
Side = Literal["client", "server"]


@dataclass(frozen=True)
class Fault:
    """What becomes of a connection; by default it works.

    Attributes:
        kind: ``refuse`` answers with RST, ``black_hole`` takes everything and answers nothing, ``cut`` sends RST to
            both sides, ``half_open`` lets the client speak and keeps what the server says, and that it left.
        after: How many bytes pass before it begins.
        at: What comes next when it begins, and does not pass; anything by default.
        counted: Whose bytes those are.
        latency: Seconds before what has come in goes on: to the server, to the client.
        rate: Bytes per second, in each direction.
    """

    kind: Literal["none", "refuse", "black_hole", "cut", "half_open"] = "none"
    after: int = 0
    at: bytes = b""
    counted: Side = "server"
    latency: tuple[float, float] = (0.0, 0.0)
    rate: int | None = None


class FaultProxy:
    """Stands on a port of the loopback between clients and a server, as an async context manager.

    A connection whose fault has begun keeps it, whatever is set later: no network makes a stream with a hole in it.

    Args:
        host: The server's IPv4 address.
        port: Its port.

    Attributes:
        port: Where clients connect.
        fault: What befalls connections, those that are open too; may be set at any time and from any thread.
        next_faults: What befalls the next connections instead, one each, for life.
        opened: How many connections were made so far, refused ones too.
        passed: How many bytes went on, by who said them.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.fault = Fault()
        self.next_faults: list[Fault] = []
        self.opened = 0
        self.passed: dict[Side, int] = {"client": 0, "server": 0}
        self._server = (host, port)
        self._clients: set[socket.socket] = set()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._clients)

    def hang_up(self) -> None:
        """End every connection that is open now, also one that has gone silent. Any thread may call this."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    async def __aenter__(self) -> FaultProxy:
        async with contextlib.AsyncExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(self._accept, listener)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    async def _accept(self, listener: socket.socket) -> None:
        async with anyio.create_task_group() as group:
            while True:
                await anyio.wait_readable(listener)
                # A client may have left between the two calls.
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    client, _ = listener.accept()
                    own = self.next_faults.pop(0) if self.next_faults else None
                    self.opened += 1
                    self._clients.add(client)
                    group.start_soon(self._serve, client, own)

    async def _serve(self, client: socket.socket, own: Fault | None) -> None:
        fault = own or self.fault
        try:
            with client, socket.socket() as server:
                client.setblocking(False)
                if fault.kind == "refuse":
                    _reset(client)
                elif fault == Fault("black_hole"):
                    await _swallow(client)
                else:
                    await _connect(server, self._server)
                    await _Link(self, client, server, own).carry()
        except OSError:
            # It ends this connection and nothing else.
            return
        finally:
            self._clients.remove(client)


@contextlib.contextmanager
def proxy_in_thread(host: str, port: int) -> Iterator[FaultProxy]:
    """Run a proxy in a thread with a loop of its own, for a test that blocks or runs loops itself."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(FaultProxy(host, port)) as proxy:
        yield proxy


class _Link:
    """A connection through the proxy."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket, own: Fault | None) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._own = own
        self._passed: dict[Side, int] = {"client": 0, "server": 0}
        self._begun = False
        self._scope = anyio.CancelScope()

    async def carry(self) -> None:
        """Forward both ways until both sides have left or were cut off."""
        for side in (self._client, self._server):
            # Nagle's algorithm and delayed acknowledgements together would add latency that nobody asked for.
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._pump, self._client, self._server, "client")
                group.start_soon(self._pump, self._server, self._client, "server")

    async def _pump(self, source: socket.socket, sink: socket.socket, who: Side) -> None:
        try:
            while await self._forward(source, sink, who):
                pass
        except OSError:
            self._cut()

    async def _forward(self, source: socket.socket, sink: socket.socket, who: Side) -> bool:
        """Forward what comes next; tell whether more can come."""
        await anyio.wait_readable(source)
        fault = self._own or self._proxy.fault
        # No more than goes on at once: what stays in the kernel holds the sender back and meets the next fault.
        data = source.recv(max(1, fault.rate // _STEPS) if fault.rate else _BLOCK)
        left = self._left(fault, who, data)
        await self._send(sink, data[:left], who, fault)
        if left is None:
            if not data:
                sink.shutdown(socket.SHUT_WR)
            return bool(data)
        if fault.kind in ("black_hole", "half_open"):
            await _swallow(source)
        if fault.kind in ("cut", "refuse") or who == "client":
            self._cut()
        return False

    def _left(self, fault: Fault, who: Side, data: bytes) -> int | None:
        """Return how much of a block passes where the fault begins or goes on; None where it does not."""
        left = 0
        if fault.kind == "none":
            return None
        if not self._begun:
            left = max(0, fault.after - self._passed[fault.counted])
            if who != fault.counted:
                left = -1 if left or fault.at else 0
            elif fault.at:
                left = data.find(fault.at, left)
            if not 0 <= left <= len(data):
                return None
            self._own, self._begun = fault, True
        return None if fault.kind == "half_open" and who == "client" else left

    async def _send(self, sink: socket.socket, data: bytes, who: Side, fault: Fault) -> None:
        wait = fault.latency[who == "server"] + (len(data) / fault.rate if fault.rate else 0.0)
        if data and wait:
            await anyio.sleep(wait)
        # Counted first: who has received them may look at once.
        self._passed[who] += len(data)
        self._proxy.passed[who] += len(data)
        rest = memoryview(data)
        while rest:
            await anyio.wait_writable(sink)
            rest = rest[sink.send(rest) :]

    def _cut(self) -> None:
        _reset(self._client)
        _reset(self._server)
        self._scope.cancel()


async def _connect(server: socket.socket, address: tuple[str, int]) -> None:
    server.setblocking(False)
    server.connect_ex(address)
    await anyio.wait_writable(server)
    if refused := server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(refused, os.strerror(refused))


async def _swallow(source: socket.socket) -> None:
    """Take what comes until the other side leaves."""
    await anyio.wait_readable(source)
    while source.recv(_BLOCK):
        await anyio.wait_readable(source)


def _reset(side: socket.socket) -> None:
    """Let close() send RST instead of FIN (SO_LINGER of socket(7), with a time of zero)."""
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
