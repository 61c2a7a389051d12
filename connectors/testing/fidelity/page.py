"""The fidelity matrix, generated: ``python -m connectors.testing.fidelity FILE [--check]``.

A table of every type is moved to every destination for real (``measure.py``); what arrived is written down only if
nothing arrived changed that is not said to.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import asyncpg

from connectors.testing.fidelity.alltypes import GROUPS, Case
from connectors.testing.fidelity.edges import NAMES, SHAPES, SPECIALS, Special
from connectors.testing.fidelity.measure import Findings, measure
from connectors.testing.server import PostgresServer

# The wheel's: with an older one some types would be missing.
VERSION = 18

_INTRODUCTION = """\
# What arrives of PostgreSQL's types

This page is generated. `make generate` makes a table of every type, with values at its edges, moves all of them with
the real runner into DuckDB, PostgreSQL and Parquet files, reads every value back with the destination's own client and
compares it with the source's. Nothing is written here that was not seen; a value that arrives otherwise fails the
generator and the test. Source and destination have a contrary time zone, date style and the like as their defaults.

- **exact**: the destination's client returns the value that the source's client returns. NULL stays NULL everywhere,
  and is never the empty string.
- **as text**: the text that the server prints, always in UTC, with ISO dates, ISO 8601 intervals and as many digits
  as a float needs. The server reads it back as the same value, bit by bit, if the note does not say otherwise.
- **as JSON**: an array of any depth as a JSON array. A number is a JSON number with all its digits, NULL is `null`, a
  composite type is an object, anything else is a string: the element's text.

The column Arrow is how a value travels, and its type in Parquet. The values are those of
[testing/fidelity/alltypes.py](testing/fidelity/alltypes.py).
"""

_WORDS = {"value": "exact", "text": "as text", "json": "exact"}

_SPECIALS = """\
## Values that need a word in the job file

Some values have no place in the Arrow type of their column, nor in most warehouses. By default their table fails, and
the others go on; the message names the column and the value:

> {sentence}

Either word in the job file lets the table arrive. `special: "null"`, for a table, turns such values into NULL and
leaves all others alone; `columns: {{v: text}}` moves the whole column as the server's own text.
"""

_SHAPES = """\
## Tables of an odd shape

The same at all three destinations.
"""


def measured(server: PostgresServer) -> Findings:
    """Measure on a running server, in two databases that are dropped afterwards."""
    asyncio.run(_databases(server, "create database {}"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            # The project's root: relative paths and .env are looked for from here on.
            Path(folder, "pyproject.toml").touch()
            return measure(server.dsn("fidelity_source"), server.dsn("fidelity_warehouse"), Path(folder))
    finally:
        asyncio.run(_databases(server, "drop database {} with (force)"))


async def _databases(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn(), timeout=10)
    try:
        for name in ("fidelity_source", "fidelity_warehouse"):
            await connection.execute(statement.format(name))
    finally:
        await connection.close()


def document(findings: Findings) -> str:
    """Return the page.

    Args:
        findings: Without problems.
    """
    parts = [_INTRODUCTION]
    for title, cases in GROUPS.items():
        head = ("PostgreSQL type", "Arrow", "DuckDB", "PostgreSQL", "Parquet", "notes")
        parts.append(f"## {title}\n\n{_table(head, (_case_row(case, findings) for case in cases))}")
    sentence = findings.runs["DuckDB"]["policies"].failed["plain.date_0"]
    head = ("PostgreSQL type", "values", "by default", '`special: "null"`', "`columns: {v: text}`", "notes")
    parts.append(f"{_SPECIALS.format(sentence=sentence)}\n{_table(head, map(_special_row, SPECIALS))}")
    shapes = "\n".join(f"- {shape.title}: {shape.outcome}" for shape in SHAPES if not shape.names)
    named = "\n".join(f"- {shape.title}: {shape.outcome}" for shape in SHAPES if shape.names)
    names = _table(("at the source", "at the destination"), ((_code(old), _code(new)) for old, new in NAMES.items()))
    parts.append(f"{_SHAPES}\n{shapes}\n{named}\n\n{names}")
    return "\n".join(parts)


def _case_row(case: Case, findings: Findings) -> tuple[str, ...]:
    types = {place: arrived[f"kept.{case.table}"].types["v"] for place, arrived in findings.arrived.items()}
    word = _WORDS.get(case.way, "as JSON")
    named = [f"{_code(types[place])}, {word}" for place in ("DuckDB", "PostgreSQL")]
    return (case.label or _code(case.type), _code(types["Parquet"]), *named, word, case.note)


def _special_row(special: Special) -> tuple[str, ...]:
    default, nulled = "refused", "NULL"
    if special.arrives:
        exact = special.arrives == special.values
        default = nulled = "exact" if exact else ", ".join(_code(text) for text in special.arrives)
        for place in special.refused_by:
            default, nulled = f"{default}; {place}: refused", f"{nulled}; {place}: refused"
    values = ", ".join(_code(value) for value in special.values)
    return (_code(special.type), values, default, nulled, "as text", special.note)


def _code(text: str) -> str:
    return f"`{text}`".replace("\n", "\\n").replace("|", "\\|")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(arguments: list[str]) -> int:
    """Write the page, or with --check compare it with what is committed."""
    file = Path(arguments[0])
    with PostgresServer(settings={"autovacuum": "off"}) as server:
        findings = measured(server)
    if findings.problems:
        sys.stderr.write("".join(f"{sentence}\n" for found in findings.problems.values() for sentence in found))
        return 1
    text = document(findings)
    if "--check" not in arguments:
        file.write_text(text, "utf-8")
    elif not file.exists() or file.read_text("utf-8") != text:
        sys.stderr.write(f"out of date: {file}; run `make generate`\n")
        return 1
    return 0
