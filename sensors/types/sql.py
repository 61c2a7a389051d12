"""Rows of a query: those that are newer than a cursor, or a result that is another one than before."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import Field, model_validator

from connectors.sql.client import Client, Rows, Statement, enclosed
from connectors.sql.newer import Line, Newer
from connectors.sql.values import digest, key_of, moment, ready
from runner.errors import RequestRefused, SensorError, UsageError
from runner.units import Lag
from sensors.room import Room
from sensors.sensor import Event, Polled, SensorConfig, Setting
from sensors.types.database import DatabaseSensor

# What is read at once beside a page, where rows inside the lag are read again.
_AGAIN = 9_000
_MOST_HELD = 100_000
_FEW = 1_000


class SqlConfig(SensorConfig):
    """The keys of a sensor of type sql."""

    query: str | None = Field(
        None, min_length=1, description="any SELECT, without a condition of its own on the column"
    )
    table: str | None = Field(None, min_length=1, description="a table instead of a query, as schema.table")
    column: str | None = Field(None, description="column that grows; without it, the whole result is compared")
    key: list[str] = Field(default_factory=list, description="columns that make an event unique; all by default")
    lag: Lag | None = Field(None, description="how much later a row may appear than newer ones")
    batch: bool | None = Field(None, description="one event for all rows of a page, instead of one for each")
    page: int = Field(1000, ge=1, le=10_000, description="rows of one poll and of one batch")

    @model_validator(mode="after")
    def _fits(self) -> SqlConfig:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either `query` or `table`")
        if self.column is None:
            if self.table is not None:
                raise ValueError("a table needs `column`: what grows with every new row")
            if given := [name for name in ("key", "lag", "batch") if name in self.model_fields_set]:
                raise ValueError(f"{given[0]!r} needs `column`")
        return self


@dataclass(frozen=True)
class Scan:
    """A reading that takes several polls, up to what was the newest row when it began.

    Attributes:
        top: That row's cursor.
        mark: What the mark will be in the end.
        at: The position of the last row that was read.
        quiet: Whether the rows are those that were there at the start, for which nothing fires.
    """

    top: str
    mark: str
    at: tuple[str, str] | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Place:
    """How far a sensor has come; the cursor of its polls.

    Attributes:
        mark: The newest cursor that was read; None before the first row.
        floor: What the file says to start after.
        held: How many rows are kept in mind.
        stamp: Of which rows these are, where they are few.
        round: Of the reading that found them.
    """

    mark: str | None = None
    floor: str | None = None
    held: int = 0
    stamp: str = ""
    round: int = 0
    scan: Scan | None = None

    @classmethod
    def read(cls, kept: dict[str, Any]) -> Place:
        """Return what ``asdict`` made of it."""
        scan = kept.get("scan")
        at = scan and scan["at"]
        return cls(**{**kept, "scan": scan and Scan(**{**scan, "at": tuple(at) if at else None})})


@dataclass
class _Found:
    """The rows of one poll."""

    lines: Sequence[Line]
    keys: list[str] = field(default_factory=list)
    new: list[tuple[Line, str]] = field(default_factory=list)


class SqlSensor(DatabaseSensor[SqlConfig]):
    """Waits for rows of a query.

    With ``column``, every poll reads what is not older than the newest row of the last one less the lag, so that rows
    with an equal cursor and rows that were committed late are seen; those inside are kept in mind and not fired again.
    """

    kind = "sql"
    config_model = SqlConfig

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        self._newer: Newer | None = None
        # What the memory holds beside a cursor that has a stamp: most polls need not ask for it.
        self._held: tuple[Place, dict[str, str]] | None = None
        if self.config.column is None and setting.start not in ("now", "beginning"):
            raise UsageError(
                "A query without `column` starts now or at the beginning.", guidance="Name the `column` that grows."
            )

    @property
    def share(self) -> Hashable:
        return self.kind, self.config.query, self.config.table

    def describe(self) -> str:
        what = self.config.table or " ".join(str(self.config.query).split())
        return f"{self.where}: {what if len(what) <= 80 else what[:79] + '…'}"

    async def poll(self, cursor: Any) -> Polled:
        if self.config.column is None:
            return await self._compare(cursor)
        try:
            newer = self._newer = self._newer or await self._prepared()
            place = await self._begin(newer) if cursor is None else Place.read(cursor)
            if cursor is None and place.scan is not None:
                return Polled(cursor=asdict(place), more=True)
            return await (self._page(newer, place) if place.scan is None else self._scan(newer, place, place.scan))
        except RequestRefused:
            # Its columns may be others now.
            self._newer = None
            raise

    # Without a column.

    async def _compare(self, cursor: Any) -> Polled:
        limit = self.config.page
        statement = Statement(f"select * from {enclosed(str(self.config.query))} limit {limit + 1}")
        answer = await self._ask(statement, limit + 1)
        if len(answer.rows) > limit:
            raise SensorError(
                f"The result has more than {limit:,} rows.",
                guidance="Name the `column` that grows, aggregate in the query, or raise `page`.",
            )
        client = await self.client()
        names = [client.dialect.spelled(name) for name in answer.columns]
        rows = [dict(zip(names, map(ready, row), strict=True)) for row in answer.rows]
        # A query without an order may return its rows in any.
        now = digest(sorted(digest(row) for row in rows)) if rows else ""
        before = cursor or {"result": None if self.setting.start == "now" else "", "changes": 0}
        if before["result"] in (None, now):
            note = f"{len(rows)} rows, as before" if cursor else f"{len(rows)} rows to start with"
            return Polled(cursor={**before, "result": now}, note=note)
        changes = before["changes"] + 1
        place = {"result": now, "changes": changes}
        if not rows:
            return Polled(cursor=place, note="no rows any more")
        values = {"rows": rows, "count": len(rows), **(rows[0] if len(rows) == 1 else {})}
        # The same result may come again after another one.
        return Polled([Event(f"{changes}:{now}", values)], cursor=place)

    # With a column.

    async def _prepared(self) -> Newer:
        config = self.config

        async def prepared(client: Client) -> Newer:
            query = config.query or f"select * from {client.dialect.table(str(config.table))}"
            return await Newer.of(client, query, str(config.column), config.key, config.lag)

        return await self.ask(prepared, "columns", config.column, tuple(config.key), config.lag)

    async def _begin(self, newer: Newer) -> Place:
        start = self.setting.start
        if start == "beginning":
            return Place()
        if start != "now":
            return Place(floor=str(ready(start)))
        top, mark = await self._top(newer, None)
        return Place() if top is None else Place(mark=mark, scan=Scan(top, str(mark), quiet=True))

    async def _page(self, newer: Newer, place: Place) -> Polled:
        """Read all that is new in one statement; where it is too much, begin a scan."""
        limit = self.config.page + min(place.held, _AGAIN)
        statement = newer.page(since=place.mark, floor=place.floor, limit=limit + 1)
        lines = [newer.line(row) for row in (await self._ask(statement, limit + 1)).rows]
        if len(lines) > limit:
            top, mark = await self._top(newer, place.floor)
            if top is not None:
                scan = Scan(top, str(mark))
                # What was read is read again: a scan knows before its first row where it ends.
                return Polled(cursor=asdict(replace(place, stamp="", round=place.round + 1, scan=scan)), more=True)
        known = await self._known(place) if lines or place.held else {}
        found = _sorted_out(newer, lines, known)
        mark = lines[-1].mark if lines else place.mark
        # Without a lag, only rows of an equal cursor are read again.
        kept = {name for line, name in zip(lines, found.keys, strict=True) if newer.lag or line.mark == mark}
        remember: dict[str, str | None] = {name: str(place.round) for name in kept if name not in known}
        remember |= {name: None for name in known if name not in kept}
        events = self._events(found)
        few = len(kept) <= _FEW
        after = Place(mark, place.floor, len(kept), digest(sorted(kept)) if few else "", place.round)
        self._held = (after, {name: known.get(name, str(place.round)) for name in kept}) if few else None
        return Polled(events, asdict(after), remember, note="" if events else "no new rows")

    async def _scan(self, newer: Newer, place: Place, scan: Scan) -> Polled:
        """Read the next page of a scan."""
        limit = self.config.page
        since = scan.mark if scan.quiet else place.mark
        statement = newer.page(
            since=since, floor=place.floor, after=scan.at, top=scan.top, mark=scan.mark, limit=limit + 1
        )
        lines = [newer.line(row) for row in (await self._ask(statement, limit + 1)).rows]
        more = len(lines) > limit
        del lines[limit:]
        known = await self._known(place)
        found = _sorted_out(newer, lines, known)
        now = str(place.round)
        remember: dict[str, str | None] = {}
        for line, name in zip(lines, found.keys, strict=True):
            if line.keep:
                remember[name] = now
        events = [] if scan.quiet else self._events(found)
        if more:
            onward = Scan(scan.top, scan.mark, (lines[-1].cursor, lines[-1].tie), scan.quiet)
            return Polled(events, asdict(replace(place, scan=onward)), remember, more=True)
        held = {name for name, text in known.items() if text == now} | remember.keys()
        remember |= {name: None for name in known if name not in held}
        after = Place(scan.mark, place.floor, len(held), round=place.round)
        return Polled(events, asdict(after), remember, note="" if events else "no new rows")

    async def _top(self, newer: Newer, floor: str | None) -> tuple[str | None, str | None]:
        ((top, mark),) = (await self._ask(newer.top(floor), 1)).rows
        return top, mark

    async def _known(self, place: Place) -> dict[str, str]:
        if place.stamp and self._held is not None and self._held[0] == place:
            return self._held[1]
        known = await self.room.memory.recall(self.setting.name)
        if len(known) > _MOST_HELD:
            raise SensorError(
                f"More than {_MOST_HELD:,} rows lie inside the lag, or have an equal {self.config.column}.",
                guidance="Shorten `lag`, or let the query return one row for each load (group by the column).",
            )
        return known

    async def _ask(self, statement: Statement, limit: int) -> Rows:
        async def asked(client: Client) -> Rows:
            return await client.ask(statement.text, statement.parameters, limit=limit)

        return await self.ask(asked, statement, limit)

    def _events(self, found: _Found) -> list[Event]:
        if not found.new:
            return []
        config = self.config
        if not config.batch:
            newer = self._newer
            assert newer is not None
            spelled = [newer.dialect.spelled(name) for name in newer.key]
            return [
                Event(
                    key_of([line.values[name] for name in spelled]) if spelled else digest(line.values),
                    line.values,
                    moment(line.raw),
                )
                for line, _ in found.new
            ]
        lines = [line for line, _ in found.new]
        values = {"rows": [line.values for line in lines], "count": len(lines), "last": lines[-1].cursor}
        return [Event(digest([name for _, name in found.new]), values, moment(lines[-1].raw))]


def _sorted_out(newer: Newer, lines: Sequence[Line], known: dict[str, str]) -> _Found:
    """Tell which rows were not seen before, by their cursor and their key: a row that changes is another one."""
    found = _Found(lines)
    seen = set(known)
    for line in lines:
        name = digest([line.cursor, line.tie])
        found.keys.append(name)
        if name not in seen:
            seen.add(name)
            found.new.append((line, name))
    return found
