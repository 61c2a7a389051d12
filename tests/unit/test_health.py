"""Whom the server answers, and what the page is told."""

import pytest

from runner.secrets import hide
from runner.testing.clock import ManualClock
from sensors.board import Board
from sensors.health import is_ours
from sensors.status import Status
from sensors.view import Query, View


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        ("127.0.0.1:8788", True), ("127.0.0.1", True), ("[::1]:8788", True), ("[::1]", True), ("localhost:1", True),
        ("LocalHost", True), ("a.localhost:80", True), ("10.2.3.4:80", True), ("sensors:8788", True),
        ("watch.example.com:443", True), ("watch.example.com.", True),
        ("", False), (":80", False), ("evil.example.com", False), ("127.0.0.1.evil.com:80", False),
        ("localhost.evil.com", False), ("evil.com:127", False), ("[::1].evil.com", False),
    ],
)  # fmt: skip
def test_only_names_that_nobody_else_can_own(header, ours):
    assert is_ours(header, {"watch.example.com"}) is ours


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "ill"}, "state: 'ill' is none of dead, failing"),
        ({"sort": "size"}, "sort: 'size' is none of worst"),
        ({"page": "0"}, "page: '0' is no number from 1"),
        ({"page": "١"}, "page:"),
        ({"size": "201"}, "size: '201' is no number from 1 to 200"),
    ],
)
def test_a_wrong_question_is_named(values, words):
    with pytest.raises(ValueError, match="^" + words):
        Query.parse(values)


def view(count=120):
    clock = ManualClock()
    at = clock.now().timestamp()
    board = Board("shop", clock)
    for n in range(count):
        board.statuses[f"s{n:03}"] = Status(
            f"s{n:03}", "files", 10.0, last_event=at - n, alive_by=at + 9, next_due=at + n
        )
    board.statuses["s077"].failures, board.statuses["s077"].error = 2, "Refused: password=hunter2000"
    board.statuses["s099"].alive_by, board.statuses["s099"].watches = at - 1, "s3://Landing/Orders"
    return View(board, list(board.statuses.values()), board.minutes(), clock.now()), board


@pytest.mark.parametrize(
    ("asked", "names", "matching", "page"),
    [
        ({"size": "3"}, ["s099", "s077", "s000"], 120, 1),
        ({"size": "50", "page": "3"}, [f"s{n:03}" for n in range(98, 120) if n != 99][1:], 120, 3),
        ({"size": "50", "page": "9"}, [f"s{n:03}" for n in range(98, 120) if n != 99][1:], 120, 3),
        ({"state": "failing"}, ["s077"], 1, 1),
        ({"state": "paused"}, [], 0, 1),
        ({"q": "orders LANDING"}, ["s099"], 1, 1),
        ({"q": "refused"}, ["s077"], 1, 1),
        ({"q": "s077 landing"}, [], 0, 1),
        ({"sort": "name", "size": "2"}, ["s000", "s001"], 120, 1),
        ({"sort": "event", "size": "2"}, ["s000", "s001"], 120, 1),
        ({"sort": "due", "size": "1", "page": "2"}, ["s001"], 120, 2),
    ],
)
def test_a_page_of_sensors(asked, names, matching, page):
    answer = view()[0].sensors(Query.parse(asked))
    shown = [row["name"] for row in answer["sensors"]]
    assert (shown, answer["matching"], answer["page"], answer["total"]) == (names, matching, page, 120)


def test_no_secret_and_nothing_endless_is_shown():
    looked, board = view(100)
    hide("s3cr3t-token")
    status = board.statuses["s099"]
    status.error, status.note = "said s3cr3t-token", "x" * 10_000
    rows = {row["name"]: row for row in looked.sensors(Query(size=200))["sensors"]}
    assert rows["s077"]["error"] == "Refused: password=***"
    assert rows["s099"]["error"] == "said ***"
    assert len(rows["s099"]["note"]) < 700
    board.failed("s099", "said s3cr3t-token")
    assert looked.board(View.lists(board))["troubles"][0][1:] == ["s099", "said ***"]
