"""Who is measured: this project's own command, and peers, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connectors.testing.server import embedded_binaries
from tests.environments import environment

_PEERS = Path(__file__).with_name("peers")
_RUNNER = Path(sys.executable).with_name("runner")
_JOB = """
name: bench
source: {{type: postgres, dsn: "${{SOURCE_DSN}}"}}
destination: {destination}
limits: {{{limits}}}
tables:
{tables}
"""
_DESTINATIONS = {
    "duckdb": "{type: duckdb, path: out.duckdb, dataset: raw}",
    "parquet": "{type: filesystem, url: lake, dataset: raw}",
    "postgres": '{type: postgres, dsn: "${DEST_DSN}", dataset: raw}',
}


@dataclass(frozen=True)
class Work:
    """What is to be moved: tables of a schema, to a kind of place."""

    dsn: str
    schema: str
    tables: tuple[str, ...]
    kind: str
    target: str = ""

    def place(self, folder: Path) -> str:
        """Return where a peer puts it."""
        return {"duckdb": str(folder / "out.duckdb"), "postgres": self.target}.get(self.kind, str(folder))


@dataclass(frozen=True)
class Contender:
    """A program that can do the work.

    Attributes:
        kind: Another kind of place than the case's, which it has no way to write.
        needs: The name of its requirements; None is this project itself.
    """

    name: str
    needs: str | None
    script: str = ""
    extra: tuple[str, ...] = ()
    kind: str | None = None

    def prepare(self, work: Work, folder: Path) -> list[str | Path]:
        """Return the command.

        Raises:
            NotInstalled: Its environment cannot be made.
        """
        assert self.needs is not None
        python = environment(_PEERS / f"{self.needs}.txt")
        tables = ",".join(work.tables)
        return [python, _PEERS / self.script, work.dsn, work.schema, tables, work.kind, work.place(folder), *self.extra]


@dataclass(frozen=True)
class Ours(Contender):
    """This project's own command."""

    name: str = "ours"
    needs: str | None = None
    limits: Mapping[str, object] = field(default_factory=dict)

    def prepare(self, work: Work, folder: Path) -> list[str | Path]:
        (folder / "pyproject.toml").touch()
        limits = ", ".join(f"{key}: {value}" for key, value in self.limits.items())
        tables = "\n".join(f"  {work.schema}.{table}: {{mode: full}}" for table in work.tables)
        job = _JOB.format(destination=_DESTINATIONS[work.kind], limits=limits, tables=tables)
        (folder / "job.yml").write_text(job)
        return [_RUNNER, "backfill", "job.yml", *self.extra]


class Again(Ours):
    """This project's command on tables that it has loaded before."""

    def prepare(self, work: Work, folder: Path) -> list[str | Path]:
        command = super().prepare(work, folder)
        environ = {**os.environ, "SOURCE_DSN": work.dsn, "DEST_DSN": work.target}
        subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True)
        return command


class Task(Again):
    """One process for one table that was loaded before: what an orchestrator starts."""

    def prepare(self, work: Work, folder: Path) -> list[str | Path]:
        super().prepare(work, folder)
        return [_RUNNER, "task", "job.yml", "--table", f"{work.schema}.{work.tables[0]}"]


class Psql(Contender):
    r"""psql: one \copy out of the source, into another."""

    def prepare(self, work: Work, folder: Path) -> list[str | Path]:
        psql = f'"{embedded_binaries()}/psql" -X -q -v ON_ERROR_STOP=1'
        lines = [
            f"{psql} '{work.target}' -c 'create schema if not exists raw' "
            f"-c 'create table raw.{table} as select * from {work.schema}.{table} limit 0'\n"
            f"{psql} '{work.dsn}' -c '\\copy {work.schema}.{table} to stdout' | "
            f"{psql} '{work.target}' -c '\\copy raw.{table} from stdin'"
            for table in work.tables
        ]
        script = folder / "copy.sh"
        script.write_text("set -e -o pipefail\n" + "\n".join(lines))
        return ["bash", script]


OURS = Ours()
DUCKDB = Contender("DuckDB", "duckdb", "duckdb_extension.py")
PSQL = Psql("psql", None)
CONNECTORX = Contender("connectorx", "connectorx", "connectorx_parquet.py")
ADBC = Contender("ADBC", "adbc", "adbc_parquet.py")
DLT_PYARROW = Contender("dlt (pyarrow)", "dlt", "dlt_sql.py", ("pyarrow",))
DLT_CONNECTORX = Contender("dlt (connectorx)", "dlt", "dlt_sql.py", ("connectorx",))
INGESTR = Contender("ingestr", "ingestr", "ingestr_cli.py")
SLING = Contender("Sling (CSV)", "sling", "sling_cli.py", kind="csv")
