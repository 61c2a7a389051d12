"""Parquet files in a folder or a bucket, and for each table a manifest that says which of them are the table.

::

    <url>/<dataset>/
        <table>/manifest.json                                columns, files, history: what readers read
        <table>/<number>-<run>/<chunk>-<epoch>.parquet       never changed, and its name is never used again
        _runner/stage/<table>.json                           what is staged for the next publication
        _runner/leases/<table>.json                          which run may publish the table now
        _runner/runs/<run>.json                              how runs stand, or ended

A publication is one replacement of a manifest, which is refused if anybody replaced it since it was read (L3, L4).
Files that neither the new manifest nor the one before it names are removed afterwards: a reader that has just read
the old manifest still finds them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from runner.crash import crash_point
from runner.errors import (
    DestinationError,
    LeaseLost,
    RunnerError,
    UsageError,
    VerifyFailed,
)
from runner.load import (
    ChunkLoad,
    DatasetState,
    Held,
    Lease,
    Outcome,
    Publication,
    Receipt,
    RunRecord,
    TableWork,
    Target,
)
from runner.naming import literal, quote
from runner.plan import not_ours
from runner.rowhash import Digest, Fingerprint, Hasher
from runner.secrets import redact, remember
from runner.writers.folder import Changed, Document, Folder, FoundT, Store, is_temporary
from runner.writers.leases import Leases
from runner.writers.manifest import DataFile, Manifest, Stage, StagedChunk, fingerprint
from runner.writers.objects import Objects
from runner.writers.parquet import UNREADABLE, TableFiles

_SCHEMES = ("s3", "gs", "az")
_FILE_MEMORY = 128 * 2**20
_INTERNAL = "_runner"


class FilesystemConfig(BaseModel):
    """The keys of a destination of type filesystem."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="a folder, from the project's root; file:///…, s3://bucket/prefix, gs://…, az://…")
    endpoint: str | None = Field(None, description="s3, az: where the store answers, if not at its provider's")
    region: str | None = Field(None, description="s3: the bucket's region")
    allow_http: bool = Field(False, description="talk to an endpoint without TLS")
    access_key_id: str | None = Field(None, repr=False, description="s3: AWS_ACCESS_KEY_ID by default")
    secret_access_key: str | None = Field(None, repr=False, description="s3: AWS_SECRET_ACCESS_KEY by default")


class Filesystem:
    """A folder or a bucket.

    Args:
        options: The keys of the destination in the job file, as FilesystemConfig has them.
        folder: Where a relative path starts.
        memory: Bytes that loading may take.
    """

    config_model = FilesystemConfig
    max_name = 63
    promises: ClassVar[dict[str, str]] = {"full": "exactly once; all at once", "append": "exactly once"}
    metered = False
    unproved = ""

    def __init__(self, options: dict[str, Any], *, folder: Path, memory: int) -> None:
        self._config = FilesystemConfig.model_validate(options)
        self._memory = memory
        self._folder: Path | None = None
        given = self._config.model_dump(exclude={"url", "allow_http"}, exclude_none=True)
        scheme, sign, _ = self._config.url.partition("://")
        if not sign or scheme == "file":
            self._folder = _local_folder(self._config.url, folder)
            if given or self._config.allow_http:
                raise UsageError(f"A local folder takes no {next(iter(given), 'allow_http')}.")
        elif scheme not in _SCHEMES:
            known = ", ".join(f"{one}://" for one in ("file", *_SCHEMES))
            raise UsageError(f"{redact(self._config.url)} is of no known kind.", guidance=f"Known: a folder, {known}.")
        if self._config.secret_access_key:
            remember(f"secret={self._config.secret_access_key}")
        self._options = given

    @staticmethod
    def options_from_dlt(environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the options that dlt's own variables hold (dlthub.com, filesystem destination)."""
        names = {
            "url": "BUCKET_URL",
            "access_key_id": "CREDENTIALS__AWS_ACCESS_KEY_ID",
            "secret_access_key": "CREDENTIALS__AWS_SECRET_ACCESS_KEY",
            "endpoint": "CREDENTIALS__ENDPOINT_URL",
            "region": "CREDENTIALS__REGION_NAME",
        }
        values = {key: environ.get(f"DESTINATION__FILESYSTEM__{name}") for key, name in names.items()}
        found: dict[str, Any] = {key: value for key, value in values.items() if value}
        if found.get("endpoint", "").startswith("http://"):
            found["allow_http"] = True
        return found

    def describe(self) -> str:
        place = str(self._folder) if self._folder is not None else redact(self._config.url)
        at = f" at {redact(self._config.endpoint)}" if self._config.endpoint else ""
        return f"filesystem {place}{at}"

    def writer(self, dataset: str) -> FilesystemWriter:
        return FilesystemWriter(self.store(dataset), self._memory)

    def store(self, folder: str) -> Store:
        """Return a folder of it."""
        if self._folder is not None:
            return Folder(self._folder / folder)
        url = f"{self._config.url.rstrip('/')}/{folder}"
        return Objects(url, self._options, allow_http=self._config.allow_http)


def _local_folder(url: str, folder: Path) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return (folder / url).resolve()
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url} names another host.", guidance="Write file:///path, with three slashes.")
    return Path(unquote(parts.path))


class FilesystemWriter:
    """Writes to one dataset: a folder of tables.

    Args:
        store: The dataset's files.
        memory: Bytes that loading may take.
    """

    def __init__(self, store: Store, memory: int) -> None:
        self._store = store
        self._leases = Leases(store)
        # Files are copied and hashed a row group at a time; so many of them at once.
        self._room = threading.BoundedSemaphore(max(1, memory // _FILE_MEMORY))

    def prepare(self) -> None:
        self._store.prepare()

    def read_state(self, run: str | None) -> DatasetState:
        names = [name for name in self._store.folders() if name != _INTERNAL]
        manifests = dict(zip(names, self._store.each(self._manifest, names), strict=True))
        missing = [name for name, manifest in manifests.items() if manifest.newest is None]
        others = self._store.each(lambda name: self._files(name).are_foreign(), missing)
        foreign = {name for name, other in zip(missing, others, strict=True) if other}
        staged = [Path(path).stem for path in self._store.files(f"{_INTERNAL}/stage") if not is_temporary(path)]
        stages = dict(zip(staged, self._store.each(self._stage_of, staged), strict=True))
        state = DatasetState({}, {})
        for name, manifest in manifests.items():
            if manifest.newest is not None:
                state.tables[name] = manifest.newest
            if manifest.newest is not None or name in foreign:
                state.existing[name] = manifest.types
        for name, stage in stages.items():
            waits = stage.seq == manifests.get(name, Manifest()).seq + 1
            if waits and stage.plan is not None:
                state.plans[name] = stage.plan
            for chunk, staged_chunk in stage.chunks.items():
                if waits or staged_chunk.receipt.run == run:
                    state.chunks[name, chunk] = staged_chunk.receipt
        return state

    def acquire(self, lease: Lease, tables: Iterable[str]) -> list[Held]:
        return self._leases.acquire(lease, list(tables))

    def renew(self, lease: Lease) -> None:
        self._leases.renew(lease)

    def release(self, lease: Lease) -> None:
        self._leases.release(lease)

    def rest(self) -> None:
        """Nothing to do: nothing is kept open."""

    def held(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def interrupt(self) -> None:
        """Nothing to do: the store's own time-outs end every call."""

    def close(self) -> None:
        """Nothing to do: nothing is kept open."""

    def register(self, targets: list[Target]) -> None:
        """Nothing to do: dlt's schema is not kept here."""

    def record_run(self, record: RunRecord) -> None:
        self._store.write(f"{_INTERNAL}/runs/{record.run}.json", [json.dumps(asdict(record), indent=1).encode()])

    def diagnose(self) -> list[tuple[str, str, str]]:
        try:
            return [("ok", self._store.probe(), "")]
        except RunnerError as error:
            return [("fail", error.message, error.advice)]

    # Loading and publishing.

    def apply(self, lease: Lease, works: list[TableWork]) -> list[Outcome]:
        tables: dict[str, list[int]] = {}
        for index, work in enumerate(works):
            tables.setdefault(work.target.name, []).append(index)
        outcomes: dict[int, Outcome] = {}

        def one(table: str) -> None:
            for index in tables[table]:
                outcomes[index] = self._work(lease, works[index])

        self._store.each(one, tables)
        return [outcomes[index] for index in range(len(works))]

    def _work(self, lease: Lease, work: TableWork) -> Outcome:
        outcome, target = Outcome(), work.target
        try:
            crash_point("load-begun", target.source_table)
            self._leases.check(lease, target.name)
            manifest = self._manifest(target.name)
            done = [row["load_id"] for row in manifest.history]
            if work.publication is not None and work.publication.load_id in done:
                return Outcome(hash=manifest.hash)
            stage = self._load(lease, work, manifest, outcome)
            if work.publication is not None:
                self._publish(lease, target, work.publication, manifest, stage, outcome)
        except Changed:
            outcome.error = LeaseLost(table=target.name)
        except RunnerError as error:
            if error.retriable:
                raise
            outcome.error = error
        except Exception as error:  # whatever it is, it must not stop the other tables (L6)
            message = f"An unexpected {type(error).__name__}: {redact(str(error))}"
            outcome.error = DestinationError(message, table=target.name)
        return outcome

    def _load(self, lease: Lease, work: TableWork, manifest: Manifest, outcome: Outcome) -> Stage:
        """Write the chunks' files, then their receipts."""
        target = work.target
        stage = self._stage_of(target.name)
        if work.fresh or stage.seq != manifest.seq + 1 or not stage.chunks:
            stage = Stage(manifest.seq + 1, work.plan, {}, stage.stored)
        new = {}
        for chunk in work.chunks:
            before = stage.chunks.get(chunk.id)
            if before is None or (before.receipt.run, before.receipt.epoch) != (lease.run, chunk.epoch):
                new[chunk.id] = self._write_chunk(lease, target, chunk, stage.seq)
                outcome.rows += chunk.rows
        staged = replace(stage, chunks={**stage.chunks, **new})
        if new or work.fresh:
            crash_point("load-staged", target.source_table)
            self._store.replace(_stage_path(target.name), staged.data(), stage.stored)
            crash_point("load-receipted", target.source_table)
        return staged

    def _write_chunk(self, lease: Lease, target: Target, chunk: ChunkLoad, seq: int) -> StagedChunk:
        files = []
        for number, source in enumerate(chunk.files):
            # No other run, and no other reading of this one, ever has the same name.
            part = f".{number}" if number else ""
            name = f"{seq:06d}-{lease.run}/{chunk.id}-{chunk.epoch}{part}.parquet"
            self._leases.keep(lease)
            written = self._files(target.name).write(name, source, target)
            files.append(replace(written, hash=chunk.hash) if len(chunk.files) == 1 else written)
        return StagedChunk(Receipt(lease.run, chunk.epoch, chunk.rows, chunk.hash, chunk.token), tuple(files))

    def _publish(
        self,
        lease: Lease,
        target: Target,
        publication: Publication,
        manifest: Manifest,
        stage: Stage,
        outcome: Outcome,
    ) -> None:
        self._check_basis(target, publication, manifest)
        outcome.changes = manifest.changes(target, publication)
        files = self._compared(lease, target, publication, stage)
        crash_point("verify", target.source_table)
        after = manifest.after(lease, target, publication, files)
        self._leases.check(lease, target.name)
        crash_point("swap", target.source_table)
        try:
            self._store.replace(_manifest_path(target.name), after.data(target.name), manifest.stored)
        except Changed:
            # An earlier attempt of ours may have arrived after all.
            after = self._manifest(target.name)
            if after.newest is None or after.newest.load_id != publication.load_id:
                raise _published_since(target) from None
        outcome.hash = after.hash
        crash_point("publish-recorded", target.source_table)
        # The publication stands whatever comes of this; the next one looks again.
        with contextlib.suppress(RunnerError):
            self._files(target.name).remove([*after.files, *manifest.files], after.seq)

    def _check_basis(self, target: Target, publication: Publication, manifest: Manifest) -> None:
        newest = manifest.newest
        if (newest.load_id if newest else None) != publication.base:
            raise _published_since(target)
        owner = (newest.source, newest.source_table) if newest else None
        exists = newest is not None or self._files(target.name).are_foreign()
        if exists and not publication.adopt and owner != (target.source, target.source_table):
            raise not_ours(target.name, owner)
        partly = publication.range or publication.slice
        if publication.deletion is not None or (partly and newest is not None):
            raise DestinationError(
                "Rows in files can neither be deleted nor replaced in part.",
                guidance="Run it with --full-refresh, or load the table into a database.",
                table=target.name,
            )

    def _compared(self, lease: Lease, target: Target, publication: Publication, stage: Stage) -> tuple[DataFile, ...]:
        """Return the files to publish, compared with what was read as far as the publication asks for it.

        Raises:
            VerifyFailed: They do not hold what was read.
        """
        names = list(dict.fromkeys([*publication.chunks, *stage.chunks]))

        def look(name: str) -> tuple[DataFile, ...] | None:
            files = stage.chunks[name].files if name in stage.chunks else ()
            return self._look(lease, target, publication, files) if publication.verify else files

        found = dict(zip(names, self._store.each(look, names), strict=True))
        wrong = [name for name in names if not _is_right(publication, name, found[name])]
        if wrong:
            first, files = wrong[0], found[wrong[0]]
            sent = publication.chunks.get(first, 0)
            arrived = sum(file.rows for file in files) if files is not None else None
            words = "files that cannot be read" if arrived is None else f"{arrived} rows"
            values = ", and their values differ" if arrived == sent else ""
            raise VerifyFailed(
                f"{len(wrong)} of {len(publication.chunks)} chunks differ; of chunk {first} the source sent "
                f"{sent} rows and {words} arrived{values}.",
                table=target.name,
                chunks=",".join(sorted(wrong)),
            )
        return tuple(file for files in found.values() for file in files or ())

    def _look(
        self, lease: Lease, target: Target, publication: Publication, files: Sequence[DataFile]
    ) -> tuple[DataFile, ...] | None:
        """Return files with the rows that they have in the store; None where one cannot be read."""
        there, found = self._files(target.name), []
        try:
            for file in files:
                self._leases.keep(lease)
                found.append(there.counted(file) if publication.hashes is None else there.hashed(file, target))
        except UNREADABLE:
            return None
        return tuple(found)

    def digest(
        self,
        target: Target,
        ask: Digest,
        *,
        chunk: str | None = None,
        cursor: str | None = None,
        until: str | None = None,
        between: tuple[str, str | None, str | None] | None = None,
    ) -> list[tuple[Any, ...]]:
        conditions = []
        if chunk is not None:
            staged = self._stage_of(target.name).chunks.get(chunk)
            files, fields = staged.files if staged is not None else (), target.fields()
        else:
            manifest = self._manifest(target.name)
            wanted = {column.name: str(column.type) for column in target.columns}
            files, fields = manifest.files, target.fields(manifest.types, wanted)
            # A literal becomes of the type that it is compared with.
            if cursor is not None and until is not None:
                conditions.append(f"({quote(cursor)} <= {literal(until)} or {quote(cursor)} is null)")
            if between is not None:
                name, low, high = between
                sides = ((">=", low), ("<", high))
                conditions += [f"{quote(name)} {sign} {literal(side)}" for sign, side in sides if side]
        hasher = Hasher(fields, ask, " and ".join(conditions))
        try:
            return self._files(target.name).hash(files, target, hasher).result()
        except UNREADABLE as error:
            words = f"A file of {target.name} cannot be read: {redact(str(error))}"
            raise DestinationError(words, table=target.name) from error

    def _manifest(self, table: str) -> Manifest:
        return self._document(Manifest.of, _manifest_path(table))

    def _stage_of(self, table: str) -> Stage:
        return self._document(Stage.of, _stage_path(table))

    def _document(self, read: Callable[[Document | None], FoundT], path: str) -> FoundT:
        found = self._store.read(path)
        try:
            return read(found)
        except (ValueError, KeyError, TypeError) as error:
            raise DestinationError(
                f"{path} is not as it was written: {type(error).__name__}.", guidance="Put an older copy of it back."
            ) from error

    def _files(self, table: str) -> TableFiles:
        return TableFiles(self._store, table, self._room)


def _is_right(publication: Publication, chunk: str, files: Sequence[DataFile] | None) -> bool:
    if files is None or sum(file.rows for file in files) != publication.chunks.get(chunk, 0):
        return False
    hashes = publication.hashes if publication.verify else None
    return hashes is None or fingerprint(files) == hashes.get(chunk, Fingerprint())


def _published_since(target: Target) -> LeaseLost:
    return LeaseLost("Another run published the table since this one was planned.", table=target.name)


def _manifest_path(table: str) -> str:
    return f"{table}/manifest.json"


def _stage_path(table: str) -> str:
    return f"{_INTERNAL}/stage/{table}.json"
