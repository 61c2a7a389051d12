"""What became of a start whose answer was lost: the run that it began, or the certainty that there is none.

A start carries a key of its own, where its pipeline takes an input for one (``orchestra.api.lookup``). Else its other
inputs are looked for, as far as runs show them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from orchestra.api.definitions import InputUses
from orchestra.api.lookup import Fate, began, judge
from orchestra.client import OrchestraClient, is_id
from runner.errors import OutcomeUnknown, PermissionMissing, RequestRefused


class Target:
    """A pipeline that is started: what is known of it before.

    Args:
        pipeline: Alias or id.

    Attributes:
        id: None where it is not known.
        exists: Whether there is such a pipeline; None where we may not know.
        declared: The inputs that it takes, by name as its definition has them; None where they are not known.
    """

    def __init__(
        self,
        client: OrchestraClient,
        pipeline: str,
        *,
        branch: str | None = None,
        commit: str | None = None,
        version: int | None = None,
    ) -> None:
        self.client = client
        self.pipeline = pipeline
        self.id = pipeline if is_id(pipeline) else None
        self.exists: bool | None = None
        self.declared: Mapping[str, Any] | None = None
        self._branch, self._commit, self._version = branch, commit, version
        self._definition: dict[str, Any] | None = None
        self._inputs: dict[str, Any] = {}
        self._before: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Find out what the pipeline takes, and which of its runs began just now.

        Raises:
            RunnerError: Orchestra cannot be asked at all.
        """
        try:
            pipeline = await self.client.pipeline(self.pipeline)
            self.exists = pipeline is not None
            if pipeline is None:
                return
            self.id = pipeline.id
            self._definition = await self.client.definition(
                self.pipeline, branch=self._branch, commit=self._commit, version=self._version
            )
            # What a branch or a version takes is not what the pipeline takes as it is published.
            self._inputs = {} if self._branch or self._commit or self._version else pipeline.inputs
            if self._definition is not None or self._inputs:
                own = (self._definition or {}).get("inputs")
                self.declared = {**self._inputs, **(own if isinstance(own, Mapping) else {})}
            _, runs = await began(self.client, pipeline.id, self.client.clock.now())
            self._before = frozenset(runs)
        except (PermissionMissing, RequestRefused, OutcomeUnknown):
            # The key may be good for a start all the same; only such a run cannot be looked for.
            return

    def takes(self, name: str) -> bool:
        """Tell whether the pipeline takes an input, as far as that is known."""
        return name in (self.declared or ())

    def shows(self, name: str) -> bool:
        """Tell whether runs show an input."""
        return self._uses(name).visible

    async def find(
        self, inputs: Mapping[str, Any], since: datetime, *, key: str | None, taken: Container[str] = ()
    ) -> Fate:
        """Look for the run that a start of unknown fate began.

        Args:
            inputs: What it was started with.
            since: When it was sent.
            key: The input that carries a key of this one start, which runs show.
            taken: Runs that are known to be others.

        Raises:
            OutcomeUnknown: It cannot be found out; ``context["runs"]`` has the pages of runs it may be.
            RunnerError: Orchestra did not answer.
        """
        if self.id is None:
            raise OutcomeUnknown(f"The runs of {self.pipeline!r} cannot be seen, so it cannot be looked for.")
        _, listed = await began(self.client, self.id, since)
        runs = [run for run in listed if run not in taken and run not in self._before]
        shown = [key] if key else [name for name, value in inputs.items() if _plain(value) and self.shows(name)]
        if runs and not shown:
            raise OutcomeUnknown(
                f"{self.pipeline!r} may have been started: {len(runs)} of its runs began since, and they do not show "
                "what they were started with.",
                runs=[self.client.workspace.run_url(run) for run in runs],
            )
        uses = [(self._uses(name), str(inputs[name])) for name in shown]
        verdicts = await judge(self.client, runs, uses, one=key is not None)
        ours = [run for run in runs if verdicts.get(run) == "ours"]
        # Lists begin with the newest; whoever ran ours again by hand made another one that carries the key.
        if ours and (key or len(ours) == 1):
            return Fate(ours[-1])
        return Fate(None, tuple(run for run in runs if verdicts.get(run) != "other"))

    def _uses(self, name: str) -> InputUses:
        return InputUses(self._definition, self._inputs, name)


def _plain(value: Any) -> bool:
    """Tell whether runs show a value just as it was given: how others are written is not known for sure."""
    if isinstance(value, str):
        return bool(value) and value.isprintable() and not set(value) & set("'\"\\${}")
    return isinstance(value, int) and not isinstance(value, bool)
