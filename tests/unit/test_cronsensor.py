"""Sensors of type cron."""

from datetime import UTC, datetime, timedelta

import pytest

from runner.errors import UsageError
from runner.testing.clock import ManualClock
from sensors.room import Room
from sensors.sensor import Setting
from sensors.testing import Bench, Kept
from sensors.types.cron import CronSensor


class At(ManualClock):
    """A clock that a test sets."""

    at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def bench(clock: At, room: Room, kept: Kept, start: str = "now", **options: str) -> Bench:
    return Bench(CronSensor(Setting("clock", {"cron": "0 * * * *", **options}, start=start), room), kept)


@pytest.mark.parametrize(
    ("catch_up", "hours"), [("latest", [5]), ("all", [1, 2, 3, 4, 5]), ("none", [])], ids=["latest", "all", "none"]
)
async def test_what_passed_while_nobody_looked(catch_up: str, hours: list[int]):
    clock, kept = At(), Kept()
    async with Room(clock, kept) as room:
        polled = bench(clock, room, kept, catch_up=catch_up)
        assert await polled.poll() == []
        clock.at += timedelta(hours=5, minutes=30)
        assert [one.at.hour for one in await polled.poll() if one.at] == hours
        assert await polled.poll() == []
        clock.at = datetime(2026, 1, 1, 6, 0, 1, tzinfo=UTC)
        assert [one.key for one in await polled.poll()] == ["2026-01-01T06:00:00+00:00"]


async def test_a_backlog_comes_in_parts():
    clock, kept = At(), Kept()
    async with Room(clock, kept) as room:
        polled = bench(clock, room, kept, start="2025-12-01T00:00:00+00:00", catch_up="all")
        fired = await polled.poll()
    assert len(fired) == 31 * 24
    assert len({one.key for one in fired}) == len(fired)


async def test_where_it_starts_needs_an_offset():
    clock, kept = At(), Kept()
    async with Room(clock, kept) as room:
        with pytest.raises(UsageError, match="has no offset"):
            await bench(clock, room, kept, start="2026-01-01T00:00:00").poll()
        with pytest.raises(UsageError, match="is no time"):
            await bench(clock, room, kept, start="soon").poll()
