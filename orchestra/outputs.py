"""Outputs of a task: values that later tasks of the pipeline read.

Facts: Orchestra docs, "Setting task outputs" (POST of SET_OUTPUT events to the webhook with the API key and the id of
the task run) and the README of orchestra-sdk (ORCHESTRA_TASK_RUN_ID, ORCHESTRA_API_KEY, ORCHESTRA_WEBHOOK_URL; names of
letters and underscores that do not differ by case alone).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import anyio

from runner.secrets import hide, redact

if TYPE_CHECKING:
    import httpx

WEBHOOK = "https://webhook.getorchestra.io"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# What all outputs of a run may take together.
_LARGEST = 5_000_000
_ATTEMPTS = 3
_TIMEOUT, _DEADLINE = 10.0, 45.0


def output_name(name: str) -> str:
    """Return a name that Orchestra takes: letters and ``_`` only.

    A digit becomes its word between underscores, whatever else is no letter of ASCII one underscore:
    ``rows/2`` is ``rows_two``.
    """
    spelled = re.sub(r"[0-9]", lambda digit: f"_{_DIGITS[int(digit[0])]}_", name)
    return re.sub(r"[^A-Za-z]+", "_", spelled).strip("_") or "_"


async def set_outputs(
    outputs: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    first_wait: float = 0.5,
    deadline: float = _DEADLINE,
) -> list[str]:
    """Set the outputs of the task run that this process is; nothing happens outside Orchestra.

    To set an output twice is as good as once, so what went wrong for a moment is tried again.

    Args:
        first_wait: Seconds before the second attempt; each later wait is twice as long.
        deadline: Seconds for everything.

    Returns:
        What went wrong, in words; a task does not fail for it.
    """
    run = environ.get("ORCHESTRA_TASK_RUN_ID", "")
    if not run or not outputs:
        return []
    key, url = environ.get("ORCHESTRA_API_KEY", ""), environ.get("ORCHESTRA_WEBHOOK_URL") or WEBHOOK
    if key:
        hide(key)
    wrong = _wrong(run, key, url)
    if wrong:
        return [f"The task's outputs were not set: {wrong}"]
    events, warnings = _events(outputs, run)
    left = [event["output_name"] for event, _ in events]
    try:
        with anyio.move_on_after(deadline) as scope:
            async with await _session(key) as session:
                for event, body in events:
                    failed = await _post(session, url, body, first_wait)
                    left.remove(event["output_name"])
                    if failed:
                        warnings.append(f"The task's output {event['output_name']} was not set: {failed}")
        if scope.cancelled_caught:
            warnings.append(f"The task's outputs were not set in time: {', '.join(left)}.")
    except Exception as error:  # the work of the task is done: whatever this is, it must not undo that
        warnings.append(f"The task's outputs were not set: {type(error).__name__}: {error}")
    return [redact(warning) for warning in warnings]


def _wrong(run: str, key: str, url: str) -> str | None:
    try:
        UUID(run)
    except ValueError:
        return "ORCHESTRA_TASK_RUN_ID is no id of a task run."
    if not key:
        return "ORCHESTRA_API_KEY is not set."
    if not key.isascii() or not key.isprintable():
        return "ORCHESTRA_API_KEY holds what no key holds."
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        return "ORCHESTRA_WEBHOOK_URL is no address."
    return None


def _events(outputs: Mapping[str, Any], run: str) -> tuple[list[tuple[dict[str, Any], bytes]], list[str]]:
    events: list[tuple[dict[str, Any], bytes]] = []
    warnings: list[str] = []
    taken: dict[str, str] = {}
    size = 0
    for name, value in outputs.items():
        spelled = output_name(name)
        if spelled.lower() in taken:
            warnings.append(
                f"The task's output {name!r} was not set: it is {spelled}, as {taken[spelled.lower()]!r} is."
            )
            continue
        event = {
            "event_type": "SET_OUTPUT",
            "task_run_id": run,
            "metadata": {},
            "output_name": spelled,
            "output_value": value,
        }
        try:
            body = json.dumps(event, default=str, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            warnings.append(f"The task's output {name!r} was not set: it is no JSON ({error}).")
            continue
        if size + len(body) > _LARGEST:
            warnings.append(
                f"The task's output {name!r} was not set: outputs take at most {_LARGEST:,} bytes in a run."
            )
            continue
        size += len(body)
        taken[spelled.lower()] = name
        events.append((event, body))
    return events, warnings


async def _session(key: str) -> httpx.AsyncClient:
    # A task that no platform started never loads it.
    import httpx

    return httpx.AsyncClient(
        verify=await anyio.to_thread.run_sync(httpx.create_ssl_context),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        timeout=_TIMEOUT,
        follow_redirects=False,
    )


async def _post(session: httpx.AsyncClient, url: str, body: bytes, wait: float) -> str | None:
    """Send one event; return what went wrong."""
    import httpx

    failed = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            await anyio.sleep(wait * 2 ** (attempt - 1))
        try:
            response = await session.post(url, content=body)
        except httpx.HTTPError as error:
            failed = f"{urlsplit(url).netloc} did not answer ({type(error).__name__})."
            continue
        if response.is_success:
            return None
        failed = f"Orchestra said {response.status_code}: {' '.join(response.text[:300].split())}"
        if response.status_code < 500 and response.status_code not in (408, 425, 429):
            break
    return failed
