"""Many sensors, targets that fail, and the process killed again and again: in the end the targets' logs are right.

``python -m tests.acceptance.sensorsoak --kills 200 --seed 7`` prints its seed and replays its decisions from it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from orchestra.testing.request import Asked, Handler
from runner.clock import OFFSET
from runner.crash import VARIABLE
from sensors.crashpoints import POINTS
from tests.acceptance.sensortargets import Log, Orchestra

_FEEDS = 6
_DROPS = 2
# No kill of a process reaches these.
_POINTS = [point for point in POINTS if point not in ("target-acted", "child-killed", "stopping")]
# The next process comes that much later, by its clock: what waits for a run that may still begin does not hold it up.
_LATER = 170
_PATIENCE = 90.0


class Feeds(Double):
    """Feeds that grow, and a webhook that fails at random.

    Args:
        chance: Decides what fails.

    Attributes:
        items: By feed. done: Run keys that the webhook took, by sensor.
        troubled: Whether anything fails.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.items: dict[str, list[int]] = {f"feed{number}": [] for number in range(_FEEDS)}
        self.done: list[tuple[str, str]] = []
        self.troubled = True
        self._chance = chance

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/feeds/{feed}", self._feed), web.post("/hook", self._hook)]

    async def _feed(self, request: web.Request) -> web.Response:
        if self.troubled and self._chance.random() < 0.05:
            return answer({}, status=503)
        feed = self.items[request.match_info["feed"]]
        return answer({"items": [{"id": number} for number in feed]})

    async def _hook(self, request: web.Request) -> web.Response:
        if self.troubled and self._chance.random() < 0.15:
            return answer({}, status=503)
        event = await request.json()
        self.done.append((event["sensor"], request.headers["Idempotency-Key"]))
        # It was done, and who asked is told that it was not.
        return answer({}, status=502 if self.troubled and self._chance.random() < 0.1 else 200)


class Pipelines(Orchestra):
    """Orchestra that fails at random; what it starts is written down by pipeline.

    Attributes:
        troubled: Whether anything fails.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.troubled = True
        self._chance = chance

    async def start(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        fate = self._chance.random() if self.troubled else 1.0
        if fate < 0.08:
            return answer({"detail": "Too many requests"}, status=429, headers={"Retry-After": "1"})
        response = await super().start(handler, asked)
        # It was started, and who asked is told by a gateway that nobody knows.
        return answer({}, status=504) if fate < 0.2 else response


@dataclass
class Soak:
    """One soak.

    Args:
        kills: How many processes are killed before it ends.
    """

    folder: Path
    seed: int
    kills: int
    done: Counter[str] = field(default_factory=Counter)

    def run(self) -> list[str]:
        """Return what was lost or done twice."""
        chance = random.Random(self.seed)
        with Feeds(chance) as self._feeds, Pipelines(chance) as self._pipelines:
            self._prepare()
            while self.done["kills"] < self.kills:
                code = self._disturbed_run(chance)
                if code not in (0, 3, -signal.SIGKILL):
                    return [f"it ended with {code}: {self._said()}"]
            self._feeds.troubled = self._pipelines.troubled = False
            self._grow(chance)
            return self._settle() or self._differences()

    def _prepare(self) -> None:
        (self.folder / "pyproject.toml").write_text("")
        where = {"base_url": self._pipelines.base_url, "api_key": self._pipelines.key}
        hook = {"type": "webhook", "url": f"{self._feeds.url}/hook", "attempts": 1000, "max_wait": "1s"}
        sensors: list[dict[str, Any]] = []
        for number, feed in enumerate(self._feeds.items):
            self._pipelines.add(feed, Log(), blind=False)
            start = {"type": "pipeline", "pipeline": feed, "inputs": {"time": "item {id}"}, "attempts": 1000, **where}
            order = {"order": "id"} if number % 2 else {}
            entry = {"type": "http", "url": f"{self._feeds.url}/feeds/{feed}", "select": "items", "key": "id", **order}
            sensors.append({"name": feed, **entry, "on_event": [start, hook]})
        for number in range(_DROPS):
            run = {"type": "command", "command": ["sh", "act.sh"], "attempts": 1000, "max_wait": "1s"}
            entry = {"type": "http", "url": f"{self._feeds.url}/feeds/feed{number}", "select": "items", "key": "id"}
            sensors.append({"name": f"drop{number}", **entry, "on_event": run})
        (self.folder / "act.sh").write_text(
            'test $(($(date +%N | sed "s/^0*//") % 5)) != 0 && echo "$RUN_KEY" >> done.txt'
        )
        whole = {
            "name": "soak",
            "defaults": {"every": "1s", "cursor": "beginning", "timeout": "5s"},
            "limits": {"actions": 8},
            "sensors": sensors,
        }
        (self.folder / "s.yml").write_text(json.dumps(whole))

    def _grow(self, chance: random.Random) -> None:
        for feed in self._feeds.items.values():
            feed += range(len(feed), len(feed) + chance.randint(0, 3))

    def _disturbed_run(self, chance: random.Random) -> int:
        """Return how the process ended."""
        crash = f"{chance.choice(_POINTS)}:{chance.randint(1, 6)}" if chance.random() < 0.5 else None
        self._grow(chance)
        process = self._start(crash)
        # The kill comes anywhere: while it begins, polls, or sends.
        end = time.monotonic() + 0.4 + chance.random() * 2.5
        grown = False
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            if not grown and time.monotonic() > end - 0.8:
                self._grow(chance)
                grown = True
        if process.poll() is None and chance.random() < 0.1:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        process.kill()
        process.wait()
        self.done["kills"] += process.returncode == -signal.SIGKILL
        self.done["ended"] += process.returncode != -signal.SIGKILL
        return process.returncode

    def _start(self, crash: str | None) -> subprocess.Popen[bytes]:
        self.done["starts"] += 1
        environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environ |= {VARIABLE: crash} if crash else {}
        self._pipelines.ahead = _LATER * self.done["starts"]
        environ[OFFSET] = str(self._pipelines.ahead)
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "runner", "sense", "s.yml"],
                cwd=self.folder,
                env=environ,
                stdout=said,
                stderr=said,
            )

    def _settle(self) -> list[str]:
        """Let it work on targets at rest until nothing is open."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            process = self._start(None)
            step = time.monotonic() + 8
            while time.monotonic() < min(step, end) and not (settled := self._is_settled()):
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            if process.wait(60) not in (0, 3):
                return [f"it ends with {process.returncode}: {self._said()}"]
            if settled:
                return []
        rows = self._rows(
            "select sensor, action, run_key, state, attempts, error from outbox where state != 'delivered'"
        )
        return [f"it does not come to rest: {rows[:5]}, {self._said()}"]

    def _is_settled(self) -> bool:
        return not self._rows("select 1 from outbox where state != 'delivered' limit 1") and all(
            len(self._rows(f"select 1 from events where sensor = '{sensor}'")) == len(self._feeds.items[feed])
            for sensor, feed in self._sensors()
        )

    def _sensors(self) -> list[tuple[str, str]]:
        return [(feed, feed) for feed in self._feeds.items] + [(f"drop{n}", f"feed{n}") for n in range(_DROPS)]

    def _differences(self) -> list[str]:
        found = []
        hooked = Counter(key for _, key in self._feeds.done)
        ran = Counter((self.folder / "done.txt").read_text().split())
        for sensor, feed in self._sensors():
            numbers = self._feeds.items[feed]
            wanted = {f"{sensor}:{number}" for number in numbers}
            if sensor != feed:
                found += _compare(sensor, "command", wanted, ran, once=False)
                continue
            started = Counter(self._pipelines.logs[feed].done)
            found += _compare(sensor, "pipeline", {f"item {number}" for number in numbers}, started, once=True)
            own = Counter({key: times for key, times in hooked.items() if key.startswith(f"{sensor}:")})
            found += _compare(sensor, "webhook", wanted, own, once=False)
            self.done["events"] += len(wanted)
            self.done["started"] += started.total()
        self.done["called"] = hooked.total()
        self.done["called again"] = hooked.total() - len(hooked)
        return found

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        path = self.folder / ".runner" / "sensors" / "soak.sqlite"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return [("not there",)]

    def _said(self) -> str:
        return (self.folder / "said.txt").read_text()[-600:]


def _compare(sensor: str, action: str, wanted: set[str], done: Counter[str], *, once: bool) -> list[str]:
    mine = {key for key in done if action != "command" or key.startswith(f"{sensor}:")}
    found = []
    if lost := wanted - mine:
        found.append(f"{sensor}, {action}: lost {sorted(lost)[:5]}")
    if extra := mine - wanted:
        found.append(f"{sensor}, {action}: nobody knows {sorted(extra)[:5]}")
    if once and (twice := [key for key, times in done.items() if times > 1]):
        found.append(f"{sensor}, {action}: done twice {twice[:5]}")
    return found


def main() -> int:
    """Soak."""
    # A server is told of every client that dies in the middle of a request.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    arguments = argparse.ArgumentParser(description="The soak of sensors.")
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=None)
    asked = arguments.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    began = time.monotonic()
    print(f"soak of sensors: seed {seed}, {asked.kills} kills …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        one = Soak(Path(folder), seed, asked.kills)
        wrong = one.run()
    told = ", ".join(f"{count} {what}" for what, count in sorted(one.done.items()))
    print(f"  {'right' if not wrong else 'WRONG'} after {time.monotonic() - began:.0f} s: {told}")
    for line in wrong:
        print(f"  {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
