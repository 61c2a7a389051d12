"""What is delivered once stays delivered once; what rests, stops or cannot be looked up is not lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from runner.clock import SystemClock
from runner.errors import NotDelivered, OutcomeUnknown, UsageError
from runner.events import Stream
from runner.testing.clock import ManualClock
from sensors import engine as engine_module
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.actions.webhook import Webhook
from sensors.delivery import Deliveries, Target
from sensors.events import FileReloaded
from sensors.room import Room
from sensors.sensor import Polled, Setting
from sensors.sensorfile import ActionEntry
from sensors.status import Outgoing
from sensors.store import Fired, Store
from sensors.types.cron import CronSensor
from tests.unit.sensing import House, Note, Once, ScriptSensor, event, house

__all__ = ["house"]

ONE = "sensors:\n  - {name: a, type: script, every: 10s, jitter: 0s, on_event: {type: note}}\n"


class Counted(Action[ActionConfig]):
    """Counts, and ends when it is told to."""

    kind = "counted"
    config_model = ActionConfig
    promise = "at least once"

    def __init__(self, room: Room) -> None:
        super().__init__({}, room, Path())
        self.keys: list[str] = []
        self.ends = anyio.Event()

    def describe(self) -> str:
        return "counts"

    async def send(self, delivery: Delivery) -> Sent:
        self.keys.append(delivery.run_key)
        await self.ends.wait()
        return Sent()


class SlowStore(Store):
    """Reads the outbox, and hands it over later."""

    late: anyio.Event | None = None

    async def waiting(self, now: datetime, limit: int, *more: Any) -> list[tuple[Outgoing, Delivery]]:
        rows = await super().waiting(now, limit, *more)
        if self.late is not None:
            await self.late.wait()
        return rows


async def test_what_ended_while_the_outbox_was_read_is_not_sent_again(tmp_path: Path) -> None:
    clock = SystemClock()
    store = SlowStore(tmp_path / "s.sqlite")
    action = Counted(Room(clock))
    ended = anyio.Event()
    deliveries = Deliveries(
        store,
        clock,
        Stream(clock),
        lambda *_: Target(action, ActionEntry(type="counted")),
        abreast=4,
        settled=lambda *_: ended.set(),
    )
    await store.polled("one", None, {}, [Fired("one:a", {}, ["counted"])], clock.now())
    async with anyio.create_task_group() as group:
        group.start_soon(deliveries.run)
        while not action.keys:
            await anyio.sleep(0.001)
        store.late = anyio.Event()
        deliveries.wake()  # the row is read while it is under way
        await anyio.sleep(0.05)
        action.ends.set()
        await ended.wait()
        await anyio.sleep(0.01)
        store.late.set()
        store.late = None
        await anyio.sleep(0.02)
        deliveries.drain()
    store.close()
    assert action.keys == ["one:a"]


async def test_a_sensor_that_is_disabled_goes_on_where_it_was_and_what_it_asked_for_waits(house: House) -> None:
    other = "  - {name: b, type: script, every: 1s}\n"
    house.write(ONE + other)
    Note.script = [NotDelivered("down", retry_after=30)]
    house.script("a", Polled([event("x")], cursor=7, remember={"k": "1"}))
    async with house.running():
        await house.until(lambda: Note.sent)
    house.write(ONE.replace("every", "disabled: true, every") + other)
    async with house.running():
        await house.pass_(60)
        assert house.outbox() == [("a:x", "note", "pending")]
    ScriptSensor.seen.clear()
    house.write(ONE + other)
    async with house.running():
        await house.until(lambda: house.outbox() == [("a:x", "note", "delivered")], seconds=60)
        await house.until(lambda: ("a", 7) in ScriptSensor.seen)


async def test_while_a_sensor_changes_its_actions_stay(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(ONE)
    Note.script = [NotDelivered("down", retry_after=4)]
    house.script("a", Polled([event("x")], cursor=1))
    sensors = Store.sensors

    async def slow(store: Store) -> Any:
        await house.clock.sleep(10)
        return await sensors(store)

    async with house.running():
        await house.until(lambda: Note.sent)
        monkeypatch.setattr(Store, "sensors", slow)
        house.write(ONE.replace("jitter", "timeout: 7s, jitter"))
        await house.until(lambda: house.names(FileReloaded), seconds=60)
        await house.until(lambda: house.outbox() == [("a:x", "note", "delivered")], seconds=60)


async def test_what_cannot_be_looked_up_is_held(house: House) -> None:
    house.write(ONE.replace("note", "once"))
    Once.script = [OutcomeUnknown("no answer")]
    Once.found = [UsageError("there is no key any more")]
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: house.outbox() == [("a:x", "once", "unknown")], seconds=60)


async def test_an_orderly_stop_is_no_attempt_that_failed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_GRACE", 0.1)
    house.write(ONE.replace("{type: note}", "{type: note, attempts: 1}"))
    Note.script = [anyio.sleep_forever]
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: Note.sent)
    assert house.outbox() == [("a:x", "note", "sending")]
    async with house.running():
        await house.until(lambda: house.outbox() == [("a:x", "note", "delivered")])


@pytest.mark.parametrize(
    ("key", "header"), [("a:b c", "a:b c"), ("größe.csv", "gr%C3%B6%C3%9Fe.csv"), ("50%\n", "50%25%0A")]
)
async def test_any_run_key_is_a_header(key: str, header: str) -> None:
    sent: dict[str, Any] = {}

    class Client:
        async def request(self, *_: Any, **more: Any) -> Any:
            sent.update(more["headers"])
            return SimpleNamespace(status=200)

    class Fake(Room):
        async def connection(self, *_: Any) -> Any:
            return Client()

    webhook = Webhook({"url": "http://localhost/x"}, Fake(ManualClock()), Path())
    await webhook.send(Delivery("s", key, {}, datetime(2026, 1, 1, tzinfo=UTC)))
    assert sent["Idempotency-Key"] == header


async def test_a_cron_sensor_goes_on_when_its_clock_was_far_ahead() -> None:
    clock = ManualClock()
    sensor = CronSensor(Setting("c", {"cron": "0 * * * *"}), Room(clock))
    polled = await sensor.poll("2999-01-01T00:00:00+00:00")
    assert not polled.events
    await clock.advance(3600)
    assert len((await sensor.poll(polled.cursor)).events) == 1
