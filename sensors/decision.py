"""What a person decides about deliveries that nobody else can: send them again, or take them as done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Literal

from runner.errors import DiskFull, UsageError
from sensors.status import Outgoing
from sensors.store import OUTGOING

Decision = Literal["resend", "settle"]
# The engine writes in between: its transactions are short.
_WAIT = 10.0
_CHANGES: dict[Decision, str] = {
    # When it was sent first stays noted: it is the same delivery, done again because a person says so.
    "resend": "state = 'pending', attempts = 0, next_at = null, done_at = null, error = null",
    "settle": "state = 'delivered', done_at = :now, next_at = null, error = null",
}


def decide(
    path: Path,
    decision: Decision,
    run_key: str,
    now: datetime,
    *,
    action: str | None = None,
    sensor: str | None = None,
) -> list[Outgoing]:
    """Change what is unknown or has failed, also while the sensors are at work; return it as it was.

    Args:
        path: The file in which the sensors keep their state.
        action: Only what goes to this action, by its name in the file.
        sensor: Only what this sensor found.

    Raises:
        UsageError: There is no such delivery, it needs no decision, or it is not clear which is meant.
        DiskFull: The file cannot be written.
    """
    chosen = "run_key = :run_key and (:action is null or action = :action) and (:sensor is null or sensor = :sensor)"
    values = {"run_key": run_key, "action": action, "sensor": sensor, "now": now.timestamp()}
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None)) as connection:
            connection.execute("begin immediate")
            rows = connection.execute(f"select {OUTGOING} from outbox where {chosen} order by id", values)
            found = [Outgoing(*row) for row in rows]
            decided = _undecided(found, run_key, action, sensor)
            connection.execute(
                f"update outbox set {_CHANGES[decision]} where state in ('unknown', 'failed') and {chosen}", values
            )
            connection.execute("commit")
    except sqlite3.Error as error:
        raise DiskFull(
            f"The sensors' state {path} cannot be written: {error}.",
            guidance="Free some space, or wait for who holds it, and run the same command again.",
        ) from error
    return decided


def _undecided(found: list[Outgoing], run_key: str, action: str | None, sensor: str | None) -> list[Outgoing]:
    where = "".join(f" of {word} {name!r}" for word, name in (("action", action), ("sensor", sensor)) if name)
    if not found:
        raise UsageError(
            f"The outbox has no delivery with the run key {run_key!r}{where}.", guidance="--outbox lists what is open."
        )
    undecided = [one for one in found if one.state in ("unknown", "failed")]
    if not undecided:
        states = ", ".join(f"{one.action}: {one.state}" for one in found)
        raise UsageError(
            f"{run_key!r}{where} needs no decision ({states}).",
            guidance="What is pending or sending is on its way, and what was delivered is not sent twice.",
        )
    sensors = sorted({one.sensor for one in undecided})
    if len(sensors) > 1:
        raise UsageError(
            f"Several sensors have a delivery with the run key {run_key!r}: {', '.join(sensors)}.",
            guidance="Say which with --sensor NAME.",
        )
    return undecided
