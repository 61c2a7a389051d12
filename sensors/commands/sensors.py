"""``runner sensors``: how the sensors of a file are doing, from what they keep; also when none of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.commands import options as opt

if TYPE_CHECKING:
    from sensors.status import Outgoing, Status

_STYLES = {
    "dead": "red",
    "failing": "yellow",
    "overdue": "yellow",
    "alive": "green",
    "unknown": "yellow",
    "failed": "red",
}
_HEAD = ("sensor", "state", "last poll", "last success", "last event", "lag", "failures", "next due")
_OPEN = ("unknown", "failed", "sending", "pending")

SensorsPath = Annotated[Path, typer.Argument(metavar="FILE", help="The sensor file.", show_default=False)]
Outbox = Annotated[bool, typer.Option("--outbox", help="Deliveries that wait, are unknown or failed.")]
Resend = Annotated[
    str | None, typer.Option("--resend", metavar="RUN_KEY", help="Send again what is unknown or failed.")
]
Settle = Annotated[
    str | None, typer.Option("--settle", metavar="RUN_KEY", help="Take what is unknown or failed as delivered.")
]
Action = Annotated[str | None, typer.Option("--action", metavar="NAME", help="Only deliveries to this action.")]
OneSensor = Annotated[str | None, typer.Option("--sensor", metavar="NAME", help="Only this sensor.")]


def command(
    file: SensorsPath,
    outbox: Outbox = False,
    resend: Resend = None,
    settle: Settle = None,
    action: Action = None,
    sensor: OneSensor = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show how the sensors of a file are doing, worst first, and decide about deliveries that wait for a person.

    Exit code 0: all are alive. 1: one is dead, or has failed as often as its alert_after. 3: some have not run yet.
    """
    import json as jsonlib

    from runner.clock import SystemClock
    from runner.errors import UsageError
    from runner.runs import StateFolder
    from runner.runs import state_dir as state_folder
    from runner.secrets import environment
    from sensors.placing import read_sensors
    from sensors.store import StoreReader, store_path

    if resend is not None and settle is not None:
        raise UsageError("--resend and --settle contradict each other.", guidance="Choose one.")
    if action is not None and resend is None and settle is None:
        raise UsageError("--action belongs to --resend and --settle.")
    sensors = read_sensors(file)
    alerts = {one.name: one.alert_after for one in sensors.sensors if not one.disabled}
    if sensor is not None:
        alerts = {sensor: _known(sensor, alerts, file)}
    now = SystemClock().now()
    path = store_path(StateFolder(state_folder(file, state_dir, environment(file.resolve().parent))), sensors.name)
    if not path.exists():
        print(jsonlib.dumps(None) if json else f"The sensors of {sensors.name} have not run yet: there is no {path}.")
        return 3
    if resend is not None or settle is not None:
        return _decide(path, resend, settle, now, action, sensor, json=json)
    with StoreReader(path) as reader:
        if outbox:
            rows = [one for state in _OPEN for one in reader.outbox(state) if sensor in (None, one.sensor)]
            _show_outbox(rows, now, json=json)
            return 0
        statuses = sorted((one for one in reader.statuses() if one.name in alerts), key=lambda one: one.rank(now))
        counts = reader.open_counts()
    known = {one.name for one in statuses}
    missing = [name for name in alerts if name not in known]
    code = _exit_code(statuses, alerts, missing, now)
    if json:
        listed = [{**asdict(one), "standing": one.standing(now), "lag": one.lag} for one in statuses]
        answer = {"file": sensors.name, "now": now.timestamp(), "sensors": listed, "not_run": missing, "outbox": counts}
        print(jsonlib.dumps({**answer, "exit_code": code}, indent=2))
    else:
        _show(statuses, missing, counts, now, file, quiet=quiet)
    return code


def _known(sensor: str, alerts: dict[str, int], file: Path) -> int:
    from runner.document import nearest
    from runner.errors import UsageError

    if sensor not in alerts:
        near = nearest(sensor, alerts)
        hint = f" Did you mean {near!r}?" if near else ""
        raise UsageError(f"{file} has no sensor {sensor!r} that is on.{hint}")
    return alerts[sensor]


def _exit_code(statuses: Sequence[Status], alerts: dict[str, int], missing: Sequence[str], now: datetime) -> int:
    if any(not one.alive(now) or one.failures >= alerts[one.name] for one in statuses):
        return 1
    # Who waits for its window to open is well.
    waits = any(one.last_poll is None and one.standing(now) != "closed" for one in statuses)
    return 3 if missing or waits else 0


def _decide(
    path: Path,
    resend: str | None,
    settle: str | None,
    now: datetime,
    action: str | None,
    sensor: str | None,
    *,
    json: bool,
) -> int:
    import json as jsonlib

    from sensors.decision import decide

    run_key = resend if resend is not None else settle
    assert run_key is not None
    decided = decide(path, "settle" if resend is None else "resend", run_key, now, action=action, sensor=sensor)
    if json:
        print(jsonlib.dumps([asdict(one) for one in decided], indent=2))
        return 0
    will = "is taken as delivered" if resend is None else "is sent again within seconds, or when the sensors run next"
    for one in decided:
        print(f"{one.sensor} → {one.action}: {one.run_key} (was {one.state}) {will}")
    return 0


def _show(
    statuses: Sequence[Status],
    missing: Sequence[str],
    counts: dict[str, int],
    now: datetime,
    file: Path,
    *,
    quiet: bool,
) -> None:
    at = now.timestamp()
    rows, below = [], []
    for one in statuses:
        standing = one.standing(now)
        if quiet and standing in ("alive", "closed"):
            continue
        due = "polling" if one.state == "polling" else _ahead(one.next_due, at)
        lag = "" if one.lag is None else _length(one.lag)
        past = (_ago(one.last_poll, at), _ago(one.last_success, at), _ago(one.last_event, at))
        rows.append((one.name, standing, *past, lag, str(one.failures), due))
        below.append(_why(one, standing, at))
    _print_grid(_HEAD, rows, below)
    tally: dict[str, int] = {}
    for one in statuses:
        tally[one.standing(now)] = tally.get(one.standing(now), 0) + 1
    words = [f"{number:,} {standing}" for standing, number in tally.items()]
    newest = max((one.last_success or 0.0 for one in statuses), default=0.0)
    print(f"{_many(len(statuses), 'sensor')}: {', '.join(words) or 'none'}; newest success {_ago(newest or None, at)}")
    waking = [one for one in statuses if one.standing(now) != "closed"]
    if waking and not any(one.alive(now) for one in waking):
        print("None of them is alive: most likely no process runs them any more.")
    if missing:
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        print(
            f"{_many(len(missing), 'sensor')} of the file {'has' if len(missing) == 1 else 'have'} not run yet: {shown}"
        )
    if any(counts.values()):
        said = ", ".join(f"{counts[state]:,} {state}" for state in _OPEN if counts[state])
        print(f"outbox: {said}; runner sensors {file} --outbox lists them")


def _why(one: Status, standing: str, at: float) -> str:
    lines = [one.error] if one.failures and one.error else []
    if one.missed is not None:
        lines.append(f"An event was due {_ago(one.missed, at)}, and has not come.")
    if standing == "dead" and one.alive_by is not None:
        lines.append(f"It had to poll with success by {_stamp(one.alive_by)} UTC.")
    return " ".join(lines)


def _show_outbox(rows: Sequence[Outgoing], now: datetime, *, json: bool) -> None:
    import json as jsonlib

    if json:
        print(jsonlib.dumps([asdict(one) for one in rows], indent=2))
        return
    if not rows:
        print("nothing waits in the outbox")
        return
    at = now.timestamp()
    cells = [
        (one.run_key, one.state, one.sensor, one.action, _ago(one.found_at, at), str(one.attempts),
         _ahead(one.next_at, at) if one.state == "pending" else "")
        for one in rows
    ]  # fmt: skip
    head = ("run key", "state", "sensor", "action", "found", "attempts", "next try")
    _print_grid(head, cells, [one.error or "" for one in rows])
    held = sum(one.state in ("unknown", "failed") for one in rows)
    if held:
        print(f"{held} wait for a decision: --resend RUN_KEY sends again, --settle RUN_KEY takes it as delivered")


def _print_grid(head: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str]) -> None:
    """Print rows in columns, coloured by their second cell, each with what is to be said below it."""
    from rich.text import Text

    from runner.commands.screen import screen
    from runner.secrets import redact

    if not rows:
        return
    console = screen()
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines: list[Any] = [Text("  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)), "bold")]
    for row, words in zip(rows, below, strict=True):
        line = Text()
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            line.append(cell.ljust(width + 2), _STYLES.get(cell) if index == 1 else None)
        line.rstrip()
        lines.append(line)
        if words:
            lines.append(Text(f"  {redact(words)}", "dim"))
    for line in lines:
        console.print(line, soft_wrap=True)


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _length(seconds: float) -> str:
    from runner.units import format_seconds

    if seconds < 60:
        return f"{seconds:.0f} s"
    return format_seconds(seconds) if seconds < 86400 else f"{seconds // 86400:.0f} d {seconds % 86400 // 3600:.0f} h"


def _ago(then: float | None, at: float) -> str:
    return "never" if then is None else f"{_length(max(0.0, at - then))} ago"


def _ahead(then: float | None, at: float) -> str:
    if then is None:
        return ""
    return f"in {_length(then - at)}" if then >= at else f"{_length(at - then)} late"


def _stamp(then: float) -> str:
    from datetime import UTC

    return f"{datetime.fromtimestamp(then, UTC):%Y-%m-%d %H:%M:%S}"
