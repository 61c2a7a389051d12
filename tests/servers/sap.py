"""SAP's own OData server (CAP), serving the model in ``cap/`` as V4 and as V2.

Its package @sap/cds is under the SAP Developer License: for development and tests only. npm installs it on first use;
nothing of it is kept in this repository or delivered.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.environments import NotInstalled, modules

_START_SECONDS = 60.0
_MODEL = Path(__file__).with_name("cap")
# Requests that only ask or reset the double itself.
_OURS = ("GET /shop/$metadata", "POST /shop/reset")


@dataclass(frozen=True)
class Cap:
    """A running server.

    Attributes:
        url: Where it listens; see v4 and v2 for its services.
    """

    url: str
    user: str = "alice"
    password: str = "wonder"

    @property
    def v4(self) -> str:
        return f"{self.url}/shop"

    @property
    def v2(self) -> str:
        return f"{self.url}/odata/v2/shop"

    def send(self, method: str, path: str, body: Any = None, *, user: str | None = None) -> tuple[int, Any]:
        """Send a request and return its status and what it says."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data=data, method=method)
        token = base64.b64encode((user or f"{self.user}:{self.password}").encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        with contextlib.suppress(ValueError):
            return status, json.loads(text)
        return status, text

    def reset(self) -> None:
        """Put every row back as it was at the start."""
        status, said = self.send("POST", "shop/reset", {})
        assert status == 204, said
        self.seen()

    def seen(self) -> list[str]:
        """Return the requests since the last time, V2 before they are translated to V4 and after."""
        return [line for line in self.send("GET", "seen")[1] if not line.startswith(_OURS)]


@contextlib.contextmanager
def cap() -> Iterator[Cap]:
    """Run the server on a free port of the loopback; it ends with us, however that is."""
    try:
        node, folder = modules(_MODEL / "package.json")
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="cap-") as temporary:
        project = Path(temporary) / "cap"
        shutil.copytree(_MODEL, project)
        installed = folder / "node_modules"
        (project / "node_modules").symlink_to(installed)
        # The server needs a newer node than many systems have: it comes with its packages.
        own = next(iter(sorted(installed.glob("node-*/bin/node"))), Path(node))
        command = [own, installed / ".bin" / "cds-serve"]
        log = Path(temporary) / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                command,
                cwd=project,
                stdin=subprocess.PIPE,
                stdout=written,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PORT": str(port), "CDS_CONFIG": '{"server": {"host": "127.0.0.1"}}'},
            )
        server = Cap(f"http://127.0.0.1:{port}")
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(server):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"CAP did not start: {log.read_text('utf-8')[-2000:]}")
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.communicate()


def _answers(server: Cap) -> bool:
    try:
        return server.send("GET", "shop/Movements/$count")[1] == 1234
    except OSError:
        return False


@pytest.fixture(scope="session")
def cap_process() -> Iterator[Cap]:
    """One server for the whole session."""
    with cap() as server:
        yield server


@pytest.fixture
def cap_server(cap_process: Cap) -> Cap:
    """The server with every row as it was at the start."""
    cap_process.reset()
    return cap_process
