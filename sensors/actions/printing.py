"""Print each event as one line of JSON to standard output, at least once."""

from __future__ import annotations

import json
import sys

import anyio

from sensors.action import Action, ActionConfig, Delivery, Sent


class PrintConfig(ActionConfig):
    """It has no keys."""


class Print(Action[PrintConfig]):
    """Prints."""

    kind = "print"
    config_model = PrintConfig
    promise = "at least once"

    def describe(self) -> str:
        return "prints"

    async def send(self, delivery: Delivery) -> Sent:
        line = json.dumps(
            {
                "sensor": delivery.sensor,
                "run_key": delivery.run_key,
                "at": delivery.at.isoformat(),
                "values": dict(delivery.values),
            },
            ensure_ascii=False,
        )

        def write() -> None:
            # A pipe that nobody reads blocks the writer; the loop goes on, and whoever is cancelled leaves it behind.
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

        await anyio.to_thread.run_sync(write, abandon_on_cancel=True)
        return Sent()
