"""What the answers of Orchestra mean: which starts are never sent again, which reads are tried again."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import anyio
import httpx
import pytest
import respx

from orchestra.api.models import Start
from orchestra.api.workspace import Workspace
from orchestra.client import OrchestraClient
from runner.errors import (
    CredentialsRejected,
    DeliveryRefused,
    NotDelivered,
    OutcomeUnknown,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SecretMissing,
    SourceDown,
    Throttled,
    UsageError,
)
from runner.job import Limits
from runner.limits import SourceLimits
from runner.secrets import redact
from runner.testing.clock import ManualClock

KEY = "sk-orchestra-4711"
BASE = "https://app.getorchestra.io/api/engine/public"
START = f"{BASE}/pipelines/load_orders/start"
RUN = {"id": "r1", "runStatus": "RUNNING", "pipelineId": "p1", "createdAt": "2024-01-01T00:00:00+00:00", "new": 1}


# Nothing of these tests leaves the process, so certificates are read once.
_context = functools.cache(httpx.create_ssl_context)


@asynccontextmanager
async def opened(
    clock: ManualClock | None = None, *, account: str | None = None, **more: Any
) -> AsyncIterator[OrchestraClient]:
    clock = clock or ManualClock(auto=True)
    limits = SourceLimits.of(Limits(), clock)
    workspace = Workspace.of(api_key=KEY, account=account, environ={})
    with patch("httpx.create_ssl_context", _context):
        async with OrchestraClient(workspace, clock, limits, **more) as client:
            yield client


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.Response(429, headers={"Retry-After": "7"}), NotDelivered, "slow down"),
        (httpx.Response(503, headers={"Retry-After": "7"}), NotDelivered, "slow down"),
        (httpx.ConnectError("refused"), NotDelivered, "no connection"),
        (httpx.ConnectTimeout("slow"), NotDelivered, "no connection in time"),
        (httpx.PoolTimeout("full"), NotDelivered, "no connection in time"),
        (httpx.ProxyError("no"), NotDelivered, "no connection"),
        (httpx.Response(408), NotDelivered, "did not take"),
        (httpx.ReadTimeout("slow"), OutcomeUnknown, "no answer in time"),
        (httpx.ReadError("reset"), OutcomeUnknown, "lost"),
        (httpx.WriteError("reset"), OutcomeUnknown, "lost"),
        (httpx.RemoteProtocolError("closed"), OutcomeUnknown, "lost"),
        (httpx.Response(500, text="oops"), OutcomeUnknown, "500"),
        (httpx.Response(502), OutcomeUnknown, "502"),
        (httpx.Response(503), OutcomeUnknown, "503"),
        (httpx.Response(504), OutcomeUnknown, "504"),
        (httpx.Response(200, text="<html>"), OutcomeUnknown, "no pipelineRunId"),
        (httpx.Response(201, json={"id": "x"}), OutcomeUnknown, "no pipelineRunId"),
        (httpx.Response(201, json={"pipelineRunId": None}), OutcomeUnknown, "no pipelineRunId"),
        (httpx.Response(204), OutcomeUnknown, "no pipelineRunId"),
        (httpx.Response(200, content=b"x" * (16 * 2**20 + 1)), OutcomeUnknown, "larger"),
        (httpx.Response(302, headers={"Location": "https://elsewhere"}), DeliveryRefused, "another address"),
        (httpx.Response(400, json={"detail": "Pipeline is paused"}), DeliveryRefused, "is paused, so it cannot"),
        (httpx.Response(400, json={"detail": "Missing required pipeline input: file"}), DeliveryRefused, "input: file"),
        (httpx.Response(401, json={"detail": f"bad key {KEY}"}), DeliveryRefused, "does not let us"),
        (httpx.Response(403, json={"detail": "no"}), DeliveryRefused, "does not let us"),
        (httpx.Response(404, json={"detail": "Not found"}), DeliveryRefused, "no pipeline 'load_orders'"),
        (httpx.Response(409, json={"message": "busy"}), DeliveryRefused, "busy"),
        (
            httpx.Response(422, json={"detail": [{"loc": ["body", "runInputs", "n"], "msg": "Not a number"}]}),
            DeliveryRefused,
            "runInputs.n: Not a number",
        ),
    ],
    ids=lambda value: str(value)[:40].replace("<", "").replace(">", ""),
)
async def test_a_start_is_sent_once(answer: Any, error: type[RunnerError], says: str) -> None:
    with respx.mock() as router:
        route = router.post(START).mock(side_effect=[answer] if isinstance(answer, Exception) else None)
        if isinstance(answer, httpx.Response):
            route.mock(return_value=answer)
        async with opened() as client:
            with pytest.raises(error) as caught:
                await client.start("load_orders", Start(run_inputs={"file": "a.csv"}))
    assert route.call_count == 1
    assert says in caught.value.message
    assert KEY not in caught.value.message + caught.value.advice
    if isinstance(answer, httpx.Response) and answer.status_code in (429,):
        assert caught.value.retry_after == 7  # type: ignore[attr-defined]


async def test_a_start_says_what_it_was_told_and_nothing_else() -> None:
    with respx.mock() as router:
        route = router.post(f"{BASE}/pipelines/a%20b/start").respond(201, json={"pipelineRunId": "r1", "later": True})
        async with opened() as client:
            said = Start(run_inputs={"at": datetime(2024, 1, 1, tzinfo=UTC), "n": 1}, version_number=3, task_ids=["t"])
            assert (await client.start("a b", said)).pipeline_run_id == "r1"
    request = route.calls.last.request
    body = {"runInputs": {"at": "2024-01-01T00:00:00Z", "n": 1}, "versionNumber": 3, "taskIds": ["t"]}
    assert json.loads(request.content) == body
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert "X-Orchestra-Account-Id" not in request.headers


async def test_retry_after_may_be_a_date_and_pauses_the_whole_workspace() -> None:
    clock = ManualClock()
    with respx.mock() as router:
        late = {"Retry-After": "Mon, 01 Jan 2024 00:01:30 GMT"}
        route = router.post(START).respond(429, headers=late)
        async with opened(clock) as client:
            for _ in range(2):
                with pytest.raises(NotDelivered) as caught:
                    await client.start("load_orders", Start())
                assert caught.value.retry_after == 90
    assert route.call_count == 1, "while the pause lasts nothing is sent"


async def test_a_start_that_never_ends_has_a_deadline() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    with respx.mock(assert_all_called=False) as router:
        router.post(START).mock(side_effect=hang)
        async with opened(timeout=0.02, connect_timeout=0.02) as client:
            with anyio.fail_after(5), pytest.raises(OutcomeUnknown, match="no answer in time"):
                await client.start("load_orders", Start())


@pytest.mark.parametrize(
    ("first", "error", "calls"),
    [
        (httpx.Response(500), None, 2),
        (httpx.Response(503), None, 2),
        (httpx.ReadTimeout("slow"), None, 2),
        (httpx.ConnectError("refused"), None, 2),
        (httpx.Response(429, headers={"Retry-After": "1"}), Throttled, 1),
        (httpx.Response(503, headers={"Retry-After": "1"}), Throttled, 1),
        (httpx.Response(401), CredentialsRejected, 1),
        (httpx.Response(403), PermissionMissing, 1),
        (httpx.Response(422, json={"detail": [{"loc": ["query", "status"], "msg": "odd"}]}), RequestRefused, 1),
        (httpx.Response(307, headers={"Location": "https://elsewhere"}), RequestRefused, 1),
        (httpx.Response(200, text="<html>"), RequestRefused, 1),
        (httpx.Response(200, json={"runStatus": "RUNNING"}), RequestRefused, 1),
    ],
)
async def test_reads_are_tried_again_where_it_can_help(first: Any, error: type[RunnerError] | None, calls: int) -> None:
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline_runs/r1/status").mock(side_effect=[first, httpx.Response(200, json=RUN)])
        async with opened() as client:
            if error is None:
                found = await client.run_status("r1")
                assert found is not None
                assert (found.run_status, found.over) == ("RUNNING", False)
            else:
                with pytest.raises(error):
                    await client.run_status("r1")
    assert route.call_count == calls


async def test_reads_that_fail_for_ever_end() -> None:
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline_runs/r1/status").respond(502)
        async with opened() as client:
            with pytest.raises(SourceDown):
                await client.run_status("r1")
    assert route.call_count == 4


async def test_what_there_is_not_is_none() -> None:
    with respx.mock() as router:
        router.get(url__startswith=BASE).respond(404, json={"detail": "Not found"})
        async with opened() as client:
            assert await client.pipeline("a") is None
            assert await client.definition("a") is None
            assert await client.run_status("a") is None


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        ([{"total": 3, "results": [RUN, RUN]}, {"total": 3, "results": [RUN]}], 2),
        ([{"total": 9, "results": [RUN]}, {"total": 9, "results": []}], 2),
        ([{"results": [RUN]}, {"results": []}], 2),
        ([[RUN, RUN]], 1),
        ([{"total": 0, "results": []}], 1),
    ],
    ids=["total", "empty page", "no total", "bare list", "nothing"],
)
async def test_pages_end(pages: list[Any], asked: int) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline_runs").mock(side_effect=[httpx.Response(200, json=page) for page in pages])
        async with opened() as client:
            listed = client.runs(time_from=now - timedelta(hours=1), time_to=now, pipelines=["p", "q"])
            found = [run async for page in listed for run in page]
    assert route.call_count == asked
    assert len(found) == sum(len(page if isinstance(page, list) else page["results"]) for page in pages)
    query = dict(route.calls.last.request.url.params)
    assert query == {
        "pipeline_ids": "p,q",
        "page": str(asked),
        "page_size": "100",
        "time_from": "2023-12-31T23:00:00+00:00",
        "time_to": "2024-01-01T00:00:00+00:00",
    }


async def test_a_long_time_is_asked_for_in_weeks() -> None:
    now = datetime(2024, 1, 31, tzinfo=UTC)
    with respx.mock() as router:
        route = router.get(f"{BASE}/task_runs").respond(200, json={"total": 0, "results": []})
        async with opened() as client:
            assert [page async for page in client.task_runs(time_from=now - timedelta(days=16), time_to=now)] == []
    asked = [[call.request.url.params[name][:10] for name in ("time_from", "time_to")] for call in route.calls]
    assert asked == [["2024-01-15", "2024-01-22"], ["2024-01-22", "2024-01-29"], ["2024-01-29", "2024-01-31"]]


@pytest.mark.parametrize(
    "body",
    [
        {"text": "pipeline:\n  a: {tasks: {}}\n"},
        {"json": "pipeline: {a: {tasks: {}}}"},
        {"json": '{"pipeline": {"a": {"tasks": {}}}}'},
        {"json": {"pipeline": {"a": {"tasks": {}}}}},
        {"json": {"id": "x", "data": {"pipeline": {"a": {"tasks": {}}}}}},
        {"json": {"yaml": "pipeline: {a: {tasks: {}}}"}},
        {"json": {"content": '{"pipeline": {"a": {"tasks": {}}}}'}},
        {"json": ["pipeline"]},
        {"text": "{unfinished"},
    ],
    ids=["yaml", "text of yaml", "text of json", "json", "data", "yaml key", "content", "a list", "nonsense"],
)
async def test_a_definition_comes_in_many_forms(body: dict[str, Any]) -> None:
    with respx.mock() as router:
        route = router.get(f"{BASE}/pipeline/data").respond(200, **body)
        async with opened() as client:
            found = await client.definition("8c6c8a4e-1b1a-4b57-9df2-3a1f2d5f9f10", branch="main")
    expected = None if body in ({"json": ["pipeline"]}, {"text": "{unfinished"}) else {"a": {"tasks": {}}}
    assert (found or {}).get("pipeline") == expected
    assert dict(route.calls.last.request.url.params) == {
        "pipeline_id": "8c6c8a4e-1b1a-4b57-9df2-3a1f2d5f9f10",
        "branch": "main",
    }


def test_the_environment_says_which_workspace() -> None:
    environ = {"ORCHESTRA_API_KEY": KEY, "ORCHESTRA_ENV": "stage", "ORCHESTRA_ACCOUNT_ID": "acc"}
    found = Workspace.of(api_key=None, environ=environ)
    assert found.base_url == "https://stage.getorchestra.io/api/engine/public"
    assert found.run_url("r 1") == "https://stage.getorchestra.io/pipeline-runs/r%201/lineage"
    assert found.account_headers["X-Orchestra-Account-Id"] == "acc"
    assert KEY not in repr(found)
    assert KEY not in redact(f"it said {KEY}")
    other = Workspace.of(api_key="k", base_url="http://localhost:8080/", environ=environ)
    assert other.base_url == "http://localhost:8080/api/engine/public"
    assert other.system != found.system


@pytest.mark.parametrize(
    ("environ", "error", "says"),
    [
        ({}, SecretMissing, "no API key"),
        ({"ORCHESTRA_API_KEY": "two words"}, UsageError, "spaces"),
        ({"ORCHESTRA_API_KEY": "k", "ORCHESTRA_ENV": "prod"}, UsageError, "'prod'"),
        ({"ORCHESTRA_API_KEY": "k", "ORCHESTRA_BASE_URL": "app.getorchestra.io"}, UsageError, "not an address"),
        ({"ORCHESTRA_API_KEY": "k", "ORCHESTRA_BASE_URL": "https://u:p@x"}, UsageError, "password"),
    ],
)
def test_an_environment_that_makes_no_sense(environ: dict[str, str], error: type[RunnerError], says: str) -> None:
    with pytest.raises(error, match=says):
        Workspace.of(api_key=None, environ=environ)
