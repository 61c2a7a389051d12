"""Jobs of the Bulk API 2.0.

Facts: developer.salesforce.com, Bulk API 2.0 and Bulk API Developer Guide: "Create a Query Job", "Get Information About
a Query Job" (UploadComplete, InProgress, JobComplete, Failed, Aborted), "Get Results for a Query Job" (a locator does
not change as long as the job is there; the last is "null"), "Delete a Query Job".
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import pyarrow as pa

from connectors.api import Page
from connectors.http import Http
from connectors.salesforce.sheets import read_sheet
from runner.errors import RequestRefused, RunnerError, SourceDown, TableChanged
from runner.tasks import task_group

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0
_ATTEMPTS = 4
_GOODBYE = 5.0
_CLEARING = 30.0
_DELETES = 8
_LAST = "null"


class Jobs:
    """The jobs of one session.

    Args:
        path: Where jobs are, from the server's root.
        rows: Records in one set of results.
    """

    def __init__(self, http: Http, path: str, rows: int) -> None:
        self._http = http
        self._path = path
        self._rows = rows
        self._read: set[str] = set()

    async def create(self, statement: str, operation: str) -> str:
        """Make a job and return its id; it reads what is there now."""
        # A job that nobody knows of reads and is forgotten after seven days: to make it twice does no harm.
        body = {"operation": operation, "query": statement, "contentType": "CSV"}
        reply = await self._http.post(self._path, json=body, idempotent=True)
        found = reply.data.get("id") if isinstance(reply.data, Mapping) else None
        if not isinstance(found, str):
            raise SourceDown(f"{reply.where} did not say which job it made.")
        return found

    @contextlib.asynccontextmanager
    async def care(self, job: str) -> AsyncIterator[None]:
        """Leave no job behind that nobody will ask for, whatever ends the wait for it."""
        try:
            yield
        except BaseException:
            with anyio.move_on_after(_GOODBYE, shield=True):
                with contextlib.suppress(RunnerError):
                    await self._http.request("PATCH", f"{self._path}/{job}", json={"state": "Aborted"}, idempotent=True)
                await self.delete(job)
            raise

    async def finish(self, job: str) -> None:
        """Wait until a job is done, asking less and less often.

        Raises:
            SourceDown: It failed; another one may not.
            RequestRefused: It failed for what it was asked.
        """
        wait = _FIRST_WAIT
        while True:
            reply = await self._http.get(f"{self._path}/{job}")
            info = reply.data if isinstance(reply.data, Mapping) else {}
            state = info.get("state")
            if state == "JobComplete":
                return
            if state not in ("UploadComplete", "InProgress", "Open"):
                raise _failure(str(state), str(info.get("errorMessage") or "it says nothing more"))
            await self._http.clock.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)

    async def pages(self, job: str, bounds: Mapping[str, Any], names: set[str]) -> AsyncGenerator[Page, None]:
        """Read the results of a job that is done, from the bounds on.

        Args:
            names: The columns that they must have.
        """
        locator, skip = str(bounds.get("locator") or ""), int(bounds.get("skip") or 0)
        common = {**{key: value for key, value in bounds.items() if key not in ("locator", "skip")}, "job": job}
        while True:
            found = _Set(self._http, f"{self._path}/{job}/results", locator, self._rows, names)
            waiting: Page | None = None
            async with aclosing(found.batches(skip)) as batches:
                async for batch in batches:
                    if waiting is not None:
                        yield waiting
                    waiting = Page(batch=batch, rest={**common, "locator": locator, "skip": found.read})
            if found.next is None:
                # Not deleted yet: its last records are not on disk here.
                self._read.add(job)
                yield Page(batch=waiting.batch) if waiting is not None else Page()
                return
            locator, skip = found.next, 0
            yield Page(batch=waiting.batch if waiting else None, rest={**common, "locator": locator})

    async def clear(self) -> None:
        """Delete the jobs that were read to their end."""
        turn = anyio.CapacityLimiter(_DELETES)

        async def delete(job: str) -> None:
            async with turn:
                await self.delete(job)

        with anyio.move_on_after(_CLEARING, shield=True):
            async with task_group() as group:
                for job in self._read:
                    group.start_soon(delete, job)

    async def delete(self, job: str) -> None:
        """Delete a job; one that cannot be deleted dies of age."""
        with contextlib.suppress(RunnerError):
            await self._http.request("DELETE", f"{self._path}/{job}")


class _Set:
    """One set of a job's results.

    Attributes:
        read: How many of its records were read.
        next: The locator of the next set; None for the last.
    """

    def __init__(self, http: Http, url: str, locator: str, rows: int, names: set[str]) -> None:
        self._http = http
        self._url = url
        self._names = names
        self._params = {"maxRecords": str(rows), **({"locator": locator} if locator else {})}
        self.read = 0
        self.next: str | None = None

    async def batches(self, skip: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """Yield its records behind the first ones; after a lost connection it goes on where it was.

        Raises:
            TableChanged: It does not hold what it says.
        """
        self.read = skip
        for attempt in range(_ATTEMPTS):
            try:
                async with aclosing(self._attempt()) as batches:
                    async for batch in batches:
                        yield batch
                return
            except SourceDown:
                if attempt == _ATTEMPTS - 1:
                    raise
                await self._http.clock.sleep(2.0**attempt * 0.1)

    async def _attempt(self) -> AsyncGenerator[pa.RecordBatch, None]:
        seen = 0
        async with self._http.stream("GET", self._url, params=self._params, headers={"Accept": "text/csv"}) as body:
            said = body.headers.get("Sforce-NumberOfRecords")
            locator = body.headers.get("Sforce-Locator")
            if locator is None:
                raise SourceDown("The job's results do not say where they go on.")
            self.next = None if locator in (_LAST, "") else locator
            async with aclosing(read_sheet(aiter(body))) as batches:
                async for batch in batches:
                    if not self._names <= set(batch.schema.names):
                        raise SourceDown("The job's results lack columns that were asked for.")
                    start = max(0, self.read - seen)
                    seen += batch.num_rows
                    if start < batch.num_rows:
                        self.read = seen
                        yield batch.slice(start)
        if said is not None and seen != int(said):
            raise SourceDown(f"The job's results hold {seen:,} of {int(said):,} records.")
        if self.read > seen:
            raise TableChanged("The job's results are not those that were read before.")


def _failure(state: str, message: str) -> RunnerError:
    words = f"The job of the Bulk API ended as {state}: {message}"
    if any(code in message for code in ("MALFORMED_QUERY", "INVALID_FIELD", "INVALID_TYPE", "TOO_COMPLICATED")):
        return RequestRefused(words)
    return SourceDown(words, guidance="Run the same command again; narrow the object with where if it fails again.")
