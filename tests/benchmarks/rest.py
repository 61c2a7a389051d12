"""``python -m tests.benchmarks --only rest``: pages of an API that is far away and has a limit, by us and by dlt's engine.

The limit's own time is how long the pages take at the rate that the server allows: nobody can be faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from aiohttp import web

from tests.benchmarks.measure import Failed, started

_RESOURCES = 20
_PAGE = 100
_PAGES = 500
_LATENCY = 0.05
_RATE = 100.0
_BAR = 1.15
_CPU = 0.010
# One thread of dlt waits for each page; its rate is known after so many.
_DLT_PAGES = 1000
_MEMORY = 600
_ROOT = Path(__file__).resolve().parents[2]


class Api:
    """Pages of objects, 50 ms away, at most 100 a second: more are refused with 429."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._tokens, self._at = _RATE, time.monotonic()
        self.served = self.refused = 0
        row = {
            "id": "%d",
            "name": "customer %d",
            "email": "customer%d@example.com",
            "balance": 1234.5,
            "active": True,
            "visits": 17,
            "country": "CH",
            "updated_at": "2024-01-01T00:00:00Z",
            "address": {"street": "Bahnhofstrasse 1", "city": "Zürich"},
            "tags": ["a", "b"],
        }
        one = json.dumps(row, ensure_ascii=False).replace('"%d"', "%d")
        self._form = f'{{"items": [{", ".join([one] * _PAGE)}], "total_pages": {pages}}}'

    async def page(self, request: web.Request) -> web.Response:
        await asyncio.sleep(_LATENCY)
        now = time.monotonic()
        self._tokens = min(_RATE, self._tokens + (now - self._at) * _RATE)
        self._at = now
        if self._tokens < 1:
            self.refused += 1
            return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "1"})
        self._tokens -= 1
        self.served += 1
        number = int(request.query.get("page", 1))
        if number > self._pages:
            return web.Response(text='{"items": [], "total_pages": 0}', content_type="application/json")
        begin = (number - 1) * _PAGE
        body = self._form % tuple(number for i in range(begin, begin + _PAGE) for number in (i, i, i))
        return web.Response(text=body, content_type="application/json")

    async def counts(self, request: web.Request) -> web.Response:
        found = {"served": self.served, "refused": self.refused}
        self.served = self.refused = 0
        self._tokens = _RATE
        return web.json_response(found)


def serve(pages: int) -> None:
    """Serve until the process is ended; the port is printed."""

    async def run() -> None:
        api = Api(pages)
        app = web.Application()
        app.add_routes([web.get("/counts", api.counts), web.get("/{name}", api.page)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


def configuration(url: str, resources: int) -> dict[str, Any]:
    """Return what both engines read."""
    return {
        "client": {
            "base_url": url,
            "paginator": {"type": "page_number", "base_page": 1, "total_path": "total_pages"},
        },
        "resource_defaults": {"primary_key": "id", "write_disposition": "replace", "parallelized": True},
        "resources": [f"table_{number:02}" for number in range(resources)],
    }


def theirs(url: str, resources: int, place: str) -> None:
    """Load by dlt's engine, whose requests are as many at once as it has resources and threads."""
    os.environ.update(
        RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="CRITICAL", EXTRACT__WORKERS=str(_RESOURCES)
    )
    import dlt
    from dlt.sources.rest_api import rest_api_source

    destination = dlt.destinations.duckdb(f"{place}/dlt.duckdb")
    pipeline = dlt.pipeline("bench", pipelines_dir=place, destination=destination, dataset_name="raw")
    pipeline.run(rest_api_source(configuration(url, resources), max_table_nesting=0))


@contextlib.contextmanager
def _server(pages: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.benchmarks.rest", "serve", str(pages)]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _counts(url: str) -> dict[str, int]:
    import urllib.request

    with urllib.request.urlopen(f"{url}/counts") as answer:
        found: dict[str, int] = json.load(answer)
    return found


def _job(url: str, folder: Path) -> None:
    whole = {
        "name": "bench",
        "source": {"type": "rest", **configuration(url, _RESOURCES)},
        "destination": {"type": "duckdb", "path": "ours.duckdb", "dataset": "raw"},
        "limits": {"connections": 16, "rate": f"{_RATE:.0f}/s"},
        "tables": {"rest.*": {}},
    }
    (folder / "job.yml").write_text(json.dumps(whole), "utf-8")
    (folder / "pyproject.toml").write_text("", "utf-8")


def bench(scale: float, *, peers: bool = True) -> int:
    """Run both; return 1 where ours is slower than its bar, or its rows are not those of the server."""
    pages = max(3, round(_PAGES * scale))
    total, rows = pages * _RESOURCES, pages * _RESOURCES * _PAGE
    limit = total / _RATE
    print(f"{total:,} pages of {_PAGE} objects, {_LATENCY * 1000:.0f} ms away; the limit's own time is {limit:.0f} s")
    failed = False
    with tempfile.TemporaryDirectory() as temporary, _server(pages) as url:
        folder = Path(temporary)
        _job(url, folder)
        _counts(url)
        wall, cpu, memory = _timed([sys.executable, "-m", "runner", "backfill", "job.yml", "--quiet"], folder)
        counts = _counts(url)
        print(
            f"ours: {wall:.1f} s ({wall / limit:.2f} of the limit's time), {cpu / total * 1000:.1f} ms of a core a page, "
            f"{memory:.0f} MiB, {counts['served']:,} requests and {counts['refused']} refused"
        )
        found = _count(folder / "ours.duckdb")
        if found != rows:
            print(f"ours: {found:,} rows of {rows:,}")
            failed = True
        failed = failed or wall > _BAR * limit or cpu > _CPU * total or memory > _MEMORY
        if not peers:
            return int(failed)
        few = max(1, min(_RESOURCES, _DLT_PAGES // pages))
        command = [sys.executable, "-m", "tests.benchmarks.rest", "theirs", url, str(few), str(folder)]
        try:
            wall, cpu, memory = _timed(command, folder)
        except Failed as error:
            print(f"dlt: {' '.join(str(error).split())[-300:]}")
            return int(failed)
        counts, part = _counts(url), few * pages
        whole = f", extrapolated {wall * total / part:.0f} s for all" if few < _RESOURCES else ""
        print(
            f"dlt: {wall:.1f} s for {part:,} pages of {few} resources{whole}, {cpu / part * 1000:.1f} ms of a core a page, "
            f"{memory:.0f} MiB, {counts['served']:,} requests and {counts['refused']} refused"
        )
        if (found := _count(folder / "dlt.duckdb")) != part * _PAGE:
            print(f"dlt: {found:,} rows of {part * _PAGE:,}")
    return int(failed)


def _timed(command: list[str], folder: Path) -> tuple[float, float, float]:
    said = folder / "said.log"
    environ = {"PYTHONPATH": str(_ROOT)}
    began = time.perf_counter()
    with said.open("wb") as out:
        status, cpu, memory = started(command, folder=folder, environ=environ, out=out, limit=1800)
    if status != 0:
        raise Failed(said.read_text(errors="replace")[-2000:])
    return time.perf_counter() - began, cpu, memory


def _count(place: Path) -> int:
    with duckdb.connect(str(place), read_only=True) as connection:
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'raw' and table_name like 'table%'"
        ).fetchall()
        return sum(
            connection.execute(f'select count(distinct id) from raw."{name}"').fetchall()[0][0] for (name,) in names
        )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        theirs(sys.argv[2], int(sys.argv[3]), sys.argv[4])
