"""Writes to BigQuery: files are loaded into tables of their own, and scripts with a transaction move their rows on.

A transaction there lives inside one script. So what the recipe does in a transaction is kept and sent at its commit,
and whatever has to be read is read before: rows and receipts go to staging by one script, a publication is another one.
What other warehouses check before the commit is asserted in the script, in the picture that its transaction has.

A script goes on when whoever sent it is killed. A publication's job is named after its load, so that sending it again
is no second one. And every staging table says in its description which jobs may be at work on it: whoever comes next
waits for them before it reads what has been done.

Facts: cloud.google.com, "Multi-statement transactions" (all reads of one show one picture; of two that change rows of
one table one is cancelled, rows that are only added do not conflict; at most 100 tables are changed; no tables are
made), "Loading Parquet data from Cloud Storage" (types), "INFORMATION_SCHEMA.TABLE_OPTIONS".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.errors import DestinationError, RunnerError
from runner.load import RENEW_SECONDS, ChunkLoad, Lease, Outcome, TableWork, Target, TargetColumn
from runner.naming import literal, quote
from runner.rowhash import Dialect
from runner.writers import bigquerysql as dialect
from runner.writers.bigqueryjobs import LEASE_LOST, DeferredCursor, Jobs, MissingDataset
from runner.writers.books import Books
from runner.writers.cursor import Cursor
from runner.writers.nohashes import NoHashes
from runner.writers.registry import RegistryClient
from runner.writers.rowleases import Claims
from runner.writers.warehouse import MADE_FOR, WarehouseWriter

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

    from runner.writers.bigquery import BigQueryConfig

_JOB_NAME = re.compile(r"runner-(?:stage|publish)-[0-9a-f]{32}")
# A group changes two tables for each of its tables, and some of the books.
_GROUP_TABLES = 40
_LANDING_DAYS = 1


class BigQueryWriter(WarehouseWriter):
    """Writes to one dataset.

    Args:
        client: Returns a client whose jobs run at a location; empty is wherever their data is.
        info: The credentials as Google has them; None is the application's own.
    """

    text_type = "string"
    timestamp_type = "timestamp"
    now = "current_timestamp()"
    microsecond = "interval 1 microsecond"
    seconds = "unix_millis(current_timestamp()) / 1000.0"
    dialect: Dialect = NoHashes("BigQuery")
    leases: Claims

    def __init__(
        self,
        config: BigQueryConfig,
        client: Callable[[str], Client],
        info: dict[str, Any] | None,
        dataset: str,
    ) -> None:
        super().__init__(dataset)
        self._config = config
        self._client = client
        self._info = info
        self._jobs: Jobs | None = None
        self._born: datetime | None = None
        self._project = self._run = ""
        self._renewed = 0.0
        self._stage_job = self._publish_job = ""
        self._unstaged: list[tuple[TableWork, Outcome]] = []

    # The connection.

    @contextlib.contextmanager
    def session(self) -> Iterator[Cursor]:
        yield DeferredCursor(self._connect(), lambda: f"runner-other-{uuid.uuid4().hex}")

    def _connect(self) -> Jobs:
        if self._jobs is None:
            jobs = Jobs(self._client(self._config.location), self._config.maximum_bytes_billed)
            dataset = _dataset(jobs, self.dataset)
            if dataset is not None and dataset.location != self._config.location:
                # Outside of the US and the EU a job is found only where it ran.
                jobs = Jobs(self._client(dataset.location), self._config.maximum_bytes_billed)
            self._born = dataset.created if dataset is not None else None
            jobs.labels = {"application": "orchestra-runner", "dataset": dialect.label(self.dataset)}
            self._project = str(jobs.client.project)
            self._jobs = jobs
        return self._jobs

    def interrupt(self) -> None:
        if self._jobs is not None:
            self._jobs.interrupt()

    def close(self) -> None:
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.client.close()

    # The dataset.

    def prepare(self) -> None:
        from google.cloud import bigquery

        jobs = self._connect()
        if self._born is None:
            made = bigquery.Dataset(f"{self._project}.{self.dataset}")
            if self._config.location:
                made.location = self._config.location
            with jobs.call() as client:
                client.create_dataset(made, exists_ok=True, retry=jobs.retry)
            self.close()
        with self.session() as cursor:
            self.make_books(cursor)

    def book_columns(self, columns: str) -> str:
        return dialect.book_columns(super().book_columns(columns))

    def _information(self, view: str) -> str:
        return f"{quote(self.dataset)}.INFORMATION_SCHEMA.{view}"

    def existing_columns(self, cursor: Cursor, table: str | None = None) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        named = f" where table_name = {literal(table)}" if table is not None else ""
        with contextlib.suppress(MissingDataset):
            for name, column, kind in cursor.rows(
                f"select table_name, column_name, data_type from {self._information('COLUMNS')}{named} "
                "order by table_name, ordinal_position"
            ):
                found.setdefault(name, {})[column] = kind.replace(" ", "")
        return found

    def mandatory(self, cursor: Cursor, table: str, existing: Mapping[str, str]) -> set[str]:
        rows = cursor.rows(
            f"select column_name from {self._information('COLUMNS')} where table_name = {literal(table)} "
            "and is_nullable = 'NO'"
        )
        return {row[0] for row in rows}

    def unpublished(self, cursor: Cursor) -> set[str]:
        return {name for name, text in self._descriptions(cursor, "") if MADE_FOR in text}

    def _descriptions(self, cursor: Cursor, condition: str) -> list[tuple[str, str]]:
        return [
            (row[0], row[1])
            for row in cursor.rows(
                f"select table_name, option_value from {self._information('TABLE_OPTIONS')} "
                f"where option_name = 'description'{condition}"
            )
        ]

    # The dialect.

    def sql_type(self, column: TargetColumn) -> str:
        return dialect.column_type(column)

    def widens(self, old: str, new: str) -> bool:
        return dialect.widens(old, new)

    def among(self, columns: str, values: str, source: str) -> str:
        return super().among(columns, f"({values})" if "," in values else values, source)

    def make_published(self, cursor: Cursor, table: str, columns: str, load_id: str, *, anew: bool) -> None:
        made = f"create or replace table {table}" if anew else f"create table if not exists {table}"
        kinds = dict(re.findall(r'("(?:[^"]|"")+") (\w+)', columns))
        partition, kind = quote(self._config.partition), kinds.get(quote(self._config.partition))
        by_day = {
            "DATE": partition,
            "TIMESTAMP": f"timestamp_trunc({partition}, day)",
            "DATETIME": f"datetime_trunc({partition}, day)",
        }
        layout = f" partition by {by_day[kind]}" if kind in by_day else ""
        if cluster := [quote(name) for name in self._config.cluster if quote(name) in kinds]:
            layout += f" cluster by {', '.join(cluster)}"
        cursor.execute(f"{made} ({columns}){layout} options(description = {literal(MADE_FOR + load_id)})")

    def make_table(self, cursor: Cursor, table: str, columns: str) -> None:
        cursor.execute(f"create or replace table {table} ({columns}) options(description = {literal(self._mark)})")

    # Files.

    def upload(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        """Load each file into a table of its own: to do it again is to do the same."""
        from google.cloud import bigquery

        jobs = self._connect()
        for file in chunk.files:
            schema = pq.read_schema(file)
            names = dialect.landing_names(schema.names)
            fields = [_field(names[field.name], dialect.arrow_type(field.type, field.name)) for field in schema]
            place = f"{self._project}.{self.dataset}.{self._landing(chunk, file)}"
            table = bigquery.Table(place, schema=fields)
            table.expires = datetime.now(UTC) + timedelta(days=_LANDING_DAYS)
            with jobs.call() as client:
                client.create_table(table, exists_ok=True, retry=jobs.retry)
            with _readable(file, names) as opened:
                jobs.load(opened, place, fields)

    def _landing(self, chunk: ChunkLoad, file: Path) -> str:
        of_it = json.dumps([self._run, chunk.id, chunk.epoch, file.name])
        return "_runner_land_" + hashlib.blake2b(of_it.encode(), digest_size=8).hexdigest()

    def copy(self, cursor: Cursor, stage: str, target: Target, chunks: Sequence[ChunkLoad], *, named: bool) -> None:
        landed = dialect.landing_names([column.source for column in target.columns])
        names = ", ".join([quote(column.name) for column in target.columns] + ["_runner_chunk"] * named)
        values = [
            # Numbers that a double does not hold are rounded: there is no other number in BigQuery's JSON.
            f"parse_json({name}, wide_number_mode => 'round')" if column.json else name
            for column in target.columns
            for name in [quote(landed[column.source])]
        ]
        for chunk in chunks:
            given = ", ".join([*values, literal(chunk.id)] if named else values)
            for file in chunk.files:
                landing = self.name(self._landing(chunk, file))
                cursor.execute(f"insert into {stage} ({names}) select {given} from {landing}")

    def remove_uploaded(self, cursor: Cursor, chunk: ChunkLoad) -> None:
        jobs = self._connect()
        for file in chunk.files:
            with jobs.call() as client:
                place = f"{self._project}.{self.dataset}.{self._landing(chunk, file)}"
                client.delete_table(place, not_found_ok=True, retry=jobs.retry)

    # The transaction.

    def _groups(self, works: Sequence[TableWork]) -> Iterator[list[TableWork]]:
        for group in super()._groups(works):
            for start in range(0, len(group), _GROUP_TABLES):
                yield group[start : start + _GROUP_TABLES]

    def begin(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork], outcomes: Sequence[Outcome]) -> None:
        jobs = self._connect()
        self._run = lease.run
        tables = [work.target.source_table for work in works]
        named = {
            "job": lease.job,
            "run": lease.run,
            "table": tables[0] if len(tables) == 1 else f"{len(tables)}_tables",
        }
        labels = {key: dialect.label(text) for key, text in named.items()}
        jobs.labels = {"application": "orchestra-runner", **labels}
        self._settle(cursor, jobs, works)
        self._stage_job = f"runner-stage-{uuid.uuid4().hex}"
        loads = sorted(work.publication.load_id for work in works if work.publication is not None)
        identity = json.dumps([self._project, self.dataset, str(self._born), loads])
        self._publish_job = f"runner-publish-{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}"
        self._unstaged = list(zip(works, outcomes, strict=True))
        super().begin(cursor, lease, works, outcomes)
        self._sign(cursor, jobs, works)
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            # The loader renews between packages, and the files of one may have taken long.
            with self.session() as at:
                self.leases.renew(at, lease)
            self._renewed = time.monotonic()

    @property
    def _mark(self) -> str:
        return f"orchestra-runner: {self._stage_job} {self._publish_job}"

    def _settle(self, cursor: Cursor, jobs: Jobs, works: Sequence[TableWork]) -> None:
        """Wait for the jobs that somebody who is gone left at work on the staging tables."""
        stages = ", ".join(literal(work.target.stage) for work in works)
        for _, text in self._descriptions(cursor, f" and table_name in ({stages})"):
            for name in _JOB_NAME.findall(text):
                jobs.settle(name)

    def _sign(self, cursor: Cursor, jobs: Jobs, works: Sequence[TableWork]) -> None:
        """Say in the description of staging tables that were there before which jobs come next."""
        from google.cloud import bigquery

        stages = ", ".join(literal(work.target.stage) for work in works)
        for stage, text in self._descriptions(cursor, f" and table_name in ({stages})"):
            if self._stage_job not in text:
                table = bigquery.Table(f"{self._project}.{self.dataset}.{stage}")
                table.description = self._mark
                with jobs.call() as client:
                    client.update_table(table, ["description"], retry=jobs.retry)

    def _make_ready(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        deletion = work.publication.deletion if work.publication is not None else None
        if deletion is not None and deletion.column is None:
            raise DestinationError(
                "Rows that are gone at the source cannot be found by comparing keys in BigQuery yet.",
                guidance="Use deletes: {column: …} where the source marks them, or mode: full.",
                table=work.target.name,
            )
        super()._make_ready(cursor, books, work, outcome)

    def _stage(self, cursor: Cursor, books: Books, work: TableWork, outcome: Outcome) -> None:
        """Send what is staged of all works at once: what is published is read before."""
        assert isinstance(cursor, DeferredCursor)
        unstaged, self._unstaged = self._unstaged, []
        for one, its in unstaged:
            if one.publication is None or not books.is_published(one.publication):
                super()._stage(cursor, books, one, its)
        books.write_receipts()
        if cursor.keeps and unstaged:
            self._require_leases(cursor, books.lease, [one for one, _ in unstaged])
            cursor.flush(self._stage_job)

    def _require_leases(self, cursor: DeferredCursor, lease: Lease, works: Sequence[TableWork]) -> None:
        held = self.leases.condition(lease, [work.target.name for work in works])
        cursor.require(dialect.assertion(held, LEASE_LOST), first=True)

    def commit(self, cursor: Cursor, lease: Lease, works: Sequence[TableWork]) -> None:
        assert isinstance(cursor, DeferredCursor)
        published = [work.target for work in works if work.publication is not None]
        if published and cursor.keeps:
            self._require_leases(cursor, lease, works)
            listed = ", ".join(literal(target.name) for target in published)
            twice = (
                f"select table_name from {self.name('_runner_state')} where table_name in ({listed}) "
                "group by table_name, seq having count(*) > 1"
            )
            cursor.require(dialect.assertion(f"not exists ({twice})", LEASE_LOST))
            cursor.flush(self._publish_job)
        cursor.execute("commit")
        self._tidy(cursor, published)

    def renew(self, lease: Lease) -> None:
        super().renew(lease)
        self._renewed = time.monotonic()

    # dlt's schema.

    def lock_table(self, cursor: Cursor, table: str) -> None:
        """Nothing is locked before it is read: what was read is asserted when it is changed."""

    def _grow_schema(self, cursor: Cursor, targets: list[Target]) -> bool:
        assert isinstance(cursor, DeferredCursor)
        versions = self.name("_dlt_version")
        count = f"select count(*) from {versions}"
        before = cursor.rows(count)[0][0]
        if not super()._grow_schema(cursor, targets):
            return False
        cursor.require(dialect.assertion(f"({count}) = {before}", "concurrent update of the schema"), first=True)
        # A row that is changed, if only to what it was, makes two who do this at the same time conflict.
        cursor.execute(f"update {versions} set version = version where schema_name = ?", [self.dataset])
        return True

    def registry_client(self) -> RegistryClient:
        credentials: dict[str, Any] = dict(self._info or {})
        if self._project:
            credentials["project_id"] = self._project
        return RegistryClient("bigquery", credentials, self.dataset, contextlib.nullcontext)

    # Checks.

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            jobs = self._connect()
            jobs.rows("select 1")
        except RunnerError as error:
            return [("fail", error.message, error.advice)]
        client = jobs.client
        account = getattr(client._credentials, "service_account_email", "") or "the application's own credentials"
        place = client.location or "its default location"
        checks = [("ok", f"BigQuery answers in project {self._project}, {place}, to {account}", "")]
        if self._born is None:
            asked = [f"create schema {quote(self.dataset)}"]
        else:
            asked = [f"create table {self.name('_runner_probe')} (x int64)"]
            if "_runner_state" in self._names():
                asked.append(f"delete from {self.name('_runner_state')} where false")
        for statement in asked:
            try:
                jobs.plan(dialect.spelled(statement))
            except RunnerError as error:
                checks.append(("fail", error.message, error.advice))
        if len(checks) == 1:
            checks.append(("ok", f"it may load into {self.dataset}", ""))
        return checks

    def _names(self) -> set[str]:
        with self.session() as cursor:
            return {*self.existing_columns(cursor, "_runner_state")}


def _dataset(jobs: Jobs, name: str) -> Any:
    """Return a dataset, or None."""
    from google.api_core.exceptions import NotFound

    with jobs.call() as client:
        try:
            return client.get_dataset(name, retry=jobs.retry, timeout=10.0)
        except NotFound:
            return None


def _field(name: str, kind: str) -> Any:
    from google.cloud import bigquery

    plain, *sizes = re.findall(r"\w+", kind)
    described = dict(zip(("precision", "scale"), sizes, strict=False))
    return bigquery.SchemaField.from_api_repr({"name": name, "type": plain, **described})


@contextlib.contextmanager
def _readable(file: Path, names: Mapping[str, str]) -> Iterator[Any]:
    """Open a file, or a copy of it in which the columns have other names."""
    if all(name == given for name, given in names.items()):
        with file.open("rb") as opened:
            yield opened
        return
    with pq.ParquetFile(file) as source, tempfile.TemporaryFile() as renamed:
        schema = source.schema_arrow
        schema = pa.schema([field.with_name(names[field.name]) for field in schema])
        with pq.ParquetWriter(renamed, schema) as writer:
            for batch in source.iter_batches():
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
        yield renamed
