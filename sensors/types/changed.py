"""An object of a source changed: the mark that the source itself keeps of its changes advanced."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

import anyio
import pyarrow as pa
from pydantic import Field, ValidationError

from connectors.sql.values import key_of, moment, ready
from runner.errors import RunnerError, SensorError, TableChanged, TableWidened, Throttled, UsageError
from runner.job import TableEntry
from runner.naming import fingerprint
from runner.plan import can_order, step_back
from runner.plugins import load_plugin
from runner.source import CHANGES, Digestible, Newest, Scan, Session, Source, Table, Window, make_chunk
from sensors.room import Room
from sensors.sensor import Event, Polled, Sensor, SensorConfig, Setting
from sensors.types.standing import Standing, standing

# Rows that are read in one poll where a source does not end its parts itself.
_MOST_ROWS = 10_000
_WHOLE = 2**62


class ChangedConfig(SensorConfig):
    """The keys of a sensor of type changed."""

    object: str = Field(description="as tables are named in a job file: Account, public.orders")
    cursor_field: str | None = Field(None, description="what orders changes; by default what the connector knows")
    where: str | None = Field(None, description="as in a job file, in the source's own words")
    rows: bool = Field(False, description="an event for each changed row, instead of one for all of them")


@dataclass(frozen=True)
class Found:
    """What one look showed.

    Attributes:
        mark: How far the object has changed; None where nothing is new.
        moves: Whether that is known from the changes alone, which have to be read.
        rows: Changed rows with their keys, where they are wanted; ``count`` of them were read.
        left: The bounds of what is still to be read.
    """

    table: Table
    cursor: str | None
    mark: str | None = None
    moves: bool = False
    count: int = 0
    rows: list[tuple[str, dict[str, Any], Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)


class ChangedSensor(Sensor[ChangedConfig]):
    """Asks for an object's high-water mark, in one request as long as nothing changed.

    Where a source keeps track of changes itself, or tells the mark by its rows alone, what changed since the last poll
    is read. Of a sheet, which has no mark at all, everything is read and a digest of it kept.
    """

    kind: ClassVar[str] = "changed"
    config_model: ClassVar[type[SensorConfig]] = ChangedConfig
    takes_source: ClassVar[bool] = True

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        if setting.source is None:
            raise UsageError("A sensor of type changed looks at an object: it needs a source.")
        spec, config = setting.source, self.config
        try:
            self._source: Source = load_plugin("runner.sources", spec.type)(spec.options)
        except ValidationError as error:
            # Without what was given: some of it is secret.
            wrong = error.errors(include_input=False, include_url=False, include_context=False)[0]
            place = ".".join(str(part) for part in wrong["loc"])
            raise UsageError(f"source: {place}: {wrong['msg']}.", guidance="Correct the source's keys.") from None
        self._system = ("changed", spec.type, fingerprint(spec.options))
        self._share = fingerprint([config.object, config.cursor_field, config.where, config.rows])
        self._where = f"{setting.source_name or spec.type}: {config.object}"

    @property
    def system(self) -> Hashable:
        return self._system

    @property
    def share(self) -> Hashable:
        return self._share

    def describe(self) -> str:
        return self._where

    async def poll(self, cursor: Any) -> Polled:
        last: dict[str, Any] = dict(cursor or {"seq": 0})
        if cursor is None and self.setting.start not in ("now", "beginning"):
            last["mark"] = last["floor"] = str(self.setting.start)
        walk: dict[str, Any] | None = last.pop("walk", None)
        # Where it starts now, what is there is read for the mark alone.
        quiet = "mark" not in last and self.setting.start == "now"
        here = await self._standing()
        try:
            read = partial(self._read, here, last.get("mark"), walk)
            found = await self.look(partial(here.again, read), last.get("mark"), fingerprint(walk))
        except TableChanged as error:
            here.forget(self.config.object)
            if walk is None and not isinstance(error, TableWidened):
                raise
            # The next poll knows its columns, or begins with the first part.
            return Polled(cursor=last, note=f"it is read anew: {error.message}")
        except Throttled:
            raise
        except RunnerError:
            here.forget(self.config.object)
            raise
        if walk is not None or found.moves:
            return self._walked(found, last, walk or {}, quiet=quiet)
        return self._marked(found, last, quiet=quiet)

    # What it means.

    def _marked(self, found: Found, last: dict[str, Any], *, quiet: bool) -> Polled:
        previous, mark = last.get("mark"), found.mark
        if found.cursor is None:
            changed = mark != previous
        else:
            changed = mark is not None and (previous is None or _later(mark, previous, found))
        if not changed:
            return Polled(cursor={**last, "mark": previous}, note=f"{found.table.qualified}: as before")
        if self.config.rows and not quiet and found.cursor is not None:
            walk = {"to": mark, "left": None}
            return Polled(cursor={**last, "mark": previous, "walk": walk}, more=True)
        # A digest may come again, and is another change then.
        seq = last["seq"] + 1
        key = str(mark) if found.cursor is not None else f"{mark}@{seq}"
        if quiet:
            # The lag reaches back behind it, and what is there is not new.
            last["floor"] = mark
        return self._fired(found, key, mark, {**last, "seq": seq}, previous, quiet=quiet)

    def _walked(self, found: Found, last: dict[str, Any], walk: dict[str, Any], *, quiet: bool) -> Polled:
        """Go on with changes that are read part by part: the last part tells what it was all about."""
        previous, count = last.get("mark"), walk.get("count", 0) + found.count
        mark = _latest(found.mark, walk.get("mark"), found)
        floor = None if found.cursor == CHANGES else last.get("floor")
        events = [
            self._row(found, one, previous)
            for one in found.rows
            if not quiet and (floor is None or one[2] is None or _later(str(one[2]), floor, found))
        ]
        if found.left:
            onward = {"to": walk.get("to"), "left": found.left, "mark": mark, "count": count}
            kept = {**last, "walk": onward} if quiet else {**last, "mark": previous, "walk": onward}
            return Polled(events, kept, more=True, note=f"{count:,} rows so far")
        mark = walk.get("to") or mark or previous
        tracked = found.cursor == CHANGES
        changed = count > 0 if tracked else mark is not None and (previous is None or _later(mark, previous, found))
        if quiet:
            last["floor"] = mark
        if not changed or self.config.rows or quiet:
            # A token goes on without a change, too: old ones are forgotten by the source.
            return Polled(events, {**last, "mark": mark}, note=f"{found.table.qualified}: {count:,} rows")
        return self._fired(found, str(mark), mark, last, previous, quiet=quiet)

    def _fired(
        self, found: Found, key: str, mark: str | None, kept: dict[str, Any], previous: str | None, *, quiet: bool
    ) -> Polled:
        values = {"object": found.table.qualified, "mark": mark, "previous": previous}
        events = [] if quiet else [Event(key, values, _moment(mark, found))]
        return Polled(events, {**kept, "mark": mark})

    def _row(self, found: Found, one: tuple[str, dict[str, Any], Any], previous: str | None) -> Event:
        key, row, at = one
        return Event(key, {"object": found.table.qualified, "previous": previous, "row": row}, moment(at))

    # What is asked.

    async def _standing(self) -> Standing:
        said = self.setting.limits
        limits = self.room.limits(self.system, said)
        return await self.room.connection(self._system, lambda: standing(self._source, limits, said, self.room.clock))

    async def _read(self, here: Standing, mark: str | None, walk: Mapping[str, Any] | None) -> Found:
        async with here.session() as session:
            table = await here.table(session, self.config.object)
            scan = self._scan(session, table, mark)
            cursor = scan.window.cursor if scan.window else None
            if walk is not None:
                return await self._part(session, self._rows_of(scan, walk), walk, mark)
            if cursor == CHANGES or (session.position.marks_rows and not isinstance(session, Newest)):
                return await self._part(session, scan, {}, mark)
            if scan.window is None:
                assert isinstance(session, Digestible)
                return Found(table, None, await session.state(scan))
            if isinstance(session, Newest):
                return Found(table, cursor, await session.newest(scan))
            found = await session.high_water(scan)
            return Found(table, cursor, found.value if found else None)

    def _scan(self, session: Session, table: Table, mark: str | None) -> Scan:
        """Return what changed after a mark."""
        config = self.config
        scan = Scan(table, table.columns, config.where)
        if table.tracked and config.cursor_field is None:
            return scan.within(Window(CHANGES, mark, from_start=True))
        known = table.defaults.get("cursor")
        name = config.cursor_field or (known if isinstance(known, str) else None)
        if name is None:
            if isinstance(session, Digestible):
                if config.rows:
                    raise SensorError(f"{table.qualified}: rows: nobody can tell which of its rows changed.")
                return scan
            raise SensorError(
                f"{table.qualified}: nobody knows what orders its changes.",
                guidance=f"Name the column with `cursor_field`{_among(table.indexed)}.",
            )
        column = table.column(name)
        if column is None or not can_order(column.type):
            told = "there is no column" if column is None else f"{column.native} cannot order changes:"
            raise SensorError(
                f"{table.qualified}: cursor_field: {told} {name!r}.",
                guidance=f"Name a column with a time, a date or whole numbers{_among(table.indexed)}.",
            )
        rows = session.position.marks_rows
        # A source that tells the mark by its rows is asked for the last one again, so that there is one.
        return scan.within(Window(name, mark, from_start=rows, nulls=False))

    def _rows_of(self, scan: Scan, walk: Mapping[str, Any]) -> Scan:
        """Return the scan of changed rows, less the lag: some become visible late."""
        window = scan.window
        if window is None or walk.get("to") is None or window.start is None:
            return scan
        column = scan.table.column(window.cursor)
        assert column is not None
        lag = TableEntry.model_validate({"lag": scan.table.defaults.get("lag")}).lag
        return scan.within(
            Window(window.cursor, step_back(window.start, lag, column.type), from_start=True, nulls=False)
        )

    async def _part(self, session: Session, scan: Scan, walk: Mapping[str, Any], mark: str | None) -> Found:
        """Read one part of what changed."""
        left = walk.get("left")
        if left is None:
            left = [one.bounds for one in await session.chunks(scan, _WHOLE, _WHOLE)]
        assert scan.window is not None
        if not left:
            return Found(scan.table, scan.window.cursor, moves=True)
        chunk = make_chunk(scan, 0, left[0], storage=None, rows=0, size=0)
        rows: list[tuple[str, dict[str, Any], Any]] = []
        count = 0
        async with session.read(scan, chunk) as reading:
            async with contextlib.aclosing(aiter(reading)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    count += batch.num_rows
                    if self.config.rows:
                        if count > 2 * _MOST_ROWS:
                            raise SensorError(
                                f"{scan.table.qualified}: more than {2 * _MOST_ROWS:,} rows changed at once.",
                                guidance="Say rows: false, and let a backfill move them.",
                            )
                        rows += await anyio.to_thread.run_sync(_rows, batch, scan, mark)
            rest = [reading.rest] if reading.rest is not None else []
            return Found(scan.table, scan.window.cursor, reading.mark, True, count, rows, [*rest, *left[1:]])


def _rows(batch: pa.RecordBatch, scan: Scan, mark: str | None) -> list[tuple[str, dict[str, Any], Any]]:
    """Return rows with keys that are others for another change of the same row."""
    assert scan.window is not None
    found = []
    for row in batch.to_pylist():
        plain = {name: ready(value) for name, value in row.items()}
        at = row.get(scan.window.cursor)
        names = scan.table.primary_key
        identity = [plain[name] for name in names] if names else [fingerprint(plain)]
        # Of changes that the source keeps track of, there is one of each row since the last token.
        stamp = ready(at) if at is not None else fingerprint([mark, plain])
        found.append((key_of([*identity, stamp]), plain, at))
    return found


def _later(one: str, other: str, found: Found) -> bool:
    return bool(_comparable(one, found) > _comparable(other, found))


def _latest(one: str | None, other: str | None, found: Found) -> str | None:
    if one is None or other is None or found.cursor == CHANGES:
        return one if one is not None else other
    return one if _later(one, other, found) else other


def _comparable(mark: str, found: Found) -> Any:
    column = found.table.column(found.cursor or "")
    if column is not None and pa.types.is_integer(column.type):
        return int(mark)
    try:
        at = datetime.fromisoformat(mark)
    except ValueError:
        raise SensorError(f"{mark!r} is no value of {found.cursor}.") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _moment(mark: str | None, found: Found) -> datetime | None:
    column = found.table.column(found.cursor or "")
    if mark is None or column is None or pa.types.is_integer(column.type):
        return None
    return moment(_comparable(mark, found))


def _among(names: tuple[str, ...]) -> str:
    return f": {', '.join(names[:5])}" if names else ""
