"""A table that has new rows, or has had none for too long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Hashable, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from connectors.sql.client import Client, find_column
from connectors.sql.newest import newest, value_of
from connectors.sql.values import alike, moment, ready
from runner.errors import RequestRefused, SensorError
from runner.units import Duration
from sensors.sensor import Event, Polled, SensorConfig
from sensors.types.database import DatabaseSensor


class FreshnessConfig(SensorConfig):
    """The keys of a sensor of type freshness."""

    table: str = Field(min_length=1, description="schema.table")
    column: str = Field(min_length=1, description="column that grows with every load")
    stale_after: Duration | None = Field(None, gt=timedelta(0), description="fires when the newest row is older")
    zone: str = Field("UTC", description="that of times without one")

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {zone!r}; write for example Europe/Berlin") from None
        return zone


class Board:
    """The questions of sensors that are due at the same moment: whoever asks first asks for all."""

    def __init__(self) -> None:
        self._wanted: dict[str, None] = {}

    def want(self, select: str) -> None:
        """Have it asked with the next look."""
        self._wanted[select] = None

    async def read(self, client: Client, select: str) -> Mapping[str, Any]:
        """Ask everything that is wanted, and this."""
        wanted, self._wanted = self._wanted, {}
        return await newest(client, [*wanted, select])


@contextlib.asynccontextmanager
async def _board() -> AsyncIterator[Board]:
    yield Board()


class FreshnessSensor(DatabaseSensor[FreshnessConfig]):
    """Waits for the newest value of a column to become another; and to become too old, where that is asked for."""

    kind = "freshness"
    config_model = FreshnessConfig

    @property
    def share(self) -> Hashable:
        return self.kind

    def describe(self) -> str:
        return f"{self.where}: {self.config.table}.{self.config.column}"

    async def poll(self, cursor: Any) -> Polled:
        config = self.config
        value = await self._newest()
        at = moment(value, ZoneInfo(config.zone))
        if config.stale_after is not None and value is not None and at is None:
            raise RequestRefused(
                f"{config.table}.{config.column} is no date or time.", guidance="`stale_after` needs one; remove it."
            )
        before = cursor or self._start(value)
        age = None if at is None else (self.room.clock.now() - at).total_seconds()
        state = self._state(value, age)
        advanced = value is not None and self._is_newer(value, before["max"])
        turned = config.stale_after is not None and state != before["state"]
        found = ready(value) if advanced or before["max"] is None else before["max"]
        after = {"max": found, "state": state, "changes": before["changes"] + turned}
        if not advanced and not turned:
            return Polled(cursor=after, note=f"newest: {found}" if found is not None else "no rows")
        values = {
            "table": config.table,
            "column": config.column,
            "max": ready(value),
            "state": state,
            "previous": before["state"],
            "age_seconds": None if age is None else round(age, 3),
        }
        key = str(found) if advanced else f"{state} {after['changes']}: {found}"
        return Polled([Event(key, values, at)], cursor=after)

    def _start(self, value: Any) -> dict[str, Any]:
        start = self.setting.start
        begin = ready(value) if start == "now" else None if start == "beginning" else ready(start)
        # A table that is too old already is told about at once.
        return {"max": begin, "state": "fresh" if value is not None else "empty", "changes": 0}

    def _state(self, value: Any, age: float | None) -> str:
        if value is None:
            return "empty"
        stale = self.config.stale_after
        return "stale" if stale is not None and age is not None and age > stale.total_seconds() else "fresh"

    def _is_newer(self, value: Any, before: Any) -> bool:
        if before is None:
            return True
        try:
            return bool(value > alike(before, value))
        except (ValueError, TypeError):
            name = f"{self.config.table}.{self.config.column}"
            raise SensorError(
                f"{name} is {ready(value)!r} and was {before!r}: they do not compare.",
                guidance="Check `cursor:` of the sensor; where the column's type changed, rename the sensor.",
            ) from None

    async def _newest(self) -> Any:
        dialect = (await self.client()).dialect
        config = self.config
        table = dialect.table(config.table)
        select = f"select max({dialect.name(config.column)}) from {table}"
        board = await self.room.connection(("freshness", self.system), _board)
        found: Mapping[str, Any] = {}
        # Who joins a look that has begun is not part of its question.
        while select not in found:
            board.want(select)
            found = await self.ask(lambda client: board.read(client, select))
        try:
            return value_of(found, select)
        except RequestRefused:
            columns = await self.ask(lambda client: client.describe(f"select * from {table}"), table)
            find_column(columns, config.column)
            raise
