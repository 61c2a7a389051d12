"""The metrics, as Prometheus' own parsers read them."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from runner.testing.clock import ManualClock
from sensors.board import Board
from sensors.metrics import render
from sensors.status import Status

ODD = 'a "quoted"\\name\nof two lines\\n'


def read(openmetrics, *, board=None, outbox=()):
    clock = ManualClock()
    at = clock.now().timestamp()
    if board is None:
        board = Board("shop", clock)
        board.statuses["orders"] = Status(
            "orders", "sql", 10.0, last_poll=at, last_success=at - 90.25, last_event=at - 100, alive_by=at - 1,
            failures=9, polls=20, events=3, skipped=2,
        )  # fmt: skip
        board.statuses[ODD] = Status(ODD, "files", 10.0)
        for lateness in (0.0005, 0.003, 0.003, 1000.0):
            board.polled("orders", lateness, 0.2)
        board.stalled(0.5)
        board.fired("orders", "k")
    text = render(board, list(board.statuses.values()), dict(outbox), clock.now(), openmetrics=openmetrics)
    families = list((read_openmetrics if openmetrics else read_prometheus)(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {
        (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
    }, text


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_official_parser_reads_every_sensor(openmetrics):
    found, text = read(openmetrics, outbox={"unknown": 2, "delivered": 7})
    at = ManualClock().now().timestamp()
    assert found["runner_sensor_alive", "orders", "sql"] == 0
    assert found["runner_sensor_alive", ODD, "files"] == 1
    assert found["runner_sensor_last_success_timestamp_seconds", "orders", "sql"] == at - 90.25
    assert found["runner_sensor_last_event_timestamp_seconds", "orders", "sql"] == at - 100
    assert found["runner_sensor_failures_in_row", "orders", "sql"] == 9
    assert found["runner_sensor_polls_total", "orders", "sql"] == 20
    assert found["runner_sensor_events_total", "orders", "sql"] == 3
    assert found["runner_sensor_lag_seconds", "orders", "sql"] == 90.25
    assert found["runner_sensors", "dead"] == 1
    assert found["runner_sensors", "alive"] == 1
    assert found["runner_outbox_deliveries", "unknown"] == 2
    assert found["runner_outbox_deliveries", "pending"] == 0
    assert ("runner_outbox_deliveries", "delivered") not in found
    assert found["runner_loop_stalls_total",] == 1
    assert found["runner_events_total",] == 1
    assert found["process_start_time_seconds",] == at
    assert text.endswith("# EOF\n") is openmetrics


@pytest.mark.parametrize("openmetrics", [False, True])
def test_what_never_happened_has_no_value(openmetrics):
    found, _ = read(openmetrics)
    assert ("runner_sensor_last_success_timestamp_seconds", ODD, "files") not in found
    assert ("runner_sensor_last_event_timestamp_seconds", ODD, "files") not in found
    assert ("runner_sensor_polls_total", ODD, "files") in found


@pytest.mark.parametrize("openmetrics", [False, True])
def test_buckets_add_up(openmetrics):
    found, _ = read(openmetrics)
    bucket = "runner_poll_lateness_seconds_bucket"
    assert [found[bucket, le] for le in ("0.001", "0.0025", "0.005", "300.0", "+Inf")] == [1, 1, 3, 3, 4]
    assert found["runner_poll_lateness_seconds_count",] == 4
    assert found["runner_poll_lateness_seconds_sum",] == pytest.approx(1000.0065)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_board_without_sensors(openmetrics):
    found, _ = read(openmetrics, board=Board("shop", ManualClock()))
    assert found["runner_polls_total",] == 0
