"""The webhook of Orchestra: what a task says of itself while it runs.

Facts: Orchestra docs, "Setting task outputs" (POST of events with the API key and the id of the task run) and the
README of orchestra-sdk (ORCHESTRA_TASK_RUN_ID, ORCHESTRA_API_KEY, ORCHESTRA_WEBHOOK_URL; UPDATE_STATUS, SET_OUTPUT).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import anyio

from runner.secrets import hide, redact

if TYPE_CHECKING:
    import httpx

ADDRESS = "https://webhook.getorchestra.io"
_ATTEMPTS = 3
_TIMEOUT, DEADLINE = 10.0, 45.0


@dataclass(frozen=True)
class Event:
    """Something that a task says.

    Attributes:
        what: What it is, for messages: the output rows.
        body: As it is sent.
    """

    what: str
    body: bytes = field(repr=False)


class Webhook:
    """The webhook, for the task run that this process is.

    Attributes:
        run: The id of the task run; empty outside Orchestra.
        wrong: Why nothing can be said, in words; None where it can.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.run = environ.get("ORCHESTRA_TASK_RUN_ID", "")
        self._key = environ.get("ORCHESTRA_API_KEY", "")
        self._url = environ.get("ORCHESTRA_WEBHOOK_URL") or ADDRESS
        if self._key:
            hide(self._key)
        self.wrong = self._wrong()

    def event(self, what: str, kind: str, **fields: Any) -> Event:
        """Return an event of this task run.

        Raises:
            ValueError: A value is no JSON.
        """
        body = {"event_type": kind, "task_run_id": self.run, "metadata": {}, **fields}
        try:
            return Event(what, json.dumps(body, default=str, allow_nan=False).encode())
        except TypeError as error:
            raise ValueError(str(error)) from error

    async def send(self, events: Sequence[Event], *, first_wait: float = 0.5, deadline: float = DEADLINE) -> list[str]:
        """Send events in their order; what went wrong for a moment is tried again: said twice is as good as once.

        Args:
            first_wait: Seconds before the second attempt; each later wait is twice as long.
            deadline: Seconds for everything.

        Returns:
            What went wrong, in words; a task does not fail for it.
        """
        if not events:
            return []
        if self.wrong:
            return [f"Orchestra was not told: {self.wrong}"]
        problems: list[str] = []
        left = [event.what for event in events]
        try:
            with anyio.move_on_after(deadline) as scope:
                async with await self._session() as session:
                    for event in events:
                        failed = await self._post(session, event.body, first_wait)
                        left.remove(event.what)
                        if failed:
                            problems.append(f"Orchestra was not told {event.what}: {failed}")
            if scope.cancelled_caught:
                problems.append(f"Orchestra was not told in time: {', '.join(left)}.")
        except Exception as error:  # the work of the task is done: whatever this is, it must not undo that
            problems.append(f"Orchestra was not told: {', '.join(left)} ({type(error).__name__}: {error})")
        return [redact(problem) for problem in problems]

    def _wrong(self) -> str | None:
        try:
            UUID(self.run)
        except ValueError:
            return "ORCHESTRA_TASK_RUN_ID is no id of a task run."
        if not self._key:
            return "ORCHESTRA_API_KEY is not set."
        if not self._key.isascii() or not self._key.isprintable():
            return "ORCHESTRA_API_KEY holds what no key holds."
        if urlsplit(self._url).scheme not in ("http", "https") or not urlsplit(self._url).hostname:
            return "ORCHESTRA_WEBHOOK_URL is no address."
        return None

    async def _session(self) -> httpx.AsyncClient:
        # A task that no platform started never loads it.
        import httpx

        return httpx.AsyncClient(
            verify=await anyio.to_thread.run_sync(httpx.create_ssl_context),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            timeout=_TIMEOUT,
            follow_redirects=False,
        )

    async def _post(self, session: httpx.AsyncClient, body: bytes, wait: float) -> str | None:
        """Send one event; return what went wrong."""
        import httpx

        failed = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await anyio.sleep(wait * 2 ** (attempt - 1))
            try:
                response = await session.post(self._url, content=body)
            except httpx.HTTPError as error:
                failed = f"{urlsplit(self._url).netloc} did not answer ({type(error).__name__})."
                continue
            if response.is_success:
                return None
            failed = f"Orchestra said {response.status_code}: {' '.join(response.text[:300].split())}"
            if response.status_code < 500 and response.status_code not in (408, 425, 429):
                break
        return failed
