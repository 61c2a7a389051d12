"""Ranges of dates are cut into parts that touch and do not overlap."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.launching.ranges import UNITS, Part, cut, left_out, parse_range
from runner.errors import UsageError


def parts(text: str, by: str) -> list[str]:
    return [str(part) for part in cut(parse_range(text), by)]


@pytest.mark.parametrize(
    ("text", "by", "expected"),
    [
        ("2024-01-01..2024-04-01", "month", ["2024-01-01..2024-02-01", "2024-02-01..2024-03-01", "2024-03-01..2024-04-01"]),
        ("2024-01-31..2024-03-02", "month", ["2024-01-31..2024-02-01", "2024-02-01..2024-03-01", "2024-03-01..2024-03-02"]),
        ("2023-12-15..2024-01-15", "month", ["2023-12-15..2024-01-01", "2024-01-01..2024-01-15"]),
        ("2024-02-28..2024-03-01", "day", ["2024-02-28..2024-02-29", "2024-02-29..2024-03-01"]),
        ("2023-02-28..2023-03-01", "day", ["2023-02-28..2023-03-01"]),
        ("2024-01-03..2024-01-16", "week", ["2024-01-03..2024-01-08", "2024-01-08..2024-01-15", "2024-01-15..2024-01-16"]),
        ("2024-02-15..2024-08-01", "quarter", ["2024-02-15..2024-04-01", "2024-04-01..2024-07-01", "2024-07-01..2024-08-01"]),
        ("2023-07-01..2025-01-01", "year", ["2023-07-01..2024-01-01", "2024-01-01..2025-01-01"]),
        ("2024-02-20..2024-03-12", "10d", ["2024-02-20..2024-03-01", "2024-03-01..2024-03-11", "2024-03-11..2024-03-12"]),
        ("9999-11-01..9999-12-31", "month", ["9999-11-01..9999-12-01", "9999-12-01..9999-12-31"]),
        ("0001-01-01..0001-02-01", "400d", ["0001-01-01..0001-02-01"]),
    ],
)  # fmt: skip
def test_parts(text: str, by: str, expected: list[str]) -> None:
    assert parts(text, by) == expected


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.integers(1, 2000),
    st.one_of(st.sampled_from(UNITS), st.integers(1, 500).map("{}d".format)),
)
def test_parts_hold_every_day_once(start: date, days: int, by: str) -> None:
    whole = Part(start, start + timedelta(days=days))
    found = cut(whole, by)
    assert found[0].start == whole.start
    assert found[-1].end == whole.end
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(one.start < one.end for one in found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2024-01-01", "two dots"),
        ("2024-01-01..", "not a date: ''"),
        ("2024-02-30..2024-03-01", "'2024-02-30'"),
        ("2024-01-01..2024-W05-1", "2024-W05-1"),
        ("20240101..2024-02-01", "20240101"),
        ("2024-01-01..2024-02-01T00:00", "T00:00"),
        ("2024-01-01..2024-01-01", "nothing lies between"),
        ("2024-02-01..2024-01-01", "nothing lies between"),
    ],
)
def test_what_is_no_range_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_range(text)


@pytest.mark.parametrize(("by", "says"), [("mounth", "'month'"), ("0d", "no such part"), ("d", "no such part")])
def test_what_is_no_part_is_refused(by: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        cut(parse_range("2024-01-01..2024-02-01"), by)


def test_too_many_parts_are_refused() -> None:
    assert len(cut(parse_range("2000-01-01..2020-01-01"), "day")) == 7305
    with pytest.raises(UsageError, match="more than 10,000"):
        cut(parse_range("1900-01-01..2020-01-01"), "day")


@pytest.mark.parametrize(
    ("text", "by", "day"),
    [
        ("2024-01-01..2024-06-30", "month", date(2024, 6, 30)),
        ("2024-01-01..2024-07-01", "month", None),
        ("2024-01-01..2024-12-31", "year", date(2024, 12, 31)),
        ("2024-01-01..2024-06-30", "day", None),
        ("2024-01-01..2024-06-30", "10d", None),
        ("2024-01-01..9999-12-31", "year", None),
        ("9999-12-27..9999-12-31", "week", None),
    ],
)
def test_the_last_day_that_was_most_likely_meant(text: str, by: str, day: date | None) -> None:
    assert left_out(parse_range(text), by) == day
