"""BigQuery, by Google's own client, on bqemulator's server: what is refused there is tested by its statements alone."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runner.errors import DestinationBusy, DestinationDown, DestinationError, LeaseLost
from runner.load import Lease
from runner.writers.bigquery import BigQuery
from runner.writers.bigqueryjobs import Jobs
from runner.writers.bigquerysql import script
from runner.writers.bigquerywriter import BigQueryWriter
from runner.writers.books import TABLES
from tests.conftest import Cli, Database, Project

if TYPE_CHECKING:
    from tests.servers import FakeBigQuery

pytest_plugins = ("tests.servers",)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

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


def test_many_small_tables_share_a_transaction(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    database.execute(
        *(f"create table small{i} as select i as id from generate_series(1, {i + 1}) i" for i in range(12))
    )
    warehouse.job("public.small*: {mode: full}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    for number in range(12):
        assert warehouse.rows(f"select count(*) from raw.small{number}") == [(number + 1,)]
    assert len(_jobs(warehouse, "runner-publish-")) < 12


def test_columns_come_widen_and_go(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: incremental, cursor: at}")
    assert cli("backfill", "job.yml").code == 0
    database.execute(
        "alter table orders add column extra text default 'x'",
        "alter table orders alter column amount type numeric(14, 3)",
        "alter table orders alter column id type bigint",
        "alter table orders drop column share",
        "update orders set at = '2025-01-01' where id <= 3",
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out
    assert warehouse.rows("select count(*), count(extra), count(share) from raw.orders") == [(3000, 4, 2996)]
    changes = [line for line in answer.err.splitlines() if "column" in line]
    assert any("extra added" in line for line in changes)
    assert any("amount changed from NUMERIC(12,2) to NUMERIC(14,3)" in line for line in changes)
    assert any("share is gone" in line for line in changes)
    database.execute(
        "alter table orders alter column note type int using 1", "update orders set at = '2025-01-03' where id = 1"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "'note' was STRING and is INT64 now" in answer.out


def test_a_frozen_schema_is_left_alone(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: incremental, cursor: at}", schema="freeze")
    assert cli("backfill", "job.yml").code == 0
    database.execute("alter table orders add column extra text", "update orders set at = '2025-01-01' where id <= 3")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "frozen" in answer.out
    columns = (
        "select count(*) from raw.INFORMATION_SCHEMA.COLUMNS where table_name = 'orders' and column_name = 'extra'"
    )
    assert warehouse.rows(columns) == [(0,)]


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_rows_that_the_source_marks_are_deleted(warehouse: Warehouse, database: Database, cli: Cli, how: str) -> None:
    database.execute("alter table orders add column gone timestamptz")
    warehouse.job(f"public.orders: {{mode: incremental, cursor: at, deletes: {{column: gone}}, on_delete: {how}}}")
    assert cli("backfill", "job.yml").code == 0
    database.execute("update orders set gone = now(), at = '2025-01-01' where id <= 20")
    for _ in range(2):
        answer = cli("backfill", "job.yml")
        assert answer.code == 0, answer.out
    assert warehouse.rows("select count(*), min(id) from raw.orders where gone is null") == [(2980, 21)]
    assert warehouse.rows("select count(*) from raw.orders") == [(3000 if how == "soft" else 2980,)]


@pytest.mark.parametrize(
    ("table", "flags", "code", "said"),
    [
        ("{mode: snapshot}", [], 2, "cannot keep mode snapshot"),
        ("{mode: incremental, cursor: at, deletes: compare}", [], 1, "deletes: {column: …}"),
        ("{mode: full}", ["--verify", "hash"], 1, "--verify counts"),
    ],
)
def test_what_is_not_kept_is_refused(
    warehouse: Warehouse, cli: Cli, table: str, flags: list[str], code: int, said: str
) -> None:
    warehouse.job(f"public.orders: {table}")
    for _ in range(1 if code == 2 else 2):
        answer = cli("backfill", "job.yml", *flags)
        # A first load has nothing to compare.
        if answer.code != 0:
            break
    assert answer.code == code
    assert said in answer.out + answer.err


def test_a_table_of_somebody_else_is_refused_and_one_that_was_only_made_is_not(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    warehouse.rows("create schema raw", "create table raw.orders (id int64)")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "adopt" in answer.out
    # What a load that was killed leaves behind: a table that was made for it, and no history.
    warehouse.rows(
        "drop table raw.orders",
        "create table raw.orders (id int64) options(description = 'orchestra-runner: made for load 17')",
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert warehouse.rows("select count(*), count(note) from raw.orders") == [(3000, 2400)]


def test_new_tables_are_partitioned_and_clustered_by_what_they_have(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}", options={"partition": "at", "cluster": ["missing", "id"]})
    statements: list[str] = []
    plain = Jobs.rows

    def recorded(self: Jobs, sql: str) -> list[tuple[Any, ...]]:
        statements.append(sql)
        return plain(self, sql)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "rows", recorded)
        answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    made = next(sql for sql in statements if sql.startswith("create table if not exists `raw`.`orders`"))
    assert " partition by timestamp_trunc(`at`, day) cluster by `id` options(" in made


def test_columns_whose_names_bigquery_does_not_take(warehouse: Warehouse, database: Database, cli: Cli) -> None:
    database.execute(
        'create table odd (id int primary key, "a b!" text, "A" int, "a" int, "x.y" int, doc json)',
        "insert into odd values (1, 'x', 2, 3, 4, '{\"n\": 1}')",
    )
    warehouse.job("public.odd: {mode: full, columns: {A: drop}}")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert warehouse.rows("select id, a_bx, a, x_y from raw.odd") == [(1, "x", 3, 4)]


def test_of_two_claims_the_earlier_holds_and_a_dead_one_does_not(warehouse: Warehouse) -> None:
    writer = warehouse.writer()
    writer.prepare()
    first = Lease("job", "run-1", "token-1", "here", 1)
    second = Lease("job", "run-2", "token-2", "there", 1)
    assert writer.acquire(first, ["orders"]) == []
    assert [(held.table, held.run) for held in writer.acquire(second, ["orders", "items"])] == [("orders", "run-1")]
    with writer.session() as cursor:
        for lease, tables in ((first, ["orders"]), (second, ["items"])):
            assert writer.leases.held(cursor, lease, ["orders", "items"]) == {*tables}
            assert cursor.rows(f"select {writer.leases.condition(lease, tables)}") == [(True,)]
            assert cursor.rows(f"select {writer.leases.condition(lease, ['orders', 'items'])}") == [(False,)]
        # The first one's time runs out.
        cursor.execute("update raw._runner_leases set expires_at = 1 where token = 'token-1'")
        assert cursor.rows(f"select {writer.leases.condition(first, ['orders'])}") == [(False,)]
    assert writer.acquire(second, ["orders"]) == []
    writer.renew(first)
    with writer.session() as cursor:
        assert writer.leases.held(cursor, first, ["orders"]) == set()
    writer.release(second)
    assert warehouse.rows("select count(*) from raw._runner_leases") == [(0,)]
    writer.close()


@pytest.mark.parametrize(
    "meddling",
    [
        "delete from raw._runner_leases where true",
        "delete from raw._runner_leases where true; "
        "insert into raw._runner_leases values ('orders', 'other', 'other', 'there', 1, 4e9)",
        "insert into raw._runner_state select * replace (seq + 1 as seq) from raw._runner_state",
    ],
)
@pytest.mark.parametrize("when", ["_stage", "insert_rows"])
def test_whoever_lost_the_table_does_not_publish(
    warehouse: Warehouse, cli: Cli, monkeypatch: pytest.MonkeyPatch, meddling: str, when: str
) -> None:
    warehouse.job("public.orders: {mode: full}")
    assert cli("backfill", "job.yml").code == 0
    before = warehouse.rows("select load_id from raw._dlt_loads")
    plain = getattr(BigQueryWriter, when)
    done: list[str] = []

    def robbed(self: BigQueryWriter, *arguments: Any, **more: Any) -> None:
        if not done and (when != "_stage" or arguments[2].publication is not None):
            done.append(when)
            warehouse.rows(*meddling.split("; "))
        plain(self, *arguments, **more)

    monkeypatch.setattr(BigQueryWriter, when, robbed)  # the moment before rows go to staging, or are published
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert str(LeaseLost.__doc__).split(".", maxsplit=1)[0] in answer.out
    assert warehouse.rows("select load_id from raw._dlt_loads") == before
    assert warehouse.rows("select count(*) from raw.orders") == [(3000,)]


def test_a_publication_that_is_sent_twice_is_one_job(
    warehouse: Warehouse, database: Database, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.job("public.orders: {mode: append, cursor: at}")
    plain = Jobs.script
    sent: list[str] = []

    def twice(self: Jobs, sql: str, name: str) -> None:
        plain(self, sql, name)
        if name.startswith("runner-publish-"):
            sent.append(name)
            plain(self, sql, name)

    monkeypatch.setattr(Jobs, "script", twice)  # the real call, twice
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert len(sent) == 1
    assert _jobs(warehouse, sent[0]) == [f"{sent[0]}-0"]
    assert warehouse.rows("select count(*) from raw.orders") == [(3000,)]


def test_rows_that_are_staged_twice_are_refused(
    warehouse: Warehouse, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.job("public.orders: {mode: full}")
    plain = Jobs.script
    refused: list[str] = []

    def late(self: Jobs, sql: str, name: str) -> None:
        plain(self, sql, name)
        if name.startswith("runner-stage-"):
            with pytest.raises(DestinationBusy):
                plain(self, sql, f"{name}-late")
            refused.append(name)

    monkeypatch.setattr(Jobs, "script", late)  # a request that was given up arrives after the one in its place
    answer = cli("backfill", "job.yml", "--verify", "none")
    assert answer.code == 0, answer.out + answer.err
    assert refused
    assert warehouse.rows("select count(*), count(distinct id) from raw.orders") == [(3000, 3000)]


def test_a_job_that_failed_leaves_its_number_to_it(warehouse: Warehouse) -> None:
    writer = warehouse.writer()
    writer.prepare()
    jobs = writer._connect()
    with pytest.raises(DestinationError):
        jobs.script(script(["select no_such_column"]), "runner-publish-1")
    insert = script(["insert into raw._runner_schemas values ('orders', 'x')"])
    for _ in range(2):
        jobs.script(insert, "runner-publish-1")
    assert warehouse.rows("select count(*) from raw._runner_schemas") == [(1,)]
    assert _jobs(warehouse, "runner-publish-1") == ["runner-publish-1-0", "runner-publish-1-1"]
    jobs.settle("runner-publish-1")
    writer.close()


@pytest.mark.parametrize("what", ["stage", "publish"])
@pytest.mark.parametrize("again", ["at once", "elsewhere"])
def test_a_script_whose_answer_is_lost_is_not_sent_again(
    warehouse: Warehouse, project: Project, cli: Cli, monkeypatch: pytest.MonkeyPatch, what: str, again: str
) -> None:
    warehouse.job("public.orders: {mode: append, cursor: at}")
    plain, settle = Jobs.script, Jobs.settle
    settled: list[str] = []

    def cut(self: Jobs, sql: str, name: str) -> None:
        plain(self, sql, name)
        if name.startswith(f"runner-{what}-"):
            monkeypatch.setattr(Jobs, "script", plain)  # from then on answers arrive
            raise (DestinationDown if again == "at once" else DestinationError)("the answer was lost")

    def noted(self: Jobs, name: str) -> None:
        settled.append(name)
        settle(self, name)

    monkeypatch.setattr(Jobs, "script", cut)  # the real call, whose answer is lost
    monkeypatch.setattr(Jobs, "settle", noted)  # the real call, and a note of it
    answer = cli("backfill", "job.yml")
    if again == "elsewhere":
        # Another machine, which has nothing of the first one's but the job file.
        assert answer.code == 1
        shutil.rmtree(project.folder / ".runner")
        answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert any(name.startswith(f"runner-{what}-") for name in settled)
    assert warehouse.rows("select count(*), count(distinct id) from raw.orders") == [(3000, 3000)]


def test_a_lease_is_renewed_before_a_script_that_comes_late(
    warehouse: Warehouse, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.job("public.orders: {mode: full}")
    load = BigQueryWriter._load

    def slow(self: BigQueryWriter, *arguments: Any) -> None:
        load(self, *arguments)
        warehouse.rows("update raw._runner_leases set expires_at = 1 where true")
        self._renewed -= 60

    monkeypatch.setattr(BigQueryWriter, "_load", slow)  # the real load, which takes longer than a lease
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.out + answer.err
    assert warehouse.rows("select count(*) from raw.orders") == [(3000,)]


def test_nothing_is_read_that_is_about_to_change(warehouse: Warehouse) -> None:
    writer = warehouse.writer()
    writer.prepare()
    with writer.session() as cursor:
        cursor.execute("begin")
        cursor.execute('delete from "raw"."_runner_plans" where run = ?', ["1"])
        assert cursor.rows('select count(*) from "raw"."_runner_chunks"') == [(0,)]
        with pytest.raises(RuntimeError, match="_runner_plans"):
            cursor.rows('select count(*) from "raw"."_runner_plans"')
    writer.close()


def test_no_server_is_told_at_once(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}", options={"api_endpoint": "http://127.0.0.1:1"})
    began = time.monotonic()
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert "BigQuery does not answer" in answer.err
    assert time.monotonic() - began < 20


def test_doctor_looks_at_the_project(warehouse: Warehouse, cli: Cli) -> None:
    warehouse.job("public.orders: {mode: full}")
    for _ in range(2):
        answer = cli("doctor", "job.yml")
        assert f"BigQuery answers in project {warehouse.project}" in answer.out
        assert "it may load into raw" in answer.out
        cli("backfill", "job.yml")


def _jobs(warehouse: Warehouse, prefix: str) -> list[str]:
    with contextlib.closing(warehouse.server.client(warehouse.project)) as client:
        return sorted(job.job_id for job in client.list_jobs() if job.job_id.startswith(prefix))
