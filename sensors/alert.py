"""An alert: what a person is told when something is wrong, and how Slack and a webhook are told it.

Facts: Slack API docs, "Block Kit" (50 blocks, 150 characters of a header, 3,000 of a section, 10 fields of 2,000) and
"Formatting text for app surfaces" (``&``, ``<`` and ``>`` have a meaning in mrkdwn, none in plain_text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.secrets import redact

Severity = Literal["info", "warning", "error"]

_MARKS: Mapping[Severity, str] = {"info": "ℹ️", "warning": "⚠️", "error": "🔴"}
_HEADER, _SECTION, _FIELDS, _FIELD, _NOTICE = 150, 3_000, 10, 200, 1_000
_BLOCKS = 50
# Slack refuses messages of some more than 13,000 characters in all their blocks (msg_blocks_too_long).
_MESSAGE = 12_000


@dataclass(frozen=True)
class Alert:
    """What a person is told; plain text, without secrets by the time it is sent.

    Attributes:
        title: What happened, in a few words.
        text: More about it; may have several lines.
        facts: Names and values that help to find it.
        url: Where to look.
        key: The same for the same thing told twice; who receives alerts may rely on it.
        channels: Who is told: names of channels. The default one where it is empty.
    """

    title: str
    text: str = ""
    severity: Severity = "error"
    facts: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    key: str = ""
    channels: tuple[str, ...] = ()

    def shown(self) -> dict[str, Any]:
        """Return it as JSON for a webhook."""
        return {
            "title": redact(self.title),
            "text": redact(self.text),
            "severity": self.severity,
            "facts": {name: redact(value) for name, value in self.facts.items()},
            "url": redact(self.url),
            "key": self.key,
            "channels": list(self.channels),
        }


def slack_messages(alerts: Iterable[Alert]) -> Iterator[tuple[list[Alert], dict[str, Any]]]:
    """Return messages for Slack, each with the alerts that it tells: as few as Slack's limits allow."""
    told: list[Alert] = []
    blocks: list[dict[str, Any]] = []
    for alert in alerts:
        more = _blocks(alert)
        if told and (len(blocks) + len(more) > _BLOCKS or _size(blocks) + _size(more) > _MESSAGE):
            yield told, _message(told, blocks)
            told, blocks = [], []
        told.append(alert)
        blocks += more
    if told:
        yield told, _message(told, blocks)


def _message(alerts: list[Alert], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    # What a notification shows, and what reads the message aloud.
    notice = "\n".join(f"{_MARKS[alert.severity]} {redact(alert.title)}" for alert in alerts)
    return {"text": _escaped(notice, _NOTICE), "blocks": blocks}


def _blocks(alert: Alert) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(f"{_MARKS[alert.severity]} {alert.title}", _HEADER)}
    ]
    if alert.text.strip():
        blocks.append({"type": "section", "text": _plain(alert.text.strip("\n"), _SECTION)})
    fields = [_plain(f"{name}: {value}", _FIELD) for name, value in alert.facts.items()][:_FIELDS]
    if fields:
        blocks.append({"type": "section", "fields": fields})
    context = [f"#{_escaped(name.lstrip('#'), _FIELD)}" for name in alert.channels]
    if alert.url:
        context.append(f"<{_escaped(alert.url, _SECTION)}|Open>")
    if context:
        text = {"type": "mrkdwn", "text": _cut(" · ".join(reversed(context)), _SECTION)}
        blocks.append({"type": "context", "elements": [text]})
    return blocks


def _plain(text: str, most: int) -> dict[str, Any]:
    # Plain text: what a database says in an error is never a mention of everybody.
    return {"type": "plain_text", "text": _cut(redact(text), most), "emoji": False}


def _escaped(text: str, most: int) -> str:
    safe = redact(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return safe if len(safe) <= most else re.sub(r"&[a-z]*$", "", safe[: most - 1]) + "…"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _size(blocks: list[dict[str, Any]]) -> int:
    return len(json.dumps(blocks, ensure_ascii=False))
