"""Small tables in one task: the same names on both sides."""

import pytest

from runner.batches import make_batches, tables_of
from runner.errors import UsageError
from runner.lockfile import LockFile


def lock(*small, large=()):
    return LockFile({**{name: {"small": True} for name in small}, **{name: {} for name in large}})


def test_small_tables_are_dealt_out_in_order():
    found = lock("s.a", "s.b", "s.c", "s.d", large=("s.x",))
    assert make_batches(found, 2) == {"small_1": ("s.a", "s.b"), "small_2": ("s.c", "s.d")}


def test_a_table_that_is_left_over_stays_by_itself():
    assert make_batches(lock("s.a", "s.b", "s.c"), 2) == {"small_1": ("s.a", "s.b")}
    assert make_batches(lock("s.a"), 50) == {}


def test_a_table_of_that_name_is_no_batch():
    found = lock("s.a", "s.small_1")
    assert make_batches(found, 2) == {"small_batch_1": ("s.a", "s.small_1")}
    assert tables_of("small_1", "2", found) == ("small_1",)
    assert tables_of("small_batch_1", "2", found) == ("s.a", "s.small_1")


def test_a_table_that_is_called_so_at_the_destination_is_no_batch():
    found = LockFile({"s.a": {"small": True}, "s.b": {"small": True}, "s.c": {"destination": "small_1"}})
    assert list(make_batches(found, 2)) == ["small_batch_1"]


def test_a_table_can_still_be_named_by_itself():
    assert tables_of("s.b", "2", lock("s.a", "s.b")) == ("s.b",)
    assert tables_of("small_1", "", lock("s.a", "s.b")) == ("small_1",)
    assert tables_of("s.b", "", None) == ("s.b",)


@pytest.mark.parametrize("size", ["many", "1", "-2", "2.5"])
def test_a_size_that_is_none(size):
    with pytest.raises(UsageError, match="BATCH_SMALL"):
        tables_of("small_1", size, lock("s.a", "s.b"))


def test_without_a_lock_there_is_nothing_to_find_them_in():
    with pytest.raises(UsageError, match="no lock file"):
        tables_of("small_1", "2", None)
