"""A changing source, and everything killed again and again: in the end destination and source are equal.

``python -m tests.acceptance.soak --kills 200 --seed 7`` prints its seed and replays its decisions from it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import duckdb

from connectors.testing.server import PostgresServer
from runner.clock import OFFSET
from runner.crash import POINTS, VARIABLE
from tests.processes import Command

_SCHEMA = """
create table wide (id int primary key, a text, b text, n numeric(12, 3));
insert into wide select i, md5(i::text), repeat('x', i % 50), i / 8.0 from generate_series(1, 20000) i;
create table accounts (id int primary key, v text, updated_at timestamptz not null default now());
insert into accounts select i, 'v' || i from generate_series(1, 4000) i;
create index on accounts (updated_at);
create table compared (id int primary key, v text, updated_at timestamptz not null default now());
insert into compared select i, 'v' || i from generate_series(1, 3000) i;
create index on compared (updated_at);
create table events (id bigint generated always as identity, at timestamptz not null default now(), v text);
insert into events (v) select 'e' || i from generate_series(1, 3000) i;
create index on events (at);
create table history (id int primary key, v text);
insert into history select i, 'h' || i from generate_series(1, 2000) i;
create table late (id int primary key, stamp int not null, v text);
insert into late select i, i, 'l' || i from generate_series(1, 2000) i;
create index on late (stamp);
analyze;
"""
_JOB = """
name: soak
source: {type: postgres, dsn: "${SOURCE_DSN}", lock_timeout: 5s}
destination: DESTINATION
limits: {chunk_rows: 3000, connections: 4, snapshot_age: 5s}
retry: {attempts: 4, max_wait: 1s, deadline: 60s}
tables:
  public.wide: {mode: full}
  public.accounts: {mode: incremental, cursor: updated_at}
  public.compared: {mode: incremental, cursor: updated_at, deletes: compare, on_delete: hard, max_delete: 100%}
  public.events: {mode: append, cursor: at}
  public.history: {mode: snapshot}
  public.late: {mode: incremental, cursor: stamp, late: scan}
"""
_TABLES = ("wide", "accounts", "compared", "events", "history", "late")
_WRITES = (
    "insert into accounts values ({new}, 'new') on conflict do nothing",
    "update accounts set v = md5(random()::text), updated_at = now() where id = {old}",
    "insert into compared values ({new}, 'new') on conflict do nothing",
    "update compared set v = md5(random()::text), updated_at = now() where id % 1000 = {old} % 1000",
    "delete from compared where id = {old}",
    "insert into events (v) select 'more' from generate_series(1, 3)",
    "update history set v = md5(random()::text) where id = {old}",
    "delete from history where id = {old}",
    "insert into history values ({new}, 'new') on conflict do nothing",
    "insert into late values ({new}, {old}, 'came late') on conflict do nothing",
    "update late set v = md5(random()::text) where id = {old}",
    "update wide set a = md5(random()::text) where id % 500 = {old} % 500",
    "delete from wide where id = {old}",
    "insert into wide values ({new}, 'new', null, null) on conflict do nothing",
)
_UPHEAVALS = (
    "vacuum full wide",
    "truncate compared",
    "truncate wide; insert into wide select i, 'again', null, i from generate_series(1, 9000) i",
    "cluster wide using wide_pkey",
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orchestra-runner'",
)


class OpenLoop:
    """Writes to the source at a steady rate, whatever the source answers; some transactions commit late."""

    def __init__(self, dsn: str, seed: int) -> None:
        self._dsn = dsn
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.written = 0

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)

    async def _write(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self._write_on())

    async def _write_on(self) -> None:
        while not self._stop.is_set():
            try:
                await self._client()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await asyncio.sleep(0.1)

    async def _client(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=5)
        try:
            while not self._stop.is_set():
                statements = [self._statement() for _ in range(self._chance.randint(1, 4))]
                async with connection.transaction():
                    await connection.execute("set local lock_timeout = '2s'")
                    for statement in statements:
                        await connection.execute(statement)
                    if self._chance.random() < 0.1:
                        await asyncio.sleep(self._chance.random() * 0.5)
                self.written += len(statements)
                await asyncio.sleep(0.02)
        finally:
            connection.terminate()

    def _statement(self) -> str:
        old, new = self._chance.randrange(1, 6000), self._chance.randrange(30_000, 60_000)
        return self._chance.choice(_WRITES).format(old=old, new=new)


@dataclass
class Soak:
    """One soak.

    Args:
        kills: How many of our processes are killed before it ends.
        check_every: After so many kills everything comes to rest and is compared.
    """

    folder: Path
    source: PostgresServer
    target: PostgresServer | None
    seed: int
    kills: int
    check_every: int = 10
    done: Counter[str] = field(default_factory=Counter)

    def run(self) -> list[str]:
        """Return what differed in the end, or at a stop on the way."""
        chance = random.Random(self.seed)
        self._prepare()
        writer = OpenLoop(self.source.dsn(), self.seed)
        writer.start()
        try:
            while self.done["kills"] < self.kills:
                self._disturbed_run(chance)
                if self.done["kills"] % self.check_every == 0 and self.done["kills"]:
                    writer.stop()
                    wrong = self._settle()
                    if wrong:
                        return wrong
                    self.done["checks"] += 1
                    writer.start()
            writer.stop()
            self.done["writes"] = writer.written
            return self._settle()
        finally:
            writer.stop()

    def _prepare(self) -> None:
        self._execute(self.source, _SCHEMA)
        (self.folder / "pyproject.toml").write_text("")
        to = '{type: postgres, dsn: "${TARGET_DSN}", dataset: raw}' if self.target else "{type: duckdb, dataset: raw}"
        (self.folder / "job.yml").write_text(_JOB.replace("DESTINATION", to))

    def _disturbed_run(self, chance: random.Random) -> None:
        environ = {}
        if chance.random() < 0.5:
            environ[VARIABLE] = f"{chance.choice(list(POINTS))}:{chance.randint(1, 6)}"
        if chance.random() < 0.3:
            environ[OFFSET] = str(chance.randint(-100_000, 100_000))
        full_disk = chance.random() < 0.1
        process = self._start(environ, disk=200_000 if full_disk else None)
        self.done["full disks"] += full_disk
        upheaval = chance.choice(_UPHEAVALS) if chance.random() < 0.3 else None
        blow = chance.random()
        # A run takes seconds; the kill comes anywhere in it.
        end = time.monotonic() + 0.4 + chance.random() * 3
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            if upheaval is not None and chance.random() < 0.05:
                self._upheave(upheaval)
                upheaval = None
        if process.poll() is None and blow < 0.12:
            self._strike_server(self.source if self.target is None or blow < 0.05 else self.target)
        process.kill()
        process.communicate()
        self.done["kills"] += process.returncode == -signal.SIGKILL

    def _upheave(self, statement: str) -> None:
        try:
            self._execute(self.source, "set lock_timeout = '3s'", *statement.split("; "))
            self.done["upheavals"] += 1
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.done["upheavals refused"] += 1

    def _strike_server(self, server: PostgresServer) -> None:
        server.stop(signal.SIGKILL)
        time.sleep(0.2)
        server.start()
        self.done["servers killed"] += 1

    def _start(self, environ: dict[str, str], *, disk: int | None = None) -> Command:
        clean = {name: value for name, value in os.environ.items() if name not in (VARIABLE, OFFSET)}
        dsns = {"SOURCE_DSN": self.source.dsn(), "TARGET_DSN": self.target.dsn() if self.target else ""}
        arguments = ["backfill", "job.yml", "--verify", "hash", "--quiet"]
        return Command(arguments, self.folder, {**clean, **dsns, **environ}, disk=disk)

    def _settle(self) -> list[str]:
        """Let runs come to an end on a source at rest; return what differs."""
        ended, said = 0, ""
        for _ in range(8):
            process = self._start({})
            out, err = process.communicate(timeout=180)
            said = f"exit {process.returncode}\n{out}\n{err}"
            ended = ended + 1 if process.returncode == 0 else 0
            if ended == 2:  # the first may have ended what was begun under an older picture
                return self._differences()
        return [f"it does not come to an end: {said}"]

    def _differences(self) -> list[str]:
        found = []
        for table in _TABLES:
            names = [row[0] for row in self._rows(self.source, _COLUMNS.format(table))]
            columns = ", ".join(f'"{name}"' for name in names)
            here = Counter(self._rows(self.source, f"select {columns} from {table}"))
            current = " where _dlt_valid_to is null" if table == "history" else ""
            there = Counter(self._there(f"select {columns} from raw.{table}{current}"))
            if here != there:
                lost, extra = here - there, there - here
                marks = self._there(_HISTORY.format(table))
                found.append(
                    f"{table}: {lost.total()} lost, {extra.total()} too many, for example "
                    f"{list(lost)[:2]} and {list(extra)[:2]}; its history: {marks}"
                )
        return found

    def _there(self, query: str) -> list[tuple[Any, ...]]:
        if self.target is not None:
            return self._rows(self.target, query)
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(query).fetchall()

    def _execute(self, server: PostgresServer, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(server.dsn(), timeout=10)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                connection.terminate()

        asyncio.run(run())

    def _rows(self, server: PostgresServer, query: str) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(server.dsn(), timeout=10)
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                connection.terminate()

        return asyncio.run(run())


_HISTORY = (
    "select seq, run, mark, source_token, row_count from raw._runner_state where table_name = '{}' "
    "order by seq desc limit 4"
)
_COLUMNS = (
    "select attname from pg_attribute where attrelid = '{}'::regclass and attnum > 0 and not attisdropped "
    "order by attnum"
)


def soak(folder: Path, destination: str, seed: int, kills: int, check_every: int = 10) -> tuple[Soak, list[str]]:
    """Run one soak with servers of its own; fsync stays on, since the servers are killed too."""
    with ExitStack() as stack:
        source = stack.enter_context(PostgresServer(settings={"fsync": "on"}))
        target = stack.enter_context(PostgresServer(settings={"fsync": "on"})) if destination == "postgres" else None
        one = Soak(folder, source, target, seed, kills, check_every)
        return one, one.run()


def main() -> int:
    """Soak each destination in turn, with its share of the kills."""
    arguments = argparse.ArgumentParser(description="The soak.")
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=None)
    arguments.add_argument("--destination", choices=("duckdb", "postgres"), action="append")
    asked = arguments.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    wrong: list[str] = []
    destinations = asked.destination or ["duckdb", "postgres"]
    kills = -(-asked.kills // len(destinations))
    for destination in destinations:
        began = time.monotonic()
        print(f"soak into {destination}: seed {seed}, {kills} kills …", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            one, found = soak(Path(folder), destination, seed, kills)
        told = ", ".join(f"{count} {what}" for what, count in sorted(one.done.items()))
        verdict = "equal" if not found else "DIFFERENT"
        print(f"  {verdict} after {time.monotonic() - began:.0f} s: {told}", flush=True)
        for line in found:
            print(f"  {line}")
        wrong += found
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
