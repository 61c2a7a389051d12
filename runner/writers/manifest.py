"""The documents beside the files: what is published of a table, and what is staged of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from runner.errors import SchemaConflict
from runner.load import Lease, Publication, Receipt, TableState, Target
from runner.rowhash import Fingerprint, total
from runner.writers.folder import Document
from runner.writers.publication import column_changes

_HISTORY = 100


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of a table.

    Attributes:
        name: Its path in the table's folder.
        hash: The fingerprint of its rows, where it is known.
    """

    name: str
    rows: int
    bytes: int
    hash: str | None = None


@dataclass(frozen=True)
class DataColumn:
    """A column as readers find it; a file that lacks it has NULL there.

    Attributes:
        type: Its Arrow type; json: whether the text is a JSON document.
    """

    name: str
    type: str
    nullable: bool = True
    json: bool = False


@dataclass(frozen=True)
class Manifest:
    """What is published of a table: its files and nothing else are the table.

    Attributes:
        history: A row for each publication, the newest last.
        stored: The document that this was read from; None where nothing is published.
    """

    columns: tuple[DataColumn, ...] = ()
    files: tuple[DataFile, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    stored: Document | None = None

    @property
    def newest(self) -> TableState | None:
        """The newest history row."""
        if not self.history:
            return None
        row: dict[str, Any] = {one.name: self.history[-1].get(one.name) for one in fields(TableState)}
        return TableState(**row)

    @property
    def seq(self) -> int:
        """The number of the newest publication."""
        return int(self.history[-1]["seq"]) if self.history else 0

    @property
    def hash(self) -> Fingerprint | None:
        """The fingerprint of the whole table; None where it is not known."""
        text = self.newest.hash if self.newest is not None else None
        return Fingerprint.parse(text) if text is not None else None

    @property
    def types(self) -> dict[str, str]:
        """The columns' types."""
        return {column.name: column.type for column in self.columns}

    @staticmethod
    def of(stored: Document | None) -> Manifest:
        """Return the manifest that data() wrote."""
        if stored is None:
            return Manifest()
        found = json.loads(stored.data)
        return Manifest(
            tuple(DataColumn(**column) for column in found["columns"]),
            tuple(DataFile(**file) for file in found["files"]),
            tuple(found["history"]),
            stored,
        )

    def data(self, table: str) -> bytes:
        """Return the document."""
        document = {
            "format": 1,
            "table": table,
            "columns": [asdict(column) for column in self.columns],
            "files": [asdict(file) for file in self.files],
            "history": self.history,
        }
        return json.dumps(document, indent=1).encode()

    def changes(self, target: Target, publication: Publication) -> list[str]:
        """Return what a publication changes about the columns, in words.

        Raises:
            SchemaConflict: The schema is frozen, or rows of another type would be added.
        """
        if self.stored is None:
            return []
        wanted = {column.name: column.type for column in _columns(target)}
        found = column_changes(self.types, wanted)
        if publication.schema == "freeze" and found:
            raise SchemaConflict(
                f"The schema is frozen and differs: {'; '.join(found)}.",
                guidance="Set schema: evolve to take the change over.",
                table=target.name,
            )
        for name, old in self.types.items():
            if not publication.replace and wanted.get(name, old) != old:
                raise SchemaConflict(f"The column {name!r} was {old} and is {wanted[name]} now.", table=target.name)
        return found

    def after(self, lease: Lease, target: Target, publication: Publication, files: tuple[DataFile, ...]) -> Manifest:
        """Return the manifest that publishes some files: instead of those before, or with them."""
        newest = self.newest
        adds = newest is not None and not publication.replace
        mark, token = publication.mark, publication.token
        if mark is None and newest is not None and adds and newest.cursor == publication.cursor:
            mark, token = newest.mark, newest.token
        hashed = fingerprint(files)
        if adds:
            # Rows hashed without a column that is there now cannot be added up with those that have it.
            before = self.hash if self.columns == _columns(target) else None
            hashed = before + hashed if before is not None and hashed is not None else None
        state = TableState(
            source=target.source,
            source_table=target.source_table,
            job=lease.job,
            run=lease.run,
            mode=publication.mode,
            cursor=publication.cursor,
            mark=mark,
            load_id=publication.load_id,
            digest=publication.digest,
            rows=sum(publication.chunks.values()),
            hash=str(hashed) if hashed is not None else None,
            token=token,
            key=",".join(target.key),
        )
        row = {**asdict(state), "seq": self.seq + 1, "published_at": time.time()}
        return Manifest(
            self._with_columns(target) if adds else _columns(target),
            (*self.files, *files) if adds else files,
            (*self.history, row)[-_HISTORY:],
        )

    def _with_columns(self, target: Target) -> tuple[DataColumn, ...]:
        """Return the columns of the table with rows of the target added to it."""
        new = {column.name: column for column in _columns(target)}
        old = {column.name: column for column in self.columns}
        merged = []
        for name, column in {**old, **new}.items():
            nullable = name not in old or name not in new or old[name].nullable or new[name].nullable
            merged.append(DataColumn(name, column.type, nullable, column.json))
        return tuple(merged)


@dataclass(frozen=True)
class StagedChunk:
    """A chunk whose files are there, and nobody's yet."""

    receipt: Receipt
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class Stage:
    """What is staged of a table for one publication.

    Attributes:
        seq: The number of that publication: once there is one, the stage means nothing any more.
        plan: As TableWork.plan.
        stored: The document that this was read from.
    """

    seq: int = 0
    plan: str | None = None
    chunks: Mapping[str, StagedChunk] = field(default_factory=dict)
    stored: Document | None = None

    @staticmethod
    def of(stored: Document | None) -> Stage:
        """Return the stage that data() wrote."""
        if stored is None:
            return Stage()
        found = json.loads(stored.data)
        chunks = {
            chunk: StagedChunk(Receipt(**one["receipt"]), tuple(DataFile(**file) for file in one["files"]))
            for chunk, one in found["chunks"].items()
        }
        return Stage(found["seq"], found["plan"], chunks, stored)

    def data(self) -> bytes:
        """Return the document."""
        chunks = {chunk: asdict(staged) for chunk, staged in self.chunks.items()}
        return json.dumps({"seq": self.seq, "plan": self.plan, "chunks": chunks}).encode()


def _columns(target: Target) -> tuple[DataColumn, ...]:
    return tuple(DataColumn(column.name, str(column.type), column.nullable, column.json) for column in target.columns)


def fingerprint(files: Sequence[DataFile]) -> Fingerprint | None:
    """Return the fingerprint of all rows of some files; None where one is not known."""
    hashes = [file.hash for file in files]
    known = [Fingerprint.parse(text) for text in hashes if text is not None]
    return total(known) if len(known) == len(hashes) else None
