"""The sensor file: what it takes, and what it says about mistakes."""

import os
from pathlib import Path

import pytest

from runner.errors import JobFileError, SecretMissing
from sensors.placing import load_sensors, read_sensors
from sensors.schemas import sensor_schema

ROOT = Path(__file__).parents[2]
ONE = "name: s\nsensors:\n  - {name: a, type: cron, cron: '0 6 * * *'"


def load(tmp_path: Path, text: str, **environ: str):
    path = tmp_path / "s.yml"
    path.write_text(text)
    return load_sensors(path, environ=environ)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (f"{ONE}, evry: 5s}}", 3, "unknown key. Did you mean 'every'"),
        (f"{ONE}, crn: x}}", 3, "unknown key. Did you mean 'cron'"),
        (f"{ONE}, every: 100ms}}", 3, "every: "),
        (f"{ONE}, every: soon}}", 3, "is not a duration"),
        (f"{ONE}}}\n  - {{name: a, type: cron, cron: '0 6 * * *'}}", 4, "the name 'a' stands twice"),
        ("name: s\nsensors:\n  - {name: a, type: crun}", 3, "there is no type 'crun'. Did you mean 'cron'"),
        ("name: s\nsensors:\n  - {name: a, type: cron}", 3, "cron: this key is needed"),
        ("name: s\nsensors:\n  - {name: a, type: cron, cron: '0 6 * *'}", 3, "has 4 fields"),
        (f"{ONE}, source: x}}", 3, "takes no source"),
        (f"{ONE}, condition: 'size >'}}", 3, "cannot be read"),
        (f"{ONE}, run_key: '{{a'}}", 3, "is no template"),
        (f"{ONE}, window: {{cron: '0 6 * * *', deadline: 1h, timezone: Mars}}}}", 3, "'Mars' is no time zone"),
        (f"{ONE}, expect: {{by: '25:00'}}}}", 3, "by"),
        (f"{ONE}, expect: {{by: '08:00', every: 1h}}}}", 3, "either by or every"),
        (f"{ONE}, expect: {{by: '08:00', days: monday}}}}", 3, "no list of days"),
        (f"{ONE}, on_event: {{type: webhok, url: x}}}}", 3, "Did you mean 'webhook'"),
        (f"{ONE}, on_event: {{type: webhook, uri: 'https://x'}}}}", 3, "Did you mean 'url'"),
        (f"{ONE}, on_event: [{{type: print}}, {{type: print}}]}}", 3, "two actions are called 'print'"),
        ("name: s\nsensors: []", 2, "at least 1 item"),
        ("name: s\ndefaults: {type: cron}\nsensors:\n  - {name: a, type: cron}", 2, "each sensor's own"),
        ("name: s\nsensors:\n  - {name: a, type: sql, query: select 1}", 3, "needs a source"),
        ("name: s\nsensors:\n  - {name: a, type: sql, query: select 1, source: shop}", 3, "'shop' is not in"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, text)
    assert problem in caught.value.message
    assert f"s.yml:{line}" in caught.value.message


def test_a_secret_that_is_not_set(tmp_path: Path) -> None:
    text = f"{ONE}, on_event: {{type: slack, url: '${{SLACK_URL}}'}}}}"
    with pytest.raises(SecretMissing, match="SLACK_URL"):
        load(tmp_path, text)
    placed = load(tmp_path, text, SLACK_URL="https://hooks.example.org/T0/abcdef")
    assert "abcdef" not in repr(placed)
    assert placed.sensors[0].actions[0].options["url"].endswith("abcdef")
    # Who only looks needs no secret.
    assert read_sensors(tmp_path / "s.yml").name == "s"


def test_defaults_lie_under_every_sensor(tmp_path: Path) -> None:
    text = "name: s\ndefaults: {every: 5s, cron: '0 6 * * *'}\nsensors:\n  - {name: a, type: cron}\n  - {name: b, type: cron, every: 7s}"
    a, b = load(tmp_path, text).sensors
    assert [one.entry.every.total_seconds() for one in (a, b)] == [5, 7]
    with pytest.raises(JobFileError, match=r"s\.yml:2: .*evry"):
        load(tmp_path, text.replace("every: 5s", "evry: 5s"))


def test_sensors_that_name_one_source_share_it(tmp_path: Path) -> None:
    (tmp_path / "connections.yml").write_text("sources: {shop: {type: postgres, dsn: '${DSN}'}}")
    sensor = "  - {name: %s, type: sql, query: select 1, source: shop}\n"
    a, b = load(tmp_path, f"name: s\nsensors:\n{sensor % 'a'}{sensor % 'b'}", DSN="postgresql://localhost/x").sensors
    # Thousands of sensors hold one object, and the file is read once for all of them.
    assert a.source is b.source
    assert (a.source_name, a.source and a.source.options["dsn"]) == ("shop", "postgresql://localhost/x")


def test_disabled_ones_are_left_out(tmp_path: Path) -> None:
    assert (
        load(tmp_path, f"{ONE}, disabled: true}}\n  - {{name: b, type: cron, cron: '0 6 * * *'}}").sensors[0].name
        == "b"
    )


@pytest.mark.parametrize(
    ("change", "starts_over"),
    [
        ("every: 5s", False),
        ("condition: len(time) > 1", False),
        ("on_event: {type: print}", False),
        ("expect: {every: 1d}", False),
        ("timezone: Europe/Berlin", True),
        ("cursor: beginning", True),
    ],
)
def test_what_makes_a_sensor_another_one(tmp_path: Path, change: str, starts_over: bool) -> None:
    before, after = load(tmp_path, f"{ONE}}}").sensors[0], load(tmp_path, f"{ONE}, {change}}}").sensors[0]
    assert (before.digest != after.digest) is starts_over
    assert before.whole != after.whole


@pytest.mark.parametrize("path", sorted((ROOT / "orchestra" / "sensors").glob("*.yml")), ids=lambda path: path.name)
def test_the_examples_can_be_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Anything(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            return True

        def __missing__(self, name: str) -> str:
            return os.environ.get(name, "https://example.org/x")

        def get(self, name: str, default: object = None) -> str:  # type: ignore[override]
            return self[name]

    assert load_sensors(path, environ=Anything()).sensors


def test_the_schema_knows_types_and_actions() -> None:
    schema = sensor_schema()
    kinds = {one["title"] for one in schema["$defs"]["SensorEntry"]["anyOf"]}
    assert {"cron", "sql", "orchestra"} <= kinds
    cron = next(one for one in schema["$defs"]["SensorEntry"]["anyOf"] if one["title"] == "cron")
    assert {"every", "catch_up", "on_event"} <= set(cron["properties"])
    assert {"cron", "name", "type"} <= set(cron["required"])
    actions = {one["title"] for one in schema["$defs"]["ActionEntry"]["anyOf"]}
    assert {"webhook", "slack", "command", "print", "backfill", "task", "pipeline"} <= actions
