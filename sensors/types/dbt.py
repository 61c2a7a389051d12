"""The freshness of a dbt project's sources, by its manifest: dbt itself is not needed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from anyio import to_thread
from pydantic import Field, field_validator

from connectors.sql.manifest import FreshSource, read_manifest
from connectors.sql.newest import newest
from connectors.sql.values import alike, moment, ready
from runner.errors import RunnerError, UsageError
from sensors.room import Room
from sensors.sensor import Event, Polled, SensorConfig, Setting
from sensors.types.database import DatabaseSensor


class DbtConfig(SensorConfig):
    """The keys of a sensor of type dbt."""

    project: str = Field(".", description="the project's folder, relative to the working directory")
    target: str = Field("target", description="where its artifacts are")
    select: list[str] = Field(["*"], min_length=1, description="sources: shop, shop.orders, *.orders")
    on: Literal["status", "loaded"] = Field("status", description="loaded: when new data came, too")

    @field_validator("select", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return given.split() if isinstance(given, str) else given


class DbtSensor(DatabaseSensor[DbtConfig]):
    """Waits for the status of sources to change between pass, warn, error and runtime error."""

    kind = "dbt"
    config_model = DbtConfig

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        if setting.start not in ("now", "beginning"):
            raise UsageError("A sensor of type dbt starts now or at the beginning.")
        self._manifest = Path(self.config.project) / self.config.target / "manifest.json"
        self._known: tuple[tuple[int, int], tuple[FreshSource, ...]] | None = None

    @property
    def share(self) -> Hashable:
        return self.kind, str(self._manifest)

    def describe(self) -> str:
        return f"{self.where}: sources {' '.join(self.config.select)} of {self._manifest.parent.parent}"

    async def poll(self, cursor: Any) -> Polled:
        sources = await self._sources()
        selects = tuple(source.select for source in sources)
        found = await self.ask(lambda client: newest(client, selects), selects)
        before: dict[str, Any] = cursor or {}
        after: dict[str, Any] = {}
        events = []
        for source in sources:
            known = before.get(source.id) or self._start(found[source.select])
            event, after[source.id] = self._judge(source, found[source.select], known)
            events += [event] if event else []
        statuses = [one["status"] for one in after.values()]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses)))
        # Sources that are not in the manifest now may come back: what was told of them is not told again.
        return Polled(events, {**before, **after}, note="" if events else counts)

    def _start(self, value: Any) -> dict[str, Any]:
        begin = None if self.setting.start == "beginning" or isinstance(value, RunnerError) else ready(value)
        status = "pass" if self.setting.start == "now" else None
        return {"status": status, "loaded": begin, "changes": 0}

    def _judge(self, source: FreshSource, value: Any, before: Mapping[str, Any]) -> tuple[Event | None, dict[str, Any]]:
        wrong = value if isinstance(value, RunnerError) else None
        at = None if wrong else moment(value)
        age = None if at is None else self.room.clock.now() - at
        if value is not None and not wrong and at is None:
            wrong = UsageError(f"{ready(value)!r} is no date or time.")
        status = "runtime error" if wrong else source.status(age)
        turned = status != before["status"]
        loaded = at is not None and (before["loaded"] is None or value > alike(before["loaded"], value))
        after = {
            "status": status,
            "loaded": ready(value) if loaded else before["loaded"],
            "changes": before["changes"] + turned,
        }
        if not turned and not (loaded and self.config.on == "loaded"):
            return None, after
        values = {
            "source": source.name,
            "id": source.id,
            "relation": source.relation,
            "status": status,
            "previous": before["status"],
            "loaded_at": None if at is None else at.isoformat(),
            "age_seconds": None if age is None else round(age / timedelta(seconds=1), 3),
            "message": wrong.message if wrong else "",
        }
        what = f"{status} {after['changes']}" if turned else f"loaded {after['loaded']}"
        return Event(f"{source.id}: {what}", values, at), after

    async def _sources(self) -> Sequence[FreshSource]:
        sources = await to_thread.run_sync(self._read)
        wanted = [source for source in sources if any(source.matches(one) for one in self.config.select)]
        if not wanted:
            names = ", ".join(source.name for source in sources[:20]) or "none"
            raise UsageError(
                f"No source of {self._manifest} with a freshness and a loaded_at_field matches "
                f"{' '.join(self.config.select)}.",
                guidance=f"There are: {names}.",
            )
        return wanted

    def _read(self) -> tuple[FreshSource, ...]:
        """Read the manifest where it is another one than the last time."""
        try:
            status = self._manifest.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = (0, 0)
        if self._known is None or self._known[0] != stamp or stamp == (0, 0):
            self._known = stamp, read_manifest(self._manifest)
        return self._known[1]
