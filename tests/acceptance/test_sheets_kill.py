"""A run that reads Google Sheets is killed; the same command goes on, and asks for nothing that it has on disk."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest

from connectors.testing.sheets import SheetsDouble, Spreadsheet
from tests.conftest import Project

_ROWS = 6000
_WINDOW = 500
_JOB = """
name: killed
source: {{type: sheets, spreadsheets: book1, service_account: "${{SHEETS_KEY}}", api_url: "{url}"}}
destination: {{type: duckdb, dataset: raw, table: "{{table}}"}}
limits: {{chunk_rows: {window}, connections: 2}}
tables:
  sheets.Big:
  sheets.Small:
"""


@pytest.fixture
def double() -> Iterator[SheetsDouble]:
    # Every window takes long enough for the first ones to be loaded while others are read.
    with SheetsDouble(latency=0.02) as server:
        yield server


def _windows(double: SheetsDouble) -> Counter[int]:
    """Return the first rows of the windows of Big that the last process asked for, which begins with a token."""
    found: Counter[int] = Counter()
    # What the killed one had asked may be on record after its end.
    begins = max(number for number, one in enumerate(double.seen) if one.path == "/token")
    for one in double.seen[begins:]:
        asked = parse_qs(one.query)
        if "UNFORMATTED_VALUE" in asked.get("valueRenderOption", ()) and one.status == 200:
            found.update(int(row) for text in asked["ranges"] for row in re.findall(r"^'Big'!A(\d+)", text))
    return found


def _recorded(project: Project) -> set[int]:
    """Return the first rows of the windows of Big whose rows the ledger knows to be on disk or loaded."""
    (ledger,) = project.folder.glob(".runner/runs/*/ledger.sqlite")
    with sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True) as connection:
        query = "select bounds from chunks where table_name = 'sheets.Big' and state <> 'planned'"
        rows = connection.execute(query).fetchall()
    connection.close()
    return {json.loads(bounds)["from"] + 1 for (bounds,) in rows}


@pytest.fixture
def book(double: SheetsDouble, project: Project) -> Spreadsheet:
    key = double.account()
    project.environ["SHEETS_KEY"] = json.dumps(key)
    project.job(_JOB.format(url=double.url, window=_WINDOW))
    made = double.add("book1", "Budget", key["client_email"])
    made.add("Big", [["id", "text"], *([row, f"row {row}"] for row in range(_ROWS))])
    made.add("Small", [["n"], [1], [2]])
    return made


def _run(project: Project, crash: str | None = None) -> None:
    if crash is not None:
        project.environ["RUNNER_CRASH_AT"] = crash
    process = project.start("backfill", "job.yml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if crash else 0), err
    project.environ.pop("RUNNER_CRASH_AT", None)


@pytest.mark.parametrize(
    ("point", "least"),
    [
        ("plan-stored@sheets.Big", 0),
        ("chunk-read@sheets.Big:3", 0),
        ("chunk-fsynced@sheets.Big:4", 1),
        ("chunk-recorded@sheets.Big:5", 5),
        ("load-committed@sheets.Big:3", 3),
        ("load-recorded@sheets.Big:6", 6),
        ("swap@sheets.Big", 12),
        ("publish-committed@sheets.Big", 12),
    ],
)
def test_killed_in_the_middle_of_a_sheet_it_goes_on_there(
    double: SheetsDouble, book: Spreadsheet, project: Project, point: str, least: int
) -> None:
    _run(project, point)
    recorded = _recorded(project)
    assert len(recorded) >= least
    _run(project)
    again = _windows(double)
    assert not recorded & set(again), "what is on disk is asked for again"
    everything = {2 + number * _WINDOW for number in range(_ROWS // _WINDOW)}
    assert set(again) == everything - recorded
    assert set(again.values()) <= {1}
    assert project.query("select * from raw.big order by 1") == [(row, f"row {row}") for row in range(_ROWS)]
    assert project.query("select * from raw.small order by 1") == [(1,), (2,)]


def test_rows_that_move_while_nobody_runs_are_neither_lost_nor_doubled(
    double: SheetsDouble, book: Spreadsheet, project: Project
) -> None:
    _run(project, "chunk-recorded@sheets.Big:4")
    big = book.sheets[0]
    big.insert(1)
    big.fill([[-1, "first"]], top=1)
    _run(project)
    rows = [(-1, "first"), *((row, f"row {row}") for row in range(_ROWS))]
    assert project.query("select * from raw.big order by 1") == rows
