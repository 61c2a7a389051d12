"""``python -m tests.benchmarks``: this project and its peers at the same work, interleaved, after their rows were proved equal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import asyncpg
import duckdb

from connectors.testing.server import PostgresServer
from runner.testing.proxy import Fault, FaultProxy
from tests.benchmarks import datasets, equality, rest, results, sensors
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.contenders import Contender, Ours, Work
from tests.benchmarks.measure import SETTINGS, Failed, Measured, run
from tests.environments import NotInstalled

_LIMIT = 1800.0


class Bench:
    """Runs cases on one server.

    Args:
        rounds: How often each contender runs, after one run to warm up.
    """

    def __init__(self, server: PostgresServer, folder: Path, *, scale: float, rounds: int) -> None:
        self._server = server
        self._folder = folder
        self._scale = scale
        self._rounds = rounds
        self._filled: dict[str, list[str]] = {}

    def run(self, case: Case) -> results.Found:
        """Run a case; raises AssertionError if our own rows, or those of the base, are not the source's."""
        work = self._work(case)
        found = results.Found(case)
        tables, wanted = equality.of_source(work)
        found.rows = sum(one.rows for one in wanted.values())
        with self._distant(case) as dsn:
            for number in range(self._rounds + 1):
                for contender in case.contenders:
                    if contender.name in found.absent:
                        continue
                    own = Work(dsn, work.schema, work.tables, contender.kind or work.kind, work.target)
                    try:
                        measured, folder = self._once(contender, own)
                    except (Failed, NotInstalled) as error:
                        found.absent[contender.name] = " ".join(str(error).split())[-200:]
                        continue
                    if number:
                        found.runs.setdefault(contender.name, []).append(measured)
                    else:
                        try:
                            there = equality.of_place(own, tables, folder)
                            unequal = [name for name in wanted if there[name] != wanted[name]]
                        except duckdb.Error as error:
                            unequal = [str(error).splitlines()[0][:80]]
                        if unequal:
                            found.wrong[contender.name] = f"differ: {', '.join(unequal[:3])}"
                    self._clear(own, folder)
        return found

    def _work(self, case: Case) -> Work:
        dsn = self._server.dsn()
        if case.schema not in self._filled:
            print(f"  filling {case.schema}", flush=True)
            made = datasets.fill(dsn, case.schema, self._scale, self._folder)
            self._filled[case.schema] = asyncio.run(made)
        return Work(dsn, case.schema, case.tables or tuple(self._filled[case.schema]), case.kind, dsn)

    def _once(self, contender: Contender, work: Work) -> tuple[Measured, Path]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        command = contender.prepare(work, folder)
        environ = {"SOURCE_DSN": work.dsn, "DEST_DSN": work.target}
        measured = run(command, server=self._server, folder=folder, environ=environ, limit=_LIMIT)
        return measured, folder

    def _clear(self, work: Work, folder: Path) -> None:
        shutil.rmtree(folder)
        if work.kind == "postgres":

            async def drop() -> None:
                connection = await asyncpg.connect(work.target)
                await connection.execute("drop schema if exists raw cascade; checkpoint")
                await connection.close()

            asyncio.run(drop())

    @contextlib.contextmanager
    def _distant(self, case: Case) -> Iterator[str]:
        """Put the source as far away as the case says."""
        dsn = self._server.dsn()
        if not case.latency:
            yield dsn
            return
        ports: list[int] = []
        ready, done = threading.Event(), threading.Event()

        async def serve() -> None:
            async with FaultProxy("127.0.0.1", self._server.port) as proxy:
                half = case.latency / 2000
                proxy.fault = Fault(latency=(half, half))
                ports.append(proxy.port)
                ready.set()
                await anyio.to_thread.run_sync(done.wait)

        thread = threading.Thread(target=anyio.run, args=(serve,))
        thread.start()
        ready.wait()
        try:
            yield dsn.replace(f":{self._server.port}/", f":{ports[0]}/")
        finally:
            done.set()
            thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if rows of ours are not those of the source."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scale factor 0.1, one round, the short list of cases")
    parser.add_argument("--scale", type=float, help="TPC-H's scale factor; 1 by default")
    parser.add_argument("--rounds", type=int, help="rounds after the warm-up; 3 by default")
    parser.add_argument(
        "--only", action="append", default=[], help="this case, or rest or sensors alone; may be given again"
    )
    parser.add_argument("--without", action="append", default=[], help="leave this contender out; may be given again")
    parser.add_argument("--record", action="store_true", help="put the figures into RESULTS.md")
    parser.add_argument("--out", type=Path, default=Path(".bench"), help="where bench.json and section.md go")
    asked = parser.parse_args(arguments)
    if asked.only == ["sensors"]:
        peers = "airflow" not in asked.without
        return sensors.bench(quick=asked.quick, peers=peers, record=asked.record, folder=asked.out)
    if asked.only == ["rest"]:
        return rest.bench(asked.scale or (0.1 if asked.quick else 1.0), peers="dlt" not in asked.without)
    scale = asked.scale or (0.1 if asked.quick else 1.0)
    rounds = asked.rounds or (1 if asked.quick else 3)
    cases = [case for case in CASES if case.name in asked.only or (not asked.only and (case.quick or not asked.quick))]
    unknown = {*asked.only} - {case.name for case in CASES}
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {'; '.join(case.name for case in CASES)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    found = []
    with PostgresServer(settings=SETTINGS) as server, tempfile.TemporaryDirectory() as temporary:
        bench = Bench(server, Path(temporary), scale=scale, rounds=rounds)
        for case in cases:
            print(f"{case.name} …", flush=True)
            left = tuple(one for one in case.contenders if one.name not in asked.without)
            one = bench.run(replace(case, contenders=left))
            found.append(one)
            print("\n".join(results.table(one)[2:]), flush=True)
    results.write(found, scale=scale, rounds=rounds, folder=asked.out, record=asked.record)
    ours = {one.name for case in CASES for one in case.contenders if isinstance(one, Ours)}
    wrong = [
        f"{one.case.name}: {name}: {how}"
        for one in found
        for name, how in {**one.wrong, **one.absent}.items()
        if name in ours
    ]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
