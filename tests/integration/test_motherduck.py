"""MotherDuck: what it is told, on DuckDB itself; the service was never reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from runner.writers.motherduck import MotherDuck
from tests.conftest import Cli, Database, Project

_JOB = """
name: shop
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {{type: motherduck, database: analytics, token: hunter2hunter2, dataset: raw{more}}}
tables:
  public.orders: {{mode: {mode}}}
"""


@pytest.fixture
def opened(project: Project, database: Database, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    database.execute("create table orders as select i as id from generate_series(1, 100) i")
    database.execute("alter table orders add primary key (id)")
    project.environ["SOURCE_DSN"] = database.dsn
    connect = duckdb.connect
    found: list[tuple[str, dict[str, Any]]] = []

    def local(path: str = ":memory:", *, config: dict[str, Any] | None = None, **more: Any) -> Any:
        if not path.startswith("md:"):
            return connect(path, config=config or {}, **more)
        options = dict(config or {})
        found.append((path, {"motherduck_token": options.pop("motherduck_token", None)}))
        return connect(str(project.folder / "service.duckdb"), config=options)

    monkeypatch.setattr(duckdb, "connect", local)  # the extension is not to be had: a file stands for the service
    return found


@pytest.mark.parametrize("mode", ["full", "incremental, cursor: id", "append, cursor: id", "snapshot"])
def test_its_statements_run(
    project: Project, database: Database, cli: Cli, opened: list[tuple[str, dict[str, Any]]], mode: str
) -> None:
    project.job(_JOB.format(mode=mode, more=", allow_unproved: true"))
    for last in (100, 120):
        answer = cli("backfill", "job.yml", "--verify", "hash")
        assert answer.code == 0, answer.out + answer.err
        with duckdb.connect(str(project.folder / "service.duckdb"), read_only=True) as connection:
            assert connection.execute("select count(*), max(id) from raw.orders").fetchone() == (last, last)
        database.execute("insert into orders select i from generate_series(101, 120) i on conflict do nothing")
    assert {path for path, _ in opened} == {"md:analytics"}
    assert {options["motherduck_token"] for _, options in opened} == {"hunter2hunter2"}
    assert not (project.folder / "analytics.lock").exists()


def test_it_is_called_unproved_and_asks_for_a_yes(
    project: Project, cli: Cli, opened: list[tuple[str, dict[str, Any]]]
) -> None:
    project.job(_JOB.format(mode="full", more=""))
    answer = cli("plan", "job.yml")
    assert answer.code == 0
    assert "unproved" in answer.out
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "allow_unproved: true" in answer.err
    with duckdb.connect(str(project.folder / "service.duckdb"), read_only=True) as connection:
        schemas = "select 1 from information_schema.schemata where schema_name = 'raw'"
        assert connection.execute(schemas).fetchall() == []
    assert "unproved" in cli("doctor", "job.yml").out


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({"DESTINATION__MOTHERDUCK__CREDENTIALS": "md:lake?motherduck_token=t"}, {"database": "lake", "token": "t"}),
        ({"DESTINATION__MOTHERDUCK__CREDENTIALS": "md:///lake"}, {"database": "lake"}),
        (
            {
                "DESTINATION__MOTHERDUCK__CREDENTIALS__DATABASE": "lake",
                "DESTINATION__MOTHERDUCK__CREDENTIALS__PASSWORD": "t",
            },
            {"database": "lake", "token": "t"},
        ),
    ],
)
def test_the_variables_of_dlt_are_understood(environ: dict[str, str], options: dict[str, str]) -> None:
    assert MotherDuck.options_from_dlt(environ) == options


def test_the_token_is_in_no_repr(project: Project) -> None:
    destination = MotherDuck({"database": "lake", "token": "hunter2hunter2"}, folder=Path(), memory=0)
    assert "hunter2" not in repr(destination._config) + destination.describe()
