"""What a monitor scrapes: the board as text in Prometheus' format, or in that of OpenMetrics.

References: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (1.0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from runner import __version__
from sensors.board import Board
from sensors.histogram import BOUNDS, Histogram
from sensors.status import STANDINGS, Status

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# How many were delivered in all is not counted: of those the outbox forgets the old ones.
_OUTBOX = ("pending", "sending", "unknown", "failed")
_Sample = tuple[str, float | None]


def render(
    board: Board, statuses: Sequence[Status], outbox: Mapping[str, int], now: datetime, *, openmetrics: bool = False
) -> str:
    """Return the text.

    Args:
        board: What is counted for the process.
        statuses: A copy of its list of sensors: this is called in a thread.
        outbox: How many deliveries are in each state.
        openmetrics: Whether it is for who asked for OpenMetrics.
    """
    text = _Text(openmetrics=openmetrics)
    text.add("process_start_time_seconds", "gauge", "When the process began.", [("", board.started_at)])
    label = f'{{file="{escape(board.name)}",version="{escape(__version__)}"}}'
    text.add("runner_sensors_running", "gauge", "1, with the name of the sensor file and the version.", [(label, 1)])
    counts = Counter(one.standing(now) for one in statuses)
    text.add(
        "runner_sensors",
        "gauge",
        "Sensors by how they are doing; each counts once, by the worst that is true of it.",
        ((f'{{state="{standing}"}}', counts[standing]) for standing in STANDINGS),
    )
    refused = "Whether the file was changed, and what it says now is refused."
    text.add("runner_sensor_file_refused", "gauge", refused, [("", int(board.refused is not None))])
    text.add("runner_polls_total", "counter", "Polls that ended, of all sensors.", [("", board.polls)])
    text.add("runner_poll_failures_total", "counter", "Polls that failed, of all sensors.", [("", board.failures)])
    text.add("runner_events_total", "counter", "Events that fired, of all sensors.", [("", board.events)])
    text.spread("runner_poll_lateness_seconds", "How long after it was due a poll began.", board.lateness)
    text.spread("runner_poll_duration_seconds", "How long a poll took.", board.seconds)
    text.add(
        "runner_outbox_deliveries",
        "gauge",
        "Deliveries in the outbox by state; unknown ones wait for a person.",
        ((f'{{state="{state}"}}', outbox.get(state, 0)) for state in _OUTBOX),
    )
    text.add("runner_loop_stalls_total", "counter", "Times that the loop stood still.", [("", board.stall_count)])
    text.add(
        "runner_loop_stall_seconds_total", "counter", "Seconds that the loop stood still.", [("", board.stall_seconds)]
    )
    labels = [f'{{sensor="{escape(one.name)}",type="{escape(one.kind)}"}}' for one in statuses]
    for name, kind, words, value in _PER_SENSOR:
        text.add(f"runner_sensor_{name}", kind, words, zip(labels, map(value, statuses), strict=True))
    alive = ((label, one.alive(now)) for label, one in zip(labels, statuses, strict=True))
    text.add("runner_sensor_alive", "gauge", "Whether its last successful poll is recent enough.", alive)
    return text.end()


_PER_SENSOR: tuple[tuple[str, str, str, Callable[[Status], float | None]], ...] = (
    ("last_success_timestamp_seconds", "gauge", "When its last successful poll ended.", lambda one: one.last_success),
    ("last_event_timestamp_seconds", "gauge", "When it fired last.", lambda one: one.last_event),
    ("alive_by_timestamp_seconds", "gauge", "When it must have polled with success again.", lambda one: one.alive_by),
    ("missed_timestamp_seconds", "gauge", "Since when an expected event is missing.", lambda one: one.missed),
    ("lag_seconds", "gauge", "Seconds between its last poll and the last that succeeded.", lambda one: one.lag),
    ("failures_in_row", "gauge", "Failed polls in a row.", lambda one: one.failures),
    ("polls_total", "counter", "Its polls.", lambda one: one.polls),
    ("events_total", "counter", "Its events.", lambda one: one.events),
    ("skipped_total", "counter", "Its polls that were left out because one took too long.", lambda one: one.skipped),
)


def escape(text: str) -> str:
    """Return a label's value as both formats write it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Text:
    def __init__(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._lines: list[str] = []

    def add(self, name: str, kind: str, words: str, samples: Iterable[_Sample]) -> None:
        """Add a family; a sample without a value is left out."""
        self._head(name, kind, words)
        self._lines.extend(f"{name}{label} {_number(value)}" for label, value in samples if value is not None)

    def spread(self, name: str, words: str, histogram: Histogram) -> None:
        """Add a histogram."""
        self._head(name, "histogram", words)
        # One copy: its buckets go on counting while this is written.
        so_far = list(accumulate(tuple(histogram.counts)))
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), so_far, strict=True):
            self._lines.append(f'{name}_bucket{{le="{bound}"}} {count}')
        self._lines += [f"{name}_sum {_number(histogram.total)}", f"{name}_count {so_far[-1]}"]

    def _head(self, name: str, kind: str, words: str) -> None:
        # OpenMetrics calls a counter's family by its name without the suffix of its sample.
        family = name.removesuffix("_total") if self._openmetrics and kind == "counter" else name
        self._lines += [f"# HELP {family} {words}", f"# TYPE {family} {kind}"]

    def end(self) -> str:
        """Return all of it."""
        return "\n".join([*self._lines, *(["# EOF"] if self._openmetrics else []), ""])


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, int) else repr(round(value, 6))
