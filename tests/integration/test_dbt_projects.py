"""The dbt projects: all six parsed, four built, two compiled and kept; GOLDEN=write writes what is kept, and the table, anew.

What a project's tests prove is said once, in ``PROOFS``: the tests are made from it, and so is the table of dbt/README.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import duckdb
import pytest
import yaml

from tests.conftest import Database
from tests.environments import NotInstalled, environment
from tests.integration.dbt_tables import insert, statements

if TYPE_CHECKING:
    from tests.servers import FakeBigQuery, FakeSnowflake

pytest_plugins = ("tests.servers",)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

_ROOT = Path(__file__).parents[2]
_PROJECTS = _ROOT / "dbt"
_GOLDEN = _ROOT / "tests" / "unit" / "golden" / "dbt"
_SERVERS = _ROOT / "tests" / "servers"
_SOURCES = sorted((_PROJECTS / "shared" / "models" / "sources").glob("*.yml"))
_TABLE = re.compile(r"(<!-- what ran: begin -->\n).*?(<!-- what ran: end -->)", re.DOTALL)


@dataclass(frozen=True)
class Proof:
    """What the tests do with a project, beside parsing it.

    Attributes:
        on: What its statements ran on; empty where none ever did.
        builds: How many builds follow each other; the second is of what is made of changed sources.
        whole: Whether tests of data and unit tests of models run as well; tests of macros always do.
    """

    on: str = ""
    builds: int = 0
    whole: bool = True

    @property
    def only(self) -> list[str]:
        """The options that leave out tests that are not named themselves."""
        return [] if self.whole else ["--indirect-selection", "empty"]


PROOFS = {
    "duckdb": Proof("DuckDB", builds=2),
    "postgres": Proof("PostgreSQL", builds=2),
    "snowflake": Proof("an emulator of Snowflake (fakesnow)", builds=1, whole=False),
    "bigquery": Proof("an emulator of BigQuery (bqemulator)", builds=2, whole=False),
    "databricks": Proof(),
    "fabric": Proof(),
}
_UNPROVED = [name for name, proof in PROOFS.items() if not proof.on]


@dataclass(frozen=True)
class Answer:
    """What came of a command; what has no status that is asked for is not in ``statuses``."""

    success: bool
    said: Sequence[str]
    error: str
    results: Sequence[dict[str, Any]]

    @property
    def statuses(self) -> dict[str, str]:
        return {result["id"]: result["status"] for result in self.results}

    def check(self) -> Answer:
        assert self.success, "\n".join([self.error, *self.said])
        return self


@dataclass
class Session:
    """A process that runs dbt's commands on a copy of the projects: dbt writes beside them."""

    process: subprocess.Popen[str]
    folder: Path
    installed: set[str] = field(default_factory=set)

    def run(self, project: str, *arguments: str | Path, without: str | None = None, **environ: str) -> Answer:
        """Run a command in a project.

        Args:
            without: Compile without a warehouse, as if no table was there ("new") or all were ("there").
        """
        if project not in self.installed:
            self._send(project, ["deps"], None, environ).check()
            self.installed.add(project)
        return self._send(project, [str(argument) for argument in arguments], without, environ)

    def _send(self, project: str, arguments: list[str], without: str | None, environ: dict[str, str]) -> Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = {"folder": str(self.folder / project), "arguments": arguments, "environ": environ}
        print(json.dumps({**command, "without_warehouse": without}), file=self.process.stdin, flush=True)
        return Answer(**json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One warm process; its time zone is far from UTC, which nothing may depend on."""
    try:
        python = environment(_SERVERS / "dbt.txt")
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("dbt") / "dbt"
    shutil.copytree(_PROJECTS, folder, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("DBT_", "DESTINATION__"))}
    environ |= {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1", "TZ": "Pacific/Auckland"}
    with subprocess.Popen(
        [python, _SERVERS / "dbt_session.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
    ) as process:
        yield Session(process, folder)
        process.kill()


@dataclass(frozen=True)
class Warehouse:
    """Where a project builds.

    Attributes:
        arguments: Options of each command, for where a profile of the projects does not lead.
    """

    kind: str
    rows: Callable[..., list[tuple[Any, ...]]]
    environ: dict[str, str] = field(default_factory=dict)
    arguments: Sequence[str | Path] = ()

    def change(self) -> None:
        """Let the sources have changed rows, a row that came late, and a run that has ended."""
        late = "4, 3, 'paid', '2024-02-27 10:00:00', 5.55, null, '2020-01-01 00:00:00+00'"
        self.rows(
            "update raw_shop.shop__orders set status = 'returned', updated_at = '2024-03-04 00:00:00+00' where id = 3",
            insert(self.kind, "raw_shop", "shop__orders", [late]),
            "update raw_shop.shop__customers set country = 'CA' where id = 3",
            "update orchestra_metadata.pipeline_runs set run_status = 'SUCCEEDED', completed_at = '2024-05-03 11:00:32+00',"
            " updated_at = '2024-05-03 11:00:32+00' where id = 'r3'",
        )


@pytest.fixture
def duckdb_warehouse(dbt: Session) -> Warehouse:
    # Always at one place: where a profile changes, dbt parses everything anew.
    path = dbt.folder.parent / "small.duckdb"
    path.unlink(missing_ok=True)

    def rows(*given: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(path)) as connection:
            for statement in given[:-1]:
                connection.execute(statement)
            return connection.execute(given[-1]).fetchall()

    rows(*statements("duckdb"))
    return Warehouse("duckdb", rows, {"DESTINATION__DUCKDB__CREDENTIALS": f"duckdb:///{path}"})


@pytest.fixture
def postgres_warehouse(database: Database) -> Warehouse:
    database.execute(f"alter database {database.name} set timezone to 'Pacific/Auckland'", *statements("postgres"))

    def rows(*given: str) -> list[tuple[Any, ...]]:
        database.execute(*given[:-1])
        return database.rows(given[-1])

    prefix = "DESTINATION__POSTGRES__CREDENTIALS__"
    found = urlsplit(database.dsn)
    parts = {"HOST": found.hostname, "PORT": found.port, "USERNAME": found.username, "PASSWORD": found.password}
    parts["DATABASE"] = database.name
    return Warehouse("postgres", rows, {prefix + key: str(value) for key, value in parts.items()})


def _profile(folder: Path, project: str, output: dict[str, object]) -> list[str | Path]:
    """Write a profile for an emulator, which the loader's variables cannot name; return the options that use it."""
    output = {"type": project, "schema": "analytics", "threads": 2, **output}
    profile = {f"warehouse_{project}": {"target": "emulator", "outputs": {"emulator": output}}}
    (folder / "profiles.yml").write_text(yaml.safe_dump(profile), "utf-8")
    return ["--profiles-dir", folder]


@pytest.fixture
def snowflake_warehouse(snowflake_server: FakeSnowflake, tmp_path: Path) -> Warehouse:
    name = snowflake_server.make_database()

    def rows(*given: str) -> list[tuple[Any, ...]]:
        return snowflake_server.rows(name, *given)

    rows(*statements("snowflake"))
    return Warehouse("snowflake", rows, arguments=_profile(tmp_path, "snowflake", snowflake_server.options(name)))


@pytest.fixture
def bigquery_warehouse(bigquery_server: FakeBigQuery, tmp_path: Path) -> Warehouse:
    name = bigquery_server.make_project()

    def rows(*given: str) -> list[tuple[Any, ...]]:
        return bigquery_server.rows(name, *given)

    rows(*statements("bigquery"))
    output = {"method": "oauth-secrets", "token": "x", **bigquery_server.options(name)}
    return Warehouse("bigquery", rows, arguments=_profile(tmp_path, "bigquery", output))


@pytest.mark.parametrize("project", PROOFS)
def test_a_project_parses_without_a_warehouse(dbt: Session, project: str) -> None:
    dbt.run(project, "parse").check()


# Reckoned by hand from tests/integration/dbt_tables.py. Order 2 was returned; 4.335 is rounded to 4.34, 28.035 to 28.04.
_ORDERS = "select order_id, status, total, note from {0}fct_orders order by order_id"
_CUSTOMERS = (
    "select customer_id, theme, orders, returned_orders, revenue, first_order_on, last_order_on from {0}dim_customers"
    " order by customer_id"
)
_LINES = "select order_id, line_number, product_title, gross_amount, net_amount from {0}fct_order_lines order by 1, 2"
_PRODUCTS = "select product_id, units_sold, net_amount from {0}dim_products order by product_id"
_DAYS = "select day, orders, customers, revenue from {0}shop_days order by day"
_RUNS = (
    "select pipeline_run_id, run_status, created_on, queued_seconds, run_seconds from {0}fct_pipeline_runs order by 1"
)
_PIPELINE_DAYS = (
    "select pipeline_id, day, runs, failed_runs, unfinished_runs, mean_run_seconds from {0}pipeline_days order by 1, 2"
)
_OPERATIONS = "select day, operations, failed_operations, seconds, rows_affected from {0}operation_days"
_HISTORY = (
    "select customer_id, country, case when dbt_valid_to is null then 'now' else 'before' end"
    " from analytics_history.customers_history order by 1, 2"
)

_FIRST = {
    _ORDERS: [(1, "paid", "20", None), (2, "returned", "7", None), (3, "shipped", "100.1", "a note")],
    _CUSTOMERS: [
        (1, "dark", 2, 1, "20", "2024-02-28", "2024-03-01"),
        (2, None, 1, 0, "100.1", "2024-03-01", "2024-03-01"),
        (3, "light", 0, 0, "0", None, None),
    ],
    _LINES: [
        (1, 1, "Pen", "7.5", "6.75"),
        (1, 2, "Ink", "8", "8"),
        (2, 1, "Pen", "5.1", "4.34"),
        (3, 1, "Ink", "40.05", "28.04"),
    ],
    _PRODUCTS: [(10, 5, "11.09"), (11, 6, "36.04"), (12, 0, "0")],
    _DAYS: [("2024-02-28", 1, 1, "20"), ("2024-02-29", 0, 0, "0"), ("2024-03-01", 2, 2, "100.1")],
    _RUNS: [
        ("r1", "SUCCEEDED", "2024-05-01", "0.75", "60.5"),
        ("r2", "FAILED", "2024-05-03", "1", "10"),
        ("r3", "RUNNING", "2024-05-03", "2", None),
    ],
    _PIPELINE_DAYS: [
        ("p1", "2024-05-01", 1, 0, 0, "60.5"),
        ("p1", "2024-05-02", 0, 0, 0, None),
        ("p1", "2024-05-03", 2, 1, 1, "10"),
        ("p2", "2024-05-01", 0, 0, 0, None),
        ("p2", "2024-05-02", 0, 0, 0, None),
        ("p2", "2024-05-03", 0, 0, 0, None),
    ],
    _OPERATIONS: [("2024-05-02", 2, 1, "1.75", 10)],
    _HISTORY: [(1, "DE", "now"), (2, "FR", "now"), (3, "US", "now")],
}
# Order 3 was returned, order 4 came late, and the third run took 30 seconds. What was written over order 1 stays: only what
# changed is written.
_SECOND = {
    _ORDERS: [
        (1, "paid", "20", "untouched"),
        (2, "returned", "7", None),
        (3, "returned", "100.1", "a note"),
        (4, "paid", "5.55", None),
    ],
    _CUSTOMERS: [
        (1, "dark", 2, 1, "20", "2024-02-28", "2024-03-01"),
        (2, None, 1, 1, "0", "2024-03-01", "2024-03-01"),
        (3, "light", 1, 0, "5.55", "2024-02-27", "2024-02-27"),
    ],
    _DAYS: [
        ("2024-02-27", 1, 1, "5.55"),
        ("2024-02-28", 1, 1, "20"),
        ("2024-02-29", 0, 0, "0"),
        ("2024-03-01", 2, 2, "0"),
    ],
    _RUNS: [
        ("r1", "SUCCEEDED", "2024-05-01", "0.75", "60.5"),
        ("r2", "FAILED", "2024-05-03", "1", "10"),
        ("r3", "SUCCEEDED", "2024-05-03", "2", "30"),
    ],
    _PIPELINE_DAYS: [
        ("p1", "2024-05-03", 2, 1, 0, "20") if row[:2] == ("p1", "2024-05-03") else row
        for row in _FIRST[_PIPELINE_DAYS]
    ],
    _HISTORY: [(1, "DE", "now"), (2, "FR", "now"), (3, "CA", "now"), (3, "US", "before")],
}


@pytest.mark.parametrize("project", [name for name, proof in PROOFS.items() if proof.builds])
def test_a_build_follows_the_sources(dbt: Session, project: str, request: pytest.FixtureRequest) -> None:
    warehouse: Warehouse = request.getfixturevalue(f"{project}_warehouse")
    proof = PROOFS[project]
    first = [] if proof.whole else ["--select", "resource_type:model", "resource_type:snapshot", "tag:macros"]
    _check_build(dbt.run(project, "build", *first, *proof.only, *warehouse.arguments, **warehouse.environ), proof)
    assert _found(warehouse, _FIRST) == _FIRST
    if proof.builds == 1:
        return
    warehouse.rows("update analytics_marts.fct_orders set note = 'untouched' where order_id = 1")
    warehouse.change()
    changed = ["source:shop.shop__customers+", "source:shop.shop__orders+", "source:orchestra.pipeline_runs+"]
    again = ["--select", *changed, "--exclude-resource-type", "unit_test", *proof.only]
    dbt.run(project, "build", *again, *warehouse.arguments, **warehouse.environ).check()
    assert _found(warehouse, _SECOND) == _SECOND


def _check_build(answer: Answer, proof: Proof) -> None:
    """See that every model, snapshot and test that is to run did, and well."""
    answer.check()
    wanted = {"model": "success", "snapshot": "success", "test": "pass"}
    if proof.whole:
        wanted |= {"unit_test": "pass", "exposure": "no-op"}
    statuses = answer.statuses
    assert {name.partition(".")[0] for name in statuses} == set(wanted)
    assert {name: status for name, status in statuses.items() if status != wanted[name.partition(".")[0]]} == {}
    shared = _PROJECTS / "shared"
    models = {f"model.shared.{file.stem}" for file in (shared / "models").rglob("*.sql")}
    macros = {f"test.shared.{file.stem}" for file in (shared / "tests" / "macros").glob("*.sql")}
    assert models | macros <= set(statuses)


def _found(warehouse: Warehouse, wanted: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    return {
        query: [tuple(_plain(value) for value in row) for row in warehouse.rows(query.format("analytics_marts."))]
        for query in wanted
    }


def _plain(value: object) -> object:
    """Return a value in the form that all drivers have in common."""
    if isinstance(value, (Decimal, float)):
        text = f"{value:.4f}"
        return text.rstrip("0").rstrip(".")
    return value if isinstance(value, int | str | None) else str(value)


@pytest.mark.parametrize("project", _UNPROVED)
def test_what_no_warehouse_ever_saw_is_kept(dbt: Session, project: str) -> None:
    found: dict[str, str] = {}
    # The models of a first build and the tests of macros; then what is another text once the tables are there.
    for state, chosen in (
        ("new", ["resource_type:model", "tag:macros"]),
        ("there", ["config.materialized:incremental"]),
    ):
        flags = ["--no-introspect", "--no-populate-cache", "--select", *chosen]
        answer = dbt.run(project, "compile", *flags, without=state).check()
        for result in answer.results:
            kind, _, name = result["id"].split(".")[:3]
            if kind == "model" or name.startswith("test_"):
                found[f"{name}{'' if state == 'new' else '.again'}.sql"] = result["compiled"].strip() + "\n"
    folder = _GOLDEN / project
    if os.environ.get("GOLDEN") == "write":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in found.items():
            (folder / name).write_text(text, "utf-8")
    assert {file.name: file.read_text("utf-8") for file in folder.iterdir()} == found


def test_the_age_of_sources_is_known(dbt: Session, duckdb_warehouse: Warehouse) -> None:
    environ = duckdb_warehouse.environ
    old = dbt.run("duckdb", "source", "freshness", **environ)
    assert not old.success
    assert set(old.statuses.values()) == {"error", "warn"}, "of 2024 all of it is"
    assert len(old.statuses) == sum(len(yaml.safe_load(file.read_text())["sources"][0]["tables"]) for file in _SOURCES)
    duckdb_warehouse.rows(
        "update raw_shop._runner_state set published_at = epoch(now())",
        "update raw_shop.shop__orders set updated_at = now()",
    )
    new = dbt.run("duckdb", "source", "freshness", **environ).statuses
    fresh = {name.rpartition(".")[2] for name, status in new.items() if status == "pass"}
    assert fresh == {"shop__order_items", "shop__orders"}


def test_the_table_of_what_ran_is_what_the_tests_do() -> None:
    readme = _PROJECTS / "README.md"
    text = readme.read_text("utf-8")
    written = _TABLE.sub(lambda found: f"{found[1]}{_table()}{found[2]}", text)
    assert _table() in written
    if os.environ.get("GOLDEN") == "write":
        readme.write_text(written, "utf-8")
    assert readme.read_text("utf-8") == written


def _table() -> str:
    lines = [
        "| project | parsed | built on | builds | tests of macros | tests of data, unit tests of models |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, proof in PROOFS.items():
        if proof.on:
            lines.append(f"| `{name}` | ✓ | {proof.on} | {proof.builds} | ✓ | {'✓' if proof.whole else '–'} |")
        else:
            lines.append(f"| `{name}` | ✓ | *unproved*: nothing; what it compiles to is kept | – | – | – |")
    return "\n".join(lines) + "\n"
