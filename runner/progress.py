"""The live view of a run, and the tally behind it: what a person wants to know at a glance."""

from __future__ import annotations

import os
import sys
from collections import deque
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runner.clock import Clock
from runner.events import (
    ChunkSpooled,
    Draining,
    EpochBegan,
    Event,
    LimitChanged,
    Retried,
    RunStarted,
    SourcePaused,
    TableFailed,
    TableParked,
    TablePublished,
    TableStarted,
)
from runner.limits import Budget
from runner.units import format_seconds, format_size

if TYPE_CHECKING:
    from rich.console import RenderableType

_WINDOW = 5.0
_SHOWN = 12


class Tally:
    """Counts the events of one run."""

    def __init__(self, clock: Clock, connections: int) -> None:
        self._clock = clock
        self.began = clock.monotonic()
        self.run = ""
        self.tables = self.published = self.failed = self.parked = self.retries = 0
        self.rows = self.bytes = self.expected_rows = 0
        self.limit = connections
        self.running: dict[str, list[int]] = {}
        self.notes: deque[str] = deque(maxlen=4)
        self.disk: Budget | None = None
        self._recent: deque[tuple[float, int, int]] = deque()

    def __call__(self, at: datetime, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.run, self.tables, self.expected_rows = event.run, event.tables, event.rows
            if event.note:
                self.notes.append(event.note)
        elif isinstance(event, TableStarted):
            self.running[event.table] = [0, event.rows]
        elif isinstance(event, ChunkSpooled):
            self.rows += event.rows
            self.bytes += event.bytes
            self._recent.append((self._clock.monotonic(), event.rows, event.bytes))
            if event.table in self.running:
                self.running[event.table][0] += event.rows
        elif isinstance(event, TablePublished):
            self.published += 1
            self.running.pop(event.table, None)
        elif isinstance(event, TableFailed):
            self.failed += 1
            self.running.pop(event.table, None)
            self.notes.append(f"✗ {event.table}: {event.message}")
        elif isinstance(event, TableParked):
            self.parked += 1
            self.running.pop(event.table, None)
            self.notes.append(event.sentence())
        else:
            self._remark(event)

    def _remark(self, event: Event) -> None:
        if isinstance(event, LimitChanged):
            self.limit = event.limit
        elif isinstance(event, Retried):
            self.retries += 1
        if isinstance(event, EpochBegan) and event.epoch == 1:
            return
        if event.level == "warning" or isinstance(event, SourcePaused | Draining | EpochBegan):
            self.notes.append(event.sentence())

    def speed(self) -> tuple[float, float]:
        """Return rows and bytes a second over the last seconds."""
        now = self._clock.monotonic()
        while self._recent and now - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        span = max(1.0, min(_WINDOW, now - self.began))
        return sum(rows for _, rows, _ in self._recent) / span, sum(size for _, _, size in self._recent) / span

    def left(self) -> float | None:
        """Return the estimated seconds to the end; None where nothing can be said yet."""
        elapsed = self._clock.monotonic() - self.began
        done = self.published + self.failed
        if elapsed < 1 or not self.tables or not done:
            return None
        share = max(done / self.tables, 0.01)
        if self.expected_rows:
            share = (share + min(1.0, self.rows / self.expected_rows)) / 2
        return max(0.0, elapsed / share - elapsed)


class Progress:
    """Shows a tally on a terminal until the block ends.

    Args:
        enabled: False shows nothing: lines or JSON are written instead.
    """

    def __init__(self, tally: Tally, *, enabled: bool) -> None:
        self._tally = tally
        self._live: Any = None
        if enabled:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(get_renderable=self.render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def render(self) -> RenderableType:
        """Return the view as it stands."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        elapsed = tally._clock.monotonic() - tally.began
        rows, size = tally.speed()
        left = tally.left()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{tally.published}/{tally.tables} tables", style="bold green"),
            Text(f"{len(tally.running)} running"),
            Text(f"{tally.failed} failed", style="bold red" if tally.failed else "dim"),
            Text(f"{tally.parked} parked", style="yellow" if tally.parked else "dim"),
            Text(f"{tally.rows:,} rows"),
        )
        foot = [
            f"{rows:,.0f} rows/s",
            f"{format_size(size)}/s",
            f"connections ≤ {tally.limit}",
            f"memory {format_size(resident())}",
        ]
        if tally.disk is not None:
            foot.append(f"spool {format_size(tally.disk.used)}")
        foot.append(f"{format_seconds(elapsed)}" + (f", about {format_seconds(left)} left" if left else ""))
        table = Table.grid(padding=(0, 1))
        # A copy: events arrive on the loop's thread while this one draws.
        running = sorted(tally.running.copy().items(), key=lambda pair: -pair[1][1])
        for name, (done, total) in running[:_SHOWN]:
            bar = ProgressBar(total=max(total, done, 1), completed=done, width=24, pulse=not total)
            table.add_row(Text(name, overflow="ellipsis", no_wrap=True), bar, Text(f"{done:,}", justify="right"))
        if len(running) > _SHOWN:
            table.add_row(Text(f"… and {len(running) - _SHOWN} more", style="dim"))
        overall = ProgressBar(total=max(tally.tables, 1), completed=tally.published + tally.failed, width=60)
        notes = [Text(note, style="yellow", overflow="ellipsis", no_wrap=True) for note in list(tally.notes)]
        bar_line = Table.grid()
        bar_line.add_row(overall)
        return Group(head, bar_line, Text("  ".join(foot), style="dim"), table, *notes)


def resident() -> int:
    """Return this process's resident memory in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
