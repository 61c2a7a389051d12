"""What sensors of the matrix and the soak act on: it writes down what was done, and may kill who asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.testing.double import Double, answer
from orchestra.testing.double import OrchestraDouble
from orchestra.testing.pipelineroutes import started
from orchestra.testing.refusals import Refusal
from orchestra.testing.request import Asked, Handler

ROWS = 2


@dataclass
class Log:
    """What a target knows of one cell.

    Attributes:
        done: Run keys of what was done, in order.
        wrong: What should never come.
        alerts: Run keys of alerts.
        busy: So many requests are refused before.
        slow: Seconds between doing it and the answer.
        victim: Whoever is killed when it was done, once; a process id.
    """

    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    busy: int = 0
    slow: float = 0.0
    victim: int | None = None

    async def did(self, key: str) -> None:
        """Write down what was done; then kill, or wait."""
        self.done.append(key)
        victim, self.victim = self.victim, None
        if victim is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if self.slow:
            await asyncio.sleep(self.slow)

    def refuses(self) -> bool:
        """Tell whether this request is refused."""
        self.busy -= 1
        return self.busy >= 0


class Target(Double):
    """A webhook and a source; the first part of the path is the cell.

    Attributes:
        logs: By cell.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Log] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/{cell}/hook", self._hook),
            web.post("/{cell}/alerts", self._alerts),
            web.get("/{cell}/items", self._items),
        ]

    async def _hook(self, request: web.Request) -> web.Response:
        log = self.logs[request.match_info["cell"]]
        if log.refuses():
            return answer({}, status=503)
        key = request.headers.get("Idempotency-Key", "")
        if key not in await request.text():
            log.wrong.append(f"Idempotency-Key {key!r} is not the key in the body")
        await log.did(key)
        return answer({})

    async def _alerts(self, request: web.Request) -> web.Response:
        self.logs[request.match_info["cell"]].alerts.append((await request.json())["run_key"])
        return answer({})

    async def _items(self, request: web.Request) -> web.Response:
        log = self.logs[request.match_info["cell"]]
        if log.refuses():
            return answer({}, status=503)
        key = request.query["key"]
        await log.did(key)
        return answer([{"id": number, "run_key": key} for number in range(ROWS)])


class Orchestra(OrchestraDouble):
    """Orchestra that kills who asked; the alias of a pipeline is the cell.

    Attributes:
        logs: By cell.
        ahead: Seconds that its clock goes ahead, as that of the process which asks.
    """

    def __init__(self) -> None:
        # A workspace asks for the time when it is made.
        self.ahead = 0.0
        super().__init__(now=lambda: datetime.now(UTC) + timedelta(seconds=self.ahead))
        self.logs: dict[str, Log] = {}

    def add(self, cell: str, log: Log, *, blind: bool) -> None:
        """Add the pipeline of a cell; a blind one takes no run key."""
        self.logs[cell] = log
        inputs: dict[str, Any] = {"time": {"type": "string"}}
        command = "load"
        if not blind:
            inputs["run_key"] = {"type": "string"}
            command = "load --key ${{ inputs.run_key }}"
        task = {"integration": "PYTHON", "integration_job": "PYTHON_EXECUTE_SCRIPT", "parameters": {"command": command}}
        definition = {"version": "v1", "name": cell, "inputs": inputs, "pipeline": {"load": {"tasks": {"load": task}}}}
        self.workspace.add(cell, definition)

    async def serve(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        if handler is started:
            return await self.start(handler, asked)
        return await super().serve(handler, asked)

    async def start(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        """Start a run, and write down that it was."""
        log = self.logs[asked.request.match_info["pipeline"]]
        if log.refuses():
            return answer({"detail": "Too many requests"}, status=429, headers={"Retry-After": "1"})
        try:
            response = await handler(asked)
        except Refusal as refusal:
            log.wrong.append(f"a start was refused: {refusal}")
            raise
        await log.did(json.loads(await asked.request.read())["runInputs"]["time"])
        return response


def twice(done: Iterable[str]) -> list[str]:
    """Return what was done more than once."""
    return [key for key, times in Counter(done).items() if times > 1]
