"""Hashes of rows in Snowflake.

Facts: docs.snowflake.com, "MD5_NUMBER_UPPER64", "Date & time input and output formats", "JavaScript UDFs".
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from runner.errors import DestinationError
from runner.rowhash import NULL_SIGN, SEPARATOR_SIGN, Dialect, Field, named, quoted

# Snowflake has no function that shows the bits of a number: a function of the dataset does.
FLOAT_BITS = "_runner_float_bits"
MAKE_FLOAT_BITS = (
    f"create function if not exists {FLOAT_BITS}(x float, single boolean) returns text "
    "language javascript strict immutable as '"
    'var narrow = SINGLE && Math.fround(X) === X, view = new DataView(new ArrayBuffer(8)), bits = ""; '
    "if (narrow) view.setFloat32(0, X); else view.setFloat64(0, X); "
    'for (var i = 0; i < (narrow ? 4 : 8); i++) bits += ("0" + view.getUint8(i).toString(16)).slice(-2); '
    "return bits;'"
)
_MOMENT = "'YYYY-MM-DD HH24:MI:SS.FF6'"


class SnowflakeDialect(Dialect):
    """SQL that hashes rows in Snowflake, in sessions whose time zone is UTC."""

    def argument(self, field: Field) -> str:
        sql, kind = field.sql, field.type
        if pa.types.is_string(kind):
            if not field.verbatim:
                raise DestinationError(
                    f"The column {field.name!r} is VARIANT in Snowflake, which keeps the value and not the text: it "
                    "cannot be compared by hash.",
                    guidance=f"Move it as text (columns: {{{field.name}: text}}), or use --verify counts.",
                )
            signs = ("'\"'", "chr(10)", "chr(13)", SEPARATOR_SIGN)
            special = " or ".join(f"contains({sql}, {sign})" for sign in signs)
            value = f"case when {special} or {sql} = {NULL_SIGN} then {quoted(sql)} else {sql} end"
        elif pa.types.is_binary(kind):
            value = f"'\\x' || lower(hex_encode({sql}))"
        elif pa.types.is_boolean(kind):
            value = f"case when {sql} then 't' when not {sql} then 'f' end"
        elif pa.types.is_floating(kind):
            bits = f"{FLOAT_BITS}({sql}, {str(kind == pa.float32()).lower()})"
            value = f"case when {sql} = 'NaN'::float then 'nan' else {bits} end"
        elif pa.types.is_timestamp(kind):
            plain, zone = (f"convert_timezone('UTC', {sql})", " || '+00'") if kind.tz else (sql, "")
            value = f"{_short(f'to_varchar({plain}, {_MOMENT})')}{zone}"
        elif pa.types.is_time(kind):
            value = _short(f"to_varchar(timestamp_ntz_from_parts('1970-01-01'::date, {sql}), 'HH24:MI:SS.FF6')")
        elif pa.types.is_date(kind):
            value = f"to_varchar({sql}, 'YYYY-MM-DD')"
        else:
            value = f"to_varchar({sql})"
        return f"coalesce({value}, {NULL_SIGN})" if field.nullable else f"({value})"

    def halved(self, text: str, others: Mapping[str, str], source: str) -> str:
        query = f"select {named(others)}, {text} as line {source}"
        halves = "md5_number_upper64(line) as high, md5_number_lower64(line) as low"
        return f"select {', '.join(others)}, {halves} from ({query}) w"


def _short(text: str) -> str:
    """Return the SQL of a time without the zeros at its end."""
    return f"regexp_replace({text}, '[.]?0+$', '')"
