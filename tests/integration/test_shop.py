"""The whole shop, every table and every type, into DuckDB and PostgreSQL."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.conftest import Cli, Database, Project

_JOB = """
name: shop
source: {type: postgres, dsn: "${SHOP_DSN}"}
destination: {type: duckdb, dataset: raw}
defaults: {mode: auto, cursor: [updated_at], fallback: full}
limits: {chunk_rows: 1000}
tables:
  shop.*:
  ops.*:
  Back Office.*:
"""


@pytest.fixture
def shop(project: Project, shop_database: Database) -> Database:
    project.environ["SHOP_DSN"] = shop_database.dsn
    project.job(_JOB)
    return shop_database


def test_every_table_arrives_with_every_row(shop: Database, project: Project, cli: Cli) -> None:
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    sources = shop.rows(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where relkind in ('r', 'p') and not relispartition and n.nspname in ('shop', 'ops', 'Back Office')"
    )
    published = dict(project.query("select source_table, table_name from raw._runner_state"))
    assert sorted(published) == sorted(name for (name,) in sources)
    assert len(published) > 200
    for source, target in published.items():
        schema, name = source.split(".", 1)
        expected = shop.rows(f'select count(*) from "{schema}"."{name}"')[0][0]
        assert project.query(f'select count(*) from raw."{target}"') == [(expected,)], source


def test_views_and_partitions_come_once_and_only_on_request(shop: Database, project: Project, cli: Cli) -> None:
    project.job(_JOB.replace("  ops.*:\n  Back Office.*:\n", "  shop.big_orders:\n"))
    assert cli("backfill", "job.yml").code == 0
    names = {name for (name,) in project.query("select table_name from raw._runner_state")}
    assert "big_orders" in names
    assert "daily_totals" not in names
    assert "page_views" in names
    assert not any(name.startswith("page_views_") for name in names)


def test_every_type_arrives_exactly(shop: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml", "--tables", "shop.every_type").code == 0
    ours = project.query("select * from raw.shop__every_type order by id")
    columns = [name for name, *_ in project.query("describe raw.shop__every_type")]
    theirs = shop.rows(
        "select id, a_bool, a_int2, a_int4, a_int8, a_float4, a_float8, a_numeric, a_wide_numeric, a_bytea, "
        "a_date, a_time, a_timestamp, a_timestamptz, a_text, a_varchar, a_char, a_free_numeric::text, "
        "a_money::text, a_uuid::text, a_json::text, array_to_json(an_int_array)::text, a_range::text, "
        'a_status::text, a_timetz::text, a_point::text, "select", "Mixed Case", "with ""quotes""" '
        "from shop.every_type order by id"
    )
    ours_by_name = [dict(zip(columns, row, strict=True)) for row in ours]
    assert len(ours) == len(theirs) == 1001
    for ours_row, row in zip(ours_by_name, theirs, strict=True):
        names = list(ours_row)
        assert names[0] == "id"
        expected = dict(
            zip(
                [
                    "id", "a_bool", "a_int2", "a_int4", "a_int8", "a_float4", "a_float8", "a_numeric", "a_wide_numeric",
                    "a_bytea", "a_date", "a_time", "a_timestamp", "a_timestamptz", "a_text", "a_varchar", "a_char",
                    "a_free_numeric", "a_money", "a_uuid", "a_json", "an_int_array", "a_range", "a_status", "a_timetz",
                    "a_point", "select", "mixed_case", "with_quotesx",
                ],
                row,
                strict=True,
            )
        )  # fmt: skip
        for name, value in expected.items():
            if name == "with_quotesx":
                name = next(column for column in names if column.startswith("with"))
            if name == "a_float4" and value is not None:
                assert ours_row[name] == pytest.approx(value, rel=1e-7)
            elif name == "an_int_array" and value is not None:
                assert json.loads(ours_row[name]) == json.loads(value)
            else:
                assert ours_row[name] == value, name


def test_types_keep_their_precision(shop: Database, project: Project, cli: Cli) -> None:
    assert cli("backfill", "job.yml", "--tables", "shop.every_type").code == 0
    kinds = {name: kind for name, kind, *_ in project.query("describe raw.shop__every_type")}
    assert kinds["a_wide_numeric"] == "DECIMAL(38,10)"
    assert kinds["a_timestamp"] == "TIMESTAMP"
    assert kinds["a_timestamptz"] == "TIMESTAMP WITH TIME ZONE"
    assert kinds["a_jsonb"] == "JSON"
    assert project.query("select sum(a_wide_numeric) from raw.shop__every_type")[0][0] == Decimal(
        str(shop.rows("select sum(a_wide_numeric) from shop.every_type")[0][0])
    )


def test_into_postgres(shop: Database, database: Database, project: Project, cli: Cli) -> None:
    project.environ["WAREHOUSE_DSN"] = database.dsn
    project.job(_JOB.replace("{type: duckdb, dataset: raw}", '{type: postgres, dsn: "${WAREHOUSE_DSN}", dataset: raw}'))
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    # The same values by the server's own text, table by table, with no code of ours in between.
    for source, target, columns in (
        ("shop.customers", "raw.shop__customers", "id, name, email, country, born, vip, settings, created_at, updated_at"),
        ("shop.products", "raw.shop__products", "id, sku::text, title, price, weight, description, picture, updated_at"),
        ("shop.order_items", "raw.shop__order_items", "order_id, line, product_id, quantity, price, discount"),
        ("shop.page_views", "raw.shop__page_views", "at, visitor::text, path, milliseconds, agent"),
        ("shop.every_type", "raw.shop__every_type", "id, a_bool, a_float4, a_float8, a_numeric, a_bytea, a_date, a_time,"
         " a_timestamp, a_timestamptz, a_json::text, a_jsonb, a_text, \"select\""),
    ):  # fmt: skip
        query = "select md5(string_agg(x::text, ',' order by x::text collate \"C\")) from (select {} from {}) x"
        expected = shop.rows(query.format(columns, source))
        assert database.rows(query.format(columns, target)) == expected, source
    assert database.rows("select count(*) from raw._runner_state where row_count >= 0")[0][0] > 200
