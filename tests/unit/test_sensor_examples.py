"""The sensor files that a team starts from are right."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from runner.clock import SystemClock
from runner.plugins import load_plugin
from sensors.placing import load_sensors
from sensors.room import Room
from sensors.sensor import Setting

_FOLDER = Path(__file__).parents[2] / "orchestra" / "sensors"
_ACCOUNT = json.dumps(
    {"type": "service_account", "client_email": "a@b.c", "private_key": "x", "token_uri": "https://x"}
)
_SHEET = "https://docs.google.com/spreadsheets/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit"


class Variables(defaultdict[str, str]):
    def __contains__(self, name: object) -> bool:
        return True


@pytest.mark.parametrize("name", ["http.yml", "saas.yml"])
def test_it_is_read_and_its_sensors_are_made(name: str) -> None:
    environ = Variables(lambda: "https://example.com", SHEETS_KEY=_ACCOUNT, BUDGET_SHEET=_SHEET)
    placed = load_sensors(_FOLDER / name, environ=environ)
    assert len(placed.sensors) >= 3
    room = Room(SystemClock())
    for one in placed.sensors:
        setting = Setting(one.name, one.options, one.source_name, one.source, one.entry.cursor)
        assert load_plugin("runner.sensors", one.entry.type)(setting, room).describe()
