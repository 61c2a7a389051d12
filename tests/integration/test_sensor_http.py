"""Sensors of type http against a server: what fires and what does not, what is asked, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from email.utils import format_datetime
from typing import Any

import anyio
import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.testing.double import Double, answer
from runner.errors import (
    CredentialsRejected,
    Parked,
    RequestRefused,
    RunnerError,
    SensorError,
    SourceDown,
    Throttled,
    UsageError,
)
from runner.job import Limits
from runner.testing.clock import ManualClock
from sensors.room import Room
from sensors.sensor import Setting
from sensors.testing import Bench, Kept
from sensors.types.http import HttpSensor


class Orders(Double):
    """An endpoint with orders.

    Attributes:
        validators: Whether answers carry an ETag.
    """

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[Any] = []
        self.validators = False
        self.modified: dict[str, str] = {}
        self.token = "none"
        self.tokens = 0

    def routes(self) -> Iterator[web.RouteDef]:
        yield web.get("/orders", self._orders)
        yield web.post("/search", self._search)
        yield web.get("/away", self._away)
        yield web.get("/private", self._private)
        yield web.post("/token", self._token)

    async def _orders(self, request: web.Request) -> web.Response:
        body = {"status": "ok", "data": {"orders": self.orders}}
        headers = {"ETag": f'"{hash(json.dumps(body))}"'} if self.validators else dict(self.modified)
        known = request.headers.get("If-None-Match") or request.headers.get("If-Modified-Since")
        if known is not None and known in headers.values():
            return web.Response(status=304, headers=headers)
        return answer(body, headers=headers)

    async def _search(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["state"]
        return answer([one for one in self.orders if one["state"] == wanted])

    async def _away(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://example.invalid/orders"})

    async def _private(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return answer({"message": "expired"}, status=401)
        return answer(self.orders)

    async def _token(self, request: web.Request) -> web.Response:
        self.tokens += 1
        self.token = f"token-{self.tokens}-abcdef"
        return answer({"access_token": self.token, "expires_in": 3600})


class Site:
    """A room with sensors that look at the endpoint."""

    def __init__(self, server: Orders, clock: ManualClock, room: Room, kept: Kept) -> None:
        self.server, self.clock, self.room, self.kept = server, clock, room, kept

    def bench(self, path: str = "/orders", *, start: Any = "now", name: str = "s", **options: Any) -> Bench:
        given = {"url": self.server.url + path, **({"select": "data.orders"} if path == "/orders" else {}), **options}
        sensor = HttpSensor(Setting(name, given, start=start, limits=Limits(connections=4)), self.room)
        self.room.enrol(sensor.system, sensor.share)
        return Bench(sensor, self.kept)

    def keys(self, events: Any) -> list[str]:
        return [event.key for event in events]


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A site whose room lives in a task of its own, for the fixture does not; the clock moves by itself."""
    clock, kept = ManualClock(auto=getattr(request, "param", True)), Kept()
    made, leave = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def live(server: Orders) -> None:
        async with Room(clock, kept) as room:
            made.set_result(Site(server, clock, room, kept))
            await leave.wait()

    with Orders() as server:
        task = asyncio.create_task(live(server))
        yield await made
        leave.set()
        await task


@pytest.mark.parametrize(("start", "first"), [("now", []), ("beginning", ["1", "2"])])
async def test_an_item_fires_once_whatever_becomes_of_it(site: Site, start: str, first: list[str]) -> None:
    orders = site.bench(key="id", start=start)
    site.server.orders = [{"id": 1, "state": "new"}, {"id": 2, "state": "new"}]
    assert site.keys(await orders.poll()) == first
    assert await orders.poll() == []
    site.server.orders = [{"id": 3, "price": 12345678901234567890.12345}, {"id": 2, "state": "changed"}]
    (event,) = await orders.poll()
    assert (event.key, event.values["body"]["status"]) == ("3", "ok")
    # What a double would round, and what JSON does not have, can be written down all the same.
    assert json.loads(json.dumps(dict(event.values), allow_nan=False))["price"] == 12345678901234567890.12345
    site.server.orders.append({"id": 1, "state": "again"})
    assert await orders.poll() == []


async def test_what_comes_again_fires_where_that_is_wanted(site: Site) -> None:
    orders = site.bench(key="id", reappeared="fire")
    for there, fired in (([1], 0), ([], 0), ([1], 1), ([1, 2], 1), ([2], 0), ([1, 2], 1)):
        site.server.orders = [{"id": number} for number in there]
        assert len(await orders.poll()) == fired, there
    assert len(set(site.keys(orders.fired))) == 3


async def test_without_a_key_an_item_is_its_content(site: Site) -> None:
    site.server.orders = [{"a": 1, "b": 2}]
    orders = site.bench()
    await orders.poll()
    site.server.orders = [{"b": 2, "a": 1}, {"a": 1, "b": 3}, {"a": 1, "b": 3}]
    assert [event.values["b"] for event in await orders.poll()] == [3]


@pytest.mark.parametrize("big", [False, True])
async def test_keys_of_several_parts_are_not_mixed_up(site: Site, big: bool) -> None:
    orders = site.bench(key=["a", "b.c"], start="beginning")
    pad = {"pad": "x" * 200_000} if big else {}
    site.server.orders = [{"a": "1", "b": {"c": "2,3"}, **pad}, {"a": "1,2", "b": {"c": "3"}}]
    events = await orders.poll()
    assert len(set(site.keys(events))) == 2
    assert all(("body" in event.values) is not big for event in events)


async def test_order_tells_what_is_new_also_at_the_very_last_moment(site: Site) -> None:
    site.server.orders = [{"id": 1, "at": "2026-01-01T10:00:00Z"}, {"id": 2, "at": "2026-01-01T12:00:00+02:00"}]
    orders = site.bench(key="id", order="at")
    assert await orders.poll() == []
    assert len(site.kept.texts) == 2
    site.server.orders += [{"id": 9, "at": "2026-01-01T09:59:59Z"}, {"id": 3, "at": "2026-01-01T10:00:00.000Z"}]
    assert site.keys(await orders.poll()) == ["3"]
    site.server.orders += [{"id": 5, "at": "2026-01-01T12:00:00Z"}, {"id": 4, "at": "2026-01-01T11:00:00Z"}]
    assert site.keys(await orders.poll()) == ["4", "5"]
    assert len(site.kept.texts) == 1
    site.server.orders[:] = [{"id": 6, "at": "2026-01-01T11:30:00Z"}]
    assert await orders.poll() == []


async def test_a_value_to_begin_at_leaves_out_what_has_it(site: Site) -> None:
    site.server.orders = [{"n": number} for number in (9, 10, 11)]
    orders = site.bench(key="n", order="n", start="9")
    assert site.keys(await orders.poll()) == ["10", "11"]
    later = site.bench(key="n", order="n", start=11, name="later")
    await later.poll()
    site.server.orders.append({"n": 11, "x": 1})
    assert (later.fired, await later.poll()) == ([], [])


async def test_a_body_that_is_another_one_fires_also_when_it_was_there_before(site: Site) -> None:
    states = site.bench(changed="body", select="data.orders[0].state")
    fired = []
    for state in ("open", "open", "closed", "open"):
        site.server.orders = [{"state": state, "noise": len(site.server.seen)}]
        fired += [event.values["value"] for event in await states.poll()]
    assert fired == ["closed", "open"]
    assert len(set(site.keys(states.fired))) == 2


async def test_what_is_not_modified_is_not_sent(site: Site) -> None:
    site.server.validators = True
    orders = site.bench(key="id", start="beginning")
    site.server.orders = [{"id": 1}]
    assert len(await orders.poll()) == 1
    assert await orders.poll() == []
    assert orders.notes[-1] == "not modified (304)"
    site.server.orders.append({"id": 2})
    assert site.keys(await orders.poll()) == ["2"]
    assert [one.status for one in site.server.seen] == [200, 304, 200]


@pytest.mark.parametrize(("age", "asked"), [(0, False), (1, True)])
async def test_a_date_of_the_same_second_is_no_validator(site: Site, age: int, asked: bool) -> None:
    now = site.clock.now()
    made = format_datetime(now.replace(second=10), usegmt=True)
    site.server.modified = {"Last-Modified": made, "Date": format_datetime(now.replace(second=10 + age), usegmt=True)}
    orders = site.bench(key="id")
    await orders.poll()
    await orders.poll()
    assert site.server.seen[-1].status == (304 if asked else 200)
    assert ("if-modified-since" in site.server.seen[-1].headers) is asked


async def test_a_search_is_posted_and_sent_again(site: Site) -> None:
    site.server.fail("reset", "/search")
    site.server.orders = [{"id": 1, "state": "new"}, {"id": 2, "state": "done"}]
    found = site.bench("/search", method="POST", json={"state": "done"}, key="id", start="beginning")
    assert site.keys(await found.poll()) == ["2"]
    assert site.server.count("/search") == 2


@pytest.mark.parametrize("site", [False], indirect=True)
async def test_a_thousand_sensors_of_one_request_ask_once(site: Site) -> None:
    site.server.validators = True
    many = [site.bench(key="id", name=f"s{number}") for number in range(1000)]
    other = site.bench(key="id", name="other", headers={"X-Tenant": "2"})
    await site.bench("/search", method="POST", json={"state": 1}, name="first").poll()  # opens the session of them all
    site.server.orders = [{"id": 1}]
    for asked in (2, 4, 6):
        async with anyio.create_task_group() as group:
            for one in (*many, other):
                group.start_soon(one.poll)
            await site.clock.advance(1)
        assert site.server.count("/orders") == asked
        site.server.orders.append({"id": asked})
    assert {len(one.fired) for one in many} == {2}


async def test_a_throttled_system_is_left_alone_by_all_its_sensors(site: Site) -> None:
    first, second = site.bench(name="first"), site.bench("/orders?page=2", name="second")
    site.server.fail("status", "/orders", status=429, headers={"Retry-After": "30"}, times=1, body={})
    with pytest.raises(Throttled):
        await first.poll()
    assert (site.server.count("/orders"), site.clock.monotonic()) == (1, 0)
    with pytest.raises(Parked):
        await second.poll()
    await site.clock.advance(30)
    await second.poll()


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("status", {"status": 500, "body": {}}, SourceDown),
        ("cut", {}, SourceDown),
        ("truncated_gzip", {}, SourceDown),
        ("body", {"body": '{"data": {"orders": [', "headers": {"Content-Type": "application/json"}}, SourceDown),
        ("body", {"body": "<html>log on</html>"}, SensorError),
        ("body", {"body": {"data": {"orders": [{"no": "id"}]}}}, SensorError),
        ("status", {"status": 401, "body": {}}, CredentialsRejected),
    ],
)
async def test_what_goes_wrong_moves_nothing(site: Site, kind: Any, options: Any, error: type[RunnerError]) -> None:
    orders = site.bench(key="id")
    site.server.orders = [{"id": 1}]
    await orders.poll()
    before = (orders.cursor, dict(site.kept.texts))
    site.server.orders = [{"id": 2}]
    fault = site.server.fail(kind, "/orders", times=9, **options)
    site.server.seen.clear()
    with pytest.raises(error):
        await orders.poll()
    assert (orders.cursor, site.kept.texts) == before
    # The client itself makes good for a connection that was kept open and died.
    assert site.server.count("/orders") <= 2 * 2
    fault.times = 0
    assert site.keys(await orders.poll()) == ["2"]


async def test_another_host_and_a_huge_answer_are_refused(site: Site) -> None:
    with pytest.raises(RequestRefused, match="another host"):
        await site.bench("/away").poll()
    site.server.orders = ["x" * 2000]
    with pytest.raises(RequestRefused, match=r"larger than max_response \(1,000 bytes\)"):
        await site.bench(max_response=1000).poll()


async def test_a_token_is_fetched_once_and_again_when_it_expired(site: Site) -> None:
    auth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{site.server.url}/token",
        "client_id": "me",
        "client_secret": "s3cr3t-of-client",
    }
    sensors = [site.bench(f"/private?n={number}", name=f"p{number}", auth=auth) for number in range(3)]
    assert "s3cr3t" not in repr(sensors[0].sensor.config) + sensors[0].sensor.describe()
    for one in sensors:
        await one.poll()
    site.server.token = "another"
    site.server.orders = [{"id": 1}]
    assert [len(await one.poll()) for one in sensors] == [1, 1, 1]
    assert site.server.tokens == 2


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"url": "ftp://x/y"}, "now"),
        ({"url": "https://me:secret@x/y"}, "now"),
        ({"json": {}}, "now"),
        ({"changed": "body", "key": "id"}, "now"),
        ({"select": "$.["}, "now"),
        ({"nope": 1}, "now"),
        ({}, "2026-01-01"),
    ],
)
async def test_what_makes_no_sense_is_said_at_once(site: Site, options: Any, start: str) -> None:
    with pytest.raises((ValidationError, UsageError)):
        site.bench(start=start, **options)


def test_nothing_heavy_is_loaded() -> None:
    code = "import sys, sensors.types.http; print([m for m in ('pyarrow', 'duckdb', 'dlt', 'asyncpg', 'jsonpath_ng') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
