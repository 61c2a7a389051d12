"""Fires when files come: into a bucket, onto a server, into a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Hashable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from connectors.files import FileInfo, FilesConfig, Globs, Place, in_order, locate
from runner.errors import UsageError
from runner.units import Duration
from sensors.room import Room
from sensors.sensor import Event, Polled, Sensor, SensorConfig, Setting
from sensors.types.filepass import Pass, Remembered
from sensors.types.filestate import Rules

_EVENTS = 1000
_LISTED = 100_000
_SECONDS = 10.0
# A store shows a file when it is whole; elsewhere it grows before everybody's eyes.
_SETTLE = timedelta(seconds=10)


class FilesSensorConfig(SensorConfig, FilesConfig):
    """The keys of a sensor of type files."""

    match: str | list[str] = Field(
        "**", description="*.csv: by name, in every folder; in/*.csv: by path; ** any folders"
    )
    exclude: str | list[str] = Field(default_factory=list, description="patterns of files that do not count")
    settle: Duration | None = Field(
        None, description="how long a file must be the same; 0s in stores and 10s elsewhere, where files grow"
    )
    empty: Literal["ignore", "fire"] = Field("ignore", description="files of zero bytes; ignore: until they have some")
    rewritten: Literal["fire", "ignore"] = Field("fire", description="a file that is written again")
    late: Literal["fire", "ignore"] = Field("fire", description="modified before the newest one that fired")
    batch: bool = Field(False, description="one event for all that is new in a poll")
    batch_size: int | None = Field(None, ge=1, le=10_000, description="files of one batch, 1000 by default")
    start_after: str | None = Field(None, description="list only what comes after this path")
    append_only: bool = Field(False, description="names only ever rise: what is done is not listed again")

    @model_validator(mode="after")
    def _together(self) -> FilesSensorConfig:
        if self.batch_size is not None and not self.batch:
            raise ValueError("batch_size needs batch: true")
        return self


class FilesSensor(Sensor[FilesSensorConfig]):
    """Lists files and compares them with what it remembers of the last listing."""

    kind = "files"
    config_model = FilesSensorConfig

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        config = self.config
        self._place: Place = locate(config, setting.folder)
        self._match, self._exclude = Globs(_list(config.match)), Globs(_list(config.exclude))
        grows = config.scheme in ("sftp", "file")
        self._settle = config.settle if config.settle is not None else _SETTLE if grows else timedelta()
        self._since = None if setting.start in ("now", "beginning") else _moment(setting.start)

    @property
    def system(self) -> Hashable:
        return self._place.system

    @property
    def share(self) -> Hashable:
        return self._place.folder

    def describe(self) -> str:
        return self._place.url

    async def poll(self, cursor: Any) -> Polled:
        before = dict(cursor or {})
        began = self.room.clock.monotonic()
        start = before.get("after") or self._begins(before)
        walk = self._pass(before, start, first=cursor is None)
        whole, listed = True, 0
        async with contextlib.aclosing(self.look_pages(lambda: self._pages(start), start)) as pages:
            async for page in pages:
                listed += len(page)
                going = await walk.read(page)
                tired = listed >= _LISTED or self.room.clock.monotonic() - began >= _SECONDS
                # Without order nobody knows where to go on, so that all of it is one poll's.
                if not going or (tired and walk.ordered):
                    whole = False
                    break
        whole = whole and await walk.end()
        return self._polled(before, walk, whole, first=cursor is None)

    def _pass(self, before: dict[str, Any], start: str | None, *, first: bool) -> Pass:
        config, now = self.config, self.room.clock.now()
        everything = first and self.setting.start == "now"
        since = self._since if first else _time(before.get("since"))
        newest = _time(before.get("newest")) if config.late == "ignore" else None
        rules = Rules(
            settle=self._settle,
            empty=config.empty == "fire",
            rewritten=config.rewritten == "fire",
            late_before=newest,
            there=lambda file: everything or (since is not None and file.modified < since),
        )
        walk = Pass(
            rules=rules,
            remembered=Remembered(self.room.memory, self.setting.name, start),
            matches=lambda path: self._match.match(path) and not self._exclude.match(path),
            begun=now,
            now=self.room.clock.now,
            most=(config.batch_size or _EVENTS) if config.batch else _EVENTS,
            rising=config.append_only,
        )
        walk.after, walk.mark, walk.blocked = before.get("after"), before.get("mark"), bool(before.get("blocked"))
        return walk

    def _begins(self, before: dict[str, Any]) -> str | None:
        """Return behind which path a listing begins."""
        given = [path for path in (self.config.start_after, before.get("mark")) if path]
        return max(given, key=in_order, default=None)

    async def _pages(self, start: str | None) -> AsyncGenerator[list[FileInfo], None]:
        lister = await self.room.connection(self.system, self._place.connect)
        async with contextlib.aclosing(lister.pages(self._place.folder, start)) as pages:
            async for page in pages:
                yield page

    def _polled(self, before: dict[str, Any], walk: Pass, whole: bool, *, first: bool) -> Polled:
        fired = max((file.modified for file in walk.new), default=None)
        fresh = max((time for time in (fired, _time(before.get("fresh"))) if time), default=None)
        newest = _time(before.get("newest"))
        counts = {
            "files": before.get("files", 0) + walk.files,
            "new": before.get("new", 0) + len(walk.new),
            "waiting": before.get("waiting", 0) + walk.waiting,
            "gone": before.get("gone", 0) + walk.gone,
        }
        since = before.get("since")
        if first:
            # What comes while the first listing goes on, from poll to poll, was not there at its beginning.
            since = walk.begun if self.setting.start == "now" else self._since
        cursor: dict[str, Any] = {"mark": walk.mark}
        if whole:
            cursor["newest"] = max((time for time in (newest, fresh) if time), default=None)
        else:
            after = walk.after if walk.ordered else before.get("after")
            cursor |= {"after": after, "since": since, "newest": newest, "fresh": fresh, "blocked": walk.blocked}
            cursor |= {name: count for name, count in counts.items() if count}
        return Polled(
            events=self._events(walk.new),
            cursor={key: _text(value) for key, value in cursor.items() if value},
            remember=walk.changes(),
            more=not whole,
            note=_note(counts, whole=whole, there=since is not None or (first and self.setting.start == "now")),
        )

    # Events.

    def _events(self, new: list[FileInfo]) -> list[Event]:
        if not self.config.batch:
            new = sorted(new, key=lambda file: (file.modified, in_order(file.path)))
            return [Event(f"{file.path}@{file.tag}", self._values(file), file.modified) for file in new]
        return [self._batch(new)] if new else []

    def _batch(self, files: list[FileInfo]) -> Event:
        files = sorted(files, key=lambda file: in_order(file.path))
        named = json.dumps([[file.path, file.tag] for file in files])
        newest = max(file.modified for file in files)
        values = {
            "files": [self._values(file) for file in files],
            "count": len(files),
            "size": sum(file.size for file in files),
            "modified": newest.isoformat(),
            "url": self._place.url,
        }
        return Event(hashlib.sha256(named.encode()).hexdigest(), values, newest)

    def _values(self, file: FileInfo) -> dict[str, Any]:
        return {
            "path": file.path,
            "name": file.path.rpartition("/")[2],
            "url": self._place.file_url(file.path),
            "size": file.size,
            "modified": file.modified.isoformat(),
            "tag": file.tag,
        }


def _list(patterns: str | list[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else patterns


def _moment(start: Any) -> datetime:
    """Return a time that a file may name as its start."""
    try:
        found = start if isinstance(start, datetime) else datetime.fromisoformat(str(start))
    except ValueError:
        raise UsageError(
            f"cursor: {start!r} is no time.", guidance="Write now, beginning, or a time: 2024-06-01T00:00:00Z."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _note(counts: dict[str, int], *, whole: bool, there: bool) -> str:
    files, new = counts["files"], counts["new"]
    parts = [f"{files:,} file{'' if files == 1 else 's'}"]
    if there and not new:
        parts.append("taken as seen")
    else:
        parts.append(f"{new:,} new" if new else "none new")
    if counts["waiting"]:
        parts.append(f"{counts['waiting']:,} settling or empty")
    if counts["gone"]:
        parts.append(f"{counts['gone']:,} gone")
    return ", ".join(parts) + ("" if whole else " so far")
