"""Every type, moved everywhere and compared value by value; and the page that says so is up to date."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.testing.fidelity.alltypes import GROUPS, Way
from connectors.testing.fidelity.compare import is_same
from connectors.testing.fidelity.edges import NAMES, SPECIALS
from connectors.testing.fidelity.measure import Findings
from connectors.testing.fidelity.page import VERSION, document, measured
from connectors.testing.fidelity.places import Arrival
from connectors.testing.server import PostgresServer

PAGE = Path(__file__).parents[2] / "connectors" / "FIDELITY.md"
PLACES = ("DuckDB", "PostgreSQL", "Parquet")


@pytest.fixture(scope="module")
def findings(server: PostgresServer) -> Findings:
    return measured(server)


def arrivals(findings: Findings, table: str) -> list[Arrival]:
    return [findings.arrived[place][table] for place in PLACES]


def test_nothing_arrives_changed(findings: Findings) -> None:
    assert findings.problems == {}


def test_the_page_is_up_to_date(findings: Findings) -> None:
    if findings.version != VERSION:
        pytest.skip(f"the page is about PostgreSQL {VERSION}")
    assert PAGE.read_text("utf-8") == document(findings), "out of date: run `make generate`"


@pytest.mark.parametrize("place", PLACES)
def test_the_source_itself_agrees_with_every_value(findings: Findings, place: str) -> None:
    # The backfill ran with --verify source: three systems hashed the same values alike.
    run = findings.runs[place]["types"]
    assert (run.code, run.failed) == (0, {})
    wanted = {f"kept.{case.table}" for group in GROUPS.values() for case in group if case.since <= findings.version}
    assert wanted <= set(run.published)


@pytest.mark.parametrize("place", PLACES)
def test_values_that_need_a_policy_fail_their_own_table_only(findings: Findings, place: str) -> None:
    run = findings.runs[place]["policies"]
    assert run.code == 1
    policies = {f"{schema}.{one.table}" for one in SPECIALS for schema in ("nulled", "texted")}
    assert policies - set(run.published) == ({"nulled.json"} if place == "DuckDB" else set())
    assert "an unexpected" not in " ".join(run.failed.values()).lower()


def test_no_rows(findings: Findings) -> None:
    for arrival in arrivals(findings, "shapes.no_rows"):
        assert list(arrival.types) == ["id", "a", "b", "c", "d"]
        assert arrival.rows == []


def test_one_column_and_no_key(findings: Findings) -> None:
    for arrival in arrivals(findings, "shapes.one_column"):
        assert sorted(arrival.rows, key=str) == sorted([("\ufeff",), ("",), (None,), ("\\.",), ("",)], key=str)


def test_a_thousand_columns(findings: Findings) -> None:
    for arrival in arrivals(findings, "shapes.wide"):
        assert len(arrival.types) == 1000
        by_id = {row[0]: row for row in arrival.rows}
        assert by_id[2] == (2, *[None] * 999)
        assert by_id[1][:3] == (1, -500, "text 1")
        assert by_id[1][991:] == (490, "text 991", Decimal("9.92"), False, *by_id[1][995:])
        assert by_id[1][997] == datetime.date(2024, 1, 1) + datetime.timedelta(days=996)


def test_every_character_of_unicode(findings: Findings) -> None:
    for arrival in arrivals(findings, "shapes.every_character"):
        text = "".join(value for value, _ in sorted(arrival.rows, key=lambda row: row[1]))
        assert text == "".join(chr(code) for code in range(1, 0x110000) if not 0xD800 <= code <= 0xDFFF)


def test_names(findings: Findings) -> None:
    for place in PLACES:
        assert findings.runs[place]["types"].published["shapes.Order By"] == "shapes__order_by"
    for arrival in arrivals(findings, "shapes.Order By"):
        assert list(arrival.types) == list(NAMES.values())
        assert arrival.rows == [tuple(range(1, len(NAMES) + 1))]


def test_a_table_called_time(findings: Findings) -> None:
    for arrival in arrivals(findings, "shapes.time"):
        assert arrival.rows == [(1, "a")]


@pytest.mark.parametrize("table", ["every_column_dropped", "no_columns", "two_names"])
def test_what_no_table_can_be_made_of(findings: Findings, table: str) -> None:
    for place in PLACES:
        assert f"refused.{table}" in findings.runs[place]["policies"].failed
        assert f"refused.{table}" not in findings.arrived[place]


CHANGED: list[tuple[Way, Any, Any, Any]] = [
    ("value", 0.0, None, -0.0),
    ("value", 0.1, None, 0.10000000149011612),
    ("value", Decimal("1.50"), None, Decimal("1.5")),
    ("value", 1, None, True),
    ("value", "", None, None),
    ("value", datetime.datetime(2024, 1, 1), None, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
    ("text", None, "a ", "a"),
    ("json", None, '{"a": 1}', '{"a":1}'),
    ("array", [1], ["1"], '["1"]'),
    ("array", [1], ["1"], "[1.0]"),
    ("array", [Decimal("1.50")], ["1.50"], "[1.5]"),
    ("array", [float("nan")], ["NaN"], "[null]"),
    ("array", [None], [None], '[""]'),
    ("array", [[1], [2]], [["1"], ["2"]], "[1, 2]"),
    ("array", [], [], "null"),
    ("array", None, None, "[]"),
    ("array of text", None, ["a b"], '["aTb"]'),
    ("array of json", None, ['{"a": 1, "a": 2}'], '[{"a": 2}]'),
]


@pytest.mark.parametrize(("way", "value", "text", "there"), CHANGED)
def test_the_comparison_sees_what_changed(way: Way, value: Any, text: Any, there: Any) -> None:
    assert not is_same(way, value, text, there)
