"""From a sensor file on disk to sensors and actions with everything they refer to: secrets, sources, types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runner.document import Document, nearest, validate
from runner.errors import UsageError
from runner.job import Limits, SourceSpec
from runner.jobfile import read_connections
from runner.naming import fingerprint
from runner.plugins import Group, load_plugin, plugin_names
from runner.secrets import environment as read_environment
from runner.secrets import resolve
from sensors.schedule import Cron, Schedule, Window
from sensors.sensorfile import ActionEntry, AlertKind, SensorEntry, SensorFile, SensorLimits


@dataclass(frozen=True, slots=True)
class PlacedAction:
    """An action of a file, secrets resolved."""

    name: str
    entry: ActionEntry = field(repr=False)
    options: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlacedSensor:
    """A sensor of a file, secrets resolved.

    Attributes:
        digest: Of all that decides what its cursor means: where it differs, the sensor starts over.
        whole: Of all that the file says about it.
    """

    entry: SensorEntry = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    source_name: str | None
    source: SourceSpec | None = field(repr=False)
    actions: tuple[PlacedAction, ...]
    digest: str
    whole: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.entry.name

    @property
    def limits(self) -> Limits | None:
        """What its source bounds."""
        return self.source.limits if self.source else None

    def schedule(self, identity: str) -> Schedule:
        """Return when it polls.

        Args:
            identity: What it has in common with the sensors that it shares its looks with, else its name.
        """
        entry, idle = self.entry, self.entry.idle_backoff
        every = entry.every.total_seconds()
        window = entry.window
        return Schedule(
            identity=identity,
            every=every,
            jitter=every if entry.jitter is None else entry.jitter.total_seconds(),
            window=Window(Cron(window.cron, window.timezone), window.deadline) if window else None,
            idle_after=idle.after if idle else None,
            idle_factor=idle.factor if idle else 2.0,
            idle_max=idle.max.total_seconds() if idle else 0.0,
        )


@dataclass(frozen=True)
class Placed:
    """A sensor file with everything it refers to.

    Attributes:
        resting: Sensors that it has and nobody runs now: disabled, or left out by --only. What they know, and what
            they have asked for, stays as it is.
        only: The patterns of --only.
        stamp: Of the file as it was read.
    """

    path: Path
    name: str
    limits: SensorLimits
    sensors: tuple[PlacedSensor, ...]
    alerts: tuple[tuple[PlacedAction, frozenset[AlertKind]], ...]
    resting: frozenset[str] = frozenset()
    only: tuple[str, ...] = ()
    stamp: tuple[int, int] | None = None


def stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does; None while it is away."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def load_sensors(path: Path, *, environ: Mapping[str, str] | None = None, only: tuple[str, ...] = ()) -> Placed:
    """Read, validate and settle a sensor file.

    Args:
        only: Patterns of names: the other sensors rest.

    Raises:
        UsageError: A pattern of ``only`` fits no name.
        JobFileError: A wrong key or value, with its line.
        SecretMissing: A reference leads nowhere.
    """
    environ = read_environment(path.resolve().parent) if environ is None else environ
    stamped = stamp(path)
    document, file = _read(path)
    seen: dict[str, int] = {}
    for index, entry in enumerate(file.sensors):
        if entry.name in seen:
            raise document.refuse(("sensors", index, "name"), f"the name {entry.name!r} stands twice.")
        seen[entry.name] = index
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in seen):
            raise UsageError(
                f"--only {pattern}: no sensor of {path} is called so.",
                guidance=f"It has: {', '.join(list(seen)[:20])}.",
            )
    working = {
        entry.name
        for entry in file.sensors
        if not entry.disabled and (not only or any(fnmatchcase(entry.name, pattern) for pattern in only))
    }
    sources = _Sources(document, environ)
    sensors = tuple(
        _sensor(entry, index, document, environ, sources)
        for index, entry in enumerate(file.sensors)
        if entry.name in working
    )
    alerts = _actions(list(file.alerts), ("alerts",), document, environ)
    return Placed(
        path=path,
        name=file.name,
        limits=file.limits,
        sensors=sensors,
        alerts=tuple((action, frozenset(entry.on)) for action, entry in zip(alerts, file.alerts, strict=True)),
        resting=frozenset(seen.keys() - working),
        only=only,
        stamp=stamped,
    )


def read_sensors(path: Path) -> SensorFile:
    """Read a sensor file alone, for who looks at what its sensors did: no secret is read, and no type loaded.

    Raises:
        JobFileError: A wrong key or value, with its line.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[Document, SensorFile]:
    document = Document(path)
    _defaults(document)
    return document, validate(SensorFile, document.data, document)


def _defaults(document: Document) -> None:
    """Lay the defaults under every sensor."""
    defaults, sensors = document.data.get("defaults"), document.data.get("sensors")
    if not isinstance(defaults, dict) or not isinstance(sensors, list):
        return
    for key in ("name", "type"):
        if key in defaults:
            raise document.refuse(("defaults", key), "this key is each sensor's own.")
    for index, entry in enumerate(sensors):
        if isinstance(entry, dict):
            for key, value in defaults.items():
                if key not in entry:
                    entry[key] = value
                    document.lines["sensors", index, key] = document.lines["defaults", key]


def _sensor(
    entry: SensorEntry, index: int, document: Document, environ: Mapping[str, str], sources: _Sources
) -> PlacedSensor:
    at = ("sensors", index)
    model = _model("runner.sensors", entry.type, (*at, "type"), document)
    options = _options(model, SensorEntry, entry.options, at, document, environ)
    source_name, source = _source(entry, at, document, sources)
    plain = entry.model_dump(mode="json", exclude_unset=True)
    own = entry.model_dump(mode="json", include={"type", "source", "cursor"})
    return PlacedSensor(
        entry=entry,
        options=options,
        source_name=source_name,
        source=source,
        actions=tuple(_actions(entry.actions, (*at, "on_event"), document, environ)),
        digest=fingerprint({**own, "options": entry.options}),
        whole=fingerprint([plain, options, source.model_dump(mode="json") if source else None]),
    )


class _Sources:
    """The sources that sensors look at; those that name the same one share it, and connections.yml is read once."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._named: dict[str, SourceSpec] = {}
        self._read = cache(read_connections)

    def named(self, name: str, at: tuple[str | int, ...]) -> SourceSpec:
        """Return an entry of connections.yml, secrets resolved."""
        if name not in self._named:
            connections, places = self._read(self._document.path)
            if name not in connections.sources:
                near = nearest(name, connections.sources)
                hint = f" Did you mean {near!r}?" if near else ""
                raise self._document.refuse((*at, "source"), f"{name!r} is not in {places}.{hint}")
            self._named[name] = self.resolved(connections.sources[name])
        return self._named[name]

    def resolved(self, spec: SourceSpec) -> SourceSpec:
        """Return a source with its secrets."""
        given = spec.model_dump(by_alias=True, exclude_unset=True, exclude={"limits"})
        return SourceSpec.model_validate({**resolve(given, self._environ), "limits": spec.limits})


def _source(
    entry: SensorEntry, at: tuple[str | int, ...], document: Document, sources: _Sources
) -> tuple[str | None, SourceSpec | None]:
    takes = plugin("runner.sensors", entry.type).takes_source
    if entry.source is None:
        if takes:
            raise document.refuse(at, f"a sensor of type {entry.type} needs a source.")
        return None, None
    if not takes:
        raise document.refuse((*at, "source"), f"a sensor of type {entry.type} takes no source.")
    if isinstance(entry.source, str):
        return entry.source, sources.named(entry.source, at)
    return entry.source.type, sources.resolved(entry.source)


def _actions(
    entries: list[Any], at: tuple[str | int, ...], document: Document, environ: Mapping[str, str]
) -> list[PlacedAction]:
    placed: list[PlacedAction] = []
    for index, entry in enumerate(entries):
        place = (*at, index) if (*at, index) in document.lines else at
        model = _model("runner.actions", entry.type, (*place, "type"), document)
        options = _options(model, type(entry), dict(entry.model_extra or {}), place, document, environ)
        name = entry.name or entry.type
        if any(one.name == name for one in placed):
            raise document.refuse(place, f"two actions are called {name!r}: give them a name each.")
        placed.append(PlacedAction(name, entry, options))
    return placed


@cache
def plugin(group: Group, kind: str) -> Any:
    """Return a type of sensors or actions; thousands of entries ask for the same few."""
    return load_plugin(group, kind)


def _model(group: Group, kind: str, at: tuple[str | int, ...], document: Document) -> type[BaseModel]:
    known = plugin_names(group)
    if kind not in known:
        near = nearest(kind, known)
        hint = f" Did you mean {near!r}?" if near else ""
        raise document.refuse(at, f"there is no type {kind!r}.{hint} Known: {', '.join(known)}.")
    try:
        model: type[BaseModel] = plugin(group, kind).config_model
    except ImportError as error:
        raise UsageError(
            f"The type {kind!r} needs the package {error.name!r}.",
            guidance="Install the extra that brings it; the README says which.",
        ) from error
    return model


def _options(
    model: type[BaseModel],
    around: type[BaseModel],
    options: dict[str, Any],
    at: tuple[str | int, ...],
    document: Document,
    environ: Mapping[str, str],
) -> dict[str, Any]:
    """Return a type's own keys with secrets resolved, after a look at what is wrong with them."""
    for key in options:
        known = {field.alias or name for name, field in model.model_fields.items()}
        if key not in known and model.model_config.get("extra") == "forbid":
            near = nearest(key, {*known, *around.model_fields})
            hint = f" Did you mean {near!r}?" if near else ""
            raise document.refuse((*at, key), f"unknown key.{hint}")
    resolved: dict[str, Any] = resolve(options, environ)
    validate(model, resolved, document, at)
    return resolved
