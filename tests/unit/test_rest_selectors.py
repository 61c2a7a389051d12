"""Rows of an answer: selected, changed by steps, filled into expressions, kept by a window."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from connectors.http import Reply
from connectors.rest.actions import Settled, act
from connectors.rest.columns import as_typed, hinted_times, table_of
from connectors.rest.config import Action, Incremental, Step, read_config
from connectors.rest.cursors import Cursor, ceiling, style_of
from connectors.rest.incremental import Span
from connectors.rest.jsonpaths import JsonPath
from connectors.rest.placeholders import expanded, expanded_params
from connectors.rest.resources import resources
from connectors.rest.selectors import as_row, processed, select
from connectors.rest.usage import usage
from connectors.shapes import Shape
from runner.errors import RequestRefused, SourceError
from runner.source import Window

ZONED = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("$", [1, 2], [1, 2]),
        ("$", {"a": 1}, [{"a": 1}]),
        ("$", None, []),
        ("a.b", {"a": {"b": [1]}}, [1]),
        ("a.b", {"a": []}, []),
        ("a.b", {"a": {"b": None}}, []),
        ("items[*].x", {"items": [{"x": 1}, {"x": 2}]}, [1, 2]),
        ("items[*].x", {"items": [{"x": [3, 4]}]}, [3, 4]),
        ("items[?(@.n > 1)]", {"items": [{"n": 1}, {"n": 2}, {"n": 3}]}, [{"n": 2}, {"n": 3}]),
        ("$..id", {"a": {"id": 1}, "b": [{"id": 2}]}, [1, 2]),
    ],
)
def test_selectors(path: str, data: Any, expected: list[Any]) -> None:
    assert select(path, data) == expected


@pytest.mark.parametrize(
    "path", ["a", "a.b", "a-b.c_d", "where.x", "parent", "a[0].b", "*", "$.a", "a.`this`", '"x.y"."b c"', 'a."b"']
)
def test_paths_are_read_as_the_library_reads_them(path: str) -> None:
    from jsonpath_ng.ext.parser import parse

    samples: list[Any] = [
        {},
        {"a": 1},
        {"a": {"b": [1]}},
        {"a": [{"b": 2}]},
        {"a-b": {"c_d": 3}},
        {"x.y": {"b c": 1}},
        [1],
        None,
        5,
    ]
    try:
        known = parse(path)
    except Exception:
        with pytest.raises(ValueError, match="is no JSONPath"):
            JsonPath(path)
        return
    for sample in samples:
        assert JsonPath(path).find(sample) == [match.value for match in known.find(sample)], sample


def test_what_a_path_finds_has_a_column() -> None:
    assert [JsonPath(path).column for path in ("at", "$.at", "meta.updated.at")] == [
        "at",
        "cursor_at",
        "cursor_meta_updated_at",
    ]


def test_steps_in_their_order_with_whatever_arguments_they_take() -> None:
    steps = [
        Step(filter=lambda row, meta=None: row["n"] != 2),
        Step(map=lambda row: {**row, "m": row["n"] * 10}),
        Step(yield_map=lambda row: iter([row, None, {"n": 0}]) if row["n"] == 1 else None),
        Step(map=lambda row: row if row["n"] else None),
    ]
    assert processed([{"n": 1}, None, {"n": 2}, {"n": 3}], steps, "r") == [{"n": 1, "m": 10}]
    assert as_row("x") == {"value": "x"}
    with pytest.raises(SourceError, match="A map of processing_steps of r failed: KeyError: 'z'"):
        processed([{"n": 1}], [Step(map=lambda row: row["z"])], "r")


def test_expressions() -> None:
    values = {"resources.a.id": 7, "incremental.start_value": None, "x": True}
    assert expanded("p/{resources.a.id:03d}/{{x}}", values) == "p/007/{x}"
    assert expanded({"{x}": ["{resources.a.id}", 5, None]}, values, typed=True) == {True: [7, 5, None]}
    assert expanded({"k": "{x}"}, values) == {"k": "True"}
    assert expanded_params({"since": "{incremental.start_value}", "y": "a{x}", "z": 3}, values) == {
        "y": "aTrue",
        "z": 3,
    }
    with pytest.raises(SourceError, match="cannot be filled in"):
        expanded("{nothing}", values)


@pytest.mark.parametrize(
    ("sample", "mark", "written"),
    [
        ("2024-01-01T00:00:00Z", "2024-02-03 04:05:06.789+00", "2024-02-03T04:05:06Z"),
        ("2024-01-01T00:00:00.000Z", "2024-02-03 04:05:06.789999+00", "2024-02-03T04:05:06.789Z"),
        ("2024-01-01 00:00:00+02:00", "2024-02-03 04:05:06+00", "2024-02-03 04:05:06+00:00"),
        ("2024-01-01T00:00:00.123456+0000", "2024-02-03 04:05:06+00", "2024-02-03T04:05:06.000000+0000"),
        ("2024-01-01", "2024-02-03 04:05:06+00", "2024-02-03"),
        (None, "2024-02-03 04:05:06.5+00", "2024-02-03T04:05:06.500000Z"),
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-02-03 04:05:06+00", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ],
)
def test_a_mark_is_written_as_the_server_writes_times(sample: Any, mark: str, written: Any) -> None:
    assert Cursor(ZONED).written(mark, style_of(sample)) == written


def test_marks_are_written_as_the_runner_has_them() -> None:
    zoned, naive, day, number = Cursor(ZONED), Cursor(pa.timestamp("us")), Cursor(pa.date32()), Cursor(pa.int64())
    assert zoned.mark(zoned.read("2024-01-01T02:00:00.5+02:00")) == "2024-01-01 00:00:00.500000+00"
    assert naive.mark(naive.read("2024-01-01T02:00:00")) == "2024-01-01 02:00:00"
    assert day.mark(day.read("2024-01-01")) == "2024-01-01"
    assert number.mark(number.read("17")) == "17"
    assert ceiling({"Date": "Mon, 01 Jan 2024 10:00:00 GMT"}) == "2024-01-01 10:00:00+00"
    assert ceiling({}) is None


def _times(*hours: int) -> list[dict[str, Any]]:
    return [{"at": f"2024-01-01T{hour:02}:00:00Z"} for hour in hours]


def _span(window: Window | None = None, top: str | None = None, **more: Any) -> Span:
    model = Incremental.model_validate({"cursor_path": "at", **more})
    return Span("r", model, Cursor(ZONED), window=window, ceiling=top)


def _hours(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["at"][11:13]) for row in rows]


class TestSpan:
    def test_initial_value_and_end_value(self) -> None:
        bounds = {"initial_value": "2024-01-01T02:00:00Z", "end_value": "2024-01-01T05:00:00Z"}
        assert _hours(_span(**bounds).kept(_times(1, 2, 3, 4, 5, 6))) == [2, 3, 4]
        both = _span(**bounds, range_start="open", range_end="closed")
        assert _hours(both.kept(_times(1, 2, 3, 4, 5, 6))) == [3, 4, 5]

    def test_the_window_comes_before_initial_value(self) -> None:
        window = Window("at", start="2024-01-01 04:00:00+00", from_start=True)
        span = _span(window, initial_value="2024-01-01T02:00:00Z")
        assert _hours(span.kept(_times(2, 3, 4, 5))) == [4, 5]
        assert span.start_value == "2024-01-01T04:00:00Z"
        exclusive = _span(Window("at", start="2024-01-01 04:00:00+00", nulls=False))
        assert _hours(exclusive.kept(_times(3, 4, 5))) == [5]

    def test_a_range_of_the_command_line(self) -> None:
        window = Window("at", "2024-01-01 02:00:00+00", "2024-01-01 04:00:00+00", True, True, False)
        span = _span(window, initial_value="2024-01-01T03:00:00Z", on_cursor_value_missing="include")
        assert _hours(span.kept([*_times(1, 2, 3, 4), {"at": None}])) == [2, 3]

    def test_no_mark_reaches_the_ceiling(self) -> None:
        top = "2024-01-01 04:00:00+00"
        merged = _span(Window("at", from_start=True), top)
        assert _hours(merged.kept(_times(5, 3, 4))) == [5, 3, 4]
        assert merged.mark == "2024-01-01 03:00:00+00"
        appended = _span(Window("at", nulls=False), top)
        assert _hours(appended.kept(_times(5, 3, 4))) == [3]
        assert appended.mark == "2024-01-01 03:00:00+00"

    def test_rows_in_order_end_the_pages(self) -> None:
        down = _span(initial_value="2024-01-01T03:00:00Z", row_order="desc")
        assert (_hours(down.kept(_times(5, 4))), down.closed) == ([5, 4], False)
        assert (_hours(down.kept(_times(3, 2))), down.closed) == ([3], True)
        up = _span(end_value="2024-01-01T03:00:00Z", row_order="asc")
        assert (_hours(up.kept(_times(2, 3))), up.closed) == ([2], True)

    def test_rows_without_a_value(self) -> None:
        rows = [{"at": None}, {}, *_times(1)]
        with pytest.raises(SourceError, match="no value of its cursor 'at'"):
            _span().kept(rows)
        assert len(_span(on_cursor_value_missing="include").kept(rows)) == 3
        assert len(_span(on_cursor_value_missing="exclude").kept(rows)) == 1

    def test_what_is_no_time_is_kept_for_those_who_make_columns(self) -> None:
        span = _span(Window("at", from_start=True))
        assert span.kept([{"at": "soon"}, *_times(1)]) == [{"at": "soon"}, *_times(1)]
        assert span.mark == "2024-01-01 01:00:00+00"

    def test_values_are_compared_as_they_came_where_their_type_is_not_known(self) -> None:
        model = Incremental.model_validate({"cursor_path": "at", "initial_value": "b"})
        span = Span("r", model, Cursor(None))
        assert span.kept([{"at": "a"}, {"at": "c"}]) == [{"at": "c"}]
        with pytest.raises(SourceError, match="cannot be compared"):
            span.kept([{"at": 3}])

    def test_convert_is_asked_for_what_requests_are_filled_in_with(self) -> None:
        model = {"initial_value": "2024-01-01T02:00:00Z", "start_param": "s", "convert": lambda text: text[:10]}
        span = _span(**model)
        assert span.params({"a": 1}) == {"a": 1, "s": "2024-01-01"}
        assert span.values()["incremental.start_value"] == "2024-01-01"
        assert span.values()["incremental.end_value"] is None


def _reply(status: int, body: str) -> Reply:
    return Reply("GET", "https://a/x", status, {}, body.encode())


def _actions(*given: Any) -> list[Action]:
    return [Action.model_validate({"action": one} if callable(one) else one) for one in given]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4000", "X-RateLimit-Reset": "1704067260"}, (1000, 5000, 60.0)),
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, (100, 100, 30.0)),
        ({"X-Rate-Limit-Limit": "100", "X-Rate-Limit-Remaining": "1"}, (99, 100, None)),
        ({"X-RateLimit-Limit": "many"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_quotas_are_read_from_headers(headers: dict[str, str], expected: Any) -> None:
    found = list(usage(Reply("GET", "https://a", 200, headers, b""), now=datetime(2024, 1, 1, tzinfo=UTC)))
    assert [(one.used, one.limit, one.resets) for one in found] == ([expected] if expected else [])


class TestActions:
    def test_what_is_ignored_ends_the_pages(self) -> None:
        for action in ({"status_code": 404, "action": "ignore"}, {"content": "no such", "action": "ignore"}):
            found = act(_actions(action), _reply(404, "no such thing"))
            assert isinstance(found, Settled)
            assert found.answer is None
        both = _actions({"status_code": 404, "content": "other", "action": "ignore"})
        assert act(both, _reply(404, "no such thing")) is None

    def test_an_answer_of_200_may_be_an_error(self) -> None:
        found = act(_actions({"content": "error", "action": "raise"}), _reply(200, '{"error": "quota"}'))
        assert isinstance(found, RequestRefused)
        assert "quota" in found.message

    def test_functions_may_change_it_or_refuse_it(self) -> None:
        class IgnoreResponseException(Exception):
            pass

        def change(response: Any) -> None:
            response._content = b'{"a": [2]}'

        def ignore(response: Any) -> None:
            raise IgnoreResponseException

        def refuse(response: Any) -> None:
            response.raise_for_status()

        changed = act(_actions(change), _reply(200, '{"a": [1]}'))
        assert isinstance(changed, Settled)
        assert changed.answer is not None
        assert changed.answer.data == {"a": [2]}
        ignored = act(_actions(ignore), _reply(500, ""))
        assert isinstance(ignored, Settled)
        assert isinstance(act(_actions({"status_code": 418, "action": refuse}), _reply(418, "")), RequestRefused)
        assert act(_actions({"status_code": 418, "action": refuse}), _reply(200, "[]")) is None


def _resource(**more: Any) -> Any:
    whole = {"client": {"base_url": "https://a"}, "resources": [{"name": "things", **more}]}
    return resources(read_config(whole))["things"]


def test_columns_are_inferred_and_hinted_under_whatever_name() -> None:
    shape = Shape({"Id": "integer", "createdAt": "integer", "price": "number"})
    hints = {"created_at": {"data_type": "timestamp"}, "late": {"data_type": "date"}, "price": {"nullable": False}}
    table = table_of(_resource(primary_key="id", columns=hints), shape)
    assert [(one.name, str(one.type)) for one in table.columns] == [
        ("Id", "int64"),
        ("createdAt", "timestamp[us, tz=UTC]"),
        ("price", "double"),
        ("late", "date32[day]"),
    ]
    assert table.primary_key == ("Id",)
    times = hinted_times(_resource(columns=hints), table.columns)
    rows = as_typed([{"createdAt": 0, "late": 86400}, {"createdAt": "2024-01-01T00:00:00Z"}], times)
    assert rows[0] == {"createdAt": datetime(1970, 1, 1, tzinfo=UTC), "late": date(1970, 1, 2)}
    assert rows[1]["createdAt"] == "2024-01-01T00:00:00Z"
    # A number among inferred times is no time: it makes the column wider.
    assert hinted_times(_resource(), table_of(_resource(), Shape({"at": "timestamp"})).columns) == {}


@pytest.mark.parametrize(
    ("kind", "lag", "expected"),
    [("timestamp", 90, "90s"), ("date", 2, "2d"), ("integer", 5, 5), ("timestamp", 0.5, "1s")],
)
def test_a_lag_is_in_the_unit_of_its_cursor(kind: str, lag: float, expected: Any) -> None:
    more = {"primary_key": "id", "endpoint": {"incremental": {"cursor_path": "at", "lag": lag}}}
    table = table_of(_resource(**more), Shape({"id": "integer", "at": kind}))
    assert table.defaults == {"key": ["id"], "cursor": "at", "mode": "incremental", "lag": expected}


def test_children_of_parents_that_are_incremental_are_loaded_whole() -> None:
    table = table_of(_resource(write_disposition="append"), Shape({"id": "integer"}), partial=True)
    assert table.defaults["mode"] == "full"
