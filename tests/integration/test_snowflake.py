"""Snowflake, by its own driver, on fakesnow's server: what is refused there is tested by its statements alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from orchestra.production.quality import DIALECTS, CheckedTable, Checks
from runner.errors import LeaseLost
from runner.load import Lease, Target
from runner.writers.books import TABLES
from runner.writers.snowflake import Snowflake, SnowflakeWriter
from tests.conftest import Cli, Database, Project

if TYPE_CHECKING:
    from tests.servers import FakeSnowflake

pytest_plugins = ("tests.servers",)
pytestmark = [
    # The driver's own, of its next version.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:snowflake"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

_ORDERS = """
create table orders (id int primary key, note text, amount numeric(12, 2), big numeric(38, 9), at timestamptz not null,
    local timestamp, day date, clock time, doc jsonb, raw bytea, share float8, done boolean, ref uuid)
"""
_FILL = r"""
insert into orders select i, case i % 5 when 0 then null when 1 then '' when 2 then E'it''s\\ a "quote"\n\u2603' else
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
_VALUES = """
select id, note, amount, big, {at}, local, day, clock, raw, share, done, ref from raw.orders order by id
"""


class Warehouse:
    """A job that moves into a database of its own."""

    def __init__(self, server: FakeSnowflake, project: Project, source: Database) -> None:
        self.server = server
        self.database = server.make_database()
        self._project = project
        project.environ["SOURCE_DSN"] = source.dsn

    def job(self, *tables: str, **more: object) -> None:
        options = {"type": "snowflake", "dataset": "raw", **self.server.options(self.database)}
        destination = yaml.safe_dump(options, default_flow_style=True, width=1000).strip()
        text = _JOB.format(destination=destination, tables="\n".join(f"  {table}" for table in tables))
        self._project.job(text + (yaml.safe_dump(more) if more else ""))

    def rows(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.rows(self.database, *statements)

    def writer(self) -> SnowflakeWriter:
        return Snowflake(self.server.options(self.database), folder=Path(), memory=0).writer("raw")


@pytest.fixture
def warehouse(snowflake_server: FakeSnowflake, project: Project, database: Database) -> Warehouse:
    database.execute(_ORDERS, _FILL, "create index on orders (at)", "analyze orders")
    return Warehouse(snowflake_server, project, database)


def test_one_job_file_makes_equal_tables_in_dev_and_in_prod(warehouse: Warehouse, project: Project, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    for environment in ("dev", "prod"):
        answer = cli("backfill", "job.yml", "--env", environment)
        assert answer.code == 0, answer.out + answer.err
    here = project.query(_VALUES.format(at='"at"::timestamp'))
    there = warehouse.rows(_VALUES.format(at='to_timestamp_ntz("AT")'))
    assert [tuple(bytes(v) if isinstance(v, bytearray) else v for v in row) for row in there] == here
    docs = warehouse.rows("select distinct doc from raw.orders")
    assert [json.loads(doc) for (doc,) in docs] == [{"a": [1, None, "x"], "b": {"c": 1.5}}]


def test_types_are_snowflakes_own_and_names_need_no_quotes(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    assert cli("backfill", "job.yml").code == 0
    columns = warehouse.rows(
        "select column_name, data_type, numeric_precision, numeric_scale, is_nullable from information_schema.columns "
        "where table_schema = 'RAW' and table_name = 'ORDERS'"
    )
    assert {name: (kind, *rest) for name, kind, *rest in columns} == {
        "ID": ("NUMBER", 10, 0, "NO"),
        "NOTE": ("TEXT", None, None, "YES"),
        "AMOUNT": ("NUMBER", 12, 2, "YES"),
        "BIG": ("NUMBER", 38, 9, "YES"),
        "AT": ("TIMESTAMP_TZ", None, None, "NO"),
        "LOCAL": ("TIMESTAMP_NTZ", None, None, "YES"),
        "DAY": ("DATE", None, None, "YES"),
        "CLOCK": ("TIME", None, None, "YES"),
        "DOC": ("VARIANT", None, None, "YES"),
        "RAW": ("BINARY", None, None, "YES"),
        "SHARE": ("FLOAT", None, None, "YES"),
        "DONE": ("BOOLEAN", None, None, "YES"),
        "REF": ("TEXT", None, None, "YES"),
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
    names = {
        row[0] for row in warehouse.rows("select table_name from information_schema.tables where table_schema='RAW'")
    }
    assert names == {"ORDERS", *(name.upper() for name in TABLES)}
    assert warehouse.rows("select count(*) from raw._runner_leases") == [(0,)]
    assert warehouse.rows("select count(*) from raw._dlt_loads") == [(2,)]


def test_many_small_tables_share_a_transaction(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    database.execute(
        *(f"create table small{i} as select i as id from generate_series(1, {i + 1}) i" for i in range(12))
    )
    warehouse.job("public.small*: {mode: full}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    for number in range(12):
        assert warehouse.rows(f"select count(*) from raw.small{number}") == [(number + 1,)]


def test_columns_come_widen_and_go(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: incremental, cursor: at}")
    assert cli("backfill", "job.yml").code == 0
    database.execute(
        "alter table orders add column extra text default 'x'",
        "alter table orders alter column id type bigint",
        "alter table orders drop column share",
        "update orders set at = '2025-01-01' where id <= 3",
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    assert warehouse.rows("select count(*), count(extra), count(share) from raw.orders") == [(3000, 4, 2996)]
    changes = [line for line in answer.err.splitlines() if "column" in line]
    assert any("extra added" in line for line in changes)
    assert any("id changed from NUMBER(10,0) to NUMBER(19,0)" in line for line in changes)
    assert any("share is gone" in line for line in changes)
    database.execute(
        "alter table orders alter column note type int using 1", "update orders set at = '2025-01-03' where id = 1"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "'note' was TEXT and is NUMBER(10,0) now" in answer.out


def test_a_frozen_schema_is_left_alone(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: incremental, cursor: at}", schema="freeze")
    assert cli("backfill", "job.yml").code == 0
    database.execute("alter table orders add column extra text", "update orders set at = '2025-01-01' where id <= 3")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "frozen" in answer.out
    columns = "select count(*) from information_schema.columns where table_name = 'ORDERS' and column_name = 'EXTRA'"
    assert warehouse.rows(columns) == [(0,)]


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_deleted_rows_are_found_by_their_keys(warehouse: Warehouse, database: Database, cli: Cli, how: str) -> None:
    warehouse.job(f"public.orders: {{mode: incremental, cursor: at, deletes: compare, on_delete: {how}}}")
    assert cli("backfill", "job.yml").code == 0
    database.execute("delete from orders where id <= 20")
    for _ in range(2):
        answer = cli("backfill", "job.yml")
        assert answer.code == 0, answer.out
    where = " where _deleted_at is null" if how == "soft" else ""
    assert warehouse.rows(f"select count(*), min(id) from raw.orders{where}") == [(2980, 21)]
    if how == "soft":
        assert warehouse.rows("select count(*) from raw.orders") == [(3000,)]


def test_snapshot_is_refused_before_anything_starts(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: snapshot}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "cannot keep mode snapshot" in answer.err


_AS_TEXT = "columns: {doc: text}"
_SPECIAL = """
alter table orders add column ratio real;
update orders set share = case id % 6 when 0 then 'NaN' when 1 then 'Infinity' when 2 then -0.0 when 3 then 1e-310
    else -id / 3e200 end, ratio = id / 7.0::real, at = at + make_interval(hours => id) where id <= 600;
"""


@pytest.mark.parametrize("mode", ["full", "append", "incremental"])
def test_every_value_is_proved_by_hash(warehouse: Warehouse, database: Database, cli: Cli, mode: str) -> None:
    database.execute(_SPECIAL)
    cursor = "" if mode == "full" else ", cursor: at"
    warehouse.job(f"public.orders: {{mode: {mode}{cursor}, {_AS_TEXT}}}")
    for change in ("select 1", "update orders set note = 'changed', at = now() where id = 7"):
        database.execute(change if mode != "append" else "select 1")
        answer = cli("backfill", "job.yml", "--verify", "hash")
        assert answer.code == 0, answer.out + answer.err
        assert "value by value" in answer.out
        assert "the destination reads about" in answer.err
    answer = cli("verify", "job.yml")
    assert answer.code == 0, answer.out
    assert "the destination reads about 3," in answer.err
    warehouse.rows("update raw.orders set share = share + 1 where id = 2500")
    answer = cli("verify", "job.yml")
    assert answer.code == 1
    assert "2500" in answer.out


def test_a_variant_is_not_compared_by_hash(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    answer = cli("backfill", "job.yml", "--verify", "hash")
    assert answer.code == 1
    assert "columns: {doc: text}" in answer.out


def test_a_table_of_somebody_else_is_refused_and_one_that_was_only_made_is_not(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    warehouse.rows("create schema if not exists raw", "create table raw.orders (id int)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "adopt" in answer.out
    # What a load that was killed leaves behind: a table that was made for it, and no history.
    warehouse.rows(
        "drop table raw.orders", "create table raw.orders (id int) comment = 'orchestra-runner: made for load 17'"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert warehouse.rows("select count(*), count(note) from raw.orders") == [(3000, 2400)]


def test_of_two_claims_the_earlier_holds_and_a_dead_one_does_not(warehouse: Warehouse) -> None:
    writer = warehouse.writer()
    writer.prepare()
    first = Lease("job", "run-1", "token-1", "here", 1)
    second = Lease("job", "run-2", "token-2", "there", 1)
    assert writer.acquire(first, ["orders"]) == []
    assert [(held.table, held.run) for held in writer.acquire(second, ["orders", "items"])] == [("orders", "run-1")]
    with writer.session() as cursor:
        assert writer.leases.held(cursor, first, ["orders", "items"]) == {"orders"}
        assert writer.leases.held(cursor, second, ["orders", "items"]) == {"items"}
        # The first one's time runs out.
        cursor.execute("update raw._runner_leases set expires_at = 1 where token = 'token-1'")
    assert writer.acquire(second, ["orders"]) == []
    writer.renew(first)
    with writer.session() as cursor:
        assert writer.leases.held(cursor, first, ["orders"]) == set()
    again = Lease("job", "run-2", "token-3", "elsewhere", 2)
    assert writer.acquire(again, ["orders"]) == []
    writer.release(again)
    assert warehouse.rows("select count(*) from raw._runner_leases") == [(0,)]
    writer.close()


def test_a_package_that_takes_long_keeps_its_own_lease(warehouse: Warehouse) -> None:
    writer = warehouse.writer()
    writer.prepare()
    lease = Lease("job", "run-1", "token-1", "here", 1)
    assert writer.acquire(lease, ["orders"]) == []
    warehouse.rows("update raw._runner_leases set expires_at = 1")
    writer._renewed -= 60
    with writer.session() as cursor:
        assert writer.leases.held(cursor, lease, ["orders"]) == set()
        writer.keep(cursor, lease)
        assert writer.leases.held(cursor, lease, ["orders"]) == {"orders"}
    writer.close()


def test_a_table_is_no_load_s_own_once_it_is_published(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    assert cli("backfill", "job.yml").code == 0
    comments = (
        "select count(*) from information_schema.tables where table_name = 'ORDERS' and comment like '%made for%'"
    )
    assert warehouse.rows(comments) == [(0,)]
    # So that who deletes the history by hand is asked, and the table is not taken for a leftover.
    warehouse.rows("delete from raw._runner_state")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "adopt" in answer.out


def test_whoever_lost_the_lease_does_not_publish(
    warehouse: Warehouse, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.job("public.orders: {mode: full}")
    assert cli("backfill", "job.yml").code == 0
    before = warehouse.rows("select load_id from raw._dlt_loads")
    insert = SnowflakeWriter.insert_rows

    def robbed(self: SnowflakeWriter, cursor: Any, target: Target) -> None:
        insert(self, cursor, target)
        cursor.execute("delete from raw._runner_leases")

    # In the same session: the emulator shows a transaction what was committed before it began, and Snowflake what was
    # committed before each statement.
    monkeypatch.setattr(SnowflakeWriter, "insert_rows", robbed)  # the moment between its rows and its commit
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert str(LeaseLost.__doc__).split(".", maxsplit=1)[0] in answer.out
    assert warehouse.rows("select load_id from raw._dlt_loads") == before
    assert warehouse.rows("select count(*) from raw.orders") == [(3000,)]


def test_no_server_is_told_at_once(warehouse: Warehouse, project: Project, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    text = (project.folder / "job.yml").read_text()
    project.job(text.replace(f"port: {warehouse.server.port}", "port: 1"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "Snowflake" in answer.err
    assert "snow" not in answer.err.lower().replace("snowflake", "").replace("fakesnow", "")


class _Recorder:
    """A connection that takes every statement: for those that the emulator refuses."""

    def __init__(self, answers: dict[str, list[tuple[Any, ...]]]) -> None:
        self.statements: list[str] = []
        self._answers = answers
        self._found: list[tuple[Any, ...]] = []

    def cursor(self) -> _Recorder:
        return self

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str) -> None:
        self.statements.append(sql)
        self._found = next((rows for start, rows in self._answers.items() if sql.startswith(start)), [])

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        return self._found

    def close(self) -> None:
        pass


def _recorded(answers: dict[str, list[tuple[Any, ...]]], **more: object) -> tuple[SnowflakeWriter, _Recorder]:
    options = {"account": "acme", "database": "analytics", "user": "loader", "warehouse": "load_wh", **more}
    writer = Snowflake(options, folder=Path(), memory=0).writer("raw_shop")
    recorder = _Recorder(answers)
    writer._connection = recorder
    return writer, recorder


def test_doctor_prints_the_grants_that_are_missing() -> None:
    held = [
        (None, "USAGE", "DATABASE", "ANALYTICS", "ROLE", "LOADER_ROLE"),
        (None, "USAGE", "WAREHOUSE", "LOAD_WH", "ROLE", "LOADER_ROLE"),
        (None, "USAGE", "SCHEMA", "ANALYTICS.RAW_SHOP", "ROLE", "LOADER_ROLE"),
    ]
    writer, recorder = _recorded(
        {
            "select current_user()": [("LOADER", "LOADER_ROLE", "ANALYTICS")],
            "select 1 from information_schema.schemata": [(1,)],
            "show grants": held,
        }
    )
    checks = writer.diagnose()
    assert [(level, advice) for level, _, advice in checks] == [
        ("ok", ""),
        ("warn", "grant CREATE TABLE on SCHEMA ANALYTICS.RAW_SHOP to LOADER_ROLE;"),
        ("warn", "grant CREATE STAGE on SCHEMA ANALYTICS.RAW_SHOP to LOADER_ROLE;"),
        ("warn", "grant CREATE FUNCTION on SCHEMA ANALYTICS.RAW_SHOP to LOADER_ROLE;"),
    ]
    assert recorder.statements[-1] == 'show grants to role "LOADER_ROLE"'


def test_what_runs_is_tagged_and_what_was_uploaded_is_removed() -> None:
    from runner.load import ChunkLoad

    writer, recorder = _recorded({})
    with writer.session() as cursor:
        writer._tag(cursor, json.dumps({"job": "it's", "table": "public.orders"}))
        writer._tag(cursor, json.dumps({"job": "it's", "table": "public.orders"}))
        writer._run = "run-1"
        writer.remove_uploaded(cursor, ChunkLoad("abc", 1, (Path("abc.0.parquet"),), 1, 1))
    assert recorder.statements == [
        """alter session set query_tag = '{"job": "it''s", "table": "public.orders"}'""",
        'remove @"RAW_SHOP"."_RUNNER_FILES"/run-1/abc/',
    ]


def test_credits_go_by_the_size_of_the_warehouse() -> None:
    row = ("LOAD_WH", "STARTED", "STANDARD", "Medium")
    writer, recorder = _recorded({"select current_warehouse()": [("LOAD_WH",)], "show warehouses": [row]})
    writer.prepare()
    assert "show warehouses like 'LOAD_WH'" in recorder.statements
    writer._meter.seconds = 900
    assert writer.spent().credits == 1.0


def test_the_report_shows_what_loading_cost(
    warehouse: Warehouse, project: Project, database: Database, cli: Cli
) -> None:
    database.execute("create table items as select i as id from generate_series(1, 10) i")
    warehouse.job("public.*: {mode: full}")
    answer = cli("backfill", "job.yml", "--json")
    assert answer.code == 0
    spent = [event for event in map(json.loads, answer.out.splitlines()) if event["action"] == "spent"]
    assert {event["table"] for event in spent} == {"public.orders", "public.items"}
    assert all(event["statements"] >= 1 for event in spent)
    assert {event["table"] for event in spent if event["staged"] > 0} == {"public.orders", "public.items"}
    (report,) = project.folder.glob(".runner/runs/*/report.html")
    assert "Cost at the destination" in report.read_text()


def test_an_external_stage_is_read_by_its_name() -> None:
    from runner.load import ChunkLoad

    writer, _ = _recorded({}, stage="analytics.public.landing", stage_url="s3://landing/prefix")
    writer._run = "run-1"
    place = writer._place(ChunkLoad("abc", 1, (Path("abc.0.parquet"),), 1, 1))
    assert place == "@analytics.public.landing/run-1/abc/"


def test_what_a_generated_pipeline_asks_of_the_tables(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: incremental, cursor: at}")
    assert cli("backfill", "job.yml").code == 0
    tables = [CheckedTable("orders", "incremental", ("id",), "at", timedelta(days=36500))]
    checks = Checks(DIALECTS["snowflake"], [warehouse.database, "raw"]).all(
        tables, keys=True, counts=True, error_after=3
    )
    assert [warehouse.rows(check.sql) for check in checks] == [[], [], [], []]
    # The column of the key takes no NULL: a table that somebody made anew does.
    old = "to_timestamp_ntz('1900-01-01')"
    warehouse.rows(
        f'create table raw.spoiled as select id, {old} as "AT" from raw.orders where id < 5 '
        f"union all select 1, {old} union all select null, {old}"
    )
    warehouse.rows("drop table raw.orders")
    warehouse.rows("alter table raw.spoiled rename to raw.orders")
    found = {check.id: warehouse.rows(check.sql) for check in checks}
    assert found["unique_keys"] == [(1, "orders")]
    assert found["keys_not_null"] == [(1, "orders")]
    assert [row[2] for row in found["row_counts"]] == ["orders", "orders"]
    assert [row[1] for row in found["freshness"]] == ["orders"]
