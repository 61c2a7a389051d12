"""dbt, in an environment of its own: ``python dbt_session.py``; it ends with its standard input.

One process for many commands: to import dbt takes seconds. Each line that comes in is a command, as JSON with the keys
``folder`` (the project), ``arguments`` and ``environ``; each line that goes out is what came of it.

With ``without_warehouse`` a model is compiled as if its table did not exist ("new") or did ("there"): an incremental model asks
for it, and there is nobody to ask.

The adapter of DuckDB keeps the file open as long as its process lives, and no other process can open it meanwhile: here it is
closed after each command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from dbt.adapters.base import BaseAdapter
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner


@contextlib.contextmanager
def _without_warehouse(state: str | None) -> Iterator[None]:
    if state is None:
        yield
        return

    def relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        if state == "new":
            return None
        return self.Relation.create(database=database, schema=schema, identifier=identifier, type="table")

    with contextlib.ExitStack() as patches:
        for adapter in _descendants(BaseAdapter):
            if "get_relation" in vars(adapter):
                patches.enter_context(mock.patch.object(adapter, "get_relation", relation))
        yield


def _descendants(kind: type) -> list[type]:
    return [kind, *(one for child in kind.__subclasses__() for one in _descendants(child))]


def _answer(command: dict[str, Any]) -> dict[str, Any]:
    os.chdir(command["folder"])
    said: list[str] = []

    def hear(event: Any) -> None:
        if event.info.level in ("warn", "error"):
            said.append(event.info.msg)

    flags = [
        "--warn-error",
        "--no-use-colors",
        "--quiet",
        "--no-version-check",
        "--log-level-file",
        "none",
        "--no-write-json",
    ]
    with mock.patch.dict(os.environ, command["environ"]), _without_warehouse(command.get("without_warehouse")):
        try:
            done = dbtRunner(callbacks=[hear]).invoke([*flags, *command["arguments"]])
        finally:
            DuckDBConnectionManager.close_all_connections()
    results = [
        {
            "id": result.node.unique_id,
            "status": str(result.status),
            "message": getattr(result, "message", None),
            "compiled": getattr(result.node, "compiled_code", None),
        }
        for result in getattr(done.result, "results", None) or []
    ]
    return {"success": done.success, "said": said, "error": str(done.exception or ""), "results": results}


def main() -> None:
    """Answer until the standard input is closed."""
    answers = sys.stdout
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()):
            answer = _answer(json.loads(line))
        print(json.dumps(answer), file=answers, flush=True)
    # Snowflake's driver leaves threads behind that a normal end would wait for.
    os._exit(0)


if __name__ == "__main__":
    main()
