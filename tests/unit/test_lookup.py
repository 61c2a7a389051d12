"""Finding the run that a start of unknown fate became."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import respx

from orchestra.api.lookup import Fate, Lookup, find_run
from runner.errors import OutcomeUnknown
from runner.testing.clock import ManualClock
from tests.unit.test_orchestra_client import BASE, opened

ID = "8c6c8a4e-1b1a-4b57-9df2-3a1f2d5f9f10"
SHOWN = {"pipeline": {"load": {"tasks": {"pull": {"parameters": {"command": "load ${{ inputs.run_key }}"}}}}}}
HIDDEN = {"pipeline": {"load": {"tasks": {"pull": {"parameters": {}}}}}}


def run(name: str, *triggers: str) -> dict[str, Any]:
    by = [{"triggerType": one} for one in triggers]
    return {"id": name, "pipelineId": ID, "runStatus": "RUNNING", "triggeredBy": by}


@contextmanager
def served(runs: list[dict[str, Any]], keys: dict[str, str], definition: dict[str, Any]) -> Iterator[respx.MockRouter]:
    """Serve runs, newest first, and the run keys that they show."""

    def tasks(request: httpx.Request) -> httpx.Response:
        key = keys.get(request.url.path.split("/")[-2])
        task = {"id": "t", "taskId": "pull", "status": "RUNNING", "taskParameters": {"command": f"load {key}"}}
        return httpx.Response(200, json={"total": 1, "results": [task]} if key else {"total": 0, "results": []})

    with respx.mock(assert_all_called=False) as router:
        router.get(f"{BASE}/pipeline").respond(200, json={"id": ID, "inputs": {"run_key": {"type": "string"}}})
        router.get(f"{BASE}/pipeline/data").respond(200, json=definition)
        router.get(f"{BASE}/pipeline_runs").respond(200, json={"total": len(runs), "results": runs})
        router.get(url__regex=".*/task_runs").mock(side_effect=tasks)
        yield router


@pytest.mark.parametrize(
    ("runs", "keys", "fate"),
    [
        ([], {}, Fate()),
        ([run("r2", "WEBHOOK"), run("r1", "WEBHOOK")], {"r1": "k", "r2": "other"}, Fate("r1")),
        ([run("r2", "RESTART_ALL"), run("r1")], {"r1": "k", "r2": "k"}, Fate("r1")),
        ([run("r2"), run("r1")], {"r1": "other"}, Fate(None, ("r2",))),
        ([run("r1")], {"r1": "other"}, Fate()),
        ([run("r1", "SCHEDULED"), run("r2", "SENSOR"), run("r3", "TRIGGER_EVENT")], {}, Fate()),
        ([run("r1", "TRIGGER_EVENT", "WEBHOOK")], {"r1": "k"}, Fate("r1")),
        ([{**run("r1"), "pipelineId": "another"}], {"r1": "k"}, Fate()),
    ],
    ids=[
        "none",
        "one of two",
        "run again by hand",
        "not shown yet",
        "another",
        "not by a key",
        "a chain",
        "unfiltered",
    ],
)
async def test_a_run_is_found_by_the_value_it_shows(
    runs: list[dict[str, Any]], keys: dict[str, str], fate: Fate
) -> None:
    clock = ManualClock(auto=True)
    with served(runs, keys, SHOWN):
        async with opened(clock) as client:
            assert await find_run(client, "shop", input="run_key", value="k", since=clock.now()) == fate


async def test_runs_that_show_nothing_are_named() -> None:
    clock = ManualClock(auto=True)
    with served([run("r1")], {}, HIDDEN):
        async with opened(clock) as client:
            with pytest.raises(OutcomeUnknown, match="1 of its runs began since") as caught:
                await find_run(client, "shop", input="run_key", value="k", since=clock.now())
    assert "inputs.run_key" in caught.value.advice
    assert caught.value.context["runs"] == ["https://app.getorchestra.io/pipeline-runs/r1/lineage"]


async def test_what_is_too_long_ago_is_not_taken_for_nothing() -> None:
    clock = ManualClock(auto=True)
    with served([], {}, SHOWN):
        async with opened(clock) as client:
            with pytest.raises(OutcomeUnknown, match="more than 7 days ago"):
                await find_run(client, "shop", input="run_key", value="k", since=clock.now() - timedelta(days=8))


async def test_what_is_known_of_a_pipeline_is_kept_for_minutes() -> None:
    clock = ManualClock(auto=True)
    with served([], {}, SHOWN) as router:
        async with opened(clock) as client:
            lookup = Lookup(client, "shop", input="run_key")
            for _ in range(3):
                assert (await lookup.known()).id == ID
            asked = len(router.calls)
            await clock.sleep(301)
            assert (await lookup.known()).uses.visible
            assert (asked, len(router.calls)) == (2, 4)
