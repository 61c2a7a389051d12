"""The same against an older PostgreSQL, that of the system, where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.testing import shop
from connectors.testing.server import PostgresServer
from tests.conftest import Cli, Database, Project, binary


@pytest.fixture(scope="module")
def older() -> Iterator[PostgresServer]:
    binaries = Path(binary("initdb")).resolve().parent
    with PostgresServer(binaries=binaries) as running:
        asyncio.run(shop.fill(running.dsn(), scale=0.01))
        yield running


def test_the_shop_arrives_from_an_older_server(older: PostgresServer, project: Project, cli: Cli) -> None:
    source = Database(older, "postgres")
    version = int(source.rows("show server_version_num")[0][0]) // 10000
    project.environ["SHOP_DSN"] = source.dsn
    project.job(
        'name: older\nsource: {type: postgres, dsn: "${SHOP_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "limits: {chunk_rows: 1000}\ndefaults: {mode: auto, cursor: [updated_at]}\ntables:\n  shop.*:\n  Back Office.*:\n"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert f"PostgreSQL {version}" in cli("doctor", "job.yml").out
    for table in ("orders", "order_items", "page_views", "every_type"):
        assert project.query(f"select count(*) from raw.shop__{table}") == source.rows(
            f"select count(*) from shop.{table}"
        )
    source.execute("update shop.orders set note = 'changed', updated_at = '2030-01-01' where id = 7")
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select note from raw.shop__orders where id = 7") == [("changed",)]
