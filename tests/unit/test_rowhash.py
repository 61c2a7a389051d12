"""Hashes of rows: against the form that the docstring describes, written a second time here in plain Python."""

import datetime
import hashlib
import struct
import threading
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.rowhash import DUCKDB, NULL, SEPARATOR, Digest, Field, Fingerprint, Hasher, Slice, by_prefix, total

UTC = datetime.UTC
TZ = pa.timestamp("us", "UTC")
EPOCH = datetime.datetime(1970, 1, 1)
Y2K = datetime.datetime(2000, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)

FINGERPRINTS = st.builds(Fingerprint, st.integers(0, 10**9), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
TRICKY = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.text(
    'a,"\n\r\x1e\x1f', max_size=4
)
MOMENTS = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal128(5, 2): st.integers(-99999, 99999).map(lambda value: Decimal(f"{value}e-2")),
    pa.decimal128(38, 10): st.integers(-(10**38) + 1, 10**38 - 1).map(lambda value: Decimal(f"{value}e-10")),
    pa.string(): TRICKY,
    pa.binary(): st.binary(max_size=5),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): MOMENTS,
    TZ: MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC)),
}
KINDS = list(VALUES)
ROW = st.tuples(*[st.none() | VALUES[kind] for kind in KINDS])


def text(value: Any, kind: pa.DataType) -> str:
    """Return a value's text as the docstring of runner.rowhash has it."""
    if value is None:
        return NULL
    if pa.types.is_string(kind):
        special = value == NULL or any(sign in value for sign in (SEPARATOR, '"', "\n", "\r"))
        return '"' + value.replace('"', '""') + '"' if special else str(value)
    if pa.types.is_binary(kind):
        return r"\x" + value.hex()
    if pa.types.is_floating(kind):
        return "nan" if value != value else struct.pack(">f" if kind == pa.float32() else ">d", value).hex()
    if pa.types.is_decimal(kind):
        return f"{value or Decimal(0):.{kind.scale}f}"
    if pa.types.is_boolean(kind):
        return "t" if value else "f"
    if pa.types.is_integer(kind) or pa.types.is_date(kind):
        return str(value)
    day = ""
    if pa.types.is_timestamp(kind):
        value = value.astimezone(UTC) if kind.tz else value
        day = f"{value.date().isoformat()} "
    fraction = f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
    zone = "+00" if pa.types.is_timestamp(kind) and kind.tz else ""
    return f"{day}{value:%H:%M:%S}{fraction}{zone}"


def expected(row: tuple[Any, ...], kinds: list[pa.DataType]) -> str:
    joined = SEPARATOR.join(text(value, kind) for value, kind in zip(row, kinds, strict=True))
    return hashlib.md5(joined.encode()).hexdigest()


def summed(hashes: list[str]) -> Fingerprint:
    return total(Fingerprint(1, int(one[:16], 16), int(one[16:], 16)) for one in hashes)


def fields(kinds: list[pa.DataType], names: list[str] | None = None, **more: Any) -> list[Field]:
    return [Field(name, kind, **more) for name, kind in zip(names or _names(kinds), kinds, strict=True)]


def _names(kinds: list[pa.DataType]) -> list[str]:
    return [f"c{index}" for index in range(len(kinds))]


def batch(rows: list[tuple[Any, ...]], kinds: list[pa.DataType], names: list[str] | None = None) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names or _names(kinds))


def hashes(rows: list[tuple[Any, ...]], kinds: list[pa.DataType], **more: Any) -> list[str]:
    """Return the rows' hashes as a stream of batches has them."""
    hasher = Hasher(fields(kinds, **more), Digest(rows=True))
    hasher.add(batch(rows, kinds))
    return [row[0] for row in hasher.result()]


def stored(rows: list[tuple[Any, ...]], kinds: list[pa.DataType]) -> duckdb.DuckDBPyConnection:
    """Return a database whose table t has the rows, in columns of DuckDB's own types."""
    connection = duckdb.connect()
    connection.register("given", pa.Table.from_batches([batch(rows, kinds)]))
    connection.execute("create table t as from given")
    return connection


# Arithmetic.


@given(st.lists(FINGERPRINTS, max_size=6), st.randoms())
def test_sums_do_not_depend_on_order_or_grouping(parts: list[Fingerprint], random: Any) -> None:
    mixed = parts[:]
    random.shuffle(mixed)
    assert total(mixed) == total(parts) == total(parts[:3]) + total(parts[3:])


@given(FINGERPRINTS, FINGERPRINTS)
def test_taking_away_undoes_adding(one: Fingerprint, other: Fingerprint) -> None:
    assert one + other - other == one
    assert one - one == Fingerprint()
    assert 0 <= (one - other).high < 2**64


@given(FINGERPRINTS)
def test_text_and_back(one: Fingerprint) -> None:
    assert Fingerprint.parse(str(one)) == one


def test_what_databases_sum_up() -> None:
    assert Fingerprint.of(0, None, None) == Fingerprint()
    # PostgreSQL sums signed halves, DuckDB unsigned ones past 2**64.
    assert Fingerprint.of(2, -1, Decimal(2**64 + 5)) == Fingerprint(2, 2**64 - 1, 5)
    assert str(Fingerprint(2, 1, 255)) == "2:000000000000000100000000000000ff"


# The hash of a row.


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_arrow_and_duckdb_hash_every_type_as_described(rows: list[tuple[Any, ...]]) -> None:
    wanted = [expected(row, KINDS) for row in rows]
    assert hashes(rows, KINDS) == wanted
    with stored(rows, KINDS) as connection:
        found = connection.execute(DUCKDB.sql(Digest(rows=True), fields(KINDS), "t")).fetchall()
        assert [row[0] for row in found] == wanted
        sums = connection.execute(DUCKDB.sql(Digest(), fields(KINDS), "t")).fetchall()
        assert by_prefix(sums) == {"": summed(wanted)}


@settings(max_examples=30, deadline=None)
@given(st.tuples(*VALUES.values()))
def test_a_column_that_is_not_null_hashes_as_one_that_may_be(row: tuple[Any, ...]) -> None:
    assert hashes([row], KINDS, nullable=False) == hashes([row], KINDS) == [expected(row, KINDS)]


def test_json_hashes_as_the_text_it_is() -> None:
    given_text = '{"b":  [1,2], "a": "é"}'
    field = [Field("doc", pa.string(), verbatim=False)]
    with duckdb.connect() as connection:
        connection.execute("create table t (doc json)")
        connection.execute(f"insert into t values ('{given_text}'), (null)")
        found = connection.execute(DUCKDB.sql(Digest(rows=True), field, "t")).fetchall()
    assert [row[0] for row in found] == [expected((text,), [pa.string()]) for text in (given_text, None)]


@pytest.mark.parametrize("count", [45, 46, 90, 91, 200])
def test_a_row_of_many_columns_hashes_as_its_whole_text(count: int) -> None:
    kinds = [KINDS[index % len(KINDS)] for index in range(count)]

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.lists(st.tuples(*[st.none() | VALUES[kind] for kind in kinds]), min_size=1, max_size=2))
    def check(rows: list[tuple[Any, ...]]) -> None:
        assert hashes(rows, kinds) == [expected(row, kinds) for row in rows]

    check()


def test_a_row_of_as_many_columns_as_postgresql_has() -> None:
    kinds, row = [pa.string()] * 1600, ("a,", None) * 800
    hasher = Hasher(fields(kinds))
    hasher.add(batch([row], kinds))
    assert hasher.total == summed([expected(row, kinds)])


PAIRS = [
    ([pa.string()], ("",), (None,)),
    ([pa.string()] * 2, ("a,b", "c"), ("a", "b,c")),
    ([pa.string()] * 2, ("a", None), ("a", "")),
    ([pa.string()] * 2, ("1", None), (None, "1")),
    ([pa.string()] * 2, ("\x1e", ""), (None, "\x1e")),
    ([pa.string()], ("\x1e",), (None,)),
    ([pa.string()] * 2, ("a\x1fb", "c"), ("a", "b\x1fc")),
    ([pa.string()], ('"',), ('""',)),
    ([pa.string()], ("a",), ("a ",)),
    ([pa.string()], ("e\u0301",), ("\u00e9",)),
    ([pa.string()], ("\n",), ("\r\n",)),
    ([pa.int64()] * 2, (12, 3), (1, 23)),
    ([pa.int64()] * 2, (1, None), (None, 1)),
    ([pa.int64(), pa.string()], (1, "1,1"), (11, "1")),
    ([pa.string(), pa.int64()], ("1,1", 1), ("1", 11)),
    ([pa.bool_()], (False,), (None,)),
    ([pa.float64()], (0.0,), (-0.0,)),
    ([pa.float64()], (float("nan"),), (None,)),
    ([pa.float64()], (float("inf"),), (float("-inf"),)),
    ([pa.float64()], (0.1,), (0.1 + 2**-56,)),
    ([pa.float32()], (1.0,), (1.0 + 2**-23,)),
    ([pa.decimal128(5, 2)], (Decimal("0.10"),), (Decimal("0.11"),)),
    ([pa.decimal128(5, 2)], (Decimal("0.10"),), (Decimal("-0.10"),)),
    ([pa.binary()], (b"",), (None,)),
    ([pa.binary(), pa.string()], (b"\x01", "2"), (b"", "012")),
    ([pa.time64("us")], (datetime.time(0),), (datetime.time(0, 0, 0, 1),)),
    ([pa.timestamp("us")], (Y2K,), (Y2K + MICROSECOND,)),
    ([TZ], (Y2K.replace(tzinfo=UTC),), (Y2K.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))),)),
    ([pa.date32()], (EPOCH.date(),), (None,)),
]


@pytest.mark.parametrize(("kinds", "one", "other"), PAIRS, ids=[f"{one}-{other}" for _, one, other in PAIRS])
def test_rows_that_differ_have_different_hashes(kinds: list[pa.DataType], one: Any, other: Any) -> None:
    assert len(set(hashes([one, other], kinds))) == 2


def test_the_form_depends_on_the_type() -> None:
    as_two, as_three = (
        hashes([(Decimal("0.10"),)], [pa.decimal128(5, scale)])[0] for scale in (2, 3)
    )  # 0.10 is not 0.100: the plan says how many digits there are
    assert as_two != as_three
    # NaN is one value, whatever its bits; a moment is one, whatever zone it is written in.
    nans = pa.RecordBatch.from_arrays(
        [pa.Array.from_buffers(pa.float64(), 2, [None, pa.py_buffer(struct.pack("<QQ", 0x7FF8 << 48, 0xFFF9 << 48))])],
        ["c0"],
    )
    hasher = Hasher(fields([pa.float64()]), Digest(rows=True))
    hasher.add(nans)
    assert len({row[0] for row in hasher.result()}) == 1
    cet = datetime.timezone(datetime.timedelta(hours=1))
    assert len(set(hashes([(Y2K.replace(tzinfo=UTC),), (Y2K.replace(hour=1, tzinfo=cet),)], [TZ]))) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.none() | st.text('a,"\n\x1e\x1f', max_size=3)] * 3), unique=True, min_size=2, max_size=30)
)
def test_no_two_rows_of_tricky_texts_have_one_hash(rows: list[tuple[Any, ...]]) -> None:
    assert len(set(hashes(rows, [pa.string()] * 3))) == len(rows)


def test_names_that_the_queries_use_themselves() -> None:
    names = ["h", "p", "g", "x", "w", "high", "low", "batch", 'a "b"', "Mixed", "select"]
    kinds = [pa.int64()] * len(names)
    row = tuple(range(len(names)))
    for ask in (Digest(rows=True), Digest(digits=2, key=("p", "h")), Digest(rows=True, key=('a "b"',))):
        hasher = Hasher(fields(kinds, names), ask)
        hasher.add(batch([row], kinds, names))
        own = expected(row, kinds)
        assert (hasher.result()[0][0] == own) if ask.rows else (hasher.total == summed([own]))


# Parts.


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), TRICKY), max_size=30), st.integers(1, 3), st.booleans())
def test_digits_and_slices_tell_rows_apart_by_the_hash_of_their_key(
    rows: list[tuple[Any, ...]], digits: int, keyed: bool
) -> None:
    kinds = [pa.int64(), pa.string()]
    key = ("c0",) if keyed else ()
    parts: dict[str, list[str]] = {}
    for row in rows:
        prefix = expected(row[:1] if keyed else row, kinds[:1] if keyed else kinds)[:digits]
        parts.setdefault(prefix, []).append(expected(row, kinds))
    wanted = {prefix: summed(found) for prefix, found in parts.items()}
    streamed = Hasher(fields(kinds), Digest(digits=digits, key=key))
    streamed.add(batch(rows, kinds))
    assert by_prefix(streamed.result()) == streamed.sums == wanted
    prefixes = tuple(sorted(parts))[::2] or ("0" * digits,)
    with stored(rows, kinds) as connection:
        sql = DUCKDB.sql(Digest(digits=digits, key=key), fields(kinds), "t")
        assert by_prefix(connection.execute(sql).fetchall()) == wanted
        sql = DUCKDB.sql(Digest(slice=Slice(key, prefixes), rows=True, key=key), fields(kinds), "t", "c0 >= 0")
        found = sorted(row[0] for row in connection.execute(sql).fetchall())
        assert found == sorted(one for prefix in prefixes for one in parts.get(prefix, []))
        sql = DUCKDB.sql(Digest(), fields(kinds), "t", group="c0 % 2")
        even = sum(Fingerprint.of(*sums).rows for group, _, *sums in connection.execute(sql).fetchall() if group == 0)
        assert even == sum(row[0] % 2 == 0 for row in rows)


def test_rows_come_with_their_key_and_the_hash_or_the_text_of_each_column() -> None:
    kinds, row = [pa.int64(), pa.string()], (7, "x" * 500)
    for values in (False, True):
        hasher = Hasher(fields(kinds), Digest(key=("c0",), rows=True, values=values))
        hasher.add(batch([row], kinds))
        wanted = (
            ("7", row[1][:200] + "..." + hashlib.md5(row[1].encode()).hexdigest()[:6])
            if values
            else tuple(expected((v,), [k])[:12] for v, k in zip(row, kinds, strict=True))
        )
        assert hasher.result() == [(expected(row, kinds), "7", *wanted)]


def test_nothing_has_an_empty_fingerprint() -> None:
    kinds = [pa.int64()]
    for ask in (Digest(), Digest(rows=True), Digest(digits=1)):
        hasher = Hasher(fields(kinds), ask)
        assert hasher.result() == []
        hasher.add(batch([], kinds))
        assert (hasher.result(), hasher.total) == ([], Fingerprint())


def test_threads_hash_at_the_same_time() -> None:
    kinds = [pa.int64(), pa.string()]
    lots = [[(index, f"{thread}") for index in range(2000)] for thread in range(6)]
    hashers = [Hasher(fields(kinds)) for _ in lots]

    def work(hasher: Hasher, rows: list[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), 500):
            hasher.add(batch(rows[start : start + 500], kinds))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(hashers, lots, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [hasher.total for hasher in hashers] == [summed([expected(row, kinds) for row in rows]) for rows in lots]


# A published column may be wider than the plan's.


def _wider(sql_type: str, values: str, kind: pa.DataType) -> list[str]:
    with duckdb.connect() as connection:
        connection.execute(f"create table t (c {sql_type})")
        connection.execute(f"insert into t values {values}")
        field = [Field("c", kind, wider=True)]
        return [row[0] for row in connection.execute(DUCKDB.sql(Digest(rows=True), field, "t")).fetchall()]


def test_a_wider_decimal_keeps_the_hash_unless_it_has_more_digits() -> None:
    kind = pa.decimal128(12, 2)
    found = _wider("decimal(14, 4)", "(1.5), (-9999999999.99), (0), (null), (1.2345), (1.2301), (-0.0001)", kind)
    own = [expected((value,), [kind]) for value in (Decimal("1.5"), Decimal("-9999999999.99"), Decimal(0), None)]
    assert found[:4] == own
    near = [expected((Decimal(value),), [kind]) for value in ("1.23", "0")]
    assert len({*found, *near}) == 7 + 1  # 0 is among those found


def test_a_float_in_a_column_of_doubles_keeps_the_hash_unless_it_has_more_bits() -> None:
    kind = pa.float32()
    found = _wider("double", "(0.5), (0.1::float), ('-0'), ('nan'), ('inf'), (null), (0.1)", kind)
    single = struct.unpack("f", struct.pack("f", 0.1))[0]
    own = [expected((value,), [kind]) for value in (0.5, single, -0.0, float("nan"), float("inf"), None)]
    assert found[:6] == own
    assert found[6] not in own


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32()])
def test_a_wider_integer_keeps_the_hash(kind: pa.DataType) -> None:
    assert _wider("hugeint", "(5), (-1)", kind) == [expected((value,), [kind]) for value in (5, -1)]
