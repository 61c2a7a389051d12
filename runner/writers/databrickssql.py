r"""The SQL of the recipe, spelled for Databricks, and the one statement of each publication.

Facts, all of docs.databricks.com: "Names" (backticks), "STRING type" (a backslash escapes in a literal, and two
literals side by side are one), "INSERT" (OVERWRITE, REPLACE WHERE), "MERGE INTO" (WHEN NOT MATCHED BY SOURCE), "COPY
INTO" (files that were loaded are skipped, even if they were modified since; at most 1,000 are named), "raise_error
function", "TIMESTAMP_NTZ type", "DECIMAL type" (38 digits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from runner.errors import DestinationError, SchemaConflict
from runner.load import TargetColumn
from runner.naming import literal, quote
from runner.writers.books import with_types

# Stands in a statement where the condition goes that the lease is ours; without it the statement is what it was.
LEASE = "/* orchestra-runner: the lease */"
LEASE_LOST = "orchestra-runner: another run took the table over"
GONE = "_runner_gone"
MOST_FILES = 1000
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_IN_LITERAL = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_DIGITS = 38
_WIDER = (("SMALLINT", "INT", "BIGINT"), ("FLOAT", "DOUBLE"))
_TYPES = {
    "bool": "BOOLEAN",
    "int16": "SMALLINT",
    "int32": "INT",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "STRING",
    "binary": "BINARY",
    "date32[day]": "DATE",
    # A SQL warehouse reads no time of day from Parquet: it is uploaded as text.
    "time64[us]": "STRING",
}
_BOOK_TYPES = {
    "text": "STRING",
    "bigint": "BIGINT",
    "double precision": "DOUBLE",
    "timestamp with time zone": "TIMESTAMP",
}


def spelled(sql: str) -> str:
    """Spell a statement of the recipe for Databricks."""

    def spell(found: re.Match[str]) -> str:
        token = found[0]
        if token[0] == "'":
            return "'" + token[1:-1].replace("''", "'").translate(_IN_LITERAL) + "'"
        return "`" + token[1:-1].replace('""', '"').replace("`", "``") + "`"

    return _TOKENS.sub(spell, sql)


def book_columns(columns: str) -> str:
    """Return the columns of a table of the books with Databricks's types."""
    return with_types(columns, _BOOK_TYPES)


def column_type(column: TargetColumn) -> str:
    """Return the type of a column of a table; JSON is kept as the text that it is.

    Raises:
        SchemaConflict: There is none that holds its values.
    """
    kind = column.type
    if pa.types.is_decimal(kind):
        precision, scale = max(kind.precision, kind.scale), kind.scale
        if precision > _DIGITS:
            raise SchemaConflict(
                f"The column {column.name!r} has {precision} digits; {_DIGITS} fit.",
                guidance=f"Move it as text (columns: {{{column.name}: text}}).",
            )
        return f"DECIMAL({precision},{scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP" if kind.tz else "TIMESTAMP_NTZ"
    return _TYPES[str(kind)]


def widens(old: str, new: str) -> bool:
    """Tell whether every value of the old type is one of the new type."""
    if old == new:
        return True
    if any(old in row and new in row and row.index(old) < row.index(new) for row in _WIDER):
        return True
    had, wanted = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if had is None or wanted is None:
        return False
    before = int(had[1]) - int(had[2]), int(had[2])
    after = int(wanted[1]) - int(wanted[2]), int(wanted[2])
    return before[0] <= after[0] and before[1] <= after[1]


def guarded(statement: str, condition: str) -> str:
    """Return a statement that fails where a condition does not hold when it starts.

    A statement whose sender is dead, or was asleep, goes on without anybody who could check the lease for it.
    """
    return statement.replace(LEASE, f"(select if({condition}, true, raise_error({literal(LEASE_LOST)})))")


def fill_stage(stage: str, chunks: Sequence[str], parts: Sequence[str]) -> str:
    """Return the statement that puts chunks in the place of what is staged of them: to repeat it changes nothing."""
    listed = ", ".join(literal(chunk) for chunk in chunks)
    rows = " union all ".join(parts)
    return f'insert into {stage} replace where "_runner_chunk" in ({listed}) select * from ({rows}) where {LEASE}'


def replace_table(table: str, existing: Mapping[str, str] | None, wanted: Mapping[str, str], rows: str) -> str:
    """Return the statement that exchanges a table's rows, or the table where its columns are other ones."""
    if existing is not None and dict(existing) == dict(wanted):
        return f"insert overwrite {table} ({_names(wanted)}) {rows}"
    return f"create or replace table {table} as {rows}"


def replace_range(table: str, condition: str, rows: str) -> str:
    """Return the statement that exchanges the rows of a range; the rows have the table's columns, in its order."""
    return f"insert into {table} replace where {condition} {rows}"


def merge(
    table: str, key: Sequence[str], columns: Sequence[str], rows: str, *, leaves_out: bool, missing: str | None
) -> str:
    """Return the statement that merges rows by key.

    Args:
        leaves_out: Whether the rows have a column GONE, that is true for those to be deleted.
        missing: The condition of the table's rows that go where nothing comes for them.
    """
    same = " and ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    parts = [f"merge into {table} t using ({rows}) s on {same}"]
    if leaves_out:
        parts.append(f"when matched and s.{quote(GONE)} then delete")
    changed = ", ".join(f"t.{quote(name)} = s.{quote(name)}" for name in columns)
    parts.append(f"when matched then update set {changed}")
    comes = f" and not s.{quote(GONE)}" if leaves_out else ""
    values = ", ".join(f"s.{quote(name)}" for name in columns)
    parts.append(f"when not matched{comes} then insert ({_names(columns)}) values ({values})")
    if missing is not None:
        parts.append(f"when not matched by source and {missing} then delete")
    return " ".join(parts)


def copy_files(table: str, columns: Sequence[str], folder: str, files: Sequence[str]) -> str:
    """Return the statement that adds the rows of files, of each once, however often it is sent.

    Raises:
        DestinationError: They are more than one statement takes.
    """
    if len(files) > MOST_FILES:
        raise DestinationError(
            f"The rows to add are in {len(files):,} files; {MOST_FILES:,} are added in one statement.",
            guidance="Load less at once, or give the table a key and mode: incremental.",
        )
    listed = ", ".join(literal(file) for file in files)
    return (
        f"copy into {table} from (select {', '.join(columns)} from {literal(folder)}) "
        f"fileformat = parquet files = ({listed})"
    )


def _names(columns: Sequence[str] | Mapping[str, str]) -> str:
    return ", ".join(quote(name) for name in columns)
