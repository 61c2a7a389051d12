"""How one table is split: key ranges where a key orders the rows on disk, else ctid ranges, else not.

A ctid range is only right inside one snapshot (an updated row moves), needs a heap table and
PostgreSQL 14's TID range scan. A key range is right without a snapshot too, as long as keys stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from connectors.postgres.catalog import HAS_FOREIGN, storage
from connectors.postgres.hashes import hash_fields
from runner.naming import literal, quote
from runner.rowhash import POSTGRES, PostgresDialect
from runner.source import Chunk, Scan, make_chunk

_ORDERABLE = ("smallint", "integer", "bigint", "date", "uuid", "text", "character varying", "timestamp", "numeric")
_SAMPLES = 20_000

_LEAVES = """
select l.oid, n.nspname as schema, l.relname as name, l.relkind::text as kind,
       pg_relation_size(l.oid) / 8192 as pages, pg_table_size(l.oid) as bytes, l.reltuples, l.relpages
from pg_partition_tree($1::oid::regclass) t
join pg_class l on l.oid = t.relid join pg_namespace n on n.oid = l.relnamespace
where t.isleaf order by l.oid
"""

_CORRELATION = """
select abs(correlation) from pg_stats where (schemaname, tablename, attname) = ($1, $2, $3)
"""


@dataclass(frozen=True)
class _Leaf:
    """A relation that holds rows."""

    schema: str
    name: str
    heap: bool
    pages: int
    bytes: int
    rows: int


def whole(scan: Scan, rows: int, size: int, stored: str | None) -> list[Chunk]:
    """Return the one chunk of a scan that is not split, or nothing where it may be.

    Args:
        stored: What the table is stored in.
    """
    table = scan.table
    if scan.slice is not None or (scan.window is not None and scan.window.start is not None):
        # An increment is small and its rows lie anywhere: one statement over the cursor's index. A slice lies anywhere.
        return [make_chunk(scan, 0, {}, storage=stored, rows=0, size=0)]
    if _parts(table.rows, table.bytes, rows, size) == 1:
        return [make_chunk(scan, 0, {}, storage=stored, rows=table.rows, size=table.bytes)]
    return []


async def split(connection: Any, scan: Scan, rows: int, size: int, *, consistent: bool, version: int) -> list[Chunk]:
    """Split a scan into disjoint chunks that cover it whatever is written meanwhile.

    Args:
        connection: Inside the session's transaction.
        rows: About so many rows a chunk; size: about so many bytes.
        consistent: Whether all chunks read one snapshot.
        version: The server's major version.
    """
    table = scan.table
    if table.kind in ("view", "foreign_table"):
        return [make_chunk(scan, 0, {}, storage=None, rows=table.rows, size=table.bytes)]
    stored = await connection.fetchval(storage(table))
    if unsplit := whole(scan, rows, size, stored):
        return unsplit
    # A foreign partition can be read through its parent only: it has no ctid, no lock and no sample.
    if table.kind == "partitioned" and (not consistent or await connection.fetchval(HAS_FOREIGN, table.detail["oid"])):
        return [make_chunk(scan, 0, {}, storage=stored, rows=table.rows, size=table.bytes)]
    chunks: list[Chunk] = []
    for leaf in await _leaves(connection, scan):
        relation = {"relation": [leaf.schema, leaf.name]} if table.kind == "partitioned" else {}
        parts = _parts(leaf.rows, leaf.bytes, rows, size)
        bounds = await _bounds(connection, scan, leaf, parts, consistent=consistent, version=version)
        for bound in bounds:
            share = len(bounds)
            chunks.append(
                make_chunk(
                    scan,
                    len(chunks),
                    {**relation, **bound},
                    storage=stored,
                    rows=leaf.rows // share,
                    size=leaf.bytes // share,
                )
            )
    return chunks


def _parts(rows: int, size: int, chunk_rows: int, chunk_bytes: int) -> int:
    return max(1, -(-rows // chunk_rows), -(-size // chunk_bytes))


async def _leaves(connection: Any, scan: Scan) -> list[_Leaf]:
    table = scan.table
    if table.kind != "partitioned":
        pages = await connection.fetchval("select pg_relation_size($1::oid) / 8192", table.detail["oid"])
        return [_Leaf(table.schema, table.name, True, pages, table.bytes, table.rows)]
    found = []
    for row in await connection.fetch(_LEAVES, table.detail["oid"]):
        density = row["reltuples"] / row["relpages"] if row["relpages"] and row["reltuples"] >= 0 else 60
        found.append(
            _Leaf(
                row["schema"],
                row["name"],
                row["kind"] == "r",
                row["pages"],
                row["bytes"],
                int(density * row["pages"]),
            )
        )
    return found


async def _bounds(
    connection: Any, scan: Scan, leaf: _Leaf, parts: int, *, consistent: bool, version: int
) -> list[dict[str, Any]]:
    if parts == 1:
        return [{}]
    key = scan.table.primary_key[0] if scan.table.primary_key else None
    # A range of a protected column would be in the ledger.
    column = next((one for one in scan.columns if one.name == key and one.rule is None), None)
    if column is not None and column.native.startswith(_ORDERABLE):
        ordered = await connection.fetchval(_CORRELATION, leaf.schema, leaf.name, key)
        ctid_possible = consistent and leaf.heap and version >= 14
        if not ctid_possible or (ordered or 0) > 0.9:
            ranges = await _key_ranges(connection, leaf, str(key), parts)
            if len(ranges) * 5 >= parts * 4:
                return ranges
    if consistent and leaf.heap and version >= 14:
        step = max(1, -(-leaf.pages // parts))
        edges: list[int | None] = [*range(0, max(leaf.pages, 1), step), None]
        return [{"ctid": [low, high]} for low, high in pairwise(edges)]
    return [{}]


async def _key_ranges(connection: Any, leaf: _Leaf, key: str, parts: int) -> list[dict[str, Any]]:
    """Cut at quantiles of a sample of the key; the first and the last range are open."""
    relation = f"{quote(leaf.schema)}.{quote(leaf.name)}"
    share = min(100.0, max(0.01, 100.0 * _SAMPLES / max(leaf.rows, 1)))
    fractions = ",".join(str(index / parts) for index in range(1, parts))
    # percentile_disc needs no interpolation, so it works for text and uuid too.
    cuts = await connection.fetchval(
        f"select percentile_disc(array[{fractions}]) within group (order by {quote(key)})::text[] "
        f"from {relation} tablesample system ({share}) repeatable (1)"
    )
    edges = [None, *dict.fromkeys(cut for cut in cuts or [] if cut is not None), None]
    return [{"key": [key, low, high]} for low, high in pairwise(edges)]


def condition(scan: Scan, chunk: Chunk, dialect: PostgresDialect = POSTGRES) -> str:
    """Return the condition of a chunk, or an empty string."""
    parts = []
    if "ctid" in chunk.bounds:
        low, high = chunk.bounds["ctid"]
        parts.append(f"ctid >= '({low},0)'::tid")
        if high is not None:
            parts.append(f"ctid < '({high},0)'::tid")
    if "key" in chunk.bounds:
        key, low, high = chunk.bounds["key"]
        column = scan.table.column(key)
        native = column.native if column else "text"
        if low is not None:
            parts.append(f"{quote(key)} >= {literal(low)}::{native}")
        if high is not None:
            parts.append(f"{quote(key)} < {literal(high)}::{native}")
    parts += window_condition(scan)
    if scan.where:
        parts.append(f"({scan.where})")
    if scan.present is not None:
        column = scan.table.column(scan.present)
        marked = column is not None and pa.types.is_boolean(column.type)
        parts.append(f"{quote(scan.present)} is {'not true' if marked else 'null'}")
    if scan.slice is not None:
        # A slice is of hashes that were made here, so that every column of its key can be hashed here.
        parts.append(dialect.within(scan.slice, hash_fields(scan)))
    return " and ".join(parts)


def window_condition(scan: Scan) -> list[str]:
    """Return the conditions of the cursor's window."""
    window = scan.window
    if window is None or (window.start is None and window.end is None):
        return []
    column = scan.table.column(window.cursor)
    native = column.native if column else "text"
    name, bounds = quote(window.cursor), []
    if window.start is not None:
        bounds.append(f"{name} {'>=' if window.from_start else '>'} {literal(window.start)}::{native}")
    if window.end is not None:
        bounds.append(f"{name} {'<' if window.before_end else '<='} {literal(window.end)}::{native}")
    if scan.special == "null" and not window.nulls and native.startswith(("timestamp", "date")):
        # It arrives as NULL, and no range of the destination holds that.
        bounds.append(f"isfinite({name})")
    choices = [" and ".join(bounds)]
    if window.nulls and (column is None or column.nullable):
        choices.append(f"{name} is null")
    if window.late is not None:
        choices.append(f"not ({row_version(window.late)})")
    return [f"({' or '.join(choices)})" if len(choices) > 1 else choices[0]]


def row_version(token: str) -> str:
    """Return the condition that the picture of a token shows this version of the row, where that is certain.

    A version older than all transactions that ran at that picture is shown by it. Of a younger one
    ``pg_visible_in_snapshot`` would know more, but it takes no subtransactions.

    The xmin of a row is 32 bits wide: it belongs to the current cycle or, where that would be the future, to the
    one before. A very old, frozen one may so be taken for a young one, which only ever reads it again.
    """
    top = "pg_snapshot_xmax(pg_current_snapshot())::text::int8"
    cycle = f"({top} >> 32 << 32) + xmin::text::int8"
    oldest = int(token.partition(":")[0])
    return f"case when {cycle} < {top} then {cycle} else {cycle} - 4294967296 end < {oldest}"
