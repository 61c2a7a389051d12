"""fakesnow's server, in an environment of its own: ``python snowflake_server.py PORT``; it ends with its standard input.

It answers the real driver over HTTP and runs what it is asked on DuckDB. Two things are mended here. A column of a staged
Parquet file lost the quotes of its name, so that none could be called ``at``. And a transaction that a killed client
left open would stay open for ever, while Snowflake ends it after five minutes if another one waits for it
(docs.snowflake.com, "Transactions", aborting): here it ends when the same user logs in again.
"""

from __future__ import annotations

import sys
from typing import Any

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
                    one.close()
                    del self[other]
        super().__setitem__(token, session)


def main() -> None:
    """Serve until the standard input is closed."""
    from fakesnow import server

    mended: Any = copy_into
    mended._strip_json_extract = _named
    server.sessions = _Sessions()
    with fakesnow.server(port=int(sys.argv[1])):
        sys.stdin.read()


if __name__ == "__main__":
    main()
