"""Files that come: into buckets of S3, Azure and Google, onto a server with SFTP, into a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import asyncssh
import pytest

from connectors.files import FilesConfig, locate
from connectors.testing.buckets import Buckets
from runner.clock import SystemClock
from runner.errors import (
    CredentialsRejected,
    DatabaseMissing,
    PermissionMissing,
    RunnerError,
    SourceDown,
    SourceRefused,
    Throttled,
    Unreachable,
)
from runner.objectstore import open_store
from runner.testing.proxy import Fault, FaultProxy
from sensors.room import Room
from sensors.sensor import Setting
from sensors.testing import Bench, Kept
from sensors.types.files import FilesSensor

if TYPE_CHECKING:
    from tests.servers import Azurite, Moto

pytest_plugins = ("tests.servers",)


@dataclass
class Place:
    """Somewhere that files can be put."""

    options: dict[str, Any]
    put: Callable[[str, bytes], Any]
    remove: Callable[[str], Any]
    raw: bool = True


def _bucket(url: str, options: dict[str, Any]) -> Place:
    config = FilesConfig.model_validate({"url": url, **options})
    opened = open_store(url, config.store_options(), allow_http=config.allow_http)
    return Place(
        {"url": url, **options},
        lambda path, data: opened.api.put(opened.store, path, data),
        lambda path: opened.api.delete(opened.store, path),
    )


def _folder(root: Path, options: dict[str, Any]) -> Place:
    def put(path: str, data: bytes) -> None:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.stat().st_mtime_ns if file.exists() else 0
        file.write_bytes(data)
        # Servers tell whole seconds.
        changed = max(before + 10**9, file.stat().st_mtime_ns)
        os.utime(file, ns=(changed, changed))

    return Place(options, put, lambda path: (root / path).unlink(), raw=False)


class Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("ada", "a-good-password")


@dataclass
class Sftp:
    """A server with SFTP in this process."""

    root: Path
    port: int
    host_key: str
    client_key: str
    connections: set[Any] = field(default_factory=set)

    def options(self, folder: str = "in", **more: Any) -> dict[str, Any]:
        own = {"url": f"sftp://127.0.0.1:{self.port}/{folder}", "user": "ada", "host_key": self.host_key}
        signed = {} if "private_key" in more else {"password": "a-good-password"}
        return {**own, **signed, **more}


@pytest.fixture
async def sftp(tmp_path: Path) -> AsyncIterator[Sftp]:
    root = tmp_path / "served"
    (root / "in").mkdir(parents=True)
    key, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    authorized = tmp_path / "authorized"
    authorized.write_bytes(client.export_public_key())
    connections: set[Any] = set()

    class Kept(Login):
        def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
            connections.add(connection)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Kept, server_host_keys=[key], authorized_client_keys=str(authorized),
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(root)),
    )  # fmt: skip
    try:
        made = key.export_public_key().decode().strip()
        yield Sftp(root, server.get_port(), made, client.export_private_key().decode(), connections)
    finally:
        server.close()
        for connection in connections:
            connection.abort()
        await server.wait_closed()


@pytest.fixture(params=["s3", "az", "gs", "sftp", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    name = f"landing-{uuid.uuid4().hex[:12]}"
    kind: str = request.param
    if kind == "s3":
        moto: Moto = request.getfixturevalue("s3_server")
        moto.make_bucket(name)
        keys = {"access_key_id": "an-id", "secret_access_key": "a-very-secret-key"}
        yield _bucket(f"s3://{name}/in", {"endpoint": moto.url, "region": "us-east-1", "allow_http": True, **keys})
    elif kind == "az":
        azure: Azurite = request.getfixturevalue("azure_server")
        yield _bucket(f"az://{azure.make_container(name)}/in", azure.options())
    elif kind == "gs":
        with Buckets() as double:
            double.buckets[name] = {}
            account = double.service_account()
            yield _bucket(f"gs://{name}/in", {"service_account_key": account, "allow_http": True})
    elif kind == "sftp":
        server: Sftp = request.getfixturevalue("sftp")
        yield _folder(server.root / "in", server.options())
    else:
        (tmp_path / "in").mkdir()
        yield _folder(tmp_path / "in", {"url": str(tmp_path / "in")})


@contextlib.asynccontextmanager
async def watching(options: dict[str, Any], start: Any = "beginning", **more: Any) -> AsyncIterator[Bench]:
    kept = Kept()
    async with Room(SystemClock(), kept) as room:
        setting = Setting("files", {"settle": "0s", **options, **more}, start=start)
        yield Bench(FilesSensor(setting, room), kept)


async def fired(bench: Bench) -> list[str]:
    return [event.values["path"] for event in await bench.poll()]


async def test_files_come_change_and_go(place: Place) -> None:
    put, remove = place.put, place.remove

    async def do(function: Callable[..., Any], *arguments: Any) -> None:
        await anyio.to_thread.run_sync(lambda: function(*arguments))

    async with watching(place.options, match="*.csv", exclude="old/**") as bench:
        assert await fired(bench) == [] or place.raw
        for path in ("a/b.csv", "a.csv", "a-b.csv", "ü ß#1%.csv", "note.txt", "old/x.csv"):
            await do(put, path, b"1")
        await do(put, "empty.csv", b"")
        assert sorted(await fired(bench)) == ["a-b.csv", "a.csv", "a/b.csv", "ü ß#1%.csv"]
        first = next(event for event in bench.fired if event.values["path"] == "a/b.csv")
        assert first.values["name"] == "b.csv"
        assert first.values["size"] == 1
        assert first.values["url"].endswith("/in/a/b.csv")
        assert first.values["url"].startswith((bench.sensor.describe(), "file://"))
        assert first.at is not None
        assert abs((datetime.now(UTC) - first.at).total_seconds()) < 60
        assert await fired(bench) == []
        assert bench.notes[-1] == "5 files, none new, 1 settling or empty"
        await do(put, "a.csv", b"22")
        await do(put, "empty.csv", b"333")
        assert sorted(await fired(bench)) == ["a.csv", "empty.csv"]
        await do(remove, "a-b.csv")
        assert await fired(bench) == []
        assert "1 gone" in bench.notes[-1]
        await do(put, "a-b.csv", b"4444")
        assert await fired(bench) == ["a-b.csv"]
        assert len({event.key for event in bench.fired}) == len(bench.fired) == 7


async def test_pages_are_in_order_and_go_on_after_any_path(place: Place) -> None:
    names = ["a-b", "a.b", "a/b", "a/b/c", "ab", "b c", "é", "￮", "😀"]
    names = names if place.raw else [name for name in names if name != "a/b"]
    if place.options["url"].startswith("az:"):
        names.pop()  # Azurite compares UTF-16

    def fill() -> None:
        for name in names:
            place.put(name, b"x")

    await anyio.to_thread.run_sync(fill)
    place_ = locate(FilesConfig.model_validate(place.options), Path())
    async with place_.connect() as lister:
        for after in (None, *names):
            pages = [page async for page in lister.pages(place_.folder, after)]
            found = [file.path for page in pages for file in page]
            assert found == names[names.index(after) + 1 if after else 0 :]


async def test_thousands_of_keys(s3_server: Moto) -> None:
    bucket = s3_server.make_bucket(f"many-{uuid.uuid4().hex[:12]}")
    keys = {"access_key_id": "an-id", "secret_access_key": "a-very-secret-key"}
    options = {"endpoint": s3_server.url, "region": "us-east-1", "allow_http": True, **keys}
    place = _bucket(f"s3://{bucket}/in", options)

    def fill() -> None:
        for number in range(1010):
            place.put(f"{number:05}", b"x")

    await anyio.to_thread.run_sync(fill)
    async with watching(place.options) as bench:
        assert len(await fired(bench)) == 1010
        assert await fired(bench) == []


# The double: counts and faults.


@pytest.fixture
def double() -> Any:
    with Buckets(keys=["an-id"]) as running:
        running.put("landing", *(f"in/{number:05}.csv" for number in range(3500)))
        yield running


def _s3(double: Buckets, **more: Any) -> dict[str, Any]:
    keys = {"access_key_id": "an-id", "secret_access_key": "a-very-secret-key"}
    where = {"url": "s3://landing/in", "endpoint": double.url, "region": "us-east-1", "allow_http": True}
    return {**where, **keys, **more}


async def test_every_key_of_many_pages_fires_once(double: Buckets) -> None:
    async with watching(_s3(double)) as bench:
        found = await fired(bench)
        assert sorted(found) == [f"{number:05}.csv" for number in range(3500)]
        double.seen.clear()
        assert await fired(bench) == []
        assert double.count("list-type=2") == 4


async def test_a_listing_that_fails_loses_nothing_and_doubles_nothing(double: Buckets) -> None:
    async with watching(_s3(double), start="now") as bench:
        assert await fired(bench) == []
        double.put("landing", "in/00500-new.csv", "in/03000-new.csv")
        fault = double.fail("status", "continuation-token", times=100, status=503)
        with pytest.raises(SourceDown, match="503"):
            await bench.poll()
        fault.times = 0
        assert await fired(bench) == ["00500-new.csv", "03000-new.csv"]
        assert await fired(bench) == []


async def test_sensors_of_one_folder_cost_one_listing(double: Buckets) -> None:
    kept = Kept()
    async with Room(SystemClock(), kept) as room:
        own = [("even", "*[02468].csv"), ("odd", "*[13579].csv"), ("none", "*.json")]
        settings = [Setting(name, _s3(double, match=match)) for name, match in own]
        benches = [Bench(FilesSensor(setting, room), kept) for setting in settings]
        for bench in benches:
            await bench.poll()
        double.put("landing", "in/x1.csv", "in/x2.csv")
        double.seen.clear()
        async with anyio.create_task_group() as group:
            for bench in benches:
                group.start_soon(bench.poll)
        assert [[event.values["path"] for event in bench.fired] for bench in benches] == [["x2.csv"], ["x1.csv"], []]
        assert double.count("list-type=2") == 4


async def test_names_that_only_rise_are_listed_from_the_last(double: Buckets) -> None:
    async with watching(_s3(double), start="now", append_only=True) as bench:
        assert await fired(bench) == []
        assert bench._kept.texts == {}
        double.seen.clear()
        double.put("landing", "in/03500.csv")
        double.put("landing", "in/03501.csv", data=b"")
        double.put("landing", "in/03502.csv")
        assert sorted(await fired(bench)) == ["03500.csv", "03502.csv"]
        double.put("landing", "in/03501.csv")
        assert await fired(bench) == ["03501.csv"]
        assert await fired(bench) == []
        assert bench._kept.texts == {}
        assert double.count("list-type=2") == 3


async def test_keys_that_have_no_place_among_paths(double: Buckets) -> None:
    double.buckets["landing"] = {}
    double.put("landing", "in/", "in/a/", "in/b/", data=b"")
    double.put("landing", "in/a/1", "in/a-1", "in/b", "in/b/1")
    async with watching(_s3(double)) as bench:
        assert sorted(await fired(bench)) == ["a-1", "a/1", "b", "b/1"]
        del double.buckets["landing"]["in/a-1"]
        assert await fired(bench) == []
        assert "1 gone" in bench.notes[-1]
        double.put("landing", "in/c//1")
        with pytest.raises(SourceRefused, match="c//1"):
            await bench.poll()


# What keeps it from looking.


async def _refused(options: dict[str, Any], kind: type[RunnerError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        async with watching(options) as bench:
            await bench.poll()
    text = repr(caught.value.record())
    for secret in ("a-very-secret-key", "a-good-password", "a-wrong-password", "an-id"):
        assert secret not in text


async def test_refusals_of_s3(s3_server: Moto, unused_tcp_port: int, double: Buckets) -> None:
    bucket = s3_server.make_bucket(f"shut-{uuid.uuid4().hex[:12]}")
    good = _s3(double, endpoint=s3_server.url, url=f"s3://{bucket}/in")
    await _refused({**good, "url": "s3://no-such-bucket-here/in"}, DatabaseMissing, "no such bucket")
    await _refused({**good, "endpoint": f"http://127.0.0.1:{unused_tcp_port}"}, Unreachable, "does not answer")
    await _refused(_s3(double, access_key_id="somebody"), CredentialsRejected, "InvalidAccessKeyId")
    double.fail("status", status=403, body="<Error><Code>AccessDenied</Code></Error>")
    await _refused(_s3(double), PermissionMissing, "AccessDenied")
    double.fail("status", status=503, body="<Error><Code>SlowDown</Code></Error>", times=100)
    await _refused(_s3(double), Throttled, "asks to slow down")
    s3_server.check_credentials(after=0)
    try:
        await _refused(good, CredentialsRejected, "rejected the credentials")
    finally:
        s3_server.check_credentials(after=None)


async def test_refusals_of_azure(azure_server: Azurite) -> None:
    container = azure_server.make_container(f"shut-{uuid.uuid4().hex[:12]}")
    good = {"url": f"az://{container}/in", **azure_server.options()}
    await _refused({**good, "url": "az://nothing-here/in"}, DatabaseMissing, "no such bucket")
    await _refused({**good, "account_key": "YW5vdGhlcg=="}, RunnerError, "credentials")


async def test_refusals_of_a_server(sftp: Sftp, tmp_path: Path, unused_tcp_port: int) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    known = tmp_path / "known_hosts"
    known.write_text("")
    stranger = sftp.options(host_key=other.export_public_key().decode())
    await _refused(stranger, SourceRefused, "host key that is not trusted")
    await _refused({**sftp.options(host_key=None), "known_hosts": str(known)}, SourceRefused, "not trusted")
    await _refused(sftp.options(password="a-wrong-password"), CredentialsRejected, "rejected the user")
    key = other.export_private_key().decode()
    await _refused(sftp.options(private_key=key), CredentialsRejected, "rejected the user")
    await _refused(sftp.options("nowhere"), SourceRefused, "no such folder: sftp://127.0.0.1:.*/nowhere")
    await _refused({**sftp.options(), "url": f"sftp://127.0.0.1:{unused_tcp_port}/in"}, Unreachable, "does not answer")


async def test_servers_that_are_trusted(sftp: Sftp, tmp_path: Path) -> None:
    (sftp.root / "in" / "a").write_text("1")
    (sftp.root / "in" / "link").symlink_to("a")
    (sftp.root / "in" / "broken").symlink_to("nothing")
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sftp.port} {sftp.host_key}\n")
    plain = sftp.options(host_key=None)
    for options in (
        sftp.options(host_key=f"127.0.0.1 {sftp.host_key}"),
        {**plain, "known_hosts": str(known)},
        {**plain, "known_hosts": False},
        sftp.options(private_key=sftp.client_key),
        sftp.options("~/in"),
    ):
        async with watching(options) as bench:
            assert sorted(await fired(bench)) == ["a", "link"]


async def test_a_connection_that_is_gone_is_opened_again(sftp: Sftp) -> None:
    async with FaultProxy("127.0.0.1", sftp.port) as proxy:
        options = {**sftp.options(), "url": f"sftp://127.0.0.1:{proxy.port}/in"}
        async with watching(options) as bench:
            (sftp.root / "in" / "a").write_text("1")
            assert await fired(bench) == ["a"]
            (sftp.root / "in" / "b").write_text("1")
            proxy.hang_up()
            assert await fired(bench) == ["b"]
            # In the middle of an answer.
            (sftp.root / "in" / "bbb").write_text("1")
            proxy.next_faults = [Fault()]
            proxy.fault = Fault("cut", after=1)
            assert await fired(bench) == ["bbb"]
            proxy.fault = Fault()
            # It is there, and hangs up on everybody.
            proxy.fault = Fault("refuse")
            proxy.hang_up()
            (sftp.root / "in" / "c").write_text("1")
            with pytest.raises(SourceDown):
                await bench.poll()
            proxy.fault = Fault()
            assert await fired(bench) == ["c"]
            assert proxy.opened <= 6


async def test_a_file_that_grows_is_not_taken_before_it_is_whole(sftp: Sftp) -> None:
    file = sftp.root / "in" / "a"
    async with watching({**sftp.options(), "settle": "100ms"}) as bench:
        file.write_text("1")
        assert await fired(bench) == []
        await asyncio.sleep(0.11)
        file.write_text("12")
        assert await fired(bench) == []
        await asyncio.sleep(0.11)
        assert await fired(bench) == ["a"]
