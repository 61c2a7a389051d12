"""Emulators that tests talk to, each in an environment of its own: none of them is a dependency of the product."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

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
    python = _environment("moto")
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


def _environment(name: str) -> Path:
    """Return the Python of an emulator's environment, made from its requirements on first use."""
    requirements = Path(__file__).with_name(f"{name}.txt")
    stamp = f"{sys.version_info[:2]} {requirements.read_text('utf-8')}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orchestra-blueprints"
    made = cache / f"{name}-{hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()}"
    if not made.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
        try:
            _install(making, requirements)
            with contextlib.suppress(OSError):  # another worker was first
                making.rename(made)
        except (OSError, subprocess.CalledProcessError) as error:
            message = f"{name} cannot be installed: {error}"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return made / "bin" / "python"


def _install(folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv")
    python = str(folder / "bin" / "python")
    if uv is not None:
        commands = [
            [uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "-q", "--python", python, "-r", str(requirements)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(requirements)],
        ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=600)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Moto]:
    """An emulator of S3 for the whole session."""
    with moto() as server:
        yield server
