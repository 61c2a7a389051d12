"""Google Sheets without a server: names of ranges and columns, cells and types, the keys of the source."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.sheets import cells
from connectors.sheets.a1 import Area, bounds, letters, number, unquoted
from connectors.sheets.cells import Fault, Fraction, Misfit, Moment
from connectors.sheets.config import SheetsConfig
from connectors.sheets.infer import Shape, unique
from connectors.sheets.layout import cut, fill

_KEY = {"client_email": "a@b", "private_key": "PEM-not-to-be-told"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A1", (0, 0, 1, 1)),
        ("b2:D10", (1, 1, 10, 4)),
        ("D10:B2", (1, 1, 10, 4)),
        ("A2:C", (1, 0, None, 3)),
        ("A:C", (0, 0, None, 3)),
        ("2:5", (1, 0, 5, None)),
        ("A0", None),
        ("A", None),
        ("A1:2", None),
        ("", None),
        (":", None),
        ("A1:B2:C3", None),
    ],
)
def test_bounds_of_a_range(text: str, found: Any) -> None:
    assert bounds(text) == found


def test_columns_and_titles_are_written_as_sheets_writes_them() -> None:
    assert [letters(one) for one in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
    assert all(number(letters(one)) == one for one in range(0, 18278, 7))
    assert Area("It's 1", 4, 1, 9, 3).rows(4, 9) == "'It''s 1'!B5:C9"
    assert Area("A1", 0, 0, 9, 3).rows(2, None) == "'A1'!A3:C"
    assert unquoted("'It''s 1'") == "It's 1"


@pytest.mark.parametrize(
    ("titles", "names"),
    [
        (["a", "", "c", ""], ["a", "column_2", "c", "column_4"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "A"], ["a", "A_2"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["column_2", ""], ["column_2", "column_2_2"]),
    ],
)
def test_names_of_columns_are_predictable(titles: list[str], names: list[str]) -> None:
    assert unique(titles) == names


@pytest.mark.parametrize(
    ("data", "cell"),
    [
        ({}, None),
        ({"effectiveFormat": {"numberFormat": {"type": "DATE"}}}, None),
        ({"effectiveValue": {"stringValue": ""}}, None),
        ({"effectiveValue": {"numberValue": 3.0}}, 3),
        ({"effectiveValue": {"numberValue": 2**53 * 2.0}}, 2**53 * 2.0),
        ({"effectiveValue": {"boolValue": False}}, False),
        ({"effectiveValue": {"errorValue": {"type": "N_A"}}}, Fault("#N/A")),
        ({"effectiveValue": {"numberValue": 2}, "effectiveFormat": {"numberFormat": {"type": "PERCENT"}}}, Fraction(2)),
        (
            {"effectiveValue": {"numberValue": 2}, "effectiveFormat": {"numberFormat": {"type": "DATE"}}},
            Moment("date", 2.0),
        ),
        ({"effectiveValue": {"numberValue": 3e6}, "effectiveFormat": {"numberFormat": {"type": "DATE"}}}, 3_000_000),
    ],
)
def test_a_cell_is_what_its_value_and_its_format_say(data: dict[str, Any], cell: Any) -> None:
    found = cells.from_data(data)
    assert (found, type(found)) == (cell, type(cell))


@pytest.mark.parametrize(
    ("cell", "wanted", "value"),
    [
        (Moment("date", 1.0), "date", "1899-12-31"),
        (Moment("date", -693_593.0), "date", "0001-01-01"),
        (Moment("date", 2_958_465.0), "date", "9999-12-31"),
        (Moment("date", 46024.5), "timestamp", "2026-01-02T12:00:00"),
        (Moment("timestamp", 46024.12783564815), "timestamp", "2026-01-02T03:04:05"),
        (Moment("timestamp", 46024.12784349537), "timestamp", "2026-01-02T03:04:05.678000"),
        (Moment("date", 46024.0), "timestamp", "2026-01-02T00:00:00"),
        (Moment("time", 0.5), "time", "12:00:00"),
        (Moment("time", 0.9999999999), "time", "23:59:59.999999"),
        (Moment("time", 1.5), "duration", 1.5),
        (Fraction(1.0), "float", 1.0),
        (7, "float", 7.0),
        (Moment("date", 46024.0), "mixed", "2026-01-02"),
        (Fraction(1.0), "mixed", "1"),
        (1.5, "mixed", "1.5"),
        (True, "mixed", "true"),
        ("5", "mixed", "5"),
        (None, "int", None),
    ],
)
def test_values_of_a_column(cell: Any, wanted: str, value: Any) -> None:
    assert cells.convert(cell, wanted, loose=False) == value


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("x", "int"),
        (True, "int"),
        (1, "boolean"),
        (1.5, "int"),
        (1, "text"),
        (46024, "date"),
        (Moment("date", 46024.5), "date"),
        (Moment("date", 46024.0), "int"),
        (Moment("time", 0.5), "timestamp"),
        (Moment("time", 1.5), "time"),
    ],
)
def test_what_does_not_belong_into_a_column(cell: Any, wanted: str) -> None:
    with pytest.raises(Misfit):
        cells.convert(cell, wanted, loose=False)


@pytest.mark.parametrize(("number", "wanted"), [(1.5, "date"), (1.5, "time"), (True, "date"), (3e6, "timestamp")])
def test_numbers_that_are_no_dates_do_not_become_any(number: Any, wanted: str) -> None:
    assert cells.convert(46024, "date", loose=True) == "2026-01-02"
    with pytest.raises(Misfit):
        cells.convert(number, wanted, loose=True)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([1, Fraction(2.0)], "float"),
        ([True, None], "boolean"),
        ([True, 1], "mixed"),
        (["a", 1], "mixed"),
        ([None, None], "text"),
        ([Moment("date", 1.0)], "date"),
        ([Moment("date", 1.0), Moment("timestamp", 1.5)], "timestamp"),
        ([Moment("date", 1.5)], "timestamp"),
        ([Moment("time", 0.5)], "time"),
        ([Moment("time", 0.5), Moment("time", 2.0)], "duration"),
        ([Moment("date", 1.0), 2], "mixed"),
        ([Moment("date", 1.0), Moment("time", 0.5)], "mixed"),
        ([Fault("#REF!"), 1], "int"),
    ],
)
def test_a_column_has_the_type_of_all_its_cells(column: list[Any], kind: str) -> None:
    shape = Shape(header=["n"])
    for row, cell in enumerate(column):
        shape.see(row, [cell, "beside"])
    assert shape.described(None)[0].native == kind


def test_empty_columns_at_the_end_and_empty_rows_are_none() -> None:
    shape = Shape(header=["a", None, None])
    for row, line in enumerate([[1, None, None], [], [None, None], [None, 2]]):
        shape.see(row, line)
    assert [column.name for column in shape.described(None)] == ["a", "column_2"]
    assert (shape.filled, shape.last) == (2, 4)
    assert [column.name for column in shape.described(["x"])] == ["x", "column_2"]


def test_merged_cells_are_never_cut() -> None:
    merges = [(0, 0, 3, 1), (2, 1, 6, 2), (8, 0, 9, 4)]
    assert [cut(merges, row, 20) for row in (0, 1, 3, 6, 8, 19, 30)] == [0, 6, 6, 6, 8, 19, 20]


def test_merged_cells_hold_what_the_first_of_them_does() -> None:
    rows = [["a", "b"], [], ["c"]]
    assert fill(rows, [(10, 0, 12, 1), (12, 0, 13, 3), (13, 0, 14, 1)], 10, 0) == [["a", "b"], ["a"], ["c", "c", "c"]]


@pytest.mark.parametrize("form", ["dict", "json", "base64", "path"])
def test_a_key_is_taken_in_any_form(form: str, tmp_path: Path) -> None:
    text = json.dumps(_KEY)
    path = tmp_path / "key.json"
    path.write_text(text)
    given = {"dict": _KEY, "json": text, "base64": base64.b64encode(text.encode()).decode(), "path": str(path)}[form]
    url = "https://docs.google.com/spreadsheets/d/1Ab-_9/edit#gid=0"
    config = SheetsConfig.model_validate({"spreadsheets": url, "service_account": given})
    assert config.service_account == _KEY
    assert config.spreadsheets == ["1Ab-_9"]
    assert "PEM" not in repr(config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "spreadsheets"),
        ({"spreadsheets": []}, "spreadsheets"),
        ({"spreadsheets": "a b"}, "neither the id nor the URL"),
        ({"spreadsheets": ["x", "https://docs.google.com/spreadsheets/d/x/edit"]}, "named twice"),
        ({"spreadsheets": "x"}, "needs service_account"),
        ({"spreadsheets": "x", "service_account": None, "client_id": "c"}, "needs service_account"),
        ({"spreadsheets": "x", "service_account": _KEY, "client_id": "c"}, "give one of them"),
        ({"spreadsheets": "x", "service_account": {"client_email": "a@b"}}, "lacks private_key"),
        ({"spreadsheets": "x", "service_account": "/nowhere/PEM-not.json"}, "nor a file"),
        ({"spreadsheets": "x", "service_account": "{PEM-not"}, "no JSON"),
        ({"spreadsheets": "x", "service_account": _KEY, "header": 0}, "header"),
        ({"spreadsheets": "x", "service_account": _KEY, "header": "second"}, "header"),
        ({"spreadsheets": "x", "service_account": _KEY, "merged": "copy"}, "merged"),
        ({"spreadsheets": "x", "service_account": _KEY, "sheet": "a"}, "sheet"),
        ({"spreadsheets": "x", "service_account": _KEY, "ranges": {"a": {"rnge": "A1"}}}, "rnge"),
    ],
)
def test_keys_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SheetsConfig.model_validate(options)
