"""Query jobs of the Bulk API 2.0.

Facts: developer.salesforce.com, Bulk API 2.0 and Bulk API Developer Guide: "Create a Query Job", "Get Information About
a Query Job", "Get Results for a Query Job" (the locator "null" is the last), "Get Parallel Results for a Query Job" (up
to five at a time, the API version of the job or 409), "Abort a Query Job", "Delete a Query Job", "SOQL Considerations"
(no GROUP BY, OFFSET, TYPEOF, aggregates, compound fields), "Bulk API 2.0 Limits" (jobs live for seven days).
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.testing.salesforce.fields import COMPOUND
from connectors.testing.salesforce.objects import SObject
from connectors.testing.salesforce.org import Org, Record, long_id
from connectors.testing.salesforce.query import Runner, Selected
from connectors.testing.salesforce.refusal import Refused, not_found
from connectors.testing.salesforce.rendering import DELIMITERS, LINE_ENDINGS, as_table, json_value
from connectors.testing.salesforce.soql import parse

_KEYS = {"operation", "query", "contentType", "columnDelimiter", "lineEnding"}
_PARALLEL = 5
LIFETIME = timedelta(days=7)


@dataclass
class Job:
    """A query job; its rows are those of the moment in which it was made."""

    id: str
    operation: str
    query: str
    kind: SObject
    version: str
    created: datetime
    delimiter: str
    line_ending: str
    selected: Sequence[Selected]
    rows: list[Record] = field(repr=False, default_factory=list)
    state: str = "UploadComplete"
    polls: int = 0
    error: str | None = None


class Jobs:
    """The query jobs of an organisation.

    Attributes:
        polls: How often a job is asked for before it is done.
        page: The most rows of one set of results.
        daily: How many jobs are left today.
        fails: What the next jobs fail with, one after the other.
    """

    def __init__(self, org: Org, runner: Runner, now: Callable[[], datetime]) -> None:
        self.polls = 1
        self.page = 50_000
        self.daily = 10_000
        self.fails: list[str] = []
        self.all: dict[str, Job] = {}
        self._org = org
        self._runner = runner
        self._now = now
        self._numbers = itertools.count(1)

    def create(self, asked: Any, version: str) -> dict[str, Any]:
        """Make a job.

        Raises:
            Refused: It asks for what the Bulk API does not do.
        """
        if not isinstance(asked, dict):
            raise Refused("JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.")
        if unknown := sorted(set(asked) - _KEYS):
            raise Refused("JSON_PARSER_ERROR", f'Unrecognized field "{unknown[0]}"')
        if asked.get("operation") not in ("query", "queryAll"):
            raise Refused("INVALIDJOB", "Operation must be query or queryAll")
        if not isinstance(asked.get("query"), str) or not asked["query"].strip():
            raise Refused("INVALIDJOB", "No query found")
        for key, known in (
            ("contentType", {"CSV": ""}),
            ("columnDelimiter", DELIMITERS),
            ("lineEnding", LINE_ENDINGS),
        ):
            if asked.get(key, next(iter(known))) not in known:
                raise Refused("INVALIDJOB", f"{key} {asked[key]} is not one of {', '.join(known)}")
        if self.daily <= 0:
            raise Refused("LIMIT_EXCEEDED", "Max bulk v2 query jobs (10000) per 24 hrs has been reached (10000)")
        kind, selected = self._check(asked["query"])
        self.daily -= 1
        query = parse(asked["query"], self._now())
        found = self._runner.run(query, deleted=asked["operation"] == "queryAll")
        rows = [dict(one[1]) for record_id in found.ids if (one := self._org.get(record_id))]
        job = Job(
            id=long_id(f"7505g00000{next(self._numbers):05d}"),
            operation=asked["operation"],
            query=asked["query"],
            kind=kind,
            version=version,
            created=self._now(),
            delimiter=asked.get("columnDelimiter", "COMMA"),
            line_ending=asked.get("lineEnding", "LF"),
            selected=selected,
            rows=rows,
            polls=self.polls,
            error=self.fails.pop(0) if self.fails else None,
        )
        self.all[job.id] = job
        return self._info(job, whole=False)

    def _check(self, text: str) -> tuple[SObject, Sequence[Selected]]:
        words = text.lower().split()
        if any(word == "typeof" for word in words):
            raise Refused("API_ERROR", "MALFORMED_QUERY: TYPEOF is not supported in Bulk Query")
        try:
            query = parse(text, self._now())
            kind, selected = self._runner.check(query)
        except Refused as error:
            if error.status != 400:
                raise
            raise Refused("API_ERROR", f"{error.code}: {error.message}") from None
        if not kind.bulk:
            raise Refused("INVALIDENTITY", f"Entity '{kind.name}' is not supported by the Bulk API.")
        if query.group or query.offset or any(one.aggregate for one in selected):
            raise Refused("API_ERROR", "FUNCTIONALITY_NOT_ENABLED: Aggregate Relationships not supported in Bulk Query")
        if any(one.path[-1].type in COMPOUND for one in selected):
            message = "Selecting compound data not supported in Bulk Query"
            raise Refused("API_ERROR", f"FUNCTIONALITY_NOT_ENABLED: {message}")
        if any(one.path[-1].type == "base64" for one in selected):
            raise Refused("API_ERROR", "INVALID_FIELD: Binary fields cannot be selected in bulk queries")
        return kind, selected

    def find(self, job_id: str) -> Job:
        """Return a job that is still there."""
        job = self.all.get(job_id if len(job_id) == 18 else long_id(job_id) if len(job_id) == 15 else "")
        if job is None or job.created + LIFETIME <= self._now():
            raise not_found()
        return job

    def info(self, job_id: str) -> dict[str, Any]:
        """Return how far a job is; it gets on by being asked for."""
        job = self.find(job_id)
        if job.state in ("UploadComplete", "InProgress"):
            if job.polls > 0:
                job.polls -= 1
                job.state = "InProgress"
            else:
                job.state = "Failed" if job.error else "JobComplete"
        return self._info(job, whole=True)

    def list(self, params: dict[str, str]) -> dict[str, Any]:
        """Return all jobs."""
        if unknown := sorted(set(params) - {"isPkChunkingEnabled", "jobType", "concurrencyMode", "queryLocator"}):
            raise Refused("INVALIDJOB", f"Unknown parameter {unknown[0]}")
        return {"done": True, "records": [self._info(job, whole=False) for job in self.all.values()]}

    def abort(self, job_id: str, asked: Any) -> dict[str, Any]:
        """Stop a job."""
        job = self.find(job_id)
        if not isinstance(asked, dict) or asked.get("state") != "Aborted":
            raise Refused("INVALIDJOBSTATE", "Invalid job state transition")
        if job.state not in ("UploadComplete", "InProgress"):
            raise Refused("INVALIDJOBSTATE", f"Aborting already {job.state} Job not allowed")
        job.state = "Aborted"
        return self._info(job, whole=False)

    def delete(self, job_id: str) -> None:
        """Forget a job and its results."""
        job = self.find(job_id)
        if job.state in ("UploadComplete", "InProgress"):
            raise Refused("INVALIDJOBSTATE", f"Deleting {job.state} Job not allowed")
        del self.all[job.id]

    def results(self, job_id: str, version: str, params: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return one set of results and its headers."""
        job = self._complete(job_id, version)
        if unknown := sorted(set(params) - {"locator", "maxRecords"}):
            raise Refused("INVALIDJOB", f"Unknown parameter {unknown[0]}")
        most = params.get("maxRecords", str(self.page))
        if not most.isdigit() or int(most) < 1:
            raise Refused("INVALIDJOB", f"maxRecords {most} is not a positive number")
        start, size = 0, min(int(most), self.page)
        if "locator" in params:
            start, size = self._place(job, params["locator"])
        rows = job.rows[start : start + size]
        end = start + len(rows)
        body = as_table(
            self._runner,
            rows,
            job.selected,
            DELIMITERS[job.delimiter],
            LINE_ENDINGS[job.line_ending],
        )
        locator = "null" if end >= len(job.rows) else _locator(end, size)
        return body, {
            "Content-Type": "text/csv",
            "Sforce-Locator": locator,
            "Sforce-NumberOfRecords": str(len(rows)),
        }

    def pages(self, job_id: str, version: str, params: dict[str, str]) -> dict[str, Any]:
        """Return where up to five sets of results are."""
        job = self._complete(job_id, version)
        start = self._place(job, params["locator"])[0] if "locator" in params else 0
        base = f"/services/data/v{version}/jobs/query/{job.id}"
        starts = list(range(start, max(1, len(job.rows)), self.page))
        urls = [f"{base}/results?locator={_locator(one, self.page)}" for one in starts[:_PARALLEL]]
        answer: dict[str, Any] = {"resultPages": [{"resultUrl": url} for url in urls]}
        rest = starts[_PARALLEL:]
        answer["nextRecordsUrl"] = f"{base}/resultPages?locator={_locator(rest[0], self.page)}" if rest else None
        answer["done"] = not rest
        return answer

    def _complete(self, job_id: str, version: str) -> Job:
        job = self.find(job_id)
        if job.version != version:
            raise Refused("API_VERSION_MISMATCH", f"The job was created with API version {job.version}", 409)
        if job.state != "JobComplete":
            raise Refused("INVALIDJOBSTATE", f"Results of a job in state {job.state} cannot be retrieved")
        return job

    def _place(self, job: Job, locator: str) -> tuple[int, int]:
        try:
            start, size = base64.urlsafe_b64decode(locator + "=" * (-len(locator) % 4)).decode().split("/")
            place = int(start), int(size)
        except (ValueError, binascii.Error):
            raise Refused("INVALIDLOCATOR", f"Invalid locator: {locator}") from None
        if not 0 <= place[0] <= len(job.rows):
            raise Refused("INVALIDLOCATOR", f"Invalid locator: {locator}")
        return place

    def _info(self, job: Job, *, whole: bool) -> dict[str, Any]:
        info: dict[str, Any] = {
            "id": job.id,
            "operation": job.operation,
            "object": job.kind.name,
            "createdById": self._org.user,
            "createdDate": json_value(job.created),
            "systemModstamp": json_value(job.created),
            "state": job.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(job.version),
            "lineEnding": job.line_ending,
            "columnDelimiter": job.delimiter,
        }
        if whole:
            info |= {
                "jobType": "V2Query",
                "retries": 0,
                "totalProcessingTime": 10,
                "isPkChunkingSupported": True,
                "numberRecordsProcessed": len(job.rows) if job.state == "JobComplete" else 0,
            }
            if job.state == "Failed":
                info["errorMessage"] = job.error
        return info


def _locator(start: int, size: int) -> str:
    return base64.urlsafe_b64encode(f"{start}/{size}".encode()).decode().rstrip("=")
