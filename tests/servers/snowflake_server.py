"""fakesnow's server, in an environment of its own: ``python snowflake_server.py PORT``; it ends with its standard input.

It answers the real driver over HTTP and runs what it is asked on DuckDB. Some things are mended here. A column of a staged
Parquet file lost the quotes of its name, so that none could be called ``at``. Sums of whole numbers were floats. The halves of an MD5 and functions in
JavaScript were unknown: the one that the runner makes is DuckDB's own bits of a number. And a transaction that a killed client
left open would stay open for ever, while Snowflake ends it after five minutes if another one waits for it
(docs.snowflake.com, "Transactions", aborting): here it ends when the same user logs in again.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import duckdb
import fakesnow
from fakesnow import copy_into
from sqlglot import exp


def _named(select: exp.Select) -> exp.Select:
    for parameter in list(select.find_all(exp.Parameter)):
        path = parameter.parent
        key = path.args["expression"].find(exp.JSONPathKey) if path is not None else None
        if path is not None and key is not None:
            path.replace(exp.Column(this=exp.Identifier(this=key.this, quoted=True)))
    return select


class _Sessions(dict[str, Any]):
    """The sessions of the server, one for each database whose name begins with ALONE."""

    def __setitem__(self, token: str, session: Any) -> None:
        if str(session.database).startswith("ALONE"):
            for other, one in list(self.items()):
                if one.database == session.database:
                    # To close it is not enough where the last answer was not fetched.
                    with contextlib.suppress(duckdb.Error):
                        one._duck_conn.rollback()
                    one.close()
                    del self[other]
        super().__setitem__(token, session)


_FLOAT_BITS = """
create macro if not exists _runner_float_bits(x, single) as case when single and x::float::double = x
then lower(hex(x::float::bit::blob)) else lower(hex(x::double::bit::blob)) end
"""


def _half(start: int) -> Any:
    def generate(generator: Any, node: exp.Expression) -> str:
        return f"('0x' || substr(md5({generator.sql(node, 'this')}), {start}, 16))::ubigint::decimal(38, 0)"

    return generate


def _making_functions(cursor: type[Any]) -> None:
    plain = cursor.execute

    def execute(self: Any, command: str, *values: Any, **options: Any) -> Any:
        if command.startswith("create function"):
            self._duck_conn.execute(_FLOAT_BITS)
            command = "select 'done'"
        return plain(self, command, *values, **options)

    cursor.execute = execute


def main() -> None:
    """Serve until the standard input is closed."""
    from fakesnow.cursor import FakeSnowflakeCursor
    from fakesnow.transforms import transforms
    from sqlglot.dialects.duckdb import DuckDB

    DuckDB.Generator.TRANSFORMS[exp.MD5NumberUpper64] = _half(1)
    DuckDB.Generator.TRANSFORMS[exp.MD5NumberLower64] = _half(17)
    numeric: Any = transforms
    numeric._NUMERIC_ONLY_AGGS = tuple(kind for kind in numeric._NUMERIC_ONLY_AGGS if kind is not exp.Sum)
    _making_functions(FakeSnowflakeCursor)
    mended: Any = copy_into
    mended._strip_json_extract = _named
    # The package has a function of the module's name, which the module takes the place of.
    serving = fakesnow.server
    server: Any = importlib.import_module("fakesnow.server")
    server.sessions = _Sessions()
    with serving(port=int(sys.argv[1])):
        sys.stdin.read()


if __name__ == "__main__":
    main()
