"""From a job file on disk to a job whose environment, connections and secrets are settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.document import Document, nearest, validate
from runner.errors import NotYet, UsageError
from runner.job import Connections, DestinationSpec, Environment, Job, Limits, SourceSpec, TableEntry
from runner.secrets import environment as read_environment
from runner.secrets import resolve


@dataclass(frozen=True)
class SettledJob:
    """A job with everything it refers to.

    Attributes:
        source_name: The name the source goes by in templates and in state.
        source: Its type and options, secrets resolved.
        destination_name: The entry of connections.yml, or the type.
        environment: The overlay in force, or None.
        state: Where marks, history and leases are, secrets resolved.
    """

    job: Job
    path: Path
    source_name: str
    source: SourceSpec = field(repr=False)
    destination_name: str
    destination: DestinationSpec = field(repr=False)
    environment: str | None = None
    limits: Limits = field(default_factory=Limits)
    state: str | dict[str, Any] = field(default="destination", repr=False)


def load_job(
    path: Path,
    *,
    env: str | None = None,
    environ: Mapping[str, str] | None = None,
    task: bool = False,
    source: bool = True,
    secrets: bool = True,
) -> SettledJob:
    """Read, merge, validate and settle a job file.

    Args:
        path: The job file.
        env: The environment, by name (--env).
        environ: Variables; those of the process and of ``.env`` by default.
        task: Whether the platform named the environment, which then counts as naming it.
        source: Whether the source will be needed: else its secrets are not.
        secrets: Whether anything will be run: else references to secrets stay as they are written.

    Raises:
        JobFileError: A wrong key or value, with its line.
        NotYet: A known key that this version does not implement.
        SecretMissing: A reference leads nowhere.
    """
    environ = read_environment(path.resolve().parent) if environ is None else environ
    document = Document(path)
    validate(Job, document.data, document)
    data, chosen = _overlay(document, env, environ, named=task)
    job = validate(Job, data, document)
    connections, places = read_connections(path)
    source_name, spec = _source(job, connections, document, places)
    destination_name, destination = _destination(job, connections, document, places)
    limits = job.limits.over(spec.limits)
    if secrets:
        _refuse_not_yet(job, document)
    # Limits are settled above; they are parsed once and not written as text again.
    own = spec.model_dump(by_alias=True, exclude_unset=True, exclude={"limits"})
    there = destination.model_dump(by_alias=True, exclude_unset=True)
    return SettledJob(
        job=job,
        path=path,
        source_name=source_name,
        source=SourceSpec.model_validate(resolve(own, environ) if source and secrets else own),
        destination_name=destination_name,
        destination=destination.model_validate(resolve(there, environ) if secrets else there),
        environment=chosen,
        limits=limits,
        state=resolve(job.state, environ) if secrets else job.state,
    )


def _overlay(
    document: Document, env: str | None, environ: Mapping[str, str], *, named: bool
) -> tuple[dict[str, Any], str | None]:
    chosen = env or environ.get("ENVIRONMENT") or None
    data = {key: value for key, value in document.data.items() if key != "environments"}
    overlays = document.data.get("environments") or {}
    if chosen is None or (not overlays and env is None):
        return data, chosen
    if chosen not in overlays:
        near = nearest(chosen, overlays)
        raise UsageError(
            f"{document.path} has no environment {chosen!r}." + (f" Did you mean {near!r}?" if near else ""),
            guidance=f"It has: {', '.join(overlays) or 'none'}.",
        )
    overlay = dict(overlays[chosen] or {})
    if Environment.model_validate(overlay).protected and env is None and not named:
        raise UsageError(
            f"The environment {chosen!r} is protected.", guidance=f"Name it on the command line: --env {chosen}."
        )
    overlay.pop("protected", None)
    at = ("environments", chosen)
    for path, line in list(document.lines.items()):
        if path[:2] == at and len(path) > len(at):
            document.lines[path[2:]] = line
    return _merge(data, overlay), chosen


def _merge(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "type" in base and over.get("type", base["type"]) != base["type"]:
        # Another kind of system: only the keys that every kind has survive.
        base = {key: value for key, value in base.items() if key in ("dataset", "table")}
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merge(base[key], value) if key in base else value
    return merged


def read_connections(path: Path) -> tuple[Connections, str]:
    """Read connections.yml beside a job or sensor file or in the folder above it; return where it is, too."""
    folder = path.resolve().parent
    for place in (folder, folder.parent):
        file = place / "connections.yml"
        if file.is_file():
            document = Document(file)
            return validate(Connections, document.data, document), str(file)
    return Connections(), f"{folder}/connections.yml (which does not exist)"


def _look_up(name: str, known: Mapping[str, Any], key: str, document: Document, places: str) -> Any:
    if name in known:
        return known[name]
    near = nearest(name, known)
    hint = f" Did you mean {near!r}?" if near else ""
    raise document.refuse((key,), f"{name!r} is not in {places}.{hint}")


def _source(job: Job, connections: Connections, document: Document, places: str) -> tuple[str, SourceSpec]:
    if isinstance(job.source, str):
        return job.source, _look_up(job.source, connections.sources, "source", document, places)
    return job.source.type, job.source


def _destination(job: Job, connections: Connections, document: Document, places: str) -> tuple[str, DestinationSpec]:
    spec = job.destination
    name = spec if isinstance(spec, str) else spec.connection
    if name is None:
        assert isinstance(spec, DestinationSpec)
        return spec.type, spec
    base = _look_up(name, connections.destinations, "destination", document, places)
    if isinstance(spec, DestinationSpec):
        own = spec.model_dump(exclude_unset=True)
        if "type" in own and own["type"] != base.type:
            raise document.refuse(("destination", "type"), f"the connection {name!r} is of type {base.type!r}.")
        base = DestinationSpec.model_validate({**base.model_dump(exclude_unset=True), **own})
    return name, base


def _refuse_not_yet(job: Job, document: Document) -> None:
    if job.transform:
        line = document.line(("transform",))
        raise NotYet(
            f"{document.path}:{line}: transform: building models after a load is not implemented yet.", line=line
        )


def validate_entry(data: Mapping[str, Any], origin: str) -> TableEntry:
    """Validate a table entry that did not come from a file (PARAMS of the environment contract).

    Raises:
        JobFileError: A wrong key or value.
    """
    document = Document(Path(origin), text="{}")
    return validate(TableEntry, dict(data), document)
