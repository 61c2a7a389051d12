"""A load of a workspace's metadata is killed in the middle; the same command goes on, also in a container of its own."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest

from orchestra.testing.double import PREFIX, OrchestraDouble
from runner.crash import VARIABLE
from tests.conftest import Cli, Project

_RUNS = 60
_PIPELINE = "version: v1\nname: Shop\npipeline: {load: {tasks: {pull: {name: Pull, integration: PYTHON}}}}"


@pytest.fixture
def double() -> Iterator[OrchestraDouble]:
    """A workspace with a run every 12 hours of 30 days."""
    at: datetime | None = None
    with OrchestraDouble(now=lambda: at or datetime.now(UTC)) as server:
        pipeline = server.workspace.add("shop", _PIPELINE)
        server.workspace.run_for = 60.0
        newest = datetime.now(UTC) - timedelta(hours=1)
        for number in range(_RUNS):
            at = newest - timedelta(hours=12) * number
            server.workspace.start(pipeline, {})
        at = None
        yield server


def _windows(double: OrchestraDouble) -> list[str]:
    """Return where the windows begin that rows were asked for in."""
    queries = [parse_qs(one.query) for one in double.seen if one.path == f"{PREFIX}/pipeline_runs"]
    return [one["time_from"][0] for one in queries if one["page_size"] == ["100"] and "status" not in one]


@pytest.mark.parametrize("fresh", [False, True])
def test_windows_that_were_spooled_are_not_asked_for_again(
    project: Project, cli: Cli, double: OrchestraDouble, fresh: bool
) -> None:
    source = json.dumps({"type": "orchestra", "api_key": double.key, "base_url": double.base_url})
    project.job(
        f"""
name: metadata
source: {source}
destination: {{type: duckdb, path: warehouse.duckdb, dataset: raw}}
limits: {{connections: 1}}
tables: {{orchestra.pipeline_runs: {{}}}}
"""
    )
    project.environ[VARIABLE] = "chunk-recorded:3"
    process = project.start("backfill", "job.yml")
    out, err = process.communicate(timeout=90)
    assert process.returncode == -signal.SIGKILL, out + err
    before = _windows(double)
    assert len(before) >= 3
    del project.environ[VARIABLE]
    if fresh:
        shutil.rmtree(project.folder / ".runner")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    times = Counter(_windows(double))
    if not fresh:
        # All that was on disk stays there; what was being read is read again.
        assert sum(count > 1 for count in times.values()) <= len(before) - 3
    assert project.query("select count(*), count(distinct id) from raw.pipeline_runs") == [(_RUNS, _RUNS)]
