"""What the API answers about runs, the runs of their tasks, logs and artifacts.

Facts: Orchestra docs, API, "List pipeline runs", "List task runs" (windows of at most 7 days), "List task runs for
a pipeline run" (at most 50 a page), "Cancel a pipeline run" (204); orchestra-cli 0.5.2 (logs by Range, X-File-Status).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from aiohttp import web
from pydantic.alias_generators import to_camel

from connectors.testing.double import answer
from orchestra.testing import refusals
from orchestra.testing.refusals import Refusal, invalid
from orchestra.testing.request import Asked, Route
from orchestra.testing.run import Run
from orchestra.testing.taskrun import STATUSES, TERMINAL, TaskRun

_WINDOW = {"time_from", "time_to", "status", "pipeline_ids"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def listed(asked: Asked) -> web.StreamResponse:
    """Runs of a window, the newest first."""
    query = asked.paged(_WINDOW | {"pipeline_run_ids", "environments"})
    now = asked.now
    begin, end = refusals.window_of(query, now, timedelta(days=7))
    statuses = refusals.statuses_of(query)
    pipelines, runs = refusals.ids_of(query, "pipeline_ids"), refusals.ids_of(query, "pipeline_run_ids")
    environments = refusals.ids_of(query, "environments")
    found = [
        run
        for run in asked.workspace.runs.values()
        if begin <= run.created <= end
        and run.listed_at <= now
        and (not pipelines or run.pipeline in pipelines)
        and (not runs or run.id in runs)
        and (not environments or run.environment in environments)
        and (not statuses or run.status(now) in statuses)
    ]
    found.sort(key=lambda run: run.created, reverse=True)
    head, page = asked.page(found, query)
    return answer({**head, "results": [run.shown(now, asked.workspace.account) for run in page]})


async def one(asked: Asked) -> web.StreamResponse:
    """One run, however old."""
    asked.query()
    if not asked.readings.single:
        raise Refusal(404, "Not Found")
    return answer(asked.run().shown(asked.now, asked.workspace.account))


async def status(asked: Asked) -> web.StreamResponse:
    """How one run is doing, however old it is."""
    asked.query()
    shown = asked.run().shown(asked.now, asked.workspace.account)
    keys = ("id", "pipelineId", "pipelineName", "runStatus", "message", "createdAt") if asked.readings.brief else shown
    return answer({key: shown[key] for key in keys})


async def cancelled(asked: Asked) -> web.StreamResponse:
    """A run is CANCELLING and then CANCELLED; one that stays CANCELLING can be forced after a while."""
    asked.query()
    run, now, workspace = asked.run(), asked.now, asked.workspace
    body = refusals.fields_of(await asked.object(), {"force": (bool,)}) if await asked.request.read() else {}
    if run.status(now) in TERMINAL:
        raise Refusal(400, "Pipeline run has already finished")
    if body.get("force"):
        if run.cancelling is None or now < run.cancelling + timedelta(seconds=workspace.force_after):
            raise Refusal(400, "The cancellation cannot be forced yet")
        run.finish(now, "CANCELLED")
    elif run.cancelling is None:
        run.cancel(now, workspace.cancel_for)
    workspace.keep(run)
    return web.Response(status=204)


async def tasks_of(asked: Asked) -> web.StreamResponse:
    """The newest attempts at the tasks of a run."""
    query = asked.paged()
    run, account = asked.run(), asked.workspace.account
    found = run.task_runs(asked.now)
    head, page = asked.page(found, query, default=10, most=50)
    shown = [task.shown(asked.now, run.given(account)) for task in (found if asked.readings.bare else page)]
    return answer(shown if asked.readings.bare else {**head, "results": shown})


async def tasks(asked: Asked) -> web.StreamResponse:
    """Task runs of a window; pipeline_run_ids is taken and does not filter."""
    known = {"integration", "task_run_ids", "include_superseded", "pipeline_run_ids"}
    query = asked.paged(_WINDOW | known)
    now = asked.now
    begin, end = refusals.window_of(query, now, timedelta(days=7))
    statuses = refusals.statuses_of(query, STATUSES)
    pipelines, wanted = refusals.ids_of(query, "pipeline_ids"), refusals.ids_of(query, "task_run_ids")
    integrations = refusals.words_of(query, "integration")
    superseded = refusals.flag_of(query, "include_superseded")
    found = [
        (task, run)
        for run in asked.workspace.runs.values()
        if run.created <= end and (not pipelines or run.pipeline in pipelines)
        for task in run.task_runs(now, superseded=superseded)
        if begin <= task.created <= end
        and (not wanted or task.id in wanted)
        and (not integrations or task.integration in integrations)
        and (not statuses or task.status(now) in statuses)
    ]
    found.sort(key=lambda both: both[0].created, reverse=True)
    head, page = asked.page(found, query)
    account = asked.workspace.account
    return answer({**head, "results": [task.shown(now, run.given(account)) for task, run in page]})


async def task(asked: Asked) -> web.StreamResponse:
    """One task run, however old."""
    asked.query()
    named = refusals.uuid_of(asked.request.match_info["task"], ["path", "task_run_id"])
    found = asked.workspace.run_of(named) if asked.readings.single else None
    if found is None:
        raise Refusal(404, "Task run not found")
    run, one = found
    return answer(one.shown(asked.now, run.given(asked.workspace.account)))


async def logs(asked: Asked) -> web.StreamResponse:
    """The names of the log files of a task run and of the attempts before it."""
    asked.query()
    found = sorted(_logs(asked))
    files = {name: {"attemptNumber": int(name.partition("/")[0]), "displayName": None} for name in found}
    return answer({"filenames": found, "files": files})


async def log(asked: Asked) -> web.StreamResponse:
    """A part of a log file, which may still grow."""
    name = asked.query({"filename"}).get("filename")
    if name is None:
        raise invalid(["query", "filename"], "Field required", "missing")
    found = _logs(asked).get(name)
    if found is None:
        raise Refusal(404, "Log file not found")
    body, state = found
    return _part(body, asked.request.headers.get("Range", ""), {"X-File-Status": state})


async def artifacts(asked: Asked) -> web.StreamResponse:
    """The names of the artifacts of a task run."""
    asked.query()
    _, task = _task(asked)
    return answer({"filenames": sorted(task.artifacts(asked.now))})


async def artifact(asked: Asked) -> web.StreamResponse:
    """One artifact."""
    name = asked.query({"filename"}).get("filename")
    if name is None:
        raise invalid(["query", "filename"], "Field required", "missing")
    _, task = _task(asked)
    found = task.artifacts(asked.now).get(name)
    if found is None:
        raise Refusal(404, "Artifact not found")
    return _part(found.encode(), asked.request.headers.get("Range", ""), {})


async def operations(asked: Asked) -> web.StreamResponse:
    """Operations of a window."""
    known = {"time_from", "time_to", "operation_type", "integration", "external_id", "task_run_id", "status"}
    query = asked.paged(known)
    now = asked.now
    begin, end = refusals.window_of(query, now, timedelta(days=7))
    kinds = refusals.words_of(query, "operation_type", _OPERATIONS)
    statuses = refusals.word_of(query, "status", _OPERATION_STATUSES)
    integrations = refusals.word_of(query, "integration")
    externals = refusals.word_of(query, "external_id")
    wanted = {refusals.uuid_of(one, ["query", "task_run_id"]) for one in refusals.word_of(query, "task_run_id")}
    found = [
        (task, number, run)
        for run in asked.workspace.runs.values()
        if run.created <= end
        for task in run.task_runs(now)
        if task.script.operations
        and task.ends is not None
        and begin <= task.ends <= end
        and (not wanted or task.id in wanted)
        and (not integrations or task.integration in integrations)
        for number, one in enumerate(task.operations(now))
        if (not kinds or one.type in kinds)
        and (not externals or (one.external_id or one.name) in externals)
        and (not statuses or one.status in statuses)
    ]
    found.sort(key=lambda three: three[0].ends or now, reverse=True)
    head, page = asked.page(found, query)
    account = asked.workspace.account
    shown = [task.shown_operation(number, run.given(account)) for task, number, run in page]
    return answer({**head, "results": shown})


async def assets(asked: Asked) -> web.StreamResponse:
    """Assets; they have no window."""
    query = asked.paged({"asset_type", "integration", "sort_column", "sort_direction"})
    column = refusals.word_of(query, "sort_column", _ASSET_COLUMNS)
    direction = refusals.word_of(query, "sort_direction", ("asc", "desc"))
    kinds = refusals.words_of(query, "asset_type", _ASSETS)
    integrations = refusals.word_of(query, "integration")
    found = [
        one
        for one in asked.workspace.assets(asked.now)
        if (not kinds or one["assetType"] in kinds) and (not integrations or one["integration"] in integrations)
    ]
    if not column:
        # The default is a time that few assets have: of those without, each page has its own order.
        asked.workspace.chance.shuffle(found)
    else:
        found.sort(key=lambda one: str(one.get(to_camel(*column)) or ""), reverse=direction != {"asc"})
    head, page = asked.page(found, query)
    return answer({**head, "results": page})


def _task(asked: Asked) -> tuple[Run, TaskRun]:
    run = asked.run()
    named = refusals.uuid_of(asked.request.match_info["task"], ["path", "task_run_id"])
    for task in run.task_runs(asked.now, superseded=True):
        if task.id == named:
            return run, task
    raise Refusal(404, "Task run not found")


def _logs(asked: Asked) -> dict[str, tuple[bytes, str]]:
    run, task = _task(asked)
    before: Iterable[TaskRun] = (one for one in run.tasks if one.task == task.task and one.attempt <= task.attempt)
    found: dict[str, tuple[bytes, str]] = {}
    for one in before:
        found |= one.log_files(asked.now)
    return found


def _part(body: bytes, wanted: str, headers: dict[str, Any]) -> web.Response:
    """Return a file, or the part of it that was asked for."""
    asked = _RANGE.fullmatch(wanted.replace(" ", ""))
    # Nothing of an empty file can be asked for; whoever begins to read one gets all of it.
    if asked is None or asked.groups() == ("", "") or (not body and asked[1] == "0"):
        return web.Response(body=body, headers={**headers, "Accept-Ranges": "bytes"})
    if asked[1]:
        first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
    else:
        first, last = max(0, len(body) - int(asked[2])), len(body) - 1
    if first > last:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{len(body)}"})
    headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return web.Response(status=206, body=body[first : last + 1], headers=headers)


_OPERATIONS = (
    *("AGGREGATION", "ANALYSIS", "DEPLOY", "INGESTION", "ITERATOR", "MATERIALISATION", "OPERATION", "QUERY", "REFRESH"),
    *("REVERSE_ETL", "SEED", "SNAPSHOT", "SOURCE", "TEST", "TEST_GROUP", "TRIGGER", "UNKNOWN"),
)
_OPERATION_STATUSES = ("CANCELLED", "FAILED", "REUSED", "SKIPPED", "SUCCEEDED", "UNKNOWN", "WARNING")
_ASSETS = ("CHART", "DASHBOARD", "DASHBOARD_VIEWS", "DATASET", "QUERIES", "TABLE", "UNKNOWN", "VIEW", "WORKBOOK")

_ASSET_COLUMNS = (
    *("asset_name", "asset_type", "status", "integration", "created_in_integration", "last_updated_in_integration"),
)

_TASK = "/pipeline_runs/{run}/task_runs/{task}"
ROUTES: tuple[Route, ...] = (
    ("GET", "/pipeline_runs", listed),
    ("GET", "/pipeline_runs/{run}", one),
    ("GET", "/pipeline_runs/{run}/status", status),
    ("POST", "/pipeline_runs/{run}/cancel", cancelled),
    ("GET", "/pipeline_runs/{run}/task_runs", tasks_of),
    ("GET", f"{_TASK}/logs", logs),
    ("GET", f"{_TASK}/logs/download", log),
    ("GET", f"{_TASK}/artifacts", artifacts),
    ("GET", f"{_TASK}/artifacts/download", artifact),
    ("GET", "/task_runs", tasks),
    ("GET", "/task_runs/{task}", task),
    ("GET", "/operations", operations),
    ("GET", "/assets", assets),
)
