"""Checks of everything a job needs: source, destination, disk, memory, secrets."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio

from runner.columns import HASH_KEY
from runner.errors import PermissionMissing, RunnerError
from runner.jobfile import SettledJob
from runner.load import Destination
from runner.plan import Plan, make_plan, patterns
from runner.source import Source
from runner.units import format_size

Check = tuple[str, str, str]


async def examine(
    settled: SettledJob, source: Source, destination: Destination, state: Path, environ: Mapping[str, str]
) -> list[Check]:
    """Return checks as (ok | warn | fail, what was found, what to do)."""
    checks: list[Check] = [("ok", f"{settled.path} is valid", "")]
    job = settled.job
    checks += await source.diagnose(patterns(job), lambda name: job.entry(name) is not None)
    try:
        async with source.session(1) as session:
            tables = await session.discover(patterns(settled.job))
        plan = make_plan(settled, tables, max_name=destination.max_name, promises=destination.promises)
    except RunnerError as error:
        checks.append(("fail", error.message, error.advice))
    else:
        checks += await anyio.to_thread.run_sync(_destination_checks, destination, plan)
        checks += _plan_checks(plan, environ)
    checks += await anyio.to_thread.run_sync(_machine_checks, settled, state)
    return list(dict.fromkeys(checks))


def _destination_checks(destination: Destination, plan: Plan) -> list[Check]:
    try:
        writer = destination.writer(plan.dataset)
        try:
            checks = writer.diagnose()
        finally:
            writer.close()
    except RunnerError as error:
        return [("fail", error.message, error.advice)]
    if destination.unproved:
        checks.append(("warn", f"unproved: {destination.unproved}", "try it on a dataset of its own"))
    for mode in sorted({table.mode for table in plan.tables}):
        checks.append(("ok", f"mode {mode} here: {destination.promises[mode]}", ""))
    return checks


def _plan_checks(plan: Plan, environ: Mapping[str, str]) -> list[Check]:
    checks: list[Check] = [
        ("fail", f"{one.name}: {one.error.message}", one.error.advice)
        for one in plan.rejected
        if not isinstance(one.error, PermissionMissing)  # the source's own check prints the grants
    ]
    if plan.hashed and not environ.get(HASH_KEY):
        checks.append(("fail", "columns are hashed and there is no key", f"set {HASH_KEY} in the environment"))
    checks.append(("ok", f"{len(plan.tables)} tables are planned for dataset {plan.dataset}", ""))
    return checks


def _machine_checks(settled: SettledJob, state: Path) -> list[Check]:
    place = state
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    checks: list[Check] = []
    if free < settled.limits.disk:
        checks.append(
            (
                "warn",
                f"{format_size(free)} free under {place}, and limits.disk is {format_size(settled.limits.disk)}",
                "lower limits.disk or choose another --state-dir",
            )
        )
    else:
        checks.append(("ok", f"{format_size(free)} free under {place} for the spool", ""))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = 64 + 4 * (settled.limits.connections + settled.limits.tables)
    if files != resource.RLIM_INFINITY and files < needed:
        checks.append(("warn", f"only {files} files may be open at once", f"ulimit -n {needed}"))
    return checks
