"""Call a webhook: POST as JSON, at least once, with an ``Idempotency-Key`` that is the run key.

The header is what the IETF's draft names it (draft-ietf-httpapi-idempotency-key-header); who receives it can tell a
repetition from another event. What is no printable ASCII character, and %, is percent-encoded in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from connectors.http.auth import NoAuth
from connectors.http.client import Http
from connectors.http.config import HttpConfig
from runner.errors import (
    ContactError,
    DeliveryRefused,
    NotDelivered,
    RunnerError,
    SourceDown,
    Throttled,
    Unreachable,
    UsageError,
)
from runner.job import Limits, Retry
from runner.requests import Requests
from runner.secrets import hide
from sensors.action import Action, ActionConfig, Delivery, Sent
from sensors.room import Room
from sensors.templates import check, render

_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%") + " "

_SECRET = 20


class WebhookConfig(ActionConfig):
    """A webhook."""

    url: str = Field(repr=False, description="its path may be a secret")
    method: str = Field("POST", pattern="^(POST|PUT|PATCH)$")
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    body: Any = Field(None, description="template; sensor, run_key, at and values by default")
    ca_file: str | None = None

    @field_validator("body")
    @classmethod
    def _template(cls, body: Any) -> Any:
        check(body)
        return body


class Webhook(Action[WebhookConfig]):
    """Calls a webhook."""

    kind = "webhook"
    config_model = WebhookConfig
    promise = "at least once"

    def __init__(self, options: Mapping[str, Any], room: Room, folder: Path) -> None:
        super().__init__(options, room, folder)
        self._base, self._path = _parts(self.config.url)
        if len(self._path) >= _SECRET:
            # Who knows the path of a hook may call it. A short one is a word that stands elsewhere too.
            hide(self._path.lstrip("/"))

    def describe(self) -> str:
        return f"calls {self._base}"

    def body(self, delivery: Delivery) -> Any:
        """Return what is sent."""
        if self.config.body is not None:
            return render(self.config.body, delivery.names())
        return {
            "sensor": delivery.sensor,
            "run_key": delivery.run_key,
            "at": delivery.at.isoformat(),
            "values": dict(delivery.values),
        }

    async def send(self, delivery: Delivery) -> Sent:
        http = await self.room.connection(("webhook", self._base, self.config.ca_file), self._http)
        headers = {**self.config.headers, "Idempotency-Key": quote(delivery.run_key, safe=_PLAIN)}
        try:
            reply = await http.request(
                self.config.method, self._path, json=self.body(delivery), headers=headers, idempotent=False
            )
        except Throttled as error:
            raise NotDelivered(error.message, retry_after=error.retry_after) from error
        except (SourceDown, Unreachable) as error:
            raise NotDelivered(error.message) from error
        except UsageError:
            raise
        except (ContactError, RunnerError) as error:
            raise DeliveryRefused(error.message) from error
        return Sent(outputs={"status": reply.status})

    def _http(self) -> Http:
        limits = self.room.limits(("webhook", self._base), Limits())
        limits.each = True
        # Deliveries have attempts of their own: what fails here is tried again much later.
        requests = Requests(limits, self.room.clock, retry=Retry(attempts=1))
        config = HttpConfig(ca_file=self.config.ca_file)
        return Http(config, base=self._base, auth=NoAuth(), requests=requests)


def _parts(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("The url of a webhook is no address.", guidance="Begin it with https://.")
    base = f"{parts.scheme}://{parts.netloc}/"
    return base, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
