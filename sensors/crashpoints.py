"""Where a test kills a process of sensors: every change of state that a crash could fall between.

``runner.crash`` kills at them when ``RUNNER_CRASH_AT`` says so; SEMANTICS.md has the table.
"""

from __future__ import annotations

POINTS = {
    "sensor-begun": "a new sensor is noted, it has not looked yet",
    "events-found": "events are found, nothing of them is written",
    "outbox-staged": "events, cursor and outbox are written in a transaction, it is not committed",
    "outbox-committed": "events, cursor and outbox are committed, nothing is sent",
    "status-reported": "how sensors are doing is written, deliveries are under way",
    "send-recorded": "the outbox says that it is being sent, nothing is sent",
    "target-acted": "the target has done it, its answer has not come",
    "sent": "the answer has come, the outbox does not know",
    "delivery-recorded": "the outbox knows that it was done",
    "retry-recorded": "the target was busy, the outbox says when it is sent again",
    "lookup-begun": "after a crash, what may have been done is about to be looked up",
    "lookup-ended": "the lookup has told, nothing is written or sent",
    "child-killed": "the child that a backfill runs in is killed, and then its parent",
    "hold-recorded": "nobody can tell, the outbox holds it, nobody was told",
    "reload-begun": "the file has changed, its sensor is stopped",
    "reload-noted": "the changed sensor is noted, it has not looked yet",
    "stopping": "a signal ends it, what is under way may end first",
}
