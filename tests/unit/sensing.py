"""A sensor and an action that tests hold in their hands, and an engine around them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner.events import Event as Told
from runner.events import Stream
from runner.testing.clock import ManualClock
from sensors import engine as engine_module
from sensors import placing
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.board import Board
from sensors.engine import Engine
from sensors.placing import load_sensors
from sensors.sensor import Event, Polled, Sensor, SensorConfig
from sensors.store import Store, StoreReader
from sensors.task import Outcome, Wanted


class ScriptConfig(SensorConfig):
    """What it looks at."""

    place: str = "here"
    shared: str | None = None


class ScriptSensor(Sensor[ScriptConfig]):
    """Returns what the test says, by sensor name."""

    kind = "script"
    config_model = ScriptConfig
    polls: dict[str, list[Any]] = {}  # noqa: RUF012 - replaced for each test
    seen: list[tuple[str, Any]] = []  # noqa: RUF012

    @property
    def system(self) -> str:
        return self.config.place

    @property
    def share(self) -> str | None:
        return self.config.shared

    def describe(self) -> str:
        return f"script {self.config.place}"

    async def poll(self, cursor: Any) -> Polled:
        name = self.setting.name
        ScriptSensor.seen.append((name, cursor))
        script = ScriptSensor.polls.get(name) or []
        step = script.pop(0) if script else Polled(cursor=cursor)
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step = await step()
        return step


class NoteConfig(ActionConfig):
    """Which notebook."""

    book: str = "book"


class Note(Action[NoteConfig]):
    """Notes what it is sent, and fails as the test says."""

    kind = "note"
    config_model = NoteConfig
    promise = "at least once"
    sent: list[Delivery] = []  # noqa: RUF012
    script: list[Any] = []  # noqa: RUF012
    found: list[Any] = []  # noqa: RUF012

    def describe(self) -> str:
        return f"notes in {self.config.book}"

    async def send(self, delivery: Delivery) -> Sent:
        step = type(self).script.pop(0) if type(self).script else None
        type(self).sent.append(delivery)
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            await step()
        return Sent(f"note {len(type(self).sent)}", {"noted": True})

    async def find(self, delivery: Delivery) -> Sent | None:
        step = type(self).found.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step


class Once(Note):
    """The same, and it promises exactly once."""

    kind = "once"
    promise = "exactly once"
    sent: list[Delivery] = []  # noqa: RUF012
    script: list[Any] = []  # noqa: RUF012
    found: list[Any] = []  # noqa: RUF012


TYPES = {"script": ScriptSensor, "note": Note, "once": Once}


def event(key: str, **values: Any) -> Event:
    return Event(key, values)


@dataclass
class House:
    """A folder with a sensor file, and what watches it."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    told: list[Told] = field(default_factory=list)
    outcome: Outcome | None = None
    error: BaseException | None = None
    engine: Engine | None = None

    @property
    def path(self) -> Path:
        return self.folder / "sensors.yml"

    @property
    def state(self) -> Path:
        return self.folder / "state.sqlite"

    def write(self, text: str) -> None:
        self.path.write_text(f"name: house\n{text}")

    def script(self, name: str, *steps: Any) -> None:
        ScriptSensor.polls.setdefault(name, []).extend(steps)

    @contextlib.asynccontextmanager
    async def running(self, wanted: Wanted | None = None, *, only: tuple[str, ...] = ()) -> AsyncIterator[Engine]:
        """Run the engine while the block lasts; it is stopped, not killed."""
        placed = load_sensors(self.path, environ={}, only=only)
        stream = Stream(self.clock)
        stream.subscribe(lambda _, one: self.told.append(one))
        store = Store(self.state)
        board = Board(placed.name, self.clock)
        self.engine = Engine(placed, store, self.clock, stream, board, wanted=wanted)
        self.board, self.outcome, self.error = board, None, None

        async def run() -> None:
            assert self.engine is not None
            try:
                self.outcome = await self.engine.run()
            except Exception as error:
                self.error = error

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                try:
                    yield self.engine
                finally:
                    self.engine.stop()
                    with anyio.move_on_after(20, shield=True):
                        while self.outcome is None and self.error is None:
                            await self.clock.advance(0.25)
                            await anyio.sleep(0.001)
                    group.cancel_scope.cancel()
        finally:
            store.close()

    async def pass_(self, seconds: float, step: float = 0.5) -> None:
        """Let the time pass, and threads end their work meanwhile."""
        for _ in range(int(seconds / step)):
            await self.clock.advance(step)
            await anyio.sleep(0.002)

    async def until(self, holds: Callable[[], Any], *, seconds: float = 30.0) -> None:
        """Let the time pass until something holds."""
        for _ in range(int(seconds / 0.25)):
            if holds():
                return
            await self.clock.advance(0.25)
            await anyio.sleep(0.002)
        for _ in range(1000):
            # The time has come, and threads may still be at work.
            if holds():
                return
            await anyio.sleep(0.01)
        raise AssertionError(f"it did not happen within {timedelta(seconds=seconds)}")

    def names(self, kind: type[Told]) -> list[Told]:
        return [one for one in self.told if isinstance(one, kind)]

    def outbox(self) -> list[tuple[str, str, str]]:
        with StoreReader(self.state) as reader:
            return sorted((one.run_key, one.action, one.state) for one in reader.outbox())


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """An empty house; the types above are plugged in."""
    monkeypatch.setattr(ScriptSensor, "polls", {})
    monkeypatch.setattr(ScriptSensor, "seen", [])
    for action in (Note, Once):
        for name in ("sent", "script", "found"):
            monkeypatch.setattr(action, name, [])
    for module in (placing, engine_module):
        monkeypatch.setattr(module, "plugin", lambda _, kind: TYPES[kind])
    monkeypatch.setattr(placing, "plugin_names", lambda _: tuple(TYPES))
    return House(tmp_path)
