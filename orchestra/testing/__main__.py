"""``python -m orchestra.testing``: an Orchestra on the loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from orchestra.testing.history import add_history
from orchestra.testing.local import local_orchestra, serve
from runner.errors import UsageError

_LAST_PORT = 65535


def main() -> int:
    """Serve; return the exit code."""
    arguments = argparse.ArgumentParser(
        prog="python -m orchestra.testing", description="An Orchestra on this machine. Nothing is really run."
    )
    arguments.add_argument("--port", type=int, default=8123, help="where it listens on 127.0.0.1; 0 for a free one")
    arguments.add_argument("--pipelines", type=Path, help="a folder of pipelines as YAML")
    arguments.add_argument("--state", type=Path, help="a file that keeps everything; in memory by default")
    arguments.add_argument("--key", default="local", help="the API key")
    arguments.add_argument("--seconds", type=float, default=2.0, help="how long a task without a script takes")
    arguments.add_argument("--history", type=int, default=0, help="how many runs of the past to make up")
    arguments.add_argument("--days", type=float, default=30.0, help="how far back they go")
    arguments.add_argument("--seed", type=int, default=1, help="the same seed makes up the same runs")
    asked = arguments.parse_args()
    if not 0 <= asked.port <= _LAST_PORT:
        arguments.exit(UsageError.exit_code, f"error: --port {asked.port}: a port is 0 to {_LAST_PORT}.\n")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        double = local_orchestra(
            port=asked.port, key=asked.key, pipelines=asked.pipelines, state=asked.state, seconds=asked.seconds
        )
        if asked.history and not double.workspace.runs:
            add_history(double.workspace, runs=asked.history, days=asked.days, seed=asked.seed)
        serve(double, stop.wait)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
