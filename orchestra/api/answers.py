"""What an answer of Orchestra means: for a read, and for a start, which must not happen twice.

Facts: Orchestra docs, API, "Errors": the body's ``detail`` is a text, or for 422 a list of ``{loc, msg, type}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from connectors.http.answers import Reply, retry_after
from orchestra.api.models import Answer, Started
from orchestra.api.workspace import Workspace
from runner.errors import (
    CredentialsRejected,
    DeliveryError,
    DeliveryRefused,
    NotDelivered,
    OutcomeUnknown,
    PermissionMissing,
    RequestRefused,
    RunnerError,
    SourceDown,
    Throttled,
)
from runner.secrets import redact

AnswerT = TypeVar("AnswerT", bound=Answer)

_LONGEST = 400
# Parts of ``loc`` that say where in a request a mistake is, not which key it is.
_PLACES = ("body", "query", "path", "header")
_KEY = "Check api_key (ORCHESTRA_API_KEY): a key belongs to one workspace."
_ADDRESS = "Correct base_url (ORCHESTRA_BASE_URL): https://app.getorchestra.io/api/engine/public."


def words(reply: Reply) -> str:
    """Return Orchestra's own words; without secrets, empty where it has none."""
    found = _words(reply.data)
    if not found and not reply.text.lstrip().startswith("<"):
        found = reply.text
    return redact(" ".join(found[: 10 * _LONGEST].split()))[:_LONGEST]


def _words(data: Any) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, list):
        return "; ".join(filter(None, map(_words, data[:5])))
    if not isinstance(data, Mapping):
        return ""
    if "msg" in data and isinstance(data.get("loc"), list | tuple):
        place = ".".join(str(part) for part in data["loc"] if part not in _PLACES)
        return f"{place}: {data['msg']}" if place else str(data["msg"])
    for key in ("detail", "message", "error", "msg", "errors"):
        if found := _words(data.get(key)):
            return found
    return ""


def judge_read(reply: Reply, workspace: Workspace, *, now: datetime) -> RunnerError | None:
    """Return the error that the answer to a read means; None for a good one."""
    status = reply.status
    if 200 <= status < 300:
        return None
    said = f"Orchestra: {reply.where} ({status}){_tail(words(reply))}"
    if status == 401:
        return CredentialsRejected(said, guidance=_KEY)
    if status == 403:
        return PermissionMissing(said, guidance=f"{_KEY} It may also lack the right to do this.")
    if status == 429 or (status == 503 and reply.header("Retry-After")):
        return Throttled(said, retry_after=retry_after(reply.header("Retry-After"), now))
    if status >= 500 or status in (408, 425):
        return SourceDown(said)
    if 300 <= status < 400:
        return RequestRefused(_elsewhere(workspace), guidance=_ADDRESS)
    return RequestRefused(said)


def judge_once(
    reply: Reply, kind: type[AnswerT], key: str, what: str, workspace: Workspace, *, now: datetime
) -> AnswerT | DeliveryError:
    """Return what became of something that must not happen twice, or the error that says whether it may be sent again.

    A gateway may answer 500, 502, 503 or 504 for a request that it had passed on. Only 429, and a 503 with Retry-After,
    say that nothing was done.

    Args:
        kind: What a good answer is.
        key: What it names the new thing by.
        what: What was asked for: a start of 'shop'.
    """
    status, said = reply.status, _tail(words(reply))
    if 200 <= status < 300:
        try:
            return kind.model_validate(reply.data)
        except ValidationError:
            return OutcomeUnknown(f"Orchestra accepted {what} ({status}), and the answer says no {key}.")
    if status == 429 or (status == 503 and reply.header("Retry-After")):
        wait = retry_after(reply.header("Retry-After"), now)
        return NotDelivered(f"Orchestra asked us to slow down ({status}){said}", retry_after=wait)
    if status in (408, 425):
        return NotDelivered(f"Orchestra did not take {what} ({status}){said}")
    if status >= 500:
        return OutcomeUnknown(f"Orchestra answered {status} to {what}, which may have been done all the same{said}")
    if 300 <= status < 400:
        return DeliveryRefused(_elsewhere(workspace), guidance=_ADDRESS)
    if status in (401, 403):
        return DeliveryRefused(f"Orchestra does not allow {what} ({status}){said}", guidance=_KEY)
    return DeliveryRefused(f"Orchestra refused {what} ({status}){said}")


def judge_start(reply: Reply, pipeline: str, workspace: Workspace, *, now: datetime) -> Started | DeliveryError:
    """Return what a start became, as ``judge_once``; a refusal says what to do about it."""
    outcome = judge_once(reply, Started, "pipelineRunId", f"a start of {pipeline!r}", workspace, now=now)
    if isinstance(outcome, DeliveryRefused) and reply.status >= 400:
        return _refused(reply.status, words(reply), pipeline)
    return outcome


def _refused(status: int, said: str, pipeline: str) -> DeliveryRefused:
    tail = _tail(said)
    again = "then `runner sensors FILE --resend RUN_KEY` sends it again."
    if status in (401, 403):
        return DeliveryRefused(
            f"Orchestra does not let us start {pipeline!r} ({status}){tail}", guidance=f"{_KEY} {again}"
        )
    if status == 404:
        return DeliveryRefused(
            f"There is no pipeline {pipeline!r} in this workspace ({status}){tail}",
            guidance=f"Check its alias or id, and that the API key is of its workspace; {again}",
        )
    if status == 400 and re.search(r"\bpaused\b", said, re.IGNORECASE):
        return DeliveryRefused(
            f"The pipeline {pipeline!r} is paused, so it cannot be started ({status}){tail}",
            guidance=f"Unpause it in Orchestra; {again}",
        )
    if re.search(r"\binputs?\b", said, re.IGNORECASE):
        return DeliveryRefused(
            f"The pipeline {pipeline!r} does not take these inputs ({status}){tail}",
            guidance=f"Correct `inputs:` of the action, or give the inputs of the pipeline a default; {again}",
        )
    return DeliveryRefused(f"Orchestra refused to start {pipeline!r} ({status}){tail}")


def _elsewhere(workspace: Workspace) -> str:
    return f"{workspace.name} leads to another address, and the API key is not for that one."


def _tail(said: str) -> str:
    return f": {said}" if said else "."
