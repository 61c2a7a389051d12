"""What the sensors that ask a database have in common: which one it is, and its client."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from connectors.sql.client import Client
from connectors.sql.connect import prepare
from connectors.sql.values import digest
from runner.errors import UsageError
from sensors.room import Room
from sensors.sensor import ConfigT, Sensor, Setting

FoundT = TypeVar("FoundT")


class DatabaseSensor(Sensor[ConfigT]):
    """A sensor that asks the database of its source."""

    takes_source = True

    def __init__(self, setting: Setting, room: Room) -> None:
        super().__init__(setting, room)
        if setting.source is None:
            raise UsageError(
                f"A sensor of type {self.kind} asks a database: it needs a source.",
                guidance="Name an entry of connections.yml: `source: NAME`.",
            )
        self._connect = prepare(setting.source)
        # Its options hold secrets: only their hash goes around.
        options = json.dumps(setting.source.options, sort_keys=True, default=str)
        self._system = ("sql", setting.source.type, digest(options))

    @property
    def system(self) -> Hashable:
        return self._system

    @property
    def where(self) -> str:
        """What the source goes by."""
        assert self.setting.source is not None
        return self.setting.source_name or self.setting.source.type

    async def client(self) -> Client:
        """Return the client that all sensors of the source share."""
        return await self.room.connection(self._system, self._connect)

    async def ask(self, read: Callable[[Client], Awaitable[FoundT]], *more: Hashable) -> FoundT:
        """Ask under the limits of the source, together with the sensors that ask the same."""

        async def asked() -> FoundT:
            return await read(await self.client())

        return await self.look(asked, *more)
