"""How starts and runs are shown: a live table on a terminal, a line for each change elsewhere, a table at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from orchestra.launching.launch import Launch, Status
from runner.clock import Clock
from runner.units import format_seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STYLES: dict[Status, str] = {
    "waiting": "dim",
    "starting": "cyan",
    "looking": "yellow",
    "started": "green",
    "running": "cyan",
    "succeeded": "green",
    "warning": "yellow",
    "skipped": "yellow",
    "failed": "red",
    "cancelled": "red",
    "unknown": "magenta",
    "not started": "red",
}
# Those at work are looked at most, then those that went wrong.
_FIRST: tuple[Status, ...] = (
    "looking",
    "starting",
    "unknown",
    "failed",
    "not started",
    "cancelled",
    "skipped",
    "running",
)
_AROUND = 6


def counts(launches: Sequence[Launch]) -> str:
    """Return how many there are of each: 3 running, 2 succeeded."""
    found = Counter(launch.status for launch in launches)
    return ", ".join(f"{found[status]} {status}" for status in _STYLES if found[status])


class LaunchLines:
    """A line for each change, as the log of a pipe or an orchestrator shows it."""

    def __init__(self, clock: Clock, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._clock = clock
        self._stream = stream or sys.stderr
        self._quiet = quiet

    def __call__(self, launch: Launch) -> None:
        if self._quiet and not (launch.bad or launch.status == "looking"):
            return
        words = [launch.detail or launch.status]
        if launch.url and launch.status in ("started", "failed", "cancelled", "skipped", "unknown"):
            words.append(launch.url)
        if launch.error:
            words.append(launch.error)
        self._stream.write(f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ} {launch.name}: {' · '.join(words)}\n")
        self._stream.flush()


class LaunchTable:
    """A live table on a terminal, until the block ends.

    Args:
        console: Standard error by default.
        warnings: Returns what else there is to say.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        clock: Clock,
        console: Console | None = None,
        *,
        warnings: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._launches = launches
        self._clock = clock
        self._warnings = warnings
        self._console = console or Console(stderr=True)
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LaunchTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def render(self) -> Any:
        """Return the view as it stands: as many rows as fit, those that matter first."""
        from rich.console import Group
        from rich.text import Text

        order = {status: place for place, status in enumerate(_FIRST)}
        rows = sorted(self._launches, key=lambda launch: (order.get(launch.status, len(order)), launch.number))
        room = max(3, self._console.height - _AROUND)
        parts: list[Any] = [table(rows[:room], self._clock, brief=True)]
        if len(rows) > room:
            parts.append(Text(f"… and {len(rows) - room} more", style="dim"))
        warned = [Text(line, style="yellow") for line in self._warnings()]
        return Group(Text(counts(self._launches), style="bold"), *warned, *parts)


def table(launches: Sequence[Launch], clock: Clock, *, brief: bool = False) -> Table:
    """Return the starts as a table.

    Args:
        brief: Whether each has one line, without the page of its run.
    """
    from rich.table import Table
    from rich.text import Text

    parts = any(launch.part for launch in launches)
    grid = Table("workspace", "pipeline", box=None, pad_edge=False)
    for head in [*(["part"] if parts else []), "status", "attempts", "time"]:
        width = max((len(str(launch.part or "")) for launch in launches), default=0) if head == "part" else None
        grid.add_column(head, no_wrap=True, min_width=width)
    grid.add_column("" if brief else "run", no_wrap=brief, overflow="ellipsis" if brief else "fold")
    now = clock.monotonic()
    for launch in launches:
        seconds = launch.seconds(now)
        said = [(launch.error or "", "dim")]
        if not brief:
            said = [(launch.url or "", ""), *said, *((f"maybe {url}", "dim") for url in launch.candidates)]
        grid.add_row(
            Text(launch.label),
            Text(launch.pipeline),
            *([Text(str(launch.part or ""))] if parts else []),
            Text(launch.detail or launch.status, style=_STYLES[launch.status]),
            str(launch.attempts),
            "" if seconds is None else format_seconds(seconds),
            Text("\n").join(Text(text, style=style) for text, style in said if text),
        )
    return grid
