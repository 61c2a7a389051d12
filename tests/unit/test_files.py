"""Files: patterns, options, walks in order, and what a sensor makes of one listing after another."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.files import FileInfo, FilesConfig, Globs, in_order, locate
from connectors.files.local import Folder, _Tree
from connectors.files.walk import walk
from runner.errors import SensorError, SourceDown, SourceRefused, UsageError
from runner.testing.clock import ManualClock
from sensors.placing import load_sensors
from sensors.room import Room
from sensors.sensor import Polled, Setting
from sensors.testing import Bench, Kept
from sensors.types.files import FilesSensor

_DAY = datetime(2024, 1, 1, tzinfo=UTC)


# Patterns and options.


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.csv", ["a.csv", "x/y/a.csv"], ["a.CSV", "a.csv/b", "a.csv.gz"]),
        ("in/*.csv", ["in/a.csv"], ["in/x/a.csv", "x/in/a.csv", "a.csv"]),
        ("in/**/a?.csv", ["in/a1.csv", "in/x/y/a1.csv"], ["in/a.csv", "a1.csv"]),
        ("**/old/**", ["old/a", "x/old/y/a"], ["older/a", "x/old"]),
        ("in/", ["in/a", "in/x/a", "x/in/a"], ["a", "in"]),
        ("**", ["a", "x/y"], []),
        ("[!_]*", ["a", "x/a"], ["_a", "x/_a"]),
        ("/a", ["a"], ["x/a"]),
        ("**/a/**/a/**/a", ["a/a/a", "/".join("a" * 40)], ["/".join("a" * 40) + "/b"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    globs = Globs([pattern])
    assert [path for path in yes + no if globs.match(path)] == yes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://host/x"}, "ftp://host/x is of no known kind"),
        ({"url": "in", "region": "eu"}, "a local folder takes no region"),
        ({"url": "s3://b/x", "password": "secret"}, "s3:// takes no password"),
        ({"url": "gs://b/x", "region": "eu"}, "gs:// takes no region"),
        ({"url": "sftp://h/x", "host_key": "k", "known_hosts": "f"}, "either host_key or known_hosts"),
        ({"url": "in", "batch_size": 5}, "batch_size needs batch"),
        ({"url": "in", "pattern": "*"}, "Extra inputs"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FilesSensor(Setting("files", options), Room(ManualClock()))


@pytest.mark.parametrize(
    ("options", "start", "words"),
    [
        ({"url": "s3:///x"}, "now", "names no bucket"),
        ({"url": "sftp:///x"}, "now", "names no host"),
        ({"url": "file://host/x"}, "now", "names another host"),
        ({"url": "in"}, "soon", "'soon' is no time"),
    ],
)
def test_places_that_are_none(options: dict[str, Any], start: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        FilesSensor(Setting("files", options, start=start), Room(ManualClock()))


def test_secrets_are_nowhere_to_be_seen() -> None:
    options = {"url": "sftp://ada:a-secret@host:2222/in", "passphrase": "a-secret", "private_key": "a-secret"}
    sensor = FilesSensor(Setting("files", options), Room(ManualClock()))
    assert sensor.describe() == "sftp://host:2222/in"
    assert "a-secret" not in f"{sensor.config!r} {sensor.setting!r} {sensor._place!r}"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"url": "s3://b/in/"}, {"url": "s3://b/in"}, (True, True)),
        ({"url": "s3://b/in"}, {"url": "s3://b/out"}, (True, False)),
        ({"url": "s3://b/in"}, {"url": "s3://c/in"}, (False, True)),
        ({"url": "s3://b/in"}, {"url": "s3://b/in", "secret_access_key": "other"}, (False, True)),
        ({"url": "sftp://ada@h/in"}, {"url": "sftp://h/in", "user": "ada"}, (True, True)),
        ({"url": "sftp://ada@h/in"}, {"url": "sftp://bob@h/in"}, (False, True)),
        ({"url": "in"}, {"url": "./in"}, (True, True)),
    ],
)
def test_what_is_shared(one: dict[str, Any], other: dict[str, Any], equal: tuple[bool, bool]) -> None:
    places = [locate(FilesConfig.model_validate(options), Path("/srv")) for options in (one, other)]
    assert (places[0].system == places[1].system, places[0].folder == places[1].folder) == equal


def test_the_example_of_a_team_makes_sensors() -> None:
    names = ("LANDING_BUCKET", "PARTNER_HOST", "PARTNER_KEY", "PARTNER_HOST_KEY", "EXPORT_BUCKET")
    file = Path(__file__).parents[2] / "orchestra" / "sensors" / "files.yml"
    placed = load_sensors(file, environ=dict.fromkeys(names, "x"))
    made = [FilesSensor(Setting(one.name, one.options), Room(ManualClock())) for one in placed.sensors]
    assert [sensor.describe() for sensor in made] == [
        "s3://x/suppliers", "s3://x/suppliers", "sftp://x/outgoing", "gs://x/events"
    ]  # fmt: skip
    assert (made[0].system, made[0].share) == (made[1].system, made[1].share)


# Walks.


async def test_a_tree_is_walked_in_the_order_of_whole_paths(tmp_path: Path) -> None:
    paths = ["a-b", "a.b", "a/b", "a/c/d", "a/c.d", "a0", "é/x", "é.x", "￮", "😀/1", "😀/2", "z/z/z/z"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nothing").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    paths.sort(key=in_order)
    folder = Folder(tmp_path)
    for after in (None, "a", "a/", "a/b/c", *paths):
        for names in (1, 2, 100):
            found = [file.path async for page in walk(_Tree(folder, tmp_path), after, names=names) for file in page]
            assert found == [path for path in paths if after is None or in_order(path) > in_order(after)]


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no such folder"):
        [page async for page in Folder(tmp_path / "x").pages()]


# One listing after another.


@dataclass
class Shelf:
    """A lister whose files a test puts and takes; implements ``connectors.files.Lister``."""

    clock: ManualClock
    files: dict[str, FileInfo] = field(default_factory=dict)
    listed: list[str | None] = field(default_factory=list)
    fails_after: int | None = None
    reverse: bool = False
    slow: float = 0.0

    def put(self, *paths: str, size: int = 1, modified: datetime | None = None) -> None:
        when = modified or self.clock.now()
        for path in paths:
            version = int(self.files[path].tag) + 1 if path in self.files else 1
            self.files[path] = FileInfo(path, size, when, str(version))

    def take(self, *paths: str) -> None:
        for path in paths:
            del self.files[path]

    async def pages(self, folder: str = "", start_after: str | None = None) -> AsyncGenerator[list[FileInfo], None]:
        self.listed.append(start_after)
        await self.clock.sleep(self.slow)
        paths = sorted(self.files, key=in_order, reverse=self.reverse)
        paths = [path for path in paths if start_after is None or in_order(path) > in_order(start_after)]
        for number, start in enumerate(range(0, len(paths), 1000)):
            if number == self.fails_after:
                raise SourceDown("The store does not answer.")
            yield [self.files[path] for path in paths[start : start + 1000]]


@dataclass
class Scene:
    clock: ManualClock
    shelf: Shelf
    kept: Kept
    room: Room

    async def sensor(self, start: Any = "beginning", name: str = "files", **options: Any) -> Bench:
        sensor = FilesSensor(Setting(name, {"url": "s3://landing/in", **options}, start=start), self.room)

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[Shelf]:
            yield self.shelf

        await self.room.connection(sensor.system, connect)
        return Bench(sensor, self.kept)

    def remembered(self) -> list[str]:
        return sorted(path for _, path in self.kept.texts)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock, kept = ManualClock(auto=True), Kept()
    opened, leave = asyncio.Future[Room](), asyncio.Event()

    # A fixture begins and ends in different tasks, a room does not.
    async def hold() -> None:
        async with Room(clock, kept) as room:
            opened.set_result(room)
            await leave.wait()

    holder = asyncio.create_task(hold())
    yield Scene(clock, Shelf(clock), kept, await opened)
    leave.set()
    await holder


async def fired(bench: Bench) -> list[str]:
    return [event.values["path"] for event in await bench.poll()]


async def test_what_is_there_at_first_is_taken_as_seen(scene: Scene) -> None:
    scene.shelf.put("a", "b")
    bench = await scene.sensor("now", settle="5m")
    assert await fired(bench) == []
    assert bench.notes == ["2 files, taken as seen"]
    await scene.clock.advance(600)
    scene.shelf.put("b")
    assert await fired(bench) == []
    await scene.clock.advance(300)
    assert await fired(bench) == ["b"]
    assert bench.notes[-2:] == ["2 files, none new, 1 settling or empty", "2 files, 1 new"]


async def test_a_start_may_be_a_time(scene: Scene) -> None:
    scene.shelf.put("old", modified=_DAY - timedelta(days=1))
    scene.shelf.put("new", modified=_DAY)
    assert await fired(await scene.sensor("2024-01-01T00:00:00Z")) == ["new"]


async def test_a_file_fires_when_it_has_settled(scene: Scene) -> None:
    bench = await scene.sensor(settle="10s")
    scene.shelf.put("a", "b")
    assert await fired(bench) == []
    await scene.clock.advance(9)
    scene.shelf.put("b")
    assert await fired(bench) == []
    await scene.clock.advance(1)
    assert await fired(bench) == ["a"]
    await scene.clock.advance(9)
    assert await fired(bench) == ["b"]
    assert [event.key for event in bench.fired] == ["a@1", "b@2"]


async def test_nothing_settles_in_one_poll(scene: Scene) -> None:
    bench = await scene.sensor(settle="1ms")
    scene.shelf.put("a")
    assert await fired(bench) == []
    await scene.clock.advance(1)
    assert await fired(bench) == ["a"]


async def test_the_time_that_a_look_takes_does_not_count(scene: Scene) -> None:
    bench = await scene.sensor(settle="5s")
    scene.shelf.put("a")
    scene.shelf.slow = 8.0
    assert await fired(bench) == []
    assert await fired(bench) == []
    await scene.clock.advance(5)
    assert await fired(bench) == ["a"]


@pytest.mark.parametrize(("rewritten", "keys"), [("fire", ["a@1", "a@2"]), ("ignore", ["a@1"])])
async def test_a_file_that_is_written_again(scene: Scene, rewritten: str, keys: list[str]) -> None:
    bench = await scene.sensor(rewritten=rewritten)
    scene.shelf.put("a")
    for _ in range(3):
        await bench.poll()
        if scene.shelf.files["a"].tag == "1":
            scene.shelf.put("a")
    assert [event.key for event in bench.fired] == keys


@pytest.mark.parametrize("rewritten", ["fire", "ignore"])
async def test_a_file_without_a_byte_is_no_file_yet(scene: Scene, rewritten: str) -> None:
    scene.shelf.put("a", size=0)
    bench = await scene.sensor("now", rewritten=rewritten)
    assert await fired(bench) == []
    scene.shelf.put("a")
    assert await fired(bench) == ["a"]
    # Emptied before it is filled again.
    scene.shelf.put("a", size=0)
    assert await fired(bench) == []
    scene.shelf.put("a")
    assert await fired(bench) == (["a"] if rewritten == "fire" else [])


async def test_a_file_without_a_byte_may_be_a_sign(scene: Scene) -> None:
    scene.shelf.put("done", size=0)
    bench = await scene.sensor(empty="fire")
    assert await fired(bench) == ["done"]
    assert await fired(bench) == []


async def test_what_was_emptied_meanwhile_settles_anew(scene: Scene) -> None:
    bench = await scene.sensor(settle="10s")
    scene.shelf.put("a")
    await bench.poll()
    await scene.clock.advance(9)
    whole, scene.shelf.files["a"] = scene.shelf.files["a"], FileInfo("a", 0, _DAY, "0")
    await bench.poll()
    scene.shelf.files["a"] = whole
    await scene.clock.advance(9)
    assert await fired(bench) == []
    await scene.clock.advance(10)
    assert await fired(bench) == ["a"]


@pytest.mark.parametrize(("late", "then"), [("fire", ["b"]), ("ignore", [])])
async def test_a_file_that_comes_late(scene: Scene, late: str, then: list[str]) -> None:
    bench = await scene.sensor(late=late)
    # Neither of those that come together is late.
    scene.shelf.put("a", modified=_DAY)
    scene.shelf.put("c", modified=_DAY - timedelta(days=1))
    assert await fired(bench) == ["c", "a"]
    assert await fired(bench) == []
    scene.shelf.put("b", modified=_DAY - timedelta(seconds=1))
    assert await fired(bench) == then
    scene.shelf.put("d", modified=_DAY + timedelta(seconds=1))
    assert await fired(bench) == ["d"]
    assert await fired(bench) == []


async def test_a_file_that_comes_back_fires_again(scene: Scene) -> None:
    bench = await scene.sensor(match="*.csv")
    scene.shelf.put("a.csv", "b.csv", "c.csv", "b.txt")
    assert len(await fired(bench)) == 3
    scene.shelf.take("b.csv", "c.csv")
    assert await fired(bench) == []
    assert bench.notes[-1] == "1 file, none new, 2 gone"
    assert scene.remembered() == ["a.csv"]
    scene.shelf.files["b.csv"] = FileInfo("b.csv", 1, _DAY, "2")
    assert await fired(bench) == ["b.csv"]


@pytest.mark.parametrize("page", [0, 1, 2])
async def test_a_listing_that_fails_moves_nothing(scene: Scene, page: int) -> None:
    bench = await scene.sensor("now")
    scene.shelf.put(*(f"{number:04}" for number in range(2500)))
    await bench.poll()
    before = dict(scene.kept.texts)
    scene.shelf.put("0500x", "2400x")
    scene.shelf.take("0600", "2450")
    scene.shelf.fails_after = page
    with pytest.raises(SourceDown):
        await bench.poll()
    assert scene.kept.texts == before
    scene.shelf.fails_after = None
    assert await fired(bench) == ["0500x", "2400x"]
    assert scene.remembered() == sorted(scene.shelf.files)


async def test_many_new_files_are_many_polls_and_each_fires_once(scene: Scene) -> None:
    bench = await scene.sensor()
    scene.shelf.put(*(f"{number:05}" for number in range(2500)))
    polled: list[Polled] = []
    cursor = None
    while not polled or polled[-1].more:
        polled.append(await bench.sensor.poll(cursor))
        cursor = polled[-1].cursor
    assert [len(one.events) for one in polled] == [1000, 1000, 500]
    assert len({event.key for one in polled for event in one.events}) == 2500
    assert polled[-1].note == "2,500 files, 2,500 new"
    assert polled[0].note == "1,000 files, 1,000 new so far"
    assert scene.shelf.listed == [None, "00999", "01999"]
    assert (await bench.sensor.poll(cursor)).more is True  # it was told to remember, and nobody did


async def test_what_comes_while_the_first_listing_goes_on_is_new(scene: Scene) -> None:
    scene.shelf.put(*(f"{number:05}" for number in range(15_000)), modified=_DAY - timedelta(days=1))
    bench = await scene.sensor("now")
    polled = await bench.sensor.poll(None)
    assert polled.more
    assert len(polled.remember) == 10_000
    bench._kept.texts.update({("files", path): text for path, text in polled.remember.items() if text})
    bench.cursor = polled.cursor
    await scene.clock.advance(1)
    scene.shelf.put("00001x", "14999x")
    # The one that stands before is found by the next listing.
    assert await fired(bench) == ["14999x"]
    assert await fired(bench) == ["00001x"]


async def test_a_store_without_order(scene: Scene) -> None:
    scene.shelf.reverse = True
    scene.shelf.put(*(f"{number:04}" for number in range(1200)))
    bench = await scene.sensor()
    assert sorted(await fired(bench)) == sorted(scene.shelf.files)
    assert len(bench.fired) == 1200
    scene.shelf.put("0500x", "1100x")
    scene.shelf.take("0000")
    assert sorted(await fired(bench)) == ["0500x", "1100x"]
    assert "0000" in scene.remembered()
    scene.shelf.reverse = False
    assert await fired(bench) == []
    assert "0000" not in scene.remembered()
    with pytest.raises(SensorError, match="no order"):
        scene.shelf.reverse = True
        await (await scene.sensor(name="rising", append_only=True)).poll()


@pytest.mark.parametrize("size", [3, 1000])
async def test_a_batch_is_one_event_for_what_is_new(scene: Scene, size: int) -> None:
    bench = await scene.sensor(batch=True, batch_size=size)
    scene.shelf.put("a", "b", "c", "d", size=5)
    events = await bench.poll()
    assert [[file["path"] for file in event.values["files"]] for event in events] == (
        [["a", "b", "c"], ["d"]] if size == 3 else [["a", "b", "c", "d"]]
    )
    assert events[0].values["size"] == 5 * events[0].values["count"]
    assert await bench.poll() == []
    again = await (await scene.sensor(name="other", batch=True, batch_size=size)).poll()
    assert [event.key for event in again] == [event.key for event in events]
    scene.shelf.put("a")
    (changed,) = await bench.poll()
    assert changed.key not in {event.key for event in events}


async def test_start_after_and_append_only(scene: Scene) -> None:
    scene.shelf.put("2023/1", "2024/1")
    bench = await scene.sensor(start_after="2024/", append_only=True, settle="10s")
    assert await fired(bench) == []
    await scene.clock.advance(10)
    assert await fired(bench) == ["2024/1"]
    scene.shelf.put("2024/2", "2024/3")
    assert await fired(bench) == []
    await scene.clock.advance(10)
    scene.shelf.put("2024/2")
    assert await fired(bench) == ["2024/3"]
    await scene.clock.advance(10)
    assert await fired(bench) == ["2024/2"]
    assert await fired(bench) == []
    assert scene.remembered() == []
    assert [after for after in scene.shelf.listed if after != "2024/"] == ["2024/1"] * 3 + ["2024/3"]


async def test_a_name_that_is_no_text(scene: Scene) -> None:
    scene.shelf.put(os.fsdecode(b"caf\xe9.csv"))
    with pytest.raises(SensorError, match=r"caf\\xe9.csv is not UTF-8"):
        await (await scene.sensor()).poll()


class Bounded(Kept):
    """Keeps the paths of one sensor in order, and how many it was ever asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.most = 0

    def write(self, remember: Any) -> None:
        for path, text in remember.items():
            if text is None:
                del self.texts["files", path]
            else:
                self.texts["files", path] = text
        self.paths = sorted(path for _, path in self.texts)

    async def recall(
        self, sensor: str, first: str = "", last: str | None = None, limit: int | None = None
    ) -> dict[str, str]:
        start = bisect.bisect_left(self.paths, first)
        end = len(self.paths) if last is None else bisect.bisect_right(self.paths, last)
        found = self.paths[start : end if limit is None else min(end, start + limit)]
        self.most = max(self.most, len(found))
        return {path: self.texts[sensor, path] for path in found}


async def test_a_hundred_thousand_files_are_never_held_at_once() -> None:
    clock, kept = ManualClock(auto=True), Bounded()
    async with Room(clock, kept) as room:
        scene = Scene(clock, Shelf(clock), kept, room)
        bench = await scene.sensor("now")
        cursor: Any = None

        async def poll() -> list[str]:
            nonlocal cursor
            new: list[str] = []
            while True:
                polled = await bench.sensor.poll(cursor)
                cursor = polled.cursor
                kept.write(polled.remember)
                assert len(polled.remember) <= 10_000
                new += [event.values["path"] for event in polled.events]
                if not polled.more:
                    return new

        scene.shelf.put(*(f"{number:06}" for number in range(100_000)), modified=_DAY - timedelta(days=1))
        assert await poll() == []
        assert len(kept.paths) == 100_000
        scene.shelf.put("050000x")
        assert await poll() == ["050000x"]
        scene.shelf.take(*list(scene.shelf.files)[:99_000])
        assert await poll() == []
        assert len(kept.paths) == 1001
        assert kept.most <= 1000
