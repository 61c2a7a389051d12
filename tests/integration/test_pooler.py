"""Through pgbouncer in transaction mode, with the real binary."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli, Database, Project, binary

pytestmark = pytest.mark.pgbouncer


@pytest.fixture
def pooled(shop_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = binary("pgbouncer")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path("/tmp") / f"pgbouncer-{os.getpid()}-{port}"
    folder.mkdir(mode=0o755)
    server = shop_database.server
    (folder / "users.txt").write_text(f'"postgres" "{server.password}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        f"listen_port={port}\nunix_socket_dir=\npool_mode=transaction\nauth_type=plain\n"
        f"auth_file={folder}/users.txt\ndefault_pool_size=3\nlogfile=\n"
    )
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        [program, "-q", str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    pytest.fail("pgbouncer did not start")
                time.sleep(0.02)
        yield f"postgresql://postgres:{server.password}@127.0.0.1:{port}/{shop_database.name}"
    finally:
        process.terminate()
        process.wait(10)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_everything_arrives_and_the_report_says_that_it_is_not_one_snapshot(
    pooled: str, shop_database: Database, project: Project, cli: Cli
) -> None:
    project.environ["SHOP_DSN"] = pooled
    project.job(
        'name: pooled\nsource: {type: postgres, dsn: "${SHOP_DSN}"}\n'
        "destination: {type: duckdb, dataset: raw}\nlimits: {chunk_rows: 1000}\n"
        "defaults: {mode: auto, cursor: [updated_at], lag: 1m}\ntables:\n  shop.*:\n"
    )
    answer = cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert "a pooler in transaction mode is in between" in answer.err
    for table in ("orders", "order_items", "page_views", "every_type"):
        expected = shop_database.rows(f"select count(*) from shop.{table}")
        assert project.query(f"select count(*) from raw.{table}") == expected
    report = next(project.folder.glob(".runner/runs/*/report.html")).read_text()
    assert "pooler in transaction mode" in report
    # Tables with an ordered key are still split; those that only ctid could split are not.
    show = cli("show", "latest", "--table", "shop.order_items", "--json").out
    assert '"ctid"' not in show
    assert show.count('"key"') > 2


def test_doctor_says_so(pooled: str, project: Project, cli: Cli) -> None:
    project.environ["SHOP_DSN"] = pooled
    project.job(
        'name: pooled\nsource: {type: postgres, dsn: "${SHOP_DSN}"}\ndestination: {type: duckdb}\ntables: {"shop.*": }\n'
    )
    answer = cli("doctor", "job.yml")
    assert answer.code == 0
    assert "no single snapshot" in answer.out
