"""Airflow's triggerer beside our sensors: as many triggers as it takes by default, each of which looks at nothing."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.benchmarks.figures import Figures
from tests.benchmarks.measure import Failed
from tests.benchmarks.resident import running, used
from tests.environments import environment

_PEERS = Path(__file__).with_name("peers")
_LIMIT = 300.0


def measured(count: int, every: int, window: float, settle: float, folder: Path) -> Figures:
    """Run the triggerer and measure it, with the process that watches over it.

    Raises:
        NotInstalled: It cannot be installed here.
        Failed: It does not run.
    """
    python = environment(_PEERS / "airflow.txt")
    folder.mkdir()
    notes = folder / "latenesses"
    environ = {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__TRIGGERER__CAPACITY": str(count),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "PYTHONPATH": str(_PEERS),
        "LATENESSES": str(notes),
    }
    prepare = [python, _PEERS / "airflow_prepare.py", str(count), str(every)]
    done = subprocess.run(prepare, cwd=folder, env={**os.environ, **environ}, capture_output=True, timeout=_LIMIT)
    if done.returncode:
        raise Failed(done.stderr.decode(errors="replace")[-600:])
    said = folder / "said.log"
    began = time.time()
    with running([python, "-m", "airflow", "triggerer"], folder=folder, environ=environ, said=said) as process:
        until = time.monotonic() + _LIMIT
        while len(_read(notes)) < count:
            if process.poll() is not None or time.monotonic() > until:
                raise Failed(f"{len(_read(notes))} of {count} triggers ran. {said.read_text(errors='replace')[-600:]}")
            time.sleep(0.5)
        first, start = _read(notes)[count - 1][0], used(process.pid).cpu
        time.sleep(settle)
        before, beginning = used(process.pid), time.time()
        time.sleep(window)
        after, end = used(process.pid), time.time()
        time.sleep(2)
    latenesses = [late for at, late in _read(notes) if beginning <= at < end]
    return Figures(
        name="Airflow's triggerer", count=count, seconds=after.at - before.at, polls=len(latenesses),
        cpu=after.cpu - before.cpu, server=0.0, waited=after.waited - before.waited, resident=after.resident,
        peak=after.peak, ready=first - began, start=start, latenesses=latenesses, said=said.read_text(errors="replace"),
    )  # fmt: skip


def _read(notes: Path) -> list[tuple[float, float]]:
    if not notes.exists():
        return []
    whole = notes.read_text().rpartition("\n")[0]
    return [(float(at), float(late)) for at, late in (line.split() for line in whole.splitlines())]
