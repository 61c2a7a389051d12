"""How a node of a dbt project ended, where that is worth an alert; the same from a log and from run_results.json.

Facts: dbt docs, "Run results JSON file" (status, failures, message, unique_id), "meta" (a config of every node).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sensors.alert import Alert, Severity

# What is neither of these, success, pass, skipped or no-op, is told to nobody: what made others skip is told.
SEVERITIES: Mapping[str, Severity] = {
    "warn": "warning",
    "fail": "error",
    "error": "error",
    "runtime error": "error",
    "partial success": "error",
}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_HASH = re.compile(r"\.[0-9a-f]{10}$")
_LONGEST = 1_500
_TESTS = ("test", "unit_test")


@dataclass
class Outcome:
    """A node that failed or warns; a command of dbt that broke off, where it has no node.

    Attributes:
        node: Its unique id; empty for a command.
        status: fail, warn, error, runtime error or partial success.
        invocation: The id of the command: another attempt has another one.
        failures: Rows that a test found; None where it is no test, or did not run.
        reason: dbt's own words.
        channels: Who is told, by ``meta.channel``.
        model: What a test looks at.
    """

    node: str
    status: str
    severity: Severity
    invocation: str = ""
    failures: int | None = None
    reason: str = ""
    description: str = ""
    channels: tuple[str, ...] = ()
    model: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes it one alert, wherever it was read."""
        return f"dbt:{self.invocation}:{self.node or 'command'}:{self.status}"

    @property
    def kind(self) -> str:
        """model, test, unit_test, source, seed, snapshot …; empty for a command."""
        return self.node.partition(".")[0]

    @property
    def name(self) -> str:
        """What a person calls the node: its unique id without kind, package and hash."""
        rest = self.node.split(".", 2)[-1]
        return _HASH.sub("", rest) if self.kind == "test" else rest

    def alert(self, *, url: str = "", **facts: str) -> Alert:
        """Return what a person is told."""
        named = {"node": self.node, "model": self.model.split(".", 2)[-1], **self.facts, **facts}
        return Alert(
            title=self._title(),
            text="\n\n".join(filter(None, (self._words(), self.description))),
            severity=self.severity,
            facts={name: value for name, value in named.items() if value},
            url=url,
            key=self.key,
            channels=self.channels,
        )

    def _title(self) -> str:
        if not self.node:
            return "dbt broke off"
        kind = self.kind.replace("_", " ")
        if self.kind == "source" and self.status in ("warn", "error"):
            return f"dbt source is stale: {self.name}"
        if self.status == "warn":
            return f"dbt {kind} warns: {self.name}"
        if self.kind in _TESTS and self.status == "error":
            return f"dbt {kind} could not run: {self.name}"
        return f"dbt {kind} failed: {self.name}"

    def _words(self) -> str:
        if self.reason:
            return self.reason
        if self.kind == "test" and self.failures:
            return f"Rows that do not pass: {self.failures:,}."
        if self.status == "error" and self.kind != "source":
            return "dbt writes the reason into its log when the command ends."
        return ""


def channels_of(meta: Any) -> tuple[str, ...]:
    """Return the channels that a node's ``meta`` names: a text, several in one with commas, or a list."""
    named = meta.get("channel") if isinstance(meta, Mapping) else None
    parts = named if isinstance(named, list) else [named]
    found = (name for part in parts if isinstance(part, str) for name in re.split(r"[,\s]+", part))
    return tuple(dict.fromkeys(name for name in found if name.strip("#")))


def cleaned(text: Any) -> str:
    """Return dbt's words without colours and empty lines, cut where nobody reads on."""
    if not isinstance(text, str):
        return ""
    lines = (line.rstrip() for line in _ANSI.sub("", text).splitlines())
    whole = "\n".join(line for line in lines if line)
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…"


def known(status: Any) -> str:
    """Return a status as SEVERITIES has it: in small letters, without counts."""
    return str(status or "").partition("(")[0].strip().lower()


def whole(number: Any) -> int | None:
    """Return a count; None where it is none."""
    return number if isinstance(number, int) and not isinstance(number, bool) else None
