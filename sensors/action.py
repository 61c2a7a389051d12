"""The port that every action implements: what is done when an event has come, and what it promises."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from runner.errors import OutcomeUnknown
from sensors.room import Room

Promise = Literal["exactly once", "at least once"]


class ActionConfig(BaseModel):
    """The keys of one type of action, beside those that every action takes (``sensorfile.ActionEntry``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


ConfigT = TypeVar("ConfigT", bound=ActionConfig)


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one action.

    Attributes:
        run_key: What makes the event unique, everywhere and for ever.
        values: What the event says.
        at: When the event was found.
        sent_at: When it was sent for the first time since it was last known that nothing had happened; None before.
        tried_at: Until when it may have been on its way, the last time.
        attempt: From 1.
    """

    sensor: str
    run_key: str
    values: Mapping[str, Any]
    at: datetime
    sent_at: datetime | None = None
    tried_at: datetime | None = None
    attempt: int = 1

    def names(self) -> dict[str, Any]:
        """Return what templates of an action can name: the event's values, sensor, run_key and at."""
        return {"at": self.at.isoformat(), **self.values, "sensor": self.sensor, "run_key": self.run_key}


@dataclass(frozen=True)
class Sent:
    """An action that was done.

    Attributes:
        reference: What it is called where it was done: the id of a run.
        outputs: JSON-ready values for whoever waits for it.
    """

    reference: str | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)


class Action(abc.ABC, Generic[ConfigT]):
    """A type of action; one object for each action of a sensor.

    Args:
        options: The keys of its own type, secrets resolved.
        room: What the sensors of a process share.
        folder: Where relative paths begin: the folder of the sensor file.

    Attributes:
        longest: From when it is told to send until nothing of it is on its way any more, for one that is looked up.

    Raises:
        pydantic.ValidationError: A wrong key or value.
        UsageError: What it was told makes no sense.
    """

    kind: ClassVar[str]
    config_model: ClassVar[type[ActionConfig]]
    promise: ClassVar[Promise] = "at least once"
    longest: ClassVar[timedelta] = timedelta()

    def __init__(self, options: Mapping[str, Any], room: Room, folder: Path) -> None:
        self.config: ConfigT = cast("ConfigT", self.config_model.model_validate(dict(options)))
        self.room = room
        self.folder = folder

    @abc.abstractmethod
    def describe(self) -> str:
        """Return what it does in a few words, without secrets: ``starts the pipeline load_orders``."""

    @abc.abstractmethod
    async def send(self, delivery: Delivery) -> Sent:
        """Do it.

        Raises:
            NotDelivered: Nothing happened; it can be sent again.
            DeliveryRefused: Nothing happened, and nothing will: another attempt cannot help.
            OutcomeUnknown: Nobody knows whether it happened.
        """

    async def find(self, delivery: Delivery) -> Sent | None:
        """Return what became of a delivery that may have been sent; None when it surely was not.

        Asked only of actions that promise exactly once, before anything is sent again. The others are sent again.
        What cannot be looked up is held.

        Raises:
            NotDelivered: It cannot be told yet; ask again later.
            OutcomeUnknown: Nobody can tell.
        """
        raise OutcomeUnknown("What it does cannot be looked up.")
