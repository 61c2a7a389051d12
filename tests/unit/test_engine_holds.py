"""What an engine holds out: storage that fails, cancellations of others, reloads, clocks that jump, tasks in attempts."""

import asyncio
import copy
import sqlite3
from datetime import UTC, datetime, timedelta

import anyio

from runner.errors import DeliveryRefused, DiskFull, LedgerDamaged, NoEvent, NotDelivered, Parked, SourceDown
from runner.testing.clock import ManualClock
from sensors.action import Delivery
from sensors.events import EventMissing, FileRefused, FileReloaded
from sensors.sensor import Polled
from sensors.store import Fired, Store
from sensors.task import Wanted
from tests.unit.sensing import Note, Once, ScriptSensor, event, house
from tests.unit.test_engine import ONE
from tests.unit.test_engine import TestTasks as _T

__all__ = ["house"]
TWO = _T.TWO


# --only
async def test_only_keeps_the_cursors_of_the_others(house, monkeypatch):
    house.write(TWO)
    house.script("a", Polled(cursor=1))
    house.script("b", Polled(cursor=7))
    async with house.running():
        await house.until(lambda: {n for n, _ in ScriptSensor.seen} == {"a", "b"})
        await house.pass_(3)
    async with house.running(Wanted(0.0), only=("a",)):
        await house.until(lambda: house.error)
    ScriptSensor.seen.clear()
    async with house.running():
        await house.until(lambda: any(n == "b" for n, _ in ScriptSensor.seen))
    assert dict(ScriptSensor.seen)["b"] == 7


async def test_only_does_not_fail_what_waits_of_the_others(house, monkeypatch):
    house.write(TWO)
    Note.script = [NotDelivered("down", retry_after=5)]
    house.script("b", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: Note.sent)
    await house.clock.advance(10)
    async with house.running(only=("a",)):
        await house.pass_(5)
    assert house.outbox() == [("b:x", "note", "pending")]


async def test_only_is_still_only_after_a_reload(house, monkeypatch):
    house.write(TWO)
    async with house.running(only=("a",)):
        await house.until(lambda: ScriptSensor.seen)
        house.path.write_text(house.path.read_text() + "\n# a comment\n")
        await house.pass_(15)
    assert {n for n, _ in ScriptSensor.seen} == {"a"}


# reload gap
async def test_a_reload_fails_no_delivery(house):
    house.write(ONE)
    Note.script = [NotDelivered("down", retry_after=6000)]
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running() as engine:
        await house.until(lambda: Note.sent)
        await house.pass_(1)
        real = engine._store.sensors

        async def slow():  # its retry falls due while the reload reads the states of all sensors
            await engine._store.change(1, next_at=None)
            engine._deliveries.wake()
            for _ in range(300):
                await anyio.sleep(0.002)
                if house.outbox()[0][2] != "pending":
                    break
            return await real()

        engine._store.sensors = slow
        house.write(ONE.replace("every: 10s", "every: 11s"))
        await house.until(lambda: house.names(FileReloaded), seconds=30)
        await house.pass_(3)
    assert house.outbox() == [("a:x", "note", "delivered")]


async def test_a_reload_that_meets_a_full_disk_leaves_no_sensor_out(house):
    house.write(ONE)
    async with house.running() as engine:
        await house.until(lambda: ScriptSensor.seen)

        async def full(*a):
            raise DiskFull("full")

        real, engine._store.begin = engine._store.begin, full
        house.write(ONE.replace("type: script", "type: script, place: there"))
        await house.until(lambda: house.names(FileRefused), seconds=60)
        engine._store.begin = real
        await house.pass_(60)
        assert "a" in house.board.statuses, "it neither runs nor is it shown, and nobody tries again"


async def test_an_expectation_missed_during_a_reload_kills_nobody(house):
    base = """
alerts: [{type: note, name: alarm, on: [expect]}]
sensors:
  - {name: a, type: script, every: 1s, expect: {every: 10s}}
  - {name: b, type: script, every: 1s, expect: {every: 10m}}
"""
    house.write(base)
    async with house.running() as engine:
        await house.until(lambda: ScriptSensor.seen)
        real = engine._store.polled

        async def slow(sensor, *rest, **more):
            if sensor == "@alerts":
                while not house.names(FileReloaded):
                    await anyio.sleep(0.002)
            await real(sensor, *rest, **more)

        engine._store.polled = slow
        await house.until(lambda: house.names(EventMissing), seconds=30)
        house.write(base + "  - {name: c, type: script, every: 1s, expect: {every: 10m}}\n")
        await house.until(lambda: house.names(FileReloaded), seconds=30)
        await house.pass_(5)
        assert house.error is None, repr(house.error)


async def test_a_stop_during_a_reload_is_graceful(house):
    house.write(TWO)

    async def slow():
        await house.clock.sleep(12)
        return Polled()

    async with house.running() as engine:
        await house.until(lambda: ScriptSensor.seen)
        house.script("b", *[slow] * 3)
        await house.pass_(2)
        house.write(TWO.replace("name: a", "name: c"))
        house.path.write_text(
            house.path.read_text().replace("name: b, type: script, every: 1s", "name: b, type: script, every: 2s")
        )
        await house.pass_(6)
        engine.stop()
        await house.until(lambda: house.outcome or house.error, seconds=30)
    assert house.error is None, repr(house.error)


# one poll / one write kills all
async def alive_after(house, seconds=12):
    ScriptSensor.seen.clear()
    await house.pass_(seconds)
    assert (house.error, house.outcome) == (None, None), "the engine ended"
    assert any(n == "b" for n, _ in ScriptSensor.seen)


async def test_an_error_with_half_an_emoji_kills_no_other(house):
    house.write(TWO)
    house.script("a", *[SourceDown("the api said \ud83d")] * 50)
    async with house.running():
        await house.until(lambda: ScriptSensor.seen)
        await alive_after(house)


async def test_a_key_with_half_an_emoji_fails_no_write_of_others(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    import threading

    gate = threading.Event()
    real = store._commit
    first = []

    def commit(batch):
        if not first:
            first.append(1)
            gate.wait(5)
        real(batch)

    store._commit = commit
    now = datetime.now(UTC)
    results = {}

    async def poll(name, key):
        try:
            await store.polled(name, 1, {}, [Fired(key, {}, ["n"])], now)
        except Exception as e:
            results[name] = e

    async with anyio.create_task_group() as g:
        g.start_soon(poll, "first", "k")
        await anyio.sleep(0.05)
        g.start_soon(poll, "bad", "\ud83d")
        g.start_soon(poll, "good", "k")
        await anyio.sleep(0.05)
        gate.set()
    store.close()
    assert "good" not in results, repr(results)


async def test_a_poll_that_raises_cancelled_of_its_own_kills_no_other(house):
    house.write(TWO)

    async def cancelled():
        f = asyncio.get_running_loop().create_future()
        f.cancel()
        await f

    house.script("a", cancelled)
    async with house.running():
        await house.until(lambda: ("a", None) in ScriptSensor.seen)
        await alive_after(house)


async def test_an_action_that_raises_cancelled_of_its_own_kills_no_other(house):
    house.write(TWO)

    async def cancelled():
        f = asyncio.get_running_loop().create_future()
        f.cancel()
        await f

    Note.script = [cancelled]
    house.script("a", Polled([event("x")], cursor=1))
    lives = False
    async with house.running():
        await house.until(lambda: Note.sent)
        await alive_after(house)
        house.script("b", Polled([event("y")], cursor=1))
        await house.pass_(30)
        lives = True
    assert lives, "all of it was cancelled"
    assert [d.run_key for d in Note.sent][-1] == "b:y", (
        "deliveries ended in silence, the sensors go on",
        house.outbox(),
    )


async def test_a_base_group_kills_no_other(house):
    house.write(TWO)
    house.script("a", BaseExceptionGroup("x", [asyncio.CancelledError(), ValueError("y")]))
    lives = False
    async with house.running():
        await house.until(lambda: ("a", None) in ScriptSensor.seen)
        await alive_after(house)
        lives = True
    assert lives, "all of it was cancelled"


async def test_a_full_disk_at_a_delivery_kills_no_sensor(house):
    house.write(TWO)
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running() as engine:
        real = engine._store.change
        failed = []

        async def change(id_, **v):
            if not failed:
                failed.append(1)
                raise DiskFull("The sensors' state cannot be written: database is locked")
            await real(id_, **v)

        engine._store.change = change
        await house.until(lambda: failed)
        await alive_after(house)


async def test_a_locked_read_of_the_outbox_kills_no_sensor(house):
    house.write(TWO)
    async with house.running() as engine:
        await house.until(lambda: ScriptSensor.seen)
        real = engine._store.counts
        failed = []

        async def counts(*a):
            if not failed:
                failed.append(1)
                raise LedgerDamaged("unable to open database file")
            return await real(*a)

        engine._store.counts = counts
        await house.until(lambda: failed)
        await alive_after(house)


async def test_a_naive_pause_kills_no_other(house):
    house.write(TWO)
    house.script("a", Parked(datetime(2024, 1, 1, 1)))
    async with house.running():
        await house.until(lambda: ("a", None) in ScriptSensor.seen)
        await alive_after(house)


# deliveries
async def test_hanging_actions_starve_no_other_sensor_and_no_alert(house):
    house.write("""
alerts: [{type: note, name: alarm}]
sensors:
  - {name: a, type: script, every: 1s, on_event: {type: once}}
  - {name: b, type: script, every: 1s, on_event: {type: note}}
""")

    async def hang():
        await house.clock.sleep(2000)

    Once.script = [hang] * 20
    house.script("a", Polled([event(str(i)) for i in range(20)], cursor=1))
    async with house.running():
        await house.until(lambda: len(Once.sent) == 4)
        house.script("b", Polled([event("x")], cursor=1))
        await house.pass_(40, 1)
        sent = len(Note.sent)
    assert sent == 1


async def test_an_outage_of_five_minutes_loses_nothing(house):
    house.write(ONE.replace("note", "once"))
    Once.script = [NotDelivered("Orchestra is down")] * 8
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: Once.sent)
        house.clock.monotonic()
        await house.pass_(300, 1)
    assert house.outbox()[0][2] != "failed", (house.outbox(), len(Once.sent))


async def test_a_restart_is_no_attempt(house):
    house.write(ONE.replace("{type: note}", "{type: once, attempts: 1}"))
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running() as engine:  # it is killed before anything was sent

        async def boom(d):
            Once.sent.append(d)
            await anyio.sleep_forever()

        for _t in list(engine._targets.values()):
            pass
        Once.script = [lambda: anyio.sleep_forever()]
        await house.until(lambda: Once.sent)
        engine._group.cancel_scope.cancel()
        await house.pass_(1)
    Once.sent.clear()
    Once.script = []
    Once.found = [None]
    async with house.running():
        await house.until(lambda: house.outbox()[0][2] in ("failed", "delivered"), seconds=60)
    assert house.outbox() == [("a:x", "once", "delivered")]


async def test_an_event_that_is_still_returned_after_ninety_days_fires_once(house):
    house.write(ONE)
    for day in (0, 91):
        house.clock._elapsed += day * 86400
        house.script("a", Polled([event("release-1.0")], cursor=day))
        ScriptSensor.seen.clear()
        async with house.running():
            await house.until(lambda: ScriptSensor.seen)
            await house.pass_(3)
    assert len(Note.sent) == 1


async def test_a_second_failure_is_alerted_too(house):
    house.write("alerts: [{type: note, name: alarm}]\n" + ONE.replace("{type: note}", "{type: once}"))
    from sensors.decision import decide

    Once.script = [DeliveryRefused("no"), DeliveryRefused("no again")]
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: len(Note.sent) == 1)
        decide(house.state, "resend", "a:x", house.clock.now())
        await house.until(lambda: len(Once.sent) == 2)
        await house.pass_(10)
    assert len(Note.sent) == 2


# tasks
async def test_every_sensor_may_fire_in_another_attempt(house):
    house.write(TWO)
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running(Wanted(0.0)):
        await house.until(lambda: house.error)
    assert isinstance(house.error, NoEvent)  # b is missing: exit 3, the platform tries again
    house.script("b", Polled([event("y")], cursor=1))
    async with house.running(Wanted(0.0)):
        await house.until(lambda: house.outcome or house.error)
    assert house.error is None, repr(house.error)


async def test_a_task_without_action_that_is_killed_after_the_commit_fires_in_its_next_attempt(house):
    house.write("sensors:\n  - {name: a, type: script, every: 10s}\n")
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running(Wanted(600.0)) as engine:
        real = engine._work.store.polled

        async def polled(*a, **k):
            await real(*a, **k)
            engine._group.cancel_scope.cancel()
            await anyio.sleep(0)

        engine._work.store.polled = polled
        await house.until(lambda: house.outcome or house.error)
    async with house.running(Wanted(0.0)):
        await house.until(lambda: house.outcome or house.error)
    assert house.error is None, repr(house.error)


async def test_soft_means_no_event_and_not_nobody_could_look(house):
    house.write(ONE)
    house.script("a", SourceDown("connection refused"))
    async with house.running(Wanted(0.0)):
        await house.until(lambda: house.outcome or house.error)
    assert not isinstance(house.error, NoEvent), "exit 3, and 0 with --soft: 'No event has come'"


async def test_an_alert_that_waits_does_not_turn_a_success_into_no_event(house):
    house.write("alerts: [{type: once, name: alarm}]\n" + ONE)
    with_store = Store(house.state)
    await with_store.polled("@alerts", None, {}, [Fired("old alert", {}, ["alarm"])], house.clock.now())
    with_store.close()
    Once.script = [NotDelivered("slack is down", retry_after=3600)] * 9
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running(Wanted(0.0)):
        await house.until(lambda: house.outcome or house.error)
    assert (house.outcome.states["delivered"], house.outcome.waiting) == (1, 0)


# cursor
async def test_a_poll_that_failed_moves_nothing_even_if_it_changed_its_cursor(house):
    house.write(ONE)
    house.script("a", Polled(cursor={"at": 1}))
    async with house.running() as engine:
        await house.until(lambda: ScriptSensor.seen)
        await house.pass_(1)
        w = engine._watches["a"]
        seen = []

        async def poll(cursor):
            seen.append(copy.deepcopy(cursor))
            cursor["at"] += 1
            if len(seen) == 1:
                raise SourceDown("after the first page")
            return Polled(cursor=cursor)

        w.sensor.poll = poll
        await house.until(lambda: len(seen) == 2, seconds=60)
        await house.pass_(1)
    with sqlite3.connect(house.state) as c:
        kept = c.execute("select cursor from sensors").fetchone()[0]
    c.close()
    assert (seen[1], kept) == ({"at": 1}, '{"at": 2}')


# condition
def test_jsonpath_that_finds_zero_found_something():
    from sensors.condition import Condition

    assert Condition("$.left").holds({"left": 0})


# clock
class Jumping(ManualClock):
    jump = 0.0

    def now(self):
        return super().now() + timedelta(seconds=self.jump)


async def test_a_clock_set_back_delays_no_delivery_for_long(house):
    house.clock = Jumping()
    house.clock.jump = 30 * 86400
    house.write(ONE)
    Note.script = [NotDelivered("down", retry_after=5)]
    house.script("a", Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: Note.sent)
        house.clock.jump = 0
        await house.pass_(300, 1)
    assert len(Note.sent) == 2


async def test_a_clock_set_forward_or_a_suspend_misses_no_window(house):
    house.clock = Jumping()
    house.write('sensors:\n  - {name: a, type: script, every: 10s, window: {cron: "40 0 * * *", deadline: 10m}}\n')
    async with house.running():
        await house.pass_(10)
        # The machine slept for half an hour: its monotonic clock did not move.
        house.clock.jump = 1800
        await house.pass_(750, 5)
        assert ScriptSensor.seen, "the window opened, and nobody looked"


# command
async def test_a_command_with_a_large_event_starts(tmp_path):
    from sensors.actions.command import execute

    d = Delivery("a", "k", {"rows": [{"id": i, "name": "x" * 120} for i in range(1000)]}, datetime.now(UTC))
    assert (await execute(["true"], d, tmp_path, 5))[0] == 0


async def test_a_command_that_leaves_a_child_has_ended(tmp_path):
    from sensors.actions.command import execute

    d = Delivery("a", "k", {}, datetime.now(UTC))
    assert (await execute(["sh", "-c", "sleep 20 & echo started"], d, tmp_path, 1))[0] == 0


# run keys
def test_two_actions_of_one_event_on_one_job_are_two_commands():
    from runner.settling import Options

    a = Options(only=("orders",), run_key="a:x").command("backfill")
    b = Options(only=("customers",), run_key="a:x").command("backfill")
    assert a != b


# what a newcomer found


async def test_a_task_whose_action_failed_is_not_done_in_its_next_attempt(house):
    house.write(ONE)
    Note.script = [DeliveryRefused("no")]
    house.script("a", Polled([event("x")], cursor=1))
    for _ in range(2):
        async with house.running(Wanted(0.0)):
            await house.until(lambda: house.outcome or house.error)
        assert (house.error, house.outcome.states["failed"]) == (None, 1)


async def test_what_was_alerted_is_over_when_a_corrected_file_polls_again(house):
    house.write("alerts: [{type: note, name: alarm}]\n" + ONE.replace("every: 10s", "every: 1s"))
    house.script("a", *[SourceDown("gone")] * 3)
    async with house.running():
        await house.until(lambda: Note.sent, seconds=60)
        house.write("alerts: [{type: note, name: alarm}]\n" + ONE.replace("type: script", "type: script, place: there"))
        await house.until(lambda: len(Note.sent) == 2, seconds=60)
    assert [one.values["alert"] for one in Note.sent] == ["failing", "recovered"]


async def test_the_name_of_a_file_does_not_change_while_it_runs(house):
    house.write(ONE)
    async with house.running():
        await house.until(lambda: ScriptSensor.seen)
        house.path.write_text(f"name: other\n{ONE}")
        await house.until(lambda: house.names(FileRefused), seconds=60)
        assert "its name is 'other' now" in house.names(FileRefused)[0].message
