"""A connection to Databricks that notes what it is told, and answers from what its books would hold."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\bnull\b|-?\d+(?=[,)])")


class ServerOperationError(Exception):
    """The driver's name for a statement that was answered by an error."""


class RequestError(Exception):
    """The driver's name for an answer that did not come."""


@dataclass
class Double:
    """The warehouse.

    Attributes:
        columns: Columns of published tables, as information_schema has them.
        staged: Rows by chunk in the staging table.
        failures: What a statement that matches raises instead of being done, once; it is done all the same where the
            pattern begins with "after:".
        gone: How many staged rows are marked as deleted.
        holder: The token that holds all leases.
    """

    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)
    gone: int = 0
    schema: bool = True
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    intents: list[list[Any]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    states: list[list[Any]] = field(default_factory=list)
    chunks: dict[tuple[str, str], int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    holder: str = ""

    def connect(self) -> Double:
        return self

    @contextlib.contextmanager
    def cursor(self) -> Iterator[_Cursor]:
        yield _Cursor(self)

    def close(self) -> None:
        pass

    def taken(self) -> str:
        """Return the statements since the last time, one a paragraph."""
        taken, self.statements = self.statements, []
        return "".join(f"{statement};\n\n" for statement in taken)

    def done(self, sql: str) -> list[tuple[Any, ...]]:
        self.statements.append(sql)
        for failure in self.failures:
            pattern, error = failure
            if re.search(pattern.removeprefix("after:"), sql):
                self.failures.remove(failure)
                if pattern.startswith("after:"):
                    self._answer(sql)
                raise error
        return self._answer(sql)

    def _answer(self, sql: str) -> list[tuple[Any, ...]]:
        values = [_text(found) for found in _LITERAL.finditer(sql)]
        table = next(iter(re.findall(r"`raw`\.`([^`]+)`", sql)), "")
        if sql.startswith("insert into `lake`.`raw`.`_runner_intents`"):
            self.intents.append(values[:4])
        elif sql.startswith("insert into") and " values " in sql:
            values = [_text(found) for found in _LITERAL.finditer(sql.split(" values ", 1)[1])]
            if table == "_dlt_loads":
                self.loads.append(values[0])
            elif table == "_runner_state":
                self.states.append(values)
            elif table == "_runner_leases":
                self.holder = values[2]
            elif table == "_runner_chunks":
                for start in range(0, len(values), 7):
                    self.chunks[values[start + 1], values[start + 2]] = int(values[start + 3])
        elif sql.startswith("delete from"):
            if table == "_runner_intents":
                self.intents = [one for one in self.intents if one[1] != values[0]]
            elif table == "_runner_chunks":
                self.chunks = {key: epoch for key, epoch in self.chunks.items() if key[0] != values[0]}
        elif sql.startswith("put"):
            self.files.append(values[1].rsplit("/", 1)[1])
        elif sql.startswith("remove"):
            self.files.remove(values[0].rsplit("/", 1)[1])
        elif sql.startswith("list"):
            return [(f"dbfs:{values[0]}/{name}", name, 1, 1) for name in self.files]
        elif "information_schema.schemata" in sql:
            return [(1,)] if self.schema else []
        elif "information_schema.columns" in sql:
            named = {*self.columns} & {*values} if "table_name =" in sql else {*self.columns}
            return [(name, column, kind) for name in sorted(named) for column, kind in self.columns[name].items()]
        elif sql.startswith("select table_name, token, min(expires_at)"):
            return [(value, self.holder, 1.0) for value in values]
        elif sql.startswith("select table_name, load_id, statement"):
            return [tuple(one) for one in self.intents if one[1] not in self.loads and one[0] in values]
        elif sql.startswith("select table_name, chunk, max(epoch)"):
            return [(*key, epoch) for key, epoch in self.chunks.items() if key[0] in values]
        elif sql.startswith("select load_id from"):
            return [(load,) for load in self.loads if load in values]
        elif sql.startswith("select 1 from `lake`.`raw`.`_runner_state`"):
            return [(1,) for state in self.states if state[9] in values]
        elif sql.startswith("select table_name, seq, source"):
            return [tuple(state) for state in self.states if state[0] in values][-1:]
        elif sql.startswith("select _runner_chunk, count(*)"):
            return [(chunk, rows) for chunk, rows in self.staged.items() if rows]
        elif sql.startswith("select count(*)"):
            return [(self.gone,)]
        elif sql.startswith("select distinct _runner_file"):
            return [(name,) for name in self.files]
        elif sql.startswith("select current_user()"):
            return [("loader@acme",)]
        return []


class _Cursor:
    description = ("a result",)

    def __init__(self, double: Double) -> None:
        self._double = double
        self._rows: list[tuple[Any, ...]] = []

    def execute(self, sql: str, input_stream: Any = None) -> None:
        if input_stream is not None:
            self._double.sent.append(input_stream.read())
        self._rows = self._double.done(sql)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


def _text(found: re.Match[str]) -> Any:
    if found[1] is None:
        return None if found[0] == "null" else int(found[0])
    return re.sub(r"\\(.)", lambda escape: {"n": "\n", "r": "\r"}.get(escape[1], escape[1]), found[1])
