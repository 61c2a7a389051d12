"""Outputs of a task: values that later tasks of the pipeline read.

Facts: Orchestra docs, "Setting task outputs", and the README of orchestra-sdk (names of letters and underscores that do
not differ by case alone; outputs come before a final status).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestra.webhook import DEADLINE, Event, Webhook

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# What all outputs of a run may take together.
_LARGEST = 5_000_000


def output_name(name: str) -> str:
    """Return a name that Orchestra takes: letters and ``_`` only.

    A digit becomes its word between underscores, whatever else is no letter of ASCII one underscore:
    ``rows/2`` is ``rows_two``.
    """
    spelled = re.sub(r"[0-9]", lambda digit: f"_{_DIGITS[int(digit[0])]}_", name)
    return re.sub(r"[^A-Za-z]+", "_", spelled).strip("_") or "_"


async def set_outputs(
    outputs: Mapping[str, Any], environ: Mapping[str, str], *, first_wait: float = 0.5, deadline: float = DEADLINE
) -> list[str]:
    """Set the outputs of the task run that this process is; nothing happens outside Orchestra.

    Args:
        first_wait: Seconds before the second attempt; each later wait is twice as long.
        deadline: Seconds for everything.

    Returns:
        What went wrong, in words; a task does not fail for it.
    """
    webhook = Webhook(environ)
    if not webhook.run or not outputs:
        return []
    events, warnings = output_events(webhook, outputs)
    return warnings + await webhook.send(events, first_wait=first_wait, deadline=deadline)


def output_events(webhook: Webhook, outputs: Mapping[str, Any]) -> tuple[list[Event], list[str]]:
    """Return the events that set outputs, and why some cannot be set, in words."""
    events: list[Event] = []
    warnings: list[str] = []
    taken: dict[str, str] = {}
    size = 0
    for name, value in outputs.items():
        spelled = output_name(name)
        refused = f"The task's output {name!r} was not set:"
        if spelled.lower() in taken:
            warnings.append(f"{refused} it is {spelled}, as {taken[spelled.lower()]!r} is.")
            continue
        try:
            event = webhook.event(f"the output {spelled}", "SET_OUTPUT", output_name=spelled, output_value=value)
        except ValueError as error:
            warnings.append(f"{refused} it is no JSON ({error}).")
            continue
        if size + len(event.body) > _LARGEST:
            warnings.append(f"{refused} outputs take at most {_LARGEST:,} bytes in a run.")
            continue
        size += len(event.body)
        taken[spelled.lower()] = name
        events.append(event)
    return events, warnings
