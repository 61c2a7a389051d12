"""What a task is told to do: its integration, its job, its parameters, its connection, its times.

Facts: Orchestra docs, "Python", "dbt Core", "Data quality tests" (thresholds compare the number of rows with one of
``=``, ``>``, ``<``, ``>=``, ``<=``, ``!=``), "Connections", "Setting outputs".
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from orchestra.pipelinevalues import is_expression, kind_of
from orchestra.validation.expressioncheck import outputs_read
from orchestra.validation.expressions import without_expressions
from orchestra.validation.names import INTEGRATIONS, JOBS
from orchestra.validation.outline import Node, Outline
from orchestra.validation.parameters import NAMES, PARAMETERS, PYTHON_VERSIONS, PackageManager, Source
from orchestra.validation.problems import Findings, mapping, near
from runner.document import Path_

_CONNECTION = re.compile(r".+_\d{5}")
_THRESHOLD = re.compile(r"\s*(!=|>=|<=|=|>|<)\s*(\d+)\s*")
_SHORTEST_TIMEOUT = 30
_JSON_TEXTS = ("environment_variables", "custom_headers")
_PYTHONS = ("PYTHON_EXECUTE_SCRIPT", "DBT_CORE_EXECUTE")


def check_tasks(outline: Outline, findings: Findings) -> None:
    """Look at every task."""
    for task in outline.every_task():
        _integration(task, findings)
        check_connection(task.data.get("connection"), (*task.path, "connection"), findings)
        parameters = task.data.get("parameters")
        if isinstance(parameters, dict):
            _parameters(task, parameters, findings)
    for path, configuration in _configurations(outline):
        timeout = configuration.get("timeout")
        if isinstance(timeout, int) and not isinstance(timeout, bool) and 0 < timeout < _SHORTEST_TIMEOUT:
            hint = f"It counts seconds, not minutes; {timeout} minutes are {timeout * 60}."
            findings.warn((*path, "timeout"), f"a timeout of {timeout} seconds is short.", hint)
    _outputs(outline, findings)


def _configurations(outline: Outline) -> list[tuple[Path_, dict[str, Any]]]:
    nodes = [*outline.top.values(), *outline.every_task()]
    found = [((*node.path, "configuration"), mapping(node.data.get("configuration"))) for node in nodes]
    return [(("configuration",), mapping(outline.data.get("configuration"))), *found]


def _integration(task: Node, findings: Findings) -> None:
    integration, job = task.data.get("integration"), task.data.get("integration_job")
    if isinstance(integration, str) and _is_name(integration) and integration not in INTEGRATIONS:
        message = f"the integration {integration!r} is not known."
        findings.warn((*task.path, "integration"), message, near(integration, INTEGRATIONS))
    if not isinstance(job, str) or not _is_name(job):
        return
    owner = next((name for name, jobs in JOBS.items() if job in jobs), None)
    if owner is None:
        jobs = JOBS.get(str(integration)) or [one for several in JOBS.values() for one in several]
        findings.warn((*task.path, "integration_job"), f"the integration_job {job!r} is not known.", near(job, jobs))
    elif integration in INTEGRATIONS and owner != integration:
        findings.warn((*task.path, "integration_job"), f"{job} is a job of {owner}, not of {integration}.")


def _is_name(value: str) -> bool:
    """Tell a name from what is refused as one."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", value) is not None


def check_connection(value: Any, path: Path_, findings: Findings) -> None:
    """Look at the id of a connection."""
    if isinstance(value, str) and not is_expression(value) and not _CONNECTION.fullmatch(value):
        hint = "For example snowflake_12345, ${{ ENV.SNOWFLAKE }}, or nothing for the default one."
        findings.warn(path, f"{value!r} is no id of a connection: those end with _ and five digits.", hint)


def _parameters(task: Node, parameters: dict[str, Any], findings: Findings) -> None:
    at = (*task.path, "parameters")
    job = str(task.data.get("integration_job"))
    model = PARAMETERS.get(job)
    if model is not None:
        try:
            model.model_validate({NAMES.get(key, key): value for key, value in parameters.items()})
        except ValidationError as error:
            _doubt(error, job, [field.removesuffix("_") for field in model.model_fields], at, findings)
    for key in _JSON_TEXTS:
        if model is not None and parameters.get(key) is not None:
            _json_text(parameters[key], (*at, key), findings)
    if job in _PYTHONS:
        _python(parameters, at, findings)
    if job == "PYTHON_EXECUTE_SCRIPT":
        _source(parameters, at, findings)
    if job.endswith("_RUN_TEST"):
        _thresholds(parameters, at, findings)


def _doubt(error: ValidationError, job: str, known: list[str], at: Path_, findings: Findings) -> None:
    told: set[str] = set()
    for issue in error.errors(include_url=False):
        key = str(issue["loc"][0]).removesuffix("_")
        if key in told or key in (*_JSON_TEXTS, "python_version"):
            continue
        told.add(key)
        if issue["type"] == "extra_forbidden":
            hint = near(key, known)
            findings.warn_of_key((*at, key), f"{job} is not known to take the parameter {key!r}.", hint)
        elif issue["type"] == "missing":
            findings.warn_of_key(at, f"{job} needs the parameter {key!r}.")
        else:
            said = str(issue["msg"]).removeprefix("Value error, ").replace("Input should be a valid", "should be a")
            findings.warn((*at, key), f"{key} {said}, not {kind_of(issue['input'])}." if "not" not in said else
                          f"{key} {said}.")  # fmt: skip


def _json_text(value: Any, at: Path_, findings: Findings) -> None:
    key = at[-1]
    if isinstance(value, dict | list):
        # The names only: the values may be secrets.
        example = json.dumps(
            dict.fromkeys(value, "…") if isinstance(value, dict) else {"NAME": "…"}, ensure_ascii=False
        )
        findings.error(at, f"{key} is one text that holds JSON, not {kind_of(value)}.", f"Write '{example}'.")
        return
    if not isinstance(value, str):
        findings.error(at, f"{key} is one text that holds JSON, not {kind_of(value)}.")
        return
    if is_expression(value) and not without_expressions(value, "").strip():
        return
    try:
        # Inside a text or bare, a digit can stand for what an expression becomes.
        read = json.loads(without_expressions(value, "1"), strict=False)
    except (ValueError, RecursionError) as error:
        said = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        findings.error(at, f"{key} holds no JSON ({said}).", 'For example \'{"NAME": "value"}\'.')
        return
    if not isinstance(read, dict):
        findings.error(
            at, f"{key} should hold one JSON object, not {kind_of(read)}.", 'For example \'{"NAME": "value"}\'.'
        )


def _python(parameters: dict[str, Any], at: Path_, findings: Findings) -> None:
    version = parameters.get("python_version")
    if isinstance(version, int | float):
        hint = f"Write '{version}'; without quotes, 3.10 would be 3.1."
        findings.warn(
            (*at, "python_version"), f"python_version is a number here, and should be a text: {version}.", hint
        )
    elif isinstance(version, str) and not is_expression(version) and version not in PYTHON_VERSIONS:
        known = ", ".join(PYTHON_VERSIONS)
        findings.warn((*at, "python_version"), f"Python {version!r} is not known here.", f"Known: {known}.")
    _known(parameters, "package_manager", PackageManager.__args__, at, findings)  # type: ignore[attr-defined]


def _source(parameters: dict[str, Any], at: Path_, findings: Findings) -> None:
    _known(parameters, "source", Source.__args__, at, findings)  # type: ignore[attr-defined]
    source = parameters.get("source")
    if source == "INLINE" and not parameters.get("code"):
        findings.error((*at, "source"), "source INLINE needs the parameter 'code'.")
    elif source == "GIT" and not parameters.get("command"):
        hint = "The code in 'code' is run with source INLINE." if parameters.get("code") else ""
        findings.error((*at, "source"), "source GIT needs the parameter 'command'.", hint)
    elif source is None and not parameters.get("command") and not parameters.get("code"):
        findings.warn_of_key(at, "there is nothing to run.", "Give 'command', or source INLINE and 'code'.")


def _known(parameters: dict[str, Any], key: str, known: tuple[str, ...], at: Path_, findings: Findings) -> None:
    value = parameters.get(key)
    if isinstance(value, str) and not is_expression(value) and value not in known:
        findings.warn((*at, key), f"{key} {value!r} is not known.", near(value, known, f"Known: {', '.join(known)}."))


def _thresholds(parameters: dict[str, Any], at: Path_, findings: Findings) -> None:
    read: dict[str, tuple[str, int]] = {}
    for kind in ("error", "warn"):
        key = f"{kind}_threshold_expression"
        value = parameters.get(key)
        if value is None or is_expression(value):
            continue
        match = _THRESHOLD.fullmatch(value) if isinstance(value, str) else None
        if match:
            read[kind] = (match[1], int(match[2]))
            continue
        hint = "One of =, >, <, >=, <=, != and a whole number, for example '> 0'."
        if isinstance(value, str) and "==" in value:
            hint = f"Write {value.replace('==', '=').strip()!r}."
        findings.error((*at, key), f"{value!r} is no threshold.", hint)
    if len(read) == 2 and _never_only_warns(read["error"], read["warn"]):
        findings.warn(
            (*at, "warn_threshold_expression"),
            "this warning is never given: whenever it holds, the error threshold holds too.",
            "The error wins; let them differ.",
        )


def _never_only_warns(error: tuple[str, int], warn: tuple[str, int]) -> bool:
    # Between and beyond these numbers nothing changes.
    numbers = {0, *(max(limit + step, 0) for limit in (error[1], warn[1]) for step in (-1, 0, 1))}
    return all(_holds(error, number) for number in numbers if _holds(warn, number))


def _holds(threshold: tuple[str, int], rows: int) -> bool:
    sign, limit = threshold
    return {
        "=": rows == limit, "!=": rows != limit, ">": rows > limit,
        "<": rows < limit, ">=": rows >= limit, "<=": rows <= limit,
    }[sign]  # fmt: skip


def _outputs(outline: Outline, findings: Findings) -> None:
    """Doubt outputs that are read and never set; that nobody reads one is no mistake, for people look at them too."""
    for name, path, expression, node in outputs_read(outline):
        task = outline.tasks.get(name)
        if task is None:
            continue
        model = PARAMETERS.get(str(task.data.get("integration_job")))
        parameters = mapping(task.data.get("parameters"))
        if model is not None and "set_outputs" in model.model_fields and parameters.get("set_outputs") in (None, False):
            source = expression.source[: expression.offset_of(node)]
            place = findings.located.inside(path, "${{", expression.number, source)
            hint = "Without `set_outputs: true` what it sets is dropped."
            findings.add(place, f"the task {name!r} sets no outputs.", hint, "warning")
