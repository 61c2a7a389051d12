"""A process that is a task: what it waits for, what came of it, and when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from runner.clock import Clock
from runner.errors import Interrupted, NoEvent, RunnerError, SourceError, at_first_contact
from runner.tasks import first_of
from runner.units import format_seconds
from sensors.store import Fired
from sensors.watch import Watch

# How long what an event asks for is waited for.
_SETTLE = 300.0


@dataclass(frozen=True)
class Wanted:
    """What is waited for.

    Attributes:
        seconds: How long; 0 looks once at each sensor.
        every: Whether each sensor must have fired; else one is enough.
    """

    seconds: float
    every: bool = True


@dataclass
class Outcome:
    """How it ended.

    Attributes:
        fired: The events that came, by sensor; also those that an attempt before this one found and could not tell.
        states: What became of what they ask for: delivered, failed, unknown.
        outputs: What their actions returned.
        waiting: How much of it is still to be done.
    """

    fired: dict[str, list[Fired]] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, Any] = field(default_factory=dict)
    waiting: int = 0

    @property
    def well(self) -> bool:
        """Whether all that the events ask for was done."""
        return not (self.waiting or self.states["failed"] or self.states["unknown"])


class Task:
    """Waits for the events of sensors, and for what they ask for.

    Attributes:
        once: Whether each sensor looks once.
        outcome: What came, so far.
    """

    def __init__(self, wanted: Wanted, clock: Clock) -> None:
        self.once = wanted.seconds == 0
        self.outcome = Outcome()
        self._wanted = wanted
        self._clock = clock
        self._watches: Mapping[str, Watch] = {}
        self._open: Counter[tuple[str, str]] = Counter()
        self._complete, self._looked, self._settled = anyio.Event(), anyio.Event(), anyio.Event()
        self._refused: RunnerError | None = None

    def begin(self, watches: Mapping[str, Watch]) -> None:
        """Note which sensors are waited for."""
        self._watches = watches

    def fired(self, sensor: str, fired: Sequence[Fired]) -> None:
        """Note events that are durable."""
        if sensor not in self._watches:
            return
        known = {one.run_key for one in self.outcome.fired.get(sensor, [])}
        self.outcome.fired.setdefault(sensor, []).extend(one for one in fired if one.run_key not in known)
        for one in fired:
            self._open[sensor, one.run_key] += len(one.actions)
        if not self._missing():
            self._complete.set()
        self._check()

    def settled(self, sensor: str, run_key: str, state: str, outputs: Mapping[str, Any]) -> None:
        """Note what came of one thing that an event asks for."""
        if (sensor, run_key) in self._open:
            self.outcome.states[state] += 1
            self.outcome.outputs.update(outputs)
            self._open[sensor, run_key] -= 1
            self._check()

    def refused(self, error: RunnerError) -> None:
        """Note an error that waiting cannot help."""
        self._refused = self._refused or error
        self._complete.set()

    def ended(self, count: int) -> None:
        """Note how many sensors look no more."""
        if count == len(self._watches):
            self._looked.set()

    async def wait(self, stopping: anyio.Event) -> None:
        """Wait until it is over.

        Raises:
            NoEvent: Nothing has come in time.
            Interrupted: It was told to stop before.
            RunnerError: A sensor could not look at all.
        """
        over = self._looked.wait if self.once else partial(self._clock.sleep, self._wanted.seconds)
        await first_of(self._complete.wait, stopping.wait, over)
        missing = self._missing()
        if missing and stopping.is_set():
            raise Interrupted("The sensors were told to stop before an event had come.")
        if missing and self._refused is not None:
            raise _at_first_contact(self._refused)
        if self.outcome.fired:
            await first_of(self._settled.wait, stopping.wait, partial(self._clock.sleep, _SETTLE))
        self.outcome.waiting = sum(count for count in self._open.values() if count > 0)
        if missing:
            for name in missing:
                error = self._watches[name].error
                if error is not None and not self._watches[name].looked:
                    # That nobody could look does not mean that nothing is there.
                    raise _at_first_contact(error)
            waited = f" within {format_seconds(self._wanted.seconds)}" if self._wanted.seconds else ""
            raise NoEvent(f"No event has come{waited}: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}.")

    def _missing(self) -> list[str]:
        """Return the sensors that must fire and have not."""
        if self.outcome.fired and not self._wanted.every:
            return []
        return [name for name in self._watches if name not in self.outcome.fired]

    def _check(self) -> None:
        if all(count <= 0 for count in self._open.values()):
            self._settled.set()
        elif self._settled.is_set():
            self._settled = anyio.Event()


def _at_first_contact(error: RunnerError) -> RunnerError:
    return at_first_contact(error) if isinstance(error, SourceError) else error
