r"""The SQL of the recipe, spelled in T-SQL for the warehouse of Microsoft Fabric.

Facts: learn.microsoft.com, "Data types in Fabric Data Warehouse" (no nvarchar and no datetimeoffset, six digits of a
second), "Reserved keywords (Transact-SQL)", "Table value constructor" (at most 1000 rows), "ALTER TABLE" (nullable
columns are added; ALTER COLUMN is a preview), "DATEDIFF_BIG", "= (String comparison or assignment)" (spaces at the end
do not count), "COUNT" (an int; COUNT_BIG is a bigint), "Backslash (Line Continuation)",
"Deprecated database engine features" (names of columns with more than two parts).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pyarrow as pa

from runner.errors import DestinationError, SchemaConflict
from runner.load import TargetColumn
from runner.naming import literal
from runner.writers.books import with_types

NOW = "cast(sysutcdatetime() as datetime2(6))"
SECONDS = "datediff_big(microsecond, '1970-01-01', sysutcdatetime()) / 1000000.0"
MOMENT = "datetime2(6)"
TEXT = "varchar(max)"
MOST_VALUES = 1000

_QUOTED = r'"(?:[^"]|"")*"'
# A literal, a quoted name (of a column with its table and schema, of anything), or words that T-SQL has others for.
_TOKENS = re.compile(
    rf"'(?:[^']|'')*'|{_QUOTED}\.(?P<column>{_QUOTED}\.{_QUOTED})|{_QUOTED}|"
    r"\badd column\b|\bis true\b|\bcount\(\*\)|\b(?:plan|schema)\b",
    re.IGNORECASE,
)
_CONTINUED = re.compile(r"\\(?=[\r\n])")
_BROKEN = r"\\' + '"
_NAMES = r"(?:\[(?:[^\]]|\]\])*\]\.?)+"
_CREATE = re.compile(rf"create table if not exists ({_NAMES})")
_ALTER = re.compile(rf"(alter table {_NAMES} alter column {_NAMES}) set data type (.+)")
_FIRST = re.compile(r"select (.+) limit 1", re.DOTALL)
_WORDS = {"add column": "add", "is true": "= 1", "count(*)": "count_big(*)"}
_WHOLE = {
    "begin": "begin transaction",
    "commit": "commit transaction",
    # A statement that fails may have undone its transaction already.
    "rollback": "if @@trancount > 0 rollback transaction",
}
_TYPES = {
    "bool": "bit",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "real",
    "double": "float",
    "string": TEXT,
    "binary": "varbinary(max)",
    "date32[day]": "date",
    "time64[us]": "time(6)",
}
# Every value of the first is one of those after it.
_WIDER = {"smallint": {"int", "bigint"}, "int": {"bigint"}, "real": {"float"}}
_BOOK_TYPES = {
    "double precision": "float",
    "timestamp with time zone": MOMENT,
    "text": "varchar(8000)",
}
# What of the books may be longer than a name: JSON, and values of the source.
_LONG = re.compile(r"\b(plan|mark|key_columns) text\b")
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MOST_DIGITS = 38


def spelled(sql: str) -> str:
    """Spell a statement of the recipe in T-SQL."""
    if sql in _WHOLE:
        return _WHOLE[sql]
    text = _TOKENS.sub(_token, sql)
    if found := _FIRST.fullmatch(text):
        return f"select top 1 {found[1]}"
    if found := _ALTER.fullmatch(text):
        return f"{found[1]} {found[2]} null"
    if found := _CREATE.match(text):
        return f"if object_id({literal(found[1])}, 'U') is null create table {found[1]}{text[found.end() :]}"
    return text


def _token(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] == "'":
        # A backslash at the end of a line is no part of a literal, and neither is the line's end.
        return f"({_CONTINUED.sub(_BROKEN, token)})" if _CONTINUED.search(token) else token
    if found["column"]:
        # A column's name of three parts is deprecated, and its table is known without its schema.
        return _TOKENS.sub(_token, found["column"])
    if token[0] == '"':
        return "[" + token[1:-1].replace('""', '"').replace("]", "]]") + "]"
    return _WORDS.get(token.lower(), f"[{token}]")


def book_columns(columns: str) -> str:
    """Return the columns of a table of the books with T-SQL's types."""
    columns = _LONG.sub(rf"\1 {TEXT}", columns)
    return with_types(columns, _BOOK_TYPES)


def column_type(column: TargetColumn) -> str:
    """Return the type of a column of a table.

    Raises:
        SchemaConflict: There is none that holds its values.
    """
    kind = column.type
    if column.json:
        return TEXT
    if pa.types.is_timestamp(kind):
        # A moment is kept in UTC: there is no type that has a zone.
        return MOMENT
    if not pa.types.is_decimal(kind):
        return _TYPES[str(kind)]
    precision = max(kind.precision, kind.scale)
    if precision > _MOST_DIGITS or kind.scale < 0:
        raise SchemaConflict(
            f"The column {column.name!r} has {precision} digits; {_MOST_DIGITS} fit.",
            guidance=f"Move it as text (columns: {{{column.name}: text}}).",
        )
    return f"decimal({precision},{kind.scale})"


def stored_type(kind: str, length: int | None, precision: int | None, scale: int | None, digits: int | None) -> str:
    """Return a type as column_type() spells it, of what INFORMATION_SCHEMA.COLUMNS says of a column."""
    if kind in ("decimal", "numeric"):
        return f"decimal({precision},{scale})"
    if kind in ("datetime2", "time"):
        return f"{kind}({digits})"
    if kind in ("char", "varchar", "varbinary"):
        return f"{kind}({'max' if length == -1 else length})"
    return kind


def widens(old: str, new: str) -> bool:
    """Tell whether every value of the old type is one of the new type."""
    if old == new or new in _WIDER.get(old, ()):
        return True
    if new == TEXT or new == "varbinary(max)":
        return old.startswith(f"{new.partition('(')[0]}(")
    had, wanted = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if had is None or wanted is None:
        return False
    (precision, scale), (wider, deeper) = ((int(one[1]), int(one[2])) for one in (had, wanted))
    return scale <= deeper and precision - scale <= wider - deeper


def equal(column: TargetColumn, left: str, right: str) -> str:
    """Return the condition that two values of a column are the same; of texts and bytes, to the last one."""
    same = f"{left} = {right}"
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        return f"({same} and datalength({left}) = datalength({right}))"
    return same


def moment(text: str) -> str:
    """Return a moment as a datetime2 is written, in UTC where it has a zone.

    Raises:
        DestinationError: It is none that a datetime2 holds.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DestinationError(f"{text!r} is no time between the years 1 and 9999.") from None
    if found.tzinfo is not None:
        found = found.astimezone(UTC).replace(tzinfo=None)
    return found.isoformat(sep=" ", timespec="microseconds")
