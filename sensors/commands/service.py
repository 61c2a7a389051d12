"""From a sensor file to a process that watches, and from how it ended to an exit code."""

from __future__ import annotations

import gc
import json as jsonlib
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from runner.clock import SystemClock
from runner.commands.output import Output, run_async
from runner.errors import NoEvent, UsageError
from runner.events import Event, Stream
from runner.log import JsonLines, Lines
from runner.plugins import load_plugins
from runner.runs import StateFolder, state_dir
from runner.secrets import environment
from runner.tasks import task_group
from runner.units import parse_duration
from sensors.board import Board
from sensors.engine import Engine
from sensors.events import SensorsStarted
from sensors.placing import load_sensors
from sensors.store import Store, store_path
from sensors.task import Outcome, Wanted

# By then every sensor waits for its second poll, and what it waits with stays too.
_SETTLE = 30.0
# Objects that came and have not gone: what thousands of sensors wait with is looked through each time.
_GARBAGE = 10_000

# A platform takes so many of the events, not all of a first backlog.
_TOLD = 100


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    once: bool = False
    seconds: str | None = None
    only: tuple[str, ...] = ()
    any: bool = False
    soft: bool = False
    serve: str | None = None
    env: str | None = None
    state_dir: Path | None = None


def run_sensors(path: Path, asked: Asked, output: Output) -> int:
    """Watch the sensors of a file until a signal, or until what is waited for has come.

    Raises:
        UsageError: The file or the command line makes no sense.
        Busy: Another process watches them.
        NoEvent: None has come in time, unless the command says --soft.
    """
    wanted = _wanted(asked)
    if asked.env:
        os.environ["ENVIRONMENT"] = asked.env
    placed = load_sensors(path, only=asked.only)
    state = StateFolder(state_dir(path, asked.state_dir, environment(path.resolve().parent)))
    state.create()
    clock = SystemClock()
    stream = Stream(clock)
    stream.subscribe(_settled)
    stream.subscribe(JsonLines() if output.json else Lines(debug=output.debug, quiet=output.quiet))
    board = Board(placed.name, clock, str(path))
    with state.own(f"sensors of {placed.name}"):
        store = Store(store_path(state, placed.name))
        try:
            engine = Engine(placed, store, clock, stream, board, wanted=wanted, environment=asked.env)
            outcome = run_async(lambda: _run(engine, board, clock, asked.serve, store.path))
        except NoEvent as error:
            if not asked.soft:
                raise
            sys.stderr.write(f"{error.message} (--soft)\n")
            return 0
        finally:
            store.close()
    return _result(outcome, output, path) if wanted else 0


def _wanted(asked: Asked) -> Wanted | None:
    if asked.once and asked.seconds:
        raise UsageError("--once and --for exclude each other.", guidance="--once looks once, --for 30m waits.")
    if asked.seconds:
        try:
            seconds = parse_duration(asked.seconds).total_seconds()
        except ValueError as error:
            raise UsageError(f"--for: {error}.") from None
        return Wanted(seconds, every=not asked.any)
    if asked.once:
        return Wanted(0.0, every=not asked.any)
    if asked.any or asked.soft:
        raise UsageError("--any and --soft belong to --once or --for.")
    return None


def _settled(at: datetime, event: Event) -> None:
    """Keep what is made by now, and stays, from being looked through for garbage: that would stop the loop."""
    if isinstance(event, SensorsStarted):
        gc.freeze()
        gc.set_threshold(_GARBAGE, 20, 20)


async def _run(engine: Engine, board: Board, clock: SystemClock, serve: str | None, store: Path) -> Outcome:
    """Run; the first signal ends it gracefully, the second at once."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            count = 0
            async for _ in signals:
                count += 1
                engine.stop()
                if count > 1:
                    group.cancel_scope.cancel()

    async def settle() -> None:
        await clock.sleep(_SETTLE)
        gc.freeze()

    outcome = Outcome()
    async with AsyncExitStack() as stack:
        if serve is not None:
            from sensors.health import serve as serve_page

            host, port = _address(serve)
            url = await stack.enter_async_context(serve_page(board, clock, host, port, store=store))
            sys.stderr.write(f"live page: {url}\n")
        group = await stack.enter_async_context(task_group())
        group.start_soon(listen)
        group.start_soon(settle)
        outcome = await engine.run()
        group.cancel_scope.cancel()
    return outcome


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--serve {text}: that is no port.", guidance="Write for example 8080, or 0.0.0.0:8080.")
    return host or "127.0.0.1", int(port)


def _result(outcome: Outcome, output: Output, path: Path) -> int:
    """Print what came, hand it to the platform, and return the exit code."""
    events = [
        {"sensor": name, "run_key": one.run_key, "values": one.values}
        for name, fired in outcome.fired.items()
        for one in fired
    ]
    found = {"events": events, "outputs": outcome.outputs}
    _hand_over({"run_key": events[0]["run_key"] if events else "", "events": events[:_TOLD], **outcome.outputs})
    if output.json:
        sys.stdout.write(jsonlib.dumps({"action": "result", **found}, ensure_ascii=False, default=str) + "\n")
    else:
        for name, fired in outcome.fired.items():
            for one in fired:
                sys.stdout.write(f"{name}: {one.run_key}\n")
    undone = outcome.states["failed"] + outcome.states["unknown"]
    if undone:
        sys.stderr.write(f"error: {undone} of what the events ask for was not done, or nobody knows.\n")
        sys.stderr.write(f"`runner sensors {path} --outbox` says why; --resend and --settle decide.\n")
        return 1
    return 3 if outcome.waiting else 0


def _hand_over(outputs: dict[str, Any]) -> None:
    """Set the outputs of the task for those that come later."""

    async def tell() -> None:
        for platform in load_plugins("runner.platforms").values():
            for problem in await platform.set_outputs(outputs, os.environ):
                sys.stderr.write(f"warning: {problem}\n")

    run_async(tell)
