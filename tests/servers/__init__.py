"""Emulators that tests talk to, each in an environment of its own: none of them is a dependency of the product."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments import NotInstalled, environment

_START_SECONDS = 30.0
# It ends with its standard input, which nobody but us holds open: so it ends when we do, however that is.
_SERVER = """
import os, sys, threading
def follow():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=follow, daemon=True).start()
from moto.server import main
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Moto:
    """An emulator of S3."""

    url: str

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        self._send("PUT", name)
        return name

    def check_credentials(self, *, after: int | None) -> None:
        """Refuse unknown credentials after so many requests from now on; None takes any."""
        body = ("inf" if after is None else str(after)).encode()
        self._send("POST", "moto-api/reset-auth", body)

    def _send(self, method: str, path: str, body: bytes | None = None) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/{path}", data=body, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def moto() -> Iterator[Moto]:
    """Run moto's server on a free port of the loopback."""
    try:
        python = environment(Path(__file__).with_name("moto.txt"))
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(python), "-c", _SERVER, "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = Moto(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                server._send("GET", "moto-api/")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("moto's server did not start")
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Moto]:
    """An emulator of S3 for the whole session."""
    with moto() as server:
        yield server
