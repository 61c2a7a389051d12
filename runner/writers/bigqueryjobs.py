"""Jobs of BigQuery: statements, scripts and loads, and what their errors mean.

Facts: cloud.google.com, "Running jobs programmatically" (a job's id is unique in the project; a second one of the same
id is refused), "Multi-statement transactions" (a script that ends before its commit is rolled back; of two transactions
that change rows of one table one is cancelled), "Error messages".
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import (
    CredentialsRejected,
    DestinationBusy,
    DestinationDown,
    DestinationError,
    DestinationRefused,
    LeaseLost,
    ReadOnly,
    RunnerError,
    Unreachable,
)
from runner.naming import inlined
from runner.secrets import redact
from runner.writers.bigquerysql import script, spelled

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.bigquery import Client, SchemaField

LEASE_LOST = "orchestra-runner: another run took the table over"
_CONTACT_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
_PERMISSION = re.compile(r"bigquery\.[A-Za-z.]+")
_TABLE = re.compile(r"`[^`]+`\.`[^`]+`")
# Two that change rows of one table at the same time, or too many that wait for it.
_CONFLICTS = ("concurrent update", "could not serialize", "too many dml statements", "aborted due to")


class MissingDataset(DestinationError):
    """The dataset does not exist."""


@dataclass
class Meter:
    """What jobs took so far."""

    statements: int = 0
    billed: int = 0


class Jobs:
    """The jobs of one client.

    Args:
        most: How many bytes a query may be billed for; None is any number.
        meter: What they take is added here.
    """

    def __init__(self, client: Client, most: int | None, meter: Meter) -> None:
        self.client = client
        self._meter = meter
        self.labels: Mapping[str, str] = {}
        self._most = most
        self._running: set[str] = set()
        self._contacted = False

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

        with self._translated():
            job = self.client.query(
                sql,
                job_config=self._config(),
                retry=self._retry,
                job_retry=DEFAULT_JOB_RETRY.with_timeout(_ANSWER_SECONDS),
                timeout=_ANSWER_SECONDS,
            )
            return self._result(job)

    def plan(self, sql: str) -> None:
        """Check that a statement could run, without running it."""
        with self._translated():
            self.client.query(sql, job_config=self._config(dry_run=True), retry=self._retry, timeout=_ANSWER_SECONDS)

    def script(self, sql: str, name: str) -> None:
        """Run a script once, however often it is sent under its name.

        A job of that name that ended well has done it; one that failed has done nothing, and the next number is taken.
        """
        from google.api_core.exceptions import Conflict

        for number in itertools.count():
            with self._translated():
                try:
                    job = self.client.query(
                        sql,
                        job_id=f"{name}-{number}",
                        job_config=self._config(),
                        retry=self._retry,
                        job_retry=None,
                        timeout=_ANSWER_SECONDS,
                    )
                except Conflict:
                    if self._ended_well(f"{name}-{number}"):
                        return
                else:
                    self._result(job)
                    return

    def settle(self, name: str) -> None:
        """Wait until no job of a name is under way: whoever sent it may be dead, and it goes on."""
        from google.api_core.exceptions import NotFound

        for number in itertools.count():
            with self._translated():
                try:
                    self._ended_well(f"{name}-{number}")
                except NotFound:
                    return

    def load(self, file: Any, table: str, schema: Sequence[SchemaField]) -> None:
        """Load a Parquet file into a table of its own, in place of what is there."""
        from google.cloud import bigquery

        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=list(schema),
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            labels=dict(self.labels),
        )
        with self._translated():
            job = self.client.load_table_from_file(
                file, table, rewind=True, job_config=config, timeout=_ANSWER_SECONDS, num_retries=3
            )
            self._result(job)

    def interrupt(self) -> None:
        """Cancel the jobs under way; from another thread."""
        for running in list(self._running):
            with contextlib.suppress(Exception):
                self.client.cancel_job(running, retry=self._retry, timeout=_CONTACT_SECONDS)

    @contextlib.contextmanager
    def call(self) -> Iterator[Any]:
        """Lend the client for calls that are no jobs; errors arrive translated."""
        with self._translated():
            yield self.client

    @property
    def retry(self) -> Any:
        """How calls are repeated that failed on the way: at first contact hardly, later for a while."""
        return self._retry

    @property
    def _retry(self) -> Any:
        from google.cloud.bigquery import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(_ANSWER_SECONDS if self._contacted else 1.0)

    def _config(self, *, dry_run: bool = False) -> Any:
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(labels=dict(self.labels), use_query_cache=False, dry_run=dry_run)
        if self._most is not None:
            config.maximum_bytes_billed = self._most
        return config

    def _result(self, job: Any) -> list[tuple[Any, ...]]:
        self._running.add(job.job_id)
        try:
            found = job.result(retry=self._retry)
            return [tuple(row.values()) for row in found] if hasattr(found, "total_rows") else []
        finally:
            self._running.discard(job.job_id)
            self._meter.statements += 1
            # A load is free of charge, and knows no such figure.
            self._meter.billed += getattr(job, "total_bytes_billed", None) or 0

    def _ended_well(self, job_id: str) -> bool:
        from google.api_core.exceptions import GoogleAPICallError

        job = self.client.get_job(job_id, retry=self._retry, timeout=_ANSWER_SECONDS)
        try:
            self._result(job)
        except GoogleAPICallError:
            if job.state == "DONE" and job.error_result is not None:
                return False
            raise
        return True

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            yield
        except GoogleAPICallError as error:
            self._contacted = True
            raise _translate(error) from error
        except GoogleAuthError as error:
            raise CredentialsRejected(f"Google refused the credentials: {_words(error)}") from error
        except RetryError as error:
            raise self._silence(error.cause) from error
        except (RequestException, OSError) as error:
            raise self._silence(error) from error
        self._contacted = True

    def _silence(self, error: object) -> RunnerError:
        kind = DestinationDown if self._contacted else Unreachable
        return kind(f"BigQuery does not answer: {_words(error)}")


class DeferredCursor:
    """Statements that are kept from ``begin`` to ``commit``, and sent as one script that does all of them or nothing.

    Args:
        name: Returns the name of a script's job.
    """

    def __init__(self, jobs: Jobs, name: Any) -> None:
        self._jobs = jobs
        self._name = name
        self._kept: list[str] | None = None

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        if sql == "begin":
            self._kept = []
        elif sql == "commit":
            self.flush(self._name())
            self._kept = None
        elif sql == "rollback":
            self._kept = None
        elif self._kept is None:
            self._jobs.rows(spelled(inlined(sql, values)))
        else:
            self._kept.append(spelled(inlined(sql, values)))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        asked = spelled(inlined(sql, values))
        # The first table that a statement names is the one it changes.
        changed = {found[0] for kept in self._kept or () if (found := _TABLE.search(kept))}
        if seen := sorted(changed & {*_TABLE.findall(asked)}):
            raise RuntimeError(f"{seen[0]} is read before what is to change in it was sent")
        return self._jobs.rows(asked)

    def require(self, statement: str, *, first: bool = False) -> None:
        """Keep an assertion; first: before all that is kept."""
        assert self._kept is not None
        self._kept.insert(0 if first else len(self._kept), spelled(statement))

    @property
    def keeps(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._kept)

    def flush(self, name: str) -> None:
        """Send what is kept, and go on keeping."""
        if self._kept:
            kept, self._kept = self._kept, []
            self._jobs.script(script(kept), name)


def _translate(error: GoogleAPICallError) -> RunnerError:
    text = _words(error)
    lower = text.lower()
    reasons = {str(one.get("reason", "")) for one in error.errors if isinstance(one, dict)}
    if LEASE_LOST in text:
        return LeaseLost()
    if any(sign in lower for sign in _CONFLICTS):
        return DestinationBusy(
            f"BigQuery: {text}", guidance="Somebody else changes the same table; run the same command again."
        )
    if error.code == 401:
        return CredentialsRejected(f"BigQuery refused us: {text}")
    if reasons & {"rateLimitExceeded", "jobRateLimitExceeded", "backendError", "internalError", "jobInternalError"}:
        return DestinationDown(f"BigQuery: {text}")
    if error.code == 403 and not reasons & {"quotaExceeded", "billingTierLimitExceeded", "bytesBilledLimitExceeded"}:
        return _refusal(text)
    if error.code == 404 and "not found: dataset" in lower:
        return MissingDataset(f"BigQuery: {text}")
    if error.code is not None and error.code >= 500:
        return DestinationDown(f"BigQuery: {text}")
    return DestinationError(f"BigQuery: {text}")


def _refusal(text: str) -> RunnerError:
    named = _PERMISSION.search(text)
    permission = named[0] if named else "a permission"
    if permission == "bigquery.jobs.create":
        return DestinationRefused(
            f"BigQuery refused us, for {permission} is missing: {text}",
            guidance="Grant roles/bigquery.jobUser in the project.",
        )
    return ReadOnly(
        f"BigQuery refused us, for {permission} is missing: {text}",
        guidance="Grant roles/bigquery.dataEditor on the dataset, or in the project where there is no dataset yet.",
    )


def _words(error: object) -> str:
    return redact(" ".join(str(getattr(error, "message", None) or error).split()))[:1000]
