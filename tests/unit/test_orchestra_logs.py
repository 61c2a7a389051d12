"""Logs by Range: each byte once, whatever the server does, and to the end."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx

from orchestra.api import logs
from runner.errors import CredentialsRejected, PollTimedOut, RequestRefused, RunnerError, SourceDown
from runner.testing.clock import ManualClock
from tests.unit.test_orchestra_client import BASE, opened

TASK = f"{BASE}/pipeline_runs/r1/task_runs/t1"
NAME = "1/dbt run --select é"


class LogServer:
    """A log that grows with each look at it.

    Args:
        parts: What is there at each look; after the last the log is done.
        ranged: Whether it reads Range.
        end: What it answers past the end: 416, 204 or 500.
        said: Whether it says X-File-Status.
        over: Whether the task run is over; before that its status is RUNNING.
    """

    def __init__(
        self, *parts: bytes, ranged: bool = True, end: int = 416, said: bool = True, over: bool = True
    ) -> None:
        self.parts, self.ranged, self.end, self.said, self.over = list(parts), ranged, end, said, over
        self.there = b""
        self.asked: list[str] = []
        self.faults: list[Any] = []
        self.missing = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.params["filename"] == NAME
        assert request.headers["Accept-Encoding"] == "identity"
        self.asked.append(request.headers["Range"])
        if self.missing > 0:
            self.missing -= 1
            return httpx.Response(404, json={"detail": "Not found"})
        if self.parts:
            self.there += self.parts.pop(0)
        if self.faults and (fault := self.faults.pop(0)) is not None:
            if isinstance(fault, Exception):
                raise fault
            return fault
        found = re.fullmatch(r"bytes=(\d+)-", self.asked[-1])
        assert found
        at, total = int(found[1]), len(self.there)
        headers = {"X-File-Status": "writing" if self.parts else "DONE"} if self.said else {}
        if not self.ranged:
            return httpx.Response(200, content=self.there, headers=headers)
        if at >= total:
            if self.end == 500:
                return httpx.Response(500, json={"detail": "Failed to download log file from S3"}, headers=headers)
            return httpx.Response(self.end, headers={**headers, "Content-Range": f"bytes */{total}"})
        return httpx.Response(
            206, content=self.there[at:], headers={**headers, "Content-Range": f"bytes {at}-{total - 1}/{total}"}
        )

    def tasks(self, _: httpx.Request) -> httpx.Response:
        task = {"id": "t1", "status": "SUCCEEDED" if self.over and not self.parts else "RUNNING"}
        return httpx.Response(200, json={"total": 1, "results": [task]})


async def read(
    server: Callable[[httpx.Request], Any], clock: ManualClock | None = None, run: Any = None, **more: Any
) -> bytes:
    found = b""
    with respx.mock(assert_all_called=False) as router:
        router.get(f"{BASE}/pipeline_runs/r1").mock(side_effect=run)
        router.get(f"{TASK}/logs/download").mock(side_effect=server)
        router.get(f"{BASE}/task_runs", params={"task_run_ids": "t1"}).mock(side_effect=getattr(server, "tasks", None))
        router.get(f"{TASK}/logs").respond(200, json={"filenames": ["1/dbt run --select e"]})
        async with opened(clock) as client, contextlib.aclosing(client.log("r1", "t1", NAME, **more)) as parts:
            async for part in parts:
                assert part
                found += part
    return found


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("end", [416, 204, 500])
@pytest.mark.parametrize("said", [True, False], ids=["status", "no status"])
async def test_a_log_is_followed_to_its_end(ranged: bool, end: int, said: bool) -> None:
    server = LogServer(b"one\n", b"", b"", b"two\n", b"", b"three", ranged=ranged, end=end, said=said)
    if end != 416 and not said:
        # Then an answer past the end says that it is one.
        server = LogServer(b"one\ntwo\nthree", ranged=ranged, end=end, said=said)
    assert await read(server) == b"one\ntwo\nthree"
    assert server.asked[0] == "bytes=0-"


async def test_what_is_there_is_returned_without_following() -> None:
    server = LogServer(b"one", b"two")
    assert await read(server, follow=False) == b"one"
    assert len(server.asked) == 1
    assert await read(LogServer(b"", b"x"), follow=False) == b""


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
async def test_a_log_is_read_on_from_where_somebody_was(ranged: bool) -> None:
    assert await read(LogServer(b"abcdef", b"ghi", ranged=ranged), start=4) == b"efghi"
    assert await read(LogServer(b"abc", ranged=ranged), start=9) == b""


@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
async def test_a_long_log_comes_in_parts(ranged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LARGEST_PART", 1000)
    whole = b"".join(b"%06d\n" % number for number in range(2000))
    sizes: list[int] = []

    def stream(request: httpx.Request) -> httpx.Response:
        at = int(request.headers["Range"][6:-1])

        async def body() -> Any:
            begin = at if ranged else 0
            for first in range(begin, len(whole), 300):
                sizes.append(first)
                yield whole[first : first + 300]

        headers = {"X-File-Status": "DONE"}
        if ranged:
            headers["Content-Range"] = f"bytes {at}-{len(whole) - 1}/{len(whole)}"
        return httpx.Response(206 if ranged else 200, content=body(), headers=headers)

    assert await read(stream) == whole
    if ranged:
        assert len(sizes) <= len(whole) / 300 + 20, "nothing is read twice"


async def test_what_passes_is_waited_out_and_no_byte_comes_twice() -> None:
    server = LogServer(b"one ", b"two ", b"three ", b"four ", b"five")
    server.faults = [
        None,
        httpx.ReadError("reset"),
        httpx.Response(502),
        httpx.Response(429, headers={"Retry-After": "30"}),
        *[httpx.Response(503)] * 9,
    ]
    clock = ManualClock(auto=True)
    assert await read(server, clock) == b"one two three four five"
    assert any(pause >= 30 for pause in clock.slept)


async def test_a_server_may_send_less_or_begin_earlier() -> None:
    whole = b"0123456789"

    def serve(request: httpx.Request) -> httpx.Response:
        at = int(request.headers["Range"][6:-1])
        begin, end = max(0, at - 2), min(len(whole), at + 3)
        headers = {"Content-Range": f"bytes {begin}-{end - 1}/{len(whole)}", "X-File-Status": "DONE"}
        return httpx.Response(206, content=whole[begin:end], headers=headers)

    assert await read(serve) == whole

    def later(request: httpx.Request) -> httpx.Response:
        return httpx.Response(206, content=b"9", headers={"Content-Range": "bytes 9-9/10"})

    with pytest.raises(RequestRefused, match="byte 0 was asked for, and byte 9 came"):
        await read(later)


async def test_a_log_that_is_still_to_come_is_waited_for() -> None:
    server = LogServer(b"here", b"!")
    server.missing = 3
    assert await read(server) == b"here!"
    server = LogServer(b"")
    server.missing = 1
    with pytest.raises(RequestRefused) as caught:
        await read(server, follow=False)
    assert "has no log" in caught.value.message
    assert "Did you mean '1/dbt run --select e'" in caught.value.advice


async def test_a_task_that_ends_without_the_log_is_an_error_in_words() -> None:
    server = LogServer()
    server.missing = 99
    with pytest.raises(RequestRefused, match="has no log"):
        await read(server)
    assert len(server.asked) == 2, "what was written before it ended is looked for once more"


async def test_a_log_that_stays_open_ends_with_its_task() -> None:
    clock = ManualClock(auto=True)
    server = LogServer(b"killed")

    def open_for_ever(request: httpx.Request) -> httpx.Response:
        reply = server(request)
        reply.headers["X-File-Status"] = "WRITING"
        return reply

    open_for_ever.tasks = server.tasks  # type: ignore[attr-defined]
    assert await read(open_for_ever, clock) == b"killed"
    assert 30 <= sum(clock.slept) < 60


async def test_a_list_that_fails_for_a_moment_ends_nothing() -> None:
    server = LogServer(b"a", said=False)
    faults = [httpx.Response(502)] * 5

    def serve(request: httpx.Request) -> httpx.Response:
        return server(request)

    serve.tasks = lambda request: faults.pop() if faults else server.tasks(request)  # type: ignore[attr-defined]
    assert await read(serve) == b"a"
    assert not faults


async def test_a_task_run_that_no_list_shows_ends_with_its_run() -> None:
    server = LogServer(b"a", said=False)
    looks = iter(["RUNNING", "FAILED"])

    def no_tasks(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"total": 0, "results": []})

    def serve(request: httpx.Request) -> httpx.Response:
        return server(request)

    serve.tasks = no_tasks  # type: ignore[attr-defined]

    def run(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": "r1", "runStatus": next(looks)})

    assert await read(serve, run=run) == b"a"
    assert next(looks, None) is None


async def test_a_deadline_is_kept() -> None:
    clock = ManualClock(auto=True)
    server = LogServer(b"a", over=False, said=False)
    with pytest.raises(PollTimedOut, match="did not end within 100 seconds"):
        await read(server, clock, deadline=100)
    assert sum(clock.slept) == pytest.approx(100)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(httpx.Response(401), CredentialsRejected), (httpx.Response(422, json={"detail": "odd"}), RequestRefused)],
)
async def test_what_does_not_pass_ends_it(answer: httpx.Response, error: type[RunnerError]) -> None:
    server = LogServer(b"a", b"b")
    server.faults = [None, answer]
    with pytest.raises(error):
        await read(server)
    server = LogServer(b"a")
    server.faults = [httpx.Response(502)] * 9
    with pytest.raises(SourceDown):
        await read(server, follow=False)


async def test_an_artifact_comes_whole() -> None:
    with respx.mock() as router:
        route = router.get(f"{TASK}/artifacts/download", params={"filename": "manifest.json"})
        route.mock(side_effect=[httpx.ReadError("reset"), httpx.Response(200, content=b"x" * (17 * 2**20))])
        router.get(f"{TASK}/artifacts").respond(200, json={"filenames": ["manifest.json"]})
        async with opened() as client:
            assert len(await client.artifact("r1", "t1", "manifest.json")) == 17 * 2**20
            router.get(f"{TASK}/artifacts/download").respond(404)
            with pytest.raises(RequestRefused, match=r"has no artifact 'manifest\.jsn'") as caught:
                await client.artifact("r1", "t1", "manifest.jsn")
    assert "Did you mean 'manifest.json'" in caught.value.advice
