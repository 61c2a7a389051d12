"""Waiting for a run: how often it is looked at, what is waited out, what ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import httpx
import pytest
import respx

from orchestra.api import waiting
from orchestra.api.models import PipelineRun
from runner.errors import CredentialsRejected, PollTimedOut, RequestRefused, RetryBudgetSpent, SourceDown
from runner.testing.clock import ManualClock
from tests.unit.test_orchestra_client import BASE, opened

CREATED = "2024-01-01T00:00:00+00:00"
RUN = f"{BASE}/pipeline_runs/r1"


def status(name: str, *, completed: bool = True, **more: Any) -> httpx.Response:
    over = {"completedAt": "2024-01-01T00:10:00Z"} if completed and name in ("SUCCEEDED", "FAILED") else {}
    return httpx.Response(200, json={"id": "r1", "runStatus": name, "createdAt": CREATED, **over, **more})


async def waited(
    answers: Iterable[Any], clock: ManualClock, *, deadline: float | None = None, seen: Callable[[PipelineRun], None]
) -> PipelineRun:
    # What the transport itself tries again is not what is tested here.
    with respx.mock(assert_all_called=False) as router:
        router.get(RUN).mock(side_effect=answers)
        router.get(f"{RUN}/status").respond(404)
        async with opened(clock) as client:
            return await client.wait("r1", deadline=deadline, seen=seen)


async def looks(answers: Iterable[Any], clock: ManualClock | None = None, **more: Any) -> tuple[PipelineRun, list[str]]:
    said: list[str] = []
    found = await waited(answers, clock or ManualClock(auto=True), seen=lambda run: said.append(run.run_status), **more)
    return found, said


@pytest.mark.parametrize("end", ["SUCCEEDED", "WARNING", "SKIPPED", "FAILED", "CANCELLED"])
async def test_a_run_is_waited_for_however_it_ends(end: str) -> None:
    middle = ["CREATED", "QUEUED", "RUNNING", "PREPARING", "CANCELLING"]
    found, said = await looks([status(name) for name in (*middle, end)])
    assert (found.run_status, found.over) == (end, True)
    assert said == [*middle, end], "a status that is not known is none that ends a run"


async def test_it_looks_often_at_first_and_seldom_later() -> None:
    clock = ManualClock(auto=True)
    await looks([*[status("RUNNING")] * 60, status("SUCCEEDED")], clock)
    assert len(clock.slept) == 60
    assert all(1 <= pause <= 2 for pause in clock.slept[:5])
    assert all(24 <= pause <= 36 for pause in clock.slept[-5:])
    assert len(set(clock.slept)) == 60, "thousands that began together do not stay together"
    assert sum(clock.slept) > 600


async def test_an_old_run_is_not_hurried() -> None:
    clock = ManualClock(auto=True)
    old = {"createdAt": "2023-12-31T00:00:00Z"}
    await looks([status("RUNNING", **old), status("FAILED", **old)], clock)
    assert 24 <= clock.slept[0] <= 36


async def test_a_success_that_comes_too_early_is_looked_at_again() -> None:
    early = status("SUCCEEDED", completed=False)
    found, said = await looks([early, status("RUNNING"), status("RUNNING"), status("FAILED")])
    assert found.run_status == "FAILED"
    assert said == ["SUCCEEDED", "RUNNING", "RUNNING", "FAILED"]


async def test_an_api_that_never_says_when_it_ended_is_believed_in_the_end() -> None:
    clock = ManualClock(auto=True)
    found, said = await looks(itertools.repeat(status("SUCCEEDED", completed=False)), clock)
    assert found.run_status == "SUCCEEDED"
    assert 10 <= sum(clock.slept) < 15
    assert len(said) > 3
    # What failed is not doubted.
    _, said = await looks([httpx.Response(200, json={"id": "r1", "runStatus": "CANCELLED"})])
    assert len(said) == 1


async def test_what_passes_is_waited_out() -> None:
    clock = ManualClock(auto=True)
    faults = [
        *[httpx.Response(502)] * 9,
        httpx.ReadError("reset"),
        httpx.Response(429, headers={"Retry-After": "100"}),
        httpx.Response(429, headers={"Retry-After": "4000"}),
        httpx.Response(404),
        httpx.ConnectError("refused"),
    ]
    found, said = await looks([status("RUNNING"), *faults, status("SUCCEEDED")], clock)
    assert found.run_status == "SUCCEEDED"
    assert said == ["RUNNING", "SUCCEEDED"]
    assert any(pause >= 100 for pause in clock.slept), "the pause is kept"
    assert any(pause >= 4000 for pause in clock.slept), "even one that is too long for a request to wait for"


async def test_an_outage_ends_a_wait_without_a_deadline() -> None:
    clock = ManualClock(auto=True)
    with pytest.raises((SourceDown, RetryBudgetSpent)):
        await looks(itertools.chain([status("RUNNING")], itertools.repeat(httpx.Response(502))), clock)
    assert 900 <= sum(clock.slept) < 1200


async def test_a_key_that_is_taken_away_ends_it_at_once() -> None:
    clock = ManualClock(auto=True)
    with pytest.raises(CredentialsRejected):
        await looks([status("RUNNING"), httpx.Response(401)], clock)
    assert len(clock.slept) == 1


async def test_a_deadline_is_kept() -> None:
    clock = ManualClock(auto=True)
    with pytest.raises(PollTimedOut, match=r"run r1 was not over after 100 seconds: it is RUNNING") as caught:
        await looks(itertools.repeat(status("RUNNING")), clock, deadline=100)
    assert sum(clock.slept) == pytest.approx(100)
    assert "/pipeline-runs/r1/lineage" in caught.value.advice
    with pytest.raises(PollTimedOut, match="it was not seen"):
        await looks(itertools.repeat(httpx.Response(502)), ManualClock(auto=True), deadline=50)
    # Even without any time it looks once.
    found, _ = await looks([status("SUCCEEDED")], deadline=0)
    assert found.over


async def test_a_look_that_hangs_does_not_outlive_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_ONE_LOOK", 0.05)

    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    clock = ManualClock(auto=True)
    with respx.mock(assert_all_called=False) as router:
        router.get(RUN).mock(side_effect=hang)
        async with opened(clock, timeout=60) as client:
            with anyio.fail_after(20), pytest.raises(PollTimedOut):
                await client.wait("r1", deadline=0.1)


async def test_a_run_that_is_not_there_is_an_error_in_words() -> None:
    clock = ManualClock(auto=True)
    with pytest.raises(RequestRefused, match="There is no run r1 in this workspace\\."):
        await looks(itertools.repeat(httpx.Response(404)), clock)
    assert 60 <= sum(clock.slept) < 90, "it may only not be shown yet"
    clock = ManualClock(auto=True)
    with pytest.raises(RequestRefused, match="any more; it was RUNNING"):
        await looks(itertools.chain([status("RUNNING")], itertools.repeat(httpx.Response(404))), clock)
    assert sum(clock.slept) < 30
