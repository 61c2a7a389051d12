"""Runs of the past, made up from a seed: what a workspace has after some weeks of work.

Most runs succeed, some warn, fail or are cancelled; some tasks need a second attempt. Some runs are changed again days
after their end, as a restart from the failed tasks does: their updatedAt is then far from their createdAt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from orchestra.testing.pipeline import Pipeline, tasks_of
from orchestra.testing.run import Run
from orchestra.testing.script import AssetScript, Attempt, Line, OperationScript, Script, TaskScript
from orchestra.testing.state import Workspace
from orchestra.testing.taskrun import Later

_ENDINGS = ("SUCCEEDED", "WARNING", "FAILED", "CANCELLED")
_ODDS = (86, 6, 6, 2)
_AGAIN = 0.08
_TRIGGERS = ("SCHEDULED", "SCHEDULED", "SCHEDULED", "SENSOR", "MANUAL")


def _task(integration: str, job: str, name: str, **more: Any) -> dict[str, Any]:
    return {"integration": integration, "integration_job": job, "name": name, "depends_on": [], **more}


def _pipeline(name: str, **groups: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": "v1", "name": name, "pipeline": groups}


_LOAD = _task("PYTHON", "PYTHON_EXECUTE_SCRIPT", "Load", parameters={"command": "python -m load", "set_outputs": True})
_BUILD = _task("DBT_CORE", "DBT_CORE_EXECUTE", "Build", parameters={"commands": "dbt build"})
_QUERY = _task("SNOWFLAKE", "SNOWFLAKE_RUN_QUERY", "Refresh", parameters={"statement": "call refresh()"})
# What a workspace is given when it has no pipelines.
PIPELINES = {
    "load_orders": _pipeline(
        "Load orders",
        load={"tasks": {"load_orders": _LOAD}, "depends_on": []},
        build={"tasks": {"build_orders": _BUILD}, "depends_on": ["load"]},
    ),
    "load_customers": _pipeline("Load customers", load={"tasks": {"load_customers": _LOAD}, "depends_on": []}),
    "report": _pipeline("Report", report={"tasks": {"refresh_report": _QUERY}, "depends_on": []}),
}


def add_history(workspace: Workspace, *, runs: int, days: float, seed: int, late: float = 0.05) -> list[Run]:
    """Add runs that ended before now to the pipelines of a workspace, which is given some if it has none.

    The same seed gives the same runs, ids included, for the same pipelines and time.

    Args:
        runs: How many.
        days: How long ago the first may have begun.
        late: How many of a hundred runs, as a fraction, are changed again 1 to 9 days after their end; a change that
            lies in the future comes when its time has come.

    Returns:
        The runs, the oldest first.
    """
    chance = random.Random(seed)  # noqa: S311 - nothing is secret
    if not workspace.pipelines:
        for alias, definition in PIPELINES.items():
            workspace.add(alias, definition)
    pipelines = sorted(workspace.pipelines.values(), key=lambda one: (one.alias or "", one.id))
    now = workspace.now()
    since = now - timedelta(days=days)
    longest = timedelta(hours=2)
    moments = sorted(since + chance.random() * max(timedelta(), now - longest - since) for _ in range(runs))
    made = [_run(workspace, chance.choice(pipelines), moment, chance) for moment in moments]
    for run in made:
        if chance.random() < late:
            _change_late(run, chance)
        workspace.runs[run.id] = run
        workspace.keep(run)
    return made


def _run(workspace: Workspace, pipeline: Pipeline, created: datetime, chance: random.Random) -> Run:
    ending = chance.choices(_ENDINGS, _ODDS)[0]
    definition = pipeline.data
    tasks = tasks_of(definition)
    # Where it goes wrong, if it does.
    unlucky = chance.choice(sorted(tasks)) if tasks else ""
    begins = created + timedelta(seconds=chance.uniform(0.5, 30))
    environment = workspace.find_environment(None)
    run = Run(
        id=_id(chance),
        pipeline=pipeline.id,
        pipeline_name=definition["name"],
        version=pipeline.published,
        environment=environment.id if environment else None,
        environment_name=environment.name if environment else None,
        definition=definition,
        created=created,
        begins=begins,
        listed_at=created,
        trigger=chance.choice(_TRIGGERS),
        script=Script(
            tasks={
                name: _script(name, node, ending if name == unlucky else "SUCCEEDED", chance)
                for name, node in tasks.items()
            }
        ),
    )
    run.lay()
    for task in run.tasks:
        task.id = _id(chance)
    if run.final == "FAILED":
        run.message = f"Task {unlucky} failed"
    return run


def _script(name: str, node: Mapping[str, Any], ending: Any, chance: random.Random) -> TaskScript:
    seconds = round(chance.lognormvariate(4.0, 0.8), 1)
    message = "The warehouse did not answer in time" if ending == "FAILED" else None
    attempts = [Attempt(seconds=min(seconds, 1800.0), status=ending, message=message)]
    if chance.random() < _AGAIN:
        attempts.insert(0, Attempt(seconds=5.0, status="FAILED", message="The connection was lost"))
    if node.get("integration") == "DBT_CORE":
        models = [f"stg_{name}", f"fct_{name}"]
        operations = [
            *(OperationScript(name=one, type="MATERIALISATION", seconds=seconds / 4, rows=None) for one in models),
            OperationScript(name=f"not_null_{name}_id", type="TEST", seconds=1.0, dependencies=models),
        ]
        results = [{"unique_id": f"model.shop.{one}", "status": "success"} for one in models]
        artifacts = {"run_results.json": json.dumps({"results": results})}
        return TaskScript(
            attempts=attempts,
            retry_after=60.0,
            operations=operations,
            artifacts=artifacts,
            assets=[AssetScript(name=one, type="TABLE", integration="SNOWFLAKE") for one in models],
        )
    rows = chance.randrange(1_000_000)
    return TaskScript(
        attempts=attempts,
        retry_after=60.0,
        log={name: [Line(text="Loading"), Line(text=f"{rows} rows", after=seconds / 2)]},
        operations=[OperationScript(name=name, type="INGESTION", seconds=seconds, rows=rows)],
        assets=[AssetScript(name=name, integration="SNOWFLAKE")],
    )


def _change_late(run: Run, chance: random.Random) -> None:
    assert run.ends is not None
    at = run.ends + timedelta(days=chance.uniform(1, 9))
    again = run.final == "FAILED"
    run.later = Later(
        at=at,
        status="SUCCEEDED" if again else run.final,
        message="Restarted from the failed tasks" if again else "Looked at",
    )
    for task in run.tasks:
        if task.superseded is None and (not again or task.final != "SUCCEEDED"):
            task.later = Later(at=at, status="SUCCEEDED" if again else task.final, message=run.later.message)


def _id(chance: random.Random) -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))
