"""What verification costs: extraction with and without hashing, and the source's own second look, side by side.

``python -m tests.benchmarks.verification [rows]`` prints ratios of one interleaved set, CPU seconds and peak memory.
Rows are those of TPC-H's lineitem: 16 columns, four decimals, three dates, five texts.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from connectors.postgres.source import PostgresSource
from connectors.testing.server import PostgresServer
from runner.executor import LocalExecutor
from runner.limits import Budget
from runner.rowhash import Digest, Fingerprint, by_prefix, total
from runner.source import Scan
from runner.spool import Spool

_LINEITEM = """
create table lineitem as
select i / 4 as l_orderkey, i * 7 % 200000 as l_partkey, i * 3 % 10000 as l_suppkey, i % 4 + 1 as l_linenumber,
       (i % 50 + 1)::numeric(15, 2) as l_quantity, (i * 137 % 10000000 / 100.0)::numeric(15, 2) as l_extendedprice,
       (i % 11 / 100.0)::numeric(15, 2) as l_discount, (i % 9 / 100.0)::numeric(15, 2) as l_tax,
       case i % 3 when 0 then 'A' when 1 then 'N' else 'R' end::char(1) as l_returnflag,
       case i % 2 when 0 then 'O' else 'F' end::char(1) as l_linestatus,
       date '1992-01-01' + i % 2500 as l_shipdate, date '1992-01-01' + i % 2400 as l_commitdate,
       date '1992-01-01' + i % 2600 as l_receiptdate, 'DELIVER IN PERSON'::char(25) as l_shipinstruct,
       'TRUCK'::char(10) as l_shipmode, left(repeat(md5(i::text), 2), 10 + i % 34)::varchar(44) as l_comment
from generate_series(1, {rows}) i
"""
_ROUNDS = 5


async def measure(dsn: str, folder: Path) -> None:
    source = PostgresSource({"dsn": dsn})
    plain = LocalExecutor(hash_key=None, width=16, verify=True)
    hashing = LocalExecutor(hash_key=None, width=16, verify=True, hashes=True)
    found: dict[str, Fingerprint] = {}
    async with source.session(1) as session:
        (table,) = await session.discover(["public.lineitem"])
        scan = Scan(table, table.columns)
        chunks = await session.chunks(scan, 250_000, 256 * 2**20)

        async def extract(executor: LocalExecutor) -> None:
            spool = Spool(folder, Budget(2**40))
            hashes = []

            async def one(chunk: object) -> None:
                done = await executor.read(session, scan, chunk, spool, 2**20)  # type: ignore[arg-type]
                hashes.append(done.hash)

            async with asyncio.TaskGroup() as group:
                for chunk in chunks:
                    group.create_task(one(chunk))
            if executor is hashing:
                found["hash"] = total(Fingerprint.parse(str(text)) for text in hashes)
            for file in folder.iterdir():
                file.unlink()

        async def look() -> None:
            sums = []

            async def one(chunk: object) -> None:
                sums.extend(by_prefix(await plain.digest(session, scan, chunk, Digest())).values())  # type: ignore[arg-type]

            async with asyncio.TaskGroup() as group:
                for chunk in chunks:
                    group.create_task(one(chunk))
            found["source"] = total(sums)

        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "extraction": lambda: extract(plain),
            "extraction with hash": lambda: extract(hashing),
            "the source's own look": look,
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        busy: dict[str, float] = dict.fromkeys(ways, 0.0)
        for number in range(_ROUNDS + 1):
            for way, work in ways.items():
                began, cpu = time.perf_counter(), time.process_time()
                await work()
                if number:  # the first round warms up
                    times[way].append(time.perf_counter() - began)
                    busy[way] += (time.process_time() - cpu) / _ROUNDS
        assert found["hash"] == found["source"], "the two do not agree"
    base = times["extraction"]
    for way, taken in times.items():
        ratios = sorted(one / other for one, other in zip(taken, base, strict=True))
        print(
            f"{way:24} {statistics.median(taken):6.2f} s  {busy[way]:6.2f} CPU s (client)  "
            f"x {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    """Measure on a server of our own."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:

        async def fill() -> None:
            connection = await asyncpg.connect(server.dsn())
            await connection.execute(_LINEITEM.format(rows=rows))
            await connection.execute("vacuum analyze lineitem")
            await connection.close()

        asyncio.run(fill())
        print(f"{rows:,} rows of lineitem, {_ROUNDS} rounds")
        try:
            import uvloop

            uvloop.run(measure(server.dsn(), Path(folder)))
        except ImportError:
            asyncio.run(measure(server.dsn(), Path(folder)))


if __name__ == "__main__":
    main()
