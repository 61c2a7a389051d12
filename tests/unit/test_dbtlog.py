"""dbt's log and artifacts, as dbt-core 1.11 with DuckDB wrote them: what they come to, whatever stands between."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.dbt.log import DbtLog
from orchestra.dbt.outcome import Outcome, channels_of
from orchestra.dbt.results import read_outcomes
from runner.errors import UsageError

GOLDEN = Path(__file__).parent / "golden" / "dbt"
TESTS = (GOLDEN / "test.jsonl").read_bytes()
FOUND = {
    ("test.shop.amounts_are_numbers", "error", None, ("data-quality",)),
    ("test.shop.not_null_orders_id.84ef11d8fe", "warn", 1, ("data-quality", "shop-data")),
    ("test.shop.orders_status_known.b3b4fffdeb", "fail", 1, ()),
    ("test.shop.unique_broken_id.a12746f6d5", "error", None, ()),
    ("test.shop.unique_orders_id.1360ecc70e", "fail", 1, ("data-quality",)),
    ("unit_test.shop.orders.orders_has_one_row", "fail", 1, ()),
}


def read(*parts: bytes) -> list[Outcome]:
    log = DbtLog()
    for part in parts:
        log.feed(part)
    log.end()
    return log.take()


def told(outcomes: list[Outcome]) -> set[Any]:
    return {(one.node, one.status, one.failures, one.channels) for one in outcomes}


def event(**data: Any) -> bytes:
    info = {"name": "LogTestResult", "level": "error", "invocation_id": "i"}
    return json.dumps({"info": info | data.pop("info", {}), "data": data}).encode() + b"\n"


def named(status: str = "fail", node: str = "test.shop.a.0123456789", **more: Any) -> bytes:
    return event(status=status, num_failures=2, node_info={"unique_id": node, "meta": {}}, **more)


def test_tests_that_fail_and_warn() -> None:
    found = read(TESTS)
    assert told(found) == FOUND
    reasons = {one.name: one.reason for one in found}
    assert reasons["orders_status_known"] == "Got 1 result, configured to fail if != 0"
    assert reasons["not_null_orders_id"] == "Got 1 result, configured to warn if != 0"
    assert 'Referenced column "no_such" not found' in reasons["amounts_are_numbers"]
    assert "\x1b" not in reasons["orders.orders_has_one_row"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(TESTS)), max_size=12))
def test_it_does_not_matter_where_a_read_ends(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(TESTS)]
    found = read(*(TESTS[begin:end] for begin, end in pairwise(places)))
    assert told(found) == FOUND
    assert all(one.reason for one in found)


def test_a_test_is_told_before_its_command_ends() -> None:
    log = DbtLog()
    lines = TESTS.splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if b'"LogTestResult"' in line)
    log.feed(b"".join(lines[: last + 1]))
    early = log.take()
    assert told(early) == FOUND
    assert not any(one.reason for one in early)
    texts = {one.name: one.alert().text for one in early}
    assert texts["unique_orders_id"] == "Rows that do not pass: 1."
    assert texts["amounts_are_numbers"] == "dbt writes the reason into its log when the command ends."
    log.feed(b"".join(lines[last + 1 :]))
    assert log.take() == []


def test_models_hooks_sources_and_commands() -> None:
    (model,) = read((GOLDEN / "run.jsonl").read_bytes())
    assert (model.node, model.status, model.channels) == ("model.shop.broken", "error", ("shop-data",))
    assert "no_such_column" in model.reason
    assert model.alert().title == "dbt model failed: broken"
    (hook,) = read((GOLDEN / "hook.jsonl").read_bytes())
    assert hook.alert().title == "dbt operation failed: shop-on-run-end-0"
    assert "nope_hook" in hook.reason
    (source,) = read((GOLDEN / "freshness.jsonl").read_bytes())
    assert source.alert().title == "dbt source is stale: raw.payments"
    assert source.channels == ("loading",)
    (command,) = read((GOLDEN / "compile.jsonl").read_bytes())
    assert command.alert().title == "dbt broke off"
    assert "depends on a node named 'nowhere'" in command.alert().text


def test_what_else_stands_in_a_log_is_passed_over() -> None:
    noise = [
        b"12:00:01  Running with dbt=1.11.16\n",
        b"\x1b[0m12:00:02  1 of 2 FAIL 3 unique_orders_id\n",
        b"{}\n[]\n{\n{not json}\n\xff\xfe{\x00\n\r\n",
        b'{"info": "text", "data": 4}\n{"info": {"name": 7}}\n{"info": {"name": "LogTestResult"}, "data": null}\n',
        b'{"info": {"name": "NewEvent", "level": "error"}, "data": {"status": "fail"}}\n',
        event(status="fail", num_failures=True, node_info={"unique_id": None}),
        b"[" * 100_000 + b"{" * 100_000 + b"\n",
    ]
    mixed = b"".join(line for pair in zip(noise, TESTS.splitlines(keepends=True), strict=False) for line in pair)
    rest = b"".join(TESTS.splitlines(keepends=True)[len(noise) :])
    assert told(read(mixed + rest)) == FOUND


def test_a_line_may_have_a_time_before_it_and_colours_around_it() -> None:
    lines = [b"2026-01-01T00:00:00Z \x1b[0m" + line + b"\x1b[0m" for line in TESTS.splitlines()]
    assert told(read(b"\r\n".join(lines))) == FOUND


def test_a_line_without_an_end_is_not_kept() -> None:
    log = DbtLog()
    for _ in range(40):
        log.feed(b'{"info"' + b"x" * 100_000)
    assert len(log._line) <= 2**20
    log.feed(b"\n" + named())
    assert told(log.take()) == {("test.shop.a.0123456789", "fail", 2, ())}


def test_a_thing_is_told_once_for_each_invocation_and_status() -> None:
    known: set[str] = set()
    first, second = DbtLog(known), DbtLog(known)
    first.feed(named() + named() + named("warn"))
    assert len(first.take()) == 2
    second.feed(named())
    assert second.take() == []
    second.feed(named(info={"invocation_id": "another attempt"}))
    assert len(second.take()) == 1


def test_a_reason_belongs_to_its_invocation() -> None:
    node = {"unique_id": "test.shop.a.0123456789"}
    reason = event(msg="why", node_info=node, info={"name": "RunResultError", "invocation_id": "second"})
    found = read(named() + named(info={"invocation_id": "second"}) + reason)
    assert [one.reason for one in found] == ["", "why"]


@pytest.mark.parametrize(
    ("status", "level", "severity"),
    [
        ("fail", "error", "error"),
        ("WARN", "warn", "warning"),
        ("PARTIAL SUCCESS (2/3)", "error", "error"),
        ("runtime error", "error", "error"),
        ("exploded", "error", "error"),
        ("hmm", "warn", "warning"),
        ("pass", "info", None),
        ("OK", "info", None),
        ("CREATE VIEW", "info", None),
        ("skipped", "info", None),
    ],
)
def test_how_bad_it_is(status: str, level: str, severity: str | None) -> None:
    found = read(named(status, info={"level": level}))
    assert [one.severity for one in found] == ([severity] if severity else [])


def test_a_batch_is_not_told_beside_its_model() -> None:
    assert read(named("error", info={"name": "LogBatchResult"})) == []


@pytest.mark.parametrize(
    ("meta", "channels"),
    [
        ({"channel": "data"}, ("data",)),
        ({"channel": "#data, ops"}, ("#data", "ops")),
        ({"channel": ["a", "b", "a", 7, None]}, ("a", "b")),
        ({"channel": ""}, ()),
        ({"channel": {"a": 1}}, ()),
        ({}, ()),
        (None, ()),
        ("channel", ()),
    ],
)
def test_channels(meta: Any, channels: tuple[str, ...]) -> None:
    assert channels_of(meta) == channels


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("test.shop.unique_orders_id.1360ecc70e", "unique_orders_id"),
        ("test.shop.amounts_are_numbers", "amounts_are_numbers"),
        ("model.shop.orders.v2", "orders.v2"),
        ("source.shop.raw.payments", "raw.payments"),
        ("odd", "odd"),
    ],
)
def test_what_a_person_calls_a_node(node: str, name: str) -> None:
    assert Outcome(node, "error", "error").name == name


# Artifacts.


def artifact(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def test_results_say_what_the_log_says_with_the_same_keys() -> None:
    outcomes = read_outcomes(artifact("test_results.json"), artifact("manifest.json"))
    logged = {one.key: one for one in read(TESTS)}
    assert {one.key for one in outcomes} == set(logged)
    for one in outcomes:
        assert (one.channels, one.reason, one.name) == (logged[one.key].channels, logged[one.key].reason, one.name)
    (status,) = (one.alert() for one in outcomes if one.name == "orders_status_known")
    assert status.text == "Got 1 result, configured to fail if != 0\n\nA status that reports know."
    assert status.facts == {
        "node": "test.shop.orders_status_known.b3b4fffdeb",
        "model": "orders",
        "command": "dbt test",
        "file": "models/schema.yml",
    }


def test_results_without_a_manifest_have_no_channels() -> None:
    found = read_outcomes(artifact("run_results.json"))
    assert [(one.node, one.channels) for one in found] == [("model.shop.broken", ())]


def test_stale_sources() -> None:
    (source,) = read_outcomes(artifact("sources.json"), artifact("manifest.json"))
    assert source.alert().title == "dbt source is stale: raw.payments"
    assert source.alert().text == "Payments as they come."
    assert source.channels == ("loading",)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"results": {}}', b'{"nodes": {}}'],
)
def test_what_is_no_artifact_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match=r"run_results\.json"):
        read_outcomes(text)


def test_results_of_other_versions_are_read() -> None:
    old = {
        "results": [{"unique_id": "test.a.b", "status": "fail", "fail": True, "node": None}, {}, None, {"status": 3}]
    }
    (found,) = read_outcomes(json.dumps(old).encode(), b'{"nodes": {"test.a.b": null}, "metadata": 4}')
    assert (found.node, found.failures, found.reason) == ("test.a.b", None, "")
