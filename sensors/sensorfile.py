"""The sensor file as pydantic models."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runner.errors import UsageError
from runner.job import Name, SourceSpec, Strict
from runner.units import Duration
from sensors.condition import Condition
from sensors.schedule import Cron, Expectation
from sensors.templates import check

_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AlertKind = Literal["failing", "recovered", "expect", "window", "unknown", "failed"]


class WindowEntry(Strict):
    """When polls take place."""

    cron: str = Field(description="when it opens: five fields, or six as schedules in Orchestra")
    timezone: str = "UTC"
    deadline: Duration = Field(description="how long it stays open")

    @model_validator(mode="after")
    def _cron(self) -> WindowEntry:
        Cron(self.cron, self.timezone)
        return self


class ExpectEntry(Strict):
    """When an event must have come; else there is an alert."""

    by: str | None = Field(None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="time of day")
    timezone: str = "UTC"
    days: str | None = Field(None, description="mon-fri, or mon,wed,sat; every day by default")
    within: Duration | None = Field(None, description="how long before `by` it counts; since midnight by default")
    every: Duration | None = Field(None, description="or: the longest time between two events")

    @model_validator(mode="after")
    def _one(self) -> ExpectEntry:
        if (self.by is None) == (self.every is None):
            raise ValueError("say either by or every")
        _days(self.days)
        Cron("0 0 * * *", self.timezone)
        return self

    def expectation(self) -> Expectation:
        """Return it as the engine asks it."""
        return Expectation(
            by=time.fromisoformat(self.by) if self.by else None,
            zone=Cron("0 0 * * *", self.timezone).zone,
            days=_days(self.days),
            within=self.within,
            every=self.every,
        )


class IdleBackoff(Strict):
    """Longer distances while nothing comes; the first event ends them."""

    after: int = Field(10, ge=1, description="polls without an event")
    factor: float = Field(2.0, gt=1)
    max: Duration = timedelta(minutes=5)


class ActionEntry(BaseModel):
    """What is done with an event; its other keys belong to its type."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="its type by default; unique")
    on_unknown: Literal["hold", "resend"] = Field(
        "hold", description="when nobody can tell whether it was done: wait for a person, or do it (again)"
    )
    attempts: int = Field(150, ge=1, description="how often it is tried while nothing happened: for about a day")
    max_wait: Duration = Field(timedelta(minutes=10), description="longest wait between two attempts")


class SensorEntry(BaseModel):
    """One sensor; its other keys belong to its type."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    type: str
    source: str | SourceSpec | None = Field(None, description="an entry of connections.yml, or inline {type: …}")
    every: Duration = Field(timedelta(seconds=60), ge=timedelta(seconds=1), description="between polls")
    jitter: Duration | None = Field(
        None, description="sensors begin that much apart, by a hash; as long as every by default, 0s: all at once"
    )
    window: WindowEntry | None = None
    condition: str | None = Field(None, description="expression or JSONPath over an event's values")
    cursor: Any = Field("now", description="where it starts the first time: now, beginning, or a value")
    run_key: str | None = Field(None, description="template of what makes an event unique; the type's own by default")
    timeout: Duration = Field(timedelta(seconds=30), gt=timedelta(0), description="of one poll")
    on_event: ActionEntry | list[ActionEntry] = Field(default_factory=list)
    expect: ExpectEntry | None = None
    idle_backoff: IdleBackoff | None = None
    alert_after: int = Field(3, ge=1, description="failed polls in a row")
    disabled: bool = False

    @field_validator("condition")
    @classmethod
    def _condition(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                Condition(text)
            except UsageError as error:
                raise ValueError(error.message) from None
        return text

    @field_validator("run_key")
    @classmethod
    def _run_key(cls, text: str | None) -> str | None:
        check(text)
        return text

    @property
    def options(self) -> dict[str, Any]:
        """The type's own keys."""
        return dict(self.model_extra or {})

    @property
    def actions(self) -> list[ActionEntry]:
        """What is done with its events."""
        return self.on_event if isinstance(self.on_event, list) else [self.on_event]


class AlertEntry(ActionEntry):
    """Who is told when something is wrong."""

    on: list[AlertKind] = Field(
        list(get_args(AlertKind)),
        description="failing: so many failed polls in a row; expect, window: no event came in time; unknown, failed: "
        "of an action",
    )


class SensorLimits(Strict):
    """Bounds of the process."""

    polls: int = Field(200, ge=1, description="looks in flight")
    actions: int = Field(16, ge=1, description="actions in flight")
    connections: int = Field(8, ge=1, description="looks in flight at one system that has no limits of its own")
    keep: Duration = Field(timedelta(days=90), description="how long events that fired are remembered")


class SensorFile(Strict):
    """A file of sensors."""

    name: Name
    defaults: dict[str, Any] = Field(default_factory=dict, description="keys for every sensor that does not say them")
    limits: SensorLimits = Field(default_factory=lambda: SensorLimits())
    alerts: list[AlertEntry] = Field(default_factory=list)
    sensors: list[SensorEntry] = Field(min_length=1)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in re.split(r"\s*,\s*", text.strip().lower()):
        first, _, last = part.partition("-")
        if first not in _WEEK or (last and last not in _WEEK):
            raise ValueError(f"{text!r} is no list of days; write for example mon-fri or mon,wed,sat")
        start, end = _WEEK.index(first), _WEEK.index(last or first)
        days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(days)
