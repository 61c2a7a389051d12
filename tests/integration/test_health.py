"""The server that watches over sensors, as a monitor, a person and a hostile page reach it."""

import asyncio
import gzip
import json
import shutil
import subprocess
from datetime import UTC, datetime

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from runner.clock import SystemClock
from runner.errors import UsageError
from runner.testing.clock import ManualClock
from sensors.board import Board
from sensors.decision import decide
from sensors.health import serve
from sensors.status import Status
from sensors.store import Fired, Store


def board_of(clock, *names):
    board, at = Board("shop", clock, "sensors/shop.yml"), clock.now().timestamp()
    for name in names:
        board.statuses[name] = Status(name, "files", 10.0, last_poll=at, last_success=at, alive_by=at + 30)
    return board


async def get(url, status=200, **headers):
    headers = {"Accept-Encoding": "identity", **headers}
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url, headers=headers) as answer:
        assert answer.status == status
        return await answer.read(), answer.headers


async def test_healthz_is_of_the_sensors_not_of_the_process():
    clock = ManualClock()
    board = board_of(clock, "orders", "files")
    async with serve(board, clock, port=0) as url:
        assert json.loads((await get(f"{url}/healthz"))[0]) == {
            "status": "alive", "file": "shop", "refused": None, "sensors": 2, "failing": 0, "dead": 0, "names": [],
            "last_success": clock.now().timestamp(),
        }  # fmt: skip
        await clock.advance(20)
        board.statuses["files"].alive_by = clock.now().timestamp() + 30
        await clock.advance(20)
        answer = json.loads((await get(f"{url}/healthz", 503))[0])
        assert (answer["status"], answer["names"]) == ("dead", ["orders"])
        board.statuses["orders"].alive_by = clock.now().timestamp() + 30
        await get(f"{url}/healthz")


async def test_metrics_in_the_format_that_was_asked_for():
    clock = ManualClock()
    async with serve(board_of(clock, 'a "b"\n'), clock, port=0) as url:
        text, headers = await get(f"{url}/metrics")
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert any(s.labels.get("sensor") == 'a "b"\n' for f in read_prometheus(text.decode()) for s in f.samples)
        asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
        text, headers = await get(f"{url}/metrics", **{"Accept": asked, "Accept-Encoding": "gzip"})
        assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert list(read_openmetrics(gzip.decompress(text).decode()))


async def test_another_site_reads_nothing_and_nobody_writes():
    clock = ManualClock()
    async with serve(board_of(clock, "orders"), clock, port=0, names=["watch.example.com"]) as url:
        for path in ("/", "/healthz", "/metrics", "/api/sensors", "/api/board"):
            body, _ = await get(url + path, 421, Host="rebound.evil.com")
            assert b"orders" not in body
            _, headers = await get(url + path, Host="watch.example.com")
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in headers
        async with aiohttp.ClientSession() as session, session.post(f"{url}/api/sensors") as answer:
            assert answer.status == 405
        await get(f"{url}/api/sensors?state=ill", 400)


async def test_the_page_needs_nothing_from_elsewhere():
    clock = ManualClock()
    async with serve(board_of(clock), clock, port=0) as url:
        page = (await get(url))[0].decode()
    assert "src=" not in page
    assert "@import" not in page
    assert {part.split('"')[0] for part in page.split('href="')[1:]} == {
        "data:,",
        "#table",
        "healthz",
        "metrics",
        "api/sensors",
    }


async def test_a_decision_of_another_process_is_seen(tmp_path):
    clock, now = ManualClock(), datetime.now(UTC)
    board = board_of(clock, "orders")
    board.outbox.update(delivered=5, sending=1)
    store = Store(tmp_path / "shop.sqlite")
    await store.polled("orders", None, {}, [Fired("k1", {}, ["load"])], now)
    await store.change(1, state="unknown", error="The connection broke: token=abc123")
    async with serve(board, clock, port=0, store=store.path) as url:
        answer = json.loads((await get(f"{url}/api/board"))[0])
        assert [(one["run_key"], one["error"]) for one in answer["held"]] == [("k1", "The connection broke: token=***")]
        assert answer["outbox"] == {"delivered": 5, "pending": 0, "sending": 0, "unknown": 1, "failed": 0}
        await asyncio.to_thread(decide, store.path, "resend", "k1", now)
        await clock.advance(2)
        answer = json.loads((await get(f"{url}/api/board"))[0])
        assert (answer["held"], answer["outbox"]["pending"], answer["outbox"]["unknown"]) == ([], 1, 0)
    store.close()


async def test_a_port_that_is_taken_is_named():
    clock = ManualClock()
    async with serve(board_of(clock), clock, port=0) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"127.0.0.1, port {port}"):
            async with serve(board_of(clock), clock, port=port):
                pass


async def test_the_page_in_a_browser(tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    clock = SystemClock()
    board = board_of(clock, "orders", "<img src=x onerror=document.title=1>")
    board.statuses["orders"].failures, board.statuses["orders"].error = 3, "Nothing answers at db7, port 5432."
    async with serve(board, clock, port=0) as url:
        process = await asyncio.create_subprocess_exec(
            browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=1500", "--dump-dom", f"{url}/?state=failing&q=db7",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        page = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
    assert "<title>1 of 2 sensors is failing · shop</title>" in page
    assert '<tbody role="rowgroup" class="failing">' in page
    assert "Nothing answers at db7, port 5432.</p>" in page
    assert "<output>1 of 2</output>" in page
    assert "<img" not in page
