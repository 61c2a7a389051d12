"""Durations, sizes, rates and shares."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from runner.units import (
    Duration,
    Lag,
    Rate,
    Share,
    Size,
    format_seconds,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)


class Values(BaseModel):
    duration: Duration | None = None
    size: Size | None = None
    rate: Rate | None = None
    share: Share | None = None
    lag: Lag | None = None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1w", 604_800),
        ("1.5h", 5400),
        ("0s", 0),
        ("1m500ms", 60.5),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "5x", "5m ", "5M", "1h and 2m"])
def test_wrong_durations(text):
    with pytest.raises(ValueError, match="is not a duration; write for example"):
        parse_duration(text)


def test_a_duration_has_an_end():
    with pytest.raises(ValueError, match="longer than any time"):
        parse_duration("10000000000d")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1B", 1),
        ("2kB", 2000),
        ("2KB", 2000),
        ("2KiB", 2048),
        ("256MiB", 256 * 2**20),
        ("20GB", 20 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        (4096, 4096),
    ],
)
def test_sizes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "20", "20 G", "GB", "-1MB", "1mb", "1iB", "1kiB", 0, -5, True, None])
def test_wrong_sizes(text):
    with pytest.raises(ValueError, match="is not a size; write for example"):
        parse_size(text)


@pytest.mark.parametrize(("text", "per_second"), [("50/s", 50), ("100/m", 100 / 60), ("1/h", 1 / 3600), ("0.5/s", 0.5)])
def test_rates(text, per_second):
    assert parse_rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "50", "0/s", "50/w", "-1/s", "50/ms", "50 per second", 50])
def test_wrong_rates(text):
    with pytest.raises(ValueError, match="is not a rate; write for example"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "share"), [("0%", 0), ("80%", 0.8), ("12.5%", 0.125), ("100%", 1)])
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "80", "101%", "-1%", "% 80", 0.8])
def test_wrong_shares(text):
    with pytest.raises(ValueError, match="is not a percentage; write for example"):
        parse_share(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 2**10, "1.5 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**40, "3.0 TiB"),
        (5000 * 2**40, "5000.0 TiB"),
    ],
)
def test_format_size(count, text):
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.21, "4.2 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (100 * 3600 + 60, "100 h 01 min"),
    ],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_seconds_never_read_sixty():
    assert format_seconds(59.96) == "1 min 00 s"


@given(st.floats(0, 10**9))
def test_formatted_seconds_carry_over(seconds):
    text = format_seconds(seconds)
    numbers = [float(number) for number in re.findall(r"[\d.]+", text)]
    assert all(number < 60 for number in numbers[1:])


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h"]))
def test_durations_read_back(number, unit):
    factor = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
    assert parse_duration(f"{number}{unit}").total_seconds() == pytest.approx(number * factor)


def test_units_in_models():
    values = Values.model_validate({"duration": "5m", "size": "1KiB", "rate": "10/s", "share": "50%", "lag": "1h"})
    assert values.duration == timedelta(minutes=5)
    assert values.size == 1024
    assert values.rate == 10
    assert values.share == 0.5
    assert values.lag == timedelta(hours=1)


@pytest.mark.parametrize("value", [1000, "1000"])
def test_a_lag_may_be_a_number_of_the_cursor(value):
    assert Values.model_validate({"lag": value}).lag == 1000


def test_a_lag_of_text_is_a_duration():
    assert Values.model_validate({"lag": "2d"}).lag == timedelta(days=2)


@pytest.mark.parametrize("field", ["duration", "size", "rate", "share", "lag"])
def test_a_wrong_unit_is_told_by_example(field):
    with pytest.raises(ValidationError, match="write for example"):
        Values.model_validate({field: "soon"})


def test_schemas_say_the_pattern():
    schema = Values.model_json_schema()["properties"]
    pattern = schema["duration"]["anyOf"][0]["pattern"]
    assert re.match(pattern, "1h30m")
    assert not re.match(pattern, "soon")
