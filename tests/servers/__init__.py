"""Emulators that tests talk to, each in an environment of its own: none of them is a dependency of the product."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.environments import NotInstalled, environment, modules

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
_NODE_SERVER = """
process.stdin.resume().on('end', () => process.exit());
const [main, ...flags] = process.argv.slice(1);
process.argv = [process.argv[0], main, ...flags];
require(main);
"""
FoundT = TypeVar("FoundT")


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


@dataclass(frozen=True)
class Azurite:
    """Microsoft's emulator of Azure Blob Storage; the account and its key are those of its documentation."""

    url: str
    account: str = "devstoreaccount1"
    key: str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def options(self) -> dict[str, object]:
        """Return the keys of a place in it."""
        return {"endpoint": self.url, "allow_http": True, "account_name": self.account, "account_key": self.key}

    def make_container(self, name: str) -> str:
        """Make a container and return its name (REST API reference, "Create Container" and "Authorize with Shared Key")."""
        when = formatdate(usegmt=True)
        headers = {"x-ms-date": when, "x-ms-version": "2023-11-03"}
        lines = [f"{name}:{value}" for name, value in headers.items()]
        resource = f"/{self.account}/{self.account}/{name}\nrestype:container"
        signed = "\n".join(["PUT", *[""] * 11, *lines, resource])
        digest = hmac.new(base64.b64decode(self.key), signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        url = f"{self.url}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT"), timeout=10):
            return name


@dataclass(frozen=True)
class FakeSnowflake:
    """An emulator of Snowflake."""

    port: int

    def make_database(self, *, alone: bool = False) -> str:
        """Make a database and return its name; alone: its sessions end when somebody logs in to it again."""
        name = f"{'ALONE' if alone else 'DB'}_{uuid.uuid4().hex[:8].upper()}"
        self.rows(name, f"create database if not exists {name}")
        return name

    def options(self, database: str) -> dict[str, object]:
        """Return the keys of a destination."""
        return {
            "account": "fakesnow",
            "user": "fake",
            "password": "snow",
            "database": database,
            "host": "127.0.0.1",
            "port": self.port,
            "protocol": "http",
        }

    def rows(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in a session of their own and return the rows of the last one."""
        import snowflake.connector

        options = self.options(database)
        with snowflake.connector.connect(**options, network_timeout=5) as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]


@dataclass(frozen=True)
class FakeBigQuery:
    """An emulator of BigQuery."""

    port: int

    def make_project(self) -> str:
        """Return the name of a project that nothing is in yet."""
        return f"p-{uuid.uuid4().hex[:8]}"

    def options(self, project: str) -> dict[str, object]:
        """Return the keys of a destination."""
        return {"project": project, "api_endpoint": f"http://127.0.0.1:{self.port}"}

    def client(self, project: str) -> Any:
        """Return a client of a project."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        place = {"api_endpoint": f"http://127.0.0.1:{self.port}"}
        return bigquery.Client(project, credentials=AnonymousCredentials(), client_options=place)  # type: ignore[no-untyped-call]

    def rows(self, project: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements one by one and return the rows of the last one."""
        found: list[tuple[Any, ...]] = []
        with contextlib.closing(self.client(project)) as client:
            for statement in statements:
                job = client.query(statement, retry=None, job_retry=None)
                found = [tuple(row.values()) for row in job.result(retry=None)]
        return found


def _installed(requirements: str, how: Callable[[Path], FoundT]) -> FoundT:
    """Return what an environment holds; without one the tests that need it are skipped, except in CI."""
    try:
        return how(Path(__file__).with_name(requirements))
    except NotInstalled as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextlib.contextmanager
def _serving(requirements: str, command: Callable[[int], Sequence[str | Path]], path: str = "") -> Iterator[int]:
    """Run a server in its own environment on a free port of the loopback, which is yielded."""
    python = _installed(requirements, environment)
    with _running(requirements, lambda port: [python, *command(port)], path) as port:
        yield port


@contextlib.contextmanager
def _running(name: str, command: Callable[[int], Sequence[str | Path]], path: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        list(command(port)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10):
                    break
            except urllib.error.HTTPError:  # it answers
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server of {name} did not start")
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def moto() -> Iterator[Moto]:
    """Run moto's server on a free port of the loopback."""
    with _serving("moto.txt", lambda port: ["-c", _SERVER, "-H", "127.0.0.1", "-p", str(port)], "moto-api/") as port:
        yield Moto(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def azurite() -> Iterator[Azurite]:
    """Run Azurite's blob service on a free port of the loopback."""
    node, folder = _installed("azurite.json", modules)
    main = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"

    def command(port: int) -> list[str]:
        flags = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost"]
        return [node, "-e", _NODE_SERVER, "--", str(main), *flags, "127.0.0.1", "--blobPort", str(port)]

    with _running("azurite.json", command, "devstoreaccount1") as port:
        yield Azurite(f"http://127.0.0.1:{port}/devstoreaccount1")


@contextlib.contextmanager
def fake_snowflake() -> Iterator[FakeSnowflake]:
    """Run fakesnow's server on a free port of the loopback."""
    script = Path(__file__).with_name("snowflake_server.py")
    with _serving("snowflake.txt", lambda port: [script, str(port)]) as port:
        yield FakeSnowflake(port)


@contextlib.contextmanager
def fake_bigquery() -> Iterator[FakeBigQuery]:
    """Run bqemulator's server on a free port of the loopback."""
    script = Path(__file__).with_name("bigquery_server.py")
    with _serving("bigquery.txt", lambda port: [script, str(port)]) as port:
        yield FakeBigQuery(port)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Moto]:
    """An emulator of S3 for the whole session."""
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def azure_server() -> Iterator[Azurite]:
    """Microsoft's emulator of Azure Blob Storage for the whole session."""
    with azurite() as server:
        yield server


@pytest.fixture(scope="session")
def snowflake_server() -> Iterator[FakeSnowflake]:
    """An emulator of Snowflake for the whole session."""
    with fake_snowflake() as server:
        yield server


@pytest.fixture(scope="session")
def bigquery_server() -> Iterator[FakeBigQuery]:
    """An emulator of BigQuery for the whole session."""
    with fake_bigquery() as server:
        yield server
