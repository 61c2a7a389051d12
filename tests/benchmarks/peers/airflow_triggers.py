"""What Airflow's triggerer runs: triggers that look at nothing every so many seconds, and note how late they were."""

import asyncio
import os
import threading
import time

from airflow.triggers.base import BaseEventTrigger

_late = []


def _note():
    """Write, every second and beside the loop, how late each look was."""
    with open(os.environ["LATENESSES"], "a") as file:
        while True:
            time.sleep(1)
            found, _late[:] = _late[:], []
            file.writelines(f"{at} {late}\n" for at, late in found)
            file.flush()


class IdleTrigger(BaseEventTrigger):
    """Never fires."""

    started = False

    def __init__(self, number, count, every):
        super().__init__()
        self.number, self.count, self.every = number, count, every

    def serialize(self):
        return "airflow_triggers.IdleTrigger", {"number": self.number, "count": self.count, "every": self.every}

    async def run(self):
        if not IdleTrigger.started:
            IdleTrigger.started = True
            threading.Thread(target=_note, daemon=True).start()
        shift = self.every * self.number / self.count
        due = (time.time() - shift) // self.every * self.every + self.every + shift
        while True:
            await asyncio.sleep(max(0.0, due - time.time()))
            now = time.time()
            _late.append((now, now - due))
            due += self.every
        yield
