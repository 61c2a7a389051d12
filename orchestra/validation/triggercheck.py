"""How a pipeline is started and who hears of it: inputs, schedules, sensors, trigger events, the webhook, alerts.

Facts: Orchestra docs, "Inputs", "Schedules", "Sensors", "Trigger events", "Alerts".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from orchestra.pipelinevalues import is_expression, kind_of
from orchestra.validation.awscron import Cron, CronError, parse_cron
from orchestra.validation.names import DESTINATIONS, SENSOR_CHECKS
from orchestra.validation.outline import Outline
from orchestra.validation.parametercheck import check_connection
from orchestra.validation.problems import Findings, mapping, near, sequence
from runner.document import Path_

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ANOMALIES = ("pipeline_duration_above_baseline", "task_duration_above_baseline")
_PIPELINE = re.compile(r"\*|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_WANTED = {"string": str, "number": int | float, "boolean": bool, "dict": dict, "list": list}


def check_triggers(outline: Outline, findings: Findings) -> None:
    """Look at what starts a pipeline, and at what it is given then."""
    data = outline.data
    _inputs(outline, findings)
    for index, schedule in enumerate(sequence(data.get("schedule"))):
        at: Path_ = ("schedule", index)
        _times(mapping(schedule), at, findings)
        _given(outline, mapping(schedule).get("run_inputs"), (*at, "run_inputs"), "this schedule", findings)
    for name, sensor in mapping(data.get("sensors")).items():
        _sensor(outline, mapping(sensor), ("sensors", name), findings)
    for index, event in enumerate(sequence(data.get("trigger_events"))):
        at = ("trigger_events", index)
        pipeline = mapping(event).get("pipeline_id")
        if isinstance(pipeline, str) and not _PIPELINE.fullmatch(pipeline):
            hint = 'It stands in the address of the pipeline in Orchestra; "*" is any pipeline.'
            findings.error((*at, "pipeline_id"), f"{pipeline!r} is no id of a pipeline.", hint)
        _given(outline, mapping(event).get("run_inputs"), (*at, "run_inputs"), "this trigger event", findings)
    webhook = mapping(data.get("webhook"))
    # Whoever calls the webhook can give more.
    _given(outline, webhook.get("run_inputs"), ("webhook", "run_inputs"), None, findings)


def check_alerts(outline: Outline, findings: Findings) -> None:
    """Look at alerts and anomalies, wherever they are."""
    for path, owner in _owners(outline):
        names: set[str] = set()
        for index, alert in enumerate(sequence(owner.get("alerts"))):
            at = (*path, "alerts", index)
            name = mapping(alert).get("name")
            if isinstance(name, str) and name in names:
                findings.error((*at, "name"), f"two alerts here are called {name!r}.")
            elif isinstance(name, str):
                names.add(name)
            for key in ("statuses", "destinations"):
                if mapping(alert).get(key) == []:
                    findings.error((*at, key), f"without {key} nobody hears of it.")
            if path[:1] == ("sensors",):
                for number, status in enumerate(sequence(mapping(alert).get("statuses"))):
                    if status != "FAILED":
                        message = f"sensors give no alert for {status}."
                        findings.warn((*at, "statuses", number), message, "Known: FAILED.")
            _destinations(mapping(alert), at, findings)
        for index, anomaly in enumerate(sequence(owner.get("anomalies"))):
            at = (*path, "anomalies", index)
            kind = mapping(anomaly).get("type")
            if isinstance(kind, str) and kind not in _ANOMALIES:
                hint = near(kind, _ANOMALIES, f"Known: {', '.join(_ANOMALIES)}.")
                findings.warn((*at, "type"), f"the type {kind!r} is not known.", hint)
            _destinations(mapping(anomaly), at, findings)


def _owners(outline: Outline) -> Iterator[tuple[Path_, dict[str, Any]]]:
    yield (), dict(outline.data)
    for task in outline.every_task():
        yield task.path, dict(task.data)
    for name, sensor in mapping(outline.data.get("sensors")).items():
        yield ("sensors", name), mapping(sensor)


def _destinations(owner: dict[str, Any], path: Path_, findings: Findings) -> None:
    for index, one in enumerate(sequence(owner.get("destinations"))):
        at, destination = (*path, "destinations", index), mapping(one)
        integration = destination.get("integration")
        if isinstance(integration, str) and integration not in DESTINATIONS:
            hint = near(integration, DESTINATIONS, f"Known: {', '.join(DESTINATIONS)}.")
            findings.warn((*at, "integration"), f"the destination {integration!r} is not known.", hint)
        if integration in ("SLACK", "EMAIL") and not destination.get("destination"):
            findings.warn_of_key(at, f"{integration} needs the key 'destination'.")
        check_connection(destination.get("connection_id"), (*at, "connection_id"), findings)


def _inputs(outline: Outline, findings: Findings) -> None:
    for name, one in outline.inputs.items():
        at: Path_ = ("inputs", name)
        if not _NAME.fullmatch(name):
            hint = f"Did you mean {re.sub(r'[^A-Za-z0-9_]', '_', name)!r}?"
            message = f"{name!r} is no name of an input: letters, digits and _ are, and no digit at first."
            findings.error_of_key(at, message, hint if re.match(r"[A-Za-z_]", name) else "")
        declared = mapping(one)
        if declared.get("default") is not None:
            _value(declared["default"], declared.get("type"), (*at, "default"), "the default", findings)


def _value(value: Any, kind: Any, at: Path_, what: str, findings: Findings) -> None:
    """Compare a value with the type of its input."""
    wanted = _WANTED.get(str(kind))
    if wanted is None or value is None or is_expression(value):
        return
    if isinstance(value, wanted) and not (kind == "number" and isinstance(value, bool)):
        return
    if isinstance(value, str) and _reads_as(value, str(kind)):
        findings.warn(at, f"{what} is a text, and the type is {kind}.", "Leave the quotes out.")
    elif kind == "string" and not isinstance(value, dict | list):
        findings.warn(at, f"{what} is {kind_of(value)}, and the type is string.", "Quote it.")
    else:
        findings.error(at, f"{what} is {kind_of(value)}, and the type is {kind}.")


def _reads_as(text: str, kind: str) -> bool:
    try:
        read = json.loads(text.lower() if kind == "boolean" else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(read, _WANTED[kind]) and not (kind == "number" and isinstance(read, bool))


def _given(outline: Outline, run_inputs: Any, at: Path_, who: str | None, findings: Findings, *more: str) -> None:
    """Compare what a trigger gives with what the pipeline takes.

    Args:
        who: The trigger, in words; None where somebody else can give the rest.
        more: Inputs that it gives in another way.
    """
    given = mapping(run_inputs)
    for name, value in given.items():
        _known_input(outline, name, (*at, name), findings)
        _value(value, mapping(outline.inputs.get(name)).get("type"), (*at, name), f"the value of {name!r}", findings)
    if who is None:
        return
    for name, one in outline.inputs.items():
        declared = mapping(one)
        needed = declared.get("default") is None and declared.get("optional") is not True
        if needed and name not in given and name not in more:
            message = f"{who} cannot start the pipeline: it gives no {name!r}."
            findings.warn_of_key(at[:-1], message, "Give it in run_inputs, or give the input a default.")


def _known_input(outline: Outline, name: str, at: Path_, findings: Findings) -> None:
    if name not in outline.inputs:
        hint = near(name, outline.inputs, "" if outline.inputs else "The pipeline declares no inputs.")
        findings.warn_of_key(at, f"the pipeline has no input {name!r}.", hint)


def _times(owner: dict[str, Any], at: Path_, findings: Findings) -> Cron | None:
    """Look at a cron, its zone and the days without a run."""
    zone = owner.get("timezone")
    if isinstance(zone, str) and not is_expression(zone) and not _is_zone(zone):
        hint = near(zone, available_timezones(), "For example UTC or Europe/London.")
        findings.error((*at, "timezone"), f"there is no time zone {zone!r}.", hint)
    for index, day in enumerate(sequence(owner.get("exclude"))):
        if isinstance(day, str) and not _is_day(day):
            findings.error((*at, "exclude", index), f"{day!r} is no day.", "For example 2026-12-25.")
    cron = owner.get("cron")
    if not isinstance(cron, str) or is_expression(cron):
        return None
    try:
        return parse_cron(cron)
    except CronError as error:
        word = cron[error.offset :].split(" ")[0]
        place = findings.located.inside((*at, "cron"), cron, 0, cron[: error.offset] if word else "")
        findings.add(place, f"{error}" if str(error).startswith("the cron") else f"cron: {error}", error.hint)
        return None


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _sensor(outline: Outline, sensor: dict[str, Any], at: Path_, findings: Findings) -> None:
    cron = _times(sensor, at, findings)
    minutes = sensor.get("timeout_mins")
    gap = cron.shortest_gap() if cron else None
    if gap is not None and isinstance(minutes, int) and not isinstance(minutes, bool) and minutes > gap:
        message = f"a window of {minutes} minutes is still open when the next one begins, after {gap}."
        findings.error((*at, "timeout_mins"), message)
    checks = mapping(sensor.get("checks"))
    if sensor.get("checks") == {}:
        findings.error((*at, "checks"), "a sensor needs a check.")
    mapped: list[str] = []
    for name, one in checks.items():
        check, place = mapping(one), (*at, "checks", name)
        kind = check.get("sensor_type")
        if isinstance(kind, str) and kind not in SENSOR_CHECKS:
            hint = near(kind, SENSOR_CHECKS, f"Known: {', '.join(SENSOR_CHECKS)}.")
            findings.warn((*place, "sensor_type"), f"the sensor type {kind!r} is not known.", hint)
        expected = SENSOR_CHECKS.get(str(kind))
        if expected is not None and isinstance(check.get("integration"), str) and check["integration"] != expected:
            message = f"{kind} is a check of {expected}, not of {check['integration']}."
            findings.warn((*place, "integration"), message)
        check_connection(check.get("connection"), (*place, "connection"), findings)
        for key in mapping(check.get("map_outputs")):
            _known_input(outline, key, (*place, "map_outputs", key), findings)
            mapped.append(key)
    _given(outline, sensor.get("run_inputs"), (*at, "run_inputs"), "this sensor", findings, *mapped)
