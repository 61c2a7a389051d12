"""Conditions and templates over an event's values."""

import pytest

from runner.errors import UsageError
from sensors.condition import Condition
from sensors.templates import check, render

VALUES = {
    "name": "orders.csv",
    "size": 12,
    "row": {"id": 7, "state": "ready"},
    "files": ["a", "b"],
    "nothing": None,
    "amount": "12.50",
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("size > 10 and endswith(name, '.csv')", True),
        ("size > 10 and not startswith(name, 'orders')", False),
        ("row['state'] in ['ready', 'done']", True),
        ("matches(name, '^ord.*\\\\.csv$')", True),
        ("len(files) == 2", True),
        ("nothing == None", True),
        ("float(amount) >= 12.5", True),
        ("$.row[?(@.state == 'ready')]", False),
        ("$.row.state", True),
        ("$.nothing", False),
        ("$.missing", False),
        ("$.files[*]", True),
    ],
)
def test_conditions(text, holds):
    assert Condition(text).holds(VALUES) is holds


@pytest.mark.parametrize(
    "text",
    [
        "size >",
        "$..[",
        "import os",
        "__import__('os')",
        "(lambda: 1)()",
        "row.__class__.__mro__",
        "open('/etc/passwd')",
    ],
)
def test_what_is_no_condition(text):
    with pytest.raises(UsageError, match="condition"):
        Condition(text).holds(VALUES)


def test_a_name_that_there_is_not():
    with pytest.raises(UsageError, match="Known are amount, files"):
        Condition("sise > 1").holds(VALUES)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{name}", "orders.csv"),
        ("{size}", 12),
        ("{files}", ["a", "b"]),
        ("n={size:03d}, {row[state]}", "n=012, ready"),
        ("{row[id]}", 7),
        ("{row.id}", 7),
        ("{files[1]}", "b"),
        ("-{row.state}-{files.0}", "-ready-a"),
        ("{{name}}", "{name}"),
        ({"a": ["{size}", 1, None], "b": {"c": "x{name}"}}, {"a": [12, 1, None], "b": {"c": "xorders.csv"}}),
        (5, 5),
    ],
)
def test_templates(template, filled):
    assert render(template, VALUES) == filled


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{nam}", "Did you mean 'name'"),
        ("{row[nothing]}", "names 'nothing'"),
        ("{size[0]}", "cannot be filled in"),
        ("{files[9]}", "cannot be filled in"),
        ("{name.__class__}", "cannot be filled in"),
        ("{row.__class__}", "names '__class__'"),
        ("{name:d}", "cannot be filled in"),
    ],
)
def test_templates_that_cannot_be_filled_in(template, problem):
    with pytest.raises(UsageError, match=problem):
        render(template, VALUES)


def test_a_brace_too_many_is_found_before_anything_runs():
    with pytest.raises(ValueError, match="a brace that is meant is doubled"):
        check({"a": ["{name"]})
