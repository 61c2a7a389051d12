"""Google Sheets into DuckDB: what arrives, how often is asked, and what happens when sheets and servers misbehave."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from connectors.sheets import SheetsSource
from connectors.testing.sheets import Cell, SheetsDouble, Spreadsheet, error
from connectors.testing.sheets.refusals import exhausted, unauthenticated
from runner.testing.conformance import conformance
from tests.conftest import Answer, Cli, Project

_LOADER = "loader@acme.iam.gserviceaccount.com"
_JOB = """
name: sheets
source: {{type: sheets, spreadsheets: {books}, service_account: "${{SHEETS_KEY}}", api_url: "{url}", quota_pause: {pause}{more}}}
destination: {{type: duckdb, dataset: raw, table: "{{table}}"}}
limits: {{chunk_rows: {chunk_rows}, connections: 4}}
retry: {{max_wait: 20ms}}
tables:
{tables}
"""
_PEOPLE = [
    ["name", "age", "paid", "born", "seen", "at", "took", "mixed", "share", None, "name"],
    [
        "Ann",
        41,
        True,
        dt.date(1984, 2, 29),
        dt.datetime(2026, 1, 2, 3, 4, 5, 678000),
        dt.time(9, 30),
        dt.timedelta(hours=36),
        "x",
        Cell(1, "PERCENT"),
    ],
    ["Bøb", 42, False, dt.date(1899, 12, 31), dt.datetime(2026, 1, 2), dt.time(23, 59, 59), dt.timedelta(hours=6), 5],
    [],
    [None, Cell(-7, formula="=1-8"), None, None, None, None, None, dt.date(2020, 1, 1), None, 1.5, "tail"],
    ["Dan", None, None, None, None, None, None, True],
]


@pytest.fixture
def double() -> Iterator[SheetsDouble]:
    with SheetsDouble() as server:
        yield server


@pytest.fixture
def book(double: SheetsDouble) -> Spreadsheet:
    return double.add("book1", "Budget", _LOADER)


class Run:
    """Runs a job on the double."""

    def __init__(self, project: Project, cli: Cli, double: SheetsDouble) -> None:
        self.project, self.double, self._cli = project, double, cli
        project.environ["SHEETS_KEY"] = json.dumps(double.account())

    def __call__(
        self,
        tables: str = '  "sheets.*":',
        *arguments: str,
        more: str = "",
        books: str = "book1",
        chunk_rows: int = 500_000,
        command: str = "backfill",
        pause: str = "10ms",
    ) -> Answer:
        text = _JOB.format(
            url=self.double.url, tables=tables, more=more, books=books, chunk_rows=chunk_rows, pause=pause
        )
        self.project.job(text)
        return self._cli(command, "job.yml", *arguments)

    def rows(self, table: str, order: str = "1") -> list[tuple[Any, ...]]:
        return self.project.query(f"select * from raw.{table} order by {order}")

    def columns(self, table: str) -> dict[str, str]:
        query = "select column_name, data_type from information_schema.columns where table_name = '{}' order by ordinal_position"
        return dict(self.project.query(query.format(table)))  # type: ignore[arg-type]


@pytest.fixture
def run(project: Project, cli: Cli, double: SheetsDouble) -> Run:
    return Run(project, cli, double)


def test_values_arrive_as_their_cells_and_formats_say(run: Run, book: Spreadsheet) -> None:
    book.add("People", _PEOPLE)
    answer = run()
    assert answer.code == 0, answer.err
    assert run.columns("people") == {
        "name": "VARCHAR",
        "age": "BIGINT",
        "paid": "BOOLEAN",
        "born": "DATE",
        "seen": "TIMESTAMP",
        "at": "TIME",
        "took": "DOUBLE",
        "mixed": "VARCHAR",
        "share": "DOUBLE",
        "column_10": "DOUBLE",
        "name_2": "VARCHAR",
    }
    ann = dt.datetime(2026, 1, 2, 3, 4, 5, 678000)
    assert run.rows("people", "name nulls last") == [
        ("Ann", 41, True, dt.date(1984, 2, 29), ann, dt.time(9, 30), 1.5, "x", 1.0, None, None),
        ("Bøb", 42, False, dt.date(1899, 12, 31), ann.replace(hour=0, minute=0, second=0, microsecond=0),
         dt.time(23, 59, 59), 0.25, "5", None, None, None),
        ("Dan", None, None, None, None, None, None, "true", None, None, None),
        (None, -7, None, None, None, None, None, "2020-01-01", None, 1.5, "tail"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "columns", "rows"),
    [
        ("", ["title", "column_2"], [("a", "b"), ("x", "1"), ("y", "2")]),
        (", header: 3", ["a", "b"], [("x", 1), ("y", 2)]),
        (", header: none", ["column_1", "column_2"], [("a", "b"), ("title", None), ("x", "1"), ("y", "2")]),
        (", header: [k, v]", ["k", "v"], [("a", "b"), ("title", None), ("x", "1"), ("y", "2")]),
        (', ranges: {S: "S!A4:B", all: {range: "S!A3:B4"}}', ["x", "column_2"], [("y", 2)]),
    ],
)
def test_the_header_is_where_the_job_file_says(
    run: Run, book: Spreadsheet, more: str, columns: list[str], rows: list[tuple[Any, ...]]
) -> None:
    book.add("S", [["title"], [], ["a", "b"], ["x", 1], ["y", 2]])
    answer = run("  sheets.S:", more=more)
    if "ranges" in more:
        columns = ["x", "1"]
    assert answer.code == 0, answer.err
    assert list(run.columns("s")) == [name if not name[0].isdigit() else f"_{name}" for name in columns]
    assert sorted(run.rows("s"), key=str) == sorted(rows, key=str)


def test_headers_that_are_no_text_are_still_names(run: Run, book: Spreadsheet) -> None:
    book.add("S", [[dt.date(2026, 1, 1), 2026, True, Cell(0.5, "PERCENT"), " a\nb "], ["x", 1, 2, 3, 4]])
    assert run("  sheets.S:").code == 0
    assert len(run.columns("s")) == 5
    assert run.rows("s") == [("x", 1, 2, 3, 4)]


def test_which_tables_there_are(run: Run, book: Spreadsheet) -> None:
    book.add("First", [["a"], [1], ["x"], [9]])
    book.add("It's #2", [["b"], [2]])
    book.add("Hidden", [["c"], [3]], hidden=True)
    book.add("Empty")
    book.add("Chart", kind="OBJECT")
    book.add("A1", [["d"], [4]])
    book.named["rates"] = "First!A3:A4"
    plan = run(command="plan")
    assert plan.code == 0, plan.err
    for name in ("First", "It's #2", "A1", "rates"):
        assert f"sheets.{name}" in plan.out
    for name in ("Hidden", "Empty", "Chart"):
        assert f"sheets.{name}" not in plan.out
    done = run()
    assert done.code == 0
    assert "planned anew" not in done.err
    assert run.project.query("select * from raw.a1") == [(4,)]
    assert run.project.query("select x from raw.rates") == [(9,)]
    assert run.project.query("select a from raw.first order by 1") == [("1",), ("9",), ("x",)]
    more = run(more=", include_hidden: true, named_ranges: false", command="plan").out
    assert "sheets.Hidden" in more
    assert "sheets.rates" not in more


def test_several_spreadsheets_are_told_apart_by_their_names(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    book.add("Data", [["a"], [1]])
    double.add("book2", "Actuals", _LOADER).add("Data", [["a"], [2]])
    url = "https://docs.google.com/spreadsheets/d/book2/edit?gid=0"
    answer = run(books=f'[book1, "{url}"]')
    assert answer.code == 0, answer.err
    assert (run.rows("budget_data"), run.rows("actuals_data")) == ([(1,)], [(2,)])


def test_merged_cells_are_filled_where_that_is_asked(run: Run, book: Spreadsheet) -> None:
    sheet = book.add("S", [["g", "k"], ["north", 1], [None, 2], [None, 3], ["south", 4]])
    sheet.merge(1, 0, 4, 1)
    assert run("  sheets.S:").code == 0
    assert run.rows("s", "k") == [("north", 1), (None, 2), (None, 3), ("south", 4)]
    # Windows of two rows: none of them begins inside the merged cells.
    filled = run("  sheets.S:", "--full-refresh", more=", merged: fill", chunk_rows=2)
    assert filled.code == 0
    assert "planned anew" not in filled.err
    assert run.rows("s", "k") == [("north", 1), ("north", 2), ("north", 3), ("south", 4)]


def test_an_error_fails_its_table_and_names_the_cell(run: Run, book: Spreadsheet) -> None:
    book.add("Bad", [["a", "b"], [1, "x"], [2, error("#DIV/0!", "=1/0")], [3, "#N/A"]])
    book.add("Good", [["a"], [1]])
    book.add("Text", [["t"], ["#N/A"], ["x"]])
    answer = run()
    assert answer.code == 1
    assert run.rows("text") == [("#N/A",), ("x",)], "no error, and of no concern"
    assert answer.out.count("1 failed") + answer.err.count("1 failed") >= 1
    assert "sheets.Text: planned anew" not in answer.err
    assert "'Bad'!B3 (b) has the error #DIV/0!" in answer.out + answer.err
    assert run.rows("good") == [(1,)]
    assert run('  sheets.Bad: {special: "null"}').code == 0
    assert run.rows("bad") == [(1, "x"), (2, None), (3, "#N/A")], "text that looks like an error is text"
    assert run("  sheets.Bad: {columns: {b: text}}", "--full-refresh").code == 0
    assert run.rows("bad") == [(1, "x"), (2, "#DIV/0!"), (3, "#N/A")]


def test_rules_apply_to_the_text_of_a_cell(run: Run, book: Spreadsheet) -> None:
    book.add("S", [["d", "n", "m"], [dt.date(2026, 1, 2), 1.5, "secret"]])
    assert run("  sheets.S: {columns: {d: text, n: text, m: mask}}").code == 0
    assert run.rows("s") == [("2026-01-02", "1.5", "***")]


@pytest.mark.parametrize("chunk_rows", [500, 1])
def test_a_header_that_always_changes_fails_its_table(
    run: Run, double: SheetsDouble, book: Spreadsheet, chunk_rows: int
) -> None:
    sheet = book.add("S", [["id", "v"], [1, 1], [2, 2]])
    numbers = itertools.count()
    double.between = lambda _: sheet.put(0, 1, f"at {next(numbers)}")
    answer = run("  sheets.S:", chunk_rows=chunk_rows)
    assert answer.code == 1
    assert "altered while it was read" in answer.out + answer.err


def test_a_column_of_text_takes_whatever_a_formula_makes_of_it(
    run: Run, double: SheetsDouble, book: Spreadsheet
) -> None:
    sheet = book.add("S", [["id", "v"], [1, 1], [2, 2]])
    double.between = lambda request: sheet.put(1, 1, "text" if "effectiveFormat" in request else 1)
    assert run("  sheets.S:").code == 1, "it never is what it was"
    assert run("  sheets.S: {columns: {v: text}}", "--full-refresh").code == 0
    assert run.rows("s") == [(1, "text"), (2, "2")]


def test_small_sheets_are_read_together(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    for number in range(20):
        book.add(f"Sheet {number}", [["n"], [number]], rows=50, columns=4)
    answer = run()
    assert answer.code == 0, answer.err
    assert [run.rows(f"sheet_{number}") for number in range(20)] == [[(number,)] for number in range(20)]
    assert "planned anew" not in answer.err
    assert double.count("fields=properties") == 1
    assert double.count("effectiveFormat") <= 2
    assert double.count("values:batchGet") <= 4
    assert double.count("/token") == 1


def _big(book: Spreadsheet, rows: int = 5000) -> Any:
    sheet = book.add("Big", [["id", "text"]])
    return sheet.fill([[row, f"row {row}"] for row in range(rows)], top=1)


def test_long_sheets_are_read_in_windows(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    _big(book)
    answer = run(more=", cells: 2000")
    assert answer.code == 0, answer.err
    assert run.rows("big") == [(row, f"row {row}") for row in range(5000)]
    values = [one for one in double.seen if "values:batchGet" in one.path and "UNFORMATTED" in one.query]
    assert len(values) == 6  # one of them for the header
    assert max(double.sizes) < 150_000


def test_what_was_deleted_and_changed_is_gone_with_the_next_run(run: Run, book: Spreadsheet) -> None:
    sheet = book.add("S", [["id", "v"], [1, "a"], [2, "b"], [3, "c"]])
    assert run().code == 0
    sheet.remove(2)
    sheet.put(1, 1, "z")
    sheet.put(3, 0, 4)
    sheet.put(0, 2, "new")
    sheet.put(3, 2, True)
    assert run().code == 0
    assert run.rows("s") == [(1, "z", None), (3, "c", None), (4, None, True)]


def _once(double: SheetsDouble, when: Callable[[str], bool], change: Callable[[], None]) -> None:
    """Change something after the first answer to a request like that."""
    left = [True]

    def between(request: str) -> None:
        if left[0] and when(request):
            left[0] = False
            change()

    double.between = between


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda sheet: sheet.put(1, 0, "now text"), [("now text", "a"), ("2", "b")]),
        (lambda sheet: sheet.put(0, 0, "renamed"), [(1, "a"), (2, "b")]),
        (lambda sheet: sheet.put(2, 2, 5.5), [(1, "a", None), (2, "b", 5.5)]),
        (lambda sheet: sheet.put(2, 0, error("#REF!")), None),
        (lambda sheet: sheet.insert(0), [(1, "a"), (2, "b")]),
        (lambda sheet: sheet.put(3, 0, 3), [(1, "a"), (2, "b"), (3, None)]),  # without a value: last
    ],
)
@pytest.mark.parametrize("chunk_rows", [500, 1])
def test_a_sheet_that_changes_between_looking_and_reading_is_planned_anew(
    run: Run, double: SheetsDouble, book: Spreadsheet, change: Any, rows: list[tuple[Any, ...]] | None, chunk_rows: int
) -> None:
    sheet = book.add("S", [["id", "v"], [1, "a"], [2, "b"]])
    _once(double, lambda request: "effectiveFormat" in request, lambda: change(sheet))
    answer = run("  sheets.S:", chunk_rows=chunk_rows)
    if rows is None:
        assert answer.code == 1
        assert "'S'!A3 (id) has the error #REF!" in answer.out + answer.err
        return
    assert answer.code == 0, answer.err
    assert run.rows("s", "2") == rows
    assert ("renamed" in run.columns("s")) == (sheet.at(0, 0).value == "renamed")


@pytest.mark.parametrize("change", ["insert", "remove", "replace"])
def test_rows_that_move_while_windows_are_read_are_neither_lost_nor_doubled(
    run: Run, double: SheetsDouble, book: Spreadsheet, change: str
) -> None:
    sheet = _big(book)
    expected = [(row, f"row {row}") for row in range(5000)]

    def move() -> None:
        if change == "insert":
            sheet.insert(1)
            sheet.put(1, 0, -1)
            expected.insert(0, (-1, None))  # type: ignore[arg-type]
        elif change == "remove":
            sheet.remove(1)
            del expected[0]
        else:
            sheet.remove(1)
            sheet.insert(5000)
            sheet.fill([[9999, "moved"]], top=5000)
            expected[:] = [*expected[1:], (9999, "moved")]

    # After the first window, and not after the header alone.
    _once(double, lambda request: "UNFORMATTED" in request and "A1%3A" not in request, move)
    answer = run(more=", cells: 2000", chunk_rows=1000)
    assert answer.code == 0, answer.err
    assert run.rows("big") == expected


def test_formulas_that_never_stay_the_same_do_not_look_like_moved_rows(
    run: Run, double: SheetsDouble, book: Spreadsheet
) -> None:
    sheet = book.add("Live", [["id", "now"]])
    sheet.fill([[row, Cell(row, formula="=RAND()")] for row in range(3000)], top=1)
    numbers = iter(range(10**9))

    def recalculate(_: str) -> None:
        for row in range(1, 3001, 100):
            sheet.put(row, 1, Cell(next(numbers), formula="=RAND()"))

    double.between = recalculate
    answer = run(chunk_rows=500)
    assert answer.code == 0, answer.err
    assert [row[0] for row in run.rows("live")] == list(range(3000))


@pytest.mark.parametrize("request_of", ["effectiveFormat", "values:batchGet"])
@pytest.mark.parametrize("kind", ["storm", "503", "reset", "cut", "truncated_gzip", "error in 200", "no JSON", "short"])
def test_faults_of_the_server_are_overcome(
    run: Run, double: SheetsDouble, book: Spreadsheet, kind: str, request_of: str
) -> None:
    book.add("S", [["id", "v"], *([row, "v" * 50] for row in range(500))])
    quota = exhausted(60, "1").body
    unavailable = {"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}
    if kind == "storm":
        double.fail("status", request_of, status=429, body=quota, times=4)
    elif kind == "503":
        double.fail("status", request_of, status=503, body=unavailable, times=2)
    elif kind == "error in 200":
        double.fail("body", request_of, body=unavailable)
    elif kind == "no JSON":
        double.fail("body", request_of, body='{"sheets": [', headers={"Content-Type": "application/json"})
    elif kind == "short":
        double.fail("body", request_of, body={})
    else:
        double.fail(kind, request_of)  # type: ignore[arg-type]
    answer = run("  sheets.S:")
    assert answer.code == 0, answer.err
    assert run.rows("s") == [(row, "v" * 50) for row in range(500)]


def test_the_quota_of_a_minute_is_waited_out(project: Project, cli: Cli) -> None:
    began = time.time()
    # Its minutes are a fifth of a second long.
    with SheetsDouble(now=lambda: began + (time.time() - began) * 300) as double:
        book = double.add("book1", "Budget", _LOADER)
        _big(book)
        double.per_minute = 5
        run = Run(project, cli, double)
        answer = run(more=", cells: 1000", pause="70ms")
        assert answer.code == 0, answer.err
        assert len(run.rows("big")) == 5000
        assert double.count(status=429) >= 3
        assert double.count("values:batchGet", status=200) == 22


def test_a_token_that_ends_in_mid_run_is_renewed(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    _big(book)
    _once(double, lambda request: "UNFORMATTED" in request, double.tokens.revoke)
    answer = run(more=", cells: 2000")
    assert answer.code == 0, answer.err
    assert len(run.rows("big")) == 5000
    assert double.count("/token") == 2
    assert double.count(status=401) >= 1


def test_a_user_who_consented_reads_what_is_shared_with_them(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    book.add("S", [["a"], [1]])
    book.shared = {"user@acme.com"}
    run.project.environ["REFRESH"] = double.tokens.consent("user@acme.com", "the-client", "the-secret-of-it")
    more = f', client_id: the-client, client_secret: the-secret-of-it, refresh_token: "${{REFRESH}}", token_url: "{double.token_url}"'
    run.project.job(
        _JOB.format(url=double.url, tables="  sheets.S:", more=more, books="book1", chunk_rows=1, pause="10ms").replace(
            'service_account: "${SHEETS_KEY}", ', ""
        )
    )
    answer = run._cli("backfill", "job.yml")
    assert answer.code == 0, answer.err
    assert run.rows("s") == [(1,)]


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda double: double.tokens.keys.clear(), 2, "account not found"),
        (lambda double: double.files["book1"].shared.clear(), 1, f"Share the spreadsheet with {_LOADER}"),
        (lambda double: double.files.clear(), 1, "Requested entity was not found"),
        (lambda double: setattr(double, "enabled", False), 1, "Enable the Google Sheets API"),
        (lambda double: setattr(double.files["book1"], "office", True), 1, "save it as Google Sheets"),
        (
            lambda double: double.fail("status", "spreadsheets", status=401, body=unauthenticated().body, times=99),
            2,
            "invalid authentication",
        ),
    ],
)
def test_what_is_refused_is_said_with_advice_and_without_secrets(
    run: Run, double: SheetsDouble, book: Spreadsheet, spoil: Any, code: int, words: str
) -> None:
    book.add("S", [["a"], [1]])
    spoil(double)
    answer = run("  sheets.S:")
    said = answer.out + answer.err
    assert answer.code in (1, 2)
    assert words in said
    secret = json.loads(run.project.environ["SHEETS_KEY"])["private_key"]
    for line in secret.splitlines()[1:3]:
        assert line not in said
        assert not any(
            line in file.read_text("utf-8", "replace") for file in run.project.folder.rglob(".runner/**/*.jsonl")
        )
    assert answer.code == code or code == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{mode: incremental, cursor: id, key: [id]}", "a sheet has no cursor"),
        ('{where: "id > 1"}', "a sheet has no cursor"),
    ],
)
def test_what_a_sheet_cannot_do_is_refused(run: Run, book: Spreadsheet, entry: str, words: str) -> None:
    book.add("S", [["id"], [1]])
    answer = run(f"  sheets.S: {entry}")
    assert answer.code == 1
    assert words in answer.out + answer.err


def test_a_table_that_nobody_has_is_no_table_to_say_something_about(run: Run, book: Spreadsheet) -> None:
    book.add("S", [["id"], [1]])
    answer = run(more=", ranges: {Peple: {header: none}}")
    assert answer.code == 2
    assert "no sheet and no named range 'Peple'" in answer.out + answer.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (', ranges: {x: "Nowhere!A1:B"}', "'Nowhere!A1:B' leads nowhere"),
        (', ranges: {x: "S!A0:B"}', "'S!A0:B' leads nowhere"),
        (', ranges: {x: "S!X1:Z"}', "no cell in its range"),
        (', ranges: {x: {range: "S!A1:B", header: 2000}}', "none from its header on"),
    ],
)
def test_a_range_that_leads_nowhere_is_one_bad_table(run: Run, book: Spreadsheet, more: str, words: str) -> None:
    book.add("S", [["id"], [1]])
    answer = run(more=more)
    assert answer.code == 1
    assert words in answer.out + answer.err
    assert run.rows("s") == [(1,)]


def test_a_spreadsheet_that_is_not_shared_takes_no_other_with_it(
    run: Run, double: SheetsDouble, book: Spreadsheet
) -> None:
    book.add("Data", [["a"], [1]])
    double.add("book2", "Private").add("Data", [["a"], [2]])
    answer = run(books="[book2, book1]")
    assert answer.code == 1
    assert f"Share the spreadsheet with {_LOADER}" in answer.out + answer.err
    assert run.rows("budget_data") == [(1,)]


def test_columns_may_change_their_types_from_run_to_run(run: Run, book: Spreadsheet) -> None:
    sheet = book.add("S", [["id"]])
    seen = []
    for value in (None, 1, dt.date(2026, 1, 2), "text"):
        sheet.put(1, 0, value)
        assert run().code == 0
        seen.append(run.rows("s"))
    assert seen == [[], [(1,)], [(dt.date(2026, 1, 2),)], [("text",)]]


def test_history_is_kept_of_sheets_that_have_a_key(run: Run, book: Spreadsheet) -> None:
    sheet = book.add("S", [["id", "v"], [1, "a"], [2, "b"]])
    assert run("  sheets.S: {mode: snapshot, key: [id]}").code == 0
    sheet.put(1, 1, "z")
    sheet.remove(2)
    assert run("  sheets.S: {mode: snapshot, key: [id]}").code == 0
    query = "select id, v, _dlt_valid_to is null from raw.s order by id, _dlt_valid_from"
    assert run.project.query(query) == [(1, "a", False), (1, "z", True), (2, "b", False)]


def test_what_arrived_can_be_compared_with_the_sheet(run: Run, book: Spreadsheet) -> None:
    sheet = book.add("S", _PEOPLE)
    _big(book)
    assert run().code == 0
    assert run(command="verify").code == 0
    sheet.put(1, 1, 43)
    answer = run(command="verify")
    assert "changed since" in answer.out + answer.err


def test_doctor_says_whether_it_can_be_read(run: Run, double: SheetsDouble, book: Spreadsheet) -> None:
    book.add("S", [["a"], [1]])
    fine = run(command="doctor")
    assert fine.code == 0, fine.out
    assert "1 tables can be read" in fine.out
    double.tokens.keys.clear()
    assert "account not found" in run(command="doctor").out


@pytest.mark.parametrize("exact", [True, False])
async def test_it_keeps_the_rules_of_the_port(double: SheetsDouble, book: Spreadsheet, exact: bool) -> None:
    book.add("S", [["id", "v"], *([row, f"row {row}" if exact or row else "#N/A"] for row in range(300))])
    options = {"spreadsheets": "book1", "service_account": double.account(), "api_url": double.url}
    found = await conformance(lambda: SheetsSource(dict(options)), "sheets.S", small=100)
    assert (found.rows, found.chunks, found.mark) == (300, 3, None)
    assert (double.count("effectiveFormat") > 5) is not exact


def test_nothing_blocks_the_loop(run: Run, book: Spreadsheet) -> None:
    _big(book)
    book.add("Small", [["a"], [1]])
    with blockbuster_ctx(scanned_modules=["runner", "connectors"]):
        answer = run(more=", cells: 2000")
    assert answer.code == 0, answer.err + answer.out
