"""Identities of scans and chunks."""

from dataclasses import replace

import pyarrow as pa
import pytest

from runner.naming import fingerprint
from runner.source import Column, Scan, Table, Window, make_chunk

COLUMNS = (Column("id", pa.int64(), False, "bigint"), Column("a", pa.string(), native="text"))
TABLE = Table("s", "t", COLUMNS, rows=10, bytes=100)
SCAN = Scan(TABLE, COLUMNS)


def chunk_id(scan=SCAN, bounds=None, index=0, storage="1:1", rows=5, size=6) -> str:
    bounds = {"key": ["id", "1", "2"]} if bounds is None else bounds
    return make_chunk(scan, index, bounds, storage=storage, rows=rows, size=size).id


def test_a_chunk_id_does_not_depend_on_estimates_position_or_storage():
    base = chunk_id()
    assert chunk_id(rows=1, size=2) == base
    assert chunk_id(index=9) == base
    assert chunk_id(storage="2:2") == base
    assert chunk_id(scan=SCAN.over(replace(TABLE, rows=1, bytes=1, comment="new", indexed=("a",)))) == base
    assert chunk_id(bounds={"key": ("id", "1", "2")}) == base


@pytest.mark.parametrize(
    "scan",
    [
        replace(SCAN, where="id > 1"),
        replace(SCAN, special="null"),
        replace(SCAN, window=Window("id", "1")),
        replace(SCAN, columns=COLUMNS[:1]),
        replace(SCAN, columns=COLUMNS[::-1]),
        replace(SCAN, columns=(COLUMNS[0], replace(COLUMNS[1], rule="mask"))),
        replace(SCAN, columns=(replace(COLUMNS[0], native="integer", type=pa.int32()), COLUMNS[1])),
        replace(SCAN, table=replace(TABLE, name="other")),
    ],
)
def test_a_chunk_id_depends_on_what_is_read(scan):
    assert chunk_id(scan=scan) != chunk_id()


@pytest.mark.parametrize("bounds", [{}, {"key": ["id", "1", "3"]}, {"key": ["id", None, "2"]}, {"ctid": [1, 2]}])
def test_a_chunk_id_depends_on_its_bounds(bounds):
    assert chunk_id(bounds=bounds) != chunk_id()


def test_every_field_of_a_window_counts():
    base = Window("id", "1", "2")
    others = [
        replace(base, cursor="a"),
        replace(base, start="0"),
        replace(base, end="3"),
        replace(base, from_start=True),
        replace(base, before_end=True),
        replace(base, nulls=False),
    ]
    assert len({replace(SCAN, window=window).digest() for window in [base, *others]}) == 7


def test_fingerprints_are_canonical():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 23]) != fingerprint([12, 3])
    assert fingerprint("é") == fingerprint("é")
    assert len(fingerprint(None)) == 16
    # Ledgers on disk hold it: it must not change from one version to the next.
    assert fingerprint(["a", 1, None]) == "153c46a9588fd9b6"


def test_tables():
    assert TABLE.qualified == "s.t"
    assert TABLE.column("a") is COLUMNS[1]
    assert TABLE.column("zzz") is None
    assert TABLE.shape() == [["id", "bigint", False], ["a", "text", True]]
    schema = SCAN.arrow_schema
    assert schema.names == ["id", "a"]
    assert [field.nullable for field in schema] == [False, True]
