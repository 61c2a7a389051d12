"""The port that every type of sensor implements: what a poll is given, and what it returns."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from runner.job import Limits, SourceSpec
from sensors.room import Room


class SensorConfig(BaseModel):
    """The keys of one type of sensor, beside those that every sensor takes (``sensorfile.SensorEntry``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


ConfigT = TypeVar("ConfigT", bound=SensorConfig)
FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was waited for.

    Attributes:
        key: What makes it unique among the events of its sensor: the same in every poll that sees it, and another one
            for another event.
        values: JSON-ready values that conditions, run keys and actions name.
        at: When it happened, as far as the system says; in UTC.
    """

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll found. All of it is written in one transaction, or nothing.

    Attributes:
        events: In the order in which they happened.
        cursor: Where the next poll begins; JSON-ready.
        remember: Keys of the sensor's memory with their new text; None forgets a key.
        more: Whether only a part of what is new was returned: the next poll follows at once.
        note: Why nothing fired, for people: "412 files, none new".
    """

    events: Sequence[Event] = ()
    cursor: Any = None
    remember: Mapping[str, str | None] = field(default_factory=dict)
    more: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sensor is told by its file, secrets resolved.

    Attributes:
        name: Its name in the file.
        options: The keys of its own type.
        source: The source it looks at, where it names one; ``source_name`` is what that goes by.
        start: Where its cursor begins: ``now``, ``beginning``, or a value of the type's own.
        limits: Of the system it looks at.
        folder: Where relative paths begin: the folder of the sensor file.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source_name: str | None = None
    source: SourceSpec | None = field(default=None, repr=False)
    start: Any = "now"
    limits: Limits = field(default_factory=Limits)
    folder: Path = Path()


class Sensor(abc.ABC, Generic[ConfigT]):
    """A type of sensor; one object for each sensor of a file.

    Args:
        setting: What its file says.
        room: What the sensors of a process share.

    Attributes:
        takes_source: Whether entries of this type name a ``source``.

    Raises:
        pydantic.ValidationError: A wrong key or value among its own.
        UsageError: What it was told makes no sense.
    """

    kind: ClassVar[str]
    config_model: ClassVar[type[SensorConfig]]
    takes_source: ClassVar[bool] = False

    def __init__(self, setting: Setting, room: Room) -> None:
        self.setting = setting
        self.room = room
        self.config: ConfigT = cast("ConfigT", self.config_model.model_validate(dict(setting.options)))

    @property
    @abc.abstractmethod
    def system(self) -> Hashable:
        """What it looks at: sensors of the same system share its limits.

        Two sensors with equal systems use equal credentials, so include what tells them apart; it is never printed.
        """

    @property
    def share(self) -> Hashable:
        """What part of the system it looks at: sensors with an equal one can look together. None: with nobody."""
        return None

    @abc.abstractmethod
    def describe(self) -> str:
        """Return what it looks at in a few words, without secrets: ``s3://landing/orders/``."""

    @abc.abstractmethod
    async def poll(self, cursor: Any) -> Polled:
        """Look once.

        The engine bounds it in time, never calls it while the last call is at work, and cancels it when its deadline
        has passed. Nothing that it does may block the loop.

        Args:
            cursor: What the last poll returned; None the first time.

        Raises:
            RunnerError: What kept it from looking, in words.
        """

    # What types call.

    async def look(self, read: Callable[[], Awaitable[FoundT]], *more: Hashable) -> FoundT:
        """Look at the system once, under its limits, and with the sensors of an equal ``share``.

        Args:
            read: What looks; to be cancelled must be safe for it.
            more: What else must be equal for an answer to serve another sensor too: a cursor.
        """

        async def pages() -> AsyncGenerator[FoundT, None]:
            yield await read()

        if not self.room.together(self.system, self.share):
            return await self.room.look(self.system, read)
        async with contextlib.aclosing(self.room.pages(self.system, (self.share, more), pages)) as found:
            return await anext(found)

    def look_pages(
        self, read: Callable[[], AsyncGenerator[FoundT, None]], *more: Hashable
    ) -> AsyncGenerator[FoundT, None]:
        """Look at the system page by page; leave it with ``contextlib.aclosing``."""
        return self.room.pages(self.system, (object() if self.share is None else self.share, more), read)
