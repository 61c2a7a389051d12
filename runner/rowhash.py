r"""A hash of rows by value, the same in Arrow, DuckDB and PostgreSQL, and sums of it that do not depend on order.

A row becomes a line of text, its fields in the order of the plan, U+001F between them, U+001E for NULL::

    integer          its digits
    boolean          t or f
    decimal          its digits, as many after the point as the plan says
    float            the bits in hex; nan
    date, time       ISO 8601: 2024-01-31, 08:30:00.5, 2024-01-31 08:30:00.5, and +00 after a moment in UTC
    binary           \x and hex
    text, JSON       the text; in quotes, its own doubled, where it holds U+001F, a quote or an end of line, or is
                     U+001E itself

which no two different rows have in common. It is the CSV (RFC 4180) that PostgreSQL's COPY writes with these two
characters, so that what streams from there is hashed as it came, floats excepted. Its MD5 (RFC 1321) is the row's
hash; a set of rows has how many they are and the sums of both halves of their hashes, modulo 2**64. Sums add up:
those of the chunks give that of the table, and taking rows away is a subtraction. MD5 is chosen for being everywhere
and cheap: it finds accidents, it is no seal against somebody who forges.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.naming import literal, quote

# The form of a row's line: hashes of two forms are never compared.
FORM = 2
SEPARATOR, NULL = "\x1f", "\x1e"
SEPARATOR_SIGN, NULL_SIGN = "chr(31)", "chr(30)"
# What has to be quoted, as a regular expression has it.
_SIGNS = r'"\n\r\u001f'
_MODULUS = 2**64
# PostgreSQL takes 100 arguments in a call (FUNC_MAX_ARGS).
_MOST_ARGUMENTS = 90
SHOWN = 200


@dataclass(frozen=True)
class Fingerprint:
    """How many rows a set has, and the sums of both halves of their hashes."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def __add__(self, other: Fingerprint) -> Fingerprint:
        high, low = self.high + other.high, self.low + other.low
        return Fingerprint(self.rows + other.rows, high % _MODULUS, low % _MODULUS)

    def __sub__(self, other: Fingerprint) -> Fingerprint:
        high, low = self.high - other.high, self.low - other.low
        return Fingerprint(self.rows - other.rows, high % _MODULUS, low % _MODULUS)

    def __str__(self) -> str:
        return f"{self.rows}:{self.high:016x}{self.low:016x}"

    @staticmethod
    def parse(text: str) -> Fingerprint:
        """Return the fingerprint that str() wrote."""
        rows, _, digits = text.partition(":")
        return Fingerprint(int(rows), int(digits[:16], 16), int(digits[16:], 16))

    @staticmethod
    def of(rows: Any, high: Any, low: Any) -> Fingerprint:
        """Return the fingerprint that a database summed up; without rows its sums are NULL."""
        return Fingerprint(int(rows), int(high or 0) % _MODULUS, int(low or 0) % _MODULUS)


@dataclass(frozen=True)
class Field:
    """A column as it is hashed.

    Attributes:
        type: The Arrow type of the plan: what decides its form.
        value: The SQL of its value; the quoted name by default.
        wider: Whether the database's own type of it is wider than the plan's.
        verbatim: Whether its value is text already, so that no output function has to make it text.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    value: str = ""
    wider: bool = False
    verbatim: bool = True

    @property
    def sql(self) -> str:
        """The SQL of the value."""
        return self.value or quote(self.name)


@dataclass(frozen=True)
class Slice:
    """Rows by the beginning of the hash of their key, or of the whole row where there is no key.

    Attributes:
        key: The columns hashed; all where there is no key.
        prefixes: Beginnings in hex, all of one length.
    """

    key: tuple[str, ...]
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Digest:
    """What is asked of a set of rows.

    Attributes:
        digits: Sums are told apart by so many hex digits of the hash of the key; 0 is one sum.
        key: The columns of the key; () takes the whole row.
        slice: Only these rows.
        rows: Row by row instead of sums: the hash, the key's texts, and each column's hash.
        values: With rows: each column's text, cut short, instead of its hash.
    """

    digits: int = 0
    key: tuple[str, ...] = ()
    slice: Slice | None = None
    rows: bool = False
    values: bool = False


class Dialect(abc.ABC):
    """SQL that hashes rows."""

    @abc.abstractmethod
    def argument(self, field: Field) -> str:
        """Return a column's text, as SQL that is never NULL."""

    @abc.abstractmethod
    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        """Return the query of ``high`` and ``low``: both halves of the MD5 of a row's text, modulo 2**64.

        Args:
            others: More columns of the query, by name.
            source: From where, and which rows.
        """

    def text(self, fields: Sequence[Field]) -> str:
        """Return the SQL of a row's text."""
        return _joined([self.argument(field) for field in fields])

    def digest(self, text: str) -> str:
        """Return the SQL of a text's MD5, 32 hex digits."""
        return f"md5({text})"

    def hash(self, fields: Sequence[Field]) -> str:
        """Return the SQL of a row's hash, 32 hex digits."""
        return self.digest(self.text(fields))

    def _shown(self, text: str) -> str:
        """Return the SQL of a text cut short; what is cut off is still told apart."""
        rest = f"case when length({text}) > {SHOWN} then '...' || substr({self.digest(text)}, 1, 6) else '' end"
        return f"substr({text}, 1, {SHOWN}) || {rest}"

    def within(self, part: Slice, fields: Sequence[Field]) -> str:
        """Return the condition of a slice."""
        digits = len(part.prefixes[0])
        prefixes = ", ".join(literal(prefix) for prefix in part.prefixes)
        return f"substr({self.hash(_chosen(fields, part.key))}, 1, {digits}) in ({prefixes})"

    def sql(self, ask: Digest, fields: Sequence[Field], relation: str, where: str = "", group: str = "") -> str:
        """Return the query of a digest.

        Args:
            where: A condition, without the word.
            group: The SQL of one more column to tell sums apart by; it comes first in the result.

        Returns:
            Rows of (group?, prefix, count, high, low), or of (hash, key…, column…) with ask.rows.
        """
        conditions = [f"({where})"] if where else []
        if ask.slice is not None:
            conditions.append(self.within(ask.slice, fields))
        source = f"from {relation}" + (f" where {' and '.join(conditions)}" if conditions else "")
        if ask.rows:
            columns = [self.hash(fields), *(self.text([field]) for field in _chosen(fields, ask.key) if ask.key)]
            for field in fields:
                text = self.text([field])
                columns.append(self._shown(text) if ask.values else f"substr({self.digest(text)}, 1, 12)")
            return f"select {', '.join(columns)} {source}"
        prefix = "''"
        if ask.digits:
            prefix = f"substr({self.hash(_chosen(fields, ask.key))}, 1, {ask.digits})"
        others = {"g": group, "p": prefix} if group else {"p": prefix}
        return self.summed(self.text(fields), others, source)

    def summed(self, text: str, others: Mapping[str, str], source: str) -> str:
        """Return the query of the sums of rows' hashes, told apart by ``others``."""
        names = ", ".join(others)
        return (
            f"select {names}, count(*), sum(high), sum(low) from ({self.halved(text, others, source)}) x "
            f"group by {names}"
        )


class DuckDBDialect(Dialect):
    """DuckDB, which hashes Arrow too."""

    def argument(self, field: Field) -> str:
        sql, kind = field.sql, field.type
        if pa.types.is_string(kind):
            text = sql if field.verbatim else f"{sql}::varchar"
            signs = ("'\"'", "chr(10)", "chr(13)", SEPARATOR_SIGN)
            special = " or ".join(f"contains({text}, {sign})" for sign in signs)
            value = f"case when {special} or {text} = {NULL_SIGN} then {quoted(text)} else {text} end"
            return f"coalesce({value}, {NULL_SIGN})" if field.nullable else value
        if pa.types.is_binary(kind):
            value = f"'\\x' || lower(hex({sql}))"
        elif pa.types.is_boolean(kind):
            value = f"case when {sql} then 't' when not {sql} then 'f' end"
        elif pa.types.is_floating(kind):
            single = kind == pa.float32() and field.wider
            same = f"try_cast({sql} as float)" if single else f"{sql}::double" if field.wider else sql
            bits = f"lower(hex({same}::bit::blob))"
            exact = f"{sql} is not distinct from try_cast({sql} as float)::double"
            other = f"when not ({exact}) then lower(hex({sql}::bit::blob)) " if single else ""
            value = f"case when isnan({sql}) then 'nan' {other}else {bits} end"
        elif pa.types.is_decimal(kind):
            value = _rounded(sql, f"try_cast({sql} as decimal(38, {kind.scale}))", "varchar") if field.wider else sql
            if field.wider or kind.scale == kind.precision:
                # DuckDB prints no zero before the point where there is no digit for it: .5 as a DECIMAL(1,1).
                value = rf"regexp_replace(({value})::varchar, '^(-?)[.]', '\10.')"
        elif pa.types.is_timestamp(kind) and kind.tz:
            # A cast of the moment itself would ask ICU for the session's zone.
            plain = f"make_timestamp(epoch_us({sql}))::varchar || '+00'"
            value = f"case when isfinite({sql}) then {plain} else {sql}::varchar end"
        else:
            value = sql
        return f"coalesce(({value})::varchar, {NULL_SIGN})" if field.nullable else f"({value})"

    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        query = f"select {named(others)}, md5_number({text}) as h {source}"
        halves = f"(h & {_MODULUS - 1})::ubigint as high, (h >> 64)::ubigint as low"
        query = f"select {', '.join(others)}, {halves} from ({query}) w"
        # md5_number() takes the sixteen bytes for a number from right to left: swap them, two, four and eight at
        # a time. It costs a fifth of casting the hexadecimal digits; a shift must not lose bits.
        for bits, mask in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
            words = ", ".join(
                f"((({word} & {mask}::ubigint) << {bits}) | (({word} >> {bits}) & {mask}::ubigint)) as {word}"
                for word in ("high", "low")
            )
            query = f"select * replace ({words}) from ({query}) w"
        return query


class PostgresDialect(Dialect):
    """PostgreSQL, under the session settings of the connector.

    Args:
        converts: Whether the server's encoding is another than UTF-8, so that text is converted to be hashed.
    """

    def __init__(self, *, converts: bool = False) -> None:
        self._converts = converts

    def digest(self, text: str) -> str:
        return f"md5(convert_to({text}, 'UTF8'))" if self._converts else super().digest(text)

    def text(self, fields: Sequence[Field]) -> str:
        line = super().text(fields)
        empty = [field.sql for field in fields if field.nullable and self._is_printed(field)]
        if empty:
            # A row without NULL is printed by the types' own output functions, at half the cost.
            printed = _joined([field.sql if self._is_printed(field) else self.argument(field) for field in fields])
            groups = [empty[start : start + _MOST_ARGUMENTS] for start in range(0, len(empty), _MOST_ARGUMENTS)]
            nulls = " + ".join(f"num_nulls({', '.join(group)})" for group in groups)
            line = f"case when {nulls} = 0 then {printed} else {line} end"
        texts = [field.sql for field in fields if pa.types.is_string(field.type)]
        if not texts:
            return line
        # To look for what asks for quotes costs as much as the hash: all texts of a row at once.
        suspicious = _holds_any(_joined(texts, "' '"), rf"{_SIGNS}\u001e")
        quoted = _joined([self.argument(field, quotes=True) for field in fields])
        return f"case when {suspicious} then {quoted} else {line} end"

    @staticmethod
    def _is_printed(field: Field) -> bool:
        """Tell whether the text of a value is what its type's output function prints."""
        return not pa.types.is_floating(field.type) and not (pa.types.is_decimal(field.type) and field.wider)

    def argument(self, field: Field, *, quotes: bool = False) -> str:
        sql, kind = field.sql, field.type
        if pa.types.is_string(kind):
            value = self._text(field)
            if quotes:
                text = f'({value}) collate "C"'
                special = f"{_holds_any(value, _SIGNS)} or {text} = {NULL_SIGN}"
                value = f"case when {special} then {quoted(text)} else {value} end"
        elif pa.types.is_boolean(kind):
            value = f"case when {sql} then 't' when not {sql} then 'f' end"
        elif pa.types.is_floating(kind):
            value = self._float(sql, single=kind == pa.float32(), wider=field.wider)
        elif pa.types.is_decimal(kind):
            value = _rounded(sql, f"round({sql}, {kind.scale})", "text") if field.wider else sql
        else:
            value = sql
        return f"coalesce(({value})::text, {NULL_SIGN})" if field.nullable else f"({value})"

    def _text(self, field: Field) -> str:
        """Return the SQL of a text; NULL is NULL."""
        if field.verbatim:
            return f"({field.sql})::text"
        # concat() takes a type's own output function, as COPY does; a cast to text would trim char(n).
        text = f"concat({field.sql})"
        return f"case when {field.sql} is distinct from null then {text} end" if field.nullable else text

    def _float(self, sql: str, *, single: bool, wider: bool) -> str:
        bits = f"encode({'float4send' if single else 'float8send'}({sql}), 'hex')"
        other = ""
        if single and wider:
            bits = f"encode(float4send(({sql})::real), 'hex')"
            own = f"encode(float8send({sql}), 'hex')"
            beyond = (
                f"(abs({sql}) > 3.4028234e38 and abs({sql}) < 'infinity') or (abs({sql}) < 1.18e-38 and {sql} <> 0)"
            )
            other = f"when {beyond} then {own} when {sql} <> ({sql})::real::float8 then {own} "
        return f"case when {sql} = 'NaN' then 'nan' {other}else {bits} end"

    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        # OFFSET is a fence: the planner would pull the subquery up and hash every row twice.
        query = f"select {named(others)}, ('x' || {self.digest(text)})::bit(128) as h {source} offset 0"
        halves = "substring(h from 1 for 64)::bigint as high, substring(h from 65)::bigint as low"
        return f"select {', '.join(others)}, {halves} from ({query}) w"


DUCKDB = DuckDBDialect()
POSTGRES = PostgresDialect()


class Hasher:
    """Hashes record batches as they stream by; blocks, so it is called in a worker thread.

    Args:
        fields: The columns of the batches, in their order.
        ask: What is wanted of them; one sum by default.
        where: A condition on the batches' columns.
    """

    def __init__(self, fields: Sequence[Field], ask: Digest | None = None, where: str = "") -> None:
        self._ask = ask or Digest()
        self._sql = DUCKDB.sql(self._ask, fields, "batch", where)
        self._cursor: Any = None
        self.sums: dict[str, Fingerprint] = {}
        self.rows: list[tuple[Any, ...]] = []

    @property
    def total(self) -> Fingerprint:
        """The sum of all batches so far."""
        return total(self.sums.values())

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        found = self._query(pa.Table.from_batches([batch]), self._sql)
        if self._ask.rows:
            self.rows += found
        else:
            self._sum(found)

    def add_lines(self, lines: pa.Array) -> None:
        """Add rows that are lines already; to the one sum of a digest without parts."""
        self._sum(self._query(pa.table([lines], ["line"]), DUCKDB.summed("line", {"p": "''"}, "from batch")))

    def _query(self, table: pa.Table, sql: str) -> list[tuple[Any, ...]]:
        if self._cursor is None:
            self._cursor = _memory().cursor()
        self._cursor.register("batch", table)
        try:
            return list(self._cursor.execute(sql).fetchall())
        finally:
            self._cursor.unregister("batch")

    def _sum(self, found: Iterable[Sequence[Any]]) -> None:
        for prefix, *sums in found:
            self.sums[prefix] = self.sums.get(prefix, Fingerprint()) + Fingerprint.of(*sums)

    def result(self) -> list[tuple[Any, ...]]:
        """Return what a query of the same digest would."""
        return self.rows or [(prefix, one.rows, one.high, one.low) for prefix, one in self.sums.items()]


def total(parts: Iterable[Fingerprint]) -> Fingerprint:
    """Return the fingerprint of disjoint parts together."""
    return sum(parts, Fingerprint())


def by_prefix(rows: Iterable[Sequence[Any]]) -> dict[str, Fingerprint]:
    """Return what queries of sums found, by prefix; of several for one prefix, their sum."""
    found: dict[str, Fingerprint] = {}
    for prefix, *sums in rows:
        found[prefix] = found.get(prefix, Fingerprint()) + Fingerprint.of(*sums)
    return found


def _memory() -> Any:
    """Return the one in-memory DuckDB of the process; a chunk has a cursor of its own, and one thread."""
    global _database
    if _database is None:
        import duckdb

        _database = duckdb.connect(config={"threads": "1"})
    return _database


_database: Any = None


def _chosen(fields: Sequence[Field], names: Sequence[str]) -> Sequence[Field]:
    by_name = {field.name: field for field in fields}
    return [by_name[name] for name in names] if names else fields


def named(columns: Mapping[str, str]) -> str:
    """Return the columns of a query, given by name."""
    return ", ".join(f"{sql} as {name}" for name, sql in columns.items())


def _holds_any(text: str, signs: str) -> str:
    """Return PostgreSQL's condition; collated as bytes, for a column's own collation may forbid to search in it."""
    return f"""({text}) collate "C" ~ '[{signs}]'"""


def quoted(text: str) -> str:
    """Return the SQL of a text in quotes."""
    return f"""'"' || replace({text}, '"', '""') || '"'"""


def _joined(parts: Sequence[str], separator: str = SEPARATOR_SIGN) -> str:
    """Return the SQL of a line; PostgreSQL takes 100 arguments in a call (FUNC_MAX_ARGS)."""
    while len(parts) > _MOST_ARGUMENTS:
        groups = [parts[start : start + _MOST_ARGUMENTS] for start in range(0, len(parts), _MOST_ARGUMENTS)]
        parts = [f"concat_ws({separator}, {', '.join(group)})" for group in groups]
    return f"concat_ws({separator}, {', '.join(parts)})"


def _rounded(sql: str, short: str, text: str) -> str:
    """Return a decimal of another type with the plan's digits where that is all of it, else with its own."""
    return f"case when {sql} = {short} then ({short})::{text} else ({sql})::{text} end"
