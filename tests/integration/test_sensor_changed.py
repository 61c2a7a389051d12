"""Sensors of type changed on doubles of the systems and on PostgreSQL: a change fires once, and what a poll asks."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import asyncpg
import pytest

from connectors.testing.hubspot import HubSpotDouble
from connectors.testing.linear import Linear
from connectors.testing.odp import EntitySet, Gateway, Property, Service, Tracking
from connectors.testing.rest import RestDouble
from connectors.testing.salesforce import Salesforce, Sundial
from connectors.testing.sheets import SheetsDouble
from runner.errors import Parked, SensorError, SourceDown, TableMissing, Throttled, UsageError
from runner.job import Limits, SourceSpec
from runner.testing.clock import ManualClock
from sensors.room import Room
from sensors.sensor import Event, Setting
from sensors.testing import Bench, Kept
from sensors.types.changed import ChangedSensor
from tests.conftest import Database

_START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Team:
    """A room in which sensors look at objects."""

    def __init__(self, clock: ManualClock, room: Room, kept: Kept) -> None:
        self.clock, self.room, self.kept = clock, room, kept

    def bench(self, source: dict[str, Any], name: str, *, start: Any = "now", limits: Any = None, **more: Any) -> Bench:
        setting = Setting(
            uuid.uuid4().hex,
            {"object": name, **more},
            "crm",
            SourceSpec.model_validate(source),
            start,
            Limits(connections=4, **(limits or {})),
        )
        sensor = ChangedSensor(setting, self.room)
        self.room.enrol(sensor.system, sensor.share)
        return Bench(sensor, self.kept)


@pytest.fixture
async def team(request: pytest.FixtureRequest) -> AsyncIterator[Team]:
    """A room in a task of its own, for a fixture has none; the clock moves by itself."""
    clock, kept = ManualClock(auto=getattr(request, "param", True)), Kept()
    made, leave = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def live() -> None:
        async with Room(clock, kept) as room:
            made.set_result(Team(clock, room, kept))
            await leave.wait()

    task = asyncio.create_task(live())
    yield await made
    leave.set()
    await task


def marks(events: list[Event]) -> list[tuple[str, str | None, str | None]]:
    return [(event.values["object"], event.values["previous"], event.values["mark"]) for event in events]


def salesforce(org: Salesforce) -> dict[str, Any]:
    return {"type": "salesforce", "instance_url": org.url, "client_id": "3MVG9.app", "client_secret": "s3cret"}


async def test_salesforce_is_asked_one_question_and_a_change_fires_once(team: Team) -> None:
    clock = Sundial(_START)
    with Salesforce(now=clock) as double:
        one = double.org.insert("Account", Name="A")
        accounts = team.bench(salesforce(double), "Account")
        assert await accounts.poll() == []
        double.seen.clear()
        assert await accounts.poll() == []
        assert [seen.path.rpartition("/")[2] for seen in double.seen] == ["queryAll"]
        clock.move(hours=3)  # the session has expired since
        double.org.update(one, Name="B")
        (event,) = await accounts.poll()
        assert event.values == {
            "object": "salesforce.Account",
            "previous": "2026-01-01 12:00:00+00",
            "mark": "2026-01-01 15:00:00+00",
        }
        assert (event.key, event.at) == ("2026-01-01 15:00:00+00", _START + timedelta(hours=3))
        assert double.count("oauth2/token") == 1
        # Into the recycle bin is a change, too.
        clock.move(minutes=1)
        double.org.delete(one)
        assert len(await accounts.poll()) == 1
        assert await accounts.poll() == []


async def test_salesforce_with_a_condition_and_by_rows(team: Team) -> None:
    clock = Sundial(_START)
    with Salesforce(now=clock) as double:
        ids = [double.org.insert("Account", Name=name) for name in ("A", "B")]
        acme = team.bench(salesforce(double), "Account", where="Name = 'A'")
        rows = team.bench(salesforce(double), "Account", rows=True)
        every = team.bench(salesforce(double), "Account", start="beginning", rows=True)
        for bench, fired in ((acme, 0), (rows, 0), (every, 2)):
            assert len(await bench.poll()) == fired
        clock.move(minutes=1)
        double.org.update(ids[1], Name="C")
        assert await acme.poll() == []
        (event,) = await rows.poll()
        assert (event.values["row"]["Name"], event.at) == ("C", _START + timedelta(minutes=1))
        double.org.update(ids[0], Industry="Energy", at=_START + timedelta(minutes=1))
        clock.move(minutes=1)
        double.org.update(ids[1], Name="D")
        # Also what has the very time that was seen, and what became visible late.
        assert sorted(event.values["row"]["Name"] for event in await rows.poll()) == ["A", "D"]
        assert len(await acme.poll()) == 1


async def test_hubspot(team: Team) -> None:
    moment = [_START]
    with HubSpotDouble(now=lambda: moment[0], burst=10**6, searches=10**6) as double:
        number = double.store.add("contacts", {"email": "a@example.com"})
        source = {"type": "hubspot", "access_token": double.token, "base_url": double.url, "search_rate": 10**5}
        contacts = team.bench(source, "contacts")
        assert await contacts.poll() == []
        double.seen.clear()
        assert await contacts.poll() == []
        assert [(seen.method, seen.path) for seen in double.seen] == [("POST", "/crm/v3/objects/contacts/search")]
        moment[0] += timedelta(minutes=5)
        double.store.change("contacts", number, email="b@example.com")
        assert len(await contacts.poll()) == 1
        assert await contacts.poll() == []


async def test_linear_fires_once_a_change_is_settled(team: Team) -> None:
    moment = [_START]
    with Linear(clock=lambda: moment[0]) as double:
        records = double.records
        squad = records.add("Team", key="ENG", name="Engineering", members=[])
        state = records.add("WorkflowState", team=squad, name="Todo", type="unstarted")
        issue = {"team": squad, "state": state, "title": "x", "number": 1.0, "identifier": "ENG-1"}
        found = records.add("Issue", **issue)
        moment[0] += timedelta(minutes=5)
        token = double.issue_token("read")
        issues = team.bench({"type": "linear", "access_token": token, "base_url": double.url}, "issues")
        assert await issues.poll() == []
        double.seen.clear()
        assert await issues.poll() == []
        assert double.count("graphql") == 1
        records.set("Issue", found, title="y")
        changed, fired = moment[0], []
        for _ in range(8):
            fired += await issues.poll()
            moment[0] += timedelta(seconds=20)
        assert [event.at for event in fired] == [changed]


async def test_a_sheet_fires_whenever_its_values_are_others(team: Team) -> None:
    with SheetsDouble(now=lambda: team.clock.now().timestamp()) as double:
        book = double.add("book1", "Budget", "loader@acme.iam.gserviceaccount.com")
        sheet = book.add("People", [["name", "age"], ["Ann", 41]])
        account = json.dumps(double.account())
        source = {"type": "sheets", "spreadsheets": "book1", "service_account": account, "api_url": double.url}
        people = team.bench(source, "People")
        assert await people.poll() == []
        double.seen.clear()
        assert await people.poll() == []
        assert [seen.path for seen in double.seen] == ["/v4/spreadsheets/book1/values:batchGet"]
        await team.clock.sleep(4000)  # the token has expired since
        fired = []
        for age in (42, 41, 41):
            sheet.put(1, 1, age)
            fired += await people.poll()
        sheet.put(3, 0, "Bob")
        fired += await people.poll()
        assert len(fired) == 3
        assert len({event.key for event in fired}) == 3
        with pytest.raises(SensorError, match="which of its rows"):
            await team.bench(source, "People", rows=True).poll()


async def test_the_sources_own_token_where_it_tracks_changes(team: Team) -> None:
    with Tracking(page=10) as double:
        double.put(*({"ID": number, "name": f"n{number}", "size": "1.00"} for number in range(25)))
        source = {"type": "odata", "url": f"{double.url}/s/"}
        things, rows = team.bench(source, "Things"), team.bench(source, "Things", rows=True)
        assert (await things.poll(), await rows.poll()) == ([], [])
        double.seen.clear()
        assert await things.poll() == []
        assert [seen.query for seen in double.seen] == ["$deltatoken=25"]
        double.put({"ID": 3, "name": "new", "size": "2.00"})
        double.delete(4)
        assert len(await things.poll()) == 1
        found = {event.values["row"]["ID"]: event.values["row"] for event in await rows.poll()}
        assert (found[3]["name"], found[4]["is_deleted"]) == ("new", True)
        double.put({"ID": 3, "name": "new", "size": "2.00"})
        assert [len(await things.poll()), len(await rows.poll()), len(await things.poll())] == [1, 1, 0]


async def test_odp(team: Team) -> None:
    columns = (Property("Id", "Edm.String", {"MaxLength": "10"}), Property("Amount", "Edm.Decimal"))
    documents = EntitySet("EntityOfZDOC", columns, ("Id",), tracked=True, page=50, before_images=True)
    documents.put(*({"Id": f"{number:06d}", "Amount": "1"} for number in range(120)))
    with Gateway([Service("ZDATA_SRV", [documents])], now=lambda: _START) as gateway:
        source = {"type": "sap", "url": gateway.service_url("ZDATA_SRV"), "user": "EXTRACT", "password": "secret"}
        source |= {"sap_client": "100", "page_size": 40}
        found = team.bench(source, "EntityOfZDOC")
        assert await found.poll() == []
        gateway.seen.clear()
        assert await found.poll() == []
        assert gateway.count("deltatoken") == len(gateway.seen) == 1
        documents.put({"Id": "000007", "Amount": "9"})
        documents.delete("000008")
        assert [len(await found.poll()), len(await found.poll())] == [1, 0]


async def test_an_entity_set_by_the_property_that_is_known(team: Team) -> None:
    columns = (Property("SalesOrder", "Edm.String"), Property("LastChangeDateTime", "Edm.DateTimeOffset"))
    orders = EntitySet("A_SalesOrder", columns, ("SalesOrder",))
    orders.put({"SalesOrder": "1", "LastChangeDateTime": _START})
    with Gateway([Service("API_SALES_ORDER_SRV", [orders])], now=lambda: _START) as gateway:
        source = {"type": "sap", "url": gateway.service_url("API_SALES_ORDER_SRV"), "user": "EXTRACT"}
        found = team.bench({**source, "password": "secret", "sap_client": "100"}, "SalesOrder")
        assert await found.poll() == []
        gateway.seen.clear()
        assert await found.poll() == []
        assert len(gateway.seen) == 1
        orders.put({"SalesOrder": "2", "LastChangeDateTime": _START + timedelta(hours=1)})
        (event,) = await found.poll()
        assert (event.at, await found.poll()) == (_START + timedelta(hours=1), [])


async def test_what_tells_its_mark_by_rows_is_asked_for_what_is_new(team: Team) -> None:
    def row(number: int, minute: int) -> dict[str, Any]:
        return {"id": number, "updated_at": f"2026-01-01T00:{minute:02d}:00Z"}

    with RestDouble() as double:
        double.tables["orders"] = [row(number, number) for number in range(30)]
        endpoint = {"path": "link/orders", "params": {"since": "{incremental.start_value}"}}
        endpoint["incremental"] = {"cursor_path": "updated_at", "initial_value": "2020-01-01T00:00:00Z"}
        orders_of = {"name": "orders", "primary_key": "id", "write_disposition": "merge", "endpoint": endpoint}
        source = {"type": "rest", "client": {"base_url": double.url}, "resources": [orders_of]}
        orders = team.bench(source, "orders")
        assert await orders.poll() == []
        double.seen.clear()
        assert await orders.poll() == []
        assert len(double.seen) == 1
        assert "since=2026-01-01" in double.seen[0].query
        double.tables["orders"].append(row(99, 40))
        assert [len(await orders.poll()), len(await orders.poll())] == [1, 0]


async def test_postgres_holds_nothing_open_and_waits_for_who_is_still_writing(team: Team, database: Database) -> None:
    await anyio.to_thread.run_sync(
        database.execute,
        "create table orders (id int primary key, note text, updated_at timestamptz not null default clock_timestamp())",
        "create index on orders (updated_at)",
        "insert into orders (id) values (1)",
    )
    source = {"type": "postgres", "dsn": database.dsn}
    orders = team.bench(source, "public.orders", cursor_field="updated_at")
    noted = team.bench(source, "public.orders", cursor_field="updated_at", where="note is not null", rows=True)
    assert (await orders.poll(), await noted.poll()) == ([], [])
    open_ = (
        "select count(*) from pg_stat_activity where application_name = 'orchestra-runner' and xact_start is not null"
    )
    assert await anyio.to_thread.run_sync(database.rows, open_) == [(0,)]
    writer = await asyncpg.connect(database.dsn)
    try:
        slow = writer.transaction()
        await slow.start()
        await writer.execute("insert into orders values (2, 'late', now())")
        database_now = await writer.fetchval("select now()")
        other = await asyncpg.connect(database.dsn)
        await other.execute("insert into orders (id) values (3)")
        await other.close()
        # What was written meanwhile is newer than what the other one may still commit.
        assert await orders.poll() == []
        await slow.commit()
    finally:
        await writer.close()
    (event,) = await orders.poll()
    assert event.at is not None
    assert event.at > database_now
    (row,) = await noted.poll()
    assert (row.values["row"]["id"], row.values["row"]["note"]) == (2, "late")
    assert (await orders.poll(), await noted.poll()) == ([], [])


async def test_postgres_by_number_and_after_every_connection_was_lost(team: Team, database: Database) -> None:
    await anyio.to_thread.run_sync(
        database.execute,
        "create table log (id bigserial primary key)",
        "insert into log select from generate_series(1, 9)",
    )
    log = team.bench({"type": "postgres", "dsn": database.dsn}, "log", cursor_field="id", start="5")
    assert marks(await log.poll()) == [("public.log", "5", "9")]

    async def kill() -> None:
        admin = await asyncpg.connect(database.dsn)
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orchestra-runner'"
        )
        await admin.execute("insert into log default values")
        await admin.close()

    await kill()
    assert marks(await log.poll()) == [("public.log", "9", "10")]


@pytest.mark.parametrize("team", [False], indirect=True)
async def test_ten_sensors_of_one_object_ask_once_and_share_session_and_token(team: Team) -> None:
    clock = Sundial(_START)
    with Salesforce(now=clock) as double:
        double.org.insert("Account", Name="A")
        many = [team.bench(salesforce(double), "Account") for _ in range(10)]
        other = team.bench(salesforce(double), "Contact")

        async def all_of_them() -> None:
            done = anyio.Event()

            async def poll() -> None:
                async with anyio.create_task_group() as group:
                    for one in (*many, other):
                        group.start_soon(one.poll)
                done.set()

            async with anyio.create_task_group() as group:
                group.start_soon(poll)
                while not done.is_set():
                    await team.clock.advance(0.05)
                    await anyio.sleep(0.002)

        await other.poll()  # opens the session of them all
        await all_of_them()
        double.seen.clear()
        await all_of_them()
        assert sorted(seen.path.rpartition("/")[2] for seen in double.seen) == ["queryAll", "queryAll"]
        clock.move(minutes=1)
        double.org.insert("Account", Name="B")
        await all_of_them()
        assert {len(one.fired) for one in many} == {1}
        assert double.count("oauth2/token") == 0


async def test_the_quota_of_the_organisation_is_left_to_others(team: Team) -> None:
    with Salesforce(now=Sundial(_START)) as double:
        double.most_calls = 20
        accounts = team.bench(salesforce(double), "Account", limits={"quota": "50%"})
        other = team.bench(salesforce(double), "Contact", limits={"quota": "50%"})
        with pytest.raises(Parked, match=r"limits\.quota"):
            for _ in range(20):
                await accounts.poll()
        with pytest.raises(Parked):
            await other.poll()
        assert 9 <= double.calls <= 11


@pytest.mark.parametrize(
    ("name", "more", "error", "words"),
    [
        ("Nothing", {}, TableMissing, "no object 'Nothing'"),
        ("Account", {"cursor_field": "Nope"}, SensorError, "no column 'Nope'"),
        ("Account", {"cursor_field": "Name"}, SensorError, "cannot order changes"),
        ("*", {}, SensorError, "names .* objects"),
    ],
)
async def test_what_cannot_be_looked_at_is_said(team: Team, name: str, more: Any, error: Any, words: str) -> None:
    with Salesforce(now=Sundial(_START)) as double:
        with pytest.raises(error, match=words):
            await team.bench(salesforce(double), name, **more).poll()


async def test_a_wrong_source_is_said_without_what_it_holds(team: Team) -> None:
    with pytest.raises(UsageError) as wrong:
        team.bench({"type": "hubspot", "access_token": "s3cret-token", "nope": "s3cret-token"}, "contacts")
    assert "nope" in wrong.value.message
    assert "s3cret" not in f"{wrong.value.message} {wrong.value.__cause__}"


@pytest.mark.parametrize(("status", "error"), [(500, SourceDown), (429, Throttled)])
async def test_an_error_moves_nothing_and_the_object_is_discovered_anew(team: Team, status: int, error: Any) -> None:
    moment = [_START]
    with HubSpotDouble(now=lambda: moment[0], burst=10**6, searches=10**6) as double:
        number = double.store.add("contacts", {"email": "a@example.com"})
        source = {"type": "hubspot", "access_token": double.token, "base_url": double.url, "search_rate": 10**5}
        contacts = team.bench(source, "contacts")
        await contacts.poll()
        before = contacts.cursor
        moment[0] += timedelta(minutes=5)
        double.store.change("contacts", number, email="b@example.com")
        double.fail("status", "/search", status=status, body={"category": "X"}, times=2 if status == 500 else 1)
        double.seen.clear()
        with pytest.raises(error):
            await contacts.poll()
        assert (contacts.cursor, double.count("/properties/")) == (before, 0)
        await team.clock.advance(60)
        assert len(await contacts.poll()) == 1
        assert (double.count("/properties/") > 0) is (status == 500)
