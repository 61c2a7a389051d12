"""What groups of endpoints share: the transport, and how an answer becomes a model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from connectors.http.answers import Reply
from orchestra.api.models import Answer
from orchestra.api.transport import Transport
from orchestra.api.workspace import Workspace
from runner.clock import Clock
from runner.errors import DeliveryError, DeliveryRefused, NotDelivered, OutcomeUnknown, RequestRefused
from runner.limits import SourceLimits

AnswerT = TypeVar("AnswerT", bound=Answer)


class Endpoints:
    """A group of endpoints of one workspace.

    Args:
        limits: What everybody who asks this workspace shares: concurrency, rate, and one pause.
        more: Keys of Transport: time-outs, retries.

    Attributes:
        transport: What requests go through.
    """

    def __init__(self, workspace: Workspace, clock: Clock, limits: SourceLimits, **more: Any) -> None:
        self.workspace = workspace
        self.clock = clock
        self.transport = Transport(workspace, clock, limits, **more)

    def settled(self, outcome: AnswerT | DeliveryError, reply: Reply) -> AnswerT:
        """Return what became of something that was sent once, and slow down where its answer asks for that.

        Raises:
            NotDelivered: It was not done.
            DeliveryRefused: It was not done, and another attempt cannot help.
            OutcomeUnknown: It may have been done.
        """
        if isinstance(outcome, DeliveryError):
            if isinstance(outcome, NotDelivered) and reply.status in (429, 503):
                self.transport.slow_down(outcome.retry_after)
            raise outcome
        return outcome


@contextlib.contextmanager
def advised(look: str) -> Iterator[None]:
    """Say what to do about something that was to be made once, rather than what a sensor's action would do.

    Args:
        look: Where it can be seen whether it was made.
    """
    try:
        yield
    except NotDelivered as error:
        guidance, after = "Nothing was made: try it again later.", error.retry_after
        raise NotDelivered(error.message, guidance=guidance, retry_after=after, patient=error.patient) from error
    except DeliveryRefused as error:
        known = error.advice != DeliveryRefused.guidance
        guidance = error.advice if known else "Nothing was made: correct what the message says."
        raise DeliveryRefused(error.message, guidance=guidance) from error
    except OutcomeUnknown as error:
        raise OutcomeUnknown(error.message, guidance=f"Before it is sent again, {look}.") from error


def model(kind: type[AnswerT], data: Any, reply: Reply) -> AnswerT:
    """Return what an answer holds.

    Raises:
        RequestRefused: It is something else.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "it"
        raise RequestRefused(
            f"Orchestra: {reply.where}: the answer is not what its reference says: {where}: {wrong['msg']}."
        ) from None


async def models(
    kind: type[AnswerT], pages: AsyncGenerator[tuple[Reply, list[Any]], None]
) -> AsyncGenerator[list[AnswerT], None]:
    """Return what pages hold."""
    async with contextlib.aclosing(pages):
        async for reply, results in pages:
            yield [model(kind, one, reply) for one in results]


def quoted(name: str) -> str:
    """Return a name as one part of a path."""
    return quote(name, safe="")


def given(**params: str | Iterable[str] | None) -> dict[str, str]:
    """Return the parameters that say something; several values are parted by commas."""
    texts = {name: value if isinstance(value, str) else ",".join(value or ()) for name, value in params.items()}
    return {name: text for name, text in texts.items() if text}
