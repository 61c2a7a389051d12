"""COPY text to Arrow, exactly."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.postgres.decode import Decoder
from runner.errors import Undecodable
from runner.executor import hash_fields
from runner.rowhash import NULL, SEPARATOR, Hasher
from runner.source import Column, Scan, Table

UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")
MONEY = pa.decimal128(10, 2)
ODD = ("2024-01-01 BC", "0001-01-01")


def scan(*types: pa.DataType, special: str = "error") -> Scan:
    columns = tuple(Column(f"c{index}", kind) for index, kind in enumerate(types))
    return Scan(Table("s", "t", columns), columns, special=special)


def decode(data: bytes | str, *types: pa.DataType, special: str = "error") -> list[tuple]:
    raw = data.encode() if isinstance(data, str) else data
    batch = Decoder(scan(*types, special=special)).decode(raw)
    batch.validate(full=True)
    assert batch.schema.types == list(types)
    return list(zip(*[column.to_pylist() for column in batch.columns], strict=True))


def copy_csv(rows: list[tuple[str | None, ...]]) -> str:
    """Write rows as PostgreSQL's CopyAttributeOutCSV does: quotes only where they are needed."""
    lines = []
    for row in rows:
        fields = []
        for value in row:
            if value is None:
                fields.append(NULL)
            elif (
                value == NULL
                or (len(row) == 1 and value == "\\.")
                or any(sign in value for sign in SEPARATOR + '"\n\r')
            ):
                fields.append('"' + value.replace('"', '""') + '"')
            else:
                fields.append(value)
        lines.append(SEPARATOR.join(fields) + "\n")
    return "".join(lines)


def moment(*parts: int, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=zone)


VALUES = [
    (pa.bool_(), ["t", "f"], [True, False]),
    (pa.int16(), ["-32768", "32767"], [-32768, 32767]),
    (pa.int32(), ["-2147483648", "0"], [-(2**31), 0]),
    (pa.int64(), ["-9223372036854775808", "9223372036854775807"], [-(2**63), 2**63 - 1]),
    (pa.float32(), ["1.5", "-0.25"], [1.5, -0.25]),
    (pa.float64(), ["1e+300", "0.1", "Infinity", "-Infinity"], [1e300, 0.1, float("inf"), float("-inf")]),
    (MONEY, ["12345678.90", "-0.01", "0.00"], [Decimal("12345678.90"), Decimal("-0.01"), Decimal("0.00")]),
    (pa.decimal128(38, 0), ["9" * 38], [Decimal("9" * 38)]),
    (pa.date32(), ["0001-01-01", "9999-12-31"], [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    (pa.time64("us"), ["00:00:00", "23:59:59.999999"], [datetime.time(0), datetime.time(23, 59, 59, 999999)]),
    (
        NAIVE,
        ["2024-02-29 12:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2024-01-01 00:00:00.5"],
        [
            moment(2024, 2, 29, 12),
            moment(1, 1, 1),
            moment(9999, 12, 31, 23, 59, 59, 999999),
            moment(2024, 1, 1, 0, 0, 0, 500000),
        ],
    ),
    (
        UTC,
        ["2024-02-29 12:00:00+00", "2024-01-01 00:00:00.000001+00"],
        [
            moment(2024, 2, 29, 12, zone=datetime.UTC),
            moment(2024, 1, 1, 0, 0, 0, 1, zone=datetime.UTC),
        ],
    ),
    (pa.string(), ["text", "NULL", "t", "1", "NaN", "\\N"], ["text", "NULL", "t", "1", "NaN", "\\N"]),
    (pa.binary(), ["\\x00ff", "\\x"], [b"\x00\xff", b""]),
]
KINDS = [str(kind) for kind, _, _ in VALUES]


@pytest.mark.parametrize(("kind", "texts", "values"), VALUES, ids=KINDS)
def test_every_type(kind, texts, values):
    rows = decode("".join(f"{text}\n" for text in [*texts, NULL]), kind)
    assert [row[0] for row in rows] == [*values, None]


@pytest.mark.parametrize(("kind", "texts", "values"), VALUES, ids=KINDS)
def test_every_type_beside_a_value_that_takes_the_slow_path(kind, texts, values):
    lines = "".join(f"{text}{SEPARATOR}infinity\n" for text in [*texts, NULL])
    rows = decode(lines, kind, pa.date32(), special="null")
    assert rows == [(value, None) for value in [*values, None]]


def test_float_nan_is_a_value():
    ((value,),) = decode("NaN\n", pa.float64())
    assert value != value


def test_null_is_not_the_empty_string():
    data = SEPARATOR.join((NULL, "", f'"{NULL}"', '""')) + "\n"
    assert decode(data, *[pa.string()] * 4) == [(None, "", NULL, "")]


@pytest.mark.parametrize("data", ["\n", "\n\n\n", f"{NULL}\n\n", 'a\n\n""\n'])
def test_one_column_of_empty_strings(data):
    values = [row[0] for row in decode(data, pa.string())]
    expected = [None if line == NULL else line.strip('"') for line in data[:-1].split("\n")]
    assert values == expected


def test_newlines_quotes_and_commas():
    rows = [('say "hi"', "a,b"), ("two\nlines\r\n", "\r"), ('"', '""'), ("", "\n")]
    assert decode(copy_csv(rows), pa.string(), pa.string()) == rows


def test_spaces_stay():
    assert decode(f" a {SEPARATOR} \n", pa.string(), pa.string()) == [(" a ", " ")]


def test_a_byte_order_mark_is_text_like_any_other():
    rows = [("\ufeffmarked", "a"), ("\ufeff", "b")]
    assert decode(copy_csv(rows), pa.string(), pa.string()) == rows


def test_bytea_in_any_mixture():
    rows = decode(f"\\x\n{NULL}\n\\xdeadbeef\n{NULL}\n\\x00\n", pa.binary())
    assert [row[0] for row in rows] == [b"", None, b"\xde\xad\xbe\xef", None, b"\x00"]
    assert decode(f"{NULL}\n{NULL}\n", pa.binary()) == [(None,), (None,)]


SPECIAL = [
    (MONEY, "NaN"),
    (MONEY, "Infinity"),
    (MONEY, "-Infinity"),
    (pa.date32(), "infinity"),
    (pa.date32(), "-infinity"),
    (pa.date32(), "0044-03-15 BC"),
    (pa.date32(), "10000-01-01"),
    (NAIVE, "infinity"),
    (NAIVE, "0044-03-15 12:00:00 BC"),
    (NAIVE, "294276-12-31 23:59:59.999999"),
    (UTC, "-infinity"),
    (UTC, "0044-03-15 12:00:00+00 BC"),
    (pa.time64("us"), "24:00:00"),
]


@pytest.mark.parametrize(("kind", "text"), SPECIAL)
def test_what_cannot_arrive_as_it_left_is_refused(kind, text):
    with pytest.raises(Undecodable) as refused:
        decode(f"{NULL}\n{text}\n", kind)
    assert repr(text) in refused.value.message
    assert "'c0'" in refused.value.message
    assert not refused.value.retriable


@pytest.mark.parametrize(("kind", "text"), SPECIAL)
def test_or_becomes_null_where_the_table_says_so(kind, text):
    good = {MONEY: "1.00", pa.date32(): "2024-01-01", pa.time64("us"): "01:00:00"}.get(kind, "2024-01-01 00:00:00")
    rows = decode(f"{text}{SEPARATOR}a\n{good}{SEPARATOR}b\n", kind, pa.string(), special="null")
    assert rows[0] == (None, "a")
    assert rows[1][0] is not None


def test_bytes_that_are_not_utf8():
    with pytest.raises(Undecodable, match="'c1' holds bytes that are not UTF-8"):
        decode(b"NaN\x1f\xff\xfe\n", MONEY, pa.string(), special="null")


def test_rows_that_cannot_be_parsed():
    with pytest.raises(Undecodable, match="cannot be parsed"):
        decode("1\x1f2\x1f3\n", pa.int32(), pa.int32())


def test_columns_may_share_a_name_with_nothing():
    columns = (Column("0", pa.string()), Column('we"ird,', pa.string()))
    found = Scan(Table("s", "t", columns), columns)
    batch = Decoder(found).decode(b"a\x1fb\n")
    assert batch.to_pydict() == {"0": ["a"], 'we"ird,': ["b"]}


WIRE = {
    kind: tuple(zip(texts, values, strict=True)) for kind, texts, values in VALUES if not pa.types.is_floating(kind)
}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), kinds=st.lists(st.sampled_from([*WIRE, pa.string()]), min_size=1, max_size=4))
def test_lines_have_the_hash_of_the_rows_that_they_are(data, kinds):
    cell = [
        st.none() | (cells if kind == pa.string() else st.sampled_from([t for t, _ in WIRE[kind]])) for kind in kinds
    ]
    raw = copy_csv(data.draw(st.lists(st.tuples(*cell), min_size=1, max_size=5))).encode()
    decoder = Decoder(scan(*kinds))
    batch = decoder.decode(raw)
    lines = decoder.lines(raw, batch.num_rows)
    if lines is None:
        assert len(kinds) == 1 or b"\r" in raw or b"\x01" in raw or raw.count(b"\n") > batch.num_rows
        return
    decoded, sent = (Hasher(hash_fields(decoder.scan.columns)) for _ in range(2))
    decoded.add(batch)
    sent.add_lines(lines)
    assert sent.total == decoded.total


def test_no_lines_where_their_hash_would_be_of_another_text():
    for kinds, raw, special in (
        ((pa.float64(), pa.int32()), b"1.5\x1f1\n", "error"),
        ((pa.string(),), b'"\\."\n', "error"),
        ((pa.date32(), pa.int32()), b"infinity\x1f1\n", "null"),
        ((pa.string(), pa.int32()), b'"a\nb"\x1f1\n', "error"),
        ((pa.string(), pa.int32()), b"a\x01b\x1f1\n", "error"),
    ):
        decoder = Decoder(scan(*kinds, special=special))
        assert decoder.lines(raw, decoder.decode(raw).num_rows) is None


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
cells = st.one_of(
    st.none(), texts, st.sampled_from(['"', '""', SEPARATOR, "\n", "\r\n", "\\.", NULL, "", " ", "\ufeff"])
)


@settings(max_examples=300, deadline=None)
@given(rows=st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[cells] * width), min_size=1, max_size=20)))
@example(rows=[("",)])
@example(rows=[("\ufeffmark",)])
@example(rows=[("a", "\r"), (None, "")])
def test_text_comes_back_as_it_was(rows):
    assert decode(copy_csv(rows), *[pa.string()] * len(rows[0])) == rows


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(cells, st.just("infinity")), min_size=1, max_size=10))
def test_text_comes_back_on_the_slow_path_too(rows):
    decoded = decode(copy_csv(rows), pa.string(), pa.date32(), special="null")
    assert [row[0] for row in decoded] == [row[0] for row in rows]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.binary(max_size=30)), min_size=1, max_size=20))
def test_bytes_come_back_as_they_were(values):
    data = copy_csv([(None if value is None else "\\x" + value.hex(),) for value in values])
    assert [row[0] for row in decode(data, pa.binary())] == values
