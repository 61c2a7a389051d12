"""From what the command line names to alerts about dbt that are sent, and to an exit code."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from orchestra.alerts import ANY, SLACK, Alert, destinations, send_alerts
from orchestra.dbt.results import read_outcomes
from orchestra.dbt.tail import DbtTail
from runner.clock import SystemClock
from runner.commands.output import Output, run_async
from runner.errors import RequestRefused, RunnerError, UsageError
from runner.secrets import environment, redact
from runner.tasks import task_group
from runner.units import parse_duration

_PAUSE = 5.0


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    task: str | None
    run: str
    follow: bool
    timeout: str
    linger: str
    artifacts: bool
    results: Path | None
    manifest: Path | None
    dry_run: bool


def tell_of_dbt(asked: Asked, output: Output) -> int:
    """Send alerts about dbt; return the exit code.

    Raises:
        UsageError: The command line makes no sense, or no webhook is set.
        RunnerError: What they are about cannot be read.
    """
    _check(asked)
    seconds, linger = _seconds("--timeout", asked.timeout), _seconds("--linger", asked.linger)
    environ = environment(Path.cwd())
    webhooks = destinations(environ)
    wrong = [one.wrong for one in webhooks if one.wrong]
    if wrong and not asked.dry_run:
        raise UsageError(" ".join(wrong), guidance="Copy the address of the webhook again: it begins with https://.")
    if not asked.dry_run and not webhooks:
        raise UsageError(
            "No webhook is set: nobody would be told.", guidance=f"Set {SLACK} or {ANY}, or look with --dry-run."
        )
    teller = _Teller(environ, asked.dry_run, output)
    try:
        in_time = run_async(lambda: _tell(asked, seconds, linger, teller))
    except RunnerError:
        if teller.alerts:
            teller.close()
        raise
    teller.close()
    if not in_time:
        how = "was not over when this was stopped" if teller.stopped else f"is not over after {asked.timeout}"
        print(f"error: {asked.task} {how}.", file=sys.stderr)
    return 1 if teller.problems else 0 if in_time else 3


def _check(asked: Asked) -> None:
    if (asked.task is None) == (asked.results is None):
        raise UsageError("Name either a task run or --results FILE.")
    for name, wrong in (
        ("--manifest needs --results", asked.manifest and not asked.results),
        ("--run needs a task run", asked.run and not asked.task),
        ("--follow needs a task run", asked.follow and not asked.task),
        ("--artifacts needs a task run", asked.artifacts and not asked.task),
        ("--artifacts are there when the task is over: --follow reads its log", asked.artifacts and asked.follow),
    ):
        if wrong:
            raise UsageError(f"{name}.")


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from None


async def _tell(asked: Asked, seconds: float, linger: float, teller: _Teller) -> bool:
    """Send what there is to tell; return whether nothing more is to come, or none was waited for."""
    if asked.results is not None:
        outcomes = read_outcomes(
            _bytes(asked.results), _bytes(asked.manifest) if asked.manifest else None, what=asked.results.name
        )
        await teller.tell([outcome.alert() for outcome in outcomes])
        return True
    from orchestra.api.workspace import Workspace
    from orchestra.client import open_client

    assert asked.task is not None
    async with open_client(Workspace.of(api_key=None), SystemClock()) as client:
        tail = DbtTail(client, asked.task, asked.run, teller.tell, teller.warn, pause=_PAUSE, linger=linger)
        if asked.artifacts:
            if not await tail.artifacts():
                raise RequestRefused(
                    f"{asked.task} has no run_results.json.", guidance="dbt writes it when a command ends."
                )
            return True
        over = await _followed(tail, seconds, teller) if asked.follow else await tail.look()
        if not over and not tail.status and not asked.follow:
            teller.warn(f"{asked.task} has not run yet; --follow waits for it.")
        if over and tail.status and not tail.structured:
            teller.warn("The log holds no structured line of dbt; set DBT_LOG_FORMAT=json for the task.")
            await tail.artifacts()
        return over or not asked.follow


async def _followed(tail: DbtTail, seconds: float, teller: _Teller) -> bool:
    """Follow a task until it is over, or a signal comes: whoever ends a container waits for half a minute."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                teller.stopped = True
                tail.stop()

    async with task_group() as group:
        group.start_soon(listen)
        over = await tail.follow(seconds)
        group.cancel_scope.cancel()
    return over


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}.") from None


@dataclass
class _Teller:
    """Sends alerts and prints them.

    Attributes:
        problems: What was not delivered.
        stopped: Whether a signal ended it.
    """

    environ: dict[str, str]
    dry_run: bool
    output: Output
    alerts: list[Alert] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stopped: bool = False

    async def tell(self, alerts: list[Alert]) -> None:
        self.alerts += alerts
        if not self.output.json:
            for alert in alerts:
                print(_line(alert), flush=True)
        if not self.dry_run:
            self._trouble(await send_alerts(alerts, self.environ))

    def warn(self, words: str) -> None:
        print(f"warning: {redact(words)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say how it went."""
        if self.output.json:
            told = [alert.shown() for alert in self.alerts]
            print(json.dumps({"alerts": told, "problems": self.problems}, indent=2, ensure_ascii=False))
        elif not self.output.quiet:
            count = f"{len(self.alerts)} alert{'' if len(self.alerts) == 1 else 's'}"
            how = "not sent (--dry-run)" if self.dry_run else "not all delivered" if self.problems else "sent"
            print(f"{count}, {how}." if self.alerts else "There is nothing to tell.", file=sys.stderr)

    def _trouble(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems:
                self.problems.append(problem)
                self.warn(problem)


def _line(alert: Alert) -> str:
    shown = alert.shown()
    channels = f" → {', '.join(alert.channels)}" if alert.channels else ""
    first = shown["text"].partition("\n")[0]
    return f"{alert.severity:<7}  {shown['title']}{channels}{f': {first}' if first else ''}"
