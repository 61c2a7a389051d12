"""What platforms and those who want to know are told of a run: that it began, and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType

from runner.backfill import Result
from runner.commands.output import run_async
from runner.errors import RunnerError
from runner.events import Drifted, Event, SchemaChanged
from runner.jobfile import SettledJob
from runner.platform import TOLD_BY_PARENT, Platform, RunReport, TableReport
from runner.plugins import load_plugins
from runner.record import Item
from runner.secrets import redact


class Handover:
    """Tells them; ``with`` begins, and tells of the error that ends it.

    Args:
        command: backfill, or task.
        job: What is known of the job before its file is read.
    """

    def __init__(self, command: str, job: str, environ: Mapping[str, str]) -> None:
        self._command = command
        self._job = job
        self._environ = environ
        platforms: dict[str, Platform] = load_plugins("runner.platforms")
        told = environ.get(TOLD_BY_PARENT)
        self._platforms = [] if told else [one for one in platforms.values() if one.listens(environ)]
        self._drift: dict[str, str] = {}

    def __enter__(self) -> Handover:
        try:
            self._tell(lambda platform: platform.begin(self._environ))
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RunnerError):
            what, advice = _words(error)
            self._end(RunReport(self._job, self._command, error.exit_code, error=what, advice=advice))
        elif isinstance(error, Exception):
            words = f"An unexpected {kind.__name__ if kind else ''}: {redact(str(error))}"
            self._end(RunReport(self._job, self._command, 1, error=words))
        elif error is not None:
            self._end(RunReport(self._job, self._command, 3, error="It was interrupted."))

    def notice(self, _: datetime, event: Event) -> None:
        """Read the run's events."""
        if isinstance(event, Drifted | SchemaChanged):
            earlier = self._drift.get(event.table)
            self._drift[event.table] = f"{earlier}; {event.change}" if earlier else event.change

    def ended(self, settled: SettledJob, result: Result) -> None:
        """Tell how a run ended."""
        if not self._platforms:
            return
        tables = [_table(item, result.dataset) for item in result.items]
        for one in result.rejected:
            what, advice = _words(one.error)
            tables.append(TableReport(one.name, "", "failed", error=what, advice=advice))
        tables += [TableReport(name, "", "skipped") for name in result.skipped]
        self._end(
            RunReport(
                job=settled.job.name,
                command=self._command,
                exit_code=result.exit_code,
                run=result.run,
                seconds=result.seconds,
                tables=tables,
                drift=self._drift,
            )
        )

    def skipped(self, settled: SettledJob, table: str) -> None:
        """Tell that there was nothing to do for a table."""
        self._end(RunReport(settled.job.name, self._command, 0, tables=[TableReport(table, "", "skipped")]))

    def _end(self, report: RunReport) -> None:
        self._tell(lambda platform: platform.end(report, self._environ))

    def _tell(self, what: Callable[[Platform], Awaitable[Sequence[str]]]) -> None:
        if not self._platforms:
            return

        async def tell() -> None:
            for platform in self._platforms:
                for problem in await what(platform):
                    sys.stderr.write(f"warning: {redact(problem)}\n")

        run_async(tell)


def _table(item: Item, dataset: str) -> TableReport:
    what, advice = _words(item.error) if item.error and item.state != "published" else (None, None)
    return TableReport(
        name=item.name,
        destination=f"{dataset}.{item.plan.target.name}",
        state=item.state,
        mode=item.plan.mode,
        rows=item.rows,
        chunks=len(item.chunks),
        mark=item.mark,
        error=what,
        advice=advice,
    )


def _words(error: RunnerError) -> tuple[str, str | None]:
    return redact(error.message), redact(error.advice or "") or None
