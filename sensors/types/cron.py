"""Fires at each time of a cron expression."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from runner.errors import UsageError
from runner.units import Duration
from sensors.schedule import Cron
from sensors.sensor import Event, Polled, Sensor, SensorConfig

_MOST = 100


class CronConfig(SensorConfig):
    """A cron expression."""

    cron: str = Field(description="five fields, or six as schedules in Orchestra")
    timezone: str = "UTC"
    catch_up: Literal["none", "latest", "all"] = Field(
        "latest", description="which of the times that passed while nobody looked"
    )
    grace: Duration = Field(timedelta(minutes=5), description="with catch_up: none, how late a time still fires")

    @model_validator(mode="after")
    def _parses(self) -> CronConfig:
        Cron(self.cron, self.timezone)
        return self


class CronSensor(Sensor[CronConfig]):
    """Fires at each time of a cron expression; its cursor is the last one that it has seen."""

    kind = "cron"
    config_model = CronConfig

    @property
    def system(self) -> Hashable:
        return "cron"

    def describe(self) -> str:
        return f"{self.config.cron} {self.config.timezone}"

    async def poll(self, cursor: Any) -> Polled:
        now, cron = self.room.clock.now(), Cron(self.config.cron, self.config.timezone)
        if cursor is None:
            start = self.setting.start
            if start in ("now", "beginning"):
                return Polled(cursor=now.isoformat(), note=self._note(cron, now))
            cursor = _moment(start)
        before = datetime.fromisoformat(cursor)
        last = cron.at_or_before(now)
        if last is not None and before > now:
            # The clock was wrong, or was set back: what comes again by then is known by its key.
            return Polled(cursor=last.isoformat(), note=self._note(cron, now))
        if last is None or last <= before:
            return Polled(cursor=cursor, note=self._note(cron, now))
        if self.config.catch_up == "all":
            times = self._between(cron, before, now)
        else:
            late = self.config.catch_up == "none" and now - last > self.config.grace
            times = [] if late else [last]
        cursor = (times[-1] if self.config.catch_up == "all" else last).isoformat()
        events = [Event(time.isoformat(), {"time": time.isoformat()}, time) for time in times]
        return Polled(events, cursor, more=len(times) == _MOST)

    def _between(self, cron: Cron, before: datetime, now: datetime) -> list[datetime]:
        times: list[datetime] = []
        moment: datetime | None = before
        while moment is not None and len(times) < _MOST:
            moment = cron.after(moment)
            if moment is None or moment > now:
                break
            times.append(moment)
        return times

    def _note(self, cron: Cron, now: datetime) -> str:
        following = cron.after(now)
        return f"next at {following:%Y-%m-%d %H:%M:%S} UTC" if following else "no time follows"


def _moment(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise UsageError(f"cursor: {text!r} is no time; write for example 2026-01-01T00:00:00+00:00.") from None
    if moment.tzinfo is None:
        raise UsageError(f"cursor: {text!r} has no offset; write for example {text}+00:00.")
    return moment.isoformat()
