"""Moves a table of every type with the real runner, reads it back and compares every value."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from connectors.testing.fidelity.alltypes import GROUPS, TYPES, Case
from connectors.testing.fidelity.compare import is_same, is_same_value
from connectors.testing.fidelity.edges import SHAPES, SPECIALS, Shape, Special
from connectors.testing.fidelity.places import DATASET, Arrival, InDuckDB, InParquet, InPostgres, Place
from runner.cli import main
from runner.naming import literal, quote

# How the connector's documentation says that the server prints.
_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
}
# What a database may have as its own defaults: none of it may show in what arrives.
_CONTRARY = """
do $$
begin
    execute format('alter database %I set TimeZone = %L', current_database(), 'Asia/Kathmandu');
    execute format('alter database %I set DateStyle = German', current_database());
    execute format('alter database %I set IntervalStyle = sql_standard', current_database());
    execute format('alter database %I set extra_float_digits = 0', current_database());
    execute format('alter database %I set bytea_output = escape', current_database());
end $$
"""
_TEXT = "case when v is distinct from null then format('%s', v) end"
_TABLES: dict[str, dict[str, Any]] = {
    "types": {"kept.*": None, "shapes.*": None, "shapes.time": {"as": "time"}},
    "policies": {
        "plain.*": None,
        "nulled.*": {"special": "null"},
        "texted.*": {"columns": {"v": "text"}},
        "refused.*": None,
        "refused.every_column_dropped": {"columns": {"*": "drop"}},
    },
}


@dataclass(frozen=True)
class Run:
    """What a backfill did.

    Attributes:
        published: Tables by the source's name, with the name at the destination.
        failed: What was said of the others: the message and what to do.
    """

    code: int
    published: dict[str, str]
    failed: dict[str, str]


@dataclass
class Findings:
    """What was moved, what arrived, and what is wrong with it.

    Attributes:
        version: The source's major version.
        runs: By destination and job.
        arrived: By destination and table of the source.
        problems: Sentences by table of the source: what arrived changed, or not as the cases say.
    """

    version: int
    runs: dict[str, dict[str, Run]] = field(default_factory=dict)
    arrived: dict[str, dict[str, Arrival]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def blame(self, table: str, place: str, words: str) -> None:
        """Note a problem."""
        self.problems.setdefault(table, []).append(f"{table} in {place}: {words}")


def measure(source: str, warehouse: str, folder: Path) -> Findings:
    """Make every table in a database, move all of them everywhere, and compare.

    Args:
        source: The DSN of an empty database, to read from.
        warehouse: The DSN of an empty database, to write to.
        folder: An empty folder for the other destinations, the job files and the runner's state.
    """
    (folder / ".env").write_text(f"FIDELITY_SOURCE={source}\n", "utf-8")
    findings = Findings(0)
    places: list[Place] = [InDuckDB(folder), InPostgres(warehouse), InParquet(folder)]
    asyncio.run(_execute(warehouse, _CONTRARY))
    cases = asyncio.run(_make(source, findings))
    for place in places:
        findings.runs[place.name] = {job: _run(place, job, folder) for job in _TABLES}
    asyncio.run(_compare(source, places, cases, findings))
    return findings


async def _connect(dsn: str) -> asyncpg.Connection[Any]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10, server_settings=_SETTINGS)
    return connection


async def _execute(dsn: str, sql: str) -> None:
    connection = await _connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _make(dsn: str, findings: Findings) -> dict[str, Case]:
    """Make the tables; return the cases that this server has."""
    connection = await _connect(dsn)
    try:
        findings.version = connection.get_server_version().major
        await connection.execute(_CONTRARY)
        await connection.execute(TYPES)
        for schema in ("kept", "plain", "nulled", "texted", "shapes", "refused"):
            await connection.execute(f"create schema {schema}")
        cases = {f"kept.{case.table}": case for group in GROUPS.values() for case in group}
        cases = {table: case for table, case in cases.items() if case.since <= findings.version}
        assert len(cases) == sum(case.since <= findings.version for group in GROUPS.values() for case in group)
        for table, case in cases.items():
            values = [value for value in case.values if case.newer.get(value, 0) <= findings.version]
            if case.type == "xml" and not await _has_xml(connection):
                values = []
            await connection.execute(_filled(table, case.type, [None, *values]))
        for special in SPECIALS:
            for number, value in enumerate(special.values):
                await connection.execute(_filled(f"plain.{special.table}_{number}", special.type, [value]))
            for schema in ("nulled", "texted"):
                values = [special.ordinary, *special.values]
                await connection.execute(_filled(f"{schema}.{special.table}", special.type, values))
        for shape in SHAPES:
            await connection.execute(shape.sql.replace("{table}", _relation(_place_of(shape))))
    finally:
        await connection.close()
    return cases


async def _has_xml(connection: asyncpg.Connection[Any]) -> bool:
    """Tell whether the server was built with libxml."""
    try:
        await connection.execute("select '<a/>'::xml")
    except asyncpg.FeatureNotSupportedError:
        return False
    return True


def _filled(table: str, kind: str, values: Sequence[str | None]) -> str:
    """Return the SQL of a table with values, numbered from 0; the value comes first in the row."""
    rows = ", ".join(
        f"({'null' if value is None else f'{literal(value)}::{kind}'}, {number})" for number, value in enumerate(values)
    )
    return f"create table {table} (v {kind}, id integer primary key); insert into {table} values {rows}"


def _place_of(shape: Shape) -> str:
    return f"{'refused' if shape.refused else 'shapes'}.{shape.table}"


def _relation(table: str) -> str:
    schema, _, name = table.partition(".")
    return f"{quote(schema)}.{quote(name)}"


def _run(place: Place, job: str, folder: Path) -> Run:
    """Run a job with the real command, and return what its events say."""
    document = {
        "name": job,
        "source": {"type": "postgres", "dsn": "${FIDELITY_SOURCE}"},
        "destination": {**place.spec, "dataset": DATASET, "table": "{schema}__{table}"},
        "defaults": {"mode": "full"},
        "tables": _TABLES[job],
    }
    path = folder / f"{job}-{place.name}.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        code = main(["backfill", str(path), "--verify", "source", "--json", "--state-dir", str(folder / "state")])
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    return Run(
        code,
        {event["table"]: event["destination"] for event in events if event["action"] == "table_published"},
        {
            event["table"]: f"{event['message']} {event['guidance']}".strip()
            for event in events
            if event["action"] == "table_failed"
        },
    )


async def _compare(dsn: str, places: Sequence[Place], cases: Mapping[str, Case], findings: Findings) -> None:
    for place in places:
        names = {table: name for run in findings.runs[place.name].values() for table, name in run.published.items()}
        arrived = await place.read(names.values())
        findings.arrived[place.name] = {table: arrived[name] for table, name in names.items()}
    connection = await _connect(dsn)
    try:
        for table, case in cases.items():
            await _compare_case(connection, table, case, findings)
        for special in SPECIALS:
            await _compare_special(connection, special, findings)
        for shape in SHAPES:
            await _compare_shape(connection, shape, findings)
    finally:
        await connection.close()


def _arrivals(table: str, findings: Findings, places: Sequence[str] | None = None) -> Iterable[tuple[str, Arrival]]:
    """Yield where a table arrived; where it should have and did not is a problem."""
    for place in findings.runs if places is None else places:
        runs = findings.runs[place]
        if table in findings.arrived[place]:
            yield place, findings.arrived[place][table]
        else:
            said = [run.failed[table] for run in runs.values() if table in run.failed]
            findings.blame(table, place, f"it was refused: {said[0] if said else 'without a word'}")


def _by_id(arrival: Arrival) -> dict[int, Any]:
    return {number: value for value, number in arrival.rows}


async def _compare_case(connection: asyncpg.Connection[Any], table: str, case: Case, findings: Findings) -> None:
    client = case.way in ("value", "array")
    # By way of the array's own text: a cast of its elements would print some of them otherwise.
    as_text = f"({_TEXT})::text[]" if case.way.startswith("array") else _TEXT
    source = await connection.fetch(f"select id, {'v' if client else 'null'} as v, {as_text} as t from {table}")
    if case.same:
        await _compare_with_its_text(connection, table, case, findings)
    for place, arrival in _arrivals(table, findings):
        there = _by_id(arrival)
        if len(there) != len(arrival.rows) or set(there) != {row["id"] for row in source}:
            findings.blame(table, place, "other rows arrived")
            continue
        for row in source:
            if not is_same(case.way, row["v"], row["t"], there[row["id"]]):
                here = row["v"] if client else row["t"]
                findings.blame(table, place, f"{_short(here)} became {_short(there[row['id']])}")


async def _compare_with_its_text(
    connection: asyncpg.Connection[Any], table: str, case: Case, findings: Findings
) -> None:
    """Prove that the server reads its own text back as the same value: what arrives as text has lost nothing."""
    texts = await connection.fetch(f"select id, {_TEXT} as t from {table} where v is distinct from null")
    if texts:
        # A literal goes through the type's own input function; *= compares bits.
        read = ", ".join(f"({row['id']}, {literal(row['t'])}::{case.type})" for row in texts)
        changed = await connection.fetch(
            f"select id, t.v from {table} t join (values {read}) r(id, w) using (id) "
            "where not row(t.v)::record *= row(w)::record"
        )
        for row in changed:
            findings.blame(table, "the source", f"{_short(row['v'])} is not what its own text is read back as")


async def _compare_special(connection: asyncpg.Connection[Any], special: Special, findings: Findings) -> None:
    texts = [row["t"] for row in await connection.fetch(f"select {_TEXT} as t from texted.{special.table} order by id")]
    ordinary = await connection.fetchval(f"select v from nulled.{special.table} where id = 0")
    refusing = [place for place in findings.runs if place in special.refused_by or not special.arrives]
    taking = [place for place in findings.runs if place not in refusing]
    for number, value in enumerate(special.values):
        table = f"plain.{special.table}_{number}"
        for place in refusing:
            _check_refusal(table, place, ("'v'", "columns: {v: text}"), findings)
        for place, arrival in _arrivals(table, findings, taking):
            if arrival.rows != [(special.arrives[number], 0)]:
                findings.blame(table, place, f"{value} became {_short(arrival.rows)}")
    for place, arrival in _arrivals(f"texted.{special.table}", findings):
        if _by_id(arrival) != dict(enumerate(texts)):
            findings.blame(f"texted.{special.table}", place, f"{_short(texts)} became {_short(_by_id(arrival))}")
    for place in special.refused_by:
        _check_refusal(f"nulled.{special.table}", place, ("'v'", "columns: {v: text}"), findings)
    # The policy is the source's: what a destination refuses it refuses all the same.
    taking = [place for place in findings.runs if place not in special.refused_by]
    for place, arrival in _arrivals(f"nulled.{special.table}", findings, taking):
        there = _by_id(arrival)
        first, rest = there.pop(0), [there[number] for number in sorted(there)]
        if not (is_same_value(ordinary, first) or special.arrives):
            findings.blame(f"nulled.{special.table}", place, f"{ordinary!r} became {first!r}")
        if rest != list(special.arrives or (None,) * len(special.values)):
            findings.blame(f"nulled.{special.table}", place, f"{special.values} became {_short(rest)}")


def _check_refusal(table: str, place: str, words: Sequence[str], findings: Findings) -> None:
    said = " ".join(run.failed.get(table, "") for run in findings.runs[place].values())
    missing = [word for word in words if word not in said]
    if missing:
        findings.blame(table, place, f"it is not refused with {', '.join(missing)}, but: {_short(said)}")


async def _compare_shape(connection: asyncpg.Connection[Any], shape: Shape, findings: Findings) -> None:
    table = _place_of(shape)
    if shape.refused:
        for place in findings.runs:
            _check_refusal(table, place, (shape.refused,), findings)
        return
    rows = await connection.fetch(f"select * from {_relation(table)}")
    names = await connection.fetch(
        "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 order by attnum",
        _relation(table),
    )
    columns = [shape.names.get(name, name) for (name,) in names]
    for place, arrival in _arrivals(table, findings):
        if list(arrival.types) != columns:
            findings.blame(table, place, f"its columns are {_short(list(arrival.types))}")
        if Counter(tuple(row) for row in rows) != Counter(arrival.rows):
            findings.blame(table, place, f"{_short([tuple(row) for row in rows])} became {_short(arrival.rows)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}…"
