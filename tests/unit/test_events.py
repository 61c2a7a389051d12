"""The one stream of typed events."""

import dataclasses
import inspect
import json

import pytest

from runner import events
from runner.events import ChunkSpooled, Event, RunStarted, SourcePaused, Stream, TablePublished, Warned
from runner.testing.clock import ManualClock

CLASSES = [found for _, found in inspect.getmembers(events, inspect.isclass) if issubclass(found, Event)]
SAMPLES = {
    "str": "text",
    "int": 7,
    "float": 1.5,
    "bool": True,
    "str | None": None,
    "float | None": 0.5,
    "int | None": 7,
    "dict[str, float]": {"load": 1.5},
}


def make(kind: type[Event], **more) -> Event:
    values = {field.name: SAMPLES[str(field.type)] for field in dataclasses.fields(kind)}
    return kind(**{**values, **more})


@pytest.mark.parametrize("kind", CLASSES)
def test_every_event_can_be_told_and_kept(kind):
    event = make(kind)
    assert isinstance(event.sentence(), str)
    assert "\n" not in event.sentence()
    json.dumps(event.data())
    assert event.level in ("debug", "info", "warning", "error")
    assert event.action.replace("_", "").isalpha()
    assert event.action == event.action.lower()


@pytest.mark.parametrize("kind", CLASSES)
def test_optional_fields_may_be_there(kind):
    optional = {f.name: "words" for f in dataclasses.fields(kind) if str(f.type) == "str | None"}
    event = make(kind, **optional)
    event.sentence()
    assert optional.items() <= event.data().items()


def test_names_in_logs_are_constant():
    actions = {kind.__name__: make(kind).action for kind in CLASSES}
    assert (
        actions.items()
        >= {
            "RunStarted": "run_started",
            "TableReplanned": "table_replanned",
            "TableStarted": "table_started",
            "ChunkSpooled": "chunk_spooled",
            "ChunkLoaded": "chunk_loaded",
            "TableVerified": "table_verified",
            "TablePublished": "table_published",
            "SchemaChanged": "schema_changed",
            "Drifted": "drifted",
            "TableFailed": "table_failed",
            "TableParked": "table_parked",
            "Retried": "retried",
            "SourcePaused": "source_paused",
            "LimitChanged": "limit_changed",
            "EpochBegan": "epoch_began",
            "Warned": "warned",
            "Draining": "draining",
            "RunFinished": "run_finished",
        }.items()
    )


def test_sentences():
    assert make(RunStarted, resumed=False, rows=1234567).sentence() == "run text starts: 7 tables, about 1,234,567 rows"
    assert "resumes" in make(RunStarted, resumed=True, note="why").sentence()
    assert make(TablePublished).sentence() == "text: published as text, 7 rows in 1.50 s"
    assert make(TablePublished, mark="5").sentence().endswith(", mark 5")
    assert make(Warned, table="", message="odd").sentence() == "odd"


def test_fields_without_a_value_are_left_out():
    assert "mark" not in make(TablePublished).data()
    assert make(TablePublished, rows=0).data()["rows"] == 0


def test_levels_are_not_fields():
    assert "level" not in make(ChunkSpooled).data()
    assert make(ChunkSpooled).level == "debug"


def test_every_reader_is_told_in_order_with_the_time():
    clock, told = ManualClock(), []
    stream = Stream(clock)
    stream.subscribe(lambda at, event: told.append(("one", at, event)))
    stream.subscribe(lambda at, event: told.append(("two", at, event)))
    event = SourcePaused(5)
    stream.emit(event)
    assert told == [("one", clock.now(), event), ("two", clock.now(), event)]
