"""A table at work, and how the ledger keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from runner.errors import RunnerError
from runner.journal import Statement, delete, insert, update
from runner.ledger import LedgerReader
from runner.load import DatasetState, Outcome
from runner.plan import Rejected, TablePlan, latest
from runner.rowhash import Fingerprint
from runner.runs import RunFolder
from runner.source import Chunk, Window
from runner.spool import Spool, SpooledChunk


@dataclass
class ChunkState:
    """A chunk and how far it came.

    Attributes:
        mark: The mark of its rows, where only they tell it.
        next: The chunk that goes on where it ended before its rows did.
    """

    chunk: Chunk
    state: str = "planned"
    epoch: int = 0
    token: str | None = None
    rows: int = 0
    bytes: int = 0
    hash: str | None = None
    mark: str | None = None
    next: str | None = None
    spooled: SpooledChunk | None = None
    reserve_more: int = 0

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The fingerprint of the rows that were read, where they are verified by hash."""
        return Fingerprint.parse(self.hash) if self.hash is not None else None

    @property
    def files(self) -> tuple[str, ...]:
        """The chunk's files in the spool."""
        return self.spooled.files if self.spooled is not None else ()


@dataclass
class Item:
    """A table at work.

    Attributes:
        digest: The plan's digest without the window that this run gave it.
        replace: Whether publishing swaps the whole table.
        fresh: Whether the staging table has to be made anew.
        taken: Whether it was taken over from another machine, and our ledger knows nothing of it yet.
        mark: The high-water mark of this run, taken in mark_epoch under the picture mark_token.
        looked_at: The epoch that it was read in last.
        base: The load id that the destination's table had when it was planned.
        lsn: Where in the source's log the picture of the publication was taken.
        hash: The fingerprint of the whole table once it is published; parts: of its parts.
        deleted: Rows that were deleted at the source, and are gone or marked now.
        paged: Whether its chunks may be gone on with by others that the ledger alone knows.
        key_range: The smallest and the largest key that was read.
    """

    plan: TablePlan
    digest: str
    chunks: list[ChunkState] = field(default_factory=list)
    state: str = "planned"
    replace: bool = True
    fresh: bool = False
    taken: bool = False
    mark: str | None = None
    mark_epoch: int = 0
    mark_token: str | None = None
    looked_at: int = 0
    load_id: str | None = None
    base: str | None = None
    lsn: str | None = None
    hash: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    deleted: int = 0
    paged: bool = False
    key_range: tuple[str, str] | None = None
    error: RunnerError | None = None
    began: float | None = None

    @property
    def name(self) -> str:
        """The table's name at the source."""
        return self.plan.name

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        """Bytes spooled so far, as Parquet."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def hashes(self) -> dict[str, Fingerprint]:
        """The chunks' fingerprints, where all of them have one."""
        return {state.chunk.id: state.fingerprint or Fingerprint() for state in self.chunks}

    @property
    def token(self) -> str | None:
        """The picture that the mark was taken in; of a table that nobody described, what was learned of its columns."""
        table = self.plan.scan.table
        return json.dumps(table.detail.get("shape")) if table.inferred else self.mark_token

    def mark_of_rows(self) -> str | None:
        """Return the mark that the rows tell: the source's last word, or their largest; None where they tell none."""
        marks = [state.mark for state in self.chunks if state.mark is not None]
        column = self.plan.scan.table.column(self.plan.cursor or "")
        if not marks or self.plan.keeps_mark:
            return None
        return marks[-1] if column is None else latest([*marks, *([self.mark] if self.mark else [])], column.type)

    def note(self, outcome: Outcome) -> None:
        """Keep what a publication found out."""
        self.hash = str(outcome.hash) if outcome.hash is not None else None
        self.parts = {part: str(found) for part, found in outcome.parts.items()}
        self.deleted = outcome.deleted
        self.key_range = outcome.key_range

    def forget(self) -> list[Statement]:
        """Return the statements that plan the table anew."""
        return [
            delete("chunks", table_name=self.name),
            insert(
                "tables",
                {
                    "name": self.name,
                    "destination": self.plan.target.name,
                    "mode": self.plan.mode,
                    "digest": self.digest,
                    "state": "planned",
                    "plan": json.dumps(self.stored_plan()),
                },
            ),
        ]

    def adopt(self) -> list[Statement]:
        """Return the statements that keep the table as far as another machine came with it."""
        noted = update("tables", {"name": self.name}, mark=self.mark, epoch=self.mark_epoch, token=self.mark_token)
        return [*self.forget(), noted, *(chunk_row(self.name, state) for state in self.chunks)]

    def published_at(self, now: datetime) -> list[Statement]:
        """Return the statements that say the table is published, and its chunks verified."""
        return [
            update(
                "tables",
                {"name": self.name},
                state="published",
                rows=self.rows,
                bytes=self.bytes,
                lsn=self.lsn,
                hash=self.hash,
                parts=json.dumps(self.parts),
                deleted=self.deleted,
                finished=now.isoformat(),
                error=None,
                resume_at=None,
            ),
            update("chunks", {"table_name": self.name}, state="verified"),
        ]

    def failed_at(self, now: datetime, error: RunnerError) -> Statement:
        """Return the statement that says why the table failed."""
        return update(
            "tables",
            {"name": self.name},
            state="failed",
            finished=now.isoformat(),
            error=json.dumps(error.record()),
        )

    def stored_plan(self) -> dict[str, Any]:
        """Return what a resumed run needs of the plan, and what a reader wants to know."""
        window = self.plan.scan.window
        return {
            "window": window.__dict__ if window else None,
            "where": self.plan.scan.where,
            "replace": self.replace,
            "base": self.base,
            "why": self.plan.why,
            "rows": self.plan.scan.table.rows,
            "bytes": self.plan.scan.table.bytes,
            "slice": asdict(self.plan.scan.slice) if self.plan.scan.slice else None,
            "paged": self.paged,
        }

    def staged_plan(self) -> str:
        """Return the plan as the destination keeps it beside staging: enough to go on without the ledger (L10)."""
        chunks = [asdict(state.chunk) for state in self.chunks]
        return json.dumps({**self.stored_plan(), "digest": self.digest, "mark": self.mark, "chunks": chunks})


def take_over(table: Item, state: DatasetState, spool: Spool, *, hashes: bool) -> Item | None:
    """Return a table as far as another machine came with the same plan; None where there is no such plan."""
    text = state.plans.get(table.plan.target.name)
    found = json.loads(text) if text else {}
    own = table.stored_plan()
    window, other = own["window"] or {}, found.get("window") or {}
    if found.get("paged"):
        # Where its pages go on is known to the ledger of the machine that read them alone.
        return None
    same = found.get("digest") == table.digest and all(found[name] == own[name] for name in ("base", "replace"))
    if not same or (window.get("start"), window.get("late")) != (other.get("start"), other.get("late")):
        return None
    chunks = []
    for chunk in found["chunks"]:
        receipt = state.chunks.get((table.plan.target.name, chunk["id"]))
        held = {"epoch": receipt.epoch, "token": receipt.token, "rows": receipt.rows} if receipt else {"epoch": None}
        planned = {"position": chunk["index"], "rows_estimate": chunk["rows"], "bytes_estimate": chunk["bytes"]}
        chunks.append({**chunk, "state": "planned", "files": None, "hash": None, **planned, "bytes": 0, **held})
    row = {"plan": text, "state": "planned", "mark": found["mark"], "epoch": None, "load_id": None, "token": None}
    # The mark that bounds an append is part of its plan; any other is taken again with the next picture.
    bounded = (found["window"] or {}).get("end") is not None
    item = restore({**row, "chunks": chunks}, table.plan, state, spool, hashes=hashes, run=None)
    item.mark_epoch = 1 if bounded else 0
    item.taken = True
    return item if any(chunk.state == "loaded" for chunk in item.chunks) else None


def restore(
    row: dict[str, Any], table: TablePlan, state: DatasetState, spool: Spool, *, hashes: bool, run: str | None
) -> Item:
    """Return a table as far as ledger and destination agree that it came (L5).

    Args:
        hashes: Whether a chunk needs a fingerprint: one that was read without is read again.
        run: Whose receipts count; None counts those of whoever made the plan.
    """
    stored = json.loads(row["plan"])
    window = Window(**stored["window"]) if stored["window"] else None
    item = Item(
        replace(table, scan=replace(table.scan, window=window, where=stored["where"])),
        digest=table.digest(),
        mark_token=row["token"],
        lsn=row.get("lsn"),
        hash=row.get("hash"),
        parts=json.loads(row.get("parts") or "{}"),
        deleted=row.get("deleted") or 0,
        replace=stored["replace"],
        state=row["state"],
        mark=row["mark"],
        mark_epoch=row["epoch"] or 0,
        load_id=row["load_id"],
        base=stored["base"],
    )
    published = state.tables.get(table.target.name)
    if row["load_id"] and published and published.load_id == row["load_id"]:
        # Committed there, and we were killed before our own row: the destination is the truth.
        item.state = "published"
        item.hash = published.hash
    item.chunks = [_restore_chunk(one, state, table.target.name, run) for one in row["chunks"]]
    for chunk in item.chunks:
        if hashes and chunk.hash is None and item.state != "published":
            chunk.state, chunk.spooled = "planned", None
        if chunk.spooled is not None and not (item.state != "published" and spool.holds(chunk.spooled)):
            chunk.state, chunk.spooled = "planned", None
    # Receipts of a plan that was given up do not count: staging holds nothing of this one.
    item.fresh = not any(chunk.state == "loaded" for chunk in item.chunks)
    return item


def plan_row(item: Item) -> dict[str, Any]:
    """Return a table as plan.json keeps it."""
    return {
        "table": item.name,
        "destination": item.plan.target.name,
        "mode": item.plan.mode,
        "columns": item.plan.scan.table.shape(),
        "key": item.plan.target.key,
        **item.stored_plan(),
    }


def chunk_row(table: str, state: ChunkState) -> Statement:
    """Return the statement that stores a chunk of the plan."""
    chunk = state.chunk
    return insert(
        "chunks",
        {
            "table_name": table,
            "id": chunk.id,
            "position": chunk.index,
            "bounds": json.dumps(chunk.bounds),
            "storage": chunk.storage,
            "rows_estimate": chunk.rows,
            "bytes_estimate": chunk.bytes,
            "state": state.state,
            "epoch": state.epoch or None,
            "token": state.token,
            "rows": state.rows,
            "bytes": state.bytes,
            "hash": state.hash,
            "mark": state.mark,
            "next": state.next,
        },
    )


def rejected_row(one: Rejected) -> Statement:
    """Return the statement that records a table which could not be planned."""
    return insert(
        "tables",
        {
            "name": one.name,
            "destination": "",
            "mode": "",
            "digest": "",
            "state": "failed",
            "plan": json.dumps(
                {
                    "window": None,
                    "where": None,
                    "replace": True,
                    "base": None,
                    "why": "",
                    "rows": 0,
                    "bytes": 0,
                    "slice": None,
                }
            ),
            "error": json.dumps(one.error.record()),
        },
    )


def read_tables(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the tables of a ledger by name, each with its chunks."""
    with LedgerReader(folder.ledger) as ledger:
        tables = {row["name"]: {**row, "chunks": []} for row in ledger.tables()}
        for chunk in ledger.chunks():
            tables[chunk["table_name"]]["chunks"].append(chunk)
    return tables


def spooled_files(row: dict[str, Any]) -> list[str]:
    """Return the spool's files that a chunk's row claims."""
    files: list[str] = json.loads(row["files"] or "[]") if row["state"] == "spooled" else []
    return files


def _restore_chunk(row: dict[str, Any], state: DatasetState, table: str, run: str | None) -> ChunkState:
    chunk = Chunk(
        row["id"], row["position"], row["bounds"], row["storage"], row["rows_estimate"], row["bytes_estimate"]
    )
    found = ChunkState(chunk)
    if row["epoch"] is None:
        return found
    found.epoch, found.token = row["epoch"], row["token"]
    found.rows, found.bytes = row["rows"], row["bytes"]
    found.mark, found.next = row.get("mark"), row.get("next")
    spooled = SpooledChunk(tuple(json.loads(row["files"] or "[]")), row["rows"], row["bytes"], row["hash"])
    receipt = state.chunks.get((table, chunk.id))
    found.hash = row["hash"]
    ours = receipt is not None and (run in (None, receipt.run) or row["token"] == receipt.token is not None)
    if receipt is not None and ours and receipt.epoch == row["epoch"]:
        # What is in staging is what the receipt says. The epochs of two runs are not the same picture, but for what
        # this run took over from the other: that is of the picture that its token names.
        found.state, found.rows = "loaded", receipt.rows
        found.token, found.hash = receipt.token, receipt.hash
    elif row["state"] == "spooled":
        found.state, found.spooled = "spooled", spooled
    return found
