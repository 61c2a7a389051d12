"""A listing and the memory of it, walked side by side as in a merge join: neither is ever held as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connectors.files import FileInfo, in_order
from runner.errors import SensorError
from sensors.room import Memory
from sensors.types.filestate import Rules, State

_RECALLED = 1000
_CHANGES = 10_000


class Remembered:
    """What is remembered of the files behind a path, in the order of their paths."""

    def __init__(self, memory: Memory, sensor: str, after: str | None) -> None:
        self._memory = memory
        self._sensor = sensor
        self._first: str | None = _next(after) if after else ""
        self._found: deque[tuple[str, str]] = deque()

    async def peek(self) -> tuple[str, str] | None:
        """Return the next path and its text; None at the end."""
        if not self._found and self._first is not None:
            found = await self._memory.recall(self._sensor, self._first, limit=_RECALLED)
            self._found.extend(found.items())
            self._first = _next(self._found[-1][0]) if len(found) >= _RECALLED else None
        return self._found[0] if self._found else None

    def drop(self) -> None:
        """Go past the next one."""
        self._found.popleft()

    async def only(self, path: str) -> str | None:
        """Return the text of one path, wherever it stands."""
        return (await self._memory.recall(self._sensor, path, path)).get(path)


@dataclass
class Pass:
    """One poll's way through a listing.

    Args:
        rules: What is new.
        remembered: From the same path on as the listing.
        matches: Which files are meant.
        begun: When the poll began.
        now: The time.
        most: How many new files are enough.
        rising: Whether names only ever rise, so that what is done need not be listed again.

    Attributes:
        new: Files that fire.
        remember: What the memory is to hold.
        after: How far it got.
        mark: With rising names: up to where all is done.
        ordered: Whether the listing was in order so far.
        files: How many files it saw that are meant.
        waiting: How many of those may be new later.
        gone: How many it forgot.
        blocked: Whether one of those that wait was passed: the mark stays before it.
    """

    rules: Rules
    remembered: Remembered
    matches: Callable[[str], bool]
    begun: datetime
    now: Callable[[], datetime]
    most: int
    rising: bool = False
    new: list[FileInfo] = field(default_factory=list)
    remember: dict[str, str | None] = field(default_factory=dict)
    after: str | None = None
    mark: str | None = None
    ordered: bool = True
    files: int = 0
    waiting: int = 0
    gone: int = 0
    blocked: bool = False
    _forgotten: dict[str, None] = field(default_factory=dict)
    _last: bytes = b""

    async def read(self, page: Sequence[FileInfo]) -> bool:
        """Compare a page; tell whether it is worth to go on.

        Raises:
            SensorError: A name that is no text, or names that should rise and do not.
        """
        now = self.now()
        for file in page:
            if self.full or not await self._reach(file.path):
                return False
            if self.matches(file.path):
                self._judge(file, await self._recall(file.path), now)
            if self.rising and not self.blocked:
                self.mark = file.path
            if self.ordered:
                self.after = file.path
        return not self.full

    async def end(self) -> bool:
        """Forget what is remembered behind the last file; tell whether that is all of it."""
        while self.ordered and (entry := await self.remembered.peek()) is not None:
            if self.full:
                return False
            self._forget(entry[0])
        return True

    def changes(self) -> dict[str, str | None]:
        """Return what the memory is to hold, and what not any more."""
        return {**self._forgotten, **self.remember} if self.ordered else self.remember

    @property
    def full(self) -> bool:
        """Whether it is enough for one poll."""
        return len(self.new) >= self.most or len(self.remember) + len(self._forgotten) >= _CHANGES

    async def _reach(self, path: str) -> bool:
        """Forget what is remembered before a path; tell whether that is all of it."""
        try:
            key = path.encode()
        except UnicodeEncodeError:
            shown = in_order(path).decode("utf-8", "backslashreplace")
            raise SensorError(
                f"The name of {shown} is not UTF-8.", guidance="Rename the file, or let `url` name another folder."
            ) from None
        if key <= self._last and self.ordered:
            if self.rising:
                raise SensorError(
                    f"{path} is listed too late: the store lists in no order.", guidance="Leave `append_only` away."
                )
            # What seemed to be gone may come yet.
            self.ordered, self.gone = False, 0
            self._forgotten.clear()
        while self.ordered and (entry := await self.remembered.peek()) is not None and entry[0].encode() < key:
            if self.full:
                return False
            self._forget(entry[0])
        self._last = max(self._last, key)
        return True

    async def _recall(self, path: str) -> str | None:
        if not self.ordered:
            return await self.remembered.only(path)
        entry = await self.remembered.peek()
        if entry is None or entry[0] != path:
            return None
        self.remembered.drop()
        return entry[1]

    def _forget(self, path: str) -> None:
        self.remembered.drop()
        self.after = path
        self.gone += 1
        self._forgotten[path] = None

    def _judge(self, file: FileInfo, text: str | None, now: datetime) -> None:
        verdict, state = self.rules.judge(file, State.read(text), self.begun, now)
        self.files += 1
        if verdict == "new":
            self.new.append(file)
        elif verdict == "open":
            self.waiting += 1
            self.blocked = True
        # With rising names nobody asks again for what is done and stands before all that is not.
        kept = None if self.rising and not self.blocked else state.text()
        if kept != text:
            self.remember[file.path] = kept


def _next(path: str) -> str:
    """Return the path that comes right after another one."""
    return f"{path}\0"
