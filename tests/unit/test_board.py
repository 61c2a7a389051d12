"""What the board keeps, and how sensors are ranked."""

from datetime import timedelta

import pytest

from runner.testing.clock import ManualClock
from sensors.board import MINUTES, Board
from sensors.histogram import BOUNDS, Histogram, percentile
from sensors.status import Status


def board_of(clock, **statuses):
    board = Board("shop", clock)
    at = clock.now().timestamp()
    for name, changes in statuses.items():
        status = Status(name, "files", 10.0, last_poll=at, last_success=at, alive_by=at + 60)
        for key, value in changes.items():
            setattr(status, key, value)
        board.statuses[name] = status
    return board


def test_a_sensor_is_dead_when_its_last_success_is_too_old_whatever_its_process_says():
    clock = ManualClock()
    at = clock.now().timestamp()
    board = board_of(clock, late={"alive_by": at + 5}, first={"alive_by": at + 1}, closed={"alive_by": None}, well={})
    assert board.dead(clock.now()) == []
    assert board.dead(clock.now() + timedelta(seconds=5)) == [board.statuses["first"]]
    assert [one.name for one in board.dead(clock.now() + timedelta(seconds=6))] == ["first", "late"]
    assert [one.name for one in board.dead(clock.now() + timedelta(days=9))] == ["first", "late", "well"]


def test_worst_first_and_each_counts_once():
    clock = ManualClock()
    at = clock.now().timestamp()
    board = board_of(
        clock,
        b_well={},
        a_well={"state": "polling"},
        closed={"state": "closed", "alive_by": None},
        paused={"state": "paused"},
        overdue={"missed": at - 5},
        failing_once={"failures": 1},
        failing_much={"failures": 7, "state": "paused", "missed": at},
        dead={"alive_by": at - 1, "failures": 9},
    )
    ranked = [one.name for one in sorted(board.statuses.values(), key=lambda one: one.rank(clock.now()))]
    assert ranked == ["dead", "failing_much", "failing_once", "overdue", "paused", "a_well", "b_well", "closed"]
    assert [one.name for one in board.failing()] == ["dead", "failing_much", "failing_once"]
    summary = board.summary(clock.now())
    assert summary.standings == {
        "dead": 1, "failing": 2, "overdue": 1, "paused": 1, "stopped": 0, "alive": 2, "closed": 1,
    }  # fmt: skip
    assert (summary.sensors, summary.last_success) == (8, at)


@pytest.mark.parametrize(
    ("last_poll", "last_success", "failures", "lag"),
    [(None, None, 0, None), (9.0, 8.0, 0, 0.0), (9.0, 4.0, 2, 5.0), (9.0, None, 2, None)],
)
def test_lag_is_since_the_last_success(last_poll, last_success, failures, lag):
    assert Status("a", "sql", 1.0, last_poll=last_poll, last_success=last_success, failures=failures).lag == lag


async def test_minutes_go_on_and_are_forgotten_after_an_hour():
    clock = ManualClock()
    board = board_of(clock, one={})
    board.polled("one", 0.0, 0.1)
    board.fired("one", "k")
    await clock.advance(59)
    board.polled("one", 0.0, 0.1)
    await clock.advance(1)
    board.polled("one", 0.0, 0.1)
    board.failed("one", "broken")
    await clock.advance(180)
    assert [(m.polls, m.events, m.failures) for m in board.minutes()] == [(2, 1, 0), (1, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0)]  # fmt: skip
    await clock.advance(3600 * 24 * 30)
    assert len(board.minutes()) == MINUTES + 1
    assert sum(m.polls for m in board.minutes()) == 0
    assert (board.polls, board.events, board.failures) == (3, 1, 1)


async def test_lateness_is_that_of_the_last_minutes():
    clock = ManualClock()
    board = board_of(clock, one={})
    assert board.summary(clock.now()).late_half is None
    for _ in range(98):
        board.polled("one", 0.004, 0.1)
    board.polled("one", 0.9, 0.1)
    board.polled("one", -1.0, 0.1)
    summary = board.summary(clock.now())
    assert 0.0025 <= summary.late_half <= 0.005
    assert summary.late_most <= 0.005
    for _ in range(3):
        board.polled("one", 0.9, 0.1)
    assert 0.5 < board.summary(clock.now()).late_most <= 1.0
    await clock.advance(300)
    assert board.summary(clock.now()).late_most is None
    assert sum(board.lateness.counts) == 103


def test_it_never_grows():
    board = board_of(ManualClock(), one={})
    for number in range(1000):
        board.fired("one", f"k{number}")
        board.failed("one", "broken")
        board.stalled(0.2, [f"frame {n}" for n in range(100)])
    assert [len(kept) for kept in (board.recent, board.troubles, board.stalls)] == [200, 200, 20]
    assert board.recent[-1].text == "k999"
    assert board.stalls[-1].frames[-1] == "frame 99"
    assert len(board.stalls[-1].frames) == 12
    assert (board.stall_count, round(board.stall_seconds)) == (1000, 200)


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (300.0, 15), (301.0, 16)])
def test_a_bucket_holds_what_is_up_to_its_bound(value, bucket):
    histogram = Histogram()
    assert histogram.add(value) == bucket
    assert histogram.counts[bucket] == 1


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([0.075] * 10, 0.5, 0.075), ([0.0005] * 99 + [2.0], 0.99, 0.001), ([1e6], 0.5, BOUNDS[-1])],
)
def test_percentiles_are_as_exact_as_the_buckets(values, share, expected):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert percentile(histogram.counts, share) == (None if expected is None else pytest.approx(expected))
