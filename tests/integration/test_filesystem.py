"""From PostgreSQL to Parquet files in a folder and in an emulator of S3, as a user would run it."""

from __future__ import annotations

import json
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from runner.crash import VARIABLE
from runner.writers.filesystem import Filesystem
from tests.conftest import Cli, Database, Project

if TYPE_CHECKING:
    from tests.servers import Moto

pytest_plugins = ("tests.servers",)

_ORDERS = """
create table orders (id int primary key, note text, updated_at timestamptz not null);
create index on orders (updated_at);
insert into orders select i, 'n' || i, timestamptz '2024-01-01 00:00:00+00' + make_interval(mins => i)
from generate_series(1, 3000) i;
analyze orders;
"""
_VALUES = """
create table "Odd values" (id bigint primary key, "Big" numeric(38, 9), small smallint, flag boolean, at timestamptz,
    local timestamp, day date, clock time, data bytea, doc jsonb, amount real, share double precision, words text);
insert into "Odd values" values
    (1, 12345678901234567890.123456789, -7, true, '2024-02-29 23:59:59.999999+02', '1969-12-31 23:59:59', '0001-01-01',
     '23:59:59.999999', '\\x00ff', '{"a": [1, null]}', 1.5, 'NaN', e'tab\\tline\\n"ä€😀'),
    (2, null, null, null, null, null, null, null, null, null, null, null, null),
    (3, -0.000000001, 0, false, '2300-01-01 00:00:00+00', '2024-01-01', '9999-12-31', '00:00', '', '"x"', -0.0, 1e300, '');
"""


@dataclass
class Lake:
    """A destination in one of two places."""

    project: Project
    text: str
    options: dict[str, Any]

    def job(self, entries: str, more: str = "") -> None:
        self.project.job(
            f'name: files\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\ndestination: {self.text}\n'
            f"tables:\n{entries}\n{more}"
        )

    def table(self, name: str, *, here: Callable[[], None] = lambda: None) -> tuple[dict[str, Any], list[Path]]:
        """Return a table's manifest and copies of the files that it names."""
        made = Filesystem(self.options, folder=self.project.folder, memory=2**28)
        store = made.writer("raw")._store
        found = store.read(f"{name}/manifest.json")
        assert found is not None
        here()
        manifest = json.loads(found.data)
        files = []
        for file in manifest["files"]:
            path = self.project.folder / "copies" / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with store.open(f"{name}/{file['name']}") as opened:
                path.write_bytes(opened.read())
            files.append(path)
        return manifest, files

    def query(self, name: str, sql: str) -> list[tuple[Any, ...]]:
        """Ask DuckDB about the files that a table's manifest names."""
        _, files = self.table(name)
        with duckdb.connect() as connection:
            names = [str(file) for file in files]
            connection.from_parquet(names, union_by_name=True).create_view(name)
            return connection.execute(sql).fetchall()


@pytest.fixture
def folder(project: Project) -> Lake:
    return Lake(project, "{type: filesystem, url: lake, dataset: raw}", {"url": "lake"})


@pytest.fixture
def s3(project: Project, s3_server: Moto) -> Lake:
    bucket = s3_server.make_bucket(f"lake-{uuid.uuid4().hex}")
    project.environ |= {"LAKE_KEY": "an-id", "LAKE_SECRET": "a-very-secret-key"}
    where = {"url": f"s3://{bucket}/some/where", "endpoint": s3_server.url, "region": "us-east-1", "allow_http": True}
    keys = {"access_key_id": "an-id", "secret_access_key": "a-very-secret-key"}
    text = {**where, "type": "filesystem", "dataset": "raw", "access_key_id": "${LAKE_KEY}",
            "secret_access_key": "${LAKE_SECRET}"}  # fmt: skip
    return Lake(project, json.dumps(text), {**where, **keys})


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, database: Database, project: Project) -> Lake:
    """A place, and a table of orders at the source."""
    database.execute(_ORDERS)
    project.environ["SOURCE_DSN"] = database.dsn
    made: Lake = request.getfixturevalue(request.param)
    return made


def _run(cli: Cli, *more: str) -> str:
    answer = cli("backfill", "job.yml", *more)
    assert answer.code == 0, answer.err
    return answer.out + answer.err


def test_full_brings_every_value_and_replaces_it(lake: Lake, database: Database, cli: Cli) -> None:
    database.execute(_VALUES)
    lake.job("  public.*: {mode: full}", "limits: {chunk_rows: 1000}")
    said = _run(cli, "--verify", "hash")
    assert "a-very-secret-key" not in said
    manifest, files = lake.table("orders")
    assert len(files) > 1
    assert sum(file["rows"] for file in manifest["files"]) == 3000
    # As text, because NaN is not equal to itself.
    shown = 'id, "Big", small, flag, "at", "local", day, "clock", data, amount, lower(share::text), words'
    wanted = database.rows(f'select {shown} from "Odd values" order by id')
    assert lake.query("odd_values", f"select {shown} from odd_values order by id") == wanted
    assert lake.query("odd_values", "select doc::json->>'a' from odd_values where id = 1") == [("[1,null]",)]
    database.execute("delete from orders where id > 10", "update orders set note = 'second'")
    _run(cli, "--verify", "hash")
    asked = "select count(*), min(note), max(note) from orders"
    assert lake.query("orders", asked) == [(10, "second", "second")]
    assert cli("verify", "job.yml").code == 0


def test_append_by_cursor_adds_only_what_is_new(lake: Lake, database: Database, cli: Cli) -> None:
    lake.job("  public.orders: {mode: append, cursor: updated_at}")
    _run(cli)
    _run(cli)
    database.execute(
        "alter table orders add column extra int",
        "insert into orders values (4000, 'new', '2024-03-01', 1), (4001, 'new', '2024-03-02', 2)",
    )
    said = _run(cli, "--verify", "hash")
    assert "column extra added" in said
    _run(cli)
    asked = "select count(*), count(distinct id), sum(extra) from orders"
    assert lake.query("orders", asked) == [(3002, 3002, 3)]
    manifest, files = lake.table("orders")
    assert len(files) == 2
    assert [row["mark"] for row in manifest["history"]][-1] == "2024-03-02 00:00:00+00"
    assert len({row["load_id"] for row in manifest["history"]}) == len(manifest["history"])


def test_merging_is_refused_before_anything_is_read(lake: Lake, cli: Cli) -> None:
    lake.job("  public.orders: {mode: incremental, cursor: updated_at}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "public.orders: this destination cannot keep mode incremental" in answer.err


def test_a_doctor_looks_at_it(lake: Lake, cli: Cli) -> None:
    lake.job("  public.orders: {mode: full}")
    answer = cli("doctor", "job.yml")
    assert answer.code == 0, answer.out
    assert "can be written" in answer.out
    assert "mode full here: exactly once; all at once" in answer.out


def test_nothing_is_to_do_without_a_bucket(s3: Lake, database: Database, cli: Cli) -> None:
    database.execute("create table t as select 1 as id")
    s3.project.environ["SOURCE_DSN"] = database.dsn
    s3.text = s3.text.replace("s3://lake-", "s3://no-lake-")
    s3.job("  public.t: {mode: full}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "There is no such bucket" in answer.err


def test_a_reader_sees_the_old_table_or_the_new_one(lake: Lake, database: Database, cli: Cli) -> None:
    lake.job("  public.orders: {mode: full}", "limits: {chunk_rows: 1000}")
    _run(cli)
    database.execute("update orders set note = 'second'", "insert into orders values (5000, 'second', '2024-02-01')")
    seen: set[tuple[Any, ...]] = set()
    broken: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                # What the manifest names is still there a moment later.
                _, files = lake.table("orders", here=lambda: stop.wait(0.01) and None)
                with duckdb.connect() as connection:
                    rows = connection.from_parquet([str(file) for file in files]).aggregate(
                        "count(*), count(*) filter (where note = 'second')"
                    )
                    seen.update(rows.fetchall())
            except BaseException as error:
                broken.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        _run(cli)
    finally:
        stop.wait(0.3)
        stop.set()
        reader.join()
    assert broken == []
    assert seen == {(3000, 0), (3001, 3001)}


@pytest.mark.parametrize("point", ["load-receipted:2", "swap"])
def test_a_killed_run_goes_on_and_nothing_is_there_twice(
    folder: Lake, database: Database, cli: Cli, point: str
) -> None:
    database.execute(_ORDERS)
    project = folder.project
    project.environ |= {"SOURCE_DSN": database.dsn, VARIABLE: point}
    folder.job("  public.orders: {mode: append, cursor: updated_at}", "limits: {chunk_rows: 1000}")
    killed = project.start("backfill", "job.yml")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    del project.environ[VARIABLE]
    assert not (project.folder / "lake/raw/orders/manifest.json").exists()
    _run(cli)
    asked = "select count(*), count(distinct id) from orders"
    assert folder.query("orders", asked) == [(3000, 3000)]
    manifest, _ = folder.table("orders")
    assert len(manifest["history"]) == 1
    _run(cli)
    assert folder.query("orders", asked) == [(3000, 3000)]
