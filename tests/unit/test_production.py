"""``production:`` of a job file: what is refused, and why."""

import pytest
from pydantic import ValidationError

from runner.production import PipelineAlert, Production, Quality

SLACK = {"integration": "SLACK", "destination": "#data"}


def test_a_whole_one():
    found = Production.model_validate(
        {
            "schedule": "30 5 * * ? *",
            "timezone": "Europe/London",
            "retry_delay": "10m",
            "timeout": "90m",
            "python_version": 3.11,
            "connections": {"python": "${{ ENV.PYTHON_CONNECTION }}", "test": "warehouse_12345"},
            "quality": {"freshness": {"shop.*": "1d"}},
            "alerts": [{"name": "failed", "destinations": [SLACK]}],
        }
    )
    assert (found.python_version, found.alerts[0].statuses) == ("3.11", ["FAILED"])
    assert Production().schedule is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schedule", "@daily", "six fields"),
        ("schedule", "0 8 * * *", "six fields"),
        ("schedule", "0 8 * * * *", "exactly one of the days"),
        ("schedule", "0 8 ? * ? *", "exactly one of the days"),
        ("retry_delay", "90s", "whole minutes"),
        ("retry_delay", "3h", "at most 120"),
        ("timeout", "500ms", "whole seconds"),
        ("python_version", "3.14", "3.11"),
        ("batch_small", 1, "greater than or equal to 2"),
        ("connections", {"python": "my connection"}, "pattern"),
        ("connections", {"pyton": "x_12345"}, "Extra inputs"),
        ("max_paralel", 3, "Extra inputs"),
        ("alerts", [{"name": "a", "destinations": [SLACK]}] * 2, "one name"),
    ],
)
def test_what_the_platform_would_refuse_is_refused_before(key, value, words):
    with pytest.raises(ValidationError, match=words):
        Production.model_validate({key: value})


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ({"integration": "SLACK"}, "SLACK needs a destination"),
        ({"integration": "PAGER_DUTY", "destination": "me"}, "PAGER_DUTY needs a connection_id"),
        ({"integration": "PIGEON", "destination": "me"}, "SLACK"),
    ],
)
def test_where_an_alert_goes(destination, words):
    with pytest.raises(ValidationError, match=words):
        PipelineAlert.model_validate({"name": "a", "destinations": [destination]})


def test_a_message_is_short():
    with pytest.raises(ValidationError, match="200"):
        PipelineAlert.model_validate({"name": "a", "destinations": [SLACK], "custom_message": "x" * 201})


@pytest.mark.parametrize("wrong", [{"error_after": 1}, {"error_after": 11}, {"freshness": {"a.*": "10s"}}])
def test_thresholds_that_would_be_one(wrong):
    with pytest.raises(ValidationError):
        Quality.model_validate(wrong)
