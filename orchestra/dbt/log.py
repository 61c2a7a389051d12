"""A log of dbt, as it grows: outcomes out of its structured lines, whatever else stands between them.

Facts: dbt docs, "Events and logs" (``--log-format json``: ``info.name``, ``info.level``, ``data.node_info``), and what
dbt-core 1.10 and 1.11 write: Log…Result at once for each node, RunResultError with its reason when the command ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from orchestra.dbt.outcome import SEVERITIES, Outcome, channels_of, cleaned, known, whole

# A batch is told by its model.
_RESULT = re.compile(r"Log(?!Batch)\w*Result|LogHookEndLine")
_REASONS = ("RunResultError", "RunResultWarningMessage")
# No line that matters is longer; one without an end is not kept for ever.
_LONGEST = 2**20


class DbtLog:
    """One file of a log.

    Args:
        told: Keys of what was told before, from this file or another one; it is added to.

    Attributes:
        structured: How many lines were events of dbt.
    """

    def __init__(self, told: set[str] | None = None) -> None:
        self.structured = 0
        self._told = set() if told is None else told
        self._line = bytearray()
        self._skipping = False
        self._new: dict[str, Outcome] = {}

    def feed(self, data: bytes) -> None:
        """Read on; the last line may be half."""
        first, *more = data.split(b"\n")
        self._grow(first)
        for part in more:
            self.end()
            self._grow(part)

    def end(self) -> None:
        """Read the line that is there as a whole one."""
        line, self._line = bytes(self._line), bytearray()
        skipping, self._skipping = self._skipping, False
        if not skipping and b"{" in line:
            self._read(line.decode("utf-8", "replace"))

    def take(self) -> list[Outcome]:
        """Return what is new since the last call, with the reason where the log has it by now."""
        found, self._new = list(self._new.values()), {}
        return found

    def _grow(self, part: bytes) -> None:
        if self._skipping or len(self._line) + len(part) > _LONGEST:
            self._skipping, self._line = True, bytearray()
        else:
            self._line += part

    def _read(self, line: str) -> None:
        # Whoever collects the lines may have put a time or a colour before and behind.
        try:
            event, _ = json.JSONDecoder().raw_decode(line, line.index("{"))
        except (ValueError, RecursionError):
            return
        info, data = _part(event, "info"), _part(event, "data")
        name = info.get("name")
        if not isinstance(name, str):
            return
        self.structured += 1
        node = _part(data, "node_info")
        if _RESULT.fullmatch(name):
            self._result(info, data, node)
        elif name in _REASONS:
            for outcome in self._new.values():
                if outcome.node == node.get("unique_id") and outcome.invocation == _invocation(info):
                    outcome.reason = cleaned(data.get("msg"))
        elif name == "MainEncounteredError":
            reason = cleaned(data.get("exc") or info.get("msg"))
            self._add(Outcome("", "error", "error", _invocation(info), reason=reason))

    def _result(self, info: Mapping[str, Any], data: Mapping[str, Any], node: Mapping[str, Any]) -> None:
        status = known(data.get("status"))
        if status not in SEVERITIES:
            # A version that spells it otherwise still says how bad it is.
            status = known(info.get("level"))
        unique_id = node.get("unique_id")
        if status not in SEVERITIES or not isinstance(unique_id, str):
            return
        outcome = Outcome(
            unique_id,
            status,
            SEVERITIES[status],
            _invocation(info),
            failures=whole(data.get("num_failures")) if status in ("fail", "warn") else None,
            channels=channels_of(node.get("meta")),
            model=str(data.get("attached_node") or ""),
        )
        self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        if outcome.key not in self._told:
            self._told.add(outcome.key)
            self._new[outcome.key] = outcome


def _part(whole: Any, name: str) -> Mapping[str, Any]:
    part = whole.get(name) if isinstance(whole, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _invocation(info: Mapping[str, Any]) -> str:
    return str(info.get("invocation_id") or "")
