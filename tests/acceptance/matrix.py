"""The crash matrix: a real process killed at every named point, in every mode, into every destination.

``python -m tests.acceptance.matrix runner/SEMANTICS.md`` runs all of it and writes the table; with ``--check`` it
compares the table's rows and columns with the code, and runs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import duckdb

from connectors.testing.server import PostgresServer
from runner.crash import POINTS, VARIABLE
from tests.processes import Command

if TYPE_CHECKING:
    from tests.servers import FakeBigQuery, FakeSnowflake

MODES = ("full", "append", "incremental", "snapshot")
# "apart" is DuckDB with `state:` in a folder, and a machine that is lost with the kill: nothing of .runner/ is left.
DESTINATIONS = ("duckdb", "apart", "postgres", "filesystem", "snowflake", "bigquery")
# An emulator's database cannot be copied: each of its cells does a first run of its own.
_EMULATED = ("snowflake", "bigquery")
# Rows are not hashed there.
_COUNTED = ("bigquery",)
# The sample has one point of so many for these.
_SAMPLED = {"apart": 4, "snowflake": 5, "bigquery": 7}
_REFUSED = {"filesystem": ("incremental", "snapshot"), "snowflake": ("snapshot",), "bigquery": ("snapshot",)}
BEGIN, END = "<!-- crash matrix: begin -->", "<!-- crash matrix: end -->"
# Reached only where a table has several chunks, or is new: the first run is the one to kill.
_FIRST_RUN = ("load-committed", "load-recorded", "register-begun", "register-committed")
_DDL = """
create table orders (id int primary key, note text, amount numeric(10, 2), at timestamptz not null);
create index on orders (at);
"""
_FILL = """
insert into orders select i, case i % 5 when 0 then null when 1 then '' else md5(i::text) end, i / 7.0,
timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i) from generate_series(1, 3000) i;
analyze orders;
"""
_COLUMNS = 'id, note, amount, "at"'
_APPENDED = (
    "insert into orders select {0} * 10000 + i, 'more', i, timestamptz '2024-02-01 00:00:00+00' "
    "+ make_interval(days => {0}, secs => i) from generate_series(1, 500) i"
)
_UPDATED = (
    "update orders set note = 'changed {0}', at = timestamptz '2024-02-01 12:00:00+00' + make_interval(days => {0}) "
    "where id % 50 = 7 and id <= 3000"
)
_DELETED = "delete from orders where id = {0}"


@dataclass(frozen=True)
class Cell:
    """One kill."""

    point: str
    mode: str
    destination: str

    @property
    def refused(self) -> bool:
        """Whether the destination cannot keep the mode."""
        return self.mode in _REFUSED.get(self.destination, ())

    @property
    def absent(self) -> bool:
        """Whether there is no such point: dlt keeps no record of files."""
        return self.destination == "filesystem" and self.point.startswith("register-")


def cells() -> list[Cell]:
    """Return every cell of the matrix."""
    return [Cell(point, mode, to) for point in POINTS for to in DESTINATIONS for mode in MODES]


def sample() -> list[Cell]:
    """Return a sample in which every two of point, mode and destination meet as often as the modes allow."""
    chosen = []
    for number, point in enumerate(POINTS):
        for shift, to in enumerate(DESTINATIONS):
            modes = [mode for mode in MODES if mode not in _REFUSED.get(to, ())]
            if number % _SAMPLED.get(to, 1) == 0:
                chosen.append(Cell(point, modes[(number + shift) % len(modes)], to))
    return [cell for cell in chosen if not cell.absent]


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stderr: str


@dataclass
class Bench:
    """A folder and a database of one cell, copied from what its first run made."""

    server: PostgresServer
    folder: Path
    database: str
    cell: Cell
    emulator: FakeSnowflake | FakeBigQuery | None = None
    warehouse: str = ""

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.database)

    def execute(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.dsn)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.dsn)
            found = [tuple(row) for row in await connection.fetch(query)]
            await connection.close()
            return found

        return asyncio.run(run())

    def backfill(self, crash: str | None = None) -> Done:
        environ = {**os.environ, "SOURCE_DSN": self.dsn}
        environ.pop(VARIABLE, None)
        if crash is not None:
            environ[VARIABLE] = crash
        verify = "counts" if self.cell.destination in _COUNTED else "hash"
        process = Command(["backfill", "job.yml", "--verify", verify, "--quiet"], self.folder, environ)
        _, said = process.communicate(timeout=90)
        return Done(process.wait(), said)

    def change(self, step: int) -> None:
        """Change the source as the mode is able to follow."""
        statements = [_APPENDED.format(step)]
        if self.cell.mode in ("incremental", "full", "snapshot"):
            statements.append(_UPDATED.format(step))
        if self.cell.mode in ("full", "snapshot"):
            statements.append(_DELETED.format(100 + step))
        self.execute(*statements)

    def there(self, current: bool = True) -> list[tuple[Any, ...]]:
        """Return the rows at the destination; of a snapshot the current ones, or all versions."""
        where = " where _dlt_valid_to is null" if self.cell.mode == "snapshot" and current else ""
        query = f"select {_COLUMNS} from raw.orders{where}"
        if self.cell.destination == "postgres":
            return self.rows(query)
        if self.emulator is not None:
            spelled = query.upper() if self.cell.destination == "snowflake" else query.replace('"', "`")
            return self.emulator.rows(self.warehouse, spelled)
        if self.cell.destination in ("duckdb", "apart"):
            with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
                return connection.execute(query).fetchall()
        table = self.folder / "lake" / "raw" / "orders"
        manifest = json.loads((table / "manifest.json").read_text("utf-8"))
        files = [str(table / one["name"]) for one in manifest["files"]]
        with duckdb.connect() as connection:
            return connection.execute(f"select {_COLUMNS} from read_parquet({files!r})").fetchall() if files else []


_SPECS = {
    "duckdb": "{type: duckdb, dataset: raw}",
    "apart": "{type: duckdb, dataset: raw}\nstate: kept",
    "postgres": '{type: postgres, dsn: "${SOURCE_DSN}", dataset: raw}',
    "filesystem": "{type: filesystem, url: lake, dataset: raw}",
}


class Matrix:
    """Runs cells on one server.

    Args:
        emulator: Returns the running emulator of a destination.
        folder: Where the cells' folders go.
    """

    def __init__(self, server: PostgresServer, emulator: Callable[[str], Any], folder: Path) -> None:
        self._server = server
        self._emulator = emulator
        self._folder = folder
        self._made: dict[tuple[str, str], Bench] = {}

    def prepare(self, mode: str, destination: str) -> None:
        """Do the first run of a mode into a destination, which the cells start from."""
        bench = self._bench(Cell("", mode, destination), template=None)
        self._begin(bench)
        self._made[mode, destination] = bench

    def _begin(self, bench: Bench) -> None:
        done = bench.backfill()
        if done.returncode != 0:
            raise RuntimeError(f"the first run of {bench.cell} failed: {done.stderr}")

    def run(self, cell: Cell) -> str:
        """Kill, run again, compare; return what the table says."""
        if cell.absent:
            return "—"
        if cell.refused:
            done = self._bench(cell, template=None).backfill()
            said = done.returncode == 2 and "cannot keep mode" in done.stderr
            return "refused" if said else f"NOT REFUSED {done}"
        first = cell.point in _FIRST_RUN
        template = None if first or cell.destination in _EMULATED else self._template(cell)
        bench = self._bench(cell, template)
        try:
            if template is None and not first:
                self._begin(bench)
            return self._kill(bench, first=first)
        finally:
            shutil.rmtree(bench.folder, ignore_errors=True)
            Bench(self._server, bench.folder, "postgres", cell).execute(f"drop database {bench.database} with (force)")

    def _template(self, cell: Cell) -> Bench:
        if (cell.mode, cell.destination) not in self._made:
            self.prepare(cell.mode, cell.destination)
        return self._made[cell.mode, cell.destination]

    def _kill(self, bench: Bench, *, first: bool) -> str:
        versions = 0 if first else len(bench.there(current=False))
        if not first:
            bench.change(1)
        killed = bench.backfill(bench.cell.point)
        if killed.returncode != -signal.SIGKILL:
            return f"NOT KILLED (exit {killed.returncode}): {killed.stderr[-300:]}"
        if bench.cell.destination == "apart":
            shutil.rmtree(bench.folder / ".runner")
        for step in (2, 3):
            again = bench.backfill()
            if again.returncode != 0:
                return f"EXIT {again.returncode}: {again.stderr[-300:]}"
            wrong = self._compare(bench, versions)
            if wrong:
                return wrong
            if step == 2:
                versions = len(bench.there(current=False))
                bench.change(step)
        return "exact"

    def _compare(self, bench: Bench, versions: int) -> str:
        here, there = Counter(bench.rows(f"select {_COLUMNS} from orders")), Counter(bench.there())
        twice = sum(there.values()) - len(there)
        if here != there or twice:
            lost, extra = sum((here - there).values()), sum((there - here).values())
            return f"DIFFERS: {lost} lost, {extra} too many, {twice} twice"
        if bench.cell.mode == "snapshot" and versions:
            # 500 new rows, and one new version of each of the 60 that changed.
            found = len(bench.there(current=False))
            if found != versions + 560:
                return f"HISTORY: {found} versions, not {versions + 560}"
        return ""

    def _bench(self, cell: Cell, template: Bench | None) -> Bench:
        name = f"m_{uuid.uuid4().hex[:12]}"
        folder = self._folder / name
        admin = Bench(self._server, folder, "postgres", cell)
        admin.execute(f"create database {name}" + (f" template {template.database}" if template else ""))
        bench = Bench(self._server, folder, name, cell)
        if template is not None:
            shutil.copytree(template.folder, folder)
            return bench
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text("")
        cursor = ", cursor: at" if cell.mode in ("append", "incremental") else ""
        destination = _SPECS.get(cell.destination)
        if destination is None:
            emulator = self._emulator(cell.destination)
            alone = cell.destination == "snowflake"
            bench.emulator = emulator
            bench.warehouse = emulator.make_database(alone=True) if alone else emulator.make_project()
            options = {**bench.emulator.options(bench.warehouse), "type": cell.destination, "dataset": "raw"}
            destination = json.dumps(options)
        (folder / "job.yml").write_text(
            'name: crash\nsource: {type: postgres, dsn: "${SOURCE_DSN}"}\n'
            f"destination: {destination}\nlimits: {{chunk_rows: 1000, connections: 2}}\n"
            f"tables:\n  public.orders: {{mode: {cell.mode}{cursor}}}\n"
        )
        bench.execute(_DDL, _FILL)
        return bench


def table(results: dict[Cell, str]) -> str:
    """Return the results as Markdown."""
    columns = [(to, mode) for to in DESTINATIONS for mode in MODES]
    lines = [
        "| killed when | " + " | ".join(f"{to} {mode}" for to, mode in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for point, meaning in POINTS.items():
        found = [results[Cell(point, mode, to)] for to, mode in columns]
        lines.append(f"| **{point}**: {meaning} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def check(text: str) -> list[str]:
    """Return what of the committed table does not fit the code: rows, columns, cells that are red."""
    inside = text.partition(BEGIN)[2].partition(END)[0].strip()
    wanted = table(dict.fromkeys(cells(), "?")).splitlines()
    found = inside.splitlines()
    problems = []
    if found[:2] != wanted[:2]:
        problems.append("its columns are not the modes and destinations of the code")
    if [line.partition(" | ")[0] for line in found] != [line.partition(" | ")[0] for line in wanted]:
        problems.append("its rows are not the crash points of the code")
    red = {cell.strip() for line in found[2:] for cell in line.split("|")[2:-1]} - {"exact", "refused", "—"}
    return problems + [f"a cell says {cell!r}" for cell in sorted(red)]


def committed(text: str) -> dict[Cell, str]:
    """Return what the committed table says of each cell; a question mark where it has none."""
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    known = {
        (row[0].partition("**:")[0].strip("*"), column): cell
        for row in rows[2:]
        for column, cell in zip(rows[0][1:], row[1:], strict=True)
    }
    return {cell: known.get((cell.point, f"{cell.destination} {cell.mode}"), "?") for cell in cells()}


def main() -> int:
    """Run all of it and write the table, or check it."""
    arguments = argparse.ArgumentParser(description="The crash matrix.")
    arguments.add_argument("document", type=Path)
    arguments.add_argument("--check", action="store_true", help="compare rows and columns; run nothing")
    arguments.add_argument("--only", action="append", choices=DESTINATIONS, help="leave the other columns as they are")
    asked = arguments.parse_args()
    text = asked.document.read_text("utf-8")
    if asked.check:
        problems = check(text)
        for problem in problems:
            print(f"{asked.document}: {problem}; run `make matrix`", file=sys.stderr)
        return int(bool(problems))
    from tests.servers import fake_bigquery, fake_snowflake

    results = committed(text)
    wanted = [cell for cell in cells() if not asked.only or cell.destination in asked.only]
    with (
        PostgresServer() as server,
        fake_snowflake() as snowflake,
        fake_bigquery() as bigquery,
        tempfile.TemporaryDirectory() as folder,
    ):
        emulators = {"snowflake": snowflake, "bigquery": bigquery}
        matrix = Matrix(server, emulators.__getitem__, Path(folder))
        for to in DESTINATIONS:
            for mode in MODES:
                needed = to not in _EMULATED and any(cell.destination == to for cell in wanted)
                if needed and not Cell("", mode, to).refused:
                    matrix.prepare(mode, to)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for number, (cell, found) in enumerate(zip(wanted, pool.map(matrix.run, wanted), strict=True), 1):
                results[cell] = found
                print(f"{number}/{len(wanted)} {cell.point} {cell.mode} {cell.destination}: {found}", flush=True)
    before, _, rest = text.partition(BEGIN)
    asked.document.write_text(f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{rest.partition(END)[2]}", "utf-8")
    return int(any(found not in ("exact", "refused", "—") for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
