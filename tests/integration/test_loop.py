"""Nothing blocks the event loop while tables move."""

from __future__ import annotations

from blockbuster import blockbuster_ctx

from tests.conftest import Cli, Database, Project


def test_nothing_blocks_the_loop(project: Project, shop_database: Database, cli: Cli) -> None:
    # Without TLS asyncpg looks for no key files; those few looks on connecting are its own.
    project.environ["SHOP_DSN"] = shop_database.dsn + "?sslmode=disable"
    project.job(
        'name: loop\nsource: {type: postgres, dsn: "${SHOP_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "limits: {chunk_rows: 500}\ntables:\n  shop.*:\n"
    )
    with blockbuster_ctx(scanned_modules=["runner", "connectors"]):
        answer = cli("backfill", "job.yml", "--quiet")
    assert answer.code == 0, answer.err + answer.out
