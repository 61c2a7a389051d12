"""Files of a task run: logs while they are written, and artifacts.

Facts: Orchestra docs, API, "List task run logs" (names as ``<attempt>/<command>``), "Download a task run log" (Range),
"List task run artifacts". From orchestra-cli 0.5.2: X-File-Status is PENDING or WRITING while a log grows; past its end
come 416, 204, or 500 "Failed to download log file from S3"; a server may leave Range unread and send all (200).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from connectors.http.answers import Reply
from orchestra.api.endpoints import quoted
from orchestra.api.runs import Runs
from orchestra.api.transport import LONGEST_WINDOW, Part
from orchestra.api.waiting import OUTAGE, passes
from runner.document import nearest
from runner.errors import PollTimedOut, RequestRefused, RunnerError

_GROWS = frozenset({"PENDING", "WRITING"})
_END = "Failed to download log file from S3"
_RANGE = re.compile(r"\s*bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)\s*", re.IGNORECASE)
# What is held in memory at once.
_LARGEST_PART = 2**22
_LARGEST_ARTIFACT = 2**28
# Seconds between two looks at a log that grows; longer while nothing comes.
_SHORTEST, _LONGEST = 1.0, 10.0
# When nothing came for as long, the task run is asked whether it is over: a log may stay WRITING for ever.
_QUIET = 30.0
# Orchestra's clock may be ahead of ours.
_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class _Piece:
    """What one request brought.

    Attributes:
        more: Whether more is there already.
        status: X-File-Status.
        missing: Whether there is no such file.
    """

    data: bytes = b""
    more: bool = False
    status: str | None = None
    missing: bool = False


class TaskFiles(Runs):
    """The files of task runs."""

    async def logs(self, run: str, task_run: str) -> list[str]:
        """Return the names of the logs of a task run, ``<attempt>/<command>``."""
        return await self._names(run, task_run, "logs")

    async def artifacts(self, run: str, task_run: str) -> list[str]:
        """Return the names of the artifacts of a task run: manifest.json, run_results.json."""
        return await self._names(run, task_run, "artifacts")

    async def artifact(self, run: str, task_run: str, filename: str) -> bytes:
        """Return an artifact.

        Raises:
            RequestRefused: There is none of that name, or it is larger than 256 MiB.
        """
        path, params = f"{_path(run, task_run, 'artifacts')}/download", {"filename": filename}
        part = Part(largest=_LARGEST_ARTIFACT)
        reply = await self.transport.repeat("GET", path, params=params, part=part, missing=True)
        if reply is None:
            raise await self._unknown(run, task_run, filename, "artifacts")
        return reply.body

    async def log(
        self,
        run: str,
        task_run: str,
        filename: str,
        *,
        start: int = 0,
        follow: bool = True,
        deadline: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Return a log in parts of at most a few megabytes, each byte once; leave it with ``aclosing``.

        Args:
            filename: One of ``logs``, or one that is still to come.
            start: The position of the first byte.
            follow: Whether it is followed to its end; else what is there now is returned.
            deadline: Seconds; as long as the task runs by default.

        Raises:
            PollTimedOut: It grew on after that.
            RequestRefused: The task run has, or ended, without such a log.
            RunnerError: It cannot be read.
        """
        clock = self.clock
        began = heard = answered = clock.monotonic()
        at, status, wait, last = start, None, _SHORTEST, False
        failed: RunnerError | None = None
        while True:
            try:
                piece = await self._piece(run, task_run, filename, at)
                failed, answered = None, clock.monotonic()
            except RunnerError as error:
                if not follow or last or not passes(error) or clock.monotonic() - answered >= OUTAGE:
                    raise
                piece, failed = _Piece(), error
            if piece.missing and (not follow or last):
                raise await self._unknown(run, task_run, filename, "logs")
            status = piece.status or status
            if piece.data:
                at, heard, wait = at + len(piece.data), clock.monotonic(), _SHORTEST
                yield piece.data
            if piece.more:
                continue
            if not follow or last:
                return
            if not piece.missing and failed is None and status is not None and status not in _GROWS:
                return
            now = clock.monotonic()
            if deadline is not None and now - began >= deadline:
                raise PollTimedOut(
                    f"The log {filename!r} did not end within {deadline:,.0f} seconds.",
                    guidance="Read on later, from the position that was reached.",
                )
            # Who says nothing about the file is asked about the task; what came before that answer is read once more.
            if (piece.missing or status is None or now - heard >= _QUIET) and failed is None:
                try:
                    last = await self._ended(run, task_run)
                except RunnerError as error:
                    if not passes(error):
                        raise
                heard = now
                if last:
                    continue
            pause = max(wait * clock.random.uniform(0.8, 1.2), self.transport.pause_left())
            wait = min(_LONGEST, wait * 1.5)
            await clock.sleep(pause if deadline is None else min(pause, began + deadline - now))

    async def _piece(self, run: str, task_run: str, filename: str, at: int) -> _Piece:
        headers = {"Range": f"bytes={at}-", "Accept-Encoding": "identity"}
        part = Part(headers, skip=at, largest=_LARGEST_PART, cut=True)
        path = f"{_path(run, task_run, 'logs')}/download"
        reply = await self.transport.repeat(
            "GET",
            path,
            params={"filename": filename},
            part=part,
            accept=lambda reply: reply.status in (404, 416) or (at > 0 and _ends(reply)),
        )
        assert reply is not None
        if reply.status == 404:
            return _Piece(missing=True)
        status = (reply.header("X-File-Status") or "").strip().upper() or None
        if reply.status not in (200, 206):
            # Without a status an end is an end.
            return _Piece(status=status or (None if reply.status == 416 else "ENDED"))
        begin, total = _placed(reply, at) if reply.status == 206 else (at, None)
        if begin > at:
            raise RequestRefused(f"Orchestra: {reply.where}: byte {at:,} was asked for, and byte {begin:,} came.")
        data = reply.body[at - begin :]
        cut = len(reply.body) > _LARGEST_PART
        return _Piece(data, cut or (bool(data) and total is not None and at + len(data) < total), status)

    async def _ended(self, run: str, task_run: str) -> bool:
        """Tell whether a task run is over; where no list shows it, whether its run is."""
        until = self.clock.now() + _AHEAD
        listed = self.task_runs(time_from=until - LONGEST_WINDOW, time_to=until, task_runs=[task_run])
        async with contextlib.aclosing(listed) as pages:
            async for page in pages:
                for one in page:
                    if one.id == task_run:
                        return one.over
        found = await self.run(run)
        return found is None or found.over

    async def _names(self, run: str, task_run: str, kind: Literal["logs", "artifacts"]) -> list[str]:
        path = _path(run, task_run, kind)
        reply = await self.transport.read(path, {}, missing=True)
        if reply is None:
            raise RequestRefused(
                f"There is no task run {task_run} of the run {run} in this workspace.",
                guidance="Check the ids of both, and that the API key is of their workspace.",
            )
        names: Any = reply.data.get("filenames") if isinstance(reply.data, Mapping) else None
        if not isinstance(names, list):
            raise RequestRefused(f"Orchestra: {reply.where}: the answer holds no list of filenames.")
        return [str(name) for name in names]

    async def _unknown(
        self, run: str, task_run: str, filename: str, kind: Literal["logs", "artifacts"]
    ) -> RequestRefused:
        names = await self._names(run, task_run, kind)
        guess = nearest(filename, names)
        known = f"There are: {', '.join(names[:20])}." if names else "There is none."
        return RequestRefused(
            f"The task run {task_run} has no {kind.removesuffix('s')} {filename!r}.",
            guidance=f"Did you mean {guess!r}? {known}" if guess else known,
        )


def _path(run: str, task_run: str, kind: str) -> str:
    return f"pipeline_runs/{quoted(run)}/task_runs/{quoted(task_run)}/{kind}"


def _ends(reply: Reply) -> bool:
    if reply.status == 500:
        return isinstance(reply.data, Mapping) and reply.data.get("detail") == _END
    return reply.status == 204


def _placed(reply: Reply, at: int) -> tuple[int, int | None]:
    """Return where a part begins, and how long the whole is, as far as it is known."""
    found = _RANGE.fullmatch(reply.header("Content-Range") or "")
    if found is None:
        return at, None
    begin, _, total = found.groups()
    return at if begin is None else int(begin), None if total == "*" else int(total)
