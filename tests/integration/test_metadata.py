"""A workspace's metadata as a source, on the double: what arrives, what a second run does, what goes wrong meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from pydantic.alias_generators import to_snake

from orchestra.metadata.source import MetadataSource
from orchestra.metadata.windows import FIRST, SPAN
from orchestra.testing.double import PREFIX, OrchestraDouble
from orchestra.testing.refusals import Refusal, invalid
from orchestra.testing.request import Asked, Handler
from orchestra.testing.script import Script
from orchestra.testing.state import Run
from runner.clock import SystemClock
from runner.errors import JobFileError, RequestRefused, SourceDown
from runner.job import Limits, Retry
from runner.limits import SourceLimits
from runner.requests import Requests
from runner.source import Scan, following
from runner.testing.conformance import conformance
from tests.conftest import Cli, Project

_PIPELINE = """
version: v1
name: Shop
pipeline:
  load:
    tasks:
      pull:
        name: Pull
        integration: PYTHON
        integration_job: PYTHON_EXECUTE_SCRIPT
        parameters: {command: python -m pull, flags: [ü, 1, null]}
"""
_SCRIPT = {
    "tasks": {
        "pull": {
            "attempts": [{"seconds": 5, "status": "FAILED"}, {"seconds": 55}],
            "operations": [
                {"name": "orders", "type": "MATERIALISATION", "rows": 12, "seconds": 2.5, "dependencies": ["raw"]},
                {"name": "not null", "type": "TEST"},
            ],
            "assets": [{"name": "SHOP.ORDERS"}, {"name": "SHOP.LINES", "type": "VIEW"}],
        }
    }
}
Before = Callable[[Asked], Awaitable[None]]


class Orchestra(OrchestraDouble):
    """The double, and what happens before it answers."""

    before: Before | None = None

    async def serve(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        if self.before is not None:
            await self.before(asked)
        return await super().serve(handler, asked)


class Space:
    """A workspace with a pipeline and a history, and a job that reads it."""

    def __init__(self, project: Project, cli: Cli) -> None:
        self.at: datetime | None = None
        self.double = Orchestra(now=lambda: self.at or datetime.now(UTC))
        self.project, self.cli = project, cli
        self.workspace = self.double.workspace
        self.pipeline = self.workspace.add("shop", _PIPELINE)

    @property
    def options(self) -> dict[str, Any]:
        return {"api_key": self.double.key, "base_url": self.double.base_url}

    def run_at(self, created: datetime, *, goes_on: bool = False) -> Run:
        """Start a run at some time; it takes a minute, unless it goes on until it is told to end."""
        self.at = created
        self.workspace.script = None if goes_on else Script.model_validate(_SCRIPT)
        run = self.workspace.start(self.pipeline, {})
        self.at = None
        return run

    def history(self, days: float, count: int) -> list[Run]:
        newest = datetime.now(UTC) - timedelta(minutes=10)
        return [self.run_at(newest - timedelta(days=days) * number / count) for number in range(count)]

    def job(self, tables: str = "orchestra.pipeline_runs:", source: str = "", **options: Any) -> None:
        given = ", ".join(filter(None, (json.dumps({**self.options, **options})[1:-1], source)))
        self.project.job(
            f"""
name: metadata
source: {{type: orchestra, {given}}}
destination: {{type: duckdb, path: warehouse.duckdb, dataset: orchestra_metadata}}
tables:
  {tables}
"""
        )

    def load(self, *arguments: str, code: int = 0) -> str:
        self.double.seen.clear()
        answer = self.cli("backfill", "job.yml", *arguments)
        assert answer.code == code, answer.err + answer.out
        return answer.err + answer.out

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        found = self.project.query(f"select {', '.join(columns)} from orchestra_metadata.{table}")
        return [dict(zip(columns, row, strict=True)) for row in found]

    def statuses(self) -> dict[str, str]:
        return {row["id"]: row["run_status"] for row in self.rows("pipeline_runs", "id", "run_status")}

    def shown(self) -> dict[str, str]:
        now = self.double.now()
        return {run.id: run.status(now) for run in self.workspace.runs.values()}

    def windows(self) -> list[tuple[datetime, datetime]]:
        """Return the windows that runs were asked for in, oldest first."""
        found = set()
        for one in self.double.seen:
            query = {key: values[0] for key, values in parse_qs(one.query).items()}
            if one.path == f"{PREFIX}/pipeline_runs" and query["page_size"] == "100" and "status" not in query:
                found.add((datetime.fromisoformat(query["time_from"]), datetime.fromisoformat(query["time_to"])))
        return sorted(found)

    async def read(self, **options: Any) -> tuple[list[str], list[str]]:
        """Read all runs as the runner does; return their ids, as often as they came, and what was warned of."""
        warnings: list[str] = []
        clock = SystemClock()
        source = MetadataSource({**self.options, **options})
        retry = Retry(attempts=3, max_wait=timedelta(0))
        limits = SourceLimits.of(Limits(), clock)
        source.govern(Requests(limits, clock, retry=retry, warned=lambda table, words: warnings.append(words)))
        found: list[str] = []
        async with source.session(1) as session:
            [table] = await session.discover(["orchestra.pipeline_runs"])
            scan = Scan(table, table.columns)
            chunks = await session.chunks(scan, 1, 1)
            for number, chunk in enumerate(chunks):
                async with session.read(scan, chunk) as reading:
                    async for batch in reading:
                        found += batch.column("id").to_pylist()
                if reading.rest is not None:
                    chunks.append(following(scan, chunk, len(chunks) + number, reading.rest))
        return found, warnings


@pytest.fixture
def space(project: Project, cli: Cli) -> Iterator[Space]:
    made = Space(project, cli)
    with made.double:
        yield made


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("pipelines", 1),
        ("pipeline_runs", 20),
        ("task_runs", 20),
        ("operations", 40),
        ("assets", 2),
        ("environments", 2),
    ],
)
async def test_it_keeps_the_rules_of_the_port(space: Space, table: str, rows: int) -> None:
    space.history(20, 20)
    found = await conformance(lambda: MetadataSource(space.options), f"orchestra.{table}")
    assert (found.rows, found.mark is not None) == (rows, table in ("pipeline_runs", "task_runs", "operations"))


def test_all_of_a_history_arrives_as_it_is(space: Space) -> None:
    runs = space.history(60, 60)
    connection = space.workspace.connect("SNOWFLAKE", "warehouse")
    space.workspace.connect("POSTGRES", "shop", password="sesame")
    space.double.fail("status", "task_runs.*page_size=100", status=429, headers={"Retry-After": "0"}, times=2)
    space.double.fail("status", "operations.*page_size=100", status=502)
    space.double.fail("cut", "pipeline_runs.*page_size=100", after=2)
    space.job("orchestra.*: {}", source="include_superseded: true")
    space.load()
    now, account = space.double.now(), space.workspace.account
    tasks = [(run, task) for run in runs for task in run.task_runs(now, superseded=True)]
    shown: dict[str, list[dict[str, Any]]] = {
        "pipeline_runs": [run.shown(now, account) for run in runs],
        "task_runs": [task.shown(now, run.given(account)) for run, task in tasks],
        "operations": [
            task.shown_operation(number, run.given(account))
            for run in runs
            for task in run.task_runs(now)
            for number in range(len(task.operations(now)))
        ],
        "assets": space.workspace.assets(now),
        "environments": [one.shown(account) for one in space.workspace.environments.values()],
        "connections": [connection, {**space.workspace.connections[1], "password": None}],
    }
    assert len(shown["task_runs"]) == 120
    for table, items in shown.items():
        found = {json.dumps(_as_shown(row), sort_keys=True) for row in _columns(space, table)}
        assert found == {json.dumps(_flat(one), sort_keys=True) for one in items}, table
    assert "sesame" not in json.dumps(_columns(space, "connections"), default=str)
    [pipeline] = space.rows("pipelines", "name", "alias", "paused", "num_tasks", "schedule::text", "webhook::text")
    assert list(pipeline.values()) == ["Shop", "shop", False, 1, "[]", '{"enabled":false}']


def _columns(space: Space, table: str) -> list[dict[str, Any]]:
    names = [name for (name,) in space.project.query(
        f"select column_name from information_schema.columns where table_name = '{table}' "
        "and table_schema = 'orchestra_metadata'"
    )]  # fmt: skip
    return space.rows(table, *names)


def _as_shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the destination with what its keys were at the API."""
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else _text(value)
        for name, value in row.items()
        if value is not None
    }


def _text(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    found = {to_snake(key): value for key, value in item.items() if value is not None}
    return {
        key: datetime.fromisoformat(value).astimezone(UTC).isoformat() if key.endswith("_at") else value
        for key, value in found.items()
    }


def test_a_later_run_reads_again_what_may_have_changed(space: Space) -> None:
    now = datetime.now(UTC)
    old = space.run_at(now - timedelta(days=40))
    stuck = space.run_at(now - timedelta(days=35), goes_on=True)
    goes_on = space.run_at(now - timedelta(days=20), goes_on=True)
    recent = space.run_at(now - timedelta(days=3))
    space.job()
    space.load()
    assert space.statuses() == space.shown()
    for run in (old, stuck, goes_on, recent):
        space.workspace.finish(run.id, "FAILED")
    new = space.run_at(datetime.now(UTC) - timedelta(minutes=2))
    # A container of its own for each run: what is known is at the destination.
    shutil.rmtree(space.project.folder / ".runner")
    space.load()
    # A run that has not finished holds the mark for 30 days; one that had finished is looked at for 7 days more.
    expected = {one.id: "FAILED" for one in (goes_on, recent)} | {old.id: "SUCCEEDED", stuck.id: "RUNNING"}
    assert space.statuses() == {**expected, new.id: "SUCCEEDED"}
    first = space.windows()[0][0]
    assert timedelta(days=26.9) < now - first < timedelta(days=27.1)
    # All is over: the next run reads the lag alone.
    space.load()
    assert now - space.windows()[0][0] < timedelta(days=7, minutes=6)
    space.load("--since", (now - timedelta(days=50)).isoformat())
    assert space.statuses() == space.shown()


def test_windows_leave_no_gap_and_their_borders_no_hole(space: Space) -> None:
    border = FIRST + ((datetime.now(UTC) - timedelta(days=20) - FIRST) // SPAN) * SPAN
    beside = [timedelta(microseconds=value) for value in (-1_000_000, -999_999, -1, 0, 1, 999_999, 1_000_000)]
    runs = [space.run_at(border + SPAN * number + one) for number in range(3) for one in beside]
    space.job(source="history: 30d")
    said = space.load()
    assert set(space.statuses()) == {run.id for run in runs}
    assert "came more than once" in said
    windows = space.windows()
    assert all(end - begin <= timedelta(days=7) for begin, end in windows)
    assert all(later[0] < earlier[1] for earlier, later in pairwise(windows))
    assert windows[0][0] <= datetime.now(UTC) - timedelta(days=30)


async def test_runs_that_come_between_two_pages_take_no_other_with_them(space: Space) -> None:
    runs = space.history(2, 150)
    more = [5, 5]

    async def grow(asked: Asked) -> None:
        if asked.request.query.get("page") == "2" and more:
            # The newest come first: what was the end of the first page is the beginning of the second now.
            runs.extend(space.run_at(datetime.now(UTC) - timedelta(hours=1)) for _ in range(more.pop()))

    space.double.before = grow
    found, _ = await space.read(history="3d")
    assert not more
    assert sorted(found) == sorted(run.id for run in runs)


def test_assets_come_in_an_order_that_stays(space: Space) -> None:
    assets = [{"name": f"SHOP.T{number:03}"} for number in range(150)]
    script = Script.model_validate({"otherwise": {"assets": assets}})
    space.workspace.script = script
    space.at = datetime.now(UTC) - timedelta(hours=1)
    space.workspace.start(space.pipeline, {})
    space.at = None
    space.job("orchestra.assets:")
    space.load()
    assert len(space.rows("assets", "asset_id")) == 150
    assert space.double.count("/assets") < 6


async def test_a_run_that_goes_while_another_comes_is_noticed(space: Space) -> None:
    runs = space.history(2, 150)
    left = [True]

    async def swap(asked: Asked) -> None:
        if asked.request.query.get("page") == "2" and left:
            left.clear()
            # The total stays what it was.
            space.workspace.runs.pop(runs.pop().id)
            runs.append(space.run_at(datetime.now(UTC) - timedelta(hours=1)))

    space.double.before = swap
    found, _ = await space.read(history="3d")
    assert sorted(found) == sorted(run.id for run in runs)


async def test_what_never_stands_still_fails_in_words(space: Space) -> None:
    space.history(2, 101)

    async def grow(asked: Asked) -> None:
        if asked.request.query.get("page") == "2":
            space.run_at(datetime.now(UTC) - timedelta(hours=1))

    space.double.before = grow
    with pytest.raises(SourceDown, match="changed whenever it was read"):
        await space.read(history="3d")


async def test_a_window_with_many_rows_is_read_in_parts(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = space.history(5, 90)
    monkeypatch.setattr("orchestra.metadata.source._MOST", 20)
    found, _ = await space.read(history="5d")
    assert sorted(found) == sorted(run.id for run in runs)
    assert len({end for _, end in space.windows()}) >= 5


@pytest.mark.parametrize("options", [{}, {"since": "2025-01-01"}])
async def test_history_ends_in_words_where_orchestra_shows_no_more(space: Space, options: dict[str, str]) -> None:
    now = datetime.now(UTC)
    runs = [space.run_at(now - timedelta(days=days)) for days in range(1, 30)]

    async def forget(asked: Asked) -> None:
        begin = asked.request.query.get("time_from")
        if begin is not None and datetime.fromisoformat(begin) < now - timedelta(days=9.5):
            raise invalid(["query", "time_from"], "Data is kept for a while")

    space.double.before = forget
    found, warnings = await space.read(**options)
    assert set(found) == {run.id for run in runs[:9]}
    assert [words.endswith("Data is kept for a while") for words in warnings] == [True]
    assert space.double.count("/pipeline_runs", status=422) < 30


@pytest.mark.parametrize("size", ["1", "100"])
async def test_a_refusal_that_is_not_about_age_fails(space: Space, size: str) -> None:
    space.history(15, 3)

    async def refuse(asked: Asked) -> None:
        if "pipeline_runs" in asked.request.path and asked.request.query["page_size"] in (size, "100"):
            raise Refusal(422, "No such page_size")

    space.double.before = refuse
    with pytest.raises(RequestRefused, match="page_size"):
        await space.read()


async def test_a_status_that_is_not_known_is_left_out(space: Space) -> None:
    now = datetime.now(UTC)
    goes_on = space.run_at(now - timedelta(days=9), goes_on=True)

    async def refuse(asked: Asked) -> None:
        if "CANCELLING" in asked.request.query.get("status", ""):
            raise invalid(["query", "status"], "Input should be another")

    space.double.before = refuse
    found = await conformance(lambda: MetadataSource(space.options), "orchestra.pipeline_runs")
    assert found.mark is not None
    assert datetime.fromisoformat(found.mark) == goes_on.created


@pytest.mark.parametrize(
    ("options", "table", "code", "words"),
    [
        ({"api_key": "wrong"}, "", 2, "ORCHESTRA_API_KEY"),
        ({}, "{where: a = 1}", 1, "where"),
        ({}, "{cursor: updated_at}", 1, "cursor: created_at"),
    ],
)
def test_what_cannot_be_read_is_told(space: Space, options: dict[str, str], table: str, code: int, words: str) -> None:
    space.job(f"orchestra.pipeline_runs: {table}", **options)
    assert words in space.load(code=code)


async def test_what_is_only_too_old_to_be_shown_is_not_deleted(space: Space) -> None:
    async with MetadataSource(space.options).session(1) as session:
        pipelines, runs = await session.discover(["orchestra.pipelines", "orchestra.pipeline_runs"])
        await session.chunks(Scan(pipelines, pipelines.columns[:1]), 1, 1)
        with pytest.raises(JobFileError, match="deletes: compare"):
            await session.chunks(Scan(runs, runs.columns[:1]), 1, 1)


def test_doctor_names_what_the_key_may_not_see(space: Space) -> None:
    space.job("orchestra.pipelines:\n  orchestra.task_runs:")
    space.double.fail("status", "/task_runs", status=403, body={"detail": "Not in your plan"}, times=9)
    answer = space.cli("doctor", "job.yml")
    assert "Not in your plan" in answer.out + answer.err
    assert "1 tables can be read" in answer.out + answer.err


def test_the_command_needs_credentials_alone(space: Space, tmp_path: Any) -> None:
    space.history(1, 3)
    path = tmp_path / "elsewhere.duckdb"
    space.project.environ |= {
        "ORCHESTRA_API_TOKEN": space.double.key,
        "ORCHESTRA_BASE_URL": space.double.base_url,
        "DESTINATION__DUCKDB__CREDENTIALS": f"duckdb:///{path}",
    }
    answer = space.cli("orchestra", "metadata", "--tables", "orchestra.p*", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out.splitlines()[-1])["published"] == 2
    space.run_at(datetime.now(UTC) - timedelta(days=9))
    space.project.environ["SINCE"] = (datetime.now(UTC) - timedelta(days=10)).isoformat()
    answer = space.cli("orchestra", "metadata", "--json")
    assert json.loads(answer.out.splitlines()[-1])["published"] == 3, answer.err
    path.rename(space.project.warehouse)
    assert len(space.statuses()) == 4
    assert space.double.key not in answer.out + answer.err
