"""Finds the rows that two sets do not have in common, in a handful of queries a side, wherever the sets live.

Sums by the first digits of the hash of the key tell which parts differ; of those parts the rows' hashes are
fetched. Both sides answer the same question (``rowhash.Digest``), in SQL or by streaming.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from runner.rowhash import NULL, Digest, Fingerprint, Slice, by_prefix, total

_ROWS_PER_PART = 300
_MOST_DIGITS = 4
_MOST_ROWS = 20_000
_NAMED = 20
_PAIRED = 200


@dataclass(frozen=True)
class Side:
    """One of two sets of rows.

    Attributes:
        key: Its names of the key's columns; () compares whole rows.
        columns: Its columns, in the order of the plan.
        ask: Answers a digest as ``Dialect.sql`` returns it.
    """

    key: tuple[str, ...]
    columns: tuple[str, ...]
    ask: Callable[[Digest], Awaitable[list[tuple[Any, ...]]]]

    async def sums(self, digits: int = 0) -> dict[str, Fingerprint]:
        """Return the fingerprints of the parts."""
        return by_prefix(await self.ask(Digest(digits=digits, key=self.key)))

    async def rows(self, prefixes: Sequence[str], *, values: bool) -> list[tuple[Any, ...]]:
        """Return the rows of some parts; of all for no prefixes."""
        part = Slice(self.key, tuple(prefixes)) if prefixes else None
        return await self.ask(Digest(key=self.key, slice=part, rows=True, values=values))


@dataclass(frozen=True)
class RowDifference:
    """A row that differs.

    Attributes:
        kind: missing (the destination lacks it), extra (only the destination has it) or changed.
        key: The key as text; the row's hash where there is no key.
        columns: Which columns changed, by the source's names.
        values: With values asked for: source's and destination's text of each changed column.
    """

    kind: str
    key: str
    columns: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()

    def sentence(self) -> str:
        """Return the difference as a few words."""
        if self.kind != "changed":
            return f"{self.key} {'is missing' if self.kind == 'missing' else 'should not be there'}"
        if self.values:
            pairs = ", ".join(
                f"{name} {here!r} → {there!r}" for name, (here, there) in zip(self.columns, self.values, strict=True)
            )
            return f"{self.key}: {pairs}"
        return f"{self.key}: {', '.join(self.columns)}"


@dataclass(frozen=True)
class Difference:
    """How two sets differ.

    Attributes:
        source: The fingerprint of the source's rows; destination: of the destination's.
        rows: Differing rows, the first few; counts: how many of each kind were found.
        columns: How many of the changed rows differ in each column.
        slice: The parts that differ, by the source's names of the key; None where there are too few rows for parts.
        parts: How many parts there are.
        complete: Whether every differing part was looked into.
    """

    source: Fingerprint
    destination: Fingerprint
    rows: tuple[RowDifference, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    slice: Slice | None = None
    parts: int = 1
    complete: bool = True

    def record(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        return {
            "source": str(self.source),
            "destination": str(self.destination),
            "counts": self.counts,
            "columns": self.columns,
            "complete": self.complete,
            "rows": [
                {"kind": row.kind, "key": row.key, "columns": row.columns, "values": row.values} for row in self.rows
            ],
        }

    def sentence(self) -> str:
        """Return the difference in words, with the first rows."""
        least = "" if self.complete else "at least "
        words = [f"{count:,} {kind}" for kind, count in self.counts.items() if count]
        many = sum(self.counts.values()) != 1 or not self.complete
        where = f" (columns {', '.join(sorted(self.columns))})" if self.columns else ""
        rows = "; ".join(row.sentence() for row in self.rows[:5])
        more = " …" if sum(self.counts.values()) > 5 or not self.complete else ""
        return f"{least}{', '.join(words)} row{'s' if many else ''}{where}: {rows}{more}"


async def compare(source: Side, destination: Side, *, values: bool = False) -> Difference | None:
    """Return how two sets differ; None where they are equal.

    Args:
        values: Whether differing values are told; else only keys and columns are.
    """
    here, there = total((await source.sums()).values()), total((await destination.sums()).values())
    if here == there:
        return None
    digits = _digits(max(here.rows, there.rows))
    prefixes: list[str] = []
    looked: list[str] = []
    if digits:
        left, right = await source.sums(digits), await destination.sums(digits)
        prefixes = sorted(part for part in {*left, *right} if left.get(part) != right.get(part))
        size = 0
        for part in prefixes:
            many = max(one.get(part, Fingerprint()).rows for one in (left, right))
            if size + many <= _MOST_ROWS:
                size += many
                looked.append(part)
        if not prefixes:
            return None  # equal by now: somebody repaired it meanwhile
    # Rows that are all alike can make one part as large as the table: such a part is told, and not looked into.
    unseen = bool(digits) and not looked
    left_rows = [] if unseen else await source.rows(looked, values=values)
    right_rows = [] if unseen else await destination.rows(looked, values=values)
    differing = functools.partial(_differing, source, left_rows, right_rows, values=values)
    rows, counts, columns = await anyio.to_thread.run_sync(differing)
    return Difference(
        here,
        there,
        tuple(rows[:_NAMED]),
        counts,
        columns,
        Slice(source.key, tuple(prefixes)) if prefixes else None,
        16**digits,
        len(looked) == len(prefixes),
    )


def _digits(rows: int) -> int:
    return min(_MOST_DIGITS, math.ceil(math.log(rows / _ROWS_PER_PART, 16))) if rows > _MOST_ROWS / 4 else 0


def _differing(
    side: Side, here: list[tuple[Any, ...]], there: list[tuple[Any, ...]], *, values: bool
) -> tuple[list[RowDifference], dict[str, int], dict[str, int]]:
    width = len(side.key)
    common = Counter(row[0] for row in here) & Counter(row[0] for row in there)
    left, right = _without(here, common), _without(there, common)
    pairs, missing, extra = _by_key(left, right, width) if width else _by_likeness(left, right)
    columns: Counter[str] = Counter()
    rows = []
    for one, other in pairs:
        changed = [
            (name, (a, b))
            for name, a, b in zip(side.columns, one[1 + width :], other[1 + width :], strict=True)
            if a != b
        ]
        columns.update(name for name, _ in changed)
        told = tuple((_plain(here), _plain(there)) for _, (here, there) in changed) if values else ()
        rows.append(RowDifference("changed", _name(side, one), tuple(name for name, _ in changed), told))
    rows += [RowDifference("missing", _name(side, row)) for row in missing]
    rows += [RowDifference("extra", _name(side, row)) for row in extra]
    rows.sort(key=lambda row: row.key)
    counts = {"changed": len(pairs), "missing": len(missing), "extra": len(extra)}
    return rows, counts, dict(columns)


def _without(rows: list[tuple[Any, ...]], common: Counter[str]) -> list[tuple[Any, ...]]:
    left = common.copy()
    kept = []
    for row in rows:
        if left[row[0]] > 0:
            left[row[0]] -= 1
        else:
            kept.append(row)
    return kept


_Row = tuple[Any, ...]


def _by_key(left: list[_Row], right: list[_Row], width: int) -> tuple[list[tuple[_Row, _Row]], list[_Row], list[_Row]]:
    there: dict[_Row, list[_Row]] = defaultdict(list)
    for row in right:
        there[row[1 : 1 + width]].append(row)
    pairs, missing = [], []
    for row in left:
        others = there[row[1 : 1 + width]]
        if others:
            pairs.append((row, others.pop()))
        else:
            missing.append(row)
    return pairs, missing, [row for rows in there.values() for row in rows]


def _by_likeness(left: list[_Row], right: list[_Row]) -> tuple[list[tuple[_Row, _Row]], list[_Row], list[_Row]]:
    """Pair rows without a key that have most of their columns in common; the first few, for each is tried."""
    pairs, missing, rest = [], list(left[_PAIRED:]), list(right)
    for row in left[:_PAIRED]:
        likeness = [(sum(a == b for a, b in zip(row[1:], other[1:], strict=True)), other) for other in rest[:_PAIRED]]
        best = max(likeness, key=lambda pair: pair[0], default=None)
        if best is not None and best[0] * 2 >= len(row) - 1:
            pairs.append((row, best[1]))
            rest.remove(best[1])
        else:
            missing.append(row)
    return pairs, missing, rest


def _name(side: Side, row: _Row) -> str:
    if not side.key:
        return f"row {row[0][:12]}"
    return ", ".join(f"{name}={_plain(text)}" for name, text in zip(side.key, row[1:], strict=False))


def _plain(text: str) -> str:
    """Return a value's text as people write it."""
    if text == NULL:
        return "NULL"
    if not text.startswith('"'):
        return text
    # What is cut short ends with the digits of its hash.
    return (text[1:-1] if text.endswith('"') else text[1:]).replace('""', '"')
