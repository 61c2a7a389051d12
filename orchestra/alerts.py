"""Alerts: to which webhooks they go, how they are posted, and what a run of ours has to tell.

Facts: Slack API docs, "Sending messages using incoming webhooks" and "Rate limits" (429 with Retry-After).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from runner.clock import Clock, SystemClock
from runner.platform import RunReport, TableReport
from runner.secrets import hide, redact
from runner.tasks import task_group
from sensors.alert import Alert, slack_messages

if TYPE_CHECKING:
    import httpx

__all__ = ["ANY", "SLACK", "Alert", "alerts_of", "destinations", "send_alerts"]

SLACK = "ALERTS_SLACK_WEBHOOK"
ANY = "ALERTS_WEBHOOK"
_ATTEMPTS = 4
_FIRST_WAIT = 0.5
_TIMEOUT, _DEADLINE = 10.0, 45.0
# Of a run with more tables than that the rest is counted: the report of the run has them all.
_MOST_TABLES = 10
_BATCH = 50


@dataclass(frozen=True)
class Destination:
    """A webhook.

    Attributes:
        variable: The variable that holds its address: what it is called in messages.
        channel: Which channel it stands for; empty for the default one, None for no channel of Slack.
    """

    variable: str
    url: str = field(repr=False)
    channel: str | None

    @property
    def wrong(self) -> str | None:
        """What is wrong with its address."""
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            known = False
        return None if known and self.url.isascii() and self.url.isprintable() else f"{self.variable} is no address."


def destinations(environ: Mapping[str, str]) -> list[Destination]:
    """Return the webhooks that the environment names; their addresses are secrets from now on."""
    found = []
    for name, text in environ.items():
        url = text.strip()
        if not url or (name not in (SLACK, ANY) and not name.startswith(f"{SLACK}_")):
            continue
        # Who knows the address of a hook may call it.
        hide(url)
        path = url.partition("://")[2].partition("/")[2]
        if len(path) >= 20:
            hide(path)
        found.append(Destination(name, url, None if name == ANY else name[len(SLACK) + 1 :].upper()))
    return found


async def send_alerts(
    alerts: Iterable[Alert],
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
    timeout: float = _TIMEOUT,
    deadline: float = _DEADLINE,
) -> list[str]:
    """Post alerts to where the environment says; nothing happens where it names no webhook.

    An alert goes to the webhook of each of its channels, to the default one where a channel has none, and once to each.
    ALERTS_WEBHOOK is told all of them. What is sent again after an answer was lost may arrive twice, with the same key.

    Args:
        timeout: Seconds for one attempt.
        deadline: Seconds for everything.

    Returns:
        What was not delivered, in words; never raises.
    """
    known = destinations(environ)
    told = list(alerts)
    if not known or not told:
        return []
    plan, problems = _plan(told, known)
    clock = clock or SystemClock()
    ends = clock.monotonic() + deadline
    try:
        async with await _session(timeout) as session, task_group() as group:

            async def work(one: Destination, own: Sequence[Alert]) -> None:
                problems.extend(await _Post(session, one, clock, timeout, ends).send(own))

            for one, own in plan:
                if one.wrong:
                    problems.append(f"{one.wrong} {_count(own)} not delivered.")
                else:
                    group.start_soon(work, one, own)
    except Exception as error:  # the work that is told about is done: whatever this is, it must not undo that
        problems.append(f"Alerts were not delivered: {type(error).__name__}: {error}")
    return [redact(problem) for problem in problems]


def _plan(
    alerts: Sequence[Alert], known: Sequence[Destination]
) -> tuple[list[tuple[Destination, list[Alert]]], list[str]]:
    """Return who is told what, each thing once, and what nobody is told."""
    # Two names of one address are one place.
    places_of: dict[str, Destination] = {}
    slack = {one.channel: places_of.setdefault(one.url, one) for one in known if one.channel is not None}
    general = next((one for one in known if one.channel is None), None)
    told: dict[Destination, dict[Any, Alert]] = {}
    lost: dict[str, None] = {}
    for number, alert in enumerate(alerts):
        names = [_variable(name) for name in alert.channels] or [""]
        places = {one for name in names if (one := slack.get(name) or slack.get(""))} | (
            {general} if general else set()
        )
        if not places:
            lost.setdefault(f"{SLACK}_{names[0]}".rstrip("_"))
        for place in places:
            told.setdefault(place, {}).setdefault(alert.key or number, alert)
    problems = [f"{name} is not set, nor is {SLACK}: nobody was told." for name in lost if name != SLACK]
    problems += [f"{SLACK} is not set: nobody was told what has no channel." for name in lost if name == SLACK]
    return [(place, list(own.values())) for place, own in told.items()], problems


def _variable(channel: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", channel.upper()).strip("_")


@dataclass
class _Post:
    """Posts to one webhook, one message after the other."""

    session: httpx.AsyncClient
    place: Destination
    clock: Clock
    timeout: float
    ends: float

    async def send(self, alerts: Sequence[Alert]) -> list[str]:
        """Return what went wrong; after that nothing more is sent."""
        left = len(alerts)
        for told, body in self._bodies(alerts):
            wrong = await self._message(body)
            if wrong:
                return [f"{self.place.variable}: {_count(alerts[-left:])} not delivered: {wrong}"]
            left -= len(told)
        return []

    def _bodies(self, alerts: Sequence[Alert]) -> Iterable[tuple[Sequence[Alert], dict[str, Any]]]:
        if self.place.channel is not None:
            return slack_messages(alerts)
        parts = [alerts[at : at + _BATCH] for at in range(0, len(alerts), _BATCH)]
        return [(part, {"alerts": [alert.shown() for alert in part]}) for part in parts]

    async def _message(self, body: dict[str, Any]) -> str | None:
        wrong, wait = "", 0.0
        for attempt in range(_ATTEMPTS):
            if attempt:
                # Full jitter between half and all of it: several tasks may fail at the same moment.
                wait = wait or _FIRST_WAIT * 2 ** (attempt - 1) * self.clock.random.uniform(0.5, 1)
                if self.clock.monotonic() + wait >= self.ends:
                    return f"{wrong} It is not tried again: there is no time left."
                await self.clock.sleep(wait)
            left = self.ends - self.clock.monotonic()
            if left <= 0:
                return wrong or "there was no time left."
            wrong, wait, again = await self._attempt(body, min(left, self.timeout))
            if not wrong:
                return None
            if not again:
                break
        return wrong

    async def _attempt(self, body: dict[str, Any], seconds: float) -> tuple[str, float, bool]:
        """Send it once; return what went wrong, how long they asked to wait, and whether another attempt can help."""
        import httpx

        from connectors.http.answers import retry_after

        host = urlsplit(self.place.url).hostname
        try:
            with anyio.fail_after(seconds):
                answer = await self.session.post(self.place.url, json=body)
        except (httpx.HTTPError, TimeoutError) as error:
            return f"{host} did not answer ({type(error).__name__}).", 0.0, True
        if answer.is_success:
            return "", 0.0, False
        said = " ".join(answer.text[:300].split())
        wrong = f"{host} said {answer.status_code}{f': {said}' if said else ''}."
        asked = retry_after(answer.headers.get("Retry-After"), self.clock.now())
        return wrong, asked or 0.0, answer.status_code >= 500 or answer.status_code in (408, 425, 429)


async def _session(timeout: float) -> httpx.AsyncClient:
    # A task that has nothing to tell never loads it.
    import httpx

    verify = await anyio.to_thread.run_sync(httpx.create_ssl_context)
    return httpx.AsyncClient(verify=verify, timeout=timeout, follow_redirects=False)


def _count(alerts: Sequence[Alert]) -> str:
    return "1 alert was" if len(alerts) == 1 else f"{len(alerts)} alerts were"


# What a run of ours has to tell.


def alerts_of(report: RunReport, *, url: str = "") -> list[Alert]:
    """Return what a run has to tell: that nothing could start, which tables failed, what differs from the lock file.

    A run that is done, or not finished and will be tried again, has nothing to tell but drift.

    Args:
        url: Where to look.
    """
    facts = {"job": report.job, "command": report.command, "exit code": str(report.exit_code)}
    if report.run:
        facts |= {"run": report.run, "tables": str(len(report.tables)), "seconds": f"{report.seconds:.0f}"}
    found = []
    failed = [table for table in report.tables if table.state == "failed"]
    if failed:
        found.append(
            Alert(_title(report, failed), _tables(failed, report), "error", facts, url, _key(report, "failed"))
        )
    elif report.exit_code in (1, 2):
        title = f"{report.job}: {'nothing could start' if report.exit_code == 2 else 'the run failed'}"
        text = _lines(report.error, report.advice)
        found.append(Alert(title, text, "error", facts, url, _key(report, "failed", text)))
    if report.drift:
        text = _list([f"{table}: {words}" for table, words in report.drift.items()])
        title = f"{report.job}: the source is not what the lock file says"
        # Every run of a day says the same until somebody looks: it is one thing that is told, not one for each run.
        key = f"{report.job}:drift:{_digest(text)}"
        found.append(Alert(title, text, "warning", facts, url, key))
    return found


def _title(report: RunReport, failed: Sequence[TableReport]) -> str:
    if len(report.tables) == 1:
        return f"{report.job}: {failed[0].name} failed"
    return f"{report.job}: {len(failed)} of {len(report.tables)} tables failed"


def _tables(failed: Sequence[TableReport], report: RunReport) -> str:
    told = _list([_lines(f"{table.name}: {table.error or 'no error was kept'}", table.advice) for table in failed])
    return _lines(told, report.error, report.advice)


def _list(lines: Sequence[str]) -> str:
    more = len(lines) - _MOST_TABLES
    return "\n".join([*lines[:_MOST_TABLES], *([f"… and {more} more."] if more > 0 else [])])


def _lines(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part)


def _key(report: RunReport, what: str, text: str = "") -> str:
    return f"{report.job}:{report.run or _digest(text)}:{what}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
