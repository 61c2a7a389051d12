"""Readers of the stream that write lines."""

import io
import json
from datetime import UTC, datetime

import pytest

from runner import secrets
from runner.events import ChunkLoaded, LimitChanged, TableFailed, TableReplanned, Warned
from runner.log import EventFile, JsonLines, Lines, line

AT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
INFO = TableReplanned("a.b", "it changed")
DEBUG = ChunkLoaded("a.b", "c1", 7)
WARNING = Warned("a.b", "odd")
ERROR = TableFailed("a.b", "SourceDown", "gone.", "Look.")
LIMIT = LimitChanged(3)


def lines(*, debug=False, quiet=False) -> list[str]:
    stream = io.StringIO()
    reader = Lines(stream, debug=debug, quiet=quiet)
    for event in (INFO, DEBUG, WARNING, ERROR, LIMIT):
        reader(AT, event)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("options", "actions"),
    [
        ({}, ["table_replanned", "warned", "table_failed"]),
        ({"quiet": True}, ["warned", "table_failed"]),
        ({"debug": True}, ["table_replanned", "chunk_loaded", "warned", "table_failed", "limit_changed"]),
    ],
)
def test_what_is_shown(options, actions):
    assert [text.partition(":")[0] for text in (found[21:] for found in lines(**options))] == [
        {"warned": "WARNING warned", "table_failed": "ERROR table_failed"}.get(action, action) for action in actions
    ]


def test_one_line_an_event():
    assert lines()[0] == "2024-01-02T03:04:05Z table_replanned: a.b: planned anew: it changed"
    assert lines()[2] == "2024-01-02T03:04:05Z ERROR table_failed: a.b: failed: gone. Look."


def test_json():
    stream = io.StringIO()
    JsonLines(stream)(AT, WARNING)
    assert json.loads(stream.getvalue()) == {
        "at": "2024-01-02T03:04:05+00:00",
        "level": "warning",
        "action": "warned",
        "table": "a.b",
        "message": "odd",
    }
    assert stream.getvalue().endswith("\n")


def test_no_secret_in_any_line():
    event = Warned("a.b", "postgres://u:hunter2@h/db said password=hunter3 no")
    stream = io.StringIO()
    Lines(stream)(AT, event)
    assert "hunter" not in stream.getvalue()
    assert "hunter" not in line(AT, event)


@pytest.mark.parametrize("message", ['say "hi"\nnext', "größe", "password='two words' more", "token: abc"])
def test_a_line_is_json_whatever_it_says(message):
    text = line(AT, Warned("a.b", message))
    assert text.count("\n") == 1
    assert json.loads(text)["table"] == "a.b"


def test_a_quoted_secret_does_not_show_its_second_half():
    text = line(AT, Warned("a.b", 'password="two words" more'))
    assert "words" not in text
    assert "more" in text


@pytest.mark.parametrize("secret", ['pa"ss"word', "pa\\ss\\word", "tab\tbed"])
def test_a_secret_that_json_writes_in_another_way_is_redacted(monkeypatch, secret):
    monkeypatch.setattr(secrets, "_seen", {secret})
    text = line(AT, Warned("a.b", f"it was {secret}!"))
    assert json.loads(text)["message"] == "it was ***!"


def test_the_file_holds_what_came_before_it_was_opened(tmp_path):
    events = EventFile()
    events(AT, INFO)
    events.open(tmp_path / "events.jsonl")
    events(AT, WARNING)
    events.close()
    written = [json.loads(text) for text in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["action"] for event in written] == ["table_replanned", "warned"]


def test_the_file_goes_on(tmp_path):
    for event in (INFO, WARNING):
        events = EventFile()
        events.open(tmp_path / "events.jsonl")
        events(AT, event)
        events.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_a_file_that_was_never_opened_or_cannot_be():
    events = EventFile()
    events(AT, INFO)
    events.close()


def test_a_folder_that_is_gone_does_not_stop_the_run(tmp_path):
    events = EventFile()
    events.open(tmp_path / "none" / "events.jsonl")
    events(AT, INFO)
    events.close()
