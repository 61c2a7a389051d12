"""Named points where a test kills the process: every change of state that a crash could fall between.

``RUNNER_CRASH_AT`` arms one: ``chunk-read``, ``chunk-read@public.orders`` for one table, ``chunk-read:3`` for the
third time. It exists for the crash matrices (SEMANTICS.md); unarmed, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "RUNNER_CRASH_AT"
POINTS = {
    "lease-taken": "the leases are held, nothing is planned",
    "plan-stored": "the list of chunks is in the ledger, nothing is read",
    "chunk-read": "a chunk's rows are read, its file is not finished",
    "chunk-fsynced": "its file is on disk, the ledger does not know",
    "chunk-recorded": "the ledger knows, nothing is loaded",
    "load-begun": "a load's transaction has begun",
    "load-staged": "its rows are in staging, without their receipt",
    "load-receipted": "the receipt is written, nothing is committed",
    "load-committed": "the load is committed, the ledger does not know",
    "load-recorded": "the ledger knows, the file is still in the spool",
    "epoch-agreed": "all chunks are of one picture, the publication has no id",
    "publish-named": "its id is in the ledger, its transaction has not begun",
    "verify": "counts or hashes are compared, nothing is published",
    "swap": "the table is swapped or merged, its history is not written",
    "publish-recorded": "its history is written, nothing is committed",
    "publish-committed": "the publication is committed, the ledger does not know",
    "table-recorded": "the ledger knows that the table is published",
    "register-begun": "dlt's schema is about to be written",
    "register-committed": "dlt's schema is written, the end of the run is not recorded",
    "ledger-compacted": "the run is recorded, the ledger's journal is about to be folded in",
}

_armed = os.environ.get(VARIABLE)
_passed = 0


def armed() -> bool:
    """Tell whether a test armed a point: what it costs to know whether one is passed is not spent else."""
    return _armed is not None


def crash_point(name: str, table: str | None = None) -> None:
    """Kill the process here if a test asked for it."""
    if _armed is not None:
        _consider(_armed, name, table)


def _consider(armed: str, name: str, table: str | None) -> None:
    global _passed
    place, _, count = armed.partition(":")
    wanted, _, only = place.partition("@")
    if wanted != name or (only and table is not None and only != table):
        return
    _passed += 1
    if _passed >= int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
