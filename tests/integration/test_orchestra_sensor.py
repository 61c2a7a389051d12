"""Runs of pipelines as events: each that ends as asked is seen once, whenever it ends; on the double."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from pydantic import ValidationError

from orchestra.runsensor import PipelineRunSensor
from orchestra.testing import OrchestraDouble
from orchestra.testing.state import Pipeline
from runner.errors import CredentialsRejected, RequestRefused, SourceDown, UsageError
from runner.testing.clock import ManualClock
from sensors.placing import load_sensors
from sensors.room import Room
from sensors.sensor import Setting
from sensors.testing import Bench, Kept

EXAMPLE = Path(__file__).parents[2] / "orchestra" / "sensors" / "pipelines.yml"
DEFINITION = {"version": "v1", "name": "P", "pipeline": {"g": {"tasks": {"t": {"name": "T", "parameters": {}}}}}}
HOUR, DAY = 3600.0, 86_400.0
_LISTS = r"/pipeline_runs\?"


class Place:
    """A room with sensors on benches, a double, and their clock."""

    def __init__(self, double: OrchestraDouble, clock: ManualClock, room: Room, kept: Kept) -> None:
        self.double, self.clock, self.room, self.kept = double, clock, room, kept
        self.workspace = double.workspace

    def bench(self, name: str = "s", *, start: Any = "now", **options: Any) -> Bench:
        keys = {"pipeline": "load", "api_key": self.double.key, "base_url": self.double.base_url, **options}
        sensor = PipelineRunSensor(Setting(name, keys, start=start), self.room)
        self.room.enrol(sensor.system, sensor.share)
        return Bench(sensor, self.kept)

    def start(self, pipeline: str = "load", **body: Any) -> str:
        found = self.workspace.find(pipeline)
        assert isinstance(found, Pipeline)
        return self.workspace.start(found, {}, body).id


def keys(bench: Bench) -> list[str]:
    return [event.key for event in bench.fired]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def double(clock: ManualClock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock.now) as server:
        for alias in ("load", "report"):
            server.workspace.add(alias, {**DEFINITION, "name": alias.title()})
        yield server


@contextlib.asynccontextmanager
async def placed(double: OrchestraDouble, clock: ManualClock) -> AsyncIterator[Place]:
    kept = Kept()
    async with Room(clock, kept) as room:
        yield Place(double, clock, room, kept)


async def test_it_begins_now_and_follows_what_is_under_way(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        long = place.start()
        await clock.advance(2 * HOUR)
        over, under_way = place.start(), place.start()
        place.workspace.finish(over)
        bench = place.bench()
        assert await bench.poll() == []
        await clock.advance(60)
        quick, failed, other = place.start(environment="Dev", branch="main"), place.start(), place.start("report")
        for run, status in ((quick, "WARNING"), (failed, "FAILED"), (other, "SUCCEEDED"), (under_way, "SUCCEEDED")):
            await clock.advance(1)
            place.workspace.finish(run, status)
        (first, second) = await bench.poll()
        place.workspace.finish(long)
        for _ in range(3):
            await bench.poll()
            await clock.advance(60)
    assert keys(bench) == [f"{quick}:WARNING", f"{under_way}:SUCCEEDED", f"{long}:SUCCEEDED"]
    assert first.values["status"] == "WARNING"
    assert first.values["environment"] == "Dev"
    assert first.values["branch"] == "main"
    assert first.values["url"] == f"{double.url}/pipeline-runs/{quick}/lineage"
    assert first.values["completed_at"] == first.at.isoformat()
    assert first.at < second.at
    assert double.key not in bench.sensor.describe() + repr(bench.sensor.config)


async def test_runs_end_in_any_order_and_after_days(double: OrchestraDouble, clock: ManualClock) -> None:
    ended = []
    async with placed(double, clock) as place:
        bench = place.bench()
        await bench.poll()
        runs = [place.start() for _ in range(3)]
        for run, wait in ((runs[2], 30.0), (runs[0], 3 * DAY), (runs[1], 8 * DAY)):
            for _ in range(4):
                await clock.advance(wait / 4)
                assert await bench.poll() == []
            place.workspace.finish(run)
            ended += [event.key for event in await bench.poll()]
        assert bench.cursor["open"] == {}
    assert ended == [f"{runs[number]}:SUCCEEDED" for number in (2, 0, 1)]
    assert double.count("/status") > 0, "the last one is older than a list"


async def test_one_request_feeds_all(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        benches = [place.bench(f"s{number}", pipeline=["load", "report"][number % 2]) for number in range(20)]
        old = {name: place.start(name) for name in ("load", "report")}

        async def poll_all() -> int:
            before = double.count(_LISTS)
            async with anyio.create_task_group() as group:
                for bench in benches:
                    group.start_soon(bench.poll)
            return double.count(_LISTS) - before

        await poll_all()
        assert double.count(r"/pipeline\?") == 2, "each alias once"
        assert await poll_all() == 1
        await clock.advance(DAY)
        new = place.start()
        await poll_all()
        assert await poll_all() == 2, "one more for those that began long ago"
        for run in (*old.values(), new):
            place.workspace.finish(run)
        assert await poll_all() == 2
    for number, bench in enumerate(benches):
        expected = [{old["report"]}, {old["load"], new}][number % 2 == 0]
        assert {event.values["pipeline_run_id"] for event in bench.fired} == expected


async def test_a_success_that_is_not_true_yet_is_not_believed(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        double.workspace.stale = 30.0
        bench = place.bench(statuses=["SUCCEEDED", "FAILED"])
        place.start()
        await bench.poll()
        run = place.start()
        assert await bench.poll() == []
        await clock.advance(40)
        assert await bench.poll() == []
        place.workspace.finish(run, "FAILED")
        await bench.poll()
    assert keys(bench) == [f"{run}:FAILED"]


@pytest.mark.parametrize("away", [20 * 60.0, 5 * HOUR, 3 * DAY, 9 * DAY])
async def test_what_happens_while_nobody_looks_is_seen(
    double: OrchestraDouble, clock: ManualClock, away: float
) -> None:
    async with placed(double, clock) as place:
        before = place.start()
        place.workspace.finish(before)
        await clock.advance(HOUR)
        bench = place.bench()
        await bench.poll()
        missed = []
        for _ in range(3):
            await clock.advance(away / 3)
            missed.append(place.start())
            place.workspace.finish(missed[-1])
        await clock.advance(30)
        await bench.poll()
    assert keys(bench) == [f"{run}:SUCCEEDED" for run in missed]


async def test_a_run_that_is_listed_late_is_seen(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        double.workspace.list_lag = 300.0
        bench = place.bench()
        await bench.poll()
        run = place.start()
        place.workspace.finish(run)
        for _ in range(10):
            await clock.advance(60)
            await bench.poll()
    assert keys(bench) == [f"{run}:SUCCEEDED"]


async def test_it_may_begin_earlier(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        runs = []
        for _ in range(3):
            runs.append(place.start())
            place.workspace.finish(runs[-1])
            await clock.advance(4 * DAY)
        moment = clock.now().isoformat()
        runs.append(place.start())
        place.workspace.finish(runs[-1])
        await clock.advance(DAY)
        found = {}
        for start in ("now", "beginning", moment):
            bench = place.bench(start=start)
            await bench.poll()
            await bench.poll()
            found[start] = [event.values["pipeline_run_id"] for event in bench.fired]
        assert found == {"now": [], "beginning": runs[2:], moment: runs[3:]}
        with pytest.raises(UsageError, match="no time"):
            place.bench(start="yesterday")
        with pytest.raises(ValidationError):
            place.bench(statuses=["RUNNING"])


async def test_only_some_runs_count(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        report = place.workspace.find("report")
        assert report is not None
        dev = place.bench("dev", pipeline="*", environment="Dev")
        main = place.bench("main", pipeline=["load", report.id], branch="main")
        for bench in (dev, main):
            await bench.poll()
        runs = [place.start(environment="Dev"), place.start("report", branch="main"), place.start()]
        for run in runs:
            place.workspace.finish(run)
        for bench in (dev, main):
            await bench.poll()
    assert keys(dev) == [f"{runs[0]}:SUCCEEDED"]
    assert keys(main) == [f"{runs[1]}:SUCCEEDED"]


async def test_an_error_moves_nothing(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        bench = place.bench()
        await bench.poll()
        run, gone = place.start(), place.start()
        await bench.poll()
        place.workspace.finish(run)
        cursor = bench.cursor
        fault = double.fail("status", _LISTS, status=500, times=100)
        with pytest.raises(SourceDown):
            await bench.poll()
        assert bench.cursor == cursor
        fault.times = 0
        del place.workspace.runs[gone]
        await bench.poll()
        assert keys(bench) == [f"{run}:SUCCEEDED"]
        assert bench.cursor["open"] == {}
        assert "1 are gone" in bench.notes[-1]
        with pytest.raises(RequestRefused, match="no pipeline 'other'"):
            await place.bench(pipeline="other").poll()
        with pytest.raises(CredentialsRejected):
            await place.bench(api_key="wrong").poll()


def test_the_example_is_a_sensor_file() -> None:
    environ = {"ORCHESTRA_API_KEY": "sk-example"}
    placed = load_sensors(EXAMPLE, environ=environ)
    assert {one.entry.type for one in placed.sensors} == {"orchestra"}
    assert {action.entry.type for one in placed.sensors for action in one.actions} == {"pipeline"}
    assert "sk-" not in yaml.safe_dump(yaml.safe_load(EXAMPLE.read_text("utf-8")))
