"""``make demo-sensors``: a bucket, a file, a pipeline that starts once; then a kill in the middle of a start.

The bucket is moto's, in an environment of its own; Orchestra is a double on the loopback. What is killed and started is
the real command.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestra.testing.double import OrchestraDouble
from orchestra.testing.request import Asked, Handler

_FILE = Path("orchestra/sensors/demo.yml")
_STATE = Path(".runner/demo-sensors")
_PIPELINE = """
version: v1
name: Load orders
inputs:
  file: {type: string}
  run_key: {type: string}
pipeline:
  load:
    tasks:
      load:
        integration: PYTHON
        integration_job: PYTHON_EXECUTE_SCRIPT
        name: Load one file
        parameters: {command: "python -m load ${{ inputs.file }} --key ${{ inputs.run_key }}"}
"""
_PATIENCE = 30.0
_began = time.monotonic()


class Orchestra(OrchestraDouble):
    """Orchestra, which can kill who asked just when a run has started.

    Attributes:
        victim: Who is killed next; a process id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.victim: int | None = None
        self.workspace.run_for = 2.0
        self.workspace.add("load_orders", _PIPELINE)

    async def serve(self, handler: Handler, asked: Asked) -> web.StreamResponse:
        response = await super().serve(handler, asked)
        if asked.request.path.endswith("/start") and self.victim is not None:
            victim, self.victim = self.victim, None
            os.kill(victim, signal.SIGKILL)
        return response

    @property
    def started(self) -> Counter[str]:
        """How many runs each file has started."""
        return Counter(str(run.inputs["file"]) for run in self.workspace.runs.values())


class Sensors:
    """The process that watches.

    Attributes:
        page: The address of its live page.
    """

    def __init__(self, environ: dict[str, str], port: int) -> None:
        command = [sys.executable, "-m", "runner", "sense", str(_FILE), "--serve", str(port)]
        self.process = subprocess.Popen(
            [*command, "--state-dir", str(_STATE), "--json"],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.page = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait(self, action: str) -> dict[str, Any] | None:
        """Return its next event of that name; None when it has ended."""
        end = time.monotonic() + _PATIENCE
        said = []
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=left)
                if line is None:
                    # Its output has ended; the process itself may need a moment more.
                    self.process.wait(_PATIENCE)
                    break
                said.append(line)
                if line.startswith("live page: "):
                    self.page = line.removeprefix("live page: ").strip()
                elif line.startswith("{") and (event := json.loads(line))["action"] == action:
                    return dict(event)
        if self.process.poll() != -signal.SIGKILL:
            raise RuntimeError(f"the sensors said no {action}: {''.join(said)[-1000:]}")
        return None

    def stop(self) -> None:
        """End it as a platform does."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def _bucket(python: Path) -> Iterator[str]:
    """Run a server of S3 with an empty bucket; give its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [str(python), "-c", "import sys; from moto.server import main; main(sys.argv[1:])", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                _put(server, "/landing")
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the server of S3 did not start: {error}") from error
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def _put(server: str, path: str, data: bytes = b"") -> None:
    connection = http.client.HTTPConnection(server, timeout=5)
    with contextlib.closing(connection):
        connection.request("PUT", path, data, {"Content-Type": "text/csv"})
        connection.getresponse().read()


def _say(text: str) -> None:
    print(f"{time.monotonic() - _began:5.1f} s  {text}", flush=True)


def _free_port(wanted: int) -> int:
    """Return the port, or another one when somebody has it."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as found:
            return int(found.getsockname()[1])
    return wanted


def demo(python: Path, *, keep: bool, port: int) -> int:
    """Show it; return 0 when each file has started one run."""
    shutil.rmtree(_STATE, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        _say("Starting a bucket (moto) and an Orchestra (a double), both on this machine …")
        bucket = stack.enter_context(_bucket(python))
        orchestra = stack.enter_context(Orchestra())
        environ = {
            "DEMO_BUCKET": f"http://{bucket}",
            "DEMO_SECRET": "demo",
            "DEMO_ORCHESTRA": orchestra.base_url,
            "DEMO_KEY": orchestra.key,
        }
        port = _free_port(port)
        sensors = Sensors(environ, port)
        stack.callback(lambda: sensors.stop())
        sensors.wait("sensors_started")
        _say(f"runner sense {_FILE} --serve {port}")
        _say(f"  it watches s3://landing/orders every second; its page: {sensors.page}\n")

        _drop(bucket, "monday.csv")
        fired = sensors.wait("event_fired")
        assert fired is not None
        _say(f"  the sensor fired; run key {fired['run_key']}")
        done = sensors.wait("delivered")
        assert done is not None
        _say(f"  the pipeline load_orders has started: run {done['reference']}\n")

        orchestra.victim = sensors.process.pid
        _drop(bucket, "tuesday.csv")
        sensors.wait("delivered")
        sensors.process.wait(30)
        _say("  Orchestra has started the run, and before its answer came the process was killed: SIGKILL.")
        _say("  Nobody here knows whether it has begun; the outbox says: sending.\n")

        sensors = Sensors(environ, port)
        _say("The same command again.")
        done = sensors.wait("delivered")
        assert done is not None
        _say("  It does not send it again: it looks among Orchestra's runs for the run key, and finds it:")
        _say(f"  run {done['reference']}\n")

        time.sleep(1.5)
        code = _judge(orchestra.started, ["monday.csv", "tuesday.csv"])
        if keep:
            _say(f"It goes on until Ctrl-C. Page: {sensors.page}")
            _say(f"  A file more: curl -T README.md http://{bucket}/landing/orders/more.csv")
            with contextlib.suppress(KeyboardInterrupt):
                sensors.process.wait()
        else:
            print(f"\nTo look at the page while it runs: make demo-sensors KEEP=1, then {sensors.page}")
    return code


def _drop(bucket: str, name: str) -> None:
    _put(bucket, f"/landing/orders/{name}", b"id,total\n1,9.90\n")
    _say(f"A file comes: s3://landing/orders/{name}")


def _judge(started: Counter[str], names: Sequence[str]) -> int:
    _say("What Orchestra has seen:")
    found = {url.rpartition("/")[2]: runs for url, runs in started.items()}
    for name in names:
        _say(f"  {name}: {found.get(name, 0)} run")
    right = found == dict.fromkeys(names, 1)
    _say("Each file has started one run, once." if right else "THAT IS WRONG: each file should have one run.")
    return 0 if right else 1


def main() -> int:
    """Run the demo."""
    arguments = argparse.ArgumentParser(description="The demo of sensors.")
    arguments.add_argument("--moto", type=Path, required=True, help="a Python that has moto's server")
    arguments.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    arguments.add_argument("--port", type=int, default=8788, help="of the live page")
    asked = arguments.parse_args()
    try:
        return demo(asked.moto, keep=asked.keep, port=asked.port)
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
