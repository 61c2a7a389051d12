"""When a sensor polls, and when an event must have come."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.schedule import Cron, Expectation, Schedule, Window

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


class TestCron:
    @pytest.mark.parametrize(
        ("expression", "zone", "after", "then"),
        [
            ("0 6 * * *", "UTC", utc(2026, 1, 1, 6), utc(2026, 1, 2, 6)),
            ("0 6 * * ? *", "Europe/Berlin", utc(2026, 1, 1), utc(2026, 1, 1, 5)),
            ("0 6 * * ? *", "Europe/Berlin", utc(2026, 7, 1), utc(2026, 7, 1, 4)),
            # Monday to Friday is 2-6 there and 1-5 here; the 21st is a Saturday.
            ("0 8 ? * 2-6 *", "UTC", utc(2026, 11, 21), utc(2026, 11, 23, 8)),
            ("0 8 * * 1-5", "UTC", utc(2026, 11, 21), utc(2026, 11, 23, 8)),
            ("0 8 ? * 3#2 *", "UTC", utc(2026, 11, 21), utc(2026, 12, 8, 8)),
            ("0 8 ? * MON-FRI *", "UTC", utc(2026, 11, 21), utc(2026, 11, 23, 8)),
            # 02:30 does not exist on that day: it is not left out.
            ("30 2 * * *", "Europe/Berlin", utc(2026, 3, 28, 12), utc(2026, 3, 29, 1)),
        ],
    )
    def test_the_next_time(self, expression, zone, after, then):
        assert Cron(expression, zone).after(after) == then

    def test_a_time_that_comes_twice_counts_once(self):
        cron, moment, found = Cron("30 2 * * *", "Europe/Berlin"), utc(2026, 10, 24, 12), []
        while (moment := cron.after(moment)) < utc(2026, 10, 27):
            found.append(moment)
        assert len(found) == 2

    def test_the_last_time_includes_now(self):
        cron = Cron("0 * * * *")
        assert cron.at_or_before(utc(2026, 1, 1, 5)) == utc(2026, 1, 1, 5)
        assert cron.at_or_before(utc(2026, 1, 1, 4, 59)) == utc(2026, 1, 1, 4)

    @pytest.mark.parametrize(
        ("expression", "zone", "problem"),
        [
            ("0 6 * *", "UTC", "has 4 fields"),
            ("61 * * * *", "UTC", "no cron expression"),
            ("0 6 * * ? 2027", "UTC", "a year other than"),
            ("0 6 * * *", "Europe/Berln", "no time zone"),
        ],
    )
    def test_what_is_none(self, expression, zone, problem):
        with pytest.raises(ValueError, match=problem):
            Cron(expression, zone)


class TestGrid:
    @given(
        st.text(min_size=1, max_size=20),
        st.floats(1, 86400),
        st.floats(0, 86400),
        st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    )
    def test_it_is_after_now_and_at_most_one_step_away(self, identity, every, jitter, moment):
        moment = moment.replace(tzinfo=UTC)
        found = Schedule(identity, every, jitter).next(moment)
        assert moment < found <= moment + timedelta(seconds=every, microseconds=2)

    def test_it_does_not_drift(self):
        schedule, moment = Schedule("a", 10, 10), utc(2026, 1, 1)
        found = []
        for _ in range(1000):
            moment = schedule.next(moment)
            found.append(moment)
            # A poll that takes its time moves nothing.
            moment += timedelta(seconds=3.7)
        assert found[-1] - found[0] == timedelta(seconds=9990)
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(seconds=10)}

    def test_a_restart_changes_nothing(self):
        assert Schedule("a", 60, 60).next(utc(2026, 1, 1)) == Schedule("a", 60, 60).next(utc(2026, 1, 1))

    def test_identities_spread_over_the_jitter(self):
        begin = utc(2026, 1, 1)
        seconds = sorted((Schedule(f"s{i}", 10, 10).next(begin) - begin).total_seconds() for i in range(1000))
        assert max(later - earlier for earlier, later in pairwise([0.0, *seconds, 10.0])) < 0.2
        close = [(Schedule(f"s{i}", 10, 1).next(begin) - begin).total_seconds() for i in range(100)]
        assert max(close) <= 1

    def test_one_identity_polls_together_whatever_its_distance(self):
        every_ten = {Schedule("a", 10, 10).next(utc(2026, 1, 1) + timedelta(seconds=10 * i)) for i in range(60)}
        every_minute = {Schedule("a", 60, 10).next(utc(2026, 1, 1) + timedelta(seconds=60 * i)) for i in range(9)}
        assert every_minute <= every_ten


class TestIntervals:
    def test_they_grow_while_nothing_comes(self):
        schedule = Schedule("a", 10, 0, idle_after=3, idle_factor=2, idle_max=60)
        assert [schedule.interval(idle, 0) for idle in range(8)] == [10, 10, 10, 20, 40, 60, 60, 60]

    def test_they_do_not_without_it(self):
        assert Schedule("a", 10, 0).interval(1000, 0) == 10

    def test_they_grow_while_polls_fail_and_never_beyond_a_minute(self):
        schedule = Schedule("a", 10, 0)
        assert [schedule.interval(0, failures) for failures in range(6)] == [10, 10, 20, 40, 60, 60]
        assert Schedule("a", 3600, 0).interval(0, 9) == 3600


class TestWindow:
    WINDOW = Window(Cron("0 22 * * *"), timedelta(hours=4))

    @pytest.mark.parametrize(
        ("now", "since"),
        [
            (utc(2026, 1, 1, 21, 59), None),
            (utc(2026, 1, 1, 22), utc(2026, 1, 1, 22)),
            (utc(2026, 1, 2, 1, 59), utc(2026, 1, 1, 22)),
            (utc(2026, 1, 2, 2), None),
        ],
    )
    def test_since_when_it_is_open(self, now, since):
        assert self.WINDOW.opened(now) == since

    def test_polls_lie_inside(self):
        schedule, moment = Schedule("a", 1800, 1800, window=self.WINDOW), utc(2026, 1, 1)
        for _ in range(30):
            moment = schedule.next(moment)
            assert self.WINDOW.opened(moment)

    def test_a_window_that_is_shorter_than_a_step_is_looked_at_when_it_opens(self):
        window = Window(Cron("0 22 * * *"), timedelta(minutes=1))
        assert Schedule("a", 3600, 3600, window=window).next(utc(2026, 1, 1)) == utc(2026, 1, 1, 22)


class TestExpectation:
    BY = Expectation(by=time(8), zone=BERLIN, days=frozenset(range(5)))
    BEGAN = utc(2026, 1, 1)

    @pytest.mark.parametrize(
        ("now", "last", "missed"),
        [
            # 08:00 in Berlin is 07:00 UTC in winter; the 5th of January 2026 is a Monday.
            (utc(2026, 1, 5, 6, 59), utc(2026, 1, 2, 6), None),
            (utc(2026, 1, 5, 7), utc(2026, 1, 2, 6), utc(2026, 1, 5, 7)),
            (utc(2026, 1, 5, 7), utc(2026, 1, 5, 6), None),
            (utc(2026, 1, 5, 7), None, utc(2026, 1, 5, 7)),
            # It came late, and counts for that day and not for the next.
            (utc(2026, 1, 5, 9), utc(2026, 1, 5, 8), None),
            (utc(2026, 1, 6, 7), utc(2026, 1, 5, 8), utc(2026, 1, 6, 7)),
            # Nothing is expected on a weekend.
            (utc(2026, 1, 4, 12), utc(2026, 1, 2, 6), None),
        ],
    )
    def test_by_a_time_of_day(self, now, last, missed):
        assert self.BY.missed(now, last, self.BEGAN) == missed

    def test_what_was_due_before_anybody_looked_is_not_missed(self):
        assert self.BY.missed(utc(2026, 1, 5, 9), None, utc(2026, 1, 5, 8)) is None

    def test_within_a_time_before(self):
        nightly = Expectation(by=time(2), within=timedelta(hours=6))
        assert nightly.missed(utc(2026, 1, 5, 2), utc(2026, 1, 4, 21), self.BEGAN) is None
        assert nightly.missed(utc(2026, 1, 5, 2), utc(2026, 1, 4, 19), self.BEGAN) == utc(2026, 1, 5, 2)

    def test_every_so_often(self):
        hourly = Expectation(every=timedelta(hours=1))
        assert hourly.missed(utc(2026, 1, 1, 0, 59), None, self.BEGAN) is None
        assert hourly.missed(utc(2026, 1, 1, 1), None, self.BEGAN) == utc(2026, 1, 1, 1)
        assert hourly.missed(utc(2026, 1, 1, 5), utc(2026, 1, 1, 4, 30), self.BEGAN) is None
        assert hourly.next(utc(2026, 1, 1, 5), utc(2026, 1, 1, 4, 30), self.BEGAN) == utc(2026, 1, 1, 5, 30)

    def test_the_next_deadline(self):
        assert self.BY.next(utc(2026, 1, 2, 8), None, self.BEGAN) == utc(2026, 1, 5, 7)
