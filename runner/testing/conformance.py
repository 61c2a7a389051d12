"""What every source keeps, checked from outside: the kit that an author of a connector runs against a real server.

::

    async def test_it_keeps_the_contract(server):
        await conformance(lambda: MySource({"url": server.url}), "mine.orders")

Each rule is one of the port's promises (``runner/source.py``, DESIGN L3, L5, L7, L8, L11).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import anyio
import anyio.lowlevel
import pyarrow as pa
from pydantic import ValidationError

from runner.columns import Protector
from runner.job import TableEntry
from runner.plan import can_order, mark_fits
from runner.source import Chunk, Scan, Session, Source, Table, Window, following

_CHUNKS = 10_000


class Broken(AssertionError):
    """A source does not keep a rule."""


@dataclass(frozen=True)
class Found:
    """What the kit saw of a table.

    Attributes:
        rows: How many rows it has.
        chunks: How many chunks it was read in, those that went on in others counted.
        mark: Its high-water mark, where there is a cursor.
    """

    table: Table
    rows: int
    chunks: int
    mark: str | None


async def conformance(make: Callable[[], Source], table: str, *, cursor: str | None = None, small: int = 1) -> Found:
    """Check a source against a table that does not change meanwhile and has rows.

    Args:
        make: Returns a source that nothing was asked of yet.
        table: The table, as ``schema.table``.
        cursor: The column that orders its changes; what the connector suggests by default.
        small: So many rows a chunk are asked for, to see it split.

    Raises:
        Broken: A rule is not kept; the message says which.
    """
    source = make()
    _refuses_unknown_keys(source)
    async with source.session(1) as session:
        described = await _discovered(session, table)
        scan = Scan(described, described.columns)
        chunks = await _chunks(session, scan, small)
        rows, count = await _read_all(session, scan, chunks)
        _keys_are_keys(described, rows)
        await _again_is_the_same(session, scan, chunks[0])
        await _fewer_columns(session, described, chunks)
        await _who_stops_leaves_nothing(session, scan, chunks[0])
        mark = await _mark(session, described, cursor)
        if await session.discover(["no_such_schema.no_such_table"]):
            raise Broken("discover() returns tables that the patterns do not name")
    async with make().session(2) as session:
        # Another process: it has the ledger's JSON and nothing else.
        later, _ = await _read_all(session, scan, [_stored(chunk) for chunk in chunks])
        if _sorted(later) != _sorted(rows):
            raise Broken("chunks of a plan are not the same rows in another process")
        if mark is not None:
            await _window(session, described, cursor or _suggested(described), rows)
    return Found(described, rows.num_rows, count, mark)


def _refuses_unknown_keys(source: Source) -> None:
    model = getattr(type(source), "config_model", None)
    if model is None:
        raise Broken("a source names its config_model: the JSON Schema of job files is made from it")
    try:
        model.model_validate({"no_such_key_at_all": 1})
    except ValidationError as error:
        if any(one["type"] == "extra_forbidden" for one in error.errors()):
            return
    raise Broken("config_model takes unknown keys: extra has to be forbid")


async def _discovered(session: Session, name: str) -> Table:
    tables = await session.discover([name])
    if [one.qualified for one in tables] != [name]:
        raise Broken(f"discover([{name!r}]) returns {[one.qualified for one in tables]}")
    table = tables[0]
    names = [column.name for column in table.columns]
    if len(set(names)) != len(names) or not names:
        raise Broken(f"columns without names, or named twice: {names}")
    if missing := {*table.primary_key, *table.indexed} - set(names):
        raise Broken(f"keys that are no columns: {sorted(missing)}")
    if any(column.json and not pa.types.is_string(column.type) for column in table.columns):
        raise Broken("a JSON column arrives as text")
    TableEntry.model_validate(table.defaults)
    json.dumps(asdict(replace(table, columns=())))
    if session.position.consistent == bool(session.position.note):
        raise Broken("a position is consistent, or its note says why it is not")
    return table


async def _chunks(session: Session, scan: Scan, small: int) -> list[Chunk]:
    chunks = await session.chunks(scan, small, 1 << 62)
    again = await session.chunks(scan, small, 1 << 62)
    if not chunks or [one.id for one in chunks] != [one.id for one in again]:
        raise Broken("chunks() is not the same twice, or empty: a run could not go on")
    if len({one.id for one in chunks}) != len(chunks) or [one.index for one in chunks] != list(range(len(chunks))):
        raise Broken("two chunks have one id, or their numbers do not count up")
    for chunk in chunks:
        if _stored(chunk) != chunk:
            raise Broken(f"bounds are not JSON: {chunk.bounds}")
    return chunks


def _stored(chunk: Chunk) -> Chunk:
    return Chunk(**json.loads(json.dumps(asdict(chunk))))


async def _read_all(session: Session, scan: Scan, chunks: list[Chunk]) -> tuple[pa.Table, int]:
    """Read chunks and those that go on where they end."""
    tables: list[pa.Table] = []
    waiting, count = list(chunks), 0
    while waiting:
        chunk = waiting.pop(0)
        count += 1
        if count > _CHUNKS:
            raise Broken("chunks go on without an end")
        table, rest = await _read(session, scan, chunk)
        tables.append(table)
        if rest is not None:
            if not session.position.paged:
                raise Broken("chunks go on, and the position does not say that it is paged")
            waiting.append(_stored(following(scan, chunk, len(chunks) + count, rest)))
    return pa.concat_tables(tables), count


async def _read(session: Session, scan: Scan, chunk: Chunk) -> tuple[pa.Table, dict[str, Any] | None]:
    batches = []
    async with session.read(scan, chunk) as reading:
        async for batch in reading:
            if batch.schema != scan.arrow_schema:
                raise Broken(f"a batch is of {batch.schema}, and the plan of {scan.arrow_schema}")
            batches.append(batch)
        rows = sum(batch.num_rows for batch in batches)
        if reading.source_rows is not None and reading.source_rows != rows:
            raise Broken(f"the source says that it sent {reading.source_rows} rows, and {rows} came")
        rest = reading.rest
    return pa.Table.from_batches(batches, scan.arrow_schema), rest


def _keys_are_keys(table: Table, rows: pa.Table) -> None:
    if rows.num_rows == 0:
        raise Broken("the table has no rows: nothing is shown")
    Protector(table.columns, None)
    if table.primary_key:
        keys = rows.select(list(table.primary_key))
        distinct = keys.group_by(list(table.primary_key)).aggregate([])
        if distinct.num_rows != rows.num_rows:
            raise Broken(f"({', '.join(table.primary_key)}) is not unique: chunks overlap, or it is no key")
    for column in table.columns:
        if not column.nullable and rows.column(column.name).null_count:
            raise Broken(f"{column.name} is said never to be NULL, and is")


async def _again_is_the_same(session: Session, scan: Scan, chunk: Chunk) -> None:
    first, second = [await _read(session, scan, chunk) for _ in range(2)]
    if _sorted(first[0]) != _sorted(second[0]) or first[1] != second[1]:
        raise Broken("a chunk that is read twice is not the same rows, or does not end at the same place")


async def _fewer_columns(session: Session, table: Table, chunks: list[Chunk]) -> None:
    scan = Scan(table, table.columns[:1])
    # The chunks' bounds hold for any columns.
    rows, _ = await _read(session, scan, chunks[0])
    if rows.column_names != [table.columns[0].name]:
        raise Broken("other columns come than those that were asked for")


async def _who_stops_leaves_nothing(session: Session, scan: Scan, chunk: Chunk) -> None:
    async with session.read(scan, chunk) as reading:
        async for _ in reading:
            break
    with anyio.CancelScope() as scope:
        async with session.read(scan, chunk) as reading:
            async for _ in reading:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    with anyio.fail_after(30):
        await _read(session, scan, chunk)


def _suggested(table: Table) -> str:
    found = table.defaults.get("cursor") or (table.indexed[0] if table.indexed else "")
    return str(found[0] if isinstance(found, list) else found)


async def _mark(session: Session, table: Table, cursor: str | None) -> str | None:
    name = cursor or _suggested(table)
    column = table.column(name)
    if column is None or session.position.marks_rows:
        return None
    if not can_order(column.type):
        raise Broken(f"{name} ({column.type}) cannot order changes, and is suggested as the cursor")
    mark = await session.high_water(Scan(table, table.columns, window=Window(name)))
    if mark is None or not mark_fits(mark.value, column.type):
        raise Broken(f"high_water() returns {mark}, which is no value of {name} ({column.type})")
    return mark.value


async def _window(session: Session, table: Table, cursor: str, rows: pa.Table) -> None:
    """Read what comes after a value in the middle, and up to it: together they are all rows."""
    kind = table.column(cursor)
    assert kind is not None
    values = sorted({value for value in rows.column(cursor).to_pylist() if value is not None})
    middle = values[len(values) // 2]
    text = middle.isoformat(sep=" ") if pa.types.is_timestamp(kind.type) else str(middle)
    text = text.replace("+00:00", "+00")
    halves = []
    for window in (Window(cursor, start=text, nulls=False), Window(cursor, end=text)):
        scan = Scan(table, table.columns, window=window)
        halves.append((await _read_all(session, scan, await session.chunks(scan, _CHUNKS, 1 << 62)))[0])
    after, upto = (half.column(cursor).to_pylist() for half in halves)
    if any(value is None or value <= middle for value in after):
        raise Broken(f"a window after {text} has rows that are not after it")
    if any(value is not None and value > middle for value in upto):
        raise Broken(f"a window up to {text} has rows that are past it")
    if len(after) + len(upto) != rows.num_rows:
        raise Broken(
            f"{len(after)} rows after {text} and {len(upto)} up to it are not the {rows.num_rows} of the table"
        )


def _sorted(rows: pa.Table) -> list[str]:
    return sorted(json.dumps(row, default=str) for row in rows.to_pylist())
