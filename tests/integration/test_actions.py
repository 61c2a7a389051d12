"""What is done with an event: webhooks on a real server, commands as real processes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.testing.double import Double
from runner.clock import SystemClock
from runner.errors import DeliveryRefused, NotDelivered, UsageError
from runner.secrets import redact
from sensors.action import Action, Delivery
from sensors.actions.command import Command
from sensors.actions.slack import Slack
from sensors.actions.webhook import Webhook
from sensors.delivery import ALERTS
from sensors.room import Room

DELIVERY = Delivery(
    "files", "files:a.csv@1", {"path": "a b.csv", "size": 3, "rows": [1, 2]}, datetime(2026, 1, 1, tzinfo=UTC)
)


class Hook(Double):
    """Takes everything."""

    def routes(self) -> Iterable[web.RouteDef]:
        async def take(_: web.Request) -> web.Response:
            return web.json_response({"ok": True})

        return [web.post("/hook/{secret}", take)]


async def send(action: type[Action[Any]], options: dict[str, Any], folder: Path, delivery: Delivery = DELIVERY) -> Any:
    async with Room(SystemClock()) as room:
        return await action(options, room, folder).send(delivery)


async def test_a_webhook_is_told_the_event_and_its_run_key(tmp_path: Path) -> None:
    with Hook() as hook:
        await send(Webhook, {"url": f"{hook.url}/hook/s3cr3t", "headers": {"X-Team": "data"}}, tmp_path)
        (seen,) = hook.seen
    headers = {name.lower(): value for name, value in seen.headers.items()}
    assert headers["idempotency-key"] == "files:a.csv@1"
    assert headers["x-team"] == "data"
    body = json.loads(seen.body)
    assert (body["run_key"], body["values"]["path"], body["at"]) == (
        "files:a.csv@1",
        "a b.csv",
        "2026-01-01T00:00:00+00:00",
    )


async def test_a_body_of_ones_own(tmp_path: Path) -> None:
    with Hook() as hook:
        body = {"text": "{path} has {size} bytes", "rows": "{rows}", "key": "{run_key}"}
        await send(Webhook, {"url": f"{hook.url}/hook/x", "body": body}, tmp_path)
        await send(Slack, {"url": f"{hook.url}/hook/x", "text": "{sensor}: {path}"}, tmp_path)
        await send(Slack, {"url": f"{hook.url}/hook/x"}, tmp_path)
        own, text, plain = (json.loads(one.body) for one in hook.seen)
    assert own == {"text": "a b.csv has 3 bytes", "rows": [1, 2], "key": "files:a.csv@1"}
    assert text == {"text": "files: a b.csv"}
    assert plain == {"text": "files: files:a.csv@1"}


async def test_slack_is_told_an_alert_as_every_other_alert_is(tmp_path: Path) -> None:
    values = {
        "alert": "failing",
        "sensor": "files",
        "file": "shop",
        "message": "3 polls in a row failed: <!channel>",
        "text": "shop: files: 3 polls in a row failed: <!channel>",
        "at": "2026-01-01T00:00:00+00:00",
    }
    delivery = Delivery(ALERTS, "shop:failing:files:1", values, datetime(2026, 1, 1, tzinfo=UTC))
    with Hook() as hook:
        await send(Slack, {"url": f"{hook.url}/hook/x"}, tmp_path, delivery)
        await send(Slack, {"url": f"{hook.url}/hook/x", "text": "{message}"}, tmp_path, delivery)
        own, text = (json.loads(one.body) for one in hook.seen)
    assert own["text"] == "🔴 shop: files: failing"
    header, section, _ = own["blocks"]
    assert header["text"]["text"] == "🔴 shop: files: failing"
    assert section["text"] == {"type": "plain_text", "text": "3 polls in a row failed: <!channel>", "emoji": False}
    assert text == {"text": "3 polls in a row failed: <!channel>"}


@pytest.mark.parametrize(
    ("fault", "error", "after"),
    [
        ({"kind": "status", "status": 429, "headers": {"Retry-After": "30"}}, NotDelivered, 30.0),
        ({"kind": "status", "status": 503}, NotDelivered, None),
        ({"kind": "reset"}, NotDelivered, None),
        ({"kind": "status", "status": 400, "body": "no such channel"}, DeliveryRefused, None),
        ({"kind": "status", "status": 404}, DeliveryRefused, None),
    ],
    ids=["429", "503", "reset", "400", "404"],
)
async def test_what_an_answer_means(tmp_path: Path, fault: dict[str, Any], error: type, after: float | None) -> None:
    with Hook() as hook:
        hook.fail(path="/hook", times=9, **fault)
        with pytest.raises(error) as caught:
            await send(Webhook, {"url": f"{hook.url}/hook/s3cr3t-{'x' * 20}"}, tmp_path)
        assert hook.count("/hook") == 1
    if after is not None:
        assert caught.value.retry_after == after
    # What the url leads to is a secret in all that is written.
    assert "s3cr3t" not in redact(caught.value.message)


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered):
        await send(Webhook, {"url": "http://127.0.0.1:9/hook"}, tmp_path)
    with pytest.raises(UsageError):
        await send(Webhook, {"url": "hooks.example.org"}, tmp_path)


async def test_a_command_has_the_event_in_its_environment(tmp_path: Path) -> None:
    script = "import os, json; print(os.environ['RUN_KEY'], json.loads(os.environ['EVENT'])['rows'], os.environ['EVENT_PATH'])"
    sent = await send(Command, {"command": ["python3", "-c", script, "{path}"]}, tmp_path)
    assert sent.outputs == {"exit_code": 0, "output": "files:a.csv@1 [1, 2] a b.csv"}


async def test_values_stay_one_argument_and_no_shell_runs_them(tmp_path: Path) -> None:
    delivery = Delivery("s", "k", {"path": "a; touch hacked $(touch hacked)"}, datetime.now(UTC))
    sent = await send(Command, {"command": "printf [%s] {path}"}, tmp_path, delivery)
    assert sent.outputs["output"] == "[a; touch hacked $(touch hacked)]"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"command": "sh -c 'echo went wrong >&2; exit 3'"}, NotDelivered, "exit code 3: went wrong"),
        ({"command": "no-such-program"}, DeliveryRefused, "cannot be started"),
        ({"command": "sleep 60", "timeout": "200ms"}, NotDelivered, "did not end within 0.2 s"),
        ({"command": "echo {pth}"}, UsageError, "Did you mean 'path'"),
    ],
    ids=["fails", "missing", "hangs", "template"],
)
async def test_what_goes_wrong_with_commands(tmp_path: Path, options: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        await send(Command, options, tmp_path)


@pytest.mark.parametrize("command", ["echo $RUN_KEY", "echo x > out.txt", "echo x >> out.txt", "a && b", "a | b"])
def test_what_only_a_shell_would_understand_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(ValueError, match="no shell runs it"):
        Command({"command": command}, Room(SystemClock()), tmp_path)
    Command({"command": f"sh -c '{command}'"}, Room(SystemClock()), tmp_path)


async def test_a_short_path_of_a_webhook_hides_no_words(tmp_path: Path) -> None:
    with Hook() as hook:
        await send(Webhook, {"url": f"{hook.url}/hook/orders"}, tmp_path)
    assert redact("orders: fired, run key hook/orders:1") == "orders: fired, run key hook/orders:1"
