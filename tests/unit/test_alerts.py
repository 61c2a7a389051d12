"""Alerts: within Slack's limits, to the right webhook, tried again where that helps, never with an address in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.alerts import Alert, _plan, alerts_of, destinations, send_alerts
from runner.platform import RunReport, TableReport
from runner.testing.clock import ManualClock
from sensors.alert import slack_messages

SLACK = "https://hooks.slack.com/services/T00000000/B00000000/verysecretverysecret"
QUALITY = "https://hooks.slack.com/services/T00000000/B11111111/othersecretothersecret"
ANY = "https://alerts.example.com/in/thirdsecretthirdsecret?token=fourthsecret"
SECRETS = ("verysecret", "othersecret", "thirdsecret", "fourthsecret")


@pytest.fixture
def web() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        for url in (SLACK, QUALITY, ANY):
            router.post(url).respond(200, text="ok")
        yield router


def bodies(web: respx.MockRouter, url: str) -> list[Any]:
    return [json.loads(call.request.content) for call in web.calls if str(call.request.url) == url]


def texts(message: dict[str, Any]) -> list[str]:
    found = []
    for block in message["blocks"]:
        parts = [block.get("text"), *block.get("fields", ()), *block.get("elements", ())]
        found += [part["text"] for part in parts if part]
    return found


async def send(
    *alerts: Alert, clock: ManualClock | None = None, more: dict[str, Any] | None = None, **environ: str
) -> list[str]:
    return await send_alerts(alerts, environ, clock=clock or ManualClock(auto=True), **more or {})


# What Slack is told.


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.builds(
            Alert,
            title=st.text(min_size=1, max_size=300),
            text=st.text(st.sampled_from("&<>a\n🔴"), max_size=3_200),
            facts=st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=400), max_size=14),
            url=st.sampled_from(["", "https://app.example.com/runs/1?a=1&b=<2>"]),
            channels=st.lists(st.text("#ab-", max_size=30), max_size=3).map(tuple),
        ),
        max_size=15,
    )
)
def test_messages_are_within_slacks_limits_and_tell_everything_in_order(alerts: list[Alert]) -> None:
    told: list[Alert] = []
    for own, message in slack_messages(alerts):
        told += own
        assert 1 <= len(message["blocks"]) <= 50
        assert len(json.dumps(message["blocks"], ensure_ascii=False)) <= 12_100
        assert len(message["text"]) <= 1_000
        for block in message["blocks"]:
            if block["type"] == "header":
                assert 1 <= len(block["text"]["text"]) <= 150
            assert 1 <= len(block.get("text", {"text": "x"})["text"]) <= 3_000
            assert len(block.get("fields", ())) <= 10
            assert all(1 <= len(one["text"]) <= 2_000 for one in block.get("fields", ()))
    assert told == alerts


def test_many_small_alerts_take_few_messages() -> None:
    alerts = [
        Alert(f"dbt test failed: {number}", "Rows that do not pass: 3.", key=str(number)) for number in range(100)
    ]
    messages = list(slack_messages(alerts))
    assert len(messages) <= 5
    assert [alert.key for own, _ in messages for alert in own] == [str(number) for number in range(100)]


def test_nobody_is_mentioned_by_what_a_database_says() -> None:
    ((_, message),) = slack_messages(
        [Alert("<!channel> & co", "near <!here>", facts={"a": "<@U1>"}, channels=("<#C1>",))]
    )
    assert "<!channel>" not in message["text"]
    assert "&lt;!channel&gt; &amp; co" in message["text"]
    for block in message["blocks"]:
        kinds = [part["type"] for part in [block.get("text"), *block.get("fields", ())] if part]
        assert set(kinds) <= {"plain_text"}
    assert texts(message)[-1] == "#&lt;#C1&gt;"


# Who is told.


async def test_channels_are_routed_and_each_webhook_is_told_a_thing_once(web: respx.MockRouter) -> None:
    alerts = [
        Alert("one", channels=("#data-quality",), key="1"),
        Alert("two", channels=("data.quality", "unknown"), key="2"),
        Alert("three", key="3"),
        Alert("three again", key="3"),
        Alert("both unknown", channels=("x", "y"), key="4"),
    ]
    environ = {"ALERTS_SLACK_WEBHOOK": SLACK, "ALERTS_SLACK_WEBHOOK_DATA_QUALITY": QUALITY, "ALERTS_WEBHOOK": ANY}
    assert await send(*alerts, **environ) == []
    (quality,), (general,), (everything,) = (bodies(web, url) for url in (QUALITY, SLACK, ANY))
    assert quality["text"] == "🔴 one\n🔴 two"
    assert general["text"] == "🔴 two\n🔴 three\n🔴 both unknown"
    assert [alert["key"] for alert in everything["alerts"]] == ["1", "2", "3", "4"]
    assert everything["alerts"][1] == {
        "title": "two",
        "text": "",
        "severity": "error",
        "facts": {},
        "url": "",
        "key": "2",
        "channels": ["data.quality", "unknown"],
    }


async def test_without_a_webhook_nothing_happens(web: respx.MockRouter) -> None:
    assert await send(Alert("one"), ALERTS_SLACK_WEBHOOK="", OTHER="x") == []
    assert await send(ALERTS_SLACK_WEBHOOK=SLACK) == []
    assert not web.calls


async def test_what_nobody_is_told_is_a_problem(web: respx.MockRouter) -> None:
    environ = {"ALERTS_SLACK_WEBHOOK_DATA_QUALITY": QUALITY}
    problems = await send(Alert("a", channels=("shop",)), Alert("b"), Alert("c", channels=("data-quality",)), **environ)
    assert problems == [
        "ALERTS_SLACK_WEBHOOK_SHOP is not set, nor is ALERTS_SLACK_WEBHOOK: nobody was told.",
        "ALERTS_SLACK_WEBHOOK is not set: nobody was told what has no channel.",
    ]
    assert len(web.calls) == 1


# What can go wrong.


@pytest.mark.parametrize(
    ("answers", "calls", "says"),
    [
        ([httpx.Response(500), httpx.Response(200)], 2, None),
        ([httpx.ReadTimeout("slow"), httpx.ConnectError("no"), httpx.Response(429), httpx.Response(200)], 4, None),
        ([httpx.Response(503)] * 4, 4, "hooks.slack.com said 503."),
        ([httpx.ConnectError("no way")] * 4, 4, "did not answer (ConnectError)"),
        (
            [httpx.Response(404, text="no_service")],
            1,
            "1 alert was not delivered: hooks.slack.com said 404: no_service",
        ),
        ([httpx.Response(400, text=f"invalid_payload at {SLACK}")], 1, "invalid_payload at ***"),
        ([httpx.Response(302, headers={"Location": "https://evil.example.com"})], 1, "said 302"),
        ([ValueError(f"odd: {SLACK}")], 1, "odd: ***"),
    ],
)
async def test_what_an_answer_means(answers: list[Any], calls: int, says: str | None, web: respx.MockRouter) -> None:
    route = web.post(SLACK).mock(side_effect=answers)
    problems = await send(Alert("one"), ALERTS_SLACK_WEBHOOK=SLACK)
    assert route.call_count == calls
    assert (says is None) == (problems == [])
    assert all(says in problem for problem in problems if says)
    assert not any(secret in str(problems) for secret in SECRETS)


async def test_retry_after_is_waited_for_while_there_is_time(web: respx.MockRouter) -> None:
    slow = httpx.Response(429, headers={"Retry-After": "7"})
    web.post(SLACK).mock(side_effect=[slow, httpx.Response(200)])
    clock = ManualClock(auto=True)
    assert await send(Alert("one"), clock=clock, ALERTS_SLACK_WEBHOOK=SLACK) == []
    assert clock.slept == [7.0]
    route = web.post(SLACK).mock(side_effect=[httpx.Response(429, headers={"Retry-After": "60"})])
    before = route.call_count
    (problem,) = await send(Alert("one"), clock=clock, ALERTS_SLACK_WEBHOOK=SLACK)
    assert "no time left" in problem
    assert route.call_count == before + 1
    assert clock.slept == [7.0]


async def test_a_webhook_that_hangs_takes_no_longer_than_its_time(web: respx.MockRouter) -> None:
    import anyio

    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    web.post(SLACK).mock(side_effect=hang)
    problems = await send(
        Alert("one"), Alert("two"), more={"timeout": 0.01}, ALERTS_SLACK_WEBHOOK=SLACK, ALERTS_WEBHOOK=ANY
    )
    assert problems == [
        "ALERTS_SLACK_WEBHOOK: 2 alerts were not delivered: hooks.slack.com did not answer (TimeoutError)."
    ]
    assert len(bodies(web, ANY)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "hooks.slack.com/services/verysecretverysecret",
        "ftp://x/verysecretverysecret",
        "https://[x/verysecretverysecret",
        "https://x:y/verysecretverysecret",
        "https://x/very\nsecretverysecret",
    ],
)
async def test_an_address_that_is_none(url: str, web: respx.MockRouter) -> None:
    problems = await send(Alert("one"), ALERTS_SLACK_WEBHOOK=url, ALERTS_WEBHOOK=ANY)
    assert problems == ["ALERTS_SLACK_WEBHOOK is no address. 1 alert was not delivered."]
    assert len(bodies(web, ANY)) == 1


async def test_what_is_sent_holds_no_secret(web: respx.MockRouter) -> None:
    alert = Alert("password=hunter22", f"posted to {SLACK}", facts={"dsn": "postgresql://a:hunter22@host/x"})
    assert await send(alert, ALERTS_SLACK_WEBHOOK=SLACK, ALERTS_WEBHOOK=ANY) == []
    sent = b"".join(call.request.content for call in web.calls)
    assert b"hunter22" not in sent
    assert not any(secret.encode() in sent for secret in SECRETS)


async def test_after_one_message_that_fails_the_rest_is_counted(web: respx.MockRouter) -> None:
    route = web.post(SLACK).mock(side_effect=[httpx.Response(200), httpx.Response(403, text="action_prohibited")])
    alerts = [Alert(str(number), "x" * 2_900) for number in range(10)]
    (problem,) = await send(*alerts, ALERTS_SLACK_WEBHOOK=SLACK)
    assert "7 alerts were not delivered" in problem
    assert route.call_count == 2


# What a run has to tell.


def report(**more: Any) -> RunReport:
    return RunReport(**{"job": "shop", "command": "task", "exit_code": 0, "run": "r1", "seconds": 61.4, **more})


def table(name: str, state: str = "failed", **more: Any) -> TableReport:
    return TableReport(name, f"raw.{name}", state, **more)


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_is_done_or_goes_on_has_nothing_to_tell(code: int) -> None:
    assert alerts_of(report(exit_code=code, tables=[table("a", "published"), table("b", "parked")])) == []


def test_tables_that_failed_are_told_with_what_to_do() -> None:
    tables = [table(f"t{number}", error="The disk is full.", advice="Free some space.") for number in range(12)]
    (alert,) = alerts_of(report(exit_code=1, tables=[*tables, table("fine", "published")]), url="https://x/run")
    assert alert.title == "shop: 12 of 13 tables failed"
    assert alert.text.splitlines()[:2] == ["t0: The disk is full.", "Free some space."]
    assert alert.text.endswith("… and 2 more.")
    assert alert.text.count("Free some space.") == 10
    assert (alert.severity, alert.url, alert.key) == ("error", "https://x/run", "shop:r1:failed")
    assert alert.facts == {
        "job": "shop",
        "command": "task",
        "exit code": "1",
        "run": "r1",
        "tables": "13",
        "seconds": "61",
    }


def test_one_table_is_named() -> None:
    (alert,) = alerts_of(report(exit_code=1, tables=[table("public.orders", error="No.")]))
    assert alert.title == "shop: public.orders failed"


def test_nothing_could_start() -> None:
    (alert,) = alerts_of(report(exit_code=2, run="", error="The password was rejected.", advice="Check it."))
    assert (alert.title, alert.text) == ("shop: nothing could start", "The password was rejected.\nCheck it.")
    (again,) = alerts_of(report(exit_code=2, run="", error="Another reason."))
    assert alert.key != again.key


def test_a_run_that_failed_beside_its_tables() -> None:
    (alert,) = alerts_of(report(exit_code=1, tables=[table("a", "published")], error="dbt failed."))
    assert (alert.title, alert.text) == ("shop: the run failed", "dbt failed.")


def test_drift_is_a_warning_with_the_same_key_every_day() -> None:
    drift = {"public.orders": "column note is new", "public.old": "is gone"}
    (first,), (second,) = (alerts_of(report(run=run, drift=drift)) for run in ("r1", "r2"))
    assert first.severity == "warning"
    assert first.text == "public.orders: column note is new\npublic.old: is gone"
    assert first.key == second.key
    (other,) = alerts_of(report(drift={"public.old": "is gone"}))
    assert other.key != first.key


def test_names_of_channels_are_told_apart_by_their_letters_and_addresses_once() -> None:
    alert = Alert("late", key="k", channels=("data-quality", "other"))
    [(place, told)], problems = _plan(
        [alert], destinations({"ALERTS_SLACK_WEBHOOK_data_quality": "https://hooks.example/a"})
    )
    assert (place.channel, told, problems) == ("DATA_QUALITY", [alert], [])
    same = dict.fromkeys(("ALERTS_SLACK_WEBHOOK", "ALERTS_SLACK_WEBHOOK_DATA_QUALITY"), "https://hooks.example/a")
    [(_, told)], problems = _plan([alert], destinations(same))
    assert (told, problems) == ([alert], [])
