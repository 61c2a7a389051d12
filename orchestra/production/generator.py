"""From a job file and its lock to the pipeline that runs the job in production; nothing is asked of anybody.

Facts: Orchestra docs, "Pipelines" (ids are unique across groups and tasks; ``retry_delay`` is minutes, ``timeout``
seconds), "Matrix" (one input; task runs are called after its values), "Python" (``environment_variables`` is JSON in a
text), "Conditional expressions" (values are put in as raw text), "dbt Core".
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import metadata
from pathlib import PurePosixPath
from typing import Any

from orchestra.pipeline import LONGEST_NAME
from orchestra.production.quality import DIALECTS, Check, CheckedTable, Checks
from orchestra.production.recipe import Recipe
from runner.document import nearest
from runner.errors import NotYet, UsageError
from runner.job import Deletes, matches
from runner.plan import dataset_of
from runner.production import Production

# What can be compared value by value, and has no test job of the platform's own.
_VERIFIED = ("duckdb", "motherduck")
_DAILY = re.compile(r"(\d{1,2}) (\d{1,2}) (?:\* \* \? \*|\? \* \* \*)")
_ENDED = ("SUCCEEDED", "WARNING", "SKIPPED")
# The name of what a matrix repeats, and of the value that its tasks have.
_TABLE = "${{ matrix.table }}"
Node = dict[str, Any]


def make_pipeline(recipe: Recipe) -> Node:
    """Return the pipeline as the document that the platform reads."""
    production = recipe.production
    groups = _load_in_tasks(recipe) if recipe.style == "tasks" else {"load": _load_in_matrix(recipe)}
    before, condition = list(groups), None
    if recipe.style == "tasks":
        # Of the tables that were not asked for, whole waves may have been skipped.
        condition = " and ".join(f"task_groups['{wave}'].all().status in {list(_ENDED)}" for wave in groups)
    quality = quality_tasks(recipe)
    if quality:
        groups["quality"] = _group("Test", quality, before, condition)
        before, condition = ["quality"], None
    if recipe.settled.job.transform is not None:
        groups["transform"] = _group("Build models", {"dbt_build": _dbt(recipe)}, before, condition)
    document: Node = {"version": "v1", "name": recipe.settled.job.name, "pipeline": groups}
    if production.schedule:
        name = _schedule_name(production.schedule, production.timezone)
        document["schedule"] = [{"name": name, "cron": production.schedule, "timezone": production.timezone}]
    document["inputs"] = {
        "tables": {"type": "list", "default": list(recipe.elements), "optional": True},
        "full_refresh": {"type": "boolean", "default": False, "optional": True},
        "since": {"type": "string", "default": "", "optional": True},
        "until": {"type": "string", "default": "", "optional": True},
    }
    if production.alerts:
        document["alerts"] = [one.model_dump(exclude_none=True) for one in production.alerts]
    return document


def _schedule_name(cron: str, timezone: str) -> str:
    daily = _DAILY.fullmatch(cron)
    return f"Daily at {int(daily[2]):02}:{int(daily[1]):02} {timezone}" if daily else f"{cron} {timezone}"


def _group(name: str, tasks: Node, after: list[str], condition: str | None = None) -> Node:
    group: Node = {"tasks": tasks, "depends_on": list(after), "name": name}
    if condition:
        group["condition"] = f"${{{{ {condition} }}}}"
    return group


def _load_in_matrix(recipe: Recipe) -> Node:
    group = _group("Load", {"table": _task(recipe, _TABLE, _TABLE)}, [])
    group["matrix"] = {
        "inputs": {"table": "${{ inputs.tables }}"},
        "max_parallel": recipe.at_once,
        "continue_on_error": True,
    }
    return group


def _load_in_tasks(recipe: Recipe) -> dict[str, Node]:
    """Return a group for every ``at_once`` tables, one after the other: only a matrix bounds its tasks itself."""
    size = recipe.at_once
    waves: dict[str, Node] = {}
    for start in range(0, len(recipe.elements), size):
        tasks = {}
        for element in recipe.elements[start : start + size]:
            entry = recipe.lock.tables.get(element)
            task = _task(recipe, element, element)
            task["condition"] = f"${{{{ '{element}' in inputs.tables }}}}"
            tasks[f"load_{entry['destination'] if entry else element}"] = task
        number = len(waves) + 1
        after = [f"wave_{number - 1}"] if waves else []
        # The next one starts whatever became of this one: a table that fails stops no other.
        condition = f"task_groups['{after[0]}'].all().status == 'COMPLETED'" if after else None
        waves[f"wave_{number}"] = _group(f"Load {number}", tasks, after, condition)
    return waves


def _task(recipe: Recipe, name: str, element: str) -> Node:
    variables = {
        "OBJECT": element,
        "FULL_REFRESH": "${{ inputs.full_refresh }}",
        "SINCE": "${{ inputs.since }}",
        "UNTIL": "${{ inputs.until }}",
        "TIMEOUT": _sooner(recipe.production),
        "PARAMS": json.dumps({"limits": recipe.share}),
    }
    if recipe.batch_small:
        variables["BATCH_SMALL"] = str(recipe.batch_small)
    return _python(recipe, name, "runner task", variables)


def _sooner(production: Production) -> str:
    """Return when a task ends by itself: before the platform ends it, so that it says how far it came."""
    seconds = int(production.timeout.total_seconds())
    sooner = seconds - max(60, seconds // 20)
    return f"{sooner // 60}m" if sooner >= 60 else f"{seconds}s"


def _python(recipe: Recipe, name: str, command: str, variables: Mapping[str, str]) -> Node:
    production = recipe.production
    known = {"RUNNER_JOB": _from_project(recipe), **variables}
    if production.environment:
        known["ENVIRONMENT"] = production.environment
    build, prefix = _install(recipe)
    return {
        "integration": "PYTHON",
        "integration_job": "PYTHON_EXECUTE_SCRIPT",
        "parameters": {
            "source": "GIT",
            "command": prefix + command,
            "package_manager": production.package_manager,
            "python_version": production.python_version,
            "build_command": production.build_command or build,
            "environment_variables": json.dumps(known, ensure_ascii=False),
            **_given(production, "project_dir", "shallow_clone_dirs", "branch"),
        },
        "depends_on": [],
        "name": name[:LONGEST_NAME],
        "configuration": _configuration(production),
        **({"connection": production.connections.python} if production.connections.python else {}),
    }


def _given(production: Production, *names: str) -> Node:
    return {name: getattr(production, name) for name in names if getattr(production, name)}


def _configuration(production: Production) -> Node:
    return {
        "retries": production.retries,
        "retry_delay": int(production.retry_delay.total_seconds()) // 60,
        "timeout": int(production.timeout.total_seconds()),
    }


def _from_project(recipe: Recipe) -> str:
    """Return the job file as the task finds it from where it starts.

    Raises:
        UsageError: It is not in the project's folder.
    """
    folder = recipe.production.project_dir
    parts = PurePosixPath(folder or ".").parts
    if parts and not (recipe.root / ".git").exists() and recipe.root.parts[-len(parts) :] == parts:
        # What the job is named from is that folder of the repository already.
        return recipe.job
    try:
        return str(PurePosixPath(recipe.job).relative_to(folder or "."))
    except ValueError:
        raise UsageError(f"{recipe.job} is not in production.project_dir, {folder!r}.") from None


def _install(recipe: Recipe) -> tuple[str, str]:
    """Return what installs the runner with what its source and destination need, and what a command begins with."""
    # The extra postgres is for the destination of that name.
    extras = sorted(({recipe.settled.source.type} - {"postgres"} | {recipe.settled.destination.type}) & _extras())
    if recipe.production.package_manager == "PIP":
        pins = " -c constraints.txt" if (recipe.root / "constraints.txt").is_file() else ""
        return (f"pip install '.[{','.join(extras)}]'" if extras else "pip install .") + pins, ""
    manager, flag = ("uv sync", "--extra") if recipe.production.package_manager == "UV" else ("poetry install", "-E")
    return " ".join([manager, *(f"{flag} {extra}" for extra in extras)]), f"{manager.split()[0]} run "


@cache
def _extras() -> frozenset[str]:
    return frozenset(metadata("orchestra-blueprints").get_all("Provides-Extra") or [])


def quality_tasks(recipe: Recipe) -> dict[str, Node]:
    """Return the tasks that test the tables in the destination; none where it can be tested in no way."""
    quality, kind = recipe.production.quality, recipe.settled.destination.type
    if not (quality.keys or quality.counts or quality.freshness):
        return {}
    if kind in _VERIFIED:
        job = _from_project(recipe)
        return {"verify": _python(recipe, "Compare with the source", f"runner verify {shlex.quote(job)}", {})}
    if kind not in DIALECTS:
        return {}
    dialect = DIALECTS[kind]
    for needed in dialect.needed:
        if needed not in quality.parameters:
            raise UsageError(
                f"The test tasks of {kind} need the parameter {needed}.",
                guidance=f"Add to the job file, under production.quality.parameters: {needed}: ${{{{ ENV.NAME }}}}",
            )
    found = Checks(dialect, _schema(recipe)).all(
        tested(recipe),
        keys=quality.keys,
        # With state: elsewhere there is no record in the destination.
        counts=quality.counts and recipe.settled.state == "destination",
        error_after=quality.error_after,
    )
    return {check.id: _test(recipe, check) for check in found}


def _test(recipe: Recipe, check: Check) -> Node:
    production, dialect = recipe.production, DIALECTS[recipe.settled.destination.type]
    thresholds = {"error_threshold_expression": check.error}
    if check.warn is not None:
        thresholds["warn_threshold_expression"] = check.warn
    location = recipe.literal("location")
    return {
        "integration": dialect.integration,
        "integration_job": dialect.job,
        "parameters": {
            dialect.statement: check.sql,
            **thresholds,
            **dialect.parameters,
            **({"location": location} if location else {}),
            **production.quality.parameters,
        },
        "depends_on": [],
        "name": check.name,
        # What it finds is there the next minute too.
        "configuration": {"timeout": _configuration(production)["timeout"]},
        **({"connection": production.connections.test} if production.connections.test else {}),
    }


def notes(recipe: Recipe) -> Iterator[str]:
    """Return what a person should know of the pipeline, beside what is in it."""
    production, kind = recipe.production, recipe.settled.destination.type
    if kind == "duckdb":
        yield (
            "a DuckDB file lies on the disk of one machine, and each task begins in a container of its own: "
            "name a destination that all of them reach, with production.environment"
        )
    if kind in _VERIFIED and production.quality.freshness:
        yield f"freshness is not tested: a destination of type {kind} has no test of the platform"
    if not quality_tasks(recipe):
        yield f"no data quality: a destination of type {kind} cannot be tested from a pipeline"
    if not production.connections.python:
        yield "no connection is named for Python tasks (production.connections.python): the workspace's default is used"
    if recipe.at_once < production.max_parallel:
        yield f"{recipe.at_once} tasks at once, not {production.max_parallel}: limits.connections of the source"


def tested(recipe: Recipe) -> Iterator[CheckedTable]:
    """Return how the tables of the lock are tested.

    Raises:
        UsageError: Freshness is asked of no table that has it.
    """
    quality, job = recipe.production.quality, recipe.settled.job
    timed = [name for name, entry in recipe.lock.tables.items() if entry.get("time")]
    for pattern in quality.freshness:
        if not any(matches(pattern, name) for name in timed):
            near = nearest(pattern, timed)
            raise UsageError(
                f"production.quality.freshness: no table with a time as its cursor is called {pattern!r}."
                + (f" Did you mean {near!r}?" if near else ""),
                guidance="Correct the pattern, or leave it out.",
            )
    for name, entry in recipe.lock.tables.items():
        if any(matches(pattern, name) for pattern in quality.exclude):
            continue
        asked = job.entry(name)
        age = [age for pattern, age in quality.freshness.items() if matches(pattern, name)]
        yield CheckedTable(
            entry["destination"],
            entry["mode"],
            tuple(entry.get("unique") or entry["key"]),
            entry.get("time"),
            age[-1] if age else None,
            # What the source marks as deleted is read, counted, and may be left out.
            counted=not (asked and isinstance(asked.deletes, Deletes)),
        )


def _schema(recipe: Recipe) -> list[str]:
    above = next((recipe.literal(key) for key in ("database", "project", "catalog") if recipe.literal(key)), None)
    schemas = {name.partition(".")[0] for name in recipe.lock.tables}
    return [*([above] if above else []), dataset_of(recipe.settled, schemas)]


def _dbt(recipe: Recipe) -> Node:
    """Return the task that builds the models; the state orchestration asks by itself how fresh the sources are."""
    transform, production = recipe.settled.job.transform, recipe.production
    assert transform is not None
    if transform.type != "dbt":
        raise UsageError(f"transform.type is {transform.type!r}.", guidance="A pipeline can be generated for: dbt.")
    if transform.build != "after_load":
        raise NotYet("transform.build: as_loaded is not implemented yet.")
    project = PurePosixPath(production.project_dir or ".") / transform.project
    return {
        "integration": "DBT_CORE",
        "integration_job": "DBT_CORE_EXECUTE",
        "parameters": {
            "commands": "dbt build",
            "package_manager": production.package_manager,
            "python_version": production.python_version,
            "project_dir": str(project),
            # Packages of its own lie beside a project.
            "shallow_clone_dirs": str(project.parent) if len(project.parts) > 1 else str(project),
            "use_state_orchestration": True,
            **_given(production, "branch"),
        },
        "depends_on": [],
        "name": "Build models",
        "configuration": _configuration(production),
        **({"connection": production.connections.dbt} if production.connections.dbt else {}),
    }
