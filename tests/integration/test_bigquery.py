"""BigQuery, by Google's own client, on bqemulator's server: what is refused there is tested by its statements alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runner.writers.bigquery import BigQuery
from runner.writers.bigquerywriter import BigQueryWriter
from runner.writers.transactional import TABLES
from tests.conftest import Cli, Database, Project

if TYPE_CHECKING:

    from tests.servers import FakeBigQuery

pytest_plugins = ("tests.servers",)
pytestmark = [
    pytest.mark.xdist_group("bigquery"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

_ORDERS = """
create table orders (id int primary key, note text, amount numeric(12, 2), big numeric(38, 9), at timestamptz not null,
    local timestamp, day date, clock time, doc jsonb, raw bytea, share float8, done boolean, ref uuid)
"""
_FILL = r"""
insert into orders select i, case i % 5 when 0 then null when 1 then '' when 2 then E'it''s\\ a "quote"\n☃' else
    md5(i::text) end, i / 7.0, 12345678901234567890123456789.123456789, timestamptz '2024-01-01 00:00:00.123456+00'
    + make_interval(secs => i), timestamp '2024-03-31 02:30:00.000001', date '0001-01-01' + i, time '23:59:59.999999',
    '{"a": [1, null, "x"], "b": {"c": 1.5}}', '\x00ff', i / 3.0, i % 3 = 0, md5(i::text)::uuid
from generate_series(1, 3000) i
"""
_JOB = """
name: shop
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {destination}
limits: {{chunk_rows: 1000}}
environments:
  dev: {{destination: {{type: duckdb, path: warehouse.duckdb, dataset: raw}}}}
  prod: {{destination: {destination}}}
tables:
{tables}
"""
_VALUES = "select id, note, amount, big, {at}, local, day, clock, raw, share, done, ref from raw.orders order by id"


class Warehouse:
    """A job that moves into a project of its own."""

    def __init__(self, server: FakeBigQuery, project: Project, source: Database) -> None:
        self.server = server
        self.project = server.make_project()
        self._folder = project
        project.environ["SOURCE_DSN"] = source.dsn

    def job(self, *tables: str, options: dict[str, object] | None = None, **more: object) -> None:
        given = {"type": "bigquery", "dataset": "raw", **self.server.options(self.project), **(options or {})}
        destination = yaml.safe_dump(given, default_flow_style=True, width=1000).strip()
        text = _JOB.format(destination=destination, tables="\n".join(f"  {table}" for table in tables))
        self._folder.job(text + (yaml.safe_dump(more) if more else ""))

    def rows(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.rows(self.project, *statements)

    def writer(self, **options: object) -> BigQueryWriter:
        given = {**self.server.options(self.project), **options}
        return BigQuery(given, folder=self._folder.folder, memory=0).writer("raw")


@pytest.fixture
def warehouse(bigquery_server: FakeBigQuery, project: Project, database: Database) -> Warehouse:
    database.execute(_ORDERS, _FILL, "create index on orders (at)", "analyze orders")
    return Warehouse(bigquery_server, project, database)


def test_one_job_file_makes_equal_tables_in_dev_and_in_prod(warehouse: Warehouse, project: Project, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    for environment in ("dev", "prod"):
        answer = cli("backfill", "job.yml", "--env", environment)
        assert answer.code == 0, answer.out + answer.err
    here = project.query(_VALUES.format(at="\"at\" at time zone 'UTC'"))
    there = warehouse.rows(_VALUES.format(at="datetime(`at`)"))
    assert there == here
    docs = warehouse.rows("select distinct to_json_string(doc) from raw.orders")
    assert docs == [('{"a":[1,null,"x"],"b":{"c":1.5}}',)]


def test_types_are_bigquerys_own(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    assert cli("backfill", "job.yml").code == 0
    columns = warehouse.rows(
        "select column_name, data_type, is_nullable from raw.INFORMATION_SCHEMA.COLUMNS where table_name = 'orders'"
    )
    assert {name: (kind, null) for name, kind, null in columns} == {
        "id": ("INT64", "NO"),
        "note": ("STRING", "YES"),
        "amount": ("NUMERIC(12, 2)", "YES"),
        "big": ("NUMERIC(38, 9)", "YES"),
        "at": ("TIMESTAMP", "NO"),
        "local": ("DATETIME", "YES"),
        "day": ("DATE", "YES"),
        "clock": ("TIME", "YES"),
        "doc": ("JSON", "YES"),
        "raw": ("BYTES", "YES"),
        "share": ("FLOAT64", "YES"),
        "done": ("BOOL", "YES"),
        "ref": ("STRING", "YES"),
    }


@pytest.mark.parametrize("mode", ["full", "append", "incremental"])
def test_a_second_run_brings_what_changed(warehouse: Warehouse, database: Database, cli: Cli, mode: str) -> None:
    cursor = "" if mode == "full" else ", cursor: at"
    warehouse.job(f"public.orders: {{mode: {mode}{cursor}}}")
    assert cli("backfill", "job.yml").code == 0
    database.execute(
        "insert into orders (id, note, at) select 9000 + i, 'new', '2025-01-01' from generate_series(1, 5) i"
    )
    if mode != "append":
        database.execute("update orders set note = 'changed', at = '2025-01-02' where id <= 10")
    if mode == "full":
        database.execute("delete from orders where id between 100 and 199")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    here = database.rows("select id, note, share from orders order by id")
    assert warehouse.rows("select id, note, share from raw.orders order by id") == here
    names = {row[0] for row in warehouse.rows("select table_name from raw.INFORMATION_SCHEMA.TABLES")}
    assert names == {"orders", *TABLES}
    assert warehouse.rows("select count(*) from raw._runner_leases") == [(0,)]
    assert warehouse.rows("select count(*) from raw._dlt_loads") == [(2,)]


def test_rows_are_merged_by_a_key_of_two_columns(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    database.execute(
        "create table items (a int, b text, v int, at timestamptz not null, primary key (a, b))",
        "insert into items select i, 'x', 1, '2024-01-01' from generate_series(1, 50) i",
        "create index on items (at)",
    )
    warehouse.job("public.items: {mode: incremental, cursor: at}")
    assert cli("backfill", "job.yml").code == 0
    database.execute(
        "update items set v = 2, at = '2024-02-01' where a < 10", "insert into items values (1, 'y', 3, '2024-02-02')"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    here = database.rows('select a, b, v from items order by a, b collate "C"')
    assert warehouse.rows("select a, b, v from raw.items order by a, b") == here
