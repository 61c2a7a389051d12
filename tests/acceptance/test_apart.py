"""A hundred tasks at once, each a process of its own that shares nothing but the state apart."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from connectors.testing.server import PostgresServer
from tests.conftest import Cli, Database, Project
from tests.processes import Command

if TYPE_CHECKING:
    from tests.servers import Moto

pytest_plugins = ("tests.servers",)

_TASKS = 100
_JOB = """
name: many
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {{type: filesystem, url: lake, dataset: raw}}
limits: {{connections: 1}}
state: {state}
tables:
  public.*: {{mode: append, cursor: at}}
"""
_FILL = """
do $$ begin for t in 0..{last} loop
    execute format('create table if not exists t%s (id int primary key, at timestamptz not null)', t);
    execute format('insert into t%s select i, timestamptz ''2024-01-01'' + make_interval(hours => i) '
        'from generate_series({first_row}, {last_row}) i', t);
end loop; end $$
"""


@pytest.fixture(scope="module")
def roomy() -> Iterator[PostgresServer]:
    """A server that takes the connections of all tasks."""
    with PostgresServer(settings={"max_connections": "450"}) as server:
        yield server


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", ["postgres", "s3"])
def test_a_hundred_tasks_at_once_lose_no_mark(
    roomy: PostgresServer, s3_server: Moto, project: Project, cli: Cli, place: str
) -> None:
    name = f"many_{place}"
    Database(roomy, "postgres").execute(f"create database {name}")
    source = Database(roomy, name)
    state = '"${SOURCE_DSN}"'
    if place == "s3":
        bucket = s3_server.make_bucket(f"state-{uuid.uuid4().hex[:12]}")
        state = f'{{url: "s3://{bucket}", endpoint: "{s3_server.url}", region: us-east-1, allow_http: true}}'
    project.environ |= {"SOURCE_DSN": source.dsn, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    project.job(_JOB.format(state=state))
    source.execute(_FILL.format(last=_TASKS - 1, first_row=1, last_row=10), "analyze")
    assert cli("backfill", "job.yml").code == 0
    source.execute(_FILL.format(last=_TASKS - 1, first_row=11, last_row=15))

    tasks = [_start(project, number) for number in range(_TASKS)]
    said = {number: (task.communicate()[1], task.returncode) for number, task in enumerate(tasks)}
    assert {number: how for number, how in said.items() if how[1] != 0} == {}
    assert [_rows(project.folder, number) for number in range(_TASKS)] == [(15, 15)] * _TASKS
    # Each finds the mark that it left: nothing comes again.
    answer = cli("backfill", "job.yml", "--json")
    assert answer.code == 0
    assert json.loads(answer.out.splitlines()[-1])["rows"] == 0


def _start(project: Project, number: int) -> Command:
    container = str(project.folder / f"container-{number}")
    return project.start("task", "job.yml", "--table", f"public.t{number}", "--state-dir", container, "--quiet")


def _rows(folder: Path, number: int) -> tuple[int, int]:
    table = folder / "lake" / "raw" / f"t{number}"
    manifest = json.loads((table / "manifest.json").read_text("utf-8"))
    files = [str(table / one["name"]) for one in manifest["files"]]
    with duckdb.connect() as connection:
        found = connection.execute(f"select count(*), count(distinct id) from read_parquet({files!r})").fetchone()
    assert found is not None
    return found[0], found[1]
