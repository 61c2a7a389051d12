"""Column rules: drop, hash, mask, text."""

import hashlib
import hmac

import pyarrow as pa
import pytest

from runner.columns import HASH_KEY, Protector, apply_to_schema
from runner.errors import JobFileError, SecretMissing
from runner.source import Column, Table

TABLE = Table(
    "shop",
    "customers",
    (
        Column("id", pa.int64(), nullable=False, native="bigint"),
        Column("email", pa.string(), native="text"),
        Column("email_old", pa.string(), native="text"),
        Column("tags", pa.string(), native="text[]", json=True, note="array as JSON"),
        Column("born", pa.date32(), native="date"),
        Column("odd[1]", pa.string(), native="text"),
    ),
)


def names(rules: dict) -> list[str]:
    return [column.name for column in apply_to_schema(TABLE, rules)]


def rules_in_force(rules: dict) -> dict:
    return {column.name: column.rule for column in apply_to_schema(TABLE, rules)}


def test_without_rules_nothing_changes():
    assert apply_to_schema(TABLE, {}) == TABLE.columns


def test_dropped_columns_are_not_read():
    assert names({"email": "drop"}) == ["id", "email_old", "tags", "born", "odd[1]"]


def test_patterns():
    assert names({"email*": "drop", "[bt]*": "drop"}) == ["id", "odd[1]"]


def test_a_name_with_signs_of_a_pattern_is_a_name_too():
    assert "odd[1]" not in names({"odd[1]": "drop"})


def test_a_pattern_that_matches_nothing_is_fine():
    assert len(names({"zzz*": "drop"})) == 6


def test_the_last_rule_that_matches_wins():
    assert rules_in_force({"email*": "drop", "email": "mask"})["email"] == "mask"
    assert "email" not in rules_in_force({"email": "mask", "email*": "drop"})
    assert rules_in_force({"*": "hash", "id": "text"}) == {
        "id": "text",
        "email": "hash",
        "email_old": "hash",
        "tags": "hash",
        "born": "hash",
        "odd[1]": "hash",
    }


@pytest.mark.parametrize("rule", ["hash", "mask", "text"])
def test_protected_columns_are_text(rule):
    born, tags = apply_to_schema(TABLE, {"born": rule, "tags": rule})[4:2:-1]
    assert born.type == pa.string()
    assert (born.rule, born.note, born.native) == (rule, rule, "date")
    assert (tags.type, tags.json) == (pa.string(), False)


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(JobFileError, match=r"shop\.customers: columns: .*'emial'\. Did you mean 'email'\?"):
        apply_to_schema(TABLE, {"emial": "mask"})
    with pytest.raises(JobFileError, match=r"no column 'zzz'\.$"):
        apply_to_schema(TABLE, {"zzz": "mask"})


def batch(columns: tuple[Column, ...], **values: list) -> pa.RecordBatch:
    schema = pa.schema([pa.field(column.name, column.type, column.nullable) for column in columns])
    return pa.RecordBatch.from_pydict(values, schema=schema)


SMALL = Table("s", "t", (Column("id", pa.int64(), nullable=False), Column("a", pa.string()), Column("b", pa.string())))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mask", ["***", None, "***"]),
        ("text", ["x", None, ""]),
        (
            "hash",
            [
                hmac.new(b"key", b"x", hashlib.sha256).hexdigest(),
                None,
                hmac.new(b"key", b"", hashlib.sha256).hexdigest(),
            ],
        ),
    ],
)
def test_values_are_replaced_and_null_stays_null(rule, expected):
    columns = apply_to_schema(SMALL, {"a": rule})
    before = batch(columns, id=[1, 2, 3], a=["x", None, ""], b=["u", "v", None])
    after = Protector(columns, "key").protect(before)
    assert after.column("a").to_pylist() == expected
    assert after.column("id").to_pylist() == [1, 2, 3]
    assert after.column("b").to_pylist() == ["u", "v", None]
    assert after.schema == before.schema


def test_a_hash_depends_on_value_and_key_only():
    columns = apply_to_schema(SMALL, {"a": "hash", "b": "hash"})
    values = batch(columns, id=[1, 2], a=["x", "y"], b=["x", "x"])
    one = Protector(columns, "key").protect(values)
    two = Protector(columns, "other").protect(values)
    assert one.column("a")[0] == one.column("b")[0] == one.column("b")[1]
    assert one.column("a")[0] != one.column("a")[1]
    assert one.column("a")[0] != two.column("a")[0]


def test_rules_follow_their_columns_past_dropped_ones():
    columns = apply_to_schema(SMALL, {"id": "drop", "b": "mask"})
    after = Protector(columns, None).protect(batch(columns, a=["x"], b=["y"]))
    assert after.to_pydict() == {"a": ["x"], "b": ["***"]}


def test_an_empty_batch():
    columns = apply_to_schema(SMALL, {"a": "hash", "b": "mask"})
    assert Protector(columns, "k").protect(batch(columns, id=[], a=[], b=[])).num_rows == 0


@pytest.mark.parametrize("key", [None, ""])
def test_hashing_needs_a_key(key):
    columns = apply_to_schema(SMALL, {"a": "hash"})
    with pytest.raises(SecretMissing) as missing:
        Protector(columns, key)
    assert HASH_KEY in missing.value.advice
    Protector(apply_to_schema(SMALL, {"a": "mask", "b": "text"}), key)


@pytest.mark.parametrize(("rule", "idle"), [("text", True), ("drop", True), ("mask", False), ("hash", False)])
def test_idle(rule, idle):
    assert Protector(apply_to_schema(SMALL, {"a": rule}), "key").idle is idle
