"""Sources written for dlt, by others and by ourselves, run by the runner."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.conftest import Cli, Database, Project
from tests.integration import shop_dlt

_JOB = """
name: shop
source: {type: dlt, source: "tests.integration.shop_dlt:shop"}
destination: {dataset: raw}
tables: {"*": {}}
"""


@pytest.fixture(autouse=True)
def orders() -> list[dict[str, object]]:
    start = datetime(2024, 1, 1)
    shop_dlt.ASKED.clear()
    shop_dlt.ORDERS[:] = [
        {"id": number, "updatedAt": start + timedelta(minutes=number), "tags": ["x"] * (number % 3)}
        for number in range(250)
    ]
    return shop_dlt.ORDERS


def test_resources_with_their_own_dispositions(project: Project, cli: Cli) -> None:
    project.job(_JOB)
    answer = cli("backfill", "job.yml", "--verify", "hash")
    assert answer.code == 0, answer.err
    assert project.query("select count(*), count(distinct id), max(updated_at) from raw.orders") == [
        (250, 250, datetime(2024, 1, 1, 4, 9))
    ]
    assert project.query("select count(*), count(tags), min(tags::varchar) from raw.lines") == [(250, 250, '["x","x"]')]
    # A column that was a number and then a text, and one that was NULL for thousands of rows.
    assert project.query("select price, late from raw.prices where sku in ('a', 's2600', 'z') order by sku") == [
        (Decimal("12.30"), None),
        (Decimal("650.00"), "2600"),
        (None, '"not a number"'),
    ]
    assert project.query("select n, nested, more from raw.tables order by n") == [
        (1, '{"a":1}', None),
        (2, None, None),
        (3, None, "x"),
    ]


def test_its_state_is_the_mark(project: Project, cli: Cli, orders: list[dict[str, object]]) -> None:
    project.job(_JOB.replace('"*"', "orders"))
    assert cli("backfill", "job.yml").code == 0
    orders[:] = [{"id": 7, "updatedAt": datetime(2024, 2, 1), "tags": []}, *orders]
    answer = cli("backfill", "job.yml", "--json")
    assert answer.code == 0, answer.err
    assert shop_dlt.ASKED[-1] == "orders from 2024-01-01 04:09:00"
    # The row at the last value was seen before; dlt leaves it out.
    published = [one for one in map(json.loads, answer.out.splitlines()) if one["action"] == "table_published"]
    assert [one["rows"] for one in published] == [1]
    assert project.query("select count(*), max(updated_at) from raw.orders") == [(250, datetime(2024, 2, 1))]


def test_a_failure_moves_nothing(project: Project, cli: Cli) -> None:
    project.job(_JOB.replace('shop"}', 'shop", args: {fail: true}}').replace('"*"', "orders"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "the API is down" in answer.out + answer.err
    assert "Traceback" not in answer.out + answer.err
    project.job(_JOB.replace('"*"', "orders"))
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from raw.orders") == [(250,)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("tests.integration.shop_dlt", "names no function"),
        ("tests.integration.shop_dlt:nothing", "has no 'nothing'"),
        ("no_such_package:source", "cannot be imported"),
        ("json:dumps", "does not take them"),
        ("tests.integration.shop_dlt:by_row", "row by row"),
    ],
)
def test_what_cannot_be_run_is_said(project: Project, cli: Cli, source: str, words: str) -> None:
    project.job(_JOB.replace("tests.integration.shop_dlt:shop", source))
    answer = cli("backfill", "job.yml")
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.filterwarnings("ignore:.*detect_precision_hints:DeprecationWarning")
def test_the_sql_database_source_of_dlt(shop_database: Database, project: Project, cli: Cli) -> None:
    project.environ["SHOP"] = shop_database.dsn.replace("postgresql://", "postgresql+psycopg2://")
    args = 'args: {credentials: "${SHOP}", schema: shop, table_names: [customers, orders]}'
    project.job(_JOB.replace('tests.integration.shop_dlt:shop"', f'dlt.sources.sql_database:sql_database", {args}'))
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    for table in ("customers", "orders"):
        expected = shop_database.rows(f"select count(*) from shop.{table}")
        assert project.query(f"select count(*) from raw.{table}") == expected


def test_the_filesystem_source_of_dlt(project: Project, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        lines = [json.dumps({"file": number, "n": n, "at": "2024-01-01T00:00:00Z"}) for n in range(500)]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    args = f'args: {{bucket_url: "{folder}", file_glob: "*.jsonl"}}'
    job = _JOB.replace('tests.integration.shop_dlt:shop"', f'dlt.sources.filesystem:readers", {args}')
    project.job(job.replace('"*"', "read_jsonl"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select count(*), count(distinct file), sum(n) from raw.read_jsonl") == [(1500, 3, 374250)]


def _odd(project: Project, table: str, entry: str = "{}") -> None:
    project.job(_JOB.replace("shop_dlt:shop", "shop_dlt:odd").replace('"*": {}', f"{table}: {entry}"))


@pytest.mark.parametrize(("table", "query"), [("widening", "late = 'x'"), ("changing", """id::varchar = '"x"'""")])
def test_what_was_learned_by_a_reading_that_was_cut_off_counts(
    project: Project, cli: Cli, table: str, query: str
) -> None:
    _odd(project, table)
    shop_dlt.CUTS[0] = 1
    answer = cli("backfill", "job.yml", "--verify", "hash")
    assert answer.code == 0, answer.err
    assert project.query(f"select count(*) > 0 from raw.{table} where {query}") == [(True,)]
    # Whoever verifies has learned as much.
    for _ in range(2):
        assert cli("verify", "job.yml").code == 0
        shutil.rmtree(project.folder / ".runner", ignore_errors=True)


def test_a_row_without_a_key_is_not_merged(project: Project, cli: Cli) -> None:
    _odd(project, "nulls")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "(id) is NULL in the rows read" in answer.out + answer.err


def test_rows_without_a_key_are_not_taken_for_one(project: Project, cli: Cli) -> None:
    _odd(project, "holes")
    answer = cli("backfill", "job.yml", "--verify", "hash")
    assert answer.code == 0, answer.err
    assert project.query("select id, v from raw.holes order by all") == [(1, "a"), (None, "b"), (None, "c")]


def test_of_two_versions_the_later_one_stays(project: Project, cli: Cli) -> None:
    _odd(project, "versions")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select v, count(*) from raw.versions group by 1") == [(1, 1_600_000)]


def test_a_fresh_container_knows_what_was_learned(project: Project, cli: Cli) -> None:
    _odd(project, "prices")
    shop_dlt.LATER[0] = False
    assert cli("backfill", "job.yml").code == 0
    shutil.rmtree(project.folder / ".runner")
    shop_dlt.LATER[0] = True
    answer = cli("backfill", "job.yml", "--verify", "hash")
    assert answer.code == 0, answer.err
    assert project.query("select count(*), count(note) from raw.prices") == [(205, 1)]
    assert project.query("select price::varchar from raw.prices where id in (150, 1004) order by id") == [
        ('"dear"',),
        ("251.0",),
    ]


@pytest.mark.parametrize(
    ("entry", "arguments"),
    [('{where: "n < 10"}', ()), ("{mode: full, cursor: n}", ("--since", "5", "--until", "8"))],
)
def test_what_a_resource_cannot_be_narrowed_to_is_refused(
    project: Project, cli: Cli, entry: str, arguments: tuple[str, ...]
) -> None:
    _odd(project, "plain", entry)
    answer = cli("backfill", "job.yml", *arguments)
    assert answer.code == 1
    assert "neither a range nor a condition" in answer.out + answer.err


def test_a_repair_reads_all_of_it_again(project: Project, cli: Cli) -> None:
    _odd(project, "plain")
    assert cli("backfill", "job.yml", "--verify", "hash").code == 0
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute("update raw.plain set n = -1 where id = 7")
    answer = cli("verify", "job.yml", "--repair", "--yes")
    assert answer.code == 0, answer.out + answer.err
    assert project.query("select count(*), count(distinct id), min(n) from raw.plain") == [(20_000, 20_000, 0)]
