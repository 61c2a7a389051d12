r"""The SQL of the recipe, spelled for BigQuery.

Facts: cloud.google.com, "Lexical structure and syntax" (names in backticks, escapes in literals, reserved words),
"Data types" (NUMERIC has up to 29 digits before the point and 9 after it, BIGNUMERIC 38 and 38), "ALTER COLUMN SET DATA
TYPE", "DML statements" (DELETE needs a WHERE), "ASSERT".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from runner.errors import SchemaConflict
from runner.load import TargetColumn
from runner.naming import literal
from runner.writers.books import with_types

_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\bhash\b")
_DELETE_ALL = re.compile(r"delete from (?:`[^`]+`\.)?`[^`]+`")
_IN_LITERAL = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})
_IN_NAME = str.maketrans({"\\": "\\\\", "`": "\\`"})
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_RESERVED_PREFIXES = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier", "_change_")
_DECIMAL = re.compile(r"(NUMERIC|BIGNUMERIC)(?:\((\d+)(?:,(\d+))?\))?")
# What a decimal may have: digits before the point, and after it.
_SIZES = {"NUMERIC": (29, 9), "BIGNUMERIC": (38, 38)}
_TYPES = {
    "bool": "BOOL",
    "int16": "INT64",
    "int32": "INT64",
    "int64": "INT64",
    "float": "FLOAT64",
    "double": "FLOAT64",
    "string": "STRING",
    "binary": "BYTES",
    "date32[day]": "DATE",
    "time64[us]": "TIME",
}
_BOOK_TYPES = {
    "text": "string",
    "bigint": "int64",
    "double precision": "float64",
    "timestamp with time zone": "timestamp",
}


def spelled(sql: str) -> str:
    """Spell a statement of the recipe for BigQuery."""

    def spell(found: re.Match[str]) -> str:
        token = found[0]
        if token[0] == "'":
            return "'" + token[1:-1].replace("''", "'").translate(_IN_LITERAL) + "'"
        if token[0] == '"':
            return "`" + token[1:-1].replace('""', '"').translate(_IN_NAME) + "`"
        # The only reserved word among the columns of the books.
        return f"`{token}`"

    spelled_sql = _TOKENS.sub(spell, sql)
    return f"{spelled_sql} where true" if _DELETE_ALL.fullmatch(spelled_sql) else spelled_sql


def book_columns(columns: str) -> str:
    """Return the columns of a table of the books with BigQuery's types."""
    return with_types(columns, _BOOK_TYPES)


def assertion(condition: str, words: str) -> str:
    """Return the statement that ends a script, and undoes its transaction, where a condition does not hold."""
    return f"assert ({condition}) as {literal(words)}"


def script(statements: Sequence[str]) -> str:
    """Return one script of statements that are spelled already: all of them, or none."""
    return ";\n".join(["BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION;"])


def column_type(column: TargetColumn) -> str:
    """Return the type of a column of a table."""
    return "JSON" if column.json else arrow_type(column.type, column.name)


def arrow_type(kind: pa.DataType, name: str) -> str:
    """Return the type that holds the values of a column of a Parquet file.

    Raises:
        SchemaConflict: There is none.
    """
    if pa.types.is_decimal(kind):
        precision, scale = max(kind.precision, kind.scale), kind.scale
        for decimal, (before, after) in _SIZES.items():
            if scale <= after and precision - scale <= before:
                return f"{decimal}({precision},{scale})"
        raise SchemaConflict(
            f"The column {name!r} has {precision - scale} digits before the point and {scale} after it; 38 fit.",
            guidance=f"Move it as text (columns: {{{name}: text}}).",
        )
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "DATETIME"
    return _TYPES[str(kind)]


def widens(old: str, new: str) -> bool:
    """Tell whether every value of the old type is one of the new type."""
    if old == new:
        return True
    had, wanted = _decimal(old), _decimal(new)
    if had is None or wanted is None or (old.startswith("BIG") and not new.startswith("BIG")):
        return False
    return had[0] <= wanted[0] and had[1] <= wanted[1]


def _decimal(kind: str) -> tuple[int, int] | None:
    """Return how many digits a decimal type has before the point and after it."""
    found = _DECIMAL.fullmatch(kind)
    if found is None:
        return None
    if found[2] is None:
        return _SIZES[found[1]]
    scale = int(found[3] or 0)
    return int(found[2]) - scale, scale


def landing_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names of a file's columns that BigQuery takes: their own, unless one of them is none."""
    lower = {name.lower() for name in names}
    if len(lower) == len(names) and all(_is_plain(name) for name in names):
        return {name: name for name in names}
    return {name: f"c{number}" for number, name in enumerate(sorted(names))}


def _is_plain(name: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None and not name.lower().startswith(_RESERVED_PREFIXES)


def label(text: str) -> str:
    """Return a text as the value of a label (cloud.google.com, Requirements for labels)."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]
