"""Several processes on one dataset, and fresh containers that go on without the state folder of the one before."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import duckdb
import psycopg2
import pytest

from runner import __version__, backfill
from runner.crash import VARIABLE
from tests.conftest import Cli, Database, Project
from tests.processes import Command

_FILL = """
create table whole (id int primary key, v text);
insert into whole select i, md5(i::text) from generate_series(1, 3000) i;
create table merged (id int primary key, v text, at timestamptz not null default now());
insert into merged select i, 'v' || i from generate_series(1, 1500) i;
create table added (id int, at timestamptz not null default now());
insert into added select i from generate_series(1, 1500) i;
create table history (id int primary key, v text);
insert into history select i, 'h' || i from generate_series(1, 1500) i;
analyze;
"""
_CHANGE = """
update whole set v = 'changed' where id % 100 = 1;
delete from whole where id = 500;
insert into merged values (9000, 'new');
update merged set v = 'changed', at = now() where id % 100 = 1;
insert into added select 9000 + i from generate_series(1, 50) i;
update history set v = 'changed' where id % 100 = 1;
delete from history where id = 500;
"""
_ALL = 'id, v, "at"'
_COLUMNS = {"whole": "id, v", "merged": _ALL, "added": 'id, "at"', "history": "id, v"}
_TABLES = {
    "whole": "mode: full",
    "merged": "mode: incremental, cursor: at",
    "added": "mode: append, cursor: at",
    "history": "mode: snapshot",
}
_SPECS = {
    "duckdb": "{type: duckdb, dataset: raw}",
    "postgres": '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}',
}

Rows: TypeAlias = "Counter[tuple[Any, ...]]"


@dataclass
class Place:
    """One dataset, and everybody who writes to it."""

    project: Project
    source: Database
    destination: str
    tables: dict[str, str] = field(default_factory=dict)
    chunk_rows: int = 1000
    children: list[Command] = field(default_factory=list)

    def job(self, tables: dict[str, str] | None = None) -> None:
        """Write the job file; tables are given by name, with what the job says of them."""
        self.tables = tables or _TABLES
        lines = "".join(f"  public.{table}: {{{entry}}}\n" for table, entry in self.tables.items())
        limits = f"chunk_rows: {self.chunk_rows}, connections: 2"
        self.project.job(
            f'name: together\nsource: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}\n'
            f"destination: {_SPECS[self.destination]}\nlimits: {{{limits}}}\ntables:\n{lines}"
        )

    def start(self, *arguments: str, state: str = ".runner", crash: str = "") -> Command:
        self.project.environ[VARIABLE] = crash
        process = self.project.start(*arguments, "--state-dir", state)
        del self.project.environ[VARIABLE]
        self.children.append(process)
        return process

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the destination."""
        return self.source.rows(sql) if self.destination == "postgres" else self._in_file(sql, read_only=True)

    def execute(self, sql: str) -> None:
        """Change the destination."""
        if self.destination == "postgres":
            self.source.execute(sql)
        else:
            self._in_file(sql, read_only=False)

    def _in_file(self, sql: str, *, read_only: bool) -> list[tuple[Any, ...]]:
        """Run a statement as soon as nobody else has the file open."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with duckdb.connect(str(self.project.warehouse), read_only=read_only) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.IOException:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def events(self, action: str, state: str = ".runner") -> list[dict[str, Any]]:
        found = []
        for file in (self.project.folder / state).glob("runs/*/events.jsonl"):
            lines = [line for line in file.read_text("utf-8").splitlines() if line.endswith("}")]
            found += [event for line in lines if (event := json.loads(line))["action"] == action]
        return found

    def at_source(self, table: str) -> Rows:
        return Counter(self.source.rows(f"select {_COLUMNS.get(table, _ALL)} from public.{table}"))

    def there(self, table: str) -> Rows:
        current = " where _dlt_valid_to is null" if "snapshot" in self.tables[table] else ""
        return Counter(self.rows(f"select {_COLUMNS.get(table, _ALL)} from raw.{table}{current}"))

    def compare(self, table: str, wanted: Rows | None = None) -> None:
        """See that the destination has the rows that the source has, none of them lost and none twice."""
        here, there = self.at_source(table) if wanted is None else wanted, self.there(table)
        assert (here - there, there - here) == (Counter(), Counter()), f"{table}: (lost, too many)"

    def check_records(self, **wanted: Rows) -> None:
        """See that all is equal, that the history has no gap and fits the runs, and that nobody left anything."""
        for table in self.tables:
            self.compare(table, wanted.get(table))
        seqs: dict[str, list[int]] = {}
        for table, seq in self.rows("select table_name, seq from raw._runner_state order by 1, 2"):
            seqs.setdefault(table, []).append(seq)
        assert seqs == {table: list(range(1, len(seqs[table]) + 1)) for table in self.tables}
        loads = [row[0] for row in self.rows("select load_id from raw._runner_state")]
        assert len(set(loads)) == len(loads)
        assert sorted(loads) == sorted(row[0] for row in self.rows("select load_id from raw._dlt_loads"))
        published = self.rows("select run, count(*), sum(row_count) from raw._runner_state group by run")
        runs = self.rows("select run, tables_published, row_count from raw._runner_runs where tables_published > 0")
        assert sorted(published) == sorted(runs)
        assert self.rows("select * from raw._runner_leases") == []
        assert self.rows("select * from raw._runner_plans") == []
        names = self.rows("select table_name from information_schema.tables where table_schema = 'raw'")
        assert [name for (name,) in names if name.startswith("_runner_stage_")] == []
        assert set(self.tables) <= set(self.schema())

    def schema(self) -> dict[str, Any]:
        """Return the tables that dlt knows."""
        (text,) = self.rows("select schema from raw._dlt_version order by inserted_at desc limit 1")[0]
        tables: dict[str, Any] = json.loads(text)["tables"]
        return tables

    def codes(self) -> Counter[int | None]:
        """Return how the runs ended, as the destination has it; None never said so."""
        return Counter(row[0] for row in self.rows("select exit_code from raw._runner_runs"))


_BOTH = pytest.mark.parametrize("place", ["duckdb", "postgres"], indirect=True)
_POSTGRES = pytest.mark.parametrize("place", ["postgres"], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, project: Project, database: Database) -> Iterator[Place]:
    project.environ["SOURCE_DSN"] = database.dsn
    found = Place(project, database, request.param)
    yield found
    for child in found.children:
        if child.returncode is None:
            child.kill()
            child.communicate()


def _ended(*processes: Command, seconds: float = 100.0) -> list[int]:
    """Return the exit codes."""
    codes = []
    deadline = time.monotonic() + seconds
    for process in processes:
        _, err = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        assert "Traceback" not in err
        assert "defect" not in err
        codes.append(process.returncode)
    return codes


def _eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


@_BOTH
def test_everybody_at_once(place: Place, cli: Cli) -> None:
    """Two backfills and a task of what has changed: each waits for the others, and finds what they left."""
    place.source.execute(_FILL)
    place.job()
    assert cli("backfill", "job.yml").code == 0
    place.source.execute(_CHANGE)
    codes = _ended(
        place.start("backfill", "job.yml"),
        place.start("task", "job.yml", "--table", "public.added"),
        place.start("backfill", "job.yml", state="elsewhere"),
    )
    assert codes == [0] * 3
    place.check_records()
    assert place.codes() == {0: 4}
    # Each version of a row is there once: 15 were changed, one was deleted.
    assert place.rows("select count(*) from raw.history") == [(1500 + 15,)]
    for table in ("merged", "added"):
        sql = f"select mark from raw._runner_state where table_name = '{table}' order by seq"
        marks = [datetime.fromisoformat(row[0]) for row in place.rows(sql)]
        assert marks == sorted(marks)
        assert marks[0] < marks[-1]


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_who_finds_a_table_held_waits_skips_fails_or_ends_with_3(
    place: Place, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.source.execute(_FILL)
    busy = {"merged": f"{_TABLES['merged']}, on_busy: skip", "added": f"{_TABLES['added']}, on_busy: fail"}
    place.job(_TABLES | busy)
    assert cli("backfill", "job.yml").code == 0
    place.source.execute(_CHANGE)
    with psycopg2.connect(place.source.dsn) as holder:
        # Reading one table waits, and with it the run that holds three.
        holder.cursor().execute("lock table whole in access exclusive mode")
        first = place.start("backfill", "job.yml", "--tables", "whole", "--tables", "merged", "--tables", "added")
        _eventually(lambda: len(place.events("run_started")) == 2)

        another = cli("task", "job.yml", "--table", "public.history", "--state-dir", "third")
        assert (another.code, first.poll()) == (0, None), "tables of their own do not meet"
        place.compare("history")

        twice = cli("backfill", "job.yml")
        assert twice.code == 3
        assert f"already running on this machine (pid {first.pid})" in twice.err
        assert "run the same command again" in twice.err

        skips = cli("task", "job.yml", "--table", "public.merged")
        assert skips.code == 0
        assert "1 tables skipped" in skips.out
        fails = cli("task", "job.yml", "--table", "public.added")
        assert fails.code == 1
        assert f"on {socket.gethostname()} (pid {first.pid}) holds the table." in fails.out

        with monkeypatch.context() as patched:
            patched.setattr(backfill, "_LEASE_WAIT", 0.0)
            ends = cli("task", "job.yml", "--table", "public.whole", "--state-dir", "third")
        assert ends.code == 3
        assert f"(pid {first.pid}) holds the table." in ends.out
        assert "run the same command again" in ends.out

        elsewhere = place.start("backfill", "job.yml", state="elsewhere")
        waits = place.start("task", "job.yml", "--table", "public.whole", state="third")
        _eventually(lambda: list(place.project.folder.glob("elsewhere/runs/*")))
        assert [process.poll() for process in (first, elsewhere, waits)] == [None] * 3
        holder.rollback()
    holder.close()
    assert _ended(first, elsewhere, waits) == [0, 0, 0]
    place.check_records()
    # Who found the job running had no run of its own; who ended with 3 and came again went on with the same run.
    assert place.codes() == {0: 6, 1: 1}


@_POSTGRES
def test_two_who_wait_do_not_wait_for_each_other(place: Place, cli: Cli) -> None:
    place.source.execute(_FILL)
    place.job()
    assert cli("backfill", "job.yml").code == 0
    place.source.execute(_CHANGE)

    def asked(processes: int) -> bool:
        """Tell whether so many have asked for leases, and are at rest since."""
        at_rest = "state = 'idle' and datname = current_database() and pid <> pg_backend_pid()"
        sql = f"select 1 from pg_stat_activity where query like '%\\_runner\\_leases%' and {at_rest}"
        return len(place.rows(sql)) >= processes

    def stopped(process: Command) -> bool:
        """Stop it, if it holds no lock inside the destination."""
        process.send_signal(signal.SIGSTOP)
        rests = asked(1)
        if not rests:
            process.send_signal(signal.SIGCONT)
        return rests

    lease = "('merged', 'other', 'token', 'another', 1, extract(epoch from now()) + 600)"
    place.source.execute(f"insert into raw._runner_leases values {lease}")
    one = place.start("backfill", "job.yml")
    _eventually(lambda: asked(1) and stopped(one))
    place.source.execute("delete from raw._runner_leases where run = 'other'")
    # If the first holds all but one, the second gets that one; if it holds none, the second gets all and ends.
    two = place.start("backfill", "job.yml", state="elsewhere")
    _eventually(lambda: asked(2) or two.poll() is not None)
    one.send_signal(signal.SIGCONT)
    assert _ended(one, two, seconds=40) == [0, 0]
    place.check_records()


@_POSTGRES
def test_who_slept_while_another_took_over_publishes_nothing(place: Place, cli: Cli) -> None:
    """A process that is stopped for longer than its lease lasts finds out, whatever it has read."""
    place.source.execute(_FILL)
    place.job({table: _TABLES[table] for table in ("added", "history")})
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with psycopg2.connect(place.source.dsn) as holder:
        holder.cursor().execute("lock table added, history in access exclusive mode")
        sleeps = place.start("backfill", "job.yml")
        # As many as it may have connections: none is being opened, which would hold back the other's mark.
        _eventually(lambda: len(place.rows(waiting)) == 2)
        sleeps.send_signal(signal.SIGSTOP)
        holder.rollback()
    holder.close()
    place.source.execute("update raw._runner_leases set expires_at = 0, host = 'another'", _CHANGE)
    answer = cli("backfill", "job.yml", "--state-dir", "elsewhere")
    assert answer.code == 0, answer.err
    sleeps.send_signal(signal.SIGCONT)
    out, err = sleeps.communicate(timeout=60)
    assert sleeps.returncode == 1, err
    assert out.count("Another run took the table over; nothing of this run was published.") == 2
    assert len(place.rows("select 1 from raw._runner_state")) == 2
    place.check_records()
    assert cli("backfill", "job.yml").code == 0
    place.check_records()
    assert place.rows("select count(*) from raw.history") == [(1499,)]


@_POSTGRES
def test_two_who_tell_dlt_of_their_tables_at_once_are_both_heard(place: Place, cli: Cli) -> None:
    """Tables of their own are published side by side; dlt's schema is one for all of them."""
    place.source.execute(_FILL)
    tables = ("added", "history")
    place.job({table: _TABLES[table] for table in tables})
    assert cli("backfill", "job.yml").code == 0
    place.source.execute(*(f"alter table {table} add column more text" for table in tables))
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with psycopg2.connect(place.source.dsn) as holder:
        # It can be read and not be written: both know what was before, or one waits for the other.
        holder.cursor().execute("lock table raw._dlt_version in share mode")
        processes = [place.start("task", "job.yml", "--table", f"public.{table}", state=table) for table in tables]
        _eventually(lambda: len(place.rows(waiting)) == 2)
        holder.rollback()
    holder.close()
    assert _ended(*processes) == [0, 0]
    place.check_records()
    assert all("more" in place.schema()[table]["columns"] for table in tables)


# Fresh containers.

_SHAPE = "create table {}_rows (id int primary key, v text not null, at timestamptz not null)"
_MORE = """
insert into {0}_rows select i, md5(i::text), timestamptz '2024-01-01 00:00+00' + make_interval(secs => i)
from generate_series({1}, {2}) i;
analyze {0}_rows;
"""
_MODES = {
    "full": "mode: full",
    "append": "mode: append, cursor: at",
    "again": "mode: append",
    "incremental": "mode: incremental, cursor: at",
    "snapshot": "mode: snapshot",
}
_ROWS, _CHUNKS = 2400, 12


@dataclass
class Containers:
    """Containers that come one after the other; each moves a table of every mode by the same command."""

    place: Place
    cli: Cli

    @property
    def names(self) -> list[str]:
        return list(self.place.tables)

    def fill(self, *modes: str, begin: int = 1, end: int = _ROWS) -> None:
        """Make tables, or more of their rows."""
        for mode in modes:
            self.place.source.execute(*([_SHAPE.format(mode)] if begin == 1 else []), _MORE.format(mode, begin, end))

    def job(self, *modes: str) -> None:
        self.place.chunk_rows = _ROWS // _CHUNKS
        self.place.job({f"{mode}_rows": _MODES[mode] for mode in modes})

    def loaded(self) -> dict[str, set[str]]:
        """Return the chunks whose rows are at the destination, by table."""
        found: dict[str, set[str]] = {table: set() for table in self.names}
        for table, chunk in self.place.rows("select table_name, chunk from raw._runner_chunks"):
            found[table].add(chunk)
        return found

    def read(self, state: str = ".runner") -> dict[str, Counter[str]]:
        """Return the chunks that were read, as a state folder knows it, by table."""
        found: dict[str, Counter[str]] = {table: Counter() for table in self.names}
        for event in self.place.events("chunk_spooled", state):
            found[event["table"].removeprefix("public.")][event["chunk"]] += 1
        return found

    def die(self, point: str, *arguments: str) -> dict[str, set[str]]:
        """Run one that is killed at a point; return what it has loaded."""
        process = self.place.start("backfill", "job.yml", *arguments, crash=point)
        _, err = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, err
        return self.loaded()

    def go_on(self, *arguments: str) -> None:
        answer = self.cli("backfill", "job.yml", *arguments)
        assert answer.code == 0, answer.err

    def vanish(self, kept: str | None = None) -> None:
        """Take the state folder away with its container, for good or to come again."""
        folder = self.place.project.folder / ".runner"
        if kept is None:
            shutil.rmtree(folder)
        else:
            folder.rename(folder.with_name(kept))

    def check_journal(self, run: str, wanted: dict[str, int]) -> None:
        """See that anybody with SQL finds the run, and the rows and marks that it left."""
        *found, started, finished = self.place.rows(
            "select job, command, host, version, exit_code, tables_published, tables_failed, row_count, verified, "
            f"started, finished from raw._runner_runs where run = '{run}'"
        )[0]
        rows = sum(wanted.values())
        assert found == ["together", "backfill", socket.gethostname(), __version__, 0, len(wanted), 0, rows, "hash"]
        states = self.place.rows(
            "select table_name, source_table, job, mode, row_count, cursor_column, mark, published_at "
            f"from raw._runner_state where run = '{run}'"
        )
        assert sorted(row[0] for row in states) == sorted(wanted)
        for table, source, job, mode, count, cursor, mark, published in states:
            assert (source, job, count) == (f"public.{table}", "together", wanted[table])
            assert self.place.tables[table].startswith(f"mode: {mode}")
            assert cursor == ("at" if "cursor" in self.place.tables[table] else None)
            newest = max(row[2] for row in self.place.there(table)) if cursor else None
            assert (datetime.fromisoformat(mark) if mark else None) == newest
            # One time is the destination's, the others are the runner's.
            assert datetime.fromisoformat(started).timestamp() - 1 < published
            assert published < datetime.fromisoformat(finished).timestamp() + 1

    def check_hashes(self, *tables: str) -> None:
        """See that the fingerprints on record are of the whole tables, as one full load elsewhere has them."""
        text = 'name: clean\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\n'
        text += "destination: {type: duckdb, dataset: clean}\ntables:\n"
        self.place.project.job(text + "".join(f"  public.{table}: {{mode: full}}\n" for table in tables), "clean.yml")
        answer = self.cli("backfill", "clean.yml", "--verify", "hash", "--state-dir", "clean")
        assert answer.code == 0, answer.err
        wanted = dict(self.place.project.query("select table_name, hash from clean._runner_state"))
        found = dict(self.place.rows("select table_name, hash from raw._runner_state order by seq"))
        assert {table: found[table] for table in tables} == wanted
        assert all(wanted.values())


@_BOTH
def test_containers_without_a_state_folder_go_on_in_mid_table(place: Place, cli: Cli) -> None:
    """Two are killed, the source changes, the third ends it; then the first comes again."""
    by_value = ("--verify", "hash")
    table = Containers(place, cli)
    table.fill(*_MODES)
    table.job(*_MODES)

    # Several chunks are under way at once: with so few of all that there are, no table is published by the first two.
    first = table.die("load-recorded:10", *by_value)
    assert all(0 < len(chunks) < _CHUNKS for chunks in first.values())
    assert len(place.rows("select distinct table_name from raw._runner_plans")) == len(_MODES)
    table.vanish("old")

    second = table.die("load-recorded:6", *by_value)
    for name, read in table.read().items():
        assert not first[name] & set(read), f"{name}: loaded, and read again"
        assert first[name] <= second[name]
    assert sum(map(len, second.values())) >= sum(map(len, first.values())) + 6
    assert place.rows("select * from raw._runner_state") == []
    table.vanish()

    before = {name: place.at_source(name) for name in table.names}
    for mode in ("full", "incremental", "snapshot"):
        # The smallest keys are of the chunk that was loaded first.
        changed = f"update {mode}_rows set v = 'changed', at = timestamptz '2024-06-01 00:00+00' where id in (1, 2)"
        place.source.execute(changed, *([f"delete from {mode}_rows where id = 3"] if mode != "incremental" else []))
    place.source.execute("insert into append_rows select i, 'later', now() from generate_series(7001, 7010) i")
    now = {name: place.at_source(name) for name in table.names} | {"append_rows": before["append_rows"]}

    table.go_on(*by_value)
    every = table.loaded()
    for name, read in table.read().items():
        assert len(every[name]) == _CHUNKS
        again = set(read) & second[name]
        assert len(again) == (1 if now[name] != before[name] else 0), f"{name}: only what changed is read again"
        assert read == Counter(every[name] - second[name] | again)
        place.compare(name, now[name])
    found = json.loads(cli("show", "latest", "--json").out)
    assert {row["name"]: row["state"] for row in found["tables"]} == {f"public.{one}": "published" for one in now}
    chunks = set().union(*every.values())
    assert {row["id"]: row["state"] for row in found["chunks"]} == dict.fromkeys(chunks, "verified")
    table.check_journal(found["run"]["run"], {name: sum(rows.values()) for name, rows in now.items()})
    assert place.codes() == {0: 1, None: 2}, "who was killed never said how it ended"

    # The first comes again with its own state folder, and finds that the world has moved on.
    table.go_on(*by_value, "--state-dir", "old")
    place.check_records(again_rows=now["again_rows"] + now["again_rows"])
    assert place.rows("select count(*) from raw.snapshot_rows") == [(_ROWS - 1,)], "nothing was seen in two versions"
    assert place.codes() == {0: 2, None: 1}
    table.check_hashes(*(name for name in table.names if name != "again_rows"))


@pytest.mark.parametrize("place", ["duckdb"], indirect=True)
def test_who_took_over_is_killed_and_goes_on(place: Place, cli: Cli) -> None:
    """What was taken over is in the ledger from then on: the same command neither reads nor publishes it twice."""
    table = Containers(place, cli)
    modes = ("full", "snapshot", "again")
    table.fill(*modes, end=300)
    table.job(*modes)
    table.go_on()
    table.vanish()
    before = place.at_source("again_rows")
    table.fill(*modes, begin=301)
    for mode in ("full", "snapshot"):
        place.source.execute(
            f"update {mode}_rows set v = 'changed' where id <= 50", f"delete from {mode}_rows where id = 51"
        )

    first = table.die("load-recorded:8")
    table.vanish()
    table.die("publish-committed@public.again_rows")
    table.go_on()
    place.check_records(again_rows=before + place.at_source("again_rows"))
    for name, read in table.read().items():
        assert read == Counter(table.loaded()[name] - first[name]), f"{name}: each chunk is read once"
    # Of what the earlier run had moved, fifty rows changed and one went.
    assert place.rows("select count(*) from raw.snapshot_rows") == [(_ROWS - 1 + 51,)]
    found = json.loads(cli("show", "latest", "--json").out)
    assert [row["state"] for row in found["tables"]] == ["published"] * len(modes)
    assert len(found["chunks"]) == len(modes) * _CHUNKS
    assert len(list(place.project.folder.glob(".runner/runs/*"))) == 1
    assert place.codes() == {0: 2, None: 1}


@_BOTH
def test_of_two_fresh_containers_one_takes_over_and_nothing_is_twice(place: Place, cli: Cli) -> None:
    """Both wait until the lease of the one that was killed, on another host, has expired."""
    table = Containers(place, cli)
    table.fill("full", "snapshot", end=300)
    table.job("full", "snapshot")
    table.go_on()
    table.fill("full", "snapshot", begin=301)
    loaded = table.die("load-recorded:6")
    table.vanish()
    place.execute("update raw._runner_leases set host = 'another', expires_at = extract(epoch from now()) + 600")
    states = ("one", "two")
    processes = [place.start("backfill", "job.yml", state=state) for state in states]
    _eventually(lambda: all(list(place.project.folder.glob(f"{state}/runs/*")) for state in states))
    assert [process.poll() for process in processes] == [None, None]
    place.execute("update raw._runner_leases set expires_at = 0 where host = 'another'")
    assert _ended(*processes) == [0, 0]
    place.check_records()
    assert place.rows("select count(*) from raw.snapshot_rows") == [(_ROWS,)]
    every = table.loaded()
    went_on, began = sorted((table.read(state) for state in states), key=lambda read: sum(map(len, read.values())))
    assert went_on == {name: Counter(every[name] - loaded[name]) for name in table.names}
    assert began == {name: Counter(every[name]) for name in table.names}, "it found all of it published"
    assert place.codes() == {None: 1, 0: 3}


@pytest.mark.parametrize(
    ("mode", "place", "why"),
    [("append", "duckdb", "definition"), ("snapshot", "postgres", "refresh")],
    indirect=["place"],
)
def test_what_was_staged_for_something_else_is_not_taken_over(place: Place, cli: Cli, mode: str, why: str) -> None:
    table = Containers(place, cli)
    table.fill(mode)
    table.job(mode)
    if why == "refresh":
        table.go_on()
        place.source.execute(f"update {mode}_rows set v = 'changed' where id <= 50")
    staged = table.die("load-recorded:3", *(["--full-refresh", "--yes"] if why == "refresh" else []))
    assert len(staged[f"{mode}_rows"]) >= 3
    table.vanish()
    if why == "definition":
        place.job({f"{mode}_rows": f"{_MODES[mode]}, where: 'id > 0'"})
    table.go_on()
    read = table.read()[f"{mode}_rows"]
    assert read == Counter(table.loaded()[f"{mode}_rows"])
    assert len(read) == _CHUNKS
    place.check_records()
    # The history that the refresh would have ended is still there.
    versions = _ROWS + (50 if why == "refresh" else 0)
    assert place.rows(f"select count(*) from raw.{mode}_rows") == [(versions,)]
