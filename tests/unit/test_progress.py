"""The tally of a run and the view of it."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from runner.events import (
    ChunkSpooled,
    EpochBegan,
    Event,
    LimitChanged,
    Retried,
    RunStarted,
    TableFailed,
    TableParked,
    TablePublished,
    TableStarted,
)
from runner.limits import Budget
from runner.progress import Progress, Tally, resident
from runner.testing.clock import ManualClock

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def tally_of(*events: Event, clock: ManualClock | None = None) -> Tally:
    tally = Tally(clock or ManualClock(), 8)
    tally(NOW, RunStarted("r1", "shop", 4, 1000, 10_000, False, True))
    for event in events:
        tally(NOW, event)
    return tally


def text_of(tally: Tally) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(Progress(tally, enabled=False).render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_tables_are_counted_by_how_they_ended():
    tally = tally_of(
        TableStarted("a", 1, "full", 1, 10),
        TableStarted("b", 2, "full", 1, 10),
        TableStarted("c", 3, "full", 1, 10),
        TableStarted("d", 4, "full", 1, 10),
        TablePublished("a", "a", 10, 100, 1.0),
        TableFailed("b", "SourceError", "it broke", "mend it"),
        TableParked("c", "2024-01-01T01:00:00+00:00", "quota"),
        ChunkSpooled("d", "1", 7, 70, 0.1),
    )
    assert (tally.published, tally.failed, tally.parked) == (1, 1, 1)
    assert tally.running == {"d": [7, 10]}
    text = text_of(tally)
    for words in ("1/4 tables", "1 running", "1 failed", "1 parked", "✗ b: it broke", "c: parked until"):
        assert words in text


async def test_speed_is_that_of_the_last_seconds():
    clock = ManualClock()
    tally = tally_of(clock=clock)
    await clock.advance(10)
    tally(NOW, ChunkSpooled("a", "1", 500, 5000, 0.1))
    assert tally.speed() == (100.0, 1000.0)
    await clock.advance(60)
    assert tally.speed() == (0.0, 0.0)


async def test_what_is_left_is_said_once_something_is_done():
    clock = ManualClock()
    tally = tally_of(clock=clock)
    assert tally.left() is None
    await clock.advance(10)
    tally(NOW, ChunkSpooled("a", "1", 500, 5000, 0.1))
    tally(NOW, TablePublished("a", "a", 500, 100, 1.0))
    tally(NOW, TablePublished("b", "b", 0, 100, 1.0))
    assert tally.left() == 10.0


def test_limit_memory_and_spool_are_shown_and_retries_noted():
    tally = tally_of(LimitChanged(3), Retried("a", 1, 0.5, "gone"), EpochBegan(2, True, None, "the snapshot was lost"))
    tally.disk = Budget(100)
    text = text_of(tally)
    assert "connections ≤ 3" in text
    assert "memory" in text
    assert "spool 0 B" in text
    assert "attempt 1 failed" in text
    assert "epoch 2 begins" in text
    assert tally.retries == 1


def test_many_running_tables_are_cut():
    tally = tally_of(*(TableStarted(f"t{number}", number, "full", 1, number) for number in range(20)))
    assert "… and 8 more" in text_of(tally)


def test_resident_memory_is_a_plausible_number():
    assert 2**20 < resident() < 2**36
