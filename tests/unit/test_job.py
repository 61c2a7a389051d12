"""What a job file may say, and which entries apply to a table."""

import pytest
from pydantic import ValidationError

from runner.job import Environment, Job, Limits, TableEntry, is_exact, matches


def job(tables: dict, **more) -> Job:
    return Job.model_validate({"name": "shop", "source": "shop", "tables": tables, **more})


@pytest.mark.parametrize(
    ("pattern", "qualified", "expected"),
    [
        ("shop.orders", "shop.orders", True),
        ("shop.*", "shop.orders", True),
        ("shop.*", "ops.orders", False),
        ("orders", "shop.orders", True),
        ("orders", "shop.orders_old", False),
        ("*_bak", "shop.orders_bak", True),
        ("*", "shop.orders", True),
        ("s*.o*", "shop.orders", True),
        ("shop", "shop.orders", False),
        ("shop.order?", "shop.orders", True),
        ("shop.[a-c]*", "shop.baskets", True),
        ("shop.[a-c]*", "shop.orders", False),
        ("Shop.*", "shop.orders", False),
        ("shop.we[i]rd", "shop.we[i]rd", True),
        ("Back Office.staff", "Back Office.staff", True),
        ("v1.2", "shop.v1.2", False),
    ],
)
def test_patterns(pattern, qualified, expected):
    assert matches(pattern, qualified) is expected


@pytest.mark.parametrize(("pattern", "exact"), [("a.b", True), ("a.*", False), ("a?", False), ("[ab]", False)])
def test_a_pattern_without_signs_is_one_table(pattern, exact):
    assert is_exact(pattern) is exact


def test_a_table_without_a_pattern_is_not_moved():
    assert job({"shop.*": None}).entry("ops.log") is None


def test_a_pattern_alone_takes_the_defaults():
    entry = job({"shop.*": None}, defaults={"mode": "auto", "lag": 5}).entry("shop.a")
    assert (entry.mode, entry.lag) == ("auto", 5)


def test_entries_merge_key_by_key_in_file_order():
    found = job(
        {
            "shop.orders": {"mode": "append", "as": "o1"},
            "shop.*": {"mode": "full", "where": "true"},
            "orders": {"as": "o2"},
        },
        defaults={"mode": "auto", "special": "null"},
    ).entry("shop.orders")
    assert (found.mode, found.where, found.as_, found.special) == ("full", "true", "o2", "null")


def test_a_later_pattern_wins_even_if_it_is_wider():
    assert job({"shop.orders": {"mode": "full"}, "*": {"mode": "append"}}).entry("shop.orders").mode == "append"


def test_column_rules_merge_by_column_and_the_later_wins():
    found = job(
        {
            "*": {"columns": {"email": "mask", "phone": "drop"}},
            "shop.*": {"columns": {"email": "hash", "name": "mask"}},
        },
        defaults={"columns": {"ip": "drop"}},
    ).entry("shop.customers")
    assert found.columns == {"ip": "drop", "email": "hash", "phone": "drop", "name": "mask"}


def test_a_column_rule_of_a_later_entry_stands_last():
    found = job({"*": {"columns": {"email": "mask", "e*": "drop"}}, "shop.*": {"columns": {"email": "hash"}}}).entry(
        "shop.customers"
    )
    assert list(found.columns)[-1] == "email"


def test_a_key_can_be_taken_back():
    found = job({"*": {"cursor": "at"}, "shop.*": {"cursor": None}}).entry("shop.a")
    assert found.cursor is None


def test_excluded_and_disabled_tables_are_not_moved():
    found = job({"*": None, "shop.old": {"disabled": True}}, exclude=["*_bak", "tmp.*"])
    assert found.entry("shop.orders_bak") is None
    assert found.entry("tmp.x") is None
    assert found.entry("shop.old") is None
    assert found.entry("shop.orders") is not None


def test_a_later_entry_enables_again():
    assert job({"shop.*": {"disabled": True}, "shop.a": {"disabled": False}}).entry("shop.a") is not None


def test_over_keeps_the_base_untouched():
    base = TableEntry(mode="full", columns={"a": "drop"})
    merged = TableEntry(columns={"b": "mask"}).over(base)
    assert merged.columns == {"a": "drop", "b": "mask"}
    assert merged.mode == "full"
    assert base.columns == {"a": "drop"}
    assert merged.key is None


@pytest.mark.parametrize(
    "broken",
    [
        {"tables": {}},
        {"tables": {" ": None}},
        {"name": "7up"},
        {"name": "a b"},
        {"name": "a" * 64},
        {"tables": {"a": {"mode": "sometimes"}}},
        {"tables": {"a": {"as": ""}}},
        {"tables": {"a": {"columns": {"x": "encrypt"}}}},
        {"limits": {"tables": 0}},
        {"limits": {"memory": "much"}},
        {"retry": {"attempts": 0}},
        {"schema": "drop"},
        {"unknown": 1},
        {"environments": {"prod": {"tabels": {}}}},
        {"environments": {"prod": {"name": "other"}}},
        {"environments": {"prod": {"environments": {}}}},
    ],
)
def test_what_is_refused(broken):
    with pytest.raises(ValidationError):
        Job.model_validate({"name": "shop", "source": "s", "tables": {"*": None}, **broken})


def test_an_environment_may_overlay_any_other_key():
    overlay = Environment.model_validate(
        {"protected": True, "source": "x", "limits": {"tables": 1}, "schema": "freeze", "tables": {}}
    )
    assert overlay.protected
    assert not Environment.model_validate({}).protected


def test_units_are_read():
    limits = Limits.model_validate({"memory": "1GiB", "rate": "10/s", "park": "1m", "quota": "50%"})
    assert (limits.memory, limits.rate, limits.park.total_seconds(), limits.quota) == (2**30, 10, 60, 0.5)


def test_models_are_frozen():
    with pytest.raises(ValidationError):
        job({"*": None}).name = "other"
