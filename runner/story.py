"""The story of a run: what the ledger says, with what the events add: when, where, how fast."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """A table in a slot for a time, in seconds since 1970."""

    table: str
    slot: int
    start: float
    end: float
    state: str


@dataclass
class Story:
    """What the ledger says, with what the events add: when, where, how fast."""

    run: Row
    tables: list[Row]
    chunks: list[Row]
    attempts: list[Row]
    events: list[Row]
    bars: list[Bar] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = [event for event in self.events if "action" in event and seconds_of(event.get("at")) is not None]
        self.tables = [{**row, "state": state_of(row)} for row in self.tables]
        self.states = Counter(row["state"] for row in self.tables)
        self.of_table: defaultdict[str, list[Row]] = defaultdict(list)
        for chunk in self.chunks:
            self.of_table[chunk["table_name"]].append(chunk)
        for process in _processes(self.events):
            times = [at_of(event) for event in process]
            self.spans.append((min(times), max(times)))
            self.bars += _bars_of_process(process, max(times))
        self._add_bars_of_ledger()
        self.spans = _merged(self.spans)
        self.seconds = sum(end - start for start, end in self.spans)

    def _add_bars_of_ledger(self) -> None:
        """Place the tables that no event tells about: a killed process leaves only its ledger."""
        seen = {bar.table for bar in self.bars}
        known = [seconds_of(self.run.get(key)) for key in ("started", "finished")]
        known += [seconds_of(row[key]) for row in self.tables for key in ("started", "finished")]
        known += [seconds_of(self.run.get("seen"))] if self.run.get("finished") is None else []
        last = max((at for at in known if at is not None), default=0.0)
        lanes: list[float] = []
        started = [(seconds_of(row["started"]), row) for row in self.tables if row["name"] not in seen]
        placed = [(start, row) for start, row in started if start is not None]
        added = []
        for start, row in sorted(placed, key=lambda pair: pair[0]):
            lasted = lasted_seconds(row)
            end = max(start, last) if lasted is None else start + lasted
            lane = next((index for index, free in enumerate(lanes) if free <= start), len(lanes))
            lanes[lane : lane + 1] = [end]
            added.append(Bar(row["name"], lane + 1, start, end, row["state"]))
        if added:
            self.spans.append((min(bar.start for bar in added), max(bar.end for bar in added)))
        self.bars += added

    def elapsed(self, at: float) -> float:
        """Return the time at work before a moment: pauses between two processes are cut out."""
        return sum(min(at, end) - start for start, end in self.spans if at > start)

    def rows_of(self, table: Row) -> int:
        """Return the rows published, or read so far."""
        if table["rows"] is not None:
            return int(table["rows"])
        return sum(chunk["rows"] or 0 for chunk in self.of_table[table["name"]])

    def of(self, *actions: str) -> list[Row]:
        """Return the events with one of these names."""
        return [event for event in self.events if event.get("action") in actions]


def read_events(path: Path) -> list[Row]:
    """Return the events of a run; whatever cannot be read is left out."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return []
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a killed process leaves half a line
        if isinstance(event, dict):
            events.append(event)
    return events


def last_written(ledger: Path) -> str | None:
    """Return when the ledger was last written."""
    # A killed run has no end; the time of its last commit is the nearest to one.
    files = [file for file in (ledger, ledger.with_name(ledger.name + "-wal")) if file.exists()]
    return moment(max(file.stat().st_mtime for file in files)).isoformat() if files else None


def _processes(events: list[Row]) -> list[list[Row]]:
    """Split the events of a resumed run by the process that wrote them."""
    processes: list[list[Row]] = []
    begun = True
    for event in events:
        action = event.get("action")
        first = action == "epoch_began" and event.get("reason") == "first read"
        if not processes or first or (action == "run_started" and begun):
            processes.append([])
            begun = False
        processes[-1].append(event)
        begun = begun or action == "run_started"
    return processes


def _bars_of_process(events: list[Row], last: float) -> list[Bar]:
    bars: list[Bar] = []
    open_: dict[str, tuple[int, float]] = {}

    def end(table: str, at: float, state: str) -> None:
        if table in open_:
            slot, start = open_.pop(table)
            bars.append(Bar(table, slot, start, max(start, at), state))

    for event in events:
        action, table, at = event.get("action"), str(event.get("table")), at_of(event)
        if action == "table_started":
            slot = int(event.get("slot") or 0)
            for other in [name for name, (taken, _) in open_.items() if taken == slot or name == table]:
                end(other, at, "running")
            open_[table] = (slot, at)
        elif action in ("table_published", "table_failed", "table_parked"):
            end(table, at, action.removeprefix("table_"))
    for table in list(open_):
        end(table, last, "running")
    return bars


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def seconds_of(text: object) -> float | None:
    """Return a time of ledger or events in seconds since 1970; None where it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def at_of(event: Row) -> float:
    """Return when an event happened, in seconds since 1970."""
    return seconds_of(event["at"]) or 0.0


def moment(at: float) -> datetime:
    """Return a time in UTC."""
    return datetime.fromtimestamp(at, UTC)


def lasted_seconds(row: Row) -> float | None:
    """Return the seconds that a table took."""
    started, finished = seconds_of(row["started"]), seconds_of(row["finished"])
    if started is None or finished is None or finished < started:
        return None  # a table that runs again after a failure keeps the old end until it has a new one
    return finished - started


def error_of(row: Row) -> Row:
    """Return the error that the ledger keeps for a table."""
    try:
        found = json.loads(row["error"] or "{}")
    except ValueError:
        found = {"message": row["error"]}
    return found if isinstance(found, dict) else {"message": str(found)}


def state_of(row: Row) -> str:
    """Return the state of a table as the report tells it."""
    # The ledger knows no state for a table that another run holds: it is recorded as failed.
    return "busy" if row["state"] == "failed" and error_of(row).get("error") == "Busy" else str(row["state"])


def retries_of(story: Story) -> list[Row]:
    """Return the retries as events, from the ledger or the events, whichever knows more."""
    kept = []
    for row in story.attempts:
        message = f"{row['error']}: {row['message']}"
        kept.append({**row, "action": "retried", "table": row["table_name"], "message": message})
    told = story.of("retried")
    return kept if len(kept) >= len(told) else told
