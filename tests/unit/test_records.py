"""JSON as Arrow: what fits arrives as it is, what does not is an error that names it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.http.answers import parse_json
from connectors.records import cast_batch, json_text, to_batch
from connectors.shapes import Shape, kind_of, merged
from runner.errors import Undecodable
from runner.source import Column

_UTC = pa.timestamp("us", tz="UTC")


def _one(value: Any, kind: pa.DataType, **more: Any) -> Any:
    special = more.pop("special", "error")
    column = Column("c", kind, **more)
    batch = to_batch([{"c": value}, {}, {"other": 1}], [column], table="t", special=special)
    assert batch.schema.field("c").type == kind
    assert batch.column(0).to_pylist()[1:] == [None, None]
    return batch.column(0).to_pylist()[0]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, pa.bool_(), True),
        ("false", pa.bool_(), False),
        (5, pa.int64(), 5),
        (5.0, pa.int64(), 5),
        ("9223372036854775807", pa.int64(), 2**63 - 1),
        (1, pa.float64(), 1.0),
        ("-INF", pa.float64(), float("-inf")),
        (1.1, pa.decimal128(12, 2), Decimal("1.10")),
        ("12345678901234567890.12", pa.decimal128(30, 2), Decimal("12345678901234567890.12")),
        ("2024-02-29", pa.date32(), date(2024, 2, 29)),
        ("2024-01-01T00:00:00Z", _UTC, datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T02:00:00.123456+02:00", _UTC, datetime(2024, 1, 1, microsecond=123456, tzinfo=UTC)),
        ("2024-01-01T00:00:00", _UTC, datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00.1230000000", _UTC, datetime(2024, 1, 1, microsecond=123000, tzinfo=UTC)),
        ("2024-01-01 10:00:00", pa.timestamp("us"), datetime(2024, 1, 1, 10)),
        ("10:20:30", pa.time64("us"), time(10, 20, 30)),
        ("AAE=", pa.binary(), b"\x00\x01"),
        ("text", pa.string(), "text"),
        (12, pa.string(), "12"),
        ("", pa.string(), ""),
    ],
)
def test_values_that_fit(value: Any, kind: pa.DataType, expected: Any) -> None:
    assert _one(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("yes", pa.bool_()),
        (1, pa.bool_()),
        (True, pa.int64()),
        (1.5, pa.int64()),
        (2**63, pa.int64()),
        (2**53 + 1, pa.float64()),
        (Decimal("0.1234567890123456789"), pa.float64()),
        ("1.234", pa.decimal128(12, 2)),
        ("x", pa.decimal128(12, 2)),
        ("2024-02-30", pa.date32()),
        ("2024-01-01T00:00:00.0000001Z", _UTC),
        ("2024-01-01T00:00:00+02:00", pa.timestamp("us")),
        ("25:00", pa.time64("us")),
        ("not base64!", pa.binary()),
    ],
)
def test_values_that_do_not(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(Undecodable, match="t: c is"):
        _one(value, kind)


@pytest.mark.parametrize("value", ["x", "2024-13-01", "9999999999999999"])
def test_where_null_is_better_than_an_error(value: str) -> None:
    assert _one(value, pa.decimal128(12, 2), special="null") is None
    assert _one(value, pa.date32(), special="null") is None


def test_a_null_that_the_source_denies_is_told() -> None:
    with pytest.raises(Undecodable, match="is NULL in a row"):
        to_batch([{"c": 1}, {}], [Column("c", pa.int64(), nullable=False)], table="t")


def test_json_keeps_its_numbers() -> None:
    text = '{"a":[1,12345678901234567890.5,0.1],"b":{"ä":null,"q":"\\"x"}}'
    assert _one(parse_json(text), pa.string(), json=True) == text
    assert json_text("x") == '"x"'


def test_a_batch_of_texts() -> None:
    batch = pa.RecordBatch.from_pydict({"n": ["1", None], "at": ["2024-01-01T00:00:00.000Z", None], "s": ["", "x"]})
    columns = [Column("at", _UTC), Column("n", pa.decimal128(5, 1)), Column("s", pa.string()), Column("no", pa.int64())]
    assert cast_batch(batch, columns, table="t").to_pylist() == [
        {"at": datetime(2024, 1, 1, tzinfo=UTC), "n": Decimal("1.0"), "s": "", "no": None},
        {"at": None, "n": None, "s": "x", "no": None},
    ]


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00", "2024-13-01", "0000-00-00T"]),
    st.lists(st.integers(), max_size=2),
)


@given(st.lists(_VALUES, max_size=8))
def test_whatever_comes_fits_the_columns_inferred_from_it(values: list[Any]) -> None:
    shape = Shape()
    rows = [{"c": value} for value in values]
    shape.observe(rows)
    columns = shape.columns()
    found = to_batch(rows, columns, table="t")
    if not columns:
        assert all(value is None for value in values)
        return
    for value, arrived in zip(values, found.column(0).to_pylist(), strict=True):
        if value is None or columns[0].json:
            assert (arrived is None) if value is None else json.loads(arrived) == value
        elif isinstance(arrived, datetime | date):
            assert arrived.isoformat()[:10] == value[:10]
        else:
            assert arrived == value


@given(_VALUES, _VALUES, _VALUES)
def test_the_order_of_values_does_not_matter(one: Any, two: Any, three: Any) -> None:
    kinds = [kind_of(value) for value in (one, two, three) if value is not None]
    if len(kinds) == 3:
        first, second, third = kinds
        assert merged(merged(first, second), third) == merged(first, merged(second, third))
        assert merged(first, second) == merged(second, first)


def test_a_shape_is_kept_as_json() -> None:
    shape = Shape({"a": "integer", "b": "decimal(12,2)", "c": "no such kind"})
    assert shape.observe([{"a": 1, "b": Decimal("1.5"), "d": None}]) == []
    assert shape.observe([{"a": "x", "e": 1}]) == ["a is json, not integer", "e is integer"]
    again = Shape(json.loads(json.dumps(shape.record())))
    assert again.columns() == shape.columns()
