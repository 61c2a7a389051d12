"""Write to a Slack channel through an incoming webhook (Slack API docs, "Sending messages using incoming webhooks")."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from sensors.action import Delivery
from sensors.actions.webhook import Webhook, WebhookConfig
from sensors.alert import Alert, slack_messages
from sensors.delivery import ALERTS
from sensors.templates import check, render


class SlackConfig(WebhookConfig):
    """A channel."""

    text: str | None = Field(None, description="template; an alert's own words, or the run key, by default")

    @field_validator("text")
    @classmethod
    def _text(cls, text: str | None) -> str | None:
        check(text)
        return text


class Slack(Webhook):
    """Writes to a Slack channel."""

    kind = "slack"
    config_model = SlackConfig
    promise = "at least once"

    def describe(self) -> str:
        return "writes to Slack"

    def body(self, delivery: Delivery) -> Any:
        assert isinstance(self.config, SlackConfig)
        if self.config.body is not None:
            return super().body(delivery)
        names = delivery.names()
        if self.config.text is not None:
            return {"text": str(render(self.config.text, names))}
        if delivery.sensor == ALERTS:
            return _alert(delivery)
        return {"text": str(names.get("text") or f"{delivery.sensor}: {delivery.run_key}")}


def _alert(delivery: Delivery) -> dict[str, Any]:
    values = delivery.values
    kind = str(values["alert"])
    alert = Alert(
        title=f"{values['file']}: {values['sensor']}: {kind}",
        text=str(values["message"]),
        severity="info" if kind == "recovered" else "error",
        facts={"at": str(values["at"])},
        key=delivery.run_key,
    )
    ((_, message),) = slack_messages([alert])
    return message
