"""fakesnow's server, in an environment of its own: ``python snowflake_server.py PORT``.

It answers the real driver over HTTP and runs what it is asked on DuckDB. One fault of it is mended here: a column of a
staged Parquet file lost the quotes of its name, so that none could be called ``at``.
"""

from __future__ import annotations

import signal
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


def main() -> None:
    """Serve until the standard input is closed."""
    mended: Any = copy_into
    mended._strip_json_extract = _named
    with fakesnow.server(port=int(sys.argv[1])):
        print("ready", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        sys.stdin.read()


if __name__ == "__main__":
    main()
