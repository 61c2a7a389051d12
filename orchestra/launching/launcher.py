"""Starts many pipelines, and follows their runs to the end."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import anyio

from orchestra.api.lookup import GRACE, Fate
from orchestra.api.models import PipelineRun
from orchestra.api.waiting import passes
from orchestra.api.workspace import Workspace
from orchestra.client import OrchestraClient
from orchestra.launching.fate import Target
from orchestra.launching.giveninputs import input_problems
from orchestra.launching.launch import Launch, Status
from orchestra.launching.silence import silent_since, unanswered
from runner.clock import Clock
from runner.document import nearest
from runner.errors import (
    CredentialsRejected,
    DeliveryRefused,
    NotDelivered,
    OutcomeUnknown,
    PollTimedOut,
    RunnerError,
    Unreachable,
    UsageError,
)
from runner.tasks import task_group

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_FIRST_LOOK, _LOOK_AGAIN = 2.0, 15.0
_CANCEL = 30.0
RUN_KEY = "run_key"
_KEYS = "Check the variables that hold the API keys: a key belongs to one workspace."


@dataclass(frozen=True)
class Manner:
    """How pipelines are started and followed.

    Attributes:
        wait: Whether runs are followed to their end.
        at_once: Starts under way at one workspace.
        max_active: Runs that have not ended; None for any number.
        sequential: One after another; the first that does not end well is the last.
        retries: How often a start that was not delivered is sent again, ``retry_for``: for how long.
        lookup_for: How long a start of unknown fate is looked for.
        timeout: Seconds for everything; None for any time.
        run_key_input: The input that carries a key of each start, where a pipeline takes it; None for ``run_key``.
    """

    wait: bool = False
    at_once: int = 8
    max_active: int | None = None
    sequential: bool = False
    retries: int = 5
    retry_for: timedelta = timedelta(minutes=10)
    lookup_for: timedelta = timedelta(minutes=5)
    timeout: float | None = None
    run_key_input: str | None = None


class Launcher:
    """Starts pipelines; each at most once, as far as anybody can tell.

    Args:
        clients: By workspace; open.
        changed: Told of each launch that is not what it was.
        new_key: Makes a key that no other start has.
    """

    def __init__(
        self,
        launches: Sequence[Launch],
        clients: Mapping[Workspace, OrchestraClient],
        clock: Clock,
        manner: Manner,
        *,
        changed: Callable[[Launch], None] = lambda _: None,
        new_key: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self.launches = launches
        self.manner = manner
        self.timed_out = False
        self._clients = clients
        self._clock = clock
        self._changed = changed
        self._new_key = new_key
        self._deadline = None if manner.timeout is None else clock.monotonic() + manner.timeout
        self._places = {workspace: anyio.CapacityLimiter(manner.at_once) for workspace in clients}
        self._targets: dict[object, Target] = {}
        # Held from a start until its fate is known, where starts of a pipeline cannot be told apart.
        self._turns: defaultdict[object, anyio.Lock] = defaultdict(anyio.Lock)
        self._taken: set[str] = set()
        self._scope = anyio.CancelScope()
        self._sending: set[anyio.CancelScope] = set()

    # From the outside.

    def stop(self) -> None:
        """Start nothing more and follow nothing any longer; what is being sent now ends first, the second time not."""
        if self._scope.cancel_called:
            for scope in self._sending:
                scope.cancel()
        self._scope.cancel()

    @property
    def stopped(self) -> bool:
        """Whether it ended before everything was done."""
        return self._scope.cancel_called or self.timed_out

    async def run(self) -> None:
        """Start all, and follow them where that is asked for; return when everything is over, or stopped.

        Raises:
            UsageError: Something is wrong that can be seen before the first start; nothing was started.
            ContactError: Orchestra does not answer, or not us; nothing was started.
        """
        with self._scope:
            await self._look()
            active = self.manner.max_active or len(self.launches)
            slots = anyio.Semaphore(1 if self.manner.sequential else active)
            async with task_group() as group:
                for launch in self.launches:
                    await slots.acquire()
                    if self._late() or (self.manner.sequential and any(one.bad for one in self.launches)):
                        slots.release()
                        break
                    group.start_soon(self._launch, launch, slots)
        for launch in self.launches:
            self._settle(launch)

    async def cancel(self) -> list[str]:
        """Cancel the runs that go on; return problems in words."""
        problems: list[str] = []

        async def cancel(launch: Launch) -> None:
            assert launch.run is not None
            try:
                await self._clients[launch.workspace].cancel(launch.run)
            except RunnerError as error:
                problems.append(f"{launch.name}: {error.message}")
            else:
                launch.detail = "cancelling"

        going = [launch for launch in self.launches if launch.unfinished and launch.run]
        with anyio.move_on_after(_CANCEL, shield=True) as scope:
            async with task_group() as group:
                for launch in going:
                    group.start_soon(cancel, launch)
        if scope.cancelled_caught:
            problems.append("Not every cancellation was answered in time.")
        return problems

    # Before the first start.

    async def _look(self) -> None:
        """Look at every pipeline; all that is wrong is said at once."""
        for launch in self.launches:
            entry, client = launch.entry, self._clients[launch.workspace]
            place = self._place(launch)
            if place not in self._targets:
                self._targets[place] = Target(
                    client, launch.pipeline, branch=entry.branch, commit=entry.commit, version=entry.version_number
                )
        errors: dict[object, RunnerError] = {}

        async def look(place: object, target: Target) -> None:
            try:
                await target.look()
            except RunnerError as error:
                errors[place] = error

        async with task_group() as group:
            for place, target in self._targets.items():
                group.start_soon(look, place, target)
        problems: dict[str, None] = {}
        aliases: dict[Workspace, list[str]] = {}
        for launch in self.launches:
            target, error = self._targets[self._place(launch)], errors.get(self._place(launch))
            found: list[str] = []
            if error is not None:
                found = [error.message]
            elif target.exists is False:
                if launch.workspace not in aliases:
                    aliases[launch.workspace] = await _aliases(self._clients[launch.workspace])
                near = nearest(launch.pipeline, aliases[launch.workspace])
                found = ["there is no such pipeline in this workspace." + (f" Did you mean {near!r}?" if near else "")]
            elif target.declared is not None:
                found = input_problems(launch, target.declared, run_key=self.manner.run_key_input or RUN_KEY)
            for problem in found:
                problems[f"{launch.label}/{launch.pipeline}: {problem}"] = None
        name = self.manner.run_key_input
        if name and all(target.declared is not None and not target.takes(name) for target in self._targets.values()):
            problems[f"--run-key-input {name}: no pipeline takes this input."] = None
        if not problems:
            return
        text = "\n".join([*problems, "Nothing was started."])
        if any(isinstance(error, CredentialsRejected) for error in errors.values()):
            raise CredentialsRejected(text, guidance=_KEYS)
        if errors:
            raise Unreachable(text, guidance="Run the same command again when Orchestra answers.")
        raise UsageError(text, guidance="Correct it, or leave these pipelines out with --only.")

    def _place(self, launch: Launch) -> object:
        entry = launch.entry
        return launch.workspace, launch.pipeline, entry.branch, entry.commit, entry.version_number

    # Starting.

    async def _launch(self, launch: Launch, slots: anyio.Semaphore) -> None:
        try:
            await self._begin(launch)
            if launch.status == "started" and self.manner.wait:
                await self._follow(launch)
        finally:
            slots.release()

    async def _begin(self, launch: Launch) -> None:
        target = self._targets[self._place(launch)]
        key = self._give_key(launch, target)
        turn = contextlib.nullcontext() if key else self._turns[launch.workspace, target.id or launch.pipeline]
        async with turn, self._places[launch.workspace]:
            if self._late():
                return
            launch.began, since = self._clock.monotonic(), self._clock.now()
            launch.status = "starting"
            self._changed(launch)
            until = launch.began + self.manner.retry_for.total_seconds()
            refused = 0
            while (problem := await self._attempt(launch, target, since, key)) is not None:
                # To wait for a turn is no attempt.
                launch.attempts -= problem.patient
                refused += not problem.patient
                wait = max(problem.retry_after or 0.0, self._back_off(refused))
                again = self._clock.monotonic() + wait
                if refused > self.manner.retries or again > until:
                    self._end(launch, "not started", problem.message)
                    return
                if self._deadline is not None and again > self._deadline:
                    self.timed_out = launch.unfinished = True
                    self._end(launch, "not started", problem.message)
                    return
                await self._clock.sleep(wait)
            if launch.run is not None:
                self._taken.add(launch.run)
                launch.ended = None if self.manner.wait else self._clock.monotonic()
                self._changed(launch)

    async def _attempt(self, launch: Launch, target: Target, since: datetime, key: str | None) -> NotDelivered | None:
        """Send a start once; return why it certainly began nothing where another attempt may help."""
        try:
            await self._send(launch)
        except NotDelivered as error:
            return error
        except DeliveryRefused as error:
            self._end(launch, "not started", error.message)
        except OutcomeUnknown as error:
            launch.fail("looking", error.message)
            self._changed(launch)
            fate = await self._find(launch, target, since, key)
            if fate is None:
                launch.status, launch.error = "starting", None
                self._changed(launch)
                return NotDelivered(f"{error.message} No run has begun since.")
            if fate.run is not None:
                launch.accept(fate.run)
            else:
                launch.candidates = launch.candidates or tuple(map(launch.workspace.run_url, fate.unclear))
                self._end(launch, "unknown", launch.error or error.message)
        return None

    def _give_key(self, launch: Launch, target: Target) -> str | None:
        """Give a start a key of its own, where its pipeline takes one; return the input that carries it."""
        name = self.manner.run_key_input or RUN_KEY
        if name in launch.inputs or not target.takes(name):
            return None
        launch.start = launch.start.model_copy(update={"run_inputs": {**launch.inputs, name: self._new_key()}})
        # A key that no run shows tells nothing apart.
        return name if target.shows(name) else None

    async def _send(self, launch: Launch) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._sending.add(scope)
            try:
                launch.attempts += 1
                started = await self._clients[launch.workspace].start(launch.pipeline, launch.start)
                launch.accept(started.pipeline_run_id)
            finally:
                self._sending.discard(scope)
        if scope.cancelled_caught:
            raise OutcomeUnknown("It was interrupted while it was being sent.")

    def _back_off(self, refused: int) -> float:
        # Full jitter (Brooker, "Exponential Backoff And Jitter", 2015).
        return self._clock.random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**refused))

    async def _find(self, launch: Launch, target: Target, since: datetime, key: str | None) -> Fate | None:
        """Look for a start of unknown fate; None: it began no run, and can be sent again."""
        sent = self._clock.now()
        fate, wait = Fate(), _FIRST_LOOK
        while True:
            asked = True
            try:
                fate = await target.find(launch.inputs, since, key=key, taken=self._taken)
            except RunnerError as error:
                asked = False
                if not passes(error):
                    launch.fail("looking", error.message)
                    launch.candidates = tuple(error.context.get("runs", ()))
                    return fate
            if fate.run is not None:
                return fate
            now = self._clock.now()
            # A run that goes on from an earlier one may be as old as that.
            if asked and not fate.unclear and now >= sent + GRACE and not launch.entry.retry_from_failed:
                return None
            if now >= sent + max(GRACE, self.manner.lookup_for) or self._late():
                return fate
            await self._clock.sleep(wait)
            wait = min(2 * wait, _LOOK_AGAIN)

    # Following.

    async def _follow(self, launch: Launch) -> None:
        assert launch.run is not None

        def seen(run: PipelineRun) -> None:
            if not run.over and launch.see(run):
                self._changed(launch)

        left = None if self._deadline is None else max(0.0, self._deadline - self._clock.monotonic())
        try:
            run = await self._clients[launch.workspace].wait(launch.run, deadline=left, seen=seen)
        except PollTimedOut:
            self.timed_out = True
        except RunnerError as error:
            self._end(launch, "unknown", f"It was started, and how it goes on cannot be seen: {error.message}")
        else:
            launch.see(run)
            launch.ended = self._clock.monotonic()
            self._changed(launch)

    # Ends.

    def _late(self) -> bool:
        late = self._deadline is not None and self._clock.monotonic() >= self._deadline
        self.timed_out = self.timed_out or late
        return late

    def _end(self, launch: Launch, status: Status, error: str) -> None:
        launch.fail(status, error)
        launch.ended = self._clock.monotonic()
        self._changed(launch)

    def _settle(self, launch: Launch) -> None:
        """Say what became of a launch that was left in the middle."""
        if launch.status in ("waiting", "starting"):
            before = self.manner.sequential and not self.stopped
            why = "The one before it did not end well." if before else "Stopped before it was sent."
            launch.unfinished = not before
            launch.fail("not started", launch.error or why)
        elif launch.status == "looking":
            launch.fail("unknown", launch.error or "")
        elif launch.status == "running" or (launch.status == "started" and self.manner.wait):
            launch.status, launch.unfinished = "running", True
            since = silent_since(self._clients[launch.workspace])
            if since is not None:
                launch.silent = True
                launch.fail("running", unanswered(launch.workspace.name, since))


async def _aliases(client: OrchestraClient) -> list[str]:
    """Return the aliases of a workspace; none where they may not be seen."""
    try:
        async with contextlib.aclosing(client.pipelines()) as pages:
            return [one.alias for page in [page async for page in pages] for one in page if one.alias]
    except RunnerError:
        return []
