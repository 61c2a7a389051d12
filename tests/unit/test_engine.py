"""All sensors of a file in one process."""

import itertools
import sqlite3

import anyio
import pytest

from runner.errors import (
    CredentialsRejected,
    DeliveryRefused,
    Interrupted,
    NoEvent,
    NotDelivered,
    OutcomeUnknown,
    Parked,
    SourceDown,
)
from sensors.events import (
    DeliveryHeld,
    EventFired,
    EventMissing,
    FileRefused,
    FileReloaded,
    PollFailed,
    SensorRecovered,
)
from sensors.sensor import Polled
from sensors.store import StoreReader
from sensors.task import Wanted
from tests.unit.sensing import House, Note, Once, ScriptSensor, event, house

__all__ = ["house"]

ONE = """
sensors:
  - {name: a, type: script, every: 10s, jitter: 0s, on_event: {type: note}}
"""


async def test_an_event_fires_once_however_often_it_is_returned(house: House):
    house.write(ONE)
    house.script("a", *(Polled([event("x", n=1)], cursor=i) for i in range(3)))
    async with house.running():
        await house.until(lambda: len(ScriptSensor.seen) >= 4, seconds=60)
    assert [one.run_key for one in Note.sent] == ["a:x"]
    assert Note.sent[0].values == {"n": 1}
    assert house.outbox() == [("a:x", "note", "delivered")]


async def test_the_cursor_and_the_memory_go_on_after_a_restart(house: House):
    house.write(ONE)
    house.script("a", Polled([event("x")], cursor={"at": 1}, remember={"k": "1", "l": "2"}))
    async with house.running():
        await house.until(lambda: Note.sent)
    ScriptSensor.seen.clear()
    house.script("a", Polled([event("x"), event("y")], cursor={"at": 2}, remember={"k": None}))
    async with house.running():
        await house.until(lambda: len(Note.sent) == 2)
    assert ScriptSensor.seen[0] == ("a", {"at": 1})
    assert [one.run_key for one in Note.sent] == ["a:x", "a:y"]
    with sqlite3.connect(house.state) as connection:
        assert connection.execute("select key, text from memory").fetchall() == [(b"l", "2")]
    connection.close()


async def test_polls_lie_on_the_grid_and_never_overlap(house: House):
    house.write(ONE)
    at: list[float] = []

    async def slow() -> Polled:
        at.append(house.clock.monotonic())
        await house.clock.sleep(13)
        return Polled()

    house.script("a", *[slow] * 4)
    async with house.running():
        await house.until(lambda: len(at) == 4, seconds=120)
        assert house.board.statuses["a"].skipped >= 3
    assert [later - earlier for earlier, later in itertools.pairwise(at)] == [20, 20, 20]


async def test_a_poll_that_hangs_or_breaks_harms_no_other(house: House):
    house.write("""
sensors:
  - {name: hangs, type: script, every: 1s, jitter: 0s, timeout: 5s}
  - {name: breaks, type: script, every: 1s, jitter: 0s}
  - {name: works, type: script, every: 1s, jitter: 0s}
""")

    async def hang() -> Polled:
        await anyio.sleep_forever()
        return Polled()

    house.script("hangs", hang, hang)
    house.script("breaks", *[ZeroDivisionError("oh")] * 50)
    async with house.running():
        await house.pass_(8)
        statuses = house.board.statuses
        await house.until(lambda: len([name for name, _ in ScriptSensor.seen if name == "works"]) >= 7, seconds=60)
        assert statuses["breaks"].failures >= 2
        assert "ZeroDivisionError: oh" in (statuses["breaks"].error or "")


async def test_a_hanging_poll_ends_at_its_deadline(house: House, monkeypatch: pytest.MonkeyPatch):
    # Deadlines are of the loop's own time.
    house.write("sensors:\n  - {name: a, type: script, every: 1s, jitter: 0s, timeout: 50ms}\n")

    async def hang() -> Polled:
        await anyio.sleep_forever()
        return Polled()

    house.script("a", hang)
    async with house.running():
        await house.until(lambda: ScriptSensor.seen)
        for _ in range(100):
            await anyio.sleep(0.005)
            if house.names(PollFailed):
                break
        assert "did not end within 0.05 s" in house.names(PollFailed)[0].message


async def test_failures_are_told_once_and_alerted_and_recovered(house: House):
    house.write("""
alerts:
  - {type: note, name: alarm}
sensors:
  - {name: a, type: script, every: 1s, jitter: 0s, alert_after: 3}
""")
    house.script("a", *[SourceDown("it is gone")] * 5, Polled())
    async with house.running():
        await house.until(lambda: house.names(SensorRecovered), seconds=120)
        await house.until(lambda: len(Note.sent) == 2)
    assert [one.failures for one in house.names(PollFailed)] == [1, 2, 3, 4]
    assert [one.values["alert"] for one in Note.sent] == ["failing", "recovered"]
    assert "3 polls in a row failed: it is gone" in Note.sent[0].values["text"]


async def test_what_is_parked_is_polled_again_when_its_pause_is_over(house: House):
    house.write(ONE)
    resume = house.clock.now().replace(minute=5)
    house.script("a", Parked(resume), Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: len(ScriptSensor.seen) == 1)
        await house.pass_(60)
        assert (len(ScriptSensor.seen), house.board.statuses["a"].state) == (1, "paused")
        await house.until(lambda: Note.sent, seconds=300)
        assert house.clock.now() >= resume
        assert house.board.statuses["a"].failures == 0


async def test_more_is_fetched_at_once(house: House):
    house.write(ONE)
    house.script("a", *(Polled([event(str(i))], cursor=i, more=i < 5) for i in range(6)))
    async with house.running():
        await house.until(lambda: len(Note.sent) == 6, seconds=15)


async def test_conditions_and_run_keys(house: House):
    house.write("""
sensors:
  - name: a
    type: script
    every: 1s
    condition: size > 0
    run_key: "{day}"
    on_event: {type: note}
""")
    house.script(
        "a",
        Polled([event("1", size=0, day="mon"), event("2", size=1, day="mon"), event("3", size=2, day="mon")], cursor=1),
        Polled([event("4", size=2, day="tue"), event("5", size=2, day="mon")], cursor=2),
    )
    async with house.running():
        await house.until(lambda: len(Note.sent) == 2)
        await house.pass_(3)
    assert [(one.run_key, one.values["size"]) for one in Note.sent] == [("a:mon", 1), ("a:tue", 2)]


async def test_a_condition_that_cannot_be_asked_moves_nothing(house: House):
    house.write("sensors:\n  - {name: a, type: script, every: 1s, condition: sise > 0, on_event: {type: note}}\n")
    house.script("a", Polled([event("1", size=1)], cursor=1))
    async with house.running():
        await house.until(lambda: len(ScriptSensor.seen) == 2)
        assert ScriptSensor.seen[1] == ("a", None)
        assert "Known are size" in house.names(PollFailed)[0].message


class TestDeliveries:
    @pytest.mark.parametrize("kind", ["note", "once"])
    async def test_what_was_not_delivered_is_sent_again(self, house: House, kind: str):
        house.write(ONE.replace("note", kind))
        action = {"note": Note, "once": Once}[kind]
        action.script = [NotDelivered("busy"), NotDelivered("busy", retry_after=20), None]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: len(action.sent) == 2)
            began = house.clock.monotonic()
            await house.until(lambda: house.outbox() == [("a:x", kind, "delivered")], seconds=60)
            assert house.clock.monotonic() - began >= 15
        assert [one.attempt for one in action.sent] == [1, 2, 3]

    async def test_what_only_waits_for_its_turn_is_not_counted(self, house: House):
        house.write(ONE.replace("{type: note}", "{type: once, attempts: 1}"))
        Once.script = [NotDelivered("it is running", patient=True)] * 5
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "once", "delivered")], seconds=200)
        assert len(Once.sent) == 6

    async def test_what_is_refused_or_tried_too_often_fails_and_is_alerted(self, house: House):
        house.write("""
alerts: [{type: note, name: alarm, on: [failed]}]
sensors:
  - name: a
    type: script
    every: 1s
    on_event: [{type: once, name: refused}, {type: once, name: tried, attempts: 2}]
""")
        Once.script = [DeliveryRefused("no such pipeline"), NotDelivered("down"), NotDelivered("down")]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: len(Note.sent) == 2, seconds=60)
        states = {(action, state) for _, action, state in house.outbox()}
        assert {("refused", "failed"), ("tried", "failed"), ("alarm", "delivered")} <= states
        assert any("no such pipeline" in one.values["message"] for one in Note.sent)

    async def test_an_unknown_outcome_is_looked_up_before_anything_is_sent_again(self, house: House):
        from sensors.action import Sent

        house.write(ONE.replace("note", "once"))
        Once.script = [OutcomeUnknown("no answer")]
        Once.found = [NotDelivered("no task run yet", retry_after=7), Sent("run-1")]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "once", "delivered")], seconds=60)
        assert len(Once.sent) == 1
        with StoreReader(house.state) as reader:
            assert reader.outbox()[0].reference == "run-1"

    async def test_what_was_surely_not_sent_is_sent(self, house: House):
        house.write(ONE.replace("note", "once"))
        Once.script = [OutcomeUnknown("no answer"), OutcomeUnknown("no answer")]
        Once.found = [None, None]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "once", "delivered")], seconds=60)
        assert len(Once.sent) == 3

    @pytest.mark.parametrize(("policy", "sent", "state"), [("hold", 1, "unknown"), ("resend", 2, "delivered")])
    async def test_what_nobody_can_tell(self, house: House, policy: str, sent: int, state: str):
        house.write(ONE.replace("{type: note}", f"{{type: once, on_unknown: {policy}}}"))
        Once.script = [OutcomeUnknown("no answer")]
        Once.found = [OutcomeUnknown("it does not show run keys")]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "once", state)], seconds=60)
            await house.pass_(10)
        assert len(Once.sent) == sent
        assert len(house.names(DeliveryHeld)) == (policy == "hold")

    async def test_a_defect_of_an_action_leaves_its_outcome_unknown(self, house: House):
        house.write(ONE.replace("note", "once"))
        Once.script = [KeyError("defect")]
        Once.found = [OutcomeUnknown("who knows")]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "once", "unknown")], seconds=60)

    async def test_a_stop_ends_what_is_under_way_first(self, house: House):
        house.write(ONE)
        ended: list[bool] = []

        async def slow() -> None:
            await house.clock.sleep(5)
            ended.append(True)

        Note.script = [slow]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: Note.sent)
        assert ended
        assert house.outbox() == [("a:x", "note", "delivered")]

    async def test_an_action_that_is_gone_from_the_file_fails_in_words(self, house: House):
        house.write(ONE)
        Note.script = [NotDelivered("down", retry_after=30)]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: Note.sent)
        house.write("sensors:\n  - {name: a, type: script, every: 10s, on_event: {type: once}}\n")
        async with house.running():
            await house.until(lambda: house.outbox() == [("a:x", "note", "failed")], seconds=60)

    async def test_an_action_that_is_added_gets_no_events_of_before(self, house: House):
        house.write(ONE)
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: Note.sent)
        house.write("sensors:\n  - {name: a, type: script, every: 10s, on_event: [{type: note}, {type: once}]}\n")
        house.script("a", Polled([event("x"), event("y")], cursor=2))
        async with house.running():
            await house.until(lambda: Once.sent)
        assert [one.run_key for one in Once.sent] == ["a:y"]


class TestTasks:
    TWO = """
sensors:
  - {name: a, type: script, every: 1s, on_event: {type: note}}
  - {name: b, type: script, every: 1s, on_event: {type: note}}
"""

    async def test_once_looks_once(self, house: House):
        house.write(ONE)
        async with house.running(Wanted(0.0)):
            await house.until(lambda: house.error)
        assert isinstance(house.error, NoEvent)
        assert len(ScriptSensor.seen) == 1

    async def test_it_waits_for_the_event_and_for_what_it_asks_for(self, house: House):
        house.write(ONE)
        house.script("a", Polled(), Polled([event("x", n=1)], cursor=1))
        Note.script = [NotDelivered("busy")]
        async with house.running(Wanted(600.0)):
            await house.until(lambda: house.outcome, seconds=60)
        assert house.outcome is not None
        assert [one.run_key for one in house.outcome.fired["a"]] == ["a:x"]
        assert dict(house.outcome.states) == {"delivered": 1}
        assert house.outcome.outputs == {"noted": True}

    @pytest.mark.parametrize(("every", "ends"), [(True, False), (False, True)])
    async def test_every_sensor_or_any(self, house: House, every: bool, ends: bool):
        house.write(self.TWO)
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running(Wanted(3600.0, every=every)):
            await house.until(lambda: Note.sent)
            await house.pass_(10)
            assert (house.outcome is not None) is ends
        if not ends:
            assert isinstance(house.error, Interrupted)

    async def test_what_an_attempt_before_found_counts(self, house: House):
        house.write(ONE)
        Note.script = [NotDelivered("down", retry_after=30)]
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: Note.sent)
        async with house.running(Wanted(0.0)):
            await house.until(lambda: house.outcome and house.outcome.fired, seconds=120)
        assert house.outcome is not None
        assert dict(house.outcome.states) == {"delivered": 1}

    async def test_an_error_that_waiting_cannot_help_ends_it(self, house: House):
        house.write(ONE)
        house.script("a", CredentialsRejected("wrong password"))
        async with house.running(Wanted(3600.0)):
            await house.until(lambda: house.error)
        assert isinstance(house.error, CredentialsRejected)

    async def test_an_error_that_waiting_can_help_does_not(self, house: House):
        house.write(ONE)
        house.script("a", SourceDown("gone"), Polled([event("x")], cursor=1))
        async with house.running(Wanted(3600.0)):
            await house.until(lambda: house.outcome, seconds=60)


class TestLiveness:
    async def test_a_sensor_is_alive_by_its_last_success_alone(self, house: House):
        house.write("sensors:\n  - {name: a, type: script, every: 10s, jitter: 0s, timeout: 5s}\n")
        house.script("a", Polled(), *[SourceDown("gone")] * 100)
        async with house.running():
            await house.until(lambda: len(ScriptSensor.seen) == 2, seconds=60)
            status = house.board.statuses["a"]
            assert status.alive(house.clock.now())
            await house.pass_(30)
            assert not status.alive(house.clock.now())

    async def test_what_was_expected_and_did_not_come_is_told_once(self, house: House):
        house.write("""
alerts: [{type: note, name: alarm, on: [expect]}]
sensors:
  - {name: a, type: script, every: 10s, expect: {every: 1m}}
""")
        async with house.running():
            await house.until(lambda: house.names(EventMissing), seconds=120)
            await house.pass_(20)
            assert "no event had come by" in house.names(EventMissing)[0].message
            await house.until(lambda: Note.sent)
        async with house.running():
            await house.pass_(10)
        assert len(house.names(EventMissing)) == len(Note.sent) == 1

    async def test_a_window_that_closes_without_an_event(self, house: House):
        house.write("""
alerts: [{type: note, name: alarm, on: [window]}]
sensors:
  - {name: a, type: script, every: 10s, window: {cron: "0 * * * *", deadline: 1m}}
""")
        async with house.running():
            await house.until(lambda: Note.sent, seconds=90)
            assert house.board.statuses["a"].state == "closed"
            polls = len(ScriptSensor.seen)
            await house.pass_(60)
            assert len(ScriptSensor.seen) == polls

    async def test_statuses_are_written(self, house: House):
        house.write(ONE)
        house.script("a", Polled([event("x")], cursor=1), SourceDown("gone"))
        async with house.running():
            await house.until(lambda: house.names(PollFailed))
            await house.pass_(3)
            with StoreReader(house.state) as reader:
                (status,) = reader.statuses()
        assert (status.failures, status.last_key, status.error) == (1, "a:x", house.names(PollFailed)[0].message)


class TestReload:
    async def test_sensors_that_did_not_change_go_on_untouched(self, house: House):
        house.write(TestTasks.TWO)
        house.script("a", Polled([event("x")], cursor="of a"))
        house.script("b", Polled([event("x")], cursor="of b"))
        async with house.running():
            await house.until(lambda: len(Note.sent) == 2)
            assert house.engine is not None
            kept = house.engine._watches["a"]
            house.write(
                TestTasks.TWO.replace("name: b, type: script, every: 1s", "name: b, type: script, every: 2s")
                + "  - {name: c, type: script, every: 1s, on_event: {type: note}}\n"
            )
            house.script("c", Polled([event("x")], cursor="of c"))
            await house.until(lambda: len(Note.sent) == 3, seconds=60)
            assert house.engine._watches["a"] is kept
            assert house.board.statuses["b"].every == 2
            ScriptSensor.seen.clear()
            await house.until(lambda: any(name == "b" for name, _ in ScriptSensor.seen))
            assert dict(ScriptSensor.seen)["b"] == "of b"
        (told,) = house.names(FileReloaded)
        assert (told.added, told.changed, told.removed) == (1, 1, 0)

    async def test_a_sensor_that_looks_at_something_else_starts_over(self, house: House):
        house.write(ONE)
        house.script("a", Polled([event("x")], cursor=1))
        async with house.running():
            await house.until(lambda: Note.sent)
            house.write(ONE.replace("type: script", "type: script, place: there"))
            ScriptSensor.seen.clear()
            await house.until(lambda: ("a", None) in ScriptSensor.seen, seconds=60)

    async def test_a_file_that_is_wrong_changes_nothing(self, house: House):
        house.write(ONE)
        async with house.running():
            await house.until(lambda: ScriptSensor.seen)
            house.write(ONE.replace("every: 10s", "evry: 10s"))
            await house.until(lambda: house.names(FileRefused), seconds=60)
            assert "Did you mean 'every'" in house.names(FileRefused)[0].message
            assert house.board.refused == house.names(FileRefused)[0].message
            polls = len(ScriptSensor.seen)
            await house.until(lambda: len(ScriptSensor.seen) > polls)
            house.write(ONE.replace("every: 10s", "every: 11s"))
            await house.until(lambda: house.names(FileReloaded), seconds=60)
            assert house.board.refused is None

    async def test_a_sensor_that_is_removed_is_forgotten(self, house: House):
        house.write(TestTasks.TWO)
        async with house.running():
            await house.until(lambda: len(ScriptSensor.seen) >= 2)
            house.write(ONE)
            await house.until(lambda: house.names(FileReloaded), seconds=60)
            assert set(house.board.statuses) == {"a"}


async def test_many_sensors_fire_once_each(house: House):
    names = [f"s{i:03}" for i in range(200)]
    house.write(
        "sensors:\n"
        + "".join(f"  - {{name: {name}, type: script, every: 10s, on_event: {{type: note}}}}\n" for name in names)
    )
    for name in names:
        house.script(name, Polled([event("x")], cursor=1))
    async with house.running():
        await house.until(lambda: len(Note.sent) == 200, seconds=60)
        await house.pass_(5)
    assert len(house.names(EventFired)) == 200
    assert sorted(one.run_key for one in Note.sent) == [f"{name}:x" for name in names]
