"""The data-quality queries, asked of tables that the runner loaded and somebody then spoiled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import duckdb
import pytest

from orchestra.production.quality import DIALECTS, DUCKDB, CheckedTable, Checks
from tests.conftest import Cli, Database, Project

_DAY = timedelta(days=1)
_SHOP = (
    "create table orders (id int primary key, total int, updated_at timestamptz not null)",
    "create index on orders (updated_at)",
    "insert into orders select n, n, now() - interval '1 hour' from generate_series(1, 20) n",
    "create table notes (id int primary key, words text)",
    "insert into notes select n, 'x' from generate_series(1, 5) n",
)
_TABLES = (
    CheckedTable("orders", "incremental", ("id",), "updated_at", _DAY),
    CheckedTable("notes", "full", ("id",)),
    CheckedTable("empty", "full", ("id",), "seen", _DAY),
)


class Warehouse:
    """What the queries are asked of.

    Attributes:
        change: Runs a statement there.
    """

    def __init__(self, checks: Checks, ask: Callable[[str], list[tuple]], change: Callable[[str], None]) -> None:
        self._checks = checks
        self._ask = ask
        self.change = change

    def __call__(self, check: str) -> list[tuple]:
        found = {one.id: one for one in self._checks.all(_TABLES, keys=True, counts=True, error_after=3)}
        return self._ask(found[check].sql)

    def state(self, check: str) -> str:
        """Return what the platform makes of the number of rows, and of the first value if it should look at that."""
        found = {one.id: one for one in self._checks.all(_TABLES, keys=True, counts=True, error_after=3)}[check]
        rows = self._ask(found.sql)
        limits = [("FAILED", found.error), ("WARNING", found.warn or found.error)]
        states = {
            next((state for state, limit in limits if number > int(limit.removeprefix("> "))), "SUCCEEDED")
            for number in (len(rows), rows[0][0] if rows else 0)
        }
        assert len(states) == 1, rows
        return states.pop()


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, database: Database, project: Project, cli: Cli) -> Warehouse:
    database.execute(*_SHOP, "create table empty (id int primary key, seen date)")
    project.environ["SOURCE_DSN"] = database.dsn
    there = "path: warehouse.duckdb" if request.param == "duckdb" else 'dsn: "${SOURCE_DSN}"'
    project.job(
        f'name: q\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\n'
        f"destination: {{type: {request.param}, {there}, dataset: raw}}\n"
        "defaults: {mode: auto, cursor: [updated_at], fallback: full}\ntables: {public.*: }\n"
    )
    assert cli("backfill", "job.yml").code == 0
    if request.param == "postgres":
        return Warehouse(Checks(DIALECTS["postgres"], ["raw"]), database.rows, database.execute)

    def change(statement: str) -> None:
        with duckdb.connect(str(project.warehouse)) as connection:
            connection.execute(statement)

    return Warehouse(Checks(DUCKDB, ["raw"]), project.query, change)


def test_what_was_loaded_passes_and_what_is_spoiled_is_found(warehouse: Warehouse) -> None:
    kinds = ("unique_keys", "keys_not_null", "row_counts", "freshness")
    assert {kind: warehouse.state(kind) for kind in kinds} == dict.fromkeys(kinds, "SUCCEEDED")

    # More rows than were loaded: of an incremental table that may be; of one that is replaced somebody else wrote them.
    warehouse.change("insert into raw.notes (id, words) values (99, 'by hand')")
    assert warehouse("row_counts") == [(1, "other rows than the record of the load", "notes")]
    assert warehouse.state("row_counts") == "WARNING"
    warehouse.change("delete from raw.notes where id in (99, 1)")
    assert [row[2] for row in warehouse("row_counts")] == ["notes", "notes"]
    assert warehouse.state("row_counts") == "FAILED"

    warehouse.change("update raw.orders set updated_at = now() - interval '36 hours'")
    assert warehouse("freshness") == [(1, "orders")]
    assert warehouse.state("freshness") == "WARNING"
    warehouse.change("update raw.orders set updated_at = now() - interval '80 hours'")
    assert [row[0] for row in warehouse("freshness")] == [3, 2, 1]
    assert warehouse.state("freshness") == "FAILED"


def test_keys_that_are_there_twice_or_not_at_all(warehouse: Warehouse) -> None:
    for name, columns in (("orders", "id, total, updated_at"), ("notes", "id, words")):
        warehouse.change(f"create table raw.copy as select {columns} from raw.{name}")
        warehouse.change(f"drop table raw.{name}")
        warehouse.change(f"alter table raw.copy rename to {name}")
    warehouse.change("insert into raw.orders select 7, 0, now()")
    assert warehouse("unique_keys") == [(1, "orders")]
    assert warehouse.state("unique_keys") == "FAILED"
    warehouse.change("update raw.notes set id = null where id < 3")
    assert warehouse("keys_not_null") == [(2, "notes")]
    assert warehouse.state("keys_not_null") == "FAILED"


def test_a_range_says_nothing_of_the_whole_table_and_a_hash_all(
    warehouse: Warehouse, project: Project, cli: Cli
) -> None:
    job = (project.folder / "job.yml").read_text().replace("mode: auto", "mode: full")
    project.job(job)
    assert cli("backfill", "job.yml", "--full-refresh").code == 0
    again = cli("backfill", "job.yml", "--tables", "public.orders", "--since", "2001-01-01", "--until", "2001-02-01")
    assert again.code == 0, again.err
    assert warehouse("row_counts") == []
    project.job(job.replace("mode: full", "mode: auto"))
    assert cli("backfill", "job.yml", "--full-refresh", "--verify", "hash").code == 0
    assert warehouse("row_counts") == []
    warehouse.change("insert into raw.orders (id, total, updated_at) select 500, 0, now()")
    assert warehouse("row_counts")[0][2] == "orders"


def test_a_table_without_a_record_was_never_loaded(warehouse: Warehouse) -> None:
    warehouse.change("delete from raw._runner_state where table_name = 'empty'")
    assert [row[2] for row in warehouse("row_counts")] == ["empty", "empty"]


def test_of_a_snapshot_only_the_newest_versions_count(database: Database, project: Project, cli: Cli) -> None:
    database.execute(
        "create table people (id int primary key, name text)", "insert into people values (1, 'a'), (2, 'b')"
    )
    project.environ["SOURCE_DSN"] = database.dsn
    project.job(
        'name: q\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\n'
        "destination: {type: duckdb, path: warehouse.duckdb, dataset: raw}\ntables: {public.people: {mode: snapshot}}\n"
    )
    assert cli("backfill", "job.yml").code == 0
    database.execute("update people set name = 'c' where id = 1")
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.people") == [(3,)]
    checks = Checks(DUCKDB, ["raw"]).all(
        [CheckedTable("people", "snapshot", ("id",))], keys=True, counts=True, error_after=3
    )
    assert {one.id: project.query(one.sql) for one in checks} == {
        "unique_keys": [], "keys_not_null": [], "row_counts": [],
    }  # fmt: skip
