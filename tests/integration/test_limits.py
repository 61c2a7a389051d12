"""A table larger than the spool, a table altered while it is read, libpq's ways to name a server."""

from __future__ import annotations

import pytest

from tests.conftest import Cli, Database, Project, during_copy

_JOB = (
    'name: limits\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
    "limits: {LIMITS}\ntables:\n  public.big: {mode: full}\n"
)
_BIG = (
    "create table big (id int primary key, a text, b text)",
    "insert into big select i, md5(i::text) || md5((i * 3)::text), md5((i * 7)::text) from generate_series(1, 60000) i",
    "analyze big",
)


def test_a_table_larger_than_the_spool_is_refreshed_all_at_once(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(*_BIG)
    project.job(_JOB.replace("LIMITS", "disk: 3MiB, chunk_rows: 5000, connections: 4"))
    answer = cli("backfill", "job.yml", "--debug")
    assert answer.code == 0, answer.err
    assert project.query("select count(*), count(distinct id) from raw.big") == [(60000, 60000)]
    # Three megabytes never held the whole table, and chunks were loaded while others were still to be read.
    spooled = [line for line in answer.err.splitlines() if "chunk_spooled" in line or "chunk_loaded" in line]
    kinds = ["spooled" if "chunk_spooled" in line else "loaded" for line in spooled]
    assert "spooled" in kinds[kinds.index("loaded") :]


def test_a_chunk_that_cannot_fit_is_said_so(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(
        "create view big as select i as id, md5(i::text) || md5((i * 3)::text) as a from generate_series(1, 200000) i"
    )
    project.job(_JOB.replace("LIMITS", "disk: 1MiB") + "retry: {attempts: 3, max_wait: 10ms}\n")
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "limits.disk" in answer.out
    assert not list((project.folder / ".runner").rglob("*.parquet"))


def test_a_table_altered_while_it_is_read_fails_with_the_difference(
    project: Project, database: Database, cli: Cli
) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(*_BIG)
    project.job(_JOB.replace("LIMITS", "chunk_rows: 500, connections: 1, tables: 1"))

    with during_copy(database, "big", "alter table big alter column a type int using 1"):
        answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "public.big was altered while it was read: a changed from text to integer" in answer.out
    assert project.query("select count(*) from duckdb_tables() where table_name = 'big'") == [(0,)]
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*), min(a) from raw.big") == [(60000, 1)]


def test_a_truncated_table_begins_again(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(*_BIG, "create table twin as table big")
    project.job(_JOB.replace("LIMITS", "chunk_rows: 500, connections: 1, tables: 1"))

    with during_copy(database, "big", "truncate big; insert into big select * from twin where id <= 1000"):
        answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert "planned anew" in answer.err
    assert project.query("select count(*), count(distinct id) from raw.big") == [(1000, 1000)]


def test_a_table_that_is_truncated_before_its_turn_is_not_read_as_empty(
    project: Project, database: Database, cli: Cli
) -> None:
    """The snapshot of the run is older than what the table is stored in, and shows nothing of it."""
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(*_BIG, "create table later as select 1 as id", "create table swapped as select 1 as id", "analyze")
    project.job(_JOB.replace("LIMITS", "chunk_rows: 500, connections: 1, tables: 1") + "  public.later: {mode: full}\n"
                "  public.swapped: {mode: full}\n")  # fmt: skip
    changes = (
        "begin; truncate later; insert into later values (2), (3); commit",
        "begin; create table fresh as select 4 as id; drop table swapped; alter table fresh rename to swapped; commit",
    )
    with during_copy(database, "big", *changes):
        answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select id from raw.later order by 1") == [(2,), (3,)]
    assert project.query("select id from raw.swapped") == [(4,)]
    epochs = [line for line in answer.err.splitlines() if "epoch" in line and "changed" in line]
    assert len(epochs) <= 2, "one new picture shows what changed before it"


def test_a_table_that_is_rewritten_while_others_are_verified_is_verified(
    project: Project, database: Database, cli: Cli
) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(*_BIG, "create table later as select 1 as id", "analyze")
    project.job(_JOB.replace("LIMITS", "connections: 1") + "  public.later: {mode: full}\n")
    assert cli("backfill", "job.yml", "--verify", "hash").code == 0
    with during_copy(database, "big", "vacuum full later", how="select"):
        answer = cli("verify", "job.yml")
    assert answer.code == 0, answer.out + answer.err


@pytest.mark.parametrize("way", ["environment", "service", "passfile", "keywords"])
def test_a_server_is_named_as_libpq_users_expect(
    project: Project, database: Database, cli: Cli, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("create table big as select 1 as id")
    server = database.server
    source = "{type: postgres}"
    names = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": database.name}
    if way == "environment":
        project.environ |= {**names, "PGPASSWORD": server.password}
    elif way == "service":
        file = project.folder / "services.conf"
        file.write_text(
            f"[shop]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\ndbname={database.name}\n"
            f"password={server.password}\n"
        )
        project.environ["PGSERVICEFILE"] = str(file)
        source = "{type: postgres, service: shop}"
    elif way == "passfile":
        file = project.folder / "pgpass"
        file.write_text(f"127.0.0.1:{server.port}:{database.name}:postgres:{server.password}\n")
        file.chmod(0o600)
        project.environ |= {**names, "PGPASSFILE": str(file)}
    else:
        project.environ["DSN"] = (
            f"host=127.0.0.1 port={server.port} user=postgres dbname={database.name} password={server.password}"
        )
        source = '{type: postgres, dsn: "${DSN}"}'
    for name in ("PGSERVICE", "PGPASSWORD", "PGHOST"):
        monkeypatch.delenv(name, raising=False)
    project.job(f"name: libpq\nsource: {source}\ndestination: {{type: duckdb, dataset: raw}}\ntables:\n  public.big:\n")
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert project.query("select id from raw.big") == [(1,)]
    for name in project.environ:
        monkeypatch.delenv(name, raising=False)


def test_foreign_tables_come_on_request(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(
        "create extension postgres_fdw",
        "create table big as select i as id from generate_series(1, 100) i",
        f"create server self foreign data wrapper postgres_fdw options (host '127.0.0.1', dbname '{database.name}', "
        f"port '{database.server.port}')",
        f"create user mapping for postgres server self options (user 'postgres', password '{database.server.password}')",
        "create foreign table far (id int) server self options (schema_name 'public', table_name 'big')",
    )
    project.job(_JOB.replace("LIMITS", "chunk_rows: 10").replace("public.big: {mode: full}", "public.*:"))
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*) from duckdb_tables() where table_name = 'far'") == [(0,)]
    project.job(_JOB.replace("LIMITS", "chunk_rows: 10").replace("public.big: {mode: full}", "public.far:"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err + answer.out
    assert project.query("select count(*) from raw.far") == [(100,)]


def test_rows_too_large_for_the_memory_of_duckdb_are_said_so(project: Project, database: Database, cli: Cli) -> None:
    project.environ["SOURCE_DSN"] = database.dsn
    database.execute(
        "create table big (id int primary key, doc text)",
        "insert into big select i, repeat(md5(i::text), 32768) from generate_series(1, 300) i",
    )
    project.job(_JOB.replace("LIMITS", "memory: 256MiB"))
    answer = cli("backfill", "job.yml")
    assert answer.code == 1
    assert "DuckDB ran out of memory" in answer.out
    assert "limits.memory" in answer.out
    project.job(_JOB.replace("LIMITS", "memory: 4GiB"))
    assert cli("backfill", "job.yml").code == 0
    assert project.query("select count(*), min(length(doc)) from raw.big") == [(300, 2**20)]
