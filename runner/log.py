"""Readers of the event stream that write lines: for people in a pipe, for machines, for the run's folder."""

from __future__ import annotations

import json
import queue
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import TextIO

from runner.events import Event, LimitChanged
from runner.secrets import redact

_QUIET = (LimitChanged,)


class Lines:
    """One line per event, as a log in a pipe or an orchestrator shows it.

    Args:
        stream: Where to; standard error by default.
        debug: Whether events of single chunks are shown.
        quiet: Whether only warnings and errors are.
    """

    def __init__(self, stream: TextIO | None = None, *, debug: bool = False, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._debug = debug
        self._quiet = quiet

    def __call__(self, at: datetime, event: Event) -> None:
        if (event.level == "debug" or isinstance(event, _QUIET)) and not self._debug:
            return
        if self._quiet and event.level in ("info", "debug"):
            return
        level = "" if event.level in ("info", "debug") else f" {event.level.upper()}"
        self._stream.write(f"{at:%Y-%m-%dT%H:%M:%SZ}{level} {event.action}: {redact(event.sentence())}\n")


class JsonLines:
    """One JSON object per event: at, level, action and the event's own fields.

    Args:
        stream: Where to; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def __call__(self, at: datetime, event: Event) -> None:
        self._stream.write(line(at, event))


class EventFile:
    """Every event in the run's folder, written by a thread so that the loop never waits for the disk."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[datetime, Event] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, at: datetime, event: Event) -> None:
        self._queue.put((at, event))

    def open(self, path: Path) -> None:
        """Begin to write; what was emitted before is written first."""
        self._thread = threading.Thread(target=self._work, args=(path,), name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self, path: Path) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                while (waiting := self._queue.get()) is not None:
                    file.write(line(*waiting))
                    if self._queue.empty():
                        file.flush()
        except OSError:
            # A full disk fails the run where it matters; the stream of events is the report's comfort.
            return


def line(at: datetime, event: Event) -> str:
    """Return an event as a line of JSON."""
    # Values are redacted one by one: over the whole line a pattern could eat a closing quote.
    values = {key: redact(value) if isinstance(value, str) else value for key, value in event.data().items()}
    data = {"at": at.isoformat(), "level": event.level, "action": event.action, **values}
    return json.dumps(data, ensure_ascii=False, default=str) + "\n"
