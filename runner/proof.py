"""A proof of a verified run, and checking a destination against it later, without the source.

The proof holds fingerprints by value of every table and of its parts. Its root is the SHA-256 of the canonical
JSON of all of that: one line to keep somewhere safe.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from runner import __version__
from runner.errors import DestinationBusy, DestinationDown, DestinationError, UsageError
from runner.jobfile import SettledJob
from runner.load import DatasetState, Target, TargetColumn, Writer
from runner.record import Item
from runner.rowhash import Digest, Fingerprint, by_prefix, total

_FORMAT = 1
# Types whose order is the same in every database, so that a range of the key is the same rows.
_ORDERED = ("int", "date", "timestamp", "decimal")
_PLAIN = {
    str(kind): kind
    for kind in (
        pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary(),
        pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What became of one table of a proof.

    Attributes:
        state: equal, damaged, published again, or gone.
        wrong: The chunks or parts that no longer match, in words.
    """

    table: str
    state: str
    rows: int = 0
    wrong: tuple[str, ...] = ()


def make_proof(settled: SettledJob, run: str, dataset: str, how: str, items: Sequence[Item]) -> dict[str, Any]:
    """Return the proof of the tables that a run published and verified by value."""
    known = sorted(items, key=lambda item: item.name)
    tables = [_table(item) for item in known if item.hash is not None]
    proof = {
        "format": _FORMAT,
        "run": run,
        "job": settled.job.name,
        "job_file": settled.path.name,
        "job_digest": hashlib.sha256(settled.path.read_bytes()).hexdigest() if settled.path.is_file() else None,
        "version": __version__,
        "source": settled.source_name,
        "dataset": dataset,
        "verified": how,
        "hash": "md5 of canonical rows, summed by halves modulo 2**64",
        "unproved": [item.name for item in known if item.hash is None],
        "tables": tables,
    }
    return {**proof, "root": root(proof)}


def root(proof: dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of all but the root itself."""
    rest = {key: value for key, value in proof.items() if key != "root"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(item: Item) -> dict[str, Any]:
    fingerprint = Fingerprint.parse(str(item.hash))
    key = item.plan.scan.table.primary_key
    return {
        "table": item.name,
        "destination": item.plan.target.name,
        "mode": item.plan.mode,
        "load_id": item.load_id,
        "rows": fingerprint.rows,
        "hash": str(fingerprint),
        "lsn": item.lsn,
        "mark": item.mark,
        "key": list(key),
        "key_range": item.key_range,
        "columns": [[c.name, str(c.type), c.nullable, c.json, c.native] for c in item.plan.target.columns],
        "chunks": [
            {"id": one.chunk.id, "rows": one.rows, "hash": one.hash, "range": _range(item, one.chunk.bounds)}
            for one in item.chunks
        ],
        "whole": item.replace and not item.deleted,
        "parts": dict(sorted(item.parts.items())),
    }


def _range(item: Item, bounds: dict[str, Any]) -> list[str | None] | None:
    """Return a chunk's range of the key as the destination can ask for it: column, from, to; or None."""
    if set(bounds) != {"key"}:
        return None
    name, low, high = bounds["key"]
    column = next((one for one in item.plan.target.columns if one.source == name), None)
    if column is None or not str(column.type).startswith(_ORDERED):
        return None
    return [column.name, low, high]


def read_proof(path: Path) -> dict[str, Any]:
    """Read a proof.

    Raises:
        UsageError: It cannot be read, or was changed since it was written.
    """
    try:
        proof: dict[str, Any] = json.loads(path.read_text("utf-8"))
        changed = root(proof) != proof["root"]
        proof["tables"], proof["job"], proof["dataset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        guidance = "A run that was verified by hash or source leaves proof.json in its folder, .runner/runs/RUN/."
        raise UsageError(f"{path} is not a proof: {type(error).__name__}: {error}.", guidance=guidance) from None
    if changed:
        raise UsageError(f"{path} was changed since it was written: its root does not match.")
    if proof.get("format") != _FORMAT:
        raise UsageError(f"{path} has a format that this version does not know: {proof.get('format')}.")
    return proof


def check(proof: dict[str, Any], writer: Writer, state: DatasetState) -> list[Checked]:
    """Compare a destination with a proof; blocks, and changes nothing.

    Raises:
        DestinationError: The destination is busy or down.
    """
    found = []
    for table in proof["tables"]:
        try:
            found.append(_check(table, writer, state))
        except (DestinationBusy, DestinationDown):
            raise
        except DestinationError as error:
            found.append(Checked(table["table"], "damaged", wrong=(error.message,)))
    return found


def _check(table: dict[str, Any], writer: Writer, state: DatasetState) -> Checked:
    name = table["destination"]
    newest = state.tables.get(name)
    if newest is None or name not in state.existing:
        return Checked(table["table"], "gone")
    if newest.load_id != table["load_id"]:
        return Checked(table["table"], "published again", wrong=(f"by run {newest.run}",))
    target = Target(name, tuple(_column(*one) for one in table["columns"]))
    now = total(by_prefix(writer.digest(target, Digest())).values())
    if now == Fingerprint.parse(table["hash"]):
        return Checked(table["table"], "equal", now.rows)
    return Checked(table["table"], "damaged", now.rows, tuple(_wrong(table, writer, target)))


def _wrong(table: dict[str, Any], writer: Writer, target: Target) -> list[str]:
    """Return which chunks do not match; where chunks cannot be told apart there, which parts."""
    chunks = table["chunks"]
    if table["whole"] and len(chunks) == 1:
        return [f"chunk {chunks[0]['id']} (the whole table)"]
    if table["whole"] and all(chunk["range"] for chunk in chunks):
        wrong = []
        for chunk in chunks:
            column, low, high = chunk["range"]
            rows = writer.digest(target, Digest(), between=(column, low, high))
            if total(by_prefix(rows).values()) != Fingerprint.parse(chunk["hash"]):
                wrong.append(f"chunk {chunk['id']} ({column} from {low or 'the first'} to {high or 'the last'})")
        return wrong
    if not table["parts"]:
        return ["the table as a whole"]
    now = by_prefix(writer.digest(target, Digest(digits=1)))
    kept = {prefix: Fingerprint.parse(text) for prefix, text in table["parts"].items()}
    wrong = sorted(prefix for prefix in {*now, *kept} if now.get(prefix) != kept.get(prefix))
    return [f"rows whose hash begins with {prefix}" for prefix in wrong]


def _column(name: str, kind: str, nullable: bool, json: bool, native: str) -> TargetColumn:
    decimal = re.fullmatch(r"decimal128\((\d+), (\d+)\)", kind)
    arrow = pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else _PLAIN[kind]
    return TargetColumn(name, name, arrow, nullable, json, native)
