"""What running sensors tell: typed events of the one stream that progress, logs and the live page read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runner.events import Event
from runner.units import format_seconds


@dataclass(frozen=True)
class SensorsStarted(Event):
    """The sensors of a file are being watched."""

    file: str
    sensors: int
    known: int
    waiting: int

    def sentence(self) -> str:
        words = f"{self.file}: {self.sensors} {'sensor' if self.sensors == 1 else 'sensors'}"
        if self.known:
            words += ", which goes on where it was" if self.sensors == 1 else f"; {self.known} go on where they were"
        return words + (f"; deliveries that wait: {self.waiting}" if self.waiting else "")


@dataclass(frozen=True)
class SensorsStopped(Event):
    """The sensors are no longer watched; what they found and did not deliver waits in the outbox."""

    file: str
    waiting: int

    def sentence(self) -> str:
        return f"{self.file}: stopped" + (f"; deliveries that wait: {self.waiting}" if self.waiting else "")


@dataclass(frozen=True)
class SensorBegun(Event):
    """A sensor starts from where its `cursor` says: it is new, or another one than before."""

    level: ClassVar[str] = "debug"
    sensor: str
    reason: str

    def sentence(self) -> str:
        return f"{self.sensor}: begins: {self.reason}"


@dataclass(frozen=True)
class FileReloaded(Event):
    """The file changed; the sensors that it did not change go on."""

    file: str
    added: int
    changed: int
    removed: int

    def sentence(self) -> str:
        counts = f"added {self.added}, changed {self.changed}, removed {self.removed}"
        return f"{self.file} was read again; sensors: {counts}"


@dataclass(frozen=True)
class FileRefused(Event):
    """The file changed and cannot be used; the sensors go on as they were."""

    level: ClassVar[str] = "error"
    message: str

    def sentence(self) -> str:
        return f"the changed file is not used: {self.message}"


@dataclass(frozen=True)
class EventFired(Event):
    """Something came that was waited for; it is durable in the outbox."""

    sensor: str
    run_key: str
    actions: int

    def sentence(self) -> str:
        return f"{self.sensor}: fired, run key {self.run_key}" + ("" if self.actions else " (it has no action)")


@dataclass(frozen=True)
class PollFailed(Event):
    """A poll failed. Told of the first, then of every second power of two in a row."""

    level: ClassVar[str] = "warning"
    sensor: str
    failures: int
    message: str

    def sentence(self) -> str:
        return f"{self.sensor}: poll failed ({self.failures} in a row): {self.message}"


@dataclass(frozen=True)
class SensorRecovered(Event):
    """A sensor polls with success again."""

    sensor: str
    failures: int

    def sentence(self) -> str:
        return f"{self.sensor}: polls again, after {self.failures} failures"


@dataclass(frozen=True)
class Delivered(Event):
    """What an event asks for was done."""

    sensor: str
    target: str
    run_key: str
    reference: str | None
    seconds: float

    def sentence(self) -> str:
        done = f" ({self.reference})" if self.reference else ""
        return f"{self.sensor}: {self.target} done for {self.run_key}{done} in {format_seconds(self.seconds)}"


@dataclass(frozen=True)
class DeliveryRetried(Event):
    """What an event asks for was not done yet, or nobody can tell yet."""

    level: ClassVar[str] = "warning"
    sensor: str
    target: str
    run_key: str
    wait: float
    message: str

    def sentence(self) -> str:
        wait = format_seconds(self.wait)
        return f"{self.sensor}: {self.target} for {self.run_key} again in {wait}: {self.message}"


@dataclass(frozen=True)
class DeliveryFailed(Event):
    """What an event asks for was not done, and is not tried again."""

    level: ClassVar[str] = "error"
    sensor: str
    target: str
    run_key: str
    message: str

    def sentence(self) -> str:
        return f"{self.sensor}: {self.target} for {self.run_key} failed: {self.message}"


@dataclass(frozen=True)
class DeliveryHeld(Event):
    """Nobody knows whether what an event asks for was done: a person has to look."""

    level: ClassVar[str] = "error"
    sensor: str
    target: str
    run_key: str
    message: str

    def sentence(self) -> str:
        return f"{self.sensor}: {self.target} for {self.run_key} is held, its outcome is unknown: {self.message}"


@dataclass(frozen=True)
class EventMissing(Event):
    """No event came when it was expected."""

    level: ClassVar[str] = "error"
    sensor: str
    message: str

    def sentence(self) -> str:
        return f"{self.sensor}: {self.message}"


@dataclass(frozen=True)
class LoopStalled(Event):
    """Something blocked the loop: no sensor could begin its poll meanwhile."""

    level: ClassVar[str] = "warning"
    seconds: float
    frames: str

    def sentence(self) -> str:
        return f"the loop was blocked for {self.seconds:.2f} s by\n{self.frames}"
