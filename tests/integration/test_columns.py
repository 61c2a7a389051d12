"""Column rules apply before anything is spooled, and nothing of a protected value is left behind (L11)."""

from __future__ import annotations

import hashlib
import hmac

from tests.conftest import Cli, Database, Project


def test_protected_values_reach_nothing(project: Project, database: Database, cli: Cli) -> None:
    project.environ |= {"SOURCE_DSN": database.dsn, "RUNNER_HASH_KEY": "pepper"}
    database.execute(
        "create table people (id int primary key, email text, ssn text, note_note text, amount numeric(10, 2))",
        "insert into people values (1, 'zebra@private.org', '999-zebra', 'zebra note', 12.50), (2, null, null, null, null)",
    )
    project.job(
        'name: people\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        "tables:\n  public.people:\n"
        '    columns: {email: hash, ssn: drop, "*_note": mask, amount: text}\n    where: "id < 100"\n'
    )
    answer = cli("backfill", "job.yml", "--debug")
    assert answer.code == 0, answer.err
    digest = hmac.new(b"pepper", b"zebra@private.org", hashlib.sha256).hexdigest()
    assert project.query("select * from raw.people order by id") == [
        (1, digest, "***", "12.50"),
        (2, None, None, None),
    ]
    for file in (project.folder / ".runner").rglob("*"):
        if file.is_file():
            assert b"zebra" not in file.read_bytes(), file
    assert b"zebra" not in project.warehouse.read_bytes()
    assert "zebra" not in answer.out + answer.err
    assert (project.folder / ".runner").stat().st_mode & 0o777 == 0o700


def test_a_row_filter_applies(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute("create table people as select i as id, i % 7 as tenant from generate_series(1, 700) i")
    project.job(
        'name: people\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
        'tables: {public.people: {where: "tenant = 3"}}\nlimits: {chunk_rows: 50}\n'
    )
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*), min(tenant), max(tenant) from raw.people") == [(100, 3, 3)]
