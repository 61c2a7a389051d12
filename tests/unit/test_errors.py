"""The one tree of errors is drawn as it is."""

import inspect
import re
from datetime import UTC, datetime

import pytest

from runner import errors
from runner.errors import Parked, RunnerError, Throttled, UsageError

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, RunnerError) and found.__module__ == errors.__name__
}


def drawn() -> dict[str, str | None]:
    """Return each class in the docstring's tree and its parent there."""
    parents: dict[str, str | None] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)", line)
        if not match:
            continue
        depth = len(match[1]) // 4 + (1 if "── " in line else 0)
        del stack[depth:]
        parents[match[2]] = stack[-1] if stack else None
        stack.append(match[2])
    return parents


def make(name: str) -> RunnerError:
    kind = CLASSES[name]
    return kind(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)) if issubclass(kind, Parked) else kind()


def test_every_class_is_drawn_and_every_drawing_is_a_class():
    assert set(drawn()) == set(CLASSES)


def test_parents_are_as_drawn():
    real = {name: found.__bases__[0].__name__ for name, found in CLASSES.items()}
    assert drawn() == {**real, "RunnerError": None}


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"Parked"}))
def test_the_message_is_the_docstring_by_default(name):
    error = make(name)
    assert error.message == str(error) == (inspect.getdoc(CLASSES[name]) or "").split("\n")[0]
    assert error.message.endswith(".")
    assert error.advice == CLASSES[name].guidance


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_records_are_json_ready(name):
    record = make(name).record()
    assert record["error"] == name
    assert {type(value) for key, value in record.items() if key != "context"} == {str, bool}


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {child.__bases__[0].__name__ for child in CLASSES.values()}))
def test_every_leaf_says_what_to_do(name):
    assert make(name).advice


@pytest.mark.parametrize(
    ("base", "code"), [("UsageError", 2), ("ContactError", 2), ("TryAgain", 3), ("SourceError", 1), ("SpoolFull", 1)]
)
def test_exit_codes(base, code):
    assert {found.exit_code for found in CLASSES.values() if issubclass(found, CLASSES[base])} == {code}


def test_what_a_retry_can_help():
    assert {name for name, found in CLASSES.items() if found.retriable} == {
        "SourceBusy",
        "SourceDown",
        "SnapshotLost",
        "Throttled",
        "StatementTooLong",
        "PollTimedOut",
        "NotDelivered",
        "DestinationDown",
        "DestinationBusy",
        "SpoolFull",
    }


def test_own_words_and_context():
    error = UsageError("It is odd.", guidance="Do it again.", table="a.b", line=None, count=3)
    assert str(error) == "It is odd."
    assert error.context == {"table": "a.b", "count": 3}
    assert error.record() == {
        "error": "UsageError",
        "message": "It is odd.",
        "guidance": "Do it again.",
        "retriable": False,
        "context": {"table": "a.b", "count": "3"},
    }


def test_guidance_may_be_nothing():
    assert UsageError(guidance="").advice == ""


def test_parked_and_throttled_say_until_when():
    error = make("Parked")
    assert error.message == "Parked until 2024-01-02 03:04:05 UTC."
    assert Throttled("x", retry_after=5).retry_after == 5
    assert Throttled().retry_after is None
