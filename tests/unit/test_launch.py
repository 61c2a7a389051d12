"""What is said of a start holds no value of an input, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.launching.launch import conceal


@pytest.mark.parametrize(
    ("text", "inputs", "said"),
    [
        ("region eu-west is none", {"region": "eu-west"}, "region *** is none"),
        ("the eu and europe", {"region": "eu"}, "the *** and europe"),
        ("5 of 50", {"rows": 5}, "*** of 50"),
        ("a b  c", {"x": "a\nb c"}, "***"),
        ('{"x": "a\\nb\\"c"}', {"x": 'a\nb"c'}, '{"x": "***"}'),
        ("['deep-1', 'deep-22']", {"x": {"y": ["deep-1", {"z": "deep-22"}]}}, "['***', '***']"),
        ("true, None, and empty", {"a": True, "b": None, "c": ""}, "true, None, and empty"),
        ("cut off: very-long-sec", {"x": "very-long-secret"}, "cut off: ***"),
        ("password=hunter2", {}, "password=***"),
        ("longer-one and longer", {"a": "longer", "b": "longer-one"}, "*** and ***"),
    ],
)
def test_values_are_removed(text: str, inputs: dict[str, Any], said: str) -> None:
    assert conceal(text, inputs) == said
