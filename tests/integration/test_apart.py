"""State apart from the destination: in a folder, in PostgreSQL, in a bucket of an emulator of S3."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from runner.errors import LeaseLost
from runner.load import DatasetState, Lease, Outcome, TableWork, Target
from runner.writers.apart import StateApart
from runner.writers.folder import Changed, Folder
from runner.writers.postgres import Postgres
from runner.writers.sqldocuments import SqlDocuments
from tests.conftest import Cli, Database, Project

if TYPE_CHECKING:
    from tests.servers import Moto

pytest_plugins = ("tests.servers",)

_ORDERS = "create table orders (id int primary key, note text, at timestamptz not null)"
_FILL = "insert into orders select i, 'n', timestamptz '2024-01-01' + make_interval(secs => i) from generate_series({}, {}) i"
_JOB = """
name: shop
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {{type: duckdb, dataset: raw}}
state: {state}
tables:
  public.orders: {{mode: {mode}, cursor: at}}
"""


@pytest.fixture
def source(project: Project, database: Database) -> Database:
    database.execute(_ORDERS, _FILL.format(1, 100), "create index on orders (at)", "analyze orders")
    project.environ["SOURCE_DSN"] = database.dsn
    return database


@pytest.fixture(params=["folder", "postgres", "s3"])
def state(request: pytest.FixtureRequest, project: Project, source: Database) -> str:
    if request.param == "folder":
        return "state"
    if request.param == "postgres":
        return '"${SOURCE_DSN}"'
    server: Moto = request.getfixturevalue("s3_server")
    bucket = server.make_bucket(f"state-{uuid.uuid4().hex[:12]}")
    project.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    return f'{{url: "s3://{bucket}/kept", endpoint: "{server.url}", region: us-east-1, allow_http: true}}'


@pytest.mark.parametrize("mode", ["incremental", "append"])
def test_a_run_with_nothing_new_does_not_open_the_destination(
    project: Project, source: Database, cli: Cli, state: str, mode: str
) -> None:
    project.job(_JOB.format(state=state, mode=mode))
    # An increment begins with the rows that the last one ended with: that they are the same shows the second time.
    for _ in range(2):
        assert cli("backfill", "job.yml").code == 0
    warehouse, away = project.warehouse, project.warehouse.with_suffix(".away")
    warehouse.rename(away)
    for command in (("backfill", "job.yml"), ("task", "job.yml", "--table", "public.orders")):
        answer = cli(*command)
        assert answer.code == 0, answer.out + answer.err
        assert not warehouse.exists()
    away.rename(warehouse)
    source.execute(_FILL.format(101, 150))
    shutil.rmtree(project.folder / ".runner")
    assert cli("backfill", "job.yml", "--verify", "hash").code == 0
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(150, 150)]
    assert cli("verify", "job.yml").code == 0


def test_a_mark_moves_on_although_nothing_came(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    assert cli("backfill", "job.yml").code == 0
    (document,) = (project.folder / "state").glob("*/raw/tables/orders.json")
    first = json.loads(document.read_text())["state"]
    # What is deleted at the end takes the largest cursor value with it, and nothing new comes.
    source.execute("delete from orders where id = 100")
    assert cli("backfill", "job.yml").code == 0
    second = json.loads(document.read_text())["state"]
    assert second["run"] != first["run"]
    assert second["load_id"] == first["load_id"]
    assert project.query("select count(*) from raw._runner_state") == [(1,)]


def test_a_dataset_that_was_loaded_before_goes_on_from_its_own_mark(
    project: Project, source: Database, cli: Cli
) -> None:
    project.job(_JOB.format(state="destination", mode="append"))
    assert cli("backfill", "job.yml").code == 0
    project.job(_JOB.format(state="state", mode="append"))
    source.execute(_FILL.format(101, 120))
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.orders") == [(120,)]


def test_another_definition_is_sent_although_nothing_came(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    assert cli("backfill", "job.yml").code == 0
    source.execute("alter table orders add column more int")
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(more) from raw.orders") == [(0,)]


def test_a_table_that_somebody_holds_is_not_taken(
    project: Project, source: Database, cli: Cli, hold: Callable[[], None]
) -> None:
    project.job(_JOB.format(state='"${SOURCE_DSN}"', mode="incremental, on_busy: fail"))
    assert cli("backfill", "job.yml").code == 0
    hold()
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "somebody's run" in answer.out + answer.err


@pytest.fixture
def hold(source: Database) -> Callable[[], None]:
    """Take the lease of orders, from another host."""

    def take() -> None:
        path, data = source.rows("select path, data from orchestra_runner.documents where path like '%leases/orders%'")[
            0
        ]
        lease = json.loads(data) | {"run": "somebody's run", "token": "t", "host": "elsewhere", "expires_at": 9e9}
        source.execute(
            f"update orchestra_runner.documents set data = '{json.dumps(lease)}' where path = '{path}'".replace(
                "somebody's", "somebody''s"
            )
        )

    return take


def test_rows_that_are_compared_by_hash_are_sent(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    for last in (100, 150, 200):
        assert cli("backfill", "job.yml", "--verify", "hash").code == 0
        assert project.query("select count(*) from raw.orders") == [(last,)]
        source.execute(_FILL.format(last + 1, last + 50))
    assert cli("backfill", "job.yml").code == 0
    assert cli("verify", "job.yml").code == 0


def test_rows_that_came_before_state_was_moved_are_sent(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="destination", mode="incremental"))
    assert cli("backfill", "job.yml").code == 0
    project.job(_JOB.format(state="state", mode="incremental"))
    for how in ("hash", "counts"):
        source.execute("insert into orders select max(id) + 1, 'n', max(at) + interval '1s' from orders")
        assert cli("backfill", "job.yml", "--verify", how).code == 0
    assert project.query("select count(*) from raw.orders") == [(102,)]


def test_what_is_damaged_is_repaired(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    for _ in range(2):
        assert cli("backfill", "job.yml", "--verify", "hash").code == 0
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("update raw.orders set note = 'damaged' where id = 7")
    assert cli("verify", "job.yml", "--repair", "--yes").code == 0
    assert project.query("select note from raw.orders where id = 7") == [("n",)]
    assert cli("verify", "job.yml").code == 0


def test_a_rule_for_deletes_is_followed_although_the_rows_are_the_same(
    project: Project, source: Database, cli: Cli
) -> None:
    source.execute("alter table orders add column gone boolean", "update orders set gone = true where id = 100")
    project.job(_JOB.format(state="state", mode="incremental"))
    for _ in range(2):
        assert cli("backfill", "job.yml").code == 0
    project.job(_JOB.format(state="state", mode="incremental, deletes: {column: gone}, on_delete: hard"))
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.orders") == [(99,)]


def test_somebody_without_the_same_state_is_noticed_and_the_run_goes_on(
    project: Project, source: Database, cli: Cli
) -> None:
    project.job(_JOB.format(state="state", mode="append"))
    assert cli("backfill", "job.yml").code == 0
    source.execute(_FILL.format(101, 110))
    project.job(_JOB.format(state="destination", mode="append"), "other.yml")
    assert cli("backfill", "other.yml").code == 0
    source.execute(_FILL.format(111, 120))
    answer = cli("backfill", "job.yml")
    assert answer.code == 3
    assert "planned anew" in answer.err
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*), count(distinct id) from raw.orders") == [(120, 120)]


def test_a_lease_at_the_destination_stops_its_table_alone(project: Project, source: Database, cli: Cli) -> None:
    source.execute("create table items (id int, at timestamptz not null default now())")
    source.execute("insert into items select i from generate_series(1, 5) i")
    job = _JOB.format(state="state", mode="append") + "  public.items: {mode: append, cursor: at}\n"
    project.job(job)
    assert cli("backfill", "job.yml").code == 0
    source.execute(_FILL.format(101, 110), "insert into items select i from generate_series(6, 9) i")
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute(
            "insert into raw._runner_leases values ('orders', 'somebody', 't', 'elsewhere', 1, epoch(now()) + 3600)"
        )
    answer = cli("backfill", "job.yml")
    assert answer.code == 3
    assert project.query("select count(*) from raw.items") == [(9,)]
    assert project.query("select count(*) from raw.orders") == [(100,)]
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("delete from raw._runner_leases")
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.orders") == [(110,)]


def test_a_table_that_nobody_leased_any_more_fails_alone(source: Database, project: Project) -> None:
    sent: list[str] = []

    class Inner:
        """A destination that takes everything."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda *_, **__: []

        def read_state(self, run: str | None) -> DatasetState:
            return DatasetState({}, {})

        def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
            sent.extend(work.target.name for work in works)
            return [Outcome() for _ in works]

    store = Folder(project.folder / "kept")
    inner: Any = Inner()
    writer = StateApart(inner, store)
    lease = Lease("job", "run", "token", "here", 1)
    assert writer.acquire(lease, ["x", "y"]) == []
    store.write("_runner/leases/x.json", [json.dumps({"token": "another's"}).encode()])
    works = [TableWork(Target(name, ())) for name in ("y", "x")]
    outcomes = writer.apply(lease, works)
    assert [type(outcome.error) for outcome in outcomes] == [type(None), LeaseLost]
    assert sent == ["y"]


def test_the_doctor_looks_at_it_too(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    answer = cli("doctor", "job.yml")
    assert answer.code == 0
    assert "state: " in answer.out


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("postgresql://nobody:wrong@127.0.0.1:1/db", "does not answer"),
        ("{url: state, color: blue}", "state.color: unknown key"),
        ("ftp://host/state", "is of no known kind"),
        ("host=127.0.0.1 port=1 user=nobody password=wrong dbname=state", "does not answer"),
        ('{url: "postgresql://127.0.0.1:1/db", color: blue}', "state.color: unknown key"),
        ("destinaton", "did you mean destination"),
    ],
)
def test_a_wrong_place_is_told_before_anything_starts(
    project: Project, source: Database, cli: Cli, state: str, words: str
) -> None:
    project.job(_JOB.format(state=state, mode="incremental"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert words in answer.err
    assert "wrong" not in answer.err
    assert not project.warehouse.exists()
    assert not [path for path in project.folder.iterdir() if "wrong" in path.name]


def test_a_document_is_replaced_only_as_it_was_read(source: Database) -> None:
    documents = SqlDocuments(Postgres({"dsn": source.dsn}, folder=Path(), memory=0).writer("kept"), "here/")
    documents.prepare()
    documents.replace("a", b"1", None)
    first = documents.read("a")
    documents.replace("a", b"2", first)
    for before in (first, None):
        with pytest.raises(Changed):
            documents.replace("a", b"3", before)
    found = documents.read("a")
    assert found is not None
    assert found.data == b"2"
    assert documents.read("b") is None
    documents.close()


def test_leases_are_of_one_destination(project: Project, source: Database, cli: Cli) -> None:
    project.job(_JOB.format(state="state", mode="incremental"))
    assert cli("backfill", "job.yml").code == 0
    project.job(
        _JOB.format(state="state", mode="incremental").replace("type: duckdb,", "type: duckdb, path: other.duckdb,")
    )
    assert cli("backfill", "job.yml").code == 0
    assert len(list((project.folder / "state").glob("*/raw/tables/orders.json"))) == 2
