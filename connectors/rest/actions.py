"""Response actions: what the configuration says about answers of a status, or with a text in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from connectors.http import Reply
from connectors.rest.config import Action
from connectors.rest.paginators import Answer
from runner.errors import RequestRefused, RunnerError


class Settled(RunnerError):
    """An answer that an action dealt with; it never leaves this package.

    Attributes:
        answer: What the action left of it; None where it ends the pages.
    """

    def __init__(self, answer: Answer | None) -> None:
        super().__init__()
        self.answer = answer


class Response:
    """An answer as functions written for the package requests know it: they may change it.

    https://requests.readthedocs.io/en/latest/api/#requests.Response
    """

    def __init__(self, reply: Reply) -> None:
        self.status_code = reply.status
        self.headers = dict(reply.headers)
        self.url = reply.url
        self.reason = ""
        self.encoding: str | None = "utf-8"
        self._content = reply.body

    @property
    def content(self) -> bytes:
        """The body."""
        return self._content

    @property
    def text(self) -> str:
        """The body as text."""
        return self._content.decode(self.encoding or "utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether it is no error."""
        return self.status_code < 400

    def json(self, **_: Any) -> Any:
        """Return the body's value."""
        return json.loads(self.text)

    def raise_for_status(self) -> None:
        """Raise an error if it is one."""
        if not self.ok:
            raise ValueError(f"status {self.status_code}")


def act(actions: Sequence[Action], reply: Reply) -> RunnerError | None:
    """Return what the actions make of an answer: Settled, an error, or None where they leave it alone."""
    response: Response | None = None
    for action in actions:
        if not _applies(action, reply, response):
            continue
        if action.action == "ignore":
            return Settled(None)
        if action.action == "raise":
            words = f": {reply.message}" if reply.message else ""
            if reply.status < 400:
                return RequestRefused(f"{reply.where}: response_actions take this answer for an error{words}.")
            continue
        response = response or Response(reply)
        for function in action.action or ():
            error = _called(function, response, reply)
            if error is not None:
                return error
    if response is None or not response.ok:
        return None
    try:
        data = response.json() if response.content.strip() else None
    except ValueError:
        data = None
    return Settled(Answer(data, reply.headers, reply.url, response.content))


def _applies(action: Action, reply: Reply, response: Response | None) -> bool:
    status = reply.status if response is None else response.status_code
    if action.status_code is not None and action.status_code != status:
        return False
    if action.content is not None:
        return action.content in (reply.text if response is None else response.text)
    return action.status_code is not None or action.action not in ("ignore", "raise")


def _called(function: Any, response: Response, reply: Reply) -> RunnerError | None:
    try:
        function(response)
    except Exception as error:  # it is the user's, and may raise anything
        if type(error).__name__ == "IgnoreResponseException":
            return Settled(None)
        name = getattr(function, "__name__", "a function")
        return RequestRefused(f"{reply.where}: the response action {name} says: {type(error).__name__}: {error}.")
    return None
