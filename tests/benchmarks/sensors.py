"""``python -m tests.benchmarks --only sensors``: thousands of sensors in one process, and what each of their polls costs.

The command is the real one, on a file of its own and on state that is new. When every sensor has looked once and a
little more has passed, the window begins: what is measured is measured in it. Lateness is the time between when a poll
was due and when it began, by the wall clock, of every poll that the status table shows in the window.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import asyncpg

from connectors.testing.server import PostgresServer
from tests.benchmarks import airflow, results
from tests.benchmarks.figures import Bar, Figures, section
from tests.benchmarks.idle import plug_in
from tests.benchmarks.measure import SETTINGS, Failed, server_cpu
from tests.benchmarks.resident import running, used
from tests.environments import NotInstalled

_ROOT = Path(__file__).resolve().parents[2]
_RUNNER = Path(sys.executable).with_name("runner")
_EVERY = 10
_CONNECTIONS = 8
_TRIGGERS = 1000
_BODY = b'{"items": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}, {"id": 3, "name": "three"}]}'
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_START_LIMIT = 300.0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        window: Seconds.
        settle: Seconds between the first look of the last sensor and the window.
    """

    sensors: int
    triggers: int
    window: float
    settle: float


def bench(*, quick: bool, peers: bool, record: bool, folder: Path) -> int:
    """Run everything; return 1 where a bar is missed."""
    plan = Plan(1000, 100, 20, 5) if quick else Plan(10_000, _TRIGGERS, 60, 15)
    found: list[Figures] = []
    bars: list[Bar] = []

    def add(one: Figures) -> Figures:
        found.append(one)
        print(f"  {one.line()}", flush=True)
        return one

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        plug_in(place / "plugged")
        idle = add(_ours("no I/O", plan, place / "idle", lambda _: "type: idle"))
        bars += [
            Bar("no I/O: share of a core", idle.share, 0.25),
            Bar("no I/O: 99 of 100 polls are late by at most (s)", idle.late(0.99), 0.1),
            Bar("no I/O: peak resident (MB)", idle.peak * 2**20 / 1e6, 150),
        ]
        with _server() as (url, server):
            serving = lambda: used(server).cpu  # noqa: E731
            http = add(_ours("HTTP", plan, place / "http", lambda n: f"type: http, url: '{url}/{n}'", serving))
            bare = add(_bare(url, plan, place / "bare", serving))
        bars.append(Bar("HTTP: CPU of a poll, of a bare GET with aiohttp", http.each / bare.each, 2.0))
        with PostgresServer(settings=SETTINGS) as postgres:
            asyncio.run(_fill(postgres.dsn()))
            for name, queries in (
                (f"SQL, {plan.sensors // 100} sensors a query", 100),
                ("SQL, each its own", plan.sensors),
            ):
                add(
                    _ours(
                        name, plan, place / f"sql{queries}",
                        partial(_query, queries),
                        lambda: server_cpu(postgres), postgres.dsn(),
                    )
                )  # fmt: skip
        absent = ""
        if peers:
            try:
                theirs = add(airflow.measured(plan.triggers, _EVERY, plan.window, plan.settle, place / "airflow"))
                same = replace(plan, sensors=plan.triggers)
                ours = add(_ours("no I/O, as many as triggers", same, place / "same", lambda _: "type: idle"))
                bars.append(Bar("Airflow's CPU of a poll, of ours with as many", theirs.each / ours.each, None))
                bars.append(
                    Bar("Airflow's resident memory, of ours with as many", theirs.resident / ours.resident, None)
                )
            except (Failed, NotInstalled, subprocess.SubprocessError) as error:
                absent = " ".join(str(error).split())[-300:]
    lines = section(found, bars, absent, every=_EVERY, window=plan.window)
    print("\n".join(lines))
    results.keep(lines, folder=folder, name="sensors", record=record)
    return int(any(bar.missed for bar in bars))


def _query(queries: int, number: int) -> str:
    return f'type: sql, source: bench, query: "select {number % queries} as n, max(id) as top from looked_at"'


def _ours(
    name: str,
    plan: Plan,
    folder: Path,
    entry: Callable[[int], str],
    serving: Callable[[], float] = lambda: 0.0,
    dsn: str = "",
) -> Figures:
    """Run a file of sensors and measure it.

    Args:
        entry: What the file says of the sensor of a number, beside its name and its distance.
        serving: Seconds of CPU that whoever is looked at has used.
    """
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "connections.yml").write_text('sources: {bench: {type: postgres, dsn: "${SOURCE_DSN}"}}\n')
    lines = [f"  - {{name: s{n:05}, every: {_EVERY}s, {entry(n)}}}\n" for n in range(plan.sensors)]
    (folder / "sensors.yml").write_text(
        f"name: bench\nlimits: {{connections: {_CONNECTIONS}}}\nsensors:\n{''.join(lines)}"
    )
    command = [_RUNNER, "sense", "sensors.yml", "--state-dir", "state"]
    path = f"{folder.parent / 'plugged'}:{_ROOT}"
    began = time.time()
    environ = {"PYTHONPATH": path, "SOURCE_DSN": dsn}
    said = folder / "said.log"
    with running(command, folder=folder, environ=environ, said=said) as process:
        store = folder / "state" / "sensors" / "bench.sqlite"
        first = _all_looked(store, plan.sensors, process, said)
        start = used(process.pid).cpu
        time.sleep(plan.settle)
        before, served, polls = used(process.pid), serving(), _polls(store)
        latenesses, resident = _window(store, process.pid, plan.window)
        after, served, polls = used(process.pid), serving() - served, _polls(store) - polls
    return Figures(
        name=name, count=plan.sensors, seconds=after.at - before.at, polls=polls, cpu=after.cpu - before.cpu,
        server=served, waited=after.waited - before.waited, resident=resident, peak=after.peak, ready=first - began, start=start,
        latenesses=latenesses, said=said.read_text(errors="replace"),
    )  # fmt: skip


def _all_looked(store: Path, count: int, process: subprocess.Popen[bytes], said: Path) -> float:
    """Wait until every sensor has looked once; return when the last one did."""
    until = time.monotonic() + _START_LIMIT
    while time.monotonic() < until:
        time.sleep(0.5)
        if process.poll() is not None:
            raise Failed(said.read_text(errors="replace")[-600:])
        rows = _read(store, "select count(last_success), max(last_poll) from status where polls > 0")
        if rows and rows[0][0] >= count:
            return float(rows[0][1])
    raise Failed(f"not every sensor has looked within {_START_LIMIT:.0f} s: {said.read_text(errors='replace')[-600:]}")


def _window(store: Path, pid: int, seconds: float) -> tuple[list[float], float]:
    """Return the lateness of every poll that is seen in the window, and the most that was resident."""
    until = time.monotonic() + seconds
    seen: dict[str, float] = dict(_read(store, "select name, last_poll from status"))
    latenesses, resident = [], 0.0
    while time.monotonic() < until:
        time.sleep(min(_EVERY / 2, max(0.0, until - time.monotonic())))
        resident = max(resident, used(pid).resident)
        for name, at, late in _read(store, "select name, last_poll, lateness from status"):
            if seen.get(name) != at:
                seen[name] = at
                latenesses.append(late)
    return latenesses, resident


def _polls(store: Path) -> int:
    return int(_read(store, "select sum(polls) from status")[0][0] or 0)


def _read(store: Path, sql: str) -> list[Any]:
    try:
        with contextlib.closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []


async def _fill(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table looked_at as select generate_series(1, 100) as id")
    await connection.execute("alter table looked_at add primary key (id); analyze looked_at")
    await connection.close()


# What is asked over HTTP, and who asks it with nothing around.


class _Server(asyncio.Protocol):
    """Answers every request with the same text; it is no measure of a server, so it does the least there is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for _ in whole:
            self._transport.write(_REPLY)


def serve() -> None:
    """Serve until the process is ended; the port is printed."""
    import uvloop

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(run())


def bare(url: str, count: int, begin: float) -> None:
    """Ask as many addresses as often, by a loop around aiohttp and nothing else; the latenesses are printed."""
    import aiohttp
    import uvloop

    async def look(session: aiohttp.ClientSession, number: int) -> None:
        due = begin + _EVERY * number / count
        while True:
            await asyncio.sleep(max(0.0, due - time.time()))
            async with session.get(f"{url}/{number}", headers={"Accept": "application/json"}) as reply:
                await reply.read()
            due += _EVERY

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            await asyncio.gather(*(look(session, number) for number in range(count)))

    uvloop.run(run())


def _bare(url: str, plan: Plan, folder: Path, serving: Callable[[], float]) -> Figures:
    folder.mkdir()
    began = time.time()
    command = [sys.executable, "-m", "tests.benchmarks.sensors", "bare", url, str(plan.sensors), str(began + 3)]
    with running(command, folder=_ROOT, environ={}, said=folder / "said.log") as process:
        time.sleep(3 + _EVERY + plan.settle)
        if process.poll() is not None:
            raise Failed((folder / "said.log").read_text(errors="replace")[-600:])
        before, served = used(process.pid), serving()
        time.sleep(plan.window)
        after, served = used(process.pid), serving() - served
    polls = round(plan.sensors / _EVERY * (after.at - before.at))
    return Figures(
        name="bare aiohttp", count=plan.sensors, seconds=after.at - before.at, polls=polls, cpu=after.cpu - before.cpu,
        server=served, waited=after.waited - before.waited, resident=after.resident, peak=after.peak,
    )  # fmt: skip


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "tests.benchmarks.sensors", "serve"]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        bare(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
