"""What is remembered of one file, and what a poll makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from connectors.files import FileInfo

# What becomes of a file: nothing, it is new, or it may be later.
Verdict = Literal["known", "new", "open"]
_SEEN = "="


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of one file.

    Attributes:
        seen: The tag that fired, or was taken as seen.
        waiting: The tag that waits until it has settled.
        since: When it was found.
    """

    seen: str | None = None
    waiting: str | None = None
    since: datetime | None = None

    @classmethod
    def read(cls, text: str | None) -> State:
        """Return what a text of the memory says."""
        if text is None:
            return cls()
        if text.startswith(_SEEN):
            return cls(text.removeprefix(_SEEN))
        seen, waiting, since = json.loads(text)
        return cls(seen, waiting, datetime.fromisoformat(since))

    def text(self) -> str | None:
        """Return the text for the memory; None: there is nothing to remember."""
        if self.waiting is not None and self.since is not None:
            return json.dumps([self.seen, self.waiting, self.since.isoformat()])
        return None if self.seen is None else f"{_SEEN}{self.seen}"


@dataclass(frozen=True)
class Rules:
    """When a file is new.

    Attributes:
        settle: How long it must have been the same.
        empty: Whether files without a byte count.
        rewritten: Whether a file that is written again is new.
        late_before: Files that were modified before that came too late; None: none does.
        there: Whether a file was there before the sensor was.
    """

    settle: timedelta
    empty: bool
    rewritten: bool
    late_before: datetime | None
    there: Callable[[FileInfo], bool]

    def judge(self, file: FileInfo, state: State, begun: datetime, now: datetime) -> tuple[Verdict, State]:
        """Return what becomes of a file, and what is remembered of it from now on.

        Args:
            begun: When this poll began to look: what it sees is no older.
            now: Not before it saw the file.
        """
        if file.size == 0 and not self.empty:
            # Whatever it will be, it is not there yet.
            return "open", State(state.seen)
        if file.tag == state.waiting and state.since is not None:
            if begun - state.since >= self.settle:
                return "new", State(file.tag)
            return "open", State(state.seen, file.tag, min(state.since, now))
        if file.tag == state.seen:
            return "known", State(state.seen)
        known = state.seen is not None
        if known and not self.rewritten:
            return "known", State(state.seen)
        if state.waiting is None and (self._late(file) or (not known and self.there(file))):
            return "known", State(file.tag)
        if not self.settle:
            return "new", State(file.tag)
        return "open", State(state.seen, file.tag, now)

    def _late(self, file: FileInfo) -> bool:
        return self.late_before is not None and file.modified < self.late_before
