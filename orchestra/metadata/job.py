"""The job that loads a workspace's metadata: of a file, or the built-in one with a destination of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from pydantic import BaseModel, ValidationError

from orchestra.api.workspace import Workspace
from orchestra.metadata.dltsecrets import destination_types, dlt_environment
from orchestra.metadata.tables import RESOURCES, SCHEMA
from runner.contract import destination_options
from runner.document import nearest
from runner.errors import SecretMissing, UsageError
from runner.job import DestinationSpec, SourceSpec
from runner.jobfile import SettledJob, load_job
from runner.plugins import load_plugin


def settle_metadata(
    job: Path | None, destination: str | None, env: str | None, folder: Path
) -> tuple[SettledJob, dict[str, str]]:
    """Return the job, with its key and its destination, and the variables that they come from.

    Args:
        job: The job file; the built-in one by default.
        destination: The type of a destination to use instead of the job's.
        folder: Where the built-in job lives: its state, a relative path, ``.env`` and ``.dlt``.

    Raises:
        UsageError: The job has another source, or the destination cannot be told.
        SecretMissing: There is no API key.
    """
    environ = dlt_environment(job.resolve().parent if job else folder)
    if job is not None:
        settled = load_job(job, env=env, environ=environ)
    else:
        with as_file(files("orchestra") / "jobs" / "metadata.yml") as path:
            settled = load_job(path, env=env, environ=environ)
        settled = replace(settled, path=folder / "metadata.yml")
        destination = destination or _named(environ)
    if settled.source.type != "orchestra":
        raise UsageError(
            f"{settled.path}: the source is of type {settled.source.type!r}, and metadata reads type orchestra.",
            guidance="Use runner backfill.",
        )
    return replace(
        settled,
        source=_source(settled.source, environ),
        destination=_destination(settled.destination, destination, environ),
        destination_name=destination or settled.destination_name,
    ), environ


def tables_with_times() -> list[str]:
    """Return the tables that a range of time can be read of."""
    return [f"{SCHEMA}.{one.name}" for one in RESOURCES.values() if one.cursor]


def _named(environ: Mapping[str, str]) -> str | None:
    """Return the type of destination that the environment names, or holds credentials of; None for neither."""
    if environ.get("DESTINATION"):
        return environ["DESTINATION"]
    found = destination_types(environ)
    if len(found) > 1:
        raise UsageError(
            f"The environment holds credentials of several destinations: {', '.join(found)}.",
            guidance="Name one with --destination, or DESTINATION.",
        )
    return found[0] if found else None


def _source(source: SourceSpec, environ: Mapping[str, str]) -> SourceSpec:
    given = source.options
    try:
        found = Workspace.of(
            api_key=given.get("api_key"), base_url=given.get("base_url"), account=given.get("account"), environ=environ
        )
    except SecretMissing as error:
        guidance = f"{error.advice} Or write orchestra_api_token into .dlt/secrets.toml."
        raise SecretMissing(error.message, guidance=guidance) from None
    own = {"api_key": found.api_key, "base_url": found.base_url, "account": found.account}
    return SourceSpec.model_validate({**source.model_dump(exclude_unset=True), **own})


def _destination(own: DestinationSpec, kind: str | None, environ: Mapping[str, str]) -> DestinationSpec:
    dataset = environ.get("DATASET") or own.dataset
    credentials = bool(environ.get("DEST_CREDS", "").strip())
    if kind is None and credentials:
        # They say no type: they are those of the destination that there is.
        kind = own.type
    if kind is None:
        return own.model_copy(update={"dataset": dataset})
    kept = own.options if kind == own.type else {}
    given = {key: value for key, value in destination_options(kind, environ).items() if key not in ("type", "dataset")}
    found = DestinationSpec.model_validate({**kept, **given, "type": kind, "dataset": dataset})
    if credentials:
        _check_credentials(found)
    return found


def _check_credentials(destination: DestinationSpec) -> None:
    """Refuse keys of DEST_CREDS that the destination does not take, under the name of the variable."""
    try:
        config: type[BaseModel] = load_plugin("runner.destinations", destination.type).config_model
        config.model_validate(destination.options)
    except ImportError:
        return  # whoever makes the destination says what to install
    except ValidationError as error:
        problems = []
        for one in error.errors():
            name = ".".join(map(str, one["loc"]))
            near = nearest(name, config.model_fields) if one["type"] == "extra_forbidden" else None
            said = "unknown key" if one["type"] == "extra_forbidden" else str(one["msg"]).removeprefix("Value error, ")
            where = f"DEST_CREDS: {name}: " if name else "DEST_CREDS: "
            problems.append(f"{where}{said}." + (f" Did you mean {near!r}?" if near else ""))
        raise UsageError(
            "\n".join(problems),
            guidance=f"It was read for a destination of type {destination.type}, which --destination or DESTINATION "
            f"names; it takes {', '.join(sorted(config.model_fields))}.",
        ) from None
