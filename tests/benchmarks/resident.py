"""A program that goes on: what it uses while it does, and how late it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """What a process and all under it had used at a moment.

    Attributes:
        at: The moment, in seconds.
        cpu: Seconds of user and system time.
        waited: Seconds that its threads could have run and did not, because others had the cores.
        resident: MiB that are resident now; what several of them share counts once (proc(5), Pss).
        peak: The sum of the most that each of them ever had: what they share counts for each.
    """

    at: float
    cpu: float
    waited: float
    resident: float
    peak: float


def used(pid: int) -> Used:
    """Return what a process and all under it have used.

    Those that have ended count for whoever waited for them (proc(5), cutime and cstime).
    """
    cpu = waited = resident = peak = 0.0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            cpu += sum(map(int, fields[11:15])) / _TICK
            status = dict(line.split(":", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
            for thread in Path(f"/proc/{one}/task").iterdir():
                waited += int((thread / "schedstat").read_text().split()[1]) / 1e9
            shared = dict(line.split(":", 1) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:])
            resident += int(shared["Pss"].split()[0]) / 1024
            peak += int(status["VmHWM"].split()[0]) / 1024
    return Used(time.monotonic(), cpu, waited, resident, peak)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str], said: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the block lasts; then it is told to end, and has half a minute to do so."""
    with said.open("wb") as out:
        process = subprocess.Popen(
            [str(one) for one in command],
            cwd=folder, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def share_of(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
