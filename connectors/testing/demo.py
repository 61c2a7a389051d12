"""``make demo``: a private PostgreSQL, a shop in it, a backfill into DuckDB, and a look at the result.

With SHOP_DSN set it reads that database instead, and changes nothing in it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from connectors.testing import shop
from connectors.testing.server import PostgresServer
from runner.errors import RunnerError

_STATE = Path(".runner")
_JOB = Path("orchestra/jobs/demo.yml")
_WAREHOUSE = _STATE / "warehouse.duckdb"


def main() -> int:
    """Run the demo and return the backfill's exit code."""
    _STATE.mkdir(mode=0o700, exist_ok=True)
    try:
        own = os.environ.get("SHOP_DSN")
        return _on_your_own(own) if own else _on_the_shop()
    except RunnerError as error:
        sys.stderr.write(f"error: {error.message}\n{error.advice}\n")
        return error.exit_code


def _on_the_shop() -> int:
    began = time.monotonic()
    print("Starting a private PostgreSQL …", flush=True)
    with PostgresServer(_STATE / "postgres") as server:
        dsn = server.dsn()
        if not asyncio.run(shop.is_filled(dsn)):
            print("Filling it with a shop: more than 200 tables, two million rows …", flush=True)
            asyncio.run(shop.fill(dsn))
        print(f"Ready after {time.monotonic() - began:.1f} s; it ends with this demo.", flush=True)
        print(f"Now: runner backfill {_JOB} --verify hash\n", flush=True)
        code = _runner("backfill", str(_JOB), "--verify", "hash", dsn=dsn)
    if code == 0:
        _look_around(
            _WAREHOUSE,
            "select country, count(*) as orders, sum(total) as total from raw_shop.shop__orders o "
            "join raw_shop.shop__customers c on c.id = o.customer_id group by all order by total desc",
        )
    return code


def _on_your_own(dsn: str) -> int:
    """Write a job file for the reader's database, then run it; both only read there."""
    job = _STATE / "yours.yml"
    job.unlink(missing_ok=True)
    code = _runner("init", dsn, "--out", str(job), "--name", "yours", "--variable", "SHOP_DSN", dsn=dsn)
    if code == 0:
        code = _runner("backfill", str(job), "--verify", "hash", dsn=dsn)
    if code in (0, 1):
        warehouse = Path("warehouse.duckdb")
        _look_around(warehouse, "select table_name from duckdb_tables() where schema_name = 'raw_yours'")
    return code


def _runner(*arguments: str, dsn: str) -> int:
    process = subprocess.Popen([sys.executable, "-m", "runner", *arguments], env={**os.environ, "SHOP_DSN": dsn})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # it is the runner's to handle: it drains and leaves with exit code 3


def _look_around(warehouse: Path, query: str) -> None:
    import duckdb

    runner = Path(sys.executable).with_name("runner")
    try:
        runner = runner.relative_to(Path.cwd())
    except ValueError:
        runner = Path("runner")
    print("\nLook around:")
    print(f"  {runner} show latest                          every table of the run")
    print(f"  {runner} show latest --table shop.orders      its chunks")
    look = f"import duckdb; duckdb.connect('{warehouse}').sql('''{query}''').show()"
    print(f'  {runner.with_name("python")} -c "{look}"\n')
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        print(connection.sql(query).limit(8))


if __name__ == "__main__":
    sys.exit(main())
