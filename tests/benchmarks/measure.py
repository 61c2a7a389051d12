"""One run of a program: what it and the server used."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from connectors.testing.server import PostgresServer

# Statements that take longer are in the server's log, which is where the longest one is found.
SETTINGS = {
    "log_min_duration_statement": "50",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "log_temp_files": "0",
}
_DURATION = re.compile(r"duration: ([0-9.]+) ms")
_TICK = os.sysconf("SC_CLK_TCK")
_STARTER = """
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as answer:
    answer.write(f"{status} {used.ru_utime + used.ru_stime} {used.ru_maxrss}")
"""


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        wall: Seconds from exec to exit.
        cpu: Seconds of user and system time, of all its processes.
        server: Seconds of CPU of all processes of the source's server.
        memory: Peak resident MiB of its largest process.
        longest: Seconds of the longest statement on the server.
        temporary: Temporary files that the server wrote.
    """

    wall: float
    cpu: float
    server: float
    memory: float
    longest: float
    temporary: int


class Failed(Exception):
    """A program did not end well; the message is the end of what it said."""


def run(
    command: Sequence[str | Path], *, server: PostgresServer, folder: Path, environ: Mapping[str, str], limit: float
) -> Measured:
    """Run a program to its end and measure it.

    Raises:
        Failed: It ended with another code than 0, or not within ``limit`` seconds.
    """
    said = folder / "said.log"
    log = server.data.with_name(f"{server.data.name}.log")
    offset, busy = log.stat().st_size, server_cpu(server)
    began = time.perf_counter()
    with said.open("wb") as out:
        status, cpu, memory = started(command, folder=folder, environ=environ, out=out, limit=limit)
        wall = time.perf_counter() - began
    if status != 0:
        raise Failed(said.read_text(errors="replace")[-600:].strip() or f"exit code {status}")
    with log.open("rb") as lines:
        lines.seek(offset)
        written = lines.read().decode(errors="replace")
    return Measured(
        wall=wall,
        cpu=cpu,
        server=server_cpu(server) - busy,
        memory=memory,
        longest=max((float(found) / 1000 for found in _DURATION.findall(written)), default=0.0),
        temporary=written.count("temporary file:"),
    )


def started(
    command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str], out: IO[bytes], limit: float
) -> tuple[int, float, float]:
    """Return the exit code of a command, its seconds of CPU and its peak resident MiB.

    A small process starts it: Linux counts the peak of whoever starts a process as its own (getrusage(2)).
    """
    with tempfile.NamedTemporaryFile("r") as answer:
        process = subprocess.Popen(
            [sys.executable, "-ISc", _STARTER, answer.name, *command],
            cwd=folder, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Failed("it took too long and was stopped") from None
        status, cpu, kilobytes = answer.read().split()
    return int(status), float(cpu), int(kilobytes) / 1024


def server_cpu(server: PostgresServer) -> float:
    """Return the CPU seconds of the server: those who have ended count as children of the postmaster."""
    postmaster = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    ticks = 0
    for pid in (postmaster, *map(int, children)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15])) if pid == postmaster else sum(map(int, fields[11:13]))
    return ticks / _TICK
