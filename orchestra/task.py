"""What a Python task of Orchestra tells about the run it does: that it is at work, outputs, and how it ended.

Facts: the README of orchestra-sdk (statuses that a task may send, the message, outputs before a final status). Its
decorator swallows the exception of what it wraps, so that a process that failed ends with 0; here the exit code says
the same as the status. Which of the two wins is not written anywhere: they agree, but for WARNING, which ends with 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestra.alerts import alerts_of, destinations, send_alerts
from orchestra.api.workspace import Workspace
from orchestra.outputs import output_events
from orchestra.webhook import Webhook
from runner.errors import RunnerError
from runner.platform import RunReport, TableReport
from runner.tasks import task_group

# As long as the messages of orchestra-sdk.
_LONGEST = 250
# So many tables are named in outputs, where a run has more than one.
_NAMED = 200
_BEGIN, _END, _INTERRUPTED = 5.0, 30.0, 8.0
_NOT_FINISHED = 3


def listens(environ: Mapping[str, str]) -> bool:
    """Tell whether Orchestra started this process, or somebody wants alerts."""
    return bool(environ.get("ORCHESTRA_TASK_RUN_ID") or destinations(environ))


async def begin(environ: Mapping[str, str]) -> list[str]:
    """Tell that the task is at work; returns what went wrong, in words."""
    webhook = Webhook(environ)
    if not webhook.run:
        return []
    event = webhook.event("the status RUNNING", "UPDATE_STATUS", status="RUNNING")
    return await webhook.send([event], deadline=_BEGIN)


async def end(report: RunReport, environ: Mapping[str, str]) -> list[str]:
    """Tell how a run ended: outputs, then the status, then alerts; returns what went wrong, in words."""
    # Who was told to end is killed soon.
    deadline = _INTERRUPTED if report.exit_code == _NOT_FINISHED else _END
    problems: list[str] = []

    async def tell() -> None:
        webhook = Webhook(environ)
        if not webhook.run:
            return
        events, refused = output_events(webhook, outputs_of(report))
        status, words = status_of(report)
        message = shortened(words, _LONGEST)
        events.append(webhook.event(f"the status {status}", "UPDATE_STATUS", status=status, message=message))
        problems.extend(refused + await webhook.send(events, deadline=deadline))

    async def alert() -> None:
        problems.extend(await send_alerts(alerts_of(report, url=_page(environ)), environ, deadline=deadline))

    # One that hangs holds up no other.
    async with task_group() as group:
        group.start_soon(tell)
        group.start_soon(alert)
    return problems


def outputs_of(report: RunReport) -> dict[str, Any]:
    """Return the outputs of a run: of one table what it did, of many also who failed."""
    if not report.run:
        return {}
    found: dict[str, Any] = {
        "run": report.run,
        "state": _state(report),
        "tables": sum(table.state == "published" for table in report.tables),
        "rows": sum(table.rows for table in report.tables if table.state == "published"),
        "failed": [table.name for table in report.tables if table.state == "failed"][:_NAMED],
    }
    if report.command == "task" and len(report.tables) == 1:
        table = report.tables[0]
        found |= {"table": table.destination, "mode": table.mode, "mark": table.mark}
    else:
        found["published"] = [table.destination for table in report.tables if table.state == "published"][:_NAMED]
    return found


def status_of(report: RunReport) -> tuple[str, str]:
    """Return the status of the task and its message."""
    if report.error is not None:
        return "FAILED", " ".join(filter(None, (report.error, report.advice)))
    published = [table for table in report.tables if table.state == "published"]
    done = f"{len(published)} of {len(report.tables)} tables, {sum(table.rows for table in published):,} rows"
    if len(report.tables) == 1 and published:
        done = f"{published[0].destination}: {published[0].rows:,} rows, {published[0].mode}"
    failed = [table for table in report.tables if table.error is not None]
    if report.exit_code == _NOT_FINISHED:
        return "FAILED", f"Not finished: {done}. The next attempt goes on where it stopped."
    if report.exit_code:
        return "FAILED", f"{_wrong(failed)} ({done})" if failed else f"Failed ({done})."
    if report.drift:
        table, change = next(iter(report.drift.items()))
        more = f" and {len(report.drift) - 1} more" if len(report.drift) > 1 else ""
        return "WARNING", f"{done}. Changed: {table}: {change}{more}"
    return "SUCCEEDED", f"{done}."


def shortened(text: str, longest: int) -> str:
    """Return a text of at most that many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _page(environ: Mapping[str, str]) -> str:
    """Return the page of the pipeline run; empty where it is not known."""
    run = environ.get("ORCHESTRA_PIPELINE_RUN_ID", "")
    try:
        return Workspace.of(api_key=None, keyless=True, environ=environ).run_url(run) if run else ""
    except RunnerError:
        return ""


def _state(report: RunReport) -> str:
    return {0: "done", 1: "failed", _NOT_FINISHED: "unfinished"}.get(report.exit_code, "refused")


def _wrong(failed: list[TableReport]) -> str:
    first = failed[0]
    more = f" {len(failed) - 1} more tables failed." if len(failed) > 1 else ""
    return f"{first.name}: {first.error} {first.advice or ''}".strip() + more
