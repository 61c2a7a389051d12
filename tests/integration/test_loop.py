"""Nothing blocks the event loop while tables move."""

from __future__ import annotations

import json

from blockbuster import blockbuster_ctx

from connectors.testing.rest import RestDouble
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


def test_nothing_blocks_the_loop_while_an_api_is_read(project: Project, cli: Cli) -> None:
    with RestDouble() as api:
        api.tables = {"things": [{"id": i, "at": f"2024-01-01T00:00:{i % 60:02}Z"} for i in range(1, 200)]}
        api.tables["things.parts"] = [{"id": i, "parent_id": i} for i in range(1, 200)]
        api.tables["things"][150]["late"] = {"a": 1}
        page = {"paginator": {"type": "page_number", "base_page": 1, "total_path": "total_pages"}}
        child = {"path": "page/things/{resources.things.id}/parts", "data_selector": "items[*]", **page}
        cursor = {"cursor_path": "at"}
        things = {
            "name": "things",
            "primary_key": "id",
            "endpoint": {"path": "page/things", "incremental": cursor, **page},
        }
        source = {
            "type": "rest",
            "client": {"base_url": api.url},
            "resources": [things, {"name": "parts", "endpoint": child}, {"name": "odd", "endpoint": "link/things"}],
        }
        destination = {"type": "duckdb", "dataset": "raw"}
        job = {"name": "loop", "source": source, "destination": destination, "tables": {"rest.*": None}}
        project.job(json.dumps(job))
        with blockbuster_ctx(scanned_modules=["runner", "connectors.rest", "connectors.http", "connectors.api"]):
            answer = cli("backfill", "job.yml", "--quiet")
    assert answer.code == 0, answer.err + answer.out
