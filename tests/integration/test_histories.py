"""Random histories of a source and its runs: what each mode promises to follow, it follows.

A history writes to a table of every mode, holds transactions open over runs, runs, is killed at any point of
``runner.crash`` and starts over. Only what SEMANTICS.md promises is generated. ``HISTORIES=500`` plays more of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.testing.server import PostgresServer
from runner.crash import POINTS, VARIABLE
from tests.processes import Command

Row = tuple[Any, ...]
Step = tuple[Any, ...]

_TABLES = {
    "replaced": "mode: full",
    "merged": "mode: incremental, cursor: at, deletes: compare, on_delete: hard, max_delete: 100%",
    "lagged": "mode: incremental, cursor: at, lag: 1h",
    "scanned": "mode: incremental, cursor: n, late: scan",
    "added": "mode: append, cursor: at",
    "versions": "mode: snapshot",
}
_COLUMNS = dict.fromkeys(_TABLES, 'id, v, "at"') | {"scanned": "id, v, n", "replaced": "id, v", "versions": "id, v"}
# The first rows lie in several chunks; there are none of low ids, so that early steps insert and not only update.
_SCHEMA = """
create table replaced (id int, v text);
insert into replaced select i, 'old' from generate_series(1, 250) i;
create table merged (id int primary key, v text, at timestamptz);
insert into merged select i, 'old', now() from generate_series(201, 450) i;
create table lagged (id int primary key, v text, at timestamptz);
insert into lagged select i, 'old', '2024-01-01 00:00+00' from generate_series(201, 220) i;
create table scanned (id int primary key, v text, n int not null);
insert into scanned select i, 'old', i % 40 from generate_series(201, 450) i;
create table added (id int, v text, at timestamptz(3) not null default now());
insert into added (id, v) select i, 'old' from generate_series(1, 250) i;
create table versions (id int primary key, v text);
insert into versions select i, 'old' from generate_series(201, 450) i;
analyze;
"""
_UPSERT = {
    "replaced": "insert into replaced values ({id}, '{v}')",
    "merged": "insert into merged values ({id}, '{v}', {at}) on conflict (id) do update set v = '{v}', at = {at}",
    "lagged": "insert into lagged values ({id}, '{v}', {at}) on conflict (id) do update set v = '{v}', at = {at}",
    "scanned": "insert into scanned values ({id}, '{v}', {n}) on conflict (id) do update set v = '{v}', n = {n}",
    "added": "insert into added (id, v) select {id}, '{v}' from generate_series(1, 2)",
    "versions": "insert into versions values ({id}, '{v}') on conflict (id) do update set v = '{v}'",
}
_OTHERS = {  # what else happens to a table that the mode follows
    "replaced": ("update replaced set v = '{v}' where id = {id}", "delete from replaced where id = {id}"),
    "merged": ("delete from merged where id = {id}", "delete from merged where id % 40 = {id}"),
    "lagged": (),
    "scanned": ("update scanned set v = '{v}' where id % 50 = {id}",),  # the cursor stays where it was
    "added": (),
    "versions": ("delete from versions where id = {id}", "update versions set v = '{v}' where id % 90 = {id}"),
}
_SHAKEN = ("replaced", "merged", "versions")  # may be truncated or rewritten
_STAMPS = ("now()", "null", "now() + interval '1 hour'", "tie")

_tables = st.sampled_from(sorted(_TABLES))
_small = st.integers(1, 6)
_write = st.tuples(st.just("write"), _tables, _small, st.integers(0, 3), st.integers(0, 60))
_hold = st.tuples(st.just("hold"), _tables, _small, st.integers(0, 3), st.integers(0, 60))
_release = st.tuples(st.just("release"), st.booleans())
_shake = st.tuples(st.just("shake"), st.sampled_from(_SHAKEN), st.booleans())
_run = st.tuples(st.just("run"), st.sampled_from(["counts", "hash", "source"]))
_kill = st.tuples(st.just("kill"), st.sampled_from(sorted(POINTS)), _tables, st.integers(1, 4), st.booleans())
_refresh = st.just(("refresh",))
_step = st.one_of(_write, _write, _write, _hold, _release, _run, _run, _kill, _kill, _refresh, _shake)
_history = st.lists(_step, min_size=4, max_size=12)

_EXAMPLES = int(os.environ.get("HISTORIES") or 2)
_SETTINGS = settings(
    max_examples=_EXAMPLES,
    derandomize="HISTORIES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class World:
    """A source, a destination, and what is known of them while a history is played."""

    def __init__(self, server: PostgresServer, folder: Path, destination: str) -> None:
        self._folder = folder
        self._destination = destination
        self._name = f"h_{os.urandom(6).hex()}"
        self._admin = _connect(server.dsn("postgres"))
        self._ask(self._admin, f"create database {self._name}")
        self._here = _connect(server.dsn(self._name))
        self._ask(self._here, _SCHEMA)
        self._dsn = server.dsn(self._name)
        self._held: list[tuple[Any, str, str | None]] = []
        self._top = 0  # the minutes after 2024 that the largest stamp of lagged lies at
        self._stamp = str(self._ask(self._here, "select max(at) from merged")[0][0])
        self._killed = False  # what was begun under an older picture waits to be ended
        self._pictures: dict[int, list[Any]] = defaultdict(list)
        self._step = 0
        (folder / "pyproject.toml").write_text("")
        spec = "{type: duckdb, dataset: raw}"
        if destination == "postgres":
            spec = f"{{type: postgres, dsn: '{self._dsn}', dataset: raw}}"
        entries = "".join(f"  public.{name}: {{{entry}}}\n" for name, entry in _TABLES.items())
        (folder / "job.yml").write_text(
            f"name: history\nsource: {{type: postgres, dsn: '{self._dsn}', lock_timeout: 5s}}\ndestination: {spec}\n"
            f"limits: {{chunk_rows: 100, connections: 3}}\ntables:\n{entries}"
        )

    def close(self) -> None:
        for connection, *_ in self._held:
            connection.close()
        self._here.close()
        self._ask(self._admin, f"drop database {self._name} with (force)")
        self._admin.close()

    def _backfill(self, *options: str, crash: str | None = None) -> int:
        environ = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "RUNNER_STATE_DIR")}
        environ |= {VARIABLE: crash} if crash else {}
        process = Command(["backfill", "job.yml", *options], self._folder, environ)
        _, self._said = process.communicate()
        return process.wait()

    def _ask(self, connection: Any, sql: str) -> list[Row]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def there(self, sql: str) -> list[Row]:
        if self._destination == "postgres":
            return self._ask(self._here, sql)
        with duckdb.connect(str(self._folder / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(sql).fetchall()

    # What happens.

    def play(self, step: Step) -> None:
        self._step += 1
        getattr(self, f"_{step[0]}")(*step[1:])

    def _write(self, table: str, number: int, kind: int, stamp: int) -> None:
        self._change(self._here, table, number, kind, stamp)

    def _hold(self, table: str, number: int, kind: int, stamp: int) -> None:
        """Leave a transaction open; it has rows of its own, so that nobody waits for it."""
        if any(held == table for _, held, _ in self._held):
            return
        connection = _connect(self._dsn, autocommit=False)
        # An application that sets the cursor itself and commits late is not followed: without late: scan or a lag.
        stamp = stamp if table in ("lagged", "scanned") else stamp % 3
        at = self._change(connection, table, 130 + number, kind, stamp)
        self._held.append((connection, table, at))

    def _change(self, connection: Any, table: str, number: int, kind: int, stamp: int) -> str | None:
        value = f"{'abc'[self._step % 3]}" if table == "versions" else f"v{self._step}"
        at = _STAMPS[stamp % len(_STAMPS)]
        if table == "lagged":
            minutes = self._top + (stamp if kind == 1 else -stamp)
            self._top = max(self._top, minutes)
            at = "null" if kind == 2 else f"timestamptz '2024-01-01 00:00+00' + interval '{minutes} minutes'"
        elif at == "tie":
            at = f"timestamptz '{self._stamp}'"
        others = _OTHERS[table]
        sql = others[kind % 2 % len(others)] if kind in (1, 2) and others else _UPSERT[table]
        self._ask(connection, sql.format(id=number, v=value, at=at, n=stamp))
        if table == "lagged":
            return None if kind == 2 else str(minutes)
        if table == "merged":
            # The largest stamp there ever was: no mark lies above it.
            largest = f"select greatest(max(at), '{self._stamp}') from merged"
            self._stamp = str(self._ask(connection, largest)[0][0])
        return None

    def _release(self, commit: bool) -> None:
        if self._held:
            connection, table, minutes = self._held.pop(0)
            beyond = table == "lagged" and minutes is not None and int(minutes) < self._top - 60
            if commit and not beyond:
                connection.commit()
            connection.close()

    def _shake(self, table: str, truncated: bool) -> None:
        """Truncate or rewrite a table, unless somebody holds it."""
        with contextlib.suppress(psycopg2.errors.LockNotAvailable):
            self._ask(self._here, "set lock_timeout = '100ms'")
            self._ask(self._here, f"truncate {table}" if truncated else f"vacuum full {table}")

    def _run(self, verify: str) -> None:
        code = self._backfill("--verify", verify)
        assert code == 0, self._said
        resumed, self._killed = self._killed, False
        if not resumed:
            self.compare()

    def _kill(self, point: str, table: str, count: int, refresh: bool) -> None:
        anew = ["--full-refresh", "--yes"] if refresh and count == 1 else []
        code = self._backfill(*anew, crash=f"{point}@public.{table}:{count}")
        assert code in (-9, 0), self._said
        self._killed = self._killed or code == -9 or bool(anew)
        if anew:
            self._pictures.clear()

    def _refresh(self) -> None:
        code = self._backfill("--full-refresh", "--yes")
        assert code == 0, self._said
        self._killed = True  # it may have gone on with a refresh that was killed; a plain run may be waiting, too
        self._pictures.clear()

    # What must be true.

    def compare(self) -> None:
        """Compare every table with what the source shows now."""
        for table, columns in _COLUMNS.items():
            here = Counter(self._ask(self._here, f"select {columns} from {table}"))
            current = " where _dlt_valid_to is null" if table == "versions" else ""
            there = Counter(self.there(f"select {columns} from raw.{table}{current}"))
            lost, extra = here - there, there - here
            if table == "added" and self._held:
                lost.clear()  # what was written after the oldest transaction at work began comes when that ends
            assert (lost, extra) == (Counter(), Counter()), f"{table}: lost {lost}, too many {extra}; {self._said}"
        for number in (*range(1, 13), *range(131, 137)):
            found = self._ask(self._here, f"select v from versions where id = {number}")
            seen = self._pictures[number]
            if seen[-1:] != (found or [None]):
                seen.append(found[0] if found else None)

    def finish(self) -> None:
        """Come to rest, run, and compare everything."""
        while self._held:
            self._release(True)
        for _ in range(2 if self._killed else 1):
            self._run("hash")
        assert not self._killed
        self._check_versions()
        for table, seqs in self.there("select table_name, list from (select table_name, array_agg(seq order by seq) "
                                      "as list from raw._runner_state group by 1) s"):  # fmt: skip
            assert list(seqs) == list(range(1, len(seqs) + 1)), f"the history of {table}: {seqs}"

    def _check_versions(self) -> None:
        rows = self.there("select id, v, _dlt_valid_from, _dlt_valid_to from raw.versions order by id, 3")
        for number, group in itertools.groupby(rows, key=lambda row: row[0]):
            versions = list(group)
            for _, value, begun, ended in versions:
                assert ended is None or begun < ended, (number, value, begun, ended)
            for (*_, ended), (_, _, begun, _) in itertools.pairwise(versions):
                assert ended is not None, f"two versions of {number} are current: {versions}"
                assert ended <= begun, f"versions of {number} overlap: {versions}"
            kept = iter([value for _, value, _, _ in versions])
            for seen in self._pictures.get(number, ()):
                assert seen is None or seen[0] in kept, f"of {number} {self._pictures[number]} was seen: {versions}"


def _connect(dsn: str, *, autocommit: bool = True) -> Any:
    connection = psycopg2.connect(dsn)
    connection.autocommit = autocommit
    return connection


@pytest.mark.parametrize("destination", ["duckdb", "postgres"])
@pytest.mark.timeout(0 if _EXAMPLES > 20 else 300)
@_SETTINGS
@example([("hold", "added", 1, 0, 0), ("write", "added", 2, 0, 0), ("run", "counts")])
@example([("run", "hash"), ("write", "scanned", 1, 0, 50), ("kill", "publish-named", "scanned", 1, False),
          ("run", "counts"), ("write", "scanned", 2, 0, 3)])  # fmt: skip
@example([("hold", "merged", 1, 0, 0), ("write", "merged", 2, 0, 2), ("run", "source"), ("write", "merged", 3, 0, 3),
          ("kill", "swap", "merged", 1, False), ("write", "merged", 200, 1, 0)])  # fmt: skip
@given(history=_history)
def test_what_is_promised_is_followed(server: PostgresServer, destination: str, history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(server, Path(folder), destination)
        try:
            for step in history:
                world.play(step)
            world.finish()
        finally:
            world.close()
