"""The environment contract of a single-table task: what an orchestrator sets, all strings."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.batches import tables_of
from runner.document import Document, validate
from runner.errors import UsageError
from runner.job import DestinationSpec, Job, SourceSpec, TableEntry, is_exact
from runner.jobfile import SettledJob, load_job, validate_entry
from runner.lockfile import LockFile
from runner.naming import normalise
from runner.platform import Platform
from runner.plugins import Group, load_plugin, load_plugins, plugin_names
from runner.secrets import remember

_OF_THE_JOB = ("job", "dataset", "source", "limits", "retry")
_YES, _NO = ("true", "1", "yes"), ("", "false", "0", "no", "none", "null")


def asked_range(environ: Mapping[str, str]) -> tuple[str | None, str | None, bool]:
    """Return SINCE, UNTIL and FULL_REFRESH: what an input of a pipeline that nobody filled in leaves empty.

    Raises:
        UsageError: FULL_REFRESH is neither true nor false.
    """
    refresh = environ.get("FULL_REFRESH", "").strip().lower()
    if refresh not in (*_YES, *_NO):
        raise UsageError(f"FULL_REFRESH is {refresh!r}.", guidance="Set it to true or false, or leave it empty.")
    since, until = (environ.get(name, "").strip() for name in ("SINCE", "UNTIL"))
    return _unless_empty(since), _unless_empty(until), refresh in _YES


def _unless_empty(text: str) -> str | None:
    # An expression over an input that is not there may also come as the word for nothing.
    return None if text.lower() in ("", "none", "null") else text


def settle_task(
    job: Path | None, table: str | None, env: str | None, environ: Mapping[str, str], folder: Path
) -> tuple[SettledJob, tuple[str, ...]]:
    """Return the job of a single table, and the table; of several where OBJECT is the name of a batch.

    None is left where SINCE and UNTIL ask for a range, and by its lock file the table has no cursor.

    A flag wins over PARAMS, PARAMS over the job file, the job file over the defaults.

    Args:
        job: The job file; RUNNER_JOB by default; without either SOURCE and DESTINATION say it all.
        table: The table; OBJECT by default.
        folder: Where a relative RUNNER_JOB starts, and a job without a file lives.

    Raises:
        UsageError: A variable is missing or cannot be read.
    """
    named = environ.get("OBJECT")
    wanted = table or named
    if not wanted:
        raise UsageError("No table is named.", guidance="Give --table, or set OBJECT.")
    if not is_exact(wanted):
        raise UsageError(f"{wanted!r} is a pattern, and a task moves one table.", guidance="Name it, or use backfill.")
    params = _decode("PARAMS", environ.get("PARAMS", ""))
    path = job or (folder / environ["RUNNER_JOB"] if environ.get("RUNNER_JOB") else None)
    if path is not None:
        settled = load_job(path, env=env, environ=environ, task=True)
        tables = tables_of(wanted, environ.get("BATCH_SMALL", ""), LockFile.read(LockFile.path(path)))
    else:
        settled = _without_file(environ, params, wanted, env, folder)
        tables = (wanted,)
    if path is not None:
        tables = _with_cursor(tables, path, environ)
    for one in tables:
        if len(tables) > 1 and settled.job.entry(one) is None:
            raise UsageError(
                f"{wanted!r} has the table {one!r}, which the job does not select any more.",
                guidance="Run: runner plan JOB --lock",
            )
        settled = _narrow(settled, one, params, environ)
    return settled, tables


def _with_cursor(tables: tuple[str, ...], job: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tables that a range of the environment is about: a pipeline hands it to all of them."""
    lock = LockFile.read(LockFile.path(job))
    if lock is None or not (environ.get("SINCE", "").strip() or environ.get("UNTIL", "").strip()):
        return tables
    return tuple(one for one in tables if one not in lock.tables or lock.tables[one].get("cursor"))


def _without_file(
    environ: Mapping[str, str], params: dict[str, Any], table: str, env: str | None, folder: Path
) -> SettledJob:
    for needed in ("SOURCE", "DESTINATION"):
        if not environ.get(needed):
            raise UsageError(
                f"{needed} is not set.",
                guidance="Give a job file, or set RUNNER_JOB, or SOURCE, OBJECT and DESTINATION.",
            )
    kind = environ["DESTINATION"]
    credentials = destination_options(kind, environ)
    given = _decode("SOURCE_CREDS", environ.get("SOURCE_CREDS", ""), bare="dsn")
    if not given:
        given = _linked("runner.sources", environ["SOURCE"], environ, "SOURCE_CONNECTION")
    source = {"type": environ["SOURCE"], **given}
    document = Document(Path("environment"), text="{}")
    job = validate(
        Job,
        {
            "name": str(params.get("job") or f"task_{normalise(table, 40)}"),
            "source": source,
            "destination": {"type": kind, **credentials},
            "tables": {table: None},
        },
        document,
    )
    assert isinstance(job.source, SourceSpec)
    assert isinstance(job.destination, DestinationSpec)
    return SettledJob(
        job=job,
        path=folder / "environment",
        source_name=str(params.get("source") or job.source.type),
        source=job.source,
        destination_name=kind,
        destination=job.destination,
        environment=env or environ.get("ENVIRONMENT"),
    )


def destination_options(kind: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a destination that an environment holds.

    Those of DEST_CREDS, else of dlt's own variables, else of a connection that the platform linked.

    Raises:
        UsageError: There is no such type, or DEST_CREDS cannot be read.
    """
    if kind not in plugin_names("runner.destinations"):
        load_plugin("runner.destinations", kind)
    return (
        _decode("DEST_CREDS", environ.get("DEST_CREDS", ""), bare="dsn")
        or dict(load_plugin("runner.destinations", kind).options_from_dlt(environ))
        or _linked("runner.destinations", kind, environ, "DEST_CONNECTION")
    )


def _linked(group: Group, kind: str, environ: Mapping[str, str], variable: str) -> dict[str, Any]:
    """Return the options that a platform holds for us; SOURCE_CONNECTION or DEST_CONNECTION names one of several."""
    keys = frozenset(load_plugin(group, kind).config_model.model_fields)
    platforms: dict[str, Platform] = load_plugins("runner.platforms")
    for platform in platforms.values():
        found = platform.linked_options(kind, keys, environ, wanted=environ.get(variable, ""))
        if found:
            return found
    return {}


def _narrow(settled: SettledJob, table: str, params: dict[str, Any], environ: Mapping[str, str]) -> SettledJob:
    """Return the job with PARAMS laid over it and the credentials of the environment merged in."""
    entry = validate_entry({key: value for key, value in params.items() if key not in _OF_THE_JOB}, "PARAMS")
    document = Document(Path("PARAMS"), text="{}")
    own = validate(
        Job,
        {
            "name": "params",
            "source": "params",
            "tables": {"*": None},
            **{key: params[key] for key in ("limits", "retry") if key in params},
        },
        document,
    )
    tables: dict[str, TableEntry | None] = {
        **settled.job.tables,
        table: entry.over(settled.job.tables.get(table) or TableEntry()),
    }
    if settled.job.entry(table) is None and table not in settled.job.tables:
        tables = {table: entry}
    job = settled.job.model_copy(update={"tables": tables, **({"retry": own.retry} if "retry" in params else {})})
    limits = own.limits.over(settled.limits)
    destination = settled.destination
    dataset = environ.get("DATASET") or params.get("dataset")
    if dataset:
        destination = destination.model_copy(update={"dataset": str(dataset)})
    source = settled.source
    given = _decode("SOURCE_CREDS", environ.get("SOURCE_CREDS", ""), bare="dsn")
    if given:
        source = SourceSpec.model_validate({**source.model_dump(exclude_unset=True), **given})
    return replace(settled, job=job, limits=limits, destination=destination, source=source)


def _decode(name: str, text: str, *, bare: str | None = None) -> dict[str, Any]:
    """Return JSON, or base64 of JSON, or for credentials a bare string, as a mapping.

    Raises:
        UsageError: It is none of these.
    """
    text = text.strip()
    if not text:
        return {}
    remember(text)
    candidates = [text]
    try:
        candidates.append(base64.b64decode(text, validate=True).decode("utf-8"))
    except (binascii.Error, ValueError):
        candidates = [text]
    for candidate in candidates:
        try:
            found = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            for key, value in found.items():
                if bare and isinstance(value, str):
                    remember(f"{key}={value}")
            return found
    if bare and not text.startswith("{"):
        return {bare: text}
    raise UsageError(
        f"{name} is neither JSON nor base64 of JSON.",
        guidance='For example {"dsn": "…"}.' if bare else 'For example {"mode": "full"}.',
    )
