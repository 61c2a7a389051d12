"""The crash matrix of sensors: a real process killed at every named point, with every action.

``python -m tests.acceptance.sensormatrix sensors/SEMANTICS.md`` runs all of it and writes the table; with ``--check``
it compares the table's rows and columns with the code, and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from sqlite3 import connect
from typing import Any

from runner.clock import OFFSET
from runner.crash import VARIABLE
from sensors.crashpoints import POINTS
from tests.acceptance.sensortargets import ROWS, Log, Orchestra, Target, twice

# What the target's log must say in the end: once, of every event; again, where at least once is promised; held, where
# nobody can tell and a person decides.
ACTIONS: dict[str, frozenset[str]] = {
    "webhook": frozenset({"once", "again"}),
    "slack": frozenset({"once", "again"}),
    "command": frozenset({"once", "again"}),
    "print": frozenset({"once", "again"}),
    "pipeline": frozenset({"once"}),
    "pipeline, --once": frozenset({"once"}),
    "pipeline that takes no run key": frozenset({"once", "held"}),
    "the same, on_unknown: resend": frozenset({"once", "again"}),
    "backfill": frozenset({"once"}),
    "task": frozenset({"once"}),
}
BEGIN, END = "<!-- crash matrix: begin -->", "<!-- crash matrix: end -->"
_BLIND = ("pipeline that takes no run key", "the same, on_unknown: resend")
_EXACT = ("pipeline", "pipeline, --once", *_BLIND, "backfill", "task")
_RUNS = ("backfill", "task")
# What the sample leaves to the whole matrix: each has a neighbour that is much like it.
_LEFT_OUT = (
    "sensor-begun",
    "events-found",
    "outbox-committed",
    "delivery-recorded",
    "retry-recorded",
    "lookup-begun",
    "lookup-ended",
    "reload-noted",
)
_MARK = 300
_LATER = 330
_PATIENCE = 60.0
_FILE = """
name: cell
limits: {actions: 1}
alerts:
  - {type: webhook, url: "TARGET/alerts", on: [unknown, failed]}
sensors:
  - {name: clock, type: cron, cron: "*/5 * * * *", catch_up: all, every: 1s, jitter: 0s, timeout: 30s,
     cursor: "START", on_event: ACTION}
"""
_JOB = """
name: load
source:
  type: rest
  client: {base_url: "TARGET"}
  resources:
    - {name: items, endpoint: {path: items, params: {key: "${RUN_KEY}"}, paginator: single_page}}
destination: {type: filesystem, url: lake, dataset: raw}
retry: {attempts: 1}
tables: {rest.items: {mode: append}}
"""


@dataclass(frozen=True)
class Cell:
    """One kill."""

    point: str
    action: str

    @property
    def absent(self) -> bool:
        """Whether a process never comes there."""
        if self.point in ("lookup-begun", "lookup-ended"):
            return self.action not in _EXACT
        if self.point == "hold-recorded":
            return self.action != _BLIND[0]
        if self.point == "child-killed":
            return self.action not in _RUNS
        if self.point.startswith("reload"):
            return "--once" in self.action
        return self.action == "print" and self.point in ("target-acted", "retry-recorded")


def cells() -> list[Cell]:
    """Return every cell of the matrix."""
    return [Cell(point, action) for point in POINTS for action in ACTIONS]


def sample() -> list[Cell]:
    """Return a sample: most points once, every action that costs no process more as often as another."""
    chosen: list[Cell] = []
    used: Counter[str] = Counter()
    for point in POINTS:
        if point in _LEFT_OUT:
            continue
        able = [action for action in ACTIONS if not Cell(point, action).absent]
        # A child is a process more: just where nothing else will do.
        cheap = [action for action in able if action not in _RUNS] or able
        action = min(cheap, key=lambda one: used[one])
        used[action] += 1
        chosen.append(Cell(point, action))
    return chosen


class Bench:
    """A folder, a sensor file and a target's log of one cell."""

    def __init__(self, cell: Cell, folder: Path, target: Target, orchestra: Orchestra) -> None:
        self.cell = cell
        self.folder = folder
        self.log = Log()
        self.name = folder.name
        self.target, self.orchestra = f"{target.url}/{self.name}", orchestra
        target.logs[self.name] = self.log
        if cell.action in _EXACT and cell.action not in _RUNS:
            orchestra.add(self.name, self.log, blind=cell.action in _BLIND)
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text("")
        (folder / "job.yml").write_text(_JOB.replace("TARGET", self.target))
        back = 0 if cell.action in _RUNS else _MARK
        self.start = _mark(datetime.now(UTC)) - timedelta(seconds=back + 1)
        self.write(self.start)

    def write(self, start: datetime, **more: str) -> None:
        """Write the sensor file; ``more`` replaces words of it."""
        text = _FILE.replace("TARGET", self.target).replace("START", start.isoformat())
        text = text.replace("ACTION", json.dumps(self._action()))
        for old, new in more.items():
            text = text.replace(old, new)
        (self.folder / "new.yml").write_text(text)
        (self.folder / "new.yml").rename(self.folder / "s.yml")

    def _action(self) -> dict[str, Any]:
        action = self.cell.action
        if action == "webhook":
            return {"type": "webhook", "url": f"{self.target}/hook"}
        if action == "slack":
            return {"type": "slack", "url": f"{self.target}/hook", "text": "came: {run_key}"}
        if action == "command":
            return {"type": "command", "command": ["sh", "act.sh"]}
        if action == "print":
            return {"type": "print"}
        if action == "backfill":
            return {"type": "backfill", "job": "job.yml"}
        if action == "task":
            return {"type": "task", "job": "job.yml", "table": "rest.items"}
        resend = {"on_unknown": "resend"} if action.endswith("resend") else {}
        where = {"base_url": self.orchestra.base_url, "api_key": self.orchestra.key}
        return {"type": "pipeline", "pipeline": self.name, "inputs": {"time": "{time}"}, **where, **resend}

    def script(self, *lines: str) -> None:
        """Write what the command does after it has written its run key down."""
        (self.folder / "act.sh").write_text("\n".join(['echo "$RUN_KEY" >> done.txt', *lines]) + "\n")

    # Processes.

    def run(self, crash: str | None = None, offset: int = 0) -> subprocess.Popen[bytes]:
        """Start the real command."""
        environ = {name: text for name, text in os.environ.items() if name not in (VARIABLE, OFFSET)}
        environ |= {OFFSET: str(offset)} if offset else {}
        environ |= {VARIABLE: crash} if crash else {}
        once = ["--once", "--soft"] if "--once" in self.cell.action else []
        with (self.folder / "printed.txt").open("ab") as out, (self.folder / "said.txt").open("ab") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "runner", "sense", "s.yml", *once],
                cwd=self.folder,
                env=environ,
                stdout=out,
                stderr=err,
            )

    # What there is.

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the sensors' state; nothing while there is none."""
        path = self.folder / ".runner" / "sensors" / "cell.sqlite"
        if not path.exists():
            return []
        with closing(connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            with suppress(Exception):
                return connection.execute(query).fetchall()
        return []

    def cursor(self) -> datetime | None:
        """Return the last time that the sensor has seen."""
        found = self.rows("select cursor from sensors where name = 'clock'")
        text = json.loads(found[0][0] or "null") if found else None
        return None if text is None else datetime.fromisoformat(text)

    def outbox(self) -> Counter[str]:
        """Return how many rows there are by state."""
        return Counter(dict(self.rows("select state, count(*) from outbox group by state")))

    def wanted(self, until: datetime) -> list[str]:
        """Return the times that the sensor must have seen."""
        times, mark = [], _mark(self.start) + timedelta(seconds=_MARK)
        while mark <= until:
            times.append(mark.isoformat())
            mark += timedelta(seconds=_MARK)
        return times

    def done(self) -> list[str]:
        """Return the times of what was done, as the target's own log says."""
        action = self.cell.action
        if action == "command":
            path = self.folder / "done.txt"
            keys = path.read_text().split() if path.exists() else []
        elif action == "print":
            lines = [line for line in (self.folder / "printed.txt").read_text().splitlines() if line.startswith("{")]
            keys = [json.loads(line)["run_key"] for line in lines]
        elif action in _RUNS:
            keys = self._loaded()
        else:
            keys = self.log.done
        return [key.removeprefix("clock:") for key in keys]

    def _loaded(self) -> list[str]:
        """Return the run keys at the destination: one for every ROWS rows of it."""
        import pyarrow.parquet as pq

        table = self.folder / "lake" / "raw" / "items"
        if not table.exists():
            return []
        found: Counter[str] = Counter()
        for one in json.loads((table / "manifest.json").read_text())["files"]:
            found.update(pq.read_table(table / one["name"]).column("run_key").to_pylist())
        self.log.wrong += [f"{rows} rows of {key}" for key, rows in found.items() if rows % ROWS]
        return [key for key, rows in found.items() for _ in range(rows // ROWS)]


class Matrix:
    """Runs cells.

    Args:
        folder: Where the cells' folders go.
    """

    def __init__(self, target: Target, orchestra: Orchestra, folder: Path) -> None:
        self._target = target
        self._orchestra = orchestra
        self._folder = folder

    def run(self, cell: Cell) -> str:
        """Kill, run again, look; return what the table says."""
        if cell.absent:
            return "—"
        bench = Bench(cell, self._folder / f"c{uuid.uuid4().hex[:10]}", self._target, self._orchestra)
        bench.script()
        try:
            return self._kill(bench) or self._go_on(bench)
        finally:
            shutil.rmtree(bench.folder, ignore_errors=True)

    def _kill(self, bench: Bench) -> str:
        """Let the process die at the point; return what went wrong."""
        point = bench.cell.point
        crash: str | None = f"{point}@clock"

        def then(process: subprocess.Popen[bytes]) -> None: ...

        if point == "target-acted":
            crash = None
            bench.script('kill -9 "$PPID"', "sleep 0.5")
            # The orphan of a backfill is still at work when the next one wants to begin.
            bench.log.slow = 4.0 if bench.cell.action in _RUNS else 0.5

            def then(process: subprocess.Popen[bytes]) -> None:
                bench.log.victim = process.pid

        elif point == "child-killed":
            crash = "publish-committed"

            def then(process: subprocess.Popen[bytes]) -> None:
                _until(lambda: bool(bench.rows("select 1 from outbox where attempts > 0 and error is not null")))
                process.kill()

        elif point == "status-reported":
            crash, bench.log.slow = point, 5.0
            bench.script("sleep 5")
        elif point == "retry-recorded":
            bench.log.busy = 1
            (bench.folder / "act.sh").write_text("test -e again || { touch again; exit 1; }\n" + _script(bench))
        elif point.startswith("lookup") or point == "hold-recorded":
            # What is looked up was sent, and nobody wrote down what came of it.
            error = self._killed(bench, bench.run("sent@clock"))
            if error:
                return error
        elif point.startswith("reload"):

            def then(process: subprocess.Popen[bytes]) -> None:
                _until(lambda: bench.cursor() is not None)
                if point == "reload-noted":
                    # It looks at another thing now, and begins before what it has seen.
                    bench.start -= timedelta(seconds=_MARK)
                    bench.write(bench.start)
                else:
                    bench.write(bench.start, **{"timeout: 30s": "timeout: 31s"})

        elif point == "stopping" and "--once" not in bench.cell.action:
            crash = point

            def then(process: subprocess.Popen[bytes]) -> None:
                _until(lambda: bench.cursor() is not None)
                process.send_signal(signal.SIGTERM)

        elif point == "stopping":
            crash = point
        process = bench.run(crash, _LATER if point.startswith("lookup") or point == "hold-recorded" else 0)
        then(process)
        return self._killed(bench, process)

    def _killed(self, bench: Bench, process: subprocess.Popen[bytes]) -> str:
        """Wait for a process to die; compare the cursor with the outbox."""
        try:
            code = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"NOT KILLED: {_tail(bench)}"
        if code != -signal.SIGKILL:
            return f"NOT KILLED (exit {code}): {_tail(bench)}"
        bench.log.slow = 0.0
        bench.script()
        cursor = bench.cursor()
        kept = {row[0] for row in bench.rows("select run_key from outbox where sensor = 'clock'")}
        missing = [] if cursor is None else [one for one in bench.wanted(cursor) if f"clock:{one}" not in kept]
        return f"CURSOR AHEAD of the outbox: {missing}" if missing else ""

    def _go_on(self, bench: Bench) -> str:
        """Run it until nothing is open, with one event more; compare the target's log."""
        due = _mark(datetime.now(UTC) + timedelta(seconds=_LATER))
        for step in range(1, 4):
            process = bench.run(offset=_LATER * (step + 1))
            ended = _until(partial(_is_over, bench, process, due, step))
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return f"DOES NOT END: {_tail(bench)}"
            if _is_settled(bench, due) or not ended:
                break
        if not _is_settled(bench, due):
            return f"NOT DONE: {bench.outbox()}, {bench.cursor()}: {_tail(bench)}"
        if code not in (0, 1 if "--once" in bench.cell.action else 0):
            return f"EXIT {code}: {_tail(bench)}"
        return self._compare(bench)

    def _compare(self, bench: Bench) -> str:
        cursor = bench.cursor()
        assert cursor is not None
        wanted, done = bench.wanted(cursor), bench.done()
        states = dict(bench.rows("select run_key, state from outbox where sensor = 'clock'"))
        alerts = len(set(bench.log.alerts))
        held = {key.removeprefix("clock:") for key, state in states.items() if state == "unknown"}
        if bench.log.wrong:
            return f"WRONG: {bench.log.wrong}"
        if sorted(states) != [f"clock:{one}" for one in wanted]:
            return f"OUTBOX: {sorted(states)}, not {wanted}"
        if set(wanted) - set(done) - held:
            return f"LOST: {set(wanted) - set(done) - held}"
        if set(done) - set(wanted):
            return f"TOO MUCH: {set(done) - set(wanted)}"
        if "failed" in states.values():
            return f"FAILED: {bench.rows('select error from outbox')}"
        printed = (bench.folder / "printed.txt").read_text()
        if "--once" in bench.cell.action and (untold := [key for key in states if key not in printed]):
            return f"THE TASK DID NOT TELL: {untold}"
        if alerts != len(held):
            return f"ALERTS: {alerts} of {len(held)}"
        found = "again" if twice(done) else "held" if held else "once"
        return found if found in ACTIONS[bench.cell.action] else f"{found.upper()}: {done}"


def _mark(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // _MARK * _MARK, UTC)


def _script(bench: Bench) -> str:
    return (bench.folder / "act.sh").read_text().splitlines()[0] + "\n"


def _tail(bench: Bench) -> str:
    return (bench.folder / "said.txt").read_text()[-400:]


def _until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.03)
    return True


def _is_settled(bench: Bench, due: datetime) -> bool:
    cursor = bench.cursor()
    open_ = bench.outbox()
    return cursor is not None and cursor >= due and not open_["pending"] and not open_["sending"]


def _is_over(bench: Bench, process: subprocess.Popen[bytes], due: datetime, step: int) -> bool:
    """Tell whether nothing is left for this process to do; a task ends by itself."""
    if process.poll() is not None:
        return True
    return "--once" not in bench.cell.action and (_is_settled(bench, due) or _waits(bench, step))


def _waits(bench: Bench, step: int) -> bool:
    """Tell whether what is open waits for long: an orphan is at work, and the next process comes later."""
    later = time.time() + _LATER * (step + 1) + 3
    return bool(bench.rows(f"select 1 from outbox where state in ('pending', 'sending') and next_at > {later}"))


def table(results: dict[Cell, str]) -> str:
    """Return the results as Markdown."""
    lines = ["| killed when | " + " | ".join(ACTIONS) + " |", "| --- |" + " --- |" * len(ACTIONS)]
    for point, meaning in POINTS.items():
        found = [results[Cell(point, action)] for action in ACTIONS]
        lines.append(f"| **{point}**: {meaning} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def check(text: str) -> list[str]:
    """Return what of the committed table does not fit the code: rows, columns, cells that are red."""
    found = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    wanted = table(dict.fromkeys(cells(), "?")).splitlines()
    problems = []
    if found[:2] != wanted[:2]:
        problems.append("its columns are not the actions of the code")
    if [line.partition(" | ")[0] for line in found] != [line.partition(" | ")[0] for line in wanted]:
        problems.append("its rows are not the crash points of the code")
    if problems:
        return problems
    for cell, said in committed(text).items():
        if said not in ({"—"} if cell.absent else ACTIONS[cell.action]):
            problems.append(f"{cell.point}, {cell.action}: a cell says {said!r}")
    return problems


def committed(text: str) -> dict[Cell, str]:
    """Return what the committed table says of each cell; a question mark where it has none."""
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    known = {
        (row[0].partition("**:")[0].strip("|* "), action.strip(" |")): said.strip(" |")
        for row in rows[2:]
        for action, said in zip(rows[0][1:], row[1:], strict=True)
    }
    return {cell: known.get((cell.point, cell.action), "?") for cell in cells()}


def main() -> int:
    """Run all of it and write the table, or check it."""
    arguments = argparse.ArgumentParser(description="The crash matrix of sensors.")
    arguments.add_argument("document", type=Path)
    arguments.add_argument("--check", action="store_true", help="compare rows and columns; run nothing")
    arguments.add_argument("--action", action="append", choices=ACTIONS, help="leave the other columns as they are")
    arguments.add_argument("--point", action="append", choices=POINTS, help="leave the other rows as they are")
    asked = arguments.parse_args()
    text = asked.document.read_text("utf-8")
    if asked.check:
        problems = check(text)
        for problem in problems:
            print(f"{asked.document}: {problem}; run `make matrix`", file=sys.stderr)
        return int(bool(problems))
    results = committed(text)
    wanted = [
        cell
        for cell in cells()
        if (not asked.action or cell.action in asked.action) and (not asked.point or cell.point in asked.point)
    ]
    with Target() as target, Orchestra() as orchestra, tempfile.TemporaryDirectory() as folder:
        matrix = Matrix(target, orchestra, Path(folder))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, (cell, found) in enumerate(zip(wanted, pool.map(matrix.run, wanted), strict=True), 1):
                results[cell] = found
                print(f"{number}/{len(wanted)} {cell.point} {cell.action}: {found}", flush=True)
    before, _, rest = text.partition(BEGIN)
    asked.document.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    return int(bool(check(asked.document.read_text("utf-8"))))


if __name__ == "__main__":
    sys.exit(main())
