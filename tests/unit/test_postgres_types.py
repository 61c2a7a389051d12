"""From PostgreSQL's types to Arrow's."""

import pyarrow as pa
import pytest

from connectors.postgres.types import arrow_type


def typmod(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bool", pa.bool_()),
        ("int2", pa.int16()),
        ("int4", pa.int32()),
        ("int8", pa.int64()),
        ("oid", pa.int64()),
        ("float4", pa.float32()),
        ("float8", pa.float64()),
        ("date", pa.date32()),
        ("time", pa.time64("us")),
        ("timestamp", pa.timestamp("us")),
        ("timestamptz", pa.timestamp("us", "UTC")),
        ("bytea", pa.binary()),
        ("text", pa.string()),
        ("uuid", pa.string()),
        ("interval", pa.string()),
        ("timetz", pa.string()),
        ("inet", pa.string()),
        ("a_new_type", pa.string()),
    ],
)
def test_types(name, expected):
    assert arrow_type(name, "U", -1) == (expected, False, None)


@pytest.mark.parametrize("name", ["json", "jsonb"])
def test_json(name):
    assert arrow_type(name, "U", -1) == (pa.string(), True, None)


@pytest.mark.parametrize("name", ["_int4", "_numeric", "_bytea"])
def test_arrays_are_json(name):
    assert arrow_type(name, "A", -1) == (pa.string(), True, "array as JSON")


@pytest.mark.parametrize(("precision", "scale"), [(10, 2), (38, 0), (38, 38), (1, 0), (5, 5)])
def test_numeric_within_decimal128(precision, scale):
    assert arrow_type("numeric", "N", typmod(precision, scale)) == (pa.decimal128(precision, scale), False, None)


@pytest.mark.parametrize(("precision", "scale"), [(39, 0), (1000, 10), (2, -3), (3, 5), (1, -1000), (1, 1000)])
def test_other_numeric_travels_as_text_and_says_so(precision, scale):
    kind, json, note = arrow_type("numeric", "N", typmod(precision, scale))
    assert (kind, json, note) == (pa.string(), False, f"numeric({precision},{scale}) as text")


def test_numeric_without_a_precision():
    assert arrow_type("numeric", "N", -1) == (pa.string(), False, "numeric without a precision as text")
