"""What was accepted, and what differs from it."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from runner.errors import JobFileError
from runner.job import TableEntry
from runner.load import Target, TargetColumn
from runner.lockfile import LockFile
from runner.plan import Plan, TablePlan
from runner.source import Column, Scan, Table

ID = Column("id", pa.int64(), False, "bigint")
NAME = Column("name", pa.string(), True, "text")
CHANGED = Column("changed", pa.timestamp("us", "UTC"), False, "timestamp with time zone")


def planned(name="shop.orders", *, columns=(ID, NAME), mode="full", cursor=None, key=(), target=None) -> TablePlan:
    schema, _, plain = name.partition(".")
    table = Table(schema, plain, columns)
    targets = tuple(TargetColumn(c.name, c.name, c.type, c.nullable) for c in columns)
    return TablePlan(
        Scan(table, columns), Target(target or plain, targets, key), TableEntry(), mode, "why", cursor, "primary key"
    )


def lock(*plans: TablePlan) -> LockFile:
    return LockFile.of(Plan(plans, (), "raw"))


def drift(before: list[TablePlan], now: list[TablePlan]) -> dict[str, str]:
    return lock(*before).compare(Plan(tuple(now), (), "raw"))


def test_what_it_holds():
    found = lock(planned("s.b", mode="incremental", cursor="id", key=("id",)), planned("s.a"))
    assert list(found.tables) == ["s.a", "s.b"]
    assert found.tables["s.b"] == {
        "destination": "b",
        "mode": "incremental",
        "cursor": "id",
        "key": ["id"],
        "columns": {"id": "bigint not null", "name": "text"},
    }


def test_what_production_needs_is_there_and_is_no_drift():
    plan = planned("s.b", columns=(ID, CHANGED), cursor="changed", target="b")
    large, small = (
        replace(plan, scan=replace(plan.scan, table=replace(plan.scan.table, rows=n))) for n in (10_000, 9_999)
    )
    large = replace(large, unique=("id",))
    found = lock(large).tables["s.b"]
    assert (found.get("small"), found["time"], found["unique"]) == (None, "changed", ["id"])
    assert lock(small).tables["s.b"]["small"] is True
    assert "small" not in lock(plan).tables["s.b"]
    merged = replace(large, target=replace(plan.target, key=("id",)))
    assert "unique" not in lock(merged).tables["s.b"]
    assert drift([small], [large]) == {}
    assert drift([large], [small]) == {}


def test_a_rule_is_part_of_a_column():
    masked = replace(NAME, rule="mask")
    assert lock(planned(columns=(ID, masked))).tables["shop.orders"]["columns"]["name"] == "text (mask)"


@pytest.mark.parametrize("key", [(), ("id",)])
def test_written_and_read_again_it_is_the_same(tmp_path, key):
    path = tmp_path / "shop.lock.yml"
    odd = Column("größe: #1", pa.string(), True, "character varying(20)")
    numbers = Column("2024", pa.string(), True, "numeric(10,2)")
    plan = planned("Back Office.Staff: all", columns=(ID, odd, numbers), key=key)
    lock(plan).write(path)
    again = LockFile.read(path)
    assert again.tables == lock(plan).tables
    assert again.compare(Plan((plan,), (), "raw")) == {}
    assert path.read_text().startswith("# Written by `runner plan JOB --lock`")


def test_no_lock(tmp_path):
    assert LockFile.read(tmp_path / "none.lock.yml") is None


def test_an_empty_lock(tmp_path):
    (tmp_path / "x.lock.yml").write_text("version: 1\ntables:\n")
    assert LockFile.read(tmp_path / "x.lock.yml").tables == {}


def test_a_damaged_lock_is_named(tmp_path):
    (tmp_path / "x.lock.yml").write_text("tables: [\n")
    with pytest.raises(JobFileError, match=r"x\.lock\.yml"):
        LockFile.read(tmp_path / "x.lock.yml")


def test_where_it_lies():
    assert LockFile.path(Path("jobs/shop.yml")) == Path("jobs/shop.lock.yml")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"mode": "append"}, "mode was full and is append"),
        ({"cursor": "id"}, "cursor was None and is id"),
        ({"key": ("id",)}, "key was [] and is ['id']"),
        ({"target": "other"}, "destination was orders and is other"),
        ({"columns": (ID, NAME, Column("new", pa.string(), True, "text"))}, "column new is new"),
        ({"columns": (ID,)}, "column name is gone"),
        ({"columns": (ID, replace(NAME, native="citext"))}, "column name was text and is citext"),
        ({"columns": (replace(ID, nullable=True), NAME)}, "column id was bigint not null and is bigint"),
        ({"columns": (ID, replace(NAME, rule="hash"))}, "column name was text and is text (hash)"),
    ],
)
def test_drift_in_words(now, words):
    assert drift([planned()], [planned(**now)]) == {"shop.orders": words}


def test_several_changes_of_one_table():
    found = drift([planned()], [planned(mode="append", columns=(ID,))])
    assert found == {"shop.orders": "mode was full and is append, column name is gone"}


def test_tables_that_came_and_went():
    found = drift([planned("s.old"), planned("s.same")], [planned("s.new"), planned("s.same")])
    assert found == {"s.new": "new", "s.old": "gone, or no longer selected"}


def test_no_drift():
    assert drift([planned("s.a"), planned("s.b")], [planned("s.b"), planned("s.a")]) == {}
