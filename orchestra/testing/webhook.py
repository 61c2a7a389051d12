"""The webhook: what a task says of itself while it runs, and events for sensors.

Facts: Orchestra docs, "Setting task outputs" (outputs before the final status, about 5 MB for a run), "Webhook events"
(kept 7 days); orchestra-sdk 0.2.0 (RUNNING, the final status, then the log).
"""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from connectors.testing.double import answer
from orchestra.testing import refusals
from orchestra.testing.refusals import invalid
from orchestra.testing.request import Asked
from orchestra.testing.run import Run
from orchestra.testing.taskrun import TERMINAL, TaskRun

_LARGEST = 5_000_000
_TOLD = ("CANCELLED", "FAILED", "RUNNING", "SUCCEEDED", "WARNING")


async def event(asked: Asked) -> tuple[web.StreamResponse, dict[str, Any]]:
    """Take an event; return the answer and the event."""
    asked.query()
    said = refusals.event_of(await asked.request.read(), asked.request.content_type)
    if said["event_type"] == "SENSOR_EVENT":
        asked.workspace.sensor_event(str(said["sensor_event_type"]), said["sensor_event"])
        return answer({"message": "Event stored"}), said
    found = asked.workspace.run_of(str(said["task_run_id"]))
    if found is None:
        return _failure(404, "Task run not found", "TASK_NOT_FOUND"), said
    run, task = found
    refused = _ACTS[said["event_type"]](asked, run, task, said)
    if refused is not None:
        return refused, said
    asked.workspace.keep(run)
    return answer({"success": True, "message": "Event processed", "task_run_id": said["task_run_id"]}), said


def _status(asked: Asked, run: Run, task: TaskRun, said: dict[str, Any]) -> web.Response | None:
    status, message = said["status"], said.get("message")
    if status not in _TOLD:
        raise invalid(["body", "status"], f"Input should be {' or '.join(_TOLD)}", "enum")
    if task.over(asked.now):
        return _failure(400, "The task run has ended", "TASK_RUN_ENDED")
    if status in TERMINAL:
        run.settle(task, asked.now, status, message)
    else:
        task.told, task.message = status, message
        task.starts = min(task.starts or asked.now, asked.now)
    return None


def _output(asked: Asked, run: Run, task: TaskRun, said: dict[str, Any]) -> web.Response | None:
    name = said["output_name"]
    if not isinstance(name, str) or not re.fullmatch(asked.readings.output_names, name):
        return _failure(400, f"{name!r} is no name of an output", "INVALID_OUTPUT_NAME")
    if task.over(asked.now):
        return _failure(400, "Outputs are set before the final status", "TASK_RUN_ENDED")
    if not task.takes_outputs():
        return None
    outputs = {**task.outputs, name.lower(): said["output_value"]}
    others = sum(_size(one.outputs) for one in run.tasks if one is not task)
    if others + _size(outputs) > _LARGEST:
        return _failure(400, f"The outputs of a run take at most {_LARGEST} bytes", "OUTPUTS_TOO_LARGE")
    task.outputs = outputs
    return None


def _log(asked: Asked, run: Run, task: TaskRun, said: dict[str, Any]) -> web.Response | None:
    for name in ("log_name", "data"):
        if not isinstance(said[name], str):
            raise invalid(["body", name], "Input should be a valid string", "string_type")
    # The log of a task comes after its final status.
    task.logs[said["log_name"]] = said["data"]
    return None


def _size(outputs: dict[str, Any]) -> int:
    return len(json.dumps(outputs).encode()) if outputs else 0


def _failure(status: int, error: str, code: str) -> web.Response:
    return answer({"success": False, "error": error, "code": code}, status=status)


_ACTS = {"UPDATE_STATUS": _status, "SET_OUTPUT": _output, "LOG": _log}
