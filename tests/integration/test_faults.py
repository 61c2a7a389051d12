"""Every fault of a network, before the source and before the destination.

The rows arrive, all of them and once; or the command ends in time, with a sentence that says why, and the same command
again brings them. Either way no connection stays open and no task is left.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from connectors.postgres.config import PostgresConfig
from connectors.postgres.connection import Connections
from runner.commands import assembly
from runner.testing.proxy import Fault, FaultProxy, proxy_in_thread
from runner.writers.postgres import PostgresWriter
from tests.conftest import Answer, Cli, Database, Project

_JOB = """
name: faults
source:
  type: postgres
  dsn: "${SOURCE_DSN}"
  connect_timeout: 1s
  statement_timeout: 1s
  lock_timeout: 1s
destination: {type: postgres, dsn: "${TARGET_DSN}", dataset: raw}
limits: {connections: 2, chunk_rows: 1000}
retry: {attempts: 3, max_wait: 200ms, deadline: 3s}
tables: {public.things: {mode: full}}
"""
# What libpq takes for the same: the destination has no keys for it.
_PATIENCE = "?connect_timeout=1&options=-c%20statement_timeout%3D1s"
_THINGS = (
    "create table things (id int primary key, name text, amount numeric(12, 2), at timestamptz, day date, data bytea, "
    "flag bool, share double precision, more jsonb)",
    "insert into things select i, md5(i::text), i / 7.0, timestamptz '2024-01-01' + make_interval(secs => i * 1.5), "
    "date '2024-01-01' + i, decode(md5(i::text), 'hex'), i % 3 = 0, sqrt(i), jsonb_build_object('i', i, 'n', null) "
    "from generate_series(1, 4000) i",
    "update things set name = null, data = null where id % 10 = 0",
    "analyze things",
)
_SENTENCES = re.compile(
    "reset by peer|did not answer|no answer in time|does not answer|connection was lost|closed the connection|"
    "closed in the middle|timeout expired|already closed"
)
_LONGEST = 20.0

_WELL, _REFUSED, _HOLE = Fault(), Fault("refuse"), Fault("black_hole")


@dataclass
class Scene:
    """A backfill whose source, or whose destination, is behind a proxy."""

    side: str
    proxy: FaultProxy
    database: Database
    project: Project
    cli: Cli
    left: list[Any] = field(default_factory=list)

    def middle(self, kind: Any) -> list[Fault]:
        """The fault in the middle of the rows, on the first connection that has some."""
        if self.side == "source":
            # The first connection holds the snapshot.
            return [_WELL, Fault(kind, after=60_000)]
        return [Fault(kind, after=60_000, counted="client")]

    def always(self, kind: Any) -> Fault:
        """The fault on every connection, before a chunk could pass it."""
        return Fault(kind, after=30_000, counted="server" if self.side == "source" else "client")

    def run(self, *, apart: bool = False) -> Answer:
        """Run the command, in this process or apart; it must end in time and leave nothing open."""
        began = time.monotonic()
        rescue = threading.Timer(_LONGEST, self._rescue)
        rescue.start()
        try:
            answer = self._apart() if apart else self.cli("backfill", "job.yml")
        finally:
            rescue.cancel()
        assert time.monotonic() - began < _LONGEST, f"it hung; it said:\n{answer.err}{answer.out}"
        self._nothing_is_left()
        return answer

    def _apart(self) -> Answer:
        process = self.project.start("backfill", "job.yml")
        out, err = process.communicate(timeout=2 * _LONGEST)
        return Answer(process.returncode, out, err)

    def _rescue(self) -> None:
        """Let a command that hangs come to an end, so that its test can fail."""
        self.proxy.fault, self.proxy.next_faults = _WELL, []
        self.proxy.hang_up()

    def arrives(self) -> Answer:
        answer = self.run()
        assert answer.code == 0, answer.err + answer.out
        self.equal()
        return answer

    def arrives_in_the_end(self) -> None:
        """The fault was met, and tried again."""
        answer = self.arrives()
        if self.side == "source":
            assert "retried: public.things: attempt 1 failed" in answer.err
        else:
            # One that was lost, and one after it.
            assert self.proxy.opened >= 2

    def fails(self, *codes: int, apart: bool = False) -> None:
        """The command fails and says why; when all is well again it goes on."""
        answer = self.run(apart=apart)
        self.clear(answer)
        assert answer.code in codes, answer.err + answer.out
        self.proxy.fault, self.proxy.next_faults = _WELL, []
        self.arrives()

    def clear(self, answer: Answer) -> None:
        said = answer.err + answer.out
        assert answer.code in (1, 2, 3), said
        assert _SENTENCES.search(said), said
        for word in ("Traceback", "unexpected", "defect"):
            assert word not in said.replace("closed the connection unexpectedly", ""), said

    def equal(self) -> None:
        query = "select * from {}.things order by id"
        rows = self.database.rows(query.format("public"))
        assert len(rows) == 4000
        assert self.database.rows(query.format("raw")) == rows

    def _nothing_is_left(self) -> None:
        assert self.left == []
        sessions = (
            "select application_name, state, query from pg_stat_activity where datname = current_database() "
            "and backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        deadline = time.monotonic() + 5
        while (found := self.database.rows(sessions)) or self.proxy.open:
            assert time.monotonic() < deadline, f"{self.proxy.open} connections are open, and the sessions {found}"
            time.sleep(0.02)


@pytest.fixture(params=["source", "destination"])
def scene(
    request: pytest.FixtureRequest,
    database: Database,
    project: Project,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    database.execute(*_THINGS)
    project.job(_JOB)
    with proxy_in_thread("127.0.0.1", database.server.port) as proxy:
        through = database.dsn.replace(f":{database.server.port}/", f":{proxy.port}/")
        source = request.param == "source"
        project.environ["SOURCE_DSN"] = through if source else database.dsn
        project.environ["TARGET_DSN"] = (database.dsn if source else through) + _PATIENCE
        made = Scene(request.param, proxy, database, project, cli)
        monkeypatch.setattr(assembly, "run_async", _watched(assembly.run_async, made.left))  # the real one, watched
        yield made


def _watched(run: Callable[..., Any], left: list[Any]) -> Callable[..., Any]:
    """Return run_async() as it is, and note the tasks that are there when the work has ended."""

    def watched(work: Callable[[], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            try:
                return await work()
            finally:
                with anyio.CancelScope(shield=True):
                    # A task that was cancelled takes a few rounds to end.
                    await anyio.sleep(0.05)
                left.extend(asyncio.all_tasks() - {asyncio.current_task()})

        return run(whole)

    return watched


# The rows arrive.


def test_a_long_way(scene: Scene) -> None:
    scene.proxy.fault = Fault(latency=(0.003, 0.003))
    scene.arrives()


def test_a_narrow_way(scene: Scene) -> None:
    scene.proxy.fault = Fault(rate=400_000)
    scene.arrives()


def test_cut_in_the_middle_once(scene: Scene) -> None:
    scene.proxy.next_faults = scene.middle("cut")
    scene.arrives_in_the_end()


def test_cut_in_the_middle_and_refused_for_a_while(scene: Scene) -> None:
    scene.proxy.next_faults = [*scene.middle("cut"), _REFUSED, _REFUSED]
    scene.arrives_in_the_end()


def test_cut_in_the_middle_and_then_a_black_hole(scene: Scene) -> None:
    scene.proxy.next_faults = [*scene.middle("cut"), _HOLE]
    scene.arrives_in_the_end()


@pytest.mark.parametrize("kind", ["half_open", "black_hole"])
def test_silence_in_the_middle_once(scene: Scene, kind: str) -> None:
    scene.proxy.next_faults = scene.middle(kind)
    scene.arrives_in_the_end()


# It fails, and says so.


def test_refused_from_the_start(scene: Scene) -> None:
    scene.proxy.fault = _REFUSED
    scene.fails(2)


@pytest.mark.parametrize("after", [1, 100, 500])
def test_cut_during_the_greeting(scene: Scene, after: int) -> None:
    scene.proxy.fault = Fault("cut", after=after)
    scene.fails(1, 2)


def test_a_black_hole_from_the_start(scene: Scene) -> None:
    scene.proxy.fault = _HOLE
    scene.fails(2)


@pytest.mark.parametrize("after", [400, 1000])
def test_silence_after_the_first_words(scene: Scene, after: int) -> None:
    scene.proxy.fault = Fault("half_open", after=after)
    scene.fails(1, 2)


def test_cut_in_the_middle_always(scene: Scene) -> None:
    scene.proxy.fault = scene.always("cut")
    scene.fails(1)


def test_refused_in_the_middle_for_good(scene: Scene) -> None:
    scene.proxy.next_faults, scene.proxy.fault = scene.middle("cut"), _REFUSED
    # A lease that could not be given back is that of a process, which must have ended.
    scene.fails(1, apart=scene.side == "destination")


def test_a_black_hole_in_the_middle_for_good(scene: Scene) -> None:
    scene.proxy.next_faults, scene.proxy.fault = scene.middle("cut"), _HOLE
    scene.fails(1, apart=scene.side == "destination")


def test_silence_in_the_middle_always(scene: Scene) -> None:
    scene.proxy.fault = scene.always("half_open")
    scene.fails(1)


# Wherever it is cut.


def test_cut_anywhere(scene: Scene) -> None:
    if scene.side == "source":
        places = [700, 1300, 2000, 4000, 16_000, 32_000, 48_000, 80_000]
        _at_every(scene, places, lambda after: [_WELL, Fault("cut", after=after)])
    else:
        _at_every(scene, range(700, 6000, 700), lambda after: [Fault("cut", after=after)])


@pytest.mark.parametrize("scene", ["destination"], indirect=True)
def test_the_answer_to_a_commit_is_lost(scene: Scene) -> None:
    """What it committed is neither lost nor done twice."""
    _at_every(scene, range(700, 4900, 700), lambda after: [Fault("cut", after=after, at=b"COMMIT\0")])


@pytest.mark.parametrize("scene", ["destination"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("black_hole", after=60_000, at=b"commit\0", counted="client"),
        Fault("half_open", after=3500, at=b"COMMIT\0"),
    ],
    ids=["asked", "answered"],
)
def test_silence_about_a_commit(scene: Scene, fault: Fault) -> None:
    scene.proxy.next_faults = [fault]
    scene.arrives_in_the_end()


def _at_every(scene: Scene, places: Iterable[int], faults: Callable[[int], list[Fault]]) -> None:
    codes: list[int] = []
    for place in places:
        scene.database.execute(f"update things set name = '{place}' where id % 100 = {place % 100}")
        scene.proxy.next_faults = faults(place)
        answer = scene.run()
        codes.append(answer.code)
        if answer.code:
            scene.clear(answer)
            scene.arrives()
        scene.equal()
    # After the first contact it is tried again at once.
    assert codes[-1] == 0


# What comes after the rows.


@pytest.mark.parametrize("scene", ["destination"], indirect=True)
@pytest.mark.parametrize(
    "fault", [_REFUSED, _HOLE, Fault("cut", after=700), Fault("half_open", after=700)], ids=lambda fault: fault.kind
)
def test_the_record_of_dlt_is_not_worth_a_failure(scene: Scene, fault: Fault) -> None:
    # A table that is new is told of without dlt.
    scene.arrives()
    scene.database.execute("alter table things add column added_later text")
    scene.proxy.next_faults = [_WELL, fault]
    answer = scene.arrives()
    assert "dlt's schema was not updated" in answer.err


# What a proxy cannot show: a peer that does not even acknowledge.


async def test_the_kernel_asks_after_a_silent_source(database: Database) -> None:
    connection = await Connections(PostgresConfig(dsn=database.dsn)).open()
    side = connection._transport.get_extra_info("socket")
    assert side.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert side.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
    connection.terminate()


def test_the_kernel_asks_after_a_silent_destination(database: Database) -> None:
    writer = PostgresWriter(database.dsn, "raw")
    with socket.socket(fileno=os.dup(writer._connect().fileno())) as side:
        assert side.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        assert side.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
    writer.close()


def test_the_dsn_of_the_destination_says_how_long_it_waits(database: Database) -> None:
    asked = "?connect_timeout=7&keepalives_idle=5&options=-c%20lock_timeout%3D9s%20-c%20TimeZone%3DAsia/Tokyo"
    writer = PostgresWriter(database.dsn + asked, "raw")
    parameters = writer._connect().info.dsn_parameters
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("7", "5")
    with writer.session() as cursor:
        assert cursor.rows("select current_setting('lock_timeout'), current_setting('TimeZone')") == [("9s", "UTC")]
    writer.close()
