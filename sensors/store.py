"""What sensors keep, durably: cursors, memory, events that fired, and the outbox; one SQLite file for each sensor file.

A poll's events, its cursor and what it remembers are written in one transaction, so that a crash falls before all of it
or after all of it. ``Store`` has one writer, a thread; ``StoreReader`` reads it while it is at work.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import anyio

from runner.crash import armed, crash_point
from runner.errors import LedgerDamaged
from runner.journal import Journal, Statement
from runner.runs import StateFolder
from sensors.action import Delivery
from sensors.status import Outgoing, Status

ReadT = TypeVar("ReadT")

_SCHEMA = """
create table if not exists sensors (
    name text primary key, digest text not null, cursor text, started text not null
) strict;
create table if not exists memory (
    sensor text not null, key blob not null, text text not null, primary key (sensor, key)
) strict, without rowid;
create table if not exists events (
    sensor text not null, run_key text not null, at real not null, seen real not null, awaited integer not null,
    values_ text not null, primary key (sensor, run_key)
) strict, without rowid;
create table if not exists outbox (
    id integer primary key, sensor text not null, action text not null, run_key text not null, state text not null,
    attempts integer not null default 0, found_at real not null, sent_at real, tried_at real, next_at real,
    done_at real, reference text, error text, values_ text not null,
    unique (sensor, action, run_key)
) strict;
"""
# Said in every query in these words: SQLite uses a partial index only where it finds its condition again.
_UNDONE = "state in ('pending', 'sending', 'unknown', 'failed')"
_SCHEMA += f"""
create index if not exists outbox_undone on outbox (state) where {_UNDONE};
create index if not exists events_awaited on events (sensor) where awaited;
"""
_FIELDS = tuple(field.name for field in fields(Status))
_SCHEMA += f"create table if not exists status ({', '.join(_FIELDS)}, primary key (name)) without rowid;"
_STATUS = f"insert or replace into status values ({', '.join('?' * len(_FIELDS))})"
_INTO_OUTBOX = """\
insert or ignore into outbox (sensor, action, run_key, state, found_at, values_)
select ?, ?, ?, 'pending', ?, ? where not exists (select 1 from events where sensor = ? and run_key = ?)"""
# The longest wait of a delivery for its next attempt, in seconds.
LONGEST_WAIT = 86_400.0
_MOMENT = 1e-3
_values = attrgetter(*_FIELDS)


@dataclass(frozen=True)
class Fired:
    """An event that is to be written, with the actions that it goes to."""

    run_key: str
    values: dict[str, Any]
    actions: Sequence[str]


@dataclass(frozen=True)
class SensorState:
    """What is known of a sensor.

    Attributes:
        digest: Of what it looked at.
        started: Since when it has looked at that.
    """

    digest: str
    cursor: Any
    started: datetime


class Store(Journal):
    """What the sensors of one file keep."""

    schema = _SCHEMA
    words = "sensors' state"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._readers = anyio.CapacityLimiter(4)

    def committing(self, statements: Iterable[Statement]) -> None:
        if armed() and any(statement.sql is _INTO_OUTBOX for statement in statements):
            crash_point("outbox-staged")

    async def _read(self, read: Callable[[sqlite3.Connection], ReadT]) -> ReadT:
        """Read in a thread, on a connection of its own.

        Raises:
            LedgerDamaged: It cannot be read, at the moment or at all.
        """

        def work() -> ReadT:
            try:
                with closing(_connect(self.path)) as connection:
                    return read(connection)
            except sqlite3.Error as error:
                raise LedgerDamaged(f"The sensors' state {self.path} cannot be read: {error}.") from error

        return await anyio.to_thread.run_sync(work, limiter=self._readers)

    # What sensors remember; implements sensors.room.Memory.

    async def recall(
        self, sensor: str, first: str = "", last: str | None = None, limit: int | None = None
    ) -> dict[str, str]:
        def read(connection: sqlite3.Connection) -> dict[str, str]:
            rows = connection.execute(
                "select key, text from memory where sensor = ? and key >= ?"
                + ("" if last is None else " and key <= ?")
                + " order by key limit ?",
                [sensor, _key(first), *([] if last is None else [_key(last)]), -1 if limit is None else limit],
            )
            return {bytes(key).decode("utf-8", "surrogatepass"): text for key, text in rows}

        return await self._read(read)

    # Sensors.

    async def sensors(self) -> dict[str, SensorState]:
        """Return what is known of every sensor."""

        def read(connection: sqlite3.Connection) -> dict[str, SensorState]:
            rows = connection.execute("select name, digest, cursor, started from sensors")
            return {
                name: SensorState(digest, json.loads(cursor or "null"), datetime.fromisoformat(started))
                for name, digest, cursor, started in rows
            }

        return await self._read(read)

    async def statuses(self) -> dict[str, Status]:
        """Return how every sensor was doing when that was written last."""
        return {one.name: one for one in await self._read(_statuses)}

    async def begin(self, digests: Mapping[str, str], now: datetime) -> None:
        """Note sensors that are new, or are other ones than before: they start without cursor and memory.

        What fired stays: an event that both see fires once.

        Args:
            digests: Of what each looks at, by its name.
        """
        new = "insert or replace into sensors (name, digest, started) values (?, ?, ?)"
        forget = "delete from memory where sensor = ?"
        await self.write(
            *(Statement(forget, (name,)) for name in digests),
            *(Statement(new, (name, digest, now.isoformat())) for name, digest in digests.items()),
        )

    async def forget(self, kept: Iterable[str], before: datetime) -> None:
        """Drop the cursors of sensors that are no longer in the file, and events that were not seen for that long."""
        names = json.dumps(sorted(kept))
        gone = "not in (select value from json_each(?))"
        await self.write(
            Statement(f"delete from sensors where name {gone}", (names,)),
            Statement(f"delete from memory where sensor {gone}", (names,)),
            Statement(f"delete from status where name {gone}", (names,)),
            # Where nothing was seen for as long the clock may be wrong, and all would be forgotten.
            Statement(
                "delete from events where seen < ?1 and (select max(seen) from events) > ?1", (before.timestamp(),)
            ),
            Statement(
                "delete from outbox where state in ('delivered', 'failed') and found_at < ?", (before.timestamp(),)
            ),
        )

    async def polled(
        self,
        sensor: str,
        cursor: Any,
        remember: Mapping[str, str | None],
        fired: Sequence[Fired],
        now: datetime,
        *,
        seen: Sequence[str] = (),
        awaited: bool = False,
    ) -> None:
        """Write what a poll found, all of it or nothing; an event that fired before is not written again.

        Args:
            seen: Run keys that fired before and are seen again, so that they are not forgotten.
            awaited: Whether a task waits for the events, which are its own until it has ended well.
        """
        statements = [
            Statement("update sensors set cursor = ? where name = ?", (json.dumps(cursor), sensor)),
            *(
                Statement("delete from memory where sensor = ? and key = ?", (sensor, _key(key)))
                if text is None
                else Statement("insert or replace into memory values (?, ?, ?)", (sensor, _key(key), text))
                for key, text in remember.items()
            ),
        ]
        for one in fired:
            statements += _into_outbox(sensor, one, now.timestamp(), awaited=awaited)
        again = "update events set seen = ? where sensor = ? and run_key = ?"
        statements += [Statement(again, (now.timestamp(), sensor, run_key)) for run_key in seen]
        await self.write(*statements)

    async def awaited(self) -> list[tuple[str, Fired, list[str]]]:
        """Return the events that a task waited for and did not end well with.

        Returns:
            Sensor, event, and the states of what it asks for and was not done: failed, unknown.
        """

        def read(connection: sqlite3.Connection) -> list[tuple[str, Fired, list[str]]]:
            rows = connection.execute(
                "select sensor, run_key, values_, (select group_concat(state) from outbox where sensor = events.sensor "
                "and run_key = events.run_key and state in ('failed', 'unknown')) from events where awaited order by at"
            )
            return [
                (sensor, Fired(run_key, json.loads(values), ()), states.split(",") if states else [])
                for sensor, run_key, values, states in rows
            ]

        return await self._read(read)

    async def hand_over(self, sensors: Iterable[str]) -> None:
        """Note that the task which waited for the events of these sensors has told of them."""
        names = json.dumps(sorted(sensors))
        taken = "update events set awaited = 0 where awaited and sensor in (select value from json_each(?))"
        await self.write(Statement(taken, (names,)))

    async def last_events(self) -> dict[str, float]:
        """Return when each sensor fired last, in seconds since 1970."""

        def read(connection: sqlite3.Connection) -> dict[str, float]:
            return dict(connection.execute("select sensor, max(at) from events group by sensor").fetchall())

        return await self._read(read)

    async def counts(self, resting: Iterable[str] = ()) -> dict[str, int]:
        """Return how many rows of the outbox are in each state but delivered; those of sensors that rest left out."""
        return await self._read(partial(_counts, resting=resting))

    async def known(self, sensor: str, run_keys: Sequence[str]) -> dict[str, float]:
        """Return those of the run keys that fired before, and when they were noted as seen, in seconds since 1970."""

        def read(connection: sqlite3.Connection) -> dict[str, float]:
            rows = connection.execute(
                "select run_key, seen from events where sensor = ? and run_key in (select value from json_each(?))",
                (sensor, json.dumps(list(run_keys))),
            )
            return dict(rows.fetchall())

        return await self._read(read)

    # The outbox.

    async def waiting(self, now: datetime, limit: int, resting: Iterable[str] = ()) -> list[tuple[Outgoing, Delivery]]:
        """Return what is to be sent now, or may have been, oldest first; of sensors that rest nothing."""
        names = json.dumps(sorted(resting))

        def read(connection: sqlite3.Connection) -> list[tuple[Outgoing, Delivery]]:
            rows = connection.execute(
                f"select {OUTGOING}, sent_at, tried_at, values_ from outbox where {_UNDONE} "
                "and state in ('pending', 'sending') "
                # What lies further off was written while the clock was wrong.
                "and coalesce(next_at, 0) not between ? and ? and sensor not in (select value from json_each(?)) "
                "order by id limit ?",
                (now.timestamp() + _MOMENT, now.timestamp() + LONGEST_WAIT, names, limit),
            )
            return [_delivery(row) for row in rows]

        return await self._read(read)

    async def change(
        self, id_: int, *, also: tuple[str, Fired] | None = None, now: datetime | None = None, **values: Any
    ) -> None:
        """Change one row of the outbox.

        Args:
            also: An event of a sensor that is written with it, all or nothing; ``now`` is its time.
        """
        sets = ", ".join(f"{name} = ?" for name in values)
        statements = [Statement(f"update outbox set {sets} where id = ?", (*values.values(), id_))]
        if also is not None and now is not None:
            statements += _into_outbox(*also, now.timestamp())
        await self.write(*statements)

    async def report(self, statuses: Iterable[Status]) -> None:
        """Write how sensors are doing."""
        await self.write(*(Statement(_STATUS, _values(one)) for one in statuses))


OUTGOING = ", ".join(field.name for field in fields(Outgoing))


def store_path(state: StateFolder, name: str) -> Path:
    """Return where the state of the sensor file of that name is."""
    return state.path / "sensors" / f"{name}.sqlite"


def _into_outbox(sensor: str, fired: Fired, at: float, *, awaited: bool = False) -> list[Statement]:
    """Return what writes an event that did not fire before, and a row for each of its actions."""
    values = json.dumps(fired.values)
    # The event last: an action that was added to its sensor later gets none of the events of before.
    return [
        *(
            Statement(_INTO_OUTBOX, (sensor, action, fired.run_key, at, values, sensor, fired.run_key))
            for action in fired.actions
        ),
        Statement(
            "insert or ignore into events values (?, ?, ?, ?, ?, ?)",
            (sensor, fired.run_key, at, at, int(awaited), values),
        ),
    ]


def _delivery(row: tuple[Any, ...]) -> tuple[Outgoing, Delivery]:
    *own, sent_at, tried_at, values = row
    outgoing = Outgoing(*own)
    delivery = Delivery(
        sensor=outgoing.sensor,
        run_key=outgoing.run_key,
        values=json.loads(values),
        at=datetime.fromtimestamp(outgoing.found_at, UTC),
        sent_at=None if sent_at is None else datetime.fromtimestamp(sent_at, UTC),
        tried_at=None if tried_at is None else datetime.fromtimestamp(tried_at, UTC),
        attempt=outgoing.attempts + 1,
    )
    return outgoing, delivery


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _statuses(connection: sqlite3.Connection) -> list[Status]:
    rows = connection.execute(f"select {', '.join(_FIELDS)} from status order by name")
    return [Status(**dict(zip(_FIELDS, row, strict=True))) for row in rows]


def _counts(connection: sqlite3.Connection, resting: Iterable[str] = ()) -> dict[str, int]:
    rows = connection.execute(
        f"select state, count(*) from outbox where {_UNDONE} "
        "and sensor not in (select value from json_each(?)) group by state",
        (json.dumps(sorted(resting)),),
    )
    return dict(rows.fetchall())


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


class StoreReader:
    """Reads what sensors keep, also while they are at work; ``with`` closes it.

    Raises:
        LedgerDamaged: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _connect(path)
            self._connection.execute("select 1 from sensors").fetchone()
        except sqlite3.Error as error:
            raise LedgerDamaged(f"The sensors' state {path} cannot be read: {error}.") from error

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def statuses(self) -> list[Status]:
        """Return how every sensor is doing, by name."""
        return _statuses(self._connection)

    def outbox(self, *states: str, limit: int = 1000) -> list[Outgoing]:
        """Return the newest of the outbox, of some states or all."""
        rows = self._connection.execute(
            f"select {OUTGOING} from outbox where ? = '[]' or state in (select value from json_each(?)) "
            "order by id desc limit ?",
            (json.dumps(states), json.dumps(states), limit),
        )
        return [Outgoing(*row) for row in rows]

    def held(self, limit: int = 50) -> list[Outgoing]:
        """Return what waits for a person: the newest of unknown outcome, then the newest that failed."""
        rows = self._connection.execute(
            f"select {OUTGOING} from outbox where {_UNDONE} and state in ('unknown', 'failed') "
            "order by state desc, id desc limit ?",
            (limit,),
        )
        return [Outgoing(*row) for row in rows]

    def open_counts(self) -> dict[str, int]:
        """Return how many rows of the outbox are in each state that is not over; delivered ones are not looked at."""
        return dict.fromkeys(("pending", "sending", "unknown", "failed"), 0) | _counts(self._connection)
