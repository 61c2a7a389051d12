"""Outputs of a task: names that Orchestra takes, and failures that are warnings."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import httpx
import pytest
import respx

from orchestra.outputs import output_name, set_outputs
from orchestra.webhook import ADDRESS as WEBHOOK

RUN = "8c6c8a4e-1b1a-4b57-9df2-3a1f2d5f9f10"
ENVIRON = {"ORCHESTRA_TASK_RUN_ID": RUN, "ORCHESTRA_API_KEY": "sk-orchestra-0815"}


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("rows", "rows"),
        ("rows_loaded", "rows_loaded"),
        ("public.orders", "public_orders"),
        ("rows/2", "rows_two"),
        ("v10", "v_one_zero"),
        ("größe", "gr_e"),
        ("2024", "two_zero_two_four"),
        ("--", "_"),
    ],
)
def test_names_are_letters_and_underscores(name: str, spelled: str) -> None:
    assert output_name(name) == spelled


async def test_every_output_is_an_event() -> None:
    with respx.mock() as router:
        route = router.post(WEBHOOK).respond(200, json={"success": True})
        assert await set_outputs({"rows": 5, "by.table": {"orders": 3}}, ENVIRON) == []
    assert [json.loads(call.request.content) for call in route.calls] == [
        {"event_type": "SET_OUTPUT", "task_run_id": RUN, "metadata": {}, "output_name": name, "output_value": value}
        for name, value in (("rows", 5), ("by_table", {"orders": 3}))
    ]
    assert route.calls.last.request.headers["Authorization"] == "Bearer sk-orchestra-0815"


@pytest.mark.parametrize("environ", [{}, {"ORCHESTRA_API_KEY": "k"}, {"ORCHESTRA_TASK_RUN_ID": ""}])
async def test_outside_orchestra_nothing_happens(environ: dict[str, str]) -> None:
    with respx.mock(assert_all_called=False) as router:
        route = router.route()
        assert await set_outputs({"rows": 5}, environ) == []
    assert not route.called


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ORCHESTRA_API_KEY": ""}, "ORCHESTRA_API_KEY is not set"),
        ({"ORCHESTRA_TASK_RUN_ID": "local"}, "no id of a task run"),
        ({"ORCHESTRA_WEBHOOK_URL": "webhook"}, "no address"),
        ({"ORCHESTRA_API_KEY": "a\nb"}, "no key holds"),
    ],
)
async def test_an_environment_that_makes_no_sense_is_a_warning(more: dict[str, str], says: str) -> None:
    (warning,) = await set_outputs({"rows": 5}, {**ENVIRON, **more})
    assert says in warning


@pytest.mark.parametrize(
    ("answers", "calls", "says"),
    [
        ([httpx.Response(503), httpx.Response(200)], 2, None),
        ([httpx.Response(429), httpx.ReadTimeout("slow"), httpx.Response(200)], 3, None),
        ([httpx.ConnectError("no")] * 3, 3, "did not answer"),
        ([httpx.Response(500, text="key sk-orchestra-0815")] * 3, 3, "said 500: key ***"),
        ([httpx.Response(404, json={"success": False, "code": "TASK_NOT_FOUND"})], 1, "TASK_NOT_FOUND"),
        ([ValueError("odd")], 1, "odd"),
    ],
)
async def test_a_failure_is_a_warning(answers: list[Any], calls: int, says: str | None) -> None:
    with respx.mock() as router:
        route = router.post(WEBHOOK).mock(side_effect=answers)
        warnings = await set_outputs({"rows": 5}, ENVIRON, first_wait=0.0)
    assert route.call_count == calls
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]


async def test_what_does_not_fit_is_left_out_and_the_rest_is_set() -> None:
    loop: list[Any] = []
    loop.append(loop)
    outputs = {"a": 1, "A!": 2, "big": "x" * 5_000_000, "nan": math.nan, "loop": loop, "at": object, "z": 3}
    with respx.mock() as router:
        route = router.post(WEBHOOK).respond(200)
        warnings = await set_outputs(outputs, ENVIRON)
    assert [json.loads(call.request.content)["output_name"] for call in route.calls] == ["a", "at", "z"]
    assert [warning.split("'")[2] for warning in warnings] == ["A!", "big", "nan", "loop"]


async def test_all_of_it_has_a_deadline() -> None:
    import anyio

    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    with respx.mock(assert_all_called=False) as router:
        router.post(WEBHOOK).mock(side_effect=hang)
        assert await set_outputs({"a": 1, "b": 2}, ENVIRON, deadline=0.2) == [
            "Orchestra was not told in time: the output a, the output b."
        ]


def test_the_platform_is_loaded_without_what_only_outputs_need() -> None:
    code = (
        "import sys; from runner.plugins import load_plugin; p = load_plugin('runner.platforms', 'orchestra'); "
        "assert 'httpx' not in sys.modules; assert callable(p.linked_options) and callable(p.set_outputs)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
