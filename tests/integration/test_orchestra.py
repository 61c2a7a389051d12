"""Orchestra: a pipeline is started once for an event, and runs of pipelines are events; on the double."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestra.client import connected
from orchestra.pipelineaction import PipelineAction
from orchestra.testing import OrchestraDouble
from orchestra.testing.state import Run
from runner.errors import DeliveryRefused, NotDelivered, OutcomeUnknown, UsageError
from runner.events import Stream
from runner.testing.clock import ManualClock
from sensors.action import Delivery, Sent
from sensors.delivery import Deliveries, Target
from sensors.room import Room
from sensors.sensorfile import ActionEntry
from sensors.store import Fired, Store

DEFINITION: dict[str, Any] = {
    "version": "v1",
    "name": "Load orders",
    "inputs": {
        "file": {"type": "string", "optional": True},
        "rows": {"type": "number", "optional": True},
        "run_key": {"type": "string", "default": ""},
    },
    "pipeline": {
        "load": {
            "tasks": {
                "pull": {
                    "name": "Pull",
                    "parameters": {"environment_variables": '{"RUN_KEY": "${{ inputs.run_key }}"}', "python": "3.12"},
                }
            }
        }
    },
}
HIDDEN = {**DEFINITION, "pipeline": {"load": {"tasks": {"pull": {"name": "Pull", "parameters": {}}}}}}
BARE = {**HIDDEN, "inputs": {}}


class Place:
    """A room, a double and their clock."""

    def __init__(self, double: OrchestraDouble, clock: ManualClock, room: Room) -> None:
        self.double, self.clock, self.room = double, clock, room
        self.workspace = double.workspace

    def action(self, **options: Any) -> PipelineAction:
        keys = {"pipeline": "load_orders", "api_key": self.double.key, "base_url": self.double.base_url, **options}
        return PipelineAction(keys, self.room, Path())

    def delivery(self, run_key: str = "orders/1.csv", **values: Any) -> Delivery:
        now = self.clock.now()
        return Delivery("s", run_key, values, at=now, sent_at=now)

    async def lost(self, action: PipelineAction, *, done: bool = True, kind: Any = "reset") -> Delivery:
        """Send something whose answer is lost."""
        self.double.fail(kind, "/start", status=502, done=done)
        delivery = self.delivery()
        with pytest.raises(OutcomeUnknown):
            await action.send(delivery)
        return delivery

    def other(self, run_key: str, *, trigger: str = "MANUAL") -> Run:
        """Let somebody else start the pipeline."""
        pipeline = self.workspace.find("load_orders")
        assert pipeline is not None
        return self.workspace.start(pipeline, {"run_key": run_key}, trigger=trigger)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def double(clock: ManualClock) -> Iterator[OrchestraDouble]:
    with OrchestraDouble(now=clock.now) as server:
        server.workspace.add("load_orders", DEFINITION)
        yield server


@contextlib.asynccontextmanager
async def placed(double: OrchestraDouble, clock: ManualClock, *, timeout: float = 0.3) -> AsyncIterator[Place]:
    async with Room(clock) as room:
        place = Place(double, clock, room)
        # A silent server is waited for that long.
        await connected(room, place.action().workspace, timeout=timeout)
        yield place


# Starting.


async def test_it_starts_the_pipeline_with_the_inputs_of_the_event(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        action = place.action(inputs={"file": "s3://{bucket}/{key}", "rows": "{rows}"}, environment="Dev")
        sent = await action.send(place.delivery("k1", bucket="b", key="a.csv", rows=12))
        (run,) = place.workspace.runs
    body = {"runInputs": {"file": "s3://b/a.csv", "rows": 12, "run_key": "k1"}, "environment": "Dev"}
    assert place.workspace.starts == [body]
    assert sent == Sent(run, {"pipeline_run_id": run, "url": f"{double.url}/pipeline-runs/{run}/lineage"})
    assert double.key not in repr(action.config) + action.describe()


async def test_the_run_key_goes_only_where_it_is_taken(double: OrchestraDouble, clock: ManualClock) -> None:
    double.workspace.add("bare", BARE)
    double.workspace.add("named", {**BARE, "inputs": {"key": {"type": "string"}}})
    async with placed(double, clock) as place:
        await place.action(pipeline="bare").send(place.delivery("k1"))
        await place.action(pipeline="named", run_key_input="key").send(place.delivery("k1"))
    assert place.workspace.starts == [{}, {"runInputs": {"key": "k1"}}]


async def test_what_orchestra_refuses_is_said_in_words(double: OrchestraDouble, clock: ManualClock) -> None:
    double.workspace.add("paused", DEFINITION, paused=True)
    double.workspace.add("needs", {**BARE, "inputs": {"day": {"type": "string"}}})
    async with placed(double, clock) as place:
        for pipeline, says in (("paused", "is paused"), ("needs", "input: day"), ("other", "no pipeline 'other'")):
            with pytest.raises(DeliveryRefused, match=says):
                await place.action(pipeline=pipeline).send(place.delivery())
        with pytest.raises(DeliveryRefused, match="does not let us"):
            await place.action(api_key="wrong").send(place.delivery())
        with pytest.raises(UsageError, match="'ghost'"):
            await place.action(inputs={"file": "{ghost}"}).send(place.delivery())
        with pytest.raises(UsageError, match="carries the run key"):
            place.action(inputs={"run_key": "mine"})
        with pytest.raises(ValueError, match="not an address"):
            place.action(pipeline="https://app.getorchestra.io/pipelines/1")
    assert not place.workspace.runs


async def test_all_of_a_workspace_slow_down_together(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        double.fail("status", "/start", status=429, headers={"Retry-After": "40"}, body={"detail": "slow down"})
        for patient in (False, True):
            with pytest.raises(NotDelivered) as caught:
                await place.action().send(place.delivery())
            assert caught.value.retry_after == pytest.approx(40, abs=1)
            assert caught.value.patient is patient
        assert double.count("/start") == 1
        await clock.advance(40)
        await place.action().send(place.delivery())
    assert len(place.workspace.runs) == 1


# Looking for a start whose answer was lost.


@pytest.mark.parametrize("kind", ["reset", "status", "silence", "cut"])
async def test_a_start_whose_answer_was_lost_is_found(double: OrchestraDouble, clock: ManualClock, kind: Any) -> None:
    double.workspace.list_lag, double.workspace.task_delay = 30, 90
    async with placed(double, clock) as place:
        action = place.action()
        delivery = await place.lost(action, done=kind != "cut", kind=kind)
        place.other("orders/1.csv.gz")
        place.other("", trigger="SCHEDULED")
        (ours, *_) = place.workspace.runs
        for wait, says in ((0, "may still appear"), (31, "whose runs these are"), (0, "whose runs these are")):
            await clock.advance(wait)
            with pytest.raises(NotDelivered, match=says) as caught:
                await action.find(delivery)
            assert caught.value.retry_after
        await clock.advance(60)
        found = await action.find(delivery)
    assert found is not None
    assert found.reference == ours
    assert double.count("/start") == 1


@pytest.mark.parametrize("kind", ["reset", "status", "silence"])
async def test_a_start_that_did_not_happen_is_known_after_a_while(
    double: OrchestraDouble, clock: ManualClock, kind: Any
) -> None:
    async with placed(double, clock) as place:
        action = place.action()
        place.other("orders/1.csv.old")
        delivery = await place.lost(action, done=False, kind=kind)
        place.other("orders/1.csv.new")
        place.other("", trigger="SENSOR")
        with pytest.raises(NotDelivered, match="may still appear") as caught:
            await action.find(delivery)
        assert caught.value.retry_after is not None
        await clock.advance(caught.value.retry_after)
        assert await action.find(delivery) is None


async def test_runs_that_never_show_a_run_key_need_a_person(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        action = place.action(lookup_for="10m")
        delivery = await place.lost(action, done=False)
        run = place.other("whatever")
        run.tasks.clear()
        place.workspace.finish(run.id, "SKIPPED")
        await clock.advance(590)
        with pytest.raises(NotDelivered, match=run.id):
            await action.find(delivery)
        await clock.advance(20)
        with pytest.raises(OutcomeUnknown, match=run.id):
            await action.find(delivery)


@pytest.mark.parametrize("definition", [HIDDEN, BARE], ids=["declared", "not declared"])
async def test_a_pipeline_that_does_not_show_the_run_key(
    double: OrchestraDouble, clock: ManualClock, definition: Any
) -> None:
    double.workspace.pipelines.clear()
    double.workspace.add("load_orders", definition)
    async with placed(double, clock) as place:
        action = place.action()
        place.other("", trigger="SCHEDULED")
        delivery = await place.lost(action, done=False)
        await clock.advance(61)
        assert await action.find(delivery) is None, "no run but one of a schedule"
        place.other("")
        with pytest.raises(OutcomeUnknown, match="do not show") as caught:
            await action.find(delivery)
    assert "${{ inputs.run_key }}" in caught.value.advice


async def test_clocks_may_differ_and_only_the_pipeline_counts(double: OrchestraDouble, clock: ManualClock) -> None:
    double.workspace.add("second", DEFINITION)
    async with placed(double, clock) as place:
        action = place.action()
        delivery = await place.lost(action)
        (run,) = place.workspace.runs.values()
        await place.action(pipeline="second").send(delivery)
        await clock.advance(300)
        ahead = replace(delivery, sent_at=clock.now() - timedelta(seconds=10))
        found = await action.find(ahead)
        assert found is not None
        assert found.reference == run.id
        await clock.advance(600)
        assert await action.find(replace(delivery, sent_at=clock.now() - timedelta(seconds=61))) is None


async def test_of_two_runs_with_the_run_key_the_first_is_ours(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        action = place.action()
        delivery = await place.lost(action)
        (ours,) = place.workspace.runs
        await clock.advance(60)
        place.other("orders/1.csv")
        found = await action.find(delivery)
        assert found is not None
        assert found.reference == ours


async def test_a_look_that_fails_is_made_again(double: OrchestraDouble, clock: ManualClock) -> None:
    async with placed(double, clock) as place:
        action = place.action()
        delivery = await place.lost(action)
        fault = double.fail("status", "/pipeline_runs", status=502, times=100)
        await clock.advance(3600)
        with pytest.raises(NotDelivered, match="502"):
            await action.find(delivery)
        fault.status = 403
        with pytest.raises(OutcomeUnknown, match="403"):
            await action.find(delivery)
        with pytest.raises(NotDelivered, match="403"):
            await action.find(replace(delivery, sent_at=clock.now()))
        fault.times = 0
        await clock.advance(8 * 86_400)
        with pytest.raises(OutcomeUnknown, match="7 days ago"):
            await action.find(delivery)
        place.workspace.pipelines.clear()
        action._looks = None
        with pytest.raises(OutcomeUnknown, match="any more"):
            await action.find(delivery)


async def _delivered(double: OrchestraDouble, clock: ManualClock, store: Store) -> list[str]:
    """Deliver one event, and return the run keys of the runs that there are then."""
    # A request takes real time on a busy machine: nothing but this moves the clock, and not while one is under way.
    async with placed(double, clock, timeout=30) as place:
        target = Target(place.action(), ActionEntry(type="pipeline"))
        deliveries = Deliveries(store, clock, Stream(clock), lambda *_: target, abreast=4)
        await store.begin({"s": "digest"}, clock.now())
        await store.polled("s", None, {}, [Fired("k1", {}, ["pipeline"])], clock.now())
        async with anyio.create_task_group() as group:
            group.start_soon(deliveries.run)
            with anyio.fail_after(100):
                while await store.waiting(clock.now() + timedelta(days=1), 1):
                    deliveries.wake()
                    await anyio.sleep(0.005)
                    if not await store.waiting(clock.now(), 1):
                        await clock.advance(3)
            deliveries.drain()
    store.close()
    return [run.inputs["run_key"] for run in place.workspace.runs.values()]


async def test_through_everything_one_event_is_one_run(tmp_path: Path) -> None:
    clock = ManualClock()
    with OrchestraDouble(now=clock.now) as double:
        double.workspace.add("load_orders", DEFINITION)
        double.workspace.list_lag, double.workspace.task_delay = 25, 50
        double.fail("status", "/start", status=429, headers={"Retry-After": "300"})
        double.fail("reset", "/start")
        double.fail("status", "/start", status=502, done=True)
        assert await _delivered(double, clock, Store(tmp_path / "store.sqlite")) == ["k1"]
        assert double.count("/start") == 3


async def test_a_run_that_begins_late_is_waited_for(tmp_path: Path) -> None:
    clock = ManualClock()
    with OrchestraDouble(now=clock.now) as double:
        double.workspace.add("load_orders", DEFINITION)
        double.workspace.list_lag = 25
        double.fail("status", "/start", status=504, done=True)
        start = double.workspace.start

        def slow(*arguments: Any, **more: Any) -> Run:
            # Orchestra takes a minute; the gateway before it gives up.
            clock._elapsed += 58
            return start(*arguments, **more)

        double.workspace.start = slow  # type: ignore[method-assign]
        assert await _delivered(double, clock, Store(tmp_path / "store.sqlite")) == ["k1"]
        assert double.count("/start") == 1
