"""Every endpoint of Orchestra's API: what is asked, what becomes of the answer, what is tried again."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx

from orchestra.api.records import DbtAsset, DbtState, EnvironmentValue
from orchestra.api.workspace import Workspace
from orchestra.client import OrchestraClient, open_client
from runner.errors import (
    CredentialsRejected,
    DeliveryRefused,
    NotDelivered,
    OutcomeUnknown,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
)
from runner.testing.clock import ManualClock
from tests.unit.test_orchestra_client import BASE, KEY, opened

ID = "8c6c8a4e-1b1a-4b57-9df2-3a1f2d5f9f10"
NOW = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = {"time_from": NOW - timedelta(hours=1), "time_to": NOW}
ASKED = {"time_from": "2023-12-31T23:00:00+00:00", "time_to": "2024-01-01T00:00:00+00:00"}
PAGE = {"page": "1", "page_size": "100"}
PIPELINE = {"id": ID, "name": "Shop", "alias": "shop", "yamlPath": "", "paused": False, "createdAt": "2024-01-01"}
DOCUMENT = {"version": "v1", "name": "Shop", "pipeline": {}}
SNAKE = {"data": DOCUMENT, "published": True, "storage_provider": "ORCHESTRA", "alias": "shop"}
ENVIRONMENT = {
    "environmentId": "e1",
    "accountId": "a1",
    "name": "Prod",
    "defaultEnv": True,
    "values": {"N": {"type": "int", "value": 3}},
}
GIT: dict[str, Any] = {
    "storage_provider": "GITHUB",
    "repository": "shop/data",
    "default_branch": "main",
    "working_branch": "main",
}
Call = Callable[[OrchestraClient], Any]


def paged(*results: Any) -> dict[str, Any]:
    return {"page": 1, "pageSize": 100, "total": len(results), "results": list(results)}


async def done(call: Call, client: OrchestraClient) -> Any:
    found = call(client)
    if isinstance(found, AsyncGenerator):
        return [one async for page in found for one in page]
    assert isinstance(found, Awaitable)
    return await found


VALUES = {"N": EnvironmentValue(type="int", value=3)}
STATE = DbtState(state={"m": DbtAsset(last_updated=NOW, checksum="c", sources={"s": NOW})})
STATED = {
    "state": {
        "m": {
            "last_updated": "2024-01-01T00:00:00+00:00",
            "checksum": "c",
            "sources": {"s": "2024-01-01T00:00:00+00:00"},
        }
    }
}
# What is called; method, path, query and body of the request; the answer; what a look at the result returns.
ENDPOINTS: dict[str, tuple[Call, str, str, dict[str, str], Any, Any, Callable[[Any], Any], Any]] = {
    "pipelines": (
        lambda c: c.pipelines(name="SH"),
        "GET",
        "/pipelines",
        {**PAGE, "name": "SH"},
        None,
        [PIPELINE, {**PIPELINE, "name": "Other"}],
        lambda found: [one.name for one in found],
        ["Shop"],
    ),
    "pages of pipelines": (
        lambda c: c.pipelines(),
        "GET",
        "/pipelines",
        PAGE,
        None,
        paged(PIPELINE, PIPELINE),
        len,
        2,
    ),
    "pipeline": (lambda c: c.pipeline(ID), "GET", "/pipeline", {"pipeline_id": ID}, None, PIPELINE, lambda p: p.id, ID),
    "create": (
        lambda c: c.create_pipeline(DOCUMENT, alias="shop"),
        "POST",
        "/pipelines",
        {},
        SNAKE,
        {**PIPELINE, "currentVersionNumber": 1, "data": DOCUMENT},
        lambda p: (p.id, p.latest_version_number),
        (ID, 1),
    ),
    "update": (
        lambda c: c.update_pipeline("shop", DOCUMENT),
        "PUT",
        "/pipelines",
        {},
        SNAKE,
        {**PIPELINE, "latestVersionNumber": 2},
        lambda p: p.latest_version_number,
        2,
    ),
    "import": (
        lambda c: c.import_pipeline(yaml_path="a.yml", alias="a", **GIT),
        "POST",
        "/pipelines/import",
        {},
        {
            "storage_provider": "GITHUB",
            "repository": "shop/data",
            "default_branch": "main",
            "yaml_path": "a.yml",
            "alias": "a",
        },
        PIPELINE,
        lambda p: p.id,
        ID,
    ),
    "storage": (
        lambda c: c.update_storage("shop", path="a.yml", **{**GIT, "working_branch": "next"}),
        "PATCH",
        "/pipelines/storage-settings",
        {"alias": "shop"},
        {**GIT, "path": "a.yml", "working_branch": "next"},
        None,
        lambda nothing: nothing,
        None,
    ),
    "delete": (
        lambda c: c.delete_pipeline(ID),
        "DELETE",
        "/pipelines",
        {"pipeline_id": ID},
        None,
        None,
        lambda was: was,
        True,
    ),
    "schema": (
        lambda c: c.check_definition(DOCUMENT),
        "POST",
        "/pipelines/schema",
        {},
        DOCUMENT,
        {"message": "valid"},
        lambda found: found,
        [],
    ),
    "cancel": (lambda c: c.cancel("r 1"), "POST", "/pipeline_runs/r%201/cancel", {}, None, None, lambda n: n, None),
    "force": (
        lambda c: c.cancel("r1", force=True),
        "POST",
        "/pipeline_runs/r1/cancel",
        {},
        {"force": True},
        {"message": "done"},
        lambda n: n,
        None,
    ),
    "runs": (
        lambda c: c.runs(**HOUR, environments=["e1", "e2"]),
        "GET",
        "/pipeline_runs",
        {**PAGE, **ASKED, "environments": "e1,e2"},
        None,
        paged({"id": "r1", "runStatus": "QUEUED", "childPipelineRuns": []}),
        lambda found: [(one.id, one.over) for one in found],
        [("r1", False)],
    ),
    "task runs": (
        lambda c: c.task_runs(**HOUR, integrations=["HTTP", "DBT"], task_runs=["t1"], superseded=True),
        "GET",
        "/task_runs",
        {**PAGE, **ASKED, "integration": "HTTP,DBT", "task_run_ids": "t1", "include_superseded": "true"},
        None,
        paged({"id": "t1", "status": "SKIPPED", "integration": "DBT", "taskParameters": None}),
        lambda found: [(one.id, one.over, one.task_parameters) for one in found],
        [("t1", True, {})],
    ),
    "task runs of a run": (
        lambda c: c.task_runs_of("r1"),
        "GET",
        "/pipeline_runs/r1/task_runs",
        {"page": "1", "page_size": "50"},
        None,
        paged({"id": "t1", "status": "RUNNING"}),
        len,
        1,
    ),
    "operations": (
        lambda c: c.operations(
            **HOUR, operation_types=["TEST", "SEED"], status="FAILED", external_id="x", task_run="t1", integration="DBT"
        ),
        "GET",
        "/operations",
        {
            **PAGE,
            **ASKED,
            "operation_type": "TEST,SEED",
            "status": "FAILED",
            "external_id": "x",
            "task_run_id": "t1",
            "integration": "DBT",
        },
        None,
        paged({"id": "o1", "operationStatus": "REUSED", "operationDuration": 1.5, "rowsAffected": 3}),
        lambda found: [(one.id, one.operation_duration, one.rows_affected) for one in found],
        [("o1", 1.5, 3)],
    ),
    "assets": (
        lambda c: c.assets(asset_types=("TABLE", "VIEW"), integration="SNOWFLAKE"),
        "GET",
        "/assets",
        {**PAGE, "asset_type": "TABLE,VIEW", "integration": "SNOWFLAKE"},
        None,
        paged({"assetId": "a1", "assetName": "orders", "createdAt": "2024-01-01T00:00:00Z"}),
        lambda found: [(one.asset_id, one.created_at) for one in found],
        [("a1", NOW)],
    ),
    "connections": (
        lambda c: c.connections(integration="SNOWFLAKE", auth_status="SUCCEEDED"),
        "GET",
        "/integrations/connections",
        {"integration": "SNOWFLAKE", "authStatus": "SUCCEEDED"},
        None,
        [{"connectionId": "c_12345", "integration": "SNOWFLAKE", "authStatus": "SUCCEEDED", "isDefault": True}],
        lambda found: [(one.connection_id, one.is_default) for one in found],
        [("c_12345", True)],
    ),
    "environments": (
        lambda c: c.environments(),
        "GET",
        "/environments",
        {},
        None,
        [{key: value for key, value in ENVIRONMENT.items() if key != "values"}],
        lambda found: [(one.environment_id, one.default_env, one.values) for one in found],
        [("e1", True, {})],
    ),
    "environment": (
        lambda c: c.environment("e1"),
        "GET",
        "/environments/e1",
        {},
        None,
        ENVIRONMENT,
        lambda one: one.values,
        VALUES,
    ),
    "create environment": (
        lambda c: c.create_environment("Prod", VALUES),
        "POST",
        "/environments",
        {},
        {"name": "Prod", "values": {"N": {"type": "int", "value": 3}}},
        ENVIRONMENT,
        lambda one: one.environment_id,
        "e1",
    ),
    "update environment": (
        lambda c: c.update_environment("e1", "Prod", VALUES, default=False),
        "PATCH",
        "/environments/e1",
        {},
        {"name": "Prod", "values": {"N": {"type": "int", "value": 3}}, "defaultEnv": False},
        ENVIRONMENT,
        lambda one: one.name,
        "Prod",
    ),
    "delete environment": (
        lambda c: c.delete_environment("e1"),
        "DELETE",
        "/environments/e1",
        {},
        None,
        None,
        lambda was: was,
        True,
    ),
    "state": (lambda c: c.dbt_state(), "GET", "/state/DBT_CORE", {}, None, STATED, lambda found: found, STATE),
    "update state": (
        lambda c: c.update_dbt_state(STATE),
        "PATCH",
        "/state/DBT_CORE",
        {},
        STATED,
        STATED,
        lambda nothing: nothing,
        None,
    ),
    "federated credentials": (
        lambda c: c.federated_credentials(),
        "GET",
        "/compute_resources/azure/federated_credentials",
        {},
        None,
        {"subjectId": "s", "audience": "api://AzureADTokenExchange"},
        lambda one: one.subject_id,
        "s",
    ),
    "logs": (
        lambda c: c.logs("r1", "t1"),
        "GET",
        "/pipeline_runs/r1/task_runs/t1/logs",
        {},
        None,
        {"filenames": ["1/dbt run"], "files": {}},
        lambda found: found,
        ["1/dbt run"],
    ),
    "artifacts": (
        lambda c: c.artifacts("r1", "t1"),
        "GET",
        "/pipeline_runs/r1/task_runs/t1/artifacts",
        {},
        None,
        {"filenames": ["manifest.json"]},
        lambda found: found,
        ["manifest.json"],
    ),
}
ONCE = ("create", "import", "create environment")


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_an_endpoint_is_asked_as_its_reference_says(name: str) -> None:
    call, method, path, query, body, answer, look, expected = ENDPOINTS[name]
    with respx.mock() as router:
        reply = httpx.Response(204) if answer is None else httpx.Response(200, json=answer)
        route = router.request(method, url__startswith=BASE).mock(return_value=reply)
        async with opened() as client:
            assert look(await done(call, client)) == expected
    (request,) = (one.request for one in route.calls)
    assert request.url.raw_path.partition(b"?")[0].decode() == f"/api/engine/public{path}"
    assert dict(request.url.params) == query
    assert (json.loads(request.content) if request.content else None) == body
    assert request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name not in ONCE])
@pytest.mark.parametrize("fault", [502, 408, httpx.ReadError("reset")], ids=str)
async def test_what_may_happen_twice_is_tried_again(name: str, fault: Any) -> None:
    call, method, _, _, _, answer, look, expected = ENDPOINTS[name]
    good = httpx.Response(204) if answer is None else httpx.Response(200, json=answer)
    with respx.mock() as router:
        first = httpx.Response(fault) if isinstance(fault, int) else fault
        route = router.request(method, url__startswith=BASE).mock(side_effect=[first, good])
        async with opened() as client:
            assert look(await done(call, client)) == expected
    assert route.call_count == 2


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_key_that_is_no_good_is_said_at_once(name: str) -> None:
    call, method = ENDPOINTS[name][:2]
    with respx.mock() as router:
        route = router.request(method, url__startswith=BASE).respond(401, json={"detail": f"bad key {KEY}"})
        async with opened() as client:
            with pytest.raises(DeliveryRefused if name in ONCE else CredentialsRejected) as caught:
                await done(call, client)
    assert route.call_count == 1
    assert "ORCHESTRA_API_KEY" in caught.value.advice
    assert KEY not in caught.value.message + caught.value.advice


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_who_is_asked_to_slow_down_lets_everybody_wait(name: str) -> None:
    call, method, *_ = ENDPOINTS[name]
    clock = ManualClock(auto=True)
    with respx.mock() as router:
        late = {"Retry-After": "Mon, 01 Jan 2024 00:00:40 GMT"}
        router.request(method, url__startswith=BASE).respond(429, headers=late)
        async with opened(clock) as client:
            with pytest.raises(RunnerError) as caught:
                await done(call, client)
            assert caught.value.retriable
            assert client.transport.pause_left() == 40


async def test_a_command_waits_and_goes_on() -> None:
    clock = ManualClock(auto=True)
    with respx.mock() as router:
        late = httpx.Response(429, headers={"Retry-After": "40"})
        router.get(f"{BASE}/environments").mock(side_effect=[late, late, httpx.Response(200, json=[ENVIRONMENT])])
        async with open_client(Workspace.of(api_key=KEY, environ={}), clock) as client:
            (found,) = await client.environments()
    assert found.name == "Prod"
    assert 80 <= sum(clock.slept) < 100


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.ReadTimeout("slow"), OutcomeUnknown, "no answer in time"),
        (httpx.Response(502), OutcomeUnknown, "502"),
        (httpx.Response(201, json={}), OutcomeUnknown, "accepted"),
        (httpx.ConnectError("refused"), NotDelivered, "no connection"),
        (httpx.Response(429), NotDelivered, "slow down"),
        (httpx.Response(409, json={"detail": "The alias is taken"}), DeliveryRefused, "The alias is taken"),
        (httpx.Response(422, json={"detail": [{"loc": ["body", "data", "name"], "msg": "Field required"}]}),
         DeliveryRefused, "data.name: Field required"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
async def test_what_must_not_happen_twice_is_sent_once(
    name: str, answer: Any, error: type[RunnerError], says: str
) -> None:
    with respx.mock() as router:
        route = router.post(url__startswith=BASE).mock(side_effect=[answer])
        async with opened() as client:
            with pytest.raises(error, match=says) as caught:
                await done(ENDPOINTS[name][0], client)
    assert route.call_count == 1
    if error is OutcomeUnknown:
        assert "look" in caught.value.advice
    assert "sensors" not in caught.value.advice
    assert "attempts" not in caught.value.advice


def refused(*keys: str, kind: str = "extra_forbidden") -> httpx.Response:
    return httpx.Response(422, json={"detail": [{"loc": ["body", key], "msg": "no", "type": kind} for key in keys]})


@pytest.mark.parametrize("name", ["create", "update", "import", "storage"])
async def test_keys_are_spelled_as_the_server_takes_them(name: str) -> None:
    call, method, *_ = ENDPOINTS[name]

    def serve(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        wrong = [key for key in body if "_" in key]
        # The reference of an update has no storage provider at all.
        if name == "update" and "storageProvider" in body:
            return refused("storageProvider")
        return refused(*wrong) if wrong else httpx.Response(200, json=PIPELINE)

    with respx.mock() as router:
        route = router.request(method, url__startswith=BASE).mock(side_effect=serve)
        async with opened() as client:
            await done(call, client)
            await done(call, client)
    assert route.call_count == 3, "the spelling is remembered"


async def test_the_id_of_a_new_pipeline_has_two_names() -> None:
    with respx.mock() as router:
        router.post(f"{BASE}/pipelines").respond(201, json={"pipeline_id": ID})
        async with opened() as client:
            assert (await client.create_pipeline(DOCUMENT)).id == ID


async def test_neither_spelling_is_taken() -> None:
    with respx.mock() as router:
        route = router.route(url__startswith=BASE).mock(return_value=refused("published", kind="missing"))
        async with opened() as client:
            with pytest.raises(DeliveryRefused, match="published: no"):
                await client.create_pipeline(DOCUMENT)
            with pytest.raises(RequestRefused, match="published: no"):
                await client.update_pipeline("shop", DOCUMENT)
    bodies = [json.loads(call.request.content) for call in route.calls]
    assert ["storage_provider" in body for body in bodies] == [True, False, True, False]


@pytest.mark.parametrize("first", ["pipeline/data", "pipelines/data"])
async def test_the_path_of_a_definition_is_found_once(first: str) -> None:
    with respx.mock(assert_all_called=False) as router:
        for path in ("pipeline/data", "pipelines/data"):
            router.get(f"{BASE}/{path}").mock(
                return_value=httpx.Response(200, json=DOCUMENT | {"pipeline": {"a": {}}})
                if path == first
                else httpx.Response(404, json={"detail": "Not Found"})
            )
        async with opened() as client:
            for _ in range(2):
                assert (await client.definition("shop", version=3) or {})["pipeline"] == {"a": {}}
        asked = [call.request.url.path.removeprefix("/api/engine/public/") for call in router.calls]
    assert asked == {"pipeline/data": [first, first], "pipelines/data": ["pipeline/data", first, first]}[first]


@pytest.mark.parametrize("status", [404, 405])
async def test_a_run_is_read_where_it_can_be(status: int) -> None:
    run = {"id": "r1", "runStatus": "RUNNING"}
    with respx.mock() as router:
        whole = router.get(f"{BASE}/pipeline_runs/r1").respond(status)
        short = router.get(f"{BASE}/pipeline_runs/r1/status").respond(200, json=run)
        async with opened() as client:
            for _ in range(2):
                found = await client.run("r1")
                assert found is not None
                assert found.run_status == "RUNNING"
    assert (whole.call_count, short.call_count) == (1, 2)


async def test_a_server_with_the_whole_run_is_not_asked_for_its_status() -> None:
    with respx.mock(assert_all_called=False) as router:
        router.get(f"{BASE}/pipeline_runs/r1").respond(200, json={"id": "r1", "runStatus": "FAILED", "message": "m"})
        router.get(f"{BASE}/pipeline_runs/r2").respond(404)
        status = router.get(url__regex=".*/status").respond(200)
        async with opened() as client:
            found = await client.run("r1")
            assert found is not None
            assert found.message == "m"
            assert await client.run("r2") is None
    assert not status.called


async def test_a_cancelled_run_stays_cancelled() -> None:
    with respx.mock() as router:
        cancel = router.post(f"{BASE}/pipeline_runs/r1/cancel")
        cancel.mock(side_effect=[httpx.ReadError("reset"), httpx.Response(400, json={"detail": "already"})])
        router.get(url__regex=".*/pipeline_runs/r1$").respond(404)
        status = router.get(f"{BASE}/pipeline_runs/r1/status").respond(
            200, json={"id": "r1", "runStatus": "CANCELLING"}
        )
        async with opened() as client:
            await client.cancel("r1")
            cancel.mock(return_value=httpx.Response(400, json={"detail": "Force was asked for too early"}))
            with pytest.raises(RequestRefused, match="too early"):
                await client.cancel("r1", force=True)
            status.respond(200, json={"id": "r1", "runStatus": "SUCCEEDED"})
            with pytest.raises(RequestRefused, match="did not cancel the run r1"):
                await client.cancel("r1")
            cancel.mock(return_value=httpx.Response(404))
            with pytest.raises(RequestRefused, match="no run r1"):
                await client.cancel("r1")


async def test_what_is_gone_already_is_no_mistake() -> None:
    with respx.mock() as router:
        router.route(url__startswith=BASE).respond(404, json={"detail": "Not found"})
        async with opened() as client:
            assert await client.delete_pipeline("shop") is False
            assert await client.delete_environment("e1") is False
            assert await client.environment("e1") is None
            assert await client.dbt_state() == DbtState()
            with pytest.raises(RequestRefused, match="no pipeline 'shop'"):
                await client.update_pipeline("shop", DOCUMENT)
            with pytest.raises(RequestRefused, match="no environment 'e1'"):
                await client.update_environment("e1", "Prod", {}, default=False)
            with pytest.raises(RequestRefused, match="no task run t1"):
                await client.logs("r1", "t1")


async def test_a_key_that_may_not_delete_is_told_so() -> None:
    with respx.mock() as router:
        router.delete(f"{BASE}/pipelines").respond(403, json={"detail": "Log in to delete a pipeline"})
        async with opened() as client:
            with pytest.raises(PermissionMissing, match="Log in to delete"):
                await client.delete_pipeline("shop")


async def test_the_list_of_accounts_is_elsewhere_and_names_none() -> None:
    with respx.mock() as router:
        route = router.get("https://app.getorchestra.io/public/v1/accounts").respond(json=[{"id": "a", "name": "Shop"}])
        async with opened(account="stale") as client:
            assert [one.name for one in await client.accounts()] == ["Shop"]
            named = router.get(f"{BASE}/environments").respond(json=[])
            await client.environments()
    assert "X-Orchestra-Account-Id" not in route.calls.last.request.headers
    assert named.calls.last.request.headers["X-Orchestra-Account-Id"] == "stale"


async def test_what_is_wrong_with_a_definition_is_said_part_by_part() -> None:
    detail: list[dict[str, Any]] = [
        {"loc": ["body", "pipeline", "a", "TaskGroupModel", "tags"], "msg": "Extra", "type": "extra_forbidden"},
        {"loc": ["body", "schedule", 0, "cron"], "msg": "No cron", "type": "value_error", "input": 1},
    ]
    with respx.mock() as router:
        route = router.post(f"{BASE}/pipelines/schema").respond(422, json={"detail": detail})
        async with opened() as client:
            found = await client.check_definition(DOCUMENT)
            assert [(one.loc[-1], one.msg, one.type) for one in found] == [
                ("tags", "Extra", "extra_forbidden"),
                ("cron", "No cron", "value_error"),
            ]
            route.respond(422, json={"detail": "Two groups have one name"})
            assert [one.msg for one in await client.check_definition(DOCUMENT)] == ["Two groups have one name"]


async def test_the_texts_of_a_pipeline_are_read() -> None:
    texts = {
        "schedule": '[{"cron": "0 8 ? * * *"}]',
        "sensors": '{"files": {"name": "Files"}}',
        "triggerEvents": "[]",
        "webhook": '{"enabled":true}',
    }
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline").respond(200, json={**PIPELINE, **texts})
        async with opened() as client:
            found = await client.pipeline("shop")
            assert found is not None
            assert (found.schedule, found.sensors) == ([{"cron": "0 8 ? * * *"}], {"files": {"name": "Files"}})
            assert (found.trigger_events, found.webhook) == ([], {"enabled": True})
            route.respond(
                200, json={**PIPELINE, "schedule": None, "webhook": {"enabled": False}, "sensors": "nonsense"}
            )
            found = await client.pipeline("shop")
            assert found is not None
            assert (found.schedule, found.webhook, found.sensors) == ([], {"enabled": False}, {})


async def test_pages_may_be_shorter_than_was_asked_for_and_never_come_twice() -> None:
    items = [{"id": f"t{number}", "status": "RUNNING"} for number in range(5)]
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline_runs/r1/task_runs").mock(
            side_effect=[
                httpx.Response(200, json={"pageSize": 2, "total": 5, "results": items[first : first + 2]})
                for first in (0, 2, 4)
            ]
        )
        async with opened() as client:
            found = [one.id async for page in client.task_runs_of("r1") for one in page]
            assert found == ["t0", "t1", "t2", "t3", "t4"]
            route.mock(return_value=httpx.Response(200, json={"total": 5, "results": items[:2]}))
            with pytest.raises(RequestRefused, match="page 2 is the one before it"):
                await done(lambda c: c.task_runs_of("r1"), client)


async def test_what_is_too_old_says_so() -> None:
    old = {"time_from": NOW - timedelta(days=30), "time_to": NOW - timedelta(days=20)}
    with respx.mock() as router:
        router.get(url__startswith=BASE).respond(400, json={"detail": "Only the last 7 days"})
        async with opened() as client:
            for call in (client.task_runs, client.operations):
                with pytest.raises(RequestRefused, match="Only the last 7 days") as caught:
                    await done(lambda _, call=call: call(**old), client)  # type: ignore[misc]
                assert "7 days only" in caught.value.advice
                with pytest.raises(RequestRefused) as caught:
                    await done(lambda _, call=call: call(**HOUR), client)  # type: ignore[misc]
                assert "7 days only" not in caught.value.advice


@pytest.mark.parametrize("name", ["connections", "assets", "logs", "environment", "state"])
async def test_an_answer_that_is_something_else_is_refused_in_words(name: str) -> None:
    with respx.mock() as router:
        router.get(url__startswith=BASE).respond(200, json={"state": [1], "results": "none", "filenames": "none"})
        async with opened() as client:
            with pytest.raises(RequestRefused, match="the answer"):
                await done(ENDPOINTS[name][0], client)


async def test_changes_that_fail_for_ever_end() -> None:
    with respx.mock() as router:
        route = router.put(f"{BASE}/pipelines").respond(502)
        async with opened() as client:
            with pytest.raises(SourceDown, match="PUT"):
                await client.update_pipeline("shop", DOCUMENT)
    assert route.call_count == 4
