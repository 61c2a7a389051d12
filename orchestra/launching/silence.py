"""Whether Orchestra answers: who follows runs for hours is told when it no longer does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TextIO

from orchestra.client import OrchestraClient
from runner.clock import Clock

# Seconds; shorter silences are those of a single request.
NOTED = 10.0
_LOOK = 1.0


def silent_since(client: OrchestraClient) -> datetime | None:
    """Return since when a workspace has not answered; None where that is not worth a word."""
    since = client.transport.unanswered
    long = since is not None and (client.clock.now() - since).total_seconds() >= NOTED
    return since if long else None


class Silence:
    """What is said of addresses that do not answer.

    Args:
        stream: Standard error by default.
    """

    def __init__(self, clients: Iterable[OrchestraClient], clock: Clock, stream: TextIO | None = None) -> None:
        self._clients = list(clients)
        self._clock = clock
        self._stream = stream or sys.stderr

    def lines(self) -> dict[str, str]:
        """Return a sentence for each address that does not answer."""
        found = ((client.workspace.name, silent_since(client)) for client in self._clients)
        return {name: unanswered(name, since) for name, since in found if since is not None}

    async def watch(self) -> None:
        """Write a line when an address no longer answers, and one when it does again; until it is cancelled."""
        before: dict[str, str] = {}
        while True:
            await self._clock.sleep(_LOOK)
            lines = self.lines()
            said = [line for name, line in lines.items() if name not in before]
            said += [f"Orchestra at {name} answers again." for name in before if name not in lines]
            for line in said:
                self._stream.write(f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ} {line}\n")
            self._stream.flush()
            before = lines


def unanswered(name: str, since: datetime) -> str:
    """Return the sentence about an address that has not answered since then."""
    return f"Orchestra at {name} has not answered since {since:%Y-%m-%dT%H:%M:%SZ}."
