"""What an author of a sensor needs: a bench on which it is polled as the engine would, without its file."""

from __future__ import annotations

from typing import Any

from sensors.sensor import Event, Sensor


class Kept:
    """A memory in this process; implements ``sensors.room.Memory``."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    async def recall(
        self, sensor: str, first: str = "", last: str | None = None, limit: int | None = None
    ) -> dict[str, str]:
        found = {
            key: text for (name, key), text in self.texts.items() if name == sensor and key.encode() >= first.encode()
        }
        keys = sorted((key for key in found if last is None or key.encode() <= last.encode()), key=str.encode)
        return {key: found[key] for key in keys[:limit]}


class Bench:
    """Polls one sensor and keeps what it returns, as the engine does.

    Args:
        sensor: Its room's memory must be ``kept``.

    Attributes:
        cursor: What the last poll returned.
        fired: Every event whose key was not seen before, in order.
        notes: The note of every poll.
    """

    def __init__(self, sensor: Sensor[Any], kept: Kept) -> None:
        self.sensor = sensor
        self.cursor: Any = None
        self.fired: list[Event] = []
        self.notes: list[str] = []
        self._kept = kept
        self._keys: set[str] = set()

    async def poll(self) -> list[Event]:
        """Poll until there is no more; return the events that were new."""
        new: list[Event] = []
        while True:
            polled = await self.sensor.poll(self.cursor)
            self.cursor = polled.cursor
            self.notes.append(polled.note)
            for key, text in polled.remember.items():
                if text is None:
                    self._kept.texts.pop((self.sensor.setting.name, key), None)
                else:
                    self._kept.texts[self.sensor.setting.name, key] = text
            fresh = [event for event in polled.events if event.key not in self._keys]
            self._keys.update(event.key for event in fresh)
            new.extend(fresh)
            if not polled.more:
                self.fired.extend(new)
                return new
