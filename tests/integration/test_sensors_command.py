"""``runner sensors`` on what sensors left behind, and beside an engine that writes."""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from runner.runs import StateFolder
from sensors.status import Status
from sensors.store import Fired, Store, StoreReader, store_path

FILE = """
name: shop
defaults: {alert_after: 3}
sensors:
  - {name: orders, type: files, every: 10s}
  - {name: files, type: files, every: 1m, alert_after: 1}
  - {name: idle, type: files, disabled: true}
"""


def status(name, **changes):
    at = time.time()
    known = {"last_poll": at - 2, "last_success": at - 2, "next_due": at + 8, "alive_by": at + 60, **changes}
    return Status(name, "files", 10.0, **known)


class Engine:
    """What the engine does to its store."""

    def __init__(self, project):
        self.path = store_path(StateFolder(project.folder / ".runner"), "shop")
        self.store = Store(self.path)

    def report(self, *statuses):
        asyncio.run(self.store.report(statuses))

    def fire(self, sensor, run_key, *actions, **changes):
        async def run():
            await self.store.polled(sensor, None, {}, [Fired(run_key, {}, actions)], datetime.now(UTC))
            for one in await self.store.waiting(datetime.now(UTC), 99):
                if one[0].run_key == run_key and one[0].sensor == sensor and changes:
                    await self.store.change(one[0].id, **changes)

        asyncio.run(run())

    def states(self):
        with StoreReader(self.path) as reader:
            return {(one.sensor, one.action, one.run_key): one.state for one in reader.outbox()}


@pytest.fixture
def engine(project):
    project.job(FILE, "shop.yml")
    made = Engine(project)
    yield made
    made.store.close()


def test_nothing_has_run_yet(project, cli):
    project.job(FILE, "shop.yml")
    answer = cli("sensors", "shop.yml")
    assert (answer.code, "have not run yet" in answer.out) == (3, True)
    assert not (project.folder / ".runner").exists()


def test_all_alive(engine, cli):
    engine.report(status("orders"), status("files", failures=0, alive_by=None, state="closed"))
    answer = cli("sensors", "shop.yml")
    assert answer.code == 0
    assert "2 sensors: 1 alive, 1 closed; newest success 2 s ago" in answer.out
    assert cli("sensors", "shop.yml", "--quiet").out.startswith("2 sensors")


@pytest.mark.parametrize(
    ("orders", "files", "code"),
    [
        ({"failures": 2}, {}, 0),
        ({"failures": 3}, {}, 1),
        ({}, {"failures": 1}, 1),
        ({"alive_by": 1.0}, {}, 1),
        ({"last_poll": None}, {}, 3),
        ({"last_poll": None, "last_success": None, "state": "closed"}, {}, 0),
    ],
)
def test_the_exit_code(engine, cli, orders, files, code):
    engine.report(status("orders", **orders), status("files", **files))
    assert cli("sensors", "shop.yml").code == code
    answer = json.loads(cli("sensors", "shop.yml", "--json").out)
    assert answer["exit_code"] == code


def test_worst_first_with_the_error_below(engine, cli):
    error = "Nothing answers at db7; password=hunter2000 was used."
    engine.report(status("files"), status("orders", alive_by=time.time() - 5, failures=7, error=error))
    lines = cli("sensors", "shop.yml").out.splitlines()
    assert lines[0].split("  ")[0] == "sensor"
    assert lines[1].split()[:2] == ["orders", "dead"]
    assert lines[2].startswith("  Nothing answers at db7; password=*** was used. It had to poll with success by 20")
    assert lines[3].split()[:2] == ["files", "alive"]
    assert [row["name"] for row in json.loads(cli("sensors", "shop.yml", "--json").out)["sensors"]] == [
        "orders",
        "files",
    ]


def test_a_process_that_is_gone_is_dead(engine, project, cli):
    engine.report(status("orders"), status("files", state="closed", alive_by=time.time() + 9000))
    assert cli("sensors", "shop.yml").code == 0
    project.environ["RUNNER_CLOCK_OFFSET"] = "61"
    answer = cli("sensors", "shop.yml")
    assert answer.code == 1
    assert "2 sensors: 1 dead, 1 closed" in answer.out
    assert "most likely no process runs them any more" in answer.out


def test_sensors_that_came_and_went(engine, cli):
    engine.report(status("orders"), status("removed", alive_by=1.0), status("idle", alive_by=1.0))
    answer = cli("sensors", "shop.yml")
    assert answer.code == 3
    assert "1 sensor of the file has not run yet: files" in answer.out
    assert "removed" not in answer.out
    assert cli("sensors", "shop.yml", "--sensor", "orders").code == 0
    answer = cli("sensors", "shop.yml", "--sensor", "order")
    assert (answer.code, "Did you mean 'orders'?" in answer.err) == (2, True)


def test_decisions_beside_a_running_engine(engine, cli):
    engine.report(status("orders"), status("files"))
    engine.fire("orders", "k1", "load", "tell", state="unknown", error="The connection broke.", attempts=1, sent_at=5.0)
    engine.fire("orders", "k2", "load", state="failed", error="No such pipeline.", attempts=8)
    engine.fire("orders", "k3", "load")
    assert "outbox: 2 unknown, 1 failed, 1 pending" in cli("sensors", "shop.yml").out
    said = cli("sensors", "shop.yml", "--outbox").out
    assert [line.split()[0] for line in said.splitlines() if line.startswith("k")] == ["k1", "k1", "k2", "k3"]
    assert "  The connection broke." in said
    assert "3 wait for a decision" in said
    assert cli("sensors", "shop.yml", "--settle", "k1", "--action", "tell").code == 0
    answer = cli("sensors", "shop.yml", "--resend", "k1")
    assert "orders → load: k1 (was unknown) is sent again within seconds" in answer.out
    assert json.loads(cli("sensors", "shop.yml", "--resend", "k2", "--json").out)[0]["state"] == "failed"
    assert engine.states() == {
        ("orders", "tell", "k1"): "delivered",
        ("orders", "load", "k1"): "pending",
        ("orders", "load", "k2"): "pending",
        ("orders", "load", "k3"): "pending",
    }
    again = {one.run_key: delivery for one, delivery in asyncio.run(engine.store.waiting(datetime.now(UTC), 99))}
    assert again["k1"].sent_at is not None, "it is the same delivery"
    assert (again["k2"].attempt, again["k2"].sent_at) == (1, None)
    assert [one["run_key"] for one in json.loads(cli("sensors", "shop.yml", "--outbox", "--json").out)] == [
        "k3",
        "k2",
        "k1",
    ]


def test_what_needs_no_decision_stays_as_it_is(engine, cli):
    engine.fire("orders", "done", "load", state="delivered")
    engine.fire("orders", "way", "load", state="sending")
    engine.fire("orders", "both", "load", state="unknown")
    engine.fire("files", "both", "load", state="unknown")
    before = engine.states()
    for key, words in {
        "done": "'done' needs no decision (load: delivered)",
        "way": "'way' needs no decision (load: sending)",
        "nothing": "The outbox has no delivery with the run key 'nothing'",
        "both": "Several sensors have a delivery with the run key 'both': files, orders.",
    }.items():
        for option in ("--resend", "--settle"):
            answer = cli("sensors", "shop.yml", option, key)
            assert (answer.code, words in answer.err) == (2, True), answer.err
    assert cli("sensors", "shop.yml", "--resend", "both", "--settle", "both").code == 2
    assert cli("sensors", "shop.yml", "--action", "load").code == 2
    assert engine.states() == before
    assert cli("sensors", "shop.yml", "--settle", "both", "--sensor", "files").code == 0
    assert engine.states()["files", "load", "both"] == "delivered"
    assert engine.states()["orders", "load", "both"] == "unknown"
